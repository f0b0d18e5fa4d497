"""Runs the experiments on every Python that is found, and writes docs/reliability.md and .json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from reliability import report, suites, trials
from reliability.experiments import SECTIONS

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venv-reliability"
NAMES = [f"python3.{minor}{threads}" for minor in range(10, 16) for threads in ("", "t")]
ASK = "import sys, sysconfig; print(sys.version.split()[0] + 't' * bool(sysconfig.get_config_var('Py_GIL_DISABLED')))"
UVLOOP = "uvloop==0.23.0"


def log(text: str) -> None:
    """Says on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)


def pythons() -> Iterator[tuple[str, str]]:
    """The interpreters to be tried, each version once, and their versions."""
    wanted = os.environ.get("PYTHONS", "").split()
    seen = set()
    for name in wanted or [sys.executable, *NAMES]:
        path = shutil.which(name)
        done = subprocess.run([path, "-c", ASK], capture_output=True, text=True, check=False) if path else None
        version = done.stdout.strip() if done and done.returncode == 0 else ""
        if not version and wanted:
            raise SystemExit(f"{name} is no Python")
        if version and version not in seen:
            seen.add(version)
            yield name, version


def prepare(python: str, name: str, wheel: Path) -> Path | None:
    """An environment with the wheel in it, or None where that cannot be had."""
    folder = ENVIRONMENTS / name
    inside = folder / "bin" / "python"
    pip = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not inside.exists():
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        if subprocess.run([*pip, UVLOOP], check=False).returncode:
            log(f"{name}: without uvloop")
    done = subprocess.run([*pip, "--force-reinstall", "--no-deps", "--no-index", str(wheel)], check=False)
    return inside if done.returncode == 0 else None


def newest(folder: Path) -> Path | None:
    """The wheel in a folder."""
    return max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime, default=None)


def work(python: Path, options: argparse.Namespace, only: str, *more: str) -> dict[str, Any]:
    """Runs the worker of an environment, on the experiments whose names contain a text."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "results.json"
        command = [str(python), "-m", "reliability.worker", "--out", str(out), "--only", only, *more]
        command += ["--quick"] if options.quick else ["--share", str(options.share)]
        subprocess.run(command, cwd=ROOT, check=True)
        told: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    for result in told["results"].values():
        if seconds := result["figures"].get("seconds"):
            result["figures"]["seconds"] = [max(seconds)]
    for result in told["controls"].values():
        result["figures"] = {}
    return told


def processor() -> str:
    """What the machine is."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {platform.system()} {platform.release()}"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few tries of each, writes nothing")
    parser.add_argument("--share", type=float, default=1.0, help="how much of the full counts; default 1")
    parser.add_argument("--only", default="", help="experiments whose name contains this; the others are kept")
    parser.add_argument("--here", action="store_true", help="only the Python that runs this, as it is installed")
    parser.add_argument(
        "--part",
        choices=["experiments", "controls", "plans", "suites"],
        action="append",
        help="only this; the others are kept as docs/reliability.json has them",
    )
    parser.add_argument("--render", action="store_true", help="the page again, from docs/reliability.json")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Runs every experiment, on the wheel that users get. Gives what each section told, as soon as it is done."""
    left_out: list[str] = []
    environments: dict[str, Path] = {}
    if options.here:
        environments[platform.python_version()] = Path(sys.executable)
    else:
        wheel = newest(ROOT / "dist")
        if wheel is None:
            raise SystemExit("there is no wheel in dist/; `make reliability` builds it")
        for python, version in pythons():
            environment = prepare(python, version, wheel)
            if environment is None:
                left_out.append(version)
            else:
                environments[version] = environment
    import replyio

    threaded = [version for version in left_out if version.endswith("t")]
    note = f"left out, because the wheel does not support it: {', '.join(left_out)}" if left_out else ""
    about = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "machine": processor(),
        "version": replyio.__version__,
        "note": note if threaded else "; ".join(filter(None, [note, "free-threaded Python was not tested"])),
    }
    for only in [options.only] if options.only else [f"{section}-" for section in SECTIONS]:
        # Two at a time: more would measure each other.
        with ThreadPoolExecutor(2) as executor:
            jobs = {version: executor.submit(work, python, options, only) for version, python in environments.items()}
            yield about | {"pythons": {version: job.result()["results"] for version, job in jobs.items()}}


def break_it(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the controls and the panics, on the build for them."""
    wheel = newest(ROOT / "target" / "wheels-sabotage")
    # The oldest Python: newer ones are kinder to threads that are late at the exit.
    python, version = min(pythons(), key=lambda found: [int(part) for part in re.findall(r"\d+", found[1])])
    environment = prepare(python, f"sabotage-{version}", wheel) if wheel and python else None
    if environment is None:
        raise SystemExit("there is no wheel in target/wheels-sabotage/; `make reliability` builds it")
    told = work(environment, options, options.only, "--sabotaged")
    return {"broken": {version: told["results"]}, "controls": told["controls"]}


