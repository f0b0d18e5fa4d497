"""One figure for Rust and Python: `python packaging/coverage.py LCOV…` sums the lines of several reports.

The table has each file with lines that no test ran, and their numbers.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path


def lines(report: Path) -> dict[str, dict[int, int]]:
    """How often each line of each file ran."""
    found: dict[str, dict[int, int]] = {}
    for block in report.read_text(encoding="utf-8").split("end_of_record"):
        if name := re.search(r"^SF:(.*)$", block, re.MULTILINE):
            file = re.sub(r".*/(?=(?:src|python/replyio)/)|.*/(?=replyio/)", "", name[1])
            counts = found.setdefault(file, {})
            for line, count in re.findall(r"^DA:(\d+),(\d+)", block, re.MULTILINE):
                counts[int(line)] = counts.get(int(line), 0) + int(count)
    return found


def ranges(numbers: list[int]) -> str:
    """Line numbers as `3, 7-9`."""
    breaks = [0, *(place for place, (one, two) in enumerate(pairwise(numbers), 1) if two != one + 1), len(numbers)]
    runs = [numbers[start:end] for start, end in pairwise(breaks)]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def main() -> None:
    """The command line."""
    files: dict[str, dict[int, int]] = {}
    for report in sys.argv[1:]:
        files |= lines(Path(report))
    ran = total = 0
    for name, counts in sorted(files.items()):
        missed = sorted(line for line, count in counts.items() if count == 0)
        ran, total = ran + len(counts) - len(missed), total + len(counts)
        if missed:
            print(f"{name}: {len(missed)} of {len(counts)} lines did not run: {ranges(missed)}")
    if not total:
        raise SystemExit("no report has any line")
    print(f"{ran:,} of {total:,} lines of Rust and Python ran: {ran / total:.1%}")


if __name__ == "__main__":
    main()
