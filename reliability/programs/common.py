"""Shared by the programs of the experiments: accounts, a client, and the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import replyio

PLAIN = 1
SILENT = 2
"""Is answered after a minute."""
BUSY = 3
"""Is answered with 429 and a Retry-After of three seconds."""
SLOW = 4
"""Is answered after 0.3 s."""


def client(**options: Any) -> replyio.ReplyClient:
    """A client without a quota; key and address are in the environment."""
    return replyio.ReplyClient(**{"quota": None, "timeout": 30.0, **options})


class Report:
    """Counts tries and what failed of them."""

    def __init__(self) -> None:
        """Starts with nothing."""
        self.tried = self.short = 0
        self.notes: list[str] = []
        self.figures: dict[str, list[float]] = {}

    def check(self, good: bool, note: object) -> None:
        """Counts one try."""
        self.tried += 1
        if not good:
            self.short += 1
            self.notes = [*self.notes, str(note)][:5]

    def measure(self, name: str, value: float) -> None:
        """Keeps a figure."""
        self.figures.setdefault(name, []).append(round(value, 6))

    def write(self) -> None:
        """Writes it all as the last line of the output."""
        print(json.dumps(vars(self)))


def main(names: dict[str, Any]) -> None:
    """Runs the state that the first argument names; one that repeats is told how often, and reports."""
    state: Callable[..., None] = names[sys.argv[1]]
    if len(sys.argv) == 2:
        state()
        return
    report = Report()
    state(int(sys.argv[2]), report)
    report.write()
