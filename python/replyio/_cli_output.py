"""The output formats of the command line.

On a terminal, text is made safe for people. Otherwise it is unchanged, and always UTF-8, because a program reads it.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, TextIO

from replyio._replyio import exact_text, safe_text

# The number of rows that determine the column widths, and the largest column width.
_MEASURED = 1000
_WIDEST = 40

# The columns of a table of failures beside the reason; the narrowest width of a reason, and the widest of the others.
_OF_A_FAILURE = ("row", "id", "key", "status")
_REASON, _KEY = 24, 24

# The columns of a table of accounts; the other formats have all of them.
ACCOUNT_COLUMNS = ("id", "name", "domain_name", "industry", "company_size", "country", "city", "owner_user_id")


def prepare(stdout: TextIO) -> None:
    """Makes stdout accept any text: as UTF-8 for a program, with escapes for unsupported characters on a terminal."""
    reconfigure: Callable[..., None] | None = getattr(stdout, "reconfigure", None)
    if reconfigure is None:
        return
    if stdout.isatty():
        reconfigure(errors="backslashreplace")
    else:
        reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def chosen(form: str | None) -> str:
    """Returns the format: the selected one, or a table for people and JSON for programs."""
    return form or ("table" if sys.stdout.isatty() else "json")


def account_columns(members: Iterable[str]) -> list[str]:
    """Returns the columns of accounts, from the names of their members."""
    return list(_flat(dict.fromkeys(members)))


def write_one(members: Mapping[str, Any], form: str) -> None:
    """Writes one object: as JSON, as a row, or as one line per member."""
    if form == "table":
        _write_rows(({"field": name, "value": value} for name, value in _flat(members).items()), ("field", "value"))
    elif form == "csv":
        _write_csv(iter([_flat(members)]), tuple(_flat(members)))
    else:
        _write(json_text(members, indent=2 if form == "json" else None) + "\n")


def write_many(
    rows: Iterable[Mapping[str, Any]],
    form: str,
    columns: Iterable[str],
    shown: Iterable[str] | None = None,
    *,
    for_spreadsheet: bool = False,
) -> None:
    """Writes rows, each as soon as it is available.

    Args:
        rows: The rows.
        form: "table", "json", "jsonl" or "csv".
        columns: The columns of a CSV file.
        shown: The columns of a table, if they are fewer.
        for_spreadsheet: Whether a CSV file is for a spreadsheet; see `Plan.export`.
    """
    from replyio._plan_text import distinct

    if form == "table":
        _write_rows((_flat(distinct(row, _WIDEST)) for row in rows), tuple(shown or columns))
    elif form == "csv":
        _write_csv(map(_flat, rows), tuple(columns), for_spreadsheet)
    elif form == "jsonl":
        for row in rows:
            _write(json_text(row) + "\n")
    else:
        begin = "["
        for row in rows:
            _write(f"{begin}\n{json_text(row)}")
            begin = ","
        _write("[]\n" if begin == "[" else "\n]\n")


def write_failures(rows: Iterable[Mapping[str, Any]], in_words: Callable[[str], str]) -> None:
    """Writes the rows that are not done as a table: first the error, whole and wrapped, so that it fits the terminal.

    Args:
        rows: The rows.
        in_words: Replaces the names of Python by those of the command.
    """
    from replyio._plan_text import reason

    given = iter(rows)
    first = list(islice(given, _MEASURED))
    names = [name for name in _OF_A_FAILURE if name == "row" or any(row.get(name) is not None for row in first)]

    def cells(row: Mapping[str, Any]) -> list[str]:
        return [_cut(row.get(name), _KEY) for name in names]

    widths = [max(map(width, column)) for column in zip(names, *map(cells, first), strict=True)]
    columns = shutil.get_terminal_size().columns
    # A terminal wraps a line that is as wide as it is.
    wide = max(_REASON, columns - 1 - sum(widths) - 2 * len(widths))
    lines = chain([("error", names)], ((in_words(reason(row)), cells(row)) for row in chain(first, given)))
    for told, values in lines:
        begun, *more = textwrap.wrap(told, wide) or [""]
        padded = (text + " " * (most - width(text)) for text, most in zip(values, widths, strict=True))
        _write("  ".join([begun + " " * (wide - width(begun)), *padded]).rstrip() + "\n")
        _write("".join(f"{line}\n" for line in more))


def json_text(value: object, indent: int | None = None) -> str:
    """Returns a value as JSON, with dates in the form of the service.

    On a terminal, the JSON is the same with more escapes.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)
    return _UNSURE.sub(_escaped, text) if sys.stdout.isatty() else text


# Characters that may be unsafe on a terminal. A line end can only be between the members.
_UNSURE = re.compile(r"[^\n -~]")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return character if safe_text(character) == character else json.dumps(character)[1:-1]


def _plain(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _write(text: str) -> None:
    sys.stdout.write(text)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row with three columns for the stage, without members that the API contract does not list."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name == "stage":
            for part in ("id", "name", "color_id"):
                found[f"stage_{part}"] = value and value.get(part)
        elif name != "extra":
            found[name] = json_text(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType]
    return found


def _write_csv(rows: Iterator[dict[str, Any]], columns: tuple[str, ...], for_spreadsheet: bool = False) -> None:
    """Writes CSV with a header. None and "" are both an empty cell."""
    from replyio._export import BOM, Line

    line = Line(guards=for_spreadsheet)
    is_seen = sys.stdout.isatty()
    _write((BOM if for_spreadsheet and not is_seen else "") + line.of(columns))
    # The quotes of a table would be part of a value.
    shown: Callable[[Any], str] = (lambda value: safe_text(_plain(value))) if is_seen else _plain
    for row in rows:
        values = [row.get(name) for name in columns]
        _write(line.of(value if isinstance(value, int) or not value else shown(value) or None for value in values))


def _write_rows(rows: Iterator[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Writes a table with aligned columns. The first rows determine the widths."""
    # A table of name and value shows the whole value, and a path works only whole.
    is_whole = len(columns) == 2 or columns[-1] == "path"  # noqa: PLR2004 - name, value
    cut = len(columns) - is_whole

    def cells(row: Mapping[str, Any]) -> list[str]:
        return [
            _cut(row.get(name)) if number < cut else exact_value(row.get(name)) for number, name in enumerate(columns)
        ]

    lines = map(cells, rows)
    first = list(islice(lines, _MEASURED))
    # The last column needs no padding.
    widths = [max(map(width, column)) for column in [*zip(columns, *first, strict=True)][:-1]]
    for line in chain([list(columns)], first, lines):
        padded = (text + " " * (wide - width(text)) for text, wide in zip(line, widths, strict=False))
        _write("  ".join([*padded, line[-1]]).rstrip() + "\n")


def width(text: str) -> int:
    """Returns the number of terminal columns of a text."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(each) or each in "\u200b\u200c\u200d\ufe0f"
        else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def _cut(value: object, widest: int = _WIDEST) -> str:
    """Returns a value truncated to the width of a column.

    Truncates before measuring, because it may be a megabyte long.
    """
    text = exact_value(value, widest)
    used = 0
    for position, each in enumerate(text):
        used += width(each)
        if used > widest or (used == widest and position + 1 < len(text)):
            return text[:position] + "…"
    return text


def exact_value(value: object, limit: int | None = None) -> str:
    """Returns a value on one line, in which people see every character."""
    return "" if value is None else exact_text(_plain(value), limit)
