"""Reading of tables, for the tests of what may be given as one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from replyio import ValidationError
from replyio._replyio import Table
from support import environment, has_a_line_for_each_fault

PAGE = Path(__file__).parent.parent / "docs" / "tables.md"


LONG = "more than the twelve bytes of a view: æ 🜂"


TEXTS = ["Ωμέγα 🜂\0", "e\u0301", "\u00e9", "\u202e\u05e9\u05dc", "nan", " a ", LONG, None]


def rows(table: Table) -> list[dict[str, Any]]:
    return [table.row(number) for number in range(len(table))]


def read(data: object, **options: Any) -> list[dict[str, Any]]:
    table = Table(data, options)
    assert table.faults == []
    return rows(table)


def refusal(data: object, **options: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Table(data, options)
    assert has_a_line_for_each_fault(caught.value)
    return caught.value


def page_lines(heading: str) -> list[list[str]]:
    """The lines of a section's table, cell by cell."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def from_file(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ImportError(name + " is not installed")
sys.meta_path.insert(0, Missing())
from replyio._replyio import Table
"""


def without(missing: set[str], program: str, *arguments: str) -> str:
    """What a program prints where some libraries are not installed."""
    code = WITHOUT.format(missing=missing) + program
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout.strip()
