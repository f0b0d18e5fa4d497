"""The other half of the bad day: tests that are written elsewhere, counted by their own reports."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from reliability.experiments import Result

ROOT = Path(__file__).parent.parent


FUZZ = "fuzz/"
DONE = re.compile(r"^Done (\d+) runs in", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tests of pytest, in a folder or a file; or what `make fuzz` runs."""

    section: str
    what: str
    path: str


SUITES = [
    Suite("The wire", "what connections do: break, stall, lie, flood", "tests/wire/test_wire.py"),
    Suite("The wire", "statuses and hints", "tests/wire/test_status.py"),
    Suite("The wire", "TLS", "tests/wire/test_tls.py"),
    Suite("The wire", "proxies", "tests/wire/test_proxy.py"),
    Suite("Real programs", "nginx, its quota, pages and TLS; mitmproxy as a company's proxy", "tests/real"),
    Suite("The wire", "good answers, damaged at random, read next to another client", "tests/wire/test_mutants.py"),
    Suite("Generated", "whatever fields and answers can be", "tests/test_generated.py"),
    Suite("Fuzzing", "what reads foreign bytes, led by coverage; inputs", FUZZ),
    Suite("Secrets", "what fails shows neither key nor values", "tests/test_secrets.py"),
    Suite("Processes", "forks, signals, exits, in short", "tests/test_process.py"),
]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A test that says how often it tried something, in a line `reliability: NAME tried N short M`."""

    what: str
    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    control: str | None = None


_FILE = ("cargo", "test", "--locked", "--features", "plan", "--test", "plan_file", "--", "--nocapture")
_POWER = ("cargo", "test", "--locked", "--features", "plan", "--test", "plan_file", "power", "--", "--nocapture")
_KILLS = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-rP",
    "-o",
    "timeout=3600",
    "tests/plan/test_faults.py",
    "-k",
    "killed",
)
TRIALS = [
    Trial("the file is cut, at every 512 bytes", "plan file cut", _FILE, (("REPLYIO_FLIPS", "20000"),)),
    Trial("a bit is flipped", "plan file bit flips", _FILE, (("REPLYIO_FLIPS", "20000"),)),
    Trial(
        "the power goes, at a random write or sync; of what was not synced any sectors stay",
        "power loss",
        _POWER,
        (("REPLYIO_SEEDS", "1000"),),
        "power loss without any sync",
    ),
    Trial("a read, write, sync, truncation or removal fails", "failing I/O", _POWER, (("REPLYIO_SEEDS", "1000"),)),
    Trial("kill -9 while a plan is applied", "kill -9", _KILLS, (("REPLYIO_KILLS", "1000"),)),
]
TOLD = re.compile(r"^reliability: (.+) tried (\d+) short (\d+)(.*)$", re.MULTILINE)


def try_plans() -> dict[str, dict[str, int | str]]:
    """Runs the trials, each command once. What each line says, by its name."""
    told: dict[str, dict[str, int | str]] = {}
    for command, environment in dict.fromkeys((trial.command, trial.environment) for trial in TRIALS):
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | dict(environment), capture_output=True, text=True, check=False
        )
        told |= read_told(done.stdout)
    return told


def read_told(text: str) -> dict[str, dict[str, int | str]]:
    """The lines that tell how often something was tried."""
    return {
        name: {"tried": int(tried), "short": int(short), "more": more.strip()}
        for name, tried, short, more in TOLD.findall(text)
    }


def run(suite: Suite, python: Path | None = None) -> Result | None:
    """Runs a suite; None where it does not exist."""
    if not (ROOT / suite.path).exists():
        return None
    if suite.path == FUZZ:
        return fuzzed() if shutil.which("cargo-fuzz") else None
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "results.xml"
        command = [str(python or sys.executable), "-m", "pytest", "-q", f"--junitxml={report}", suite.path]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not report.exists():
            return Result(0, 1, [done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "pytest failed"])
        return counted(report)


def fuzzed() -> Result:
    """A minute of each fuzz target. What falls short is left in fuzz/artifacts/, and ends the run."""
    command = ["make", "fuzz", "SECONDS_EACH=60"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    inputs = sum(map(int, DONE.findall(done.stdout)))
    return Result(inputs, int(done.returncode != 0), done.stdout.strip().splitlines()[-1:] if done.returncode else [])


def counted(report: Path) -> Result:
    """What a report in JUnit's form says. Tests that were left out are not counted."""
    result = Result()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        if case.find("skipped") is not None:
            continue
        failed = case.find("failure") is not None or case.find("error") is not None
        result.add(Result(1, int(failed), [case.get("name") or ""] if failed else []))
    return result
