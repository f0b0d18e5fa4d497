"""The other half of the bad day: tests that are written elsewhere, counted by their own reports."""

from __future__ import annotations

import dataclasses
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
