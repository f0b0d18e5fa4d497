"""Runs the tests of plans that report their own counts, together with their controls."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOLD = re.compile(r"^reliability: (.+?):? tried[ =](\d+) short[ =](\d+)(.*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Trial:
    """Something that is tried, and the line `reliability: NAME tried N short M` by which its test tells how often.

    Those of pytest, from the fixture `reliability`, have a colon and `=` in it.
    """

    what: str
    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    control: str | None = None


_CARGO = ("cargo", "test", "--locked", "--features", "plan", "--test", "plan_file", "--", "--nocapture")
_PYTEST = (sys.executable, "-m", "pytest", "-q", "-rP", "-o", "timeout=3600")
_LONG = (("REPLYIO_FLIPS", "20000"), ("REPLYIO_SEEDS", "1000"))
TRIALS = [
    Trial("the file is cut, at every 512 bytes", "plan file cut", _CARGO, _LONG),
    Trial("a bit is flipped", "plan file bit flips", _CARGO, _LONG),
    Trial(
        "power loss at a random write or sync; any subset of the unsynced sectors survives",
        "power loss",
        _CARGO,
        _LONG,
        "power loss without any sync",
    ),
    Trial(
        "the process dies while it plans, applies, retries and reverts: after each statement of SQLite, and "
        "before each write, sync, truncation and removal",
        "dying at a place",
        _CARGO,
        _LONG,
        "dying at a place, and what was committed lost",
    ),
    Trial("a read, write, sync, truncation or removal fails", "failing I/O", _CARGO, _LONG),
    Trial(
        "kill -9 while a plan is applied",
        "kill -9",
        (*_PYTEST, "tests/plan/test_kills.py"),
        (("REPLYIO_KILLS", "1000"),),
    ),
]


def try_plans() -> dict[str, dict[str, int | str]]:
    """Runs the trials, each command once. What each line says, by its name; a trial that says nothing failed."""
    told: dict[str, dict[str, int | str]] = {
        trial.name: {"tried": 0, "short": 1, "more": "its test failed"} for trial in TRIALS
    }
    for command, environment in dict.fromkeys((trial.command, trial.environment) for trial in TRIALS):
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | dict(environment), capture_output=True, text=True, check=False
        )
        told |= {
            name: {"tried": int(tried), "short": int(short), "more": more.strip().replace("=", " ")}
            for name, tried, short, more in TOLD.findall(done.stdout)
        }
    return told


def shortfalls(told: dict[str, dict[str, int | str]]) -> list[str]:
    """What failed, and controls that did not."""
    found = [
        f"{trial.name}: {told[trial.name]['short']} of {told[trial.name]['tried']}"
        for trial in TRIALS
        if trial.name in told and told[trial.name]["short"]
    ]
    controls = [trial.control for trial in TRIALS if trial.control in told]
    return found + [f"{name} did not fall short" for name in controls if name and not told[name]["short"]]