def run_suites() -> dict[str, Any]:
    """Runs the tests that are written elsewhere."""
    told: list[dict[str, Any]] = []
    # The search comes last: it is for what the others write.
    for suite in [*suites.SUITES, *suites.COUNTED]:
        log(f"running {suite.path}")
        done = suites.run(suite)
        if done:
            result, said = done
            told.append(
                {"path": suite.path, "said": said, "tried": result.tried, "short": result.short, "notes": result.notes}
            )
    return {"suites": told}


def merge(data: dict[str, Any], told: dict[str, Any], *, whole: bool) -> None:
    """Takes results in. Where only some experiments were run, the others are kept, and the other Pythons."""
    for name, value in told.items():
        before = data.get(name, {})
        if whole or not isinstance(value, dict):
            data[name] = value
        elif name == "controls":
            data[name] = before | value
        else:
            data[name] = before | {version: before.get(version, {}) | part for version, part in value.items()}


def shortfalls(data: dict[str, Any]) -> list[str]:
    """What failed, and controls that did not."""
    found = [
        f"{name} on {version}: {told['short']} of {told['tried']} {told['notes']}"
        for version, part in [*data.get("pythons", {}).items(), *data.get("broken", {}).items()]
        for name, told in part.items()
        if told["short"]
    ]
    found += trials.shortfalls(data.get("plans", {}))
    found += [
        f"the control of {name} did not fall short"
        for name, told in data.get("controls", {}).items()
        if not told["short"]
    ]
    found += [
        f"{suite['path']}: {suite['short']} failed {suite['notes']}"
        for suite in data.get("suites", [])
        if suite["short"]
    ]
    return found


def main() -> None:
    """The command line."""
    options = arguments()
    raw = ROOT / "docs" / "reliability.json"
    writes = not (options.quick or options.here)
    data: dict[str, Any] = json.loads(raw.read_text(encoding="utf-8")) if raw.exists() and writes else {}
    parts = [] if options.render else options.part or ["experiments", "controls", "plans", "suites"]

    def write() -> None:
        if writes:
            raw.write_text(json.dumps(data) + "\n", encoding="utf-8")
            (ROOT / "docs" / "reliability.md").write_text(report.page(data), encoding="utf-8", newline="\n")

    if "experiments" in parts:
        if not options.only:
            data["pythons"] = {}
        # A long run that is cut off keeps what it has, and nothing of another build.
        for told in measure(options):
            merge(data, told, whole=False)
            write()
    if "controls" in parts and not options.here:
        merge(data, break_it(options), whole=not options.only)
    if "plans" in parts and writes and not options.only:
        log("running the trials of plans")
        data["plans"] = trials.try_plans()
    if "suites" in parts and writes and not options.only:
        data |= run_suites()
    write()
    found = shortfalls(data)
    for line in found:
        log(line)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
