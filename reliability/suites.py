"""Runs parts of the test suite many times and counts their results for docs/reliability.md."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from reliability.experiments import Result

ROOT = Path(__file__).parent.parent
WRITTEN = ROOT / "target" / "reliability"
"""What the tests write and say, to be searched."""

FUZZ = "fuzz/"
SCAN = "tests/canary_scan.py"
SIMULATION = "src/simulation/"
DONE = re.compile(r"^Done (\d+) runs in", re.MULTILINE)
FILES = re.compile(r"^([\d,]+) files, (.*), ([\d,]+) findings$", re.MULTILINE)
SEEDS = re.compile(r"^(\d+) seeds, (\d+) violations", re.MULTILINE)
TRIED = re.compile(r"\btried=(\d+)\b")


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tests of pytest, in a folder or a file; or what `make fuzz` runs, or the scan.

    Attributes:
        section: The part of the bad day.
        what: What is tried.
        path: Where it is written.
        environment: How it is told to try more than with every change.
    """

    section: str
    what: str
    path: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the page calls it."""
        return f"{self.section}: {self.what}" if self.what else self.section


SUITES = [
    Suite("The wire", "what connections do: break, stall, lie, flood", "tests/wire/test_wire.py"),
    Suite("The wire", "statuses and hints", "tests/wire/test_status.py"),
    Suite("The wire", "TLS", "tests/wire/test_tls.py"),
    Suite("The wire", "proxies", "tests/wire/test_proxy.py"),
    Suite("Real programs", "nginx, its quota, pages and TLS; mitmproxy as a company's proxy", "tests/real"),
    Suite("Secrets", "errors show neither the key nor field values", "tests/test_secrets.py"),
    Suite("Processes", "forks, signals, exits, in short", "tests/test_process.py"),
]
COUNTED = [
    Suite(
        "Mutants",
        "valid answers, damaged at random; another client reads the same bytes for comparison",
        "tests/wire/test_mutants.py",
        {"REPLYIO_MUTANTS": "10000"},
    ),
    Suite(
        "Generated tests",
        "fields, ids, answers and hints that Hypothesis generates",
        "tests/test_generated.py",
        {"REPLYIO_EXAMPLES": "1000"},
    ),
    Suite("Coverage-guided fuzzing of the parsers", "", FUZZ),
    Suite("Simulated jobs", "whole jobs against a model of the service, each seed with other faults", SIMULATION),
    Suite("Searched for keys", "files that these tests wrote, the wheel, the source distribution", SCAN),
]


def run(suite: Suite, python: Path | None = None) -> tuple[Result, str] | None:
    """Runs a suite, and gives its counts and what it said of itself; None where it does not exist."""
    if not (ROOT / suite.path).exists():
        return None
    if suite.path == FUZZ:
        return fuzzed() if shutil.which("cargo-fuzz") else None
    if suite.path == SIMULATION:
        return simulated()
    if suite.path == SCAN:
        return searched()
    folder = WRITTEN / suite.path.removeprefix("tests/").replace("/", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    report = folder / "results.xml"
    options = ["-q", f"--basetemp={folder / 'tmp'}", f"--junitxml={report}"]
    command = [str(python or sys.executable), "-m", "pytest", *options, suite.path]
    environment = os.environ | suite.environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    (folder / "output.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if not report.exists():
        return Result(0, 1, [done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "pytest failed"]), ""
    return counted(report, suite)


def fuzzed() -> tuple[Result, str]:
    """A minute of each fuzz target. What falls short is left in fuzz/artifacts/, and ends the run."""
    command = ["make", "fuzz", "SECONDS_EACH=60"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    inputs = [int(count) for count in DONE.findall(done.stdout)]
    notes = done.stdout.strip().splitlines()[-1:] if done.returncode else []
    return Result(sum(inputs), int(done.returncode != 0), notes), f"{len(inputs)} targets in `{FUZZ}`"


def simulated() -> tuple[Result, str]:
    """Runs simulated jobs, and adds known faults again to see that they are found."""
    command = ["make", "simulate", "SEEDS=20000"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    told = SEEDS.search(done.stdout)
    if told is None:
        return Result(0, 1, done.stdout.strip().splitlines()[-1:]), ""
    control = subprocess.run([*command[:2], "CONTROLS=1"], cwd=ROOT, capture_output=True, text=True, check=False)
    found = [line for line in control.stdout.splitlines() if ": seed " in line]
    missed = [line for line in control.stdout.splitlines() if line.endswith(": not found")]
    said = f"{len(found)} of {len(found) + len(missed)} known faults, added again, were found, by `make simulate`"
    return Result(int(told[1]), int(told[2]) + len(missed), missed), said


def searched() -> tuple[Result, str]:
    """Searches what the other suites have written, the wheel and the source distribution."""
    distribution = WRITTEN / "sdist"
    shutil.rmtree(distribution, ignore_errors=True)
    make = [sys.executable, "-m", "maturin", "sdist", "--out", str(distribution)]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    paths = [str(path) for path in (WRITTEN, ROOT / "dist")]
    done = subprocess.run([sys.executable, SCAN, *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    found = FILES.search(done.stdout)
    if found is None:
        return Result(0, 1, (done.stdout + done.stderr).strip().splitlines()[-1:]), ""
    files, findings = (int(found[group].replace(",", "")) for group in (1, 3))
    return Result(files, findings, done.stdout.splitlines()[:-1][:5]), f"{found[2]}, by `{SCAN}`"


def counted(report: Path, suite: Suite) -> tuple[Result, str]:
    """What a report in JUnit's form says. Tests that were left out are not counted.

    A test that tries something many times says how often in a property of the report; then that is the count.
    """
    result = Result()
    tree = ET.parse(report)  # noqa: S314 - pytest has just written it
    for case in tree.iter("testcase"):
        if case.find("skipped") is not None:
            continue
        failed = case.find("failure") is not None or case.find("error") is not None
        result.add(Result(1, int(failed), [case.get("name") or ""] if failed else []))
    lines = [each.get("value") or "" for each in tree.iter("property") if each.get("name") == "reliability"]
    tried = [int(count) for line in lines for count in TRIED.findall(line)]
    if tried:
        result.tried = sum(tried)
    said = "; ".join(line.partition(": ")[2] for line in lines)
    return result, f"{said}, by `{suite.path}`" if said else f"`{suite.path}`"
