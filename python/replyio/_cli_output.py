"""The forms in which the command line gives its data.

On a terminal text is made harmless for it. Elsewhere nothing is changed, and it is UTF-8 whatever the locale says: a
program reads it.
"""

from __future__ import annotations

import datetime
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, TextIO

# Rows whose widths decide those of the columns, and the widest that a column gets.
_MEASURED = 1000
_WIDEST = 40

# What a table of accounts shows of each; the other forms give everything.
ACCOUNT_COLUMNS = ("id", "name", "domain_name", "industry", "company_size", "country", "city", "owner_user_id")


def prepare(stdout: TextIO) -> None:
    """Makes stdout take any text: as UTF-8 for a program, with what it has not escaped on a terminal."""
    reconfigure: Callable[..., None] | None = getattr(stdout, "reconfigure", None)
    if reconfigure is None:
        return
    if stdout.isatty():
        reconfigure(errors="backslashreplace")
    else:
        reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def chosen(form: str | None) -> str:
    """The form: as asked for, else a table for people and JSON for programs."""
    return form or ("table" if sys.stdout.isatty() else "json")


def account_columns(members: Iterable[str]) -> list[str]:
    """The columns of accounts, from the names of their members."""
    return list(_flat(dict.fromkeys(members)))


def write_one(members: Mapping[str, Any], form: str) -> None:
    """Writes one thing: as an object, as a row, or as a line for each member."""
    if form == "table":
        _write_rows(({"field": name, "value": value} for name, value in _flat(members).items()), ("field", "value"))
    elif form == "csv":
        _write_csv(iter([_flat(members)]), tuple(_flat(members)))
    else:
        _write(json_text(members, indent=2 if form == "json" else None) + "\n")


def write_many(
    rows: Iterable[Mapping[str, Any]], form: str, columns: Iterable[str], shown: Iterable[str] | None = None
) -> None:
    """Writes rows, each as soon as it is there.

    Args:
        rows: The rows.
        form: "table", "json", "jsonl" or "csv".
        columns: The columns of a CSV file.
        shown: Those of a table, where they are fewer.
    """
    if form == "table":
        _write_rows(map(_flat, rows), tuple(shown or columns))
    elif form == "csv":
        _write_csv(map(_flat, rows), tuple(columns))
    elif form == "jsonl":
        for row in rows:
            _write(json_text(row) + "\n")
    else:
        begin = "["
        for row in rows:
            _write(f"{begin}\n{json_text(row)}")
            begin = ","
        _write("[]\n" if begin == "[" else "\n]\n")


def json_text(value: object, indent: int | None = None) -> str:
    """A value as JSON, dates as the service writes them."""
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)


def _plain(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _write(text: str) -> None:
    sys.stdout.write(text)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose stage is spread over three columns. Members that the contract does not know are left out."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if name == "stage":
            for part in ("id", "name", "color_id"):
                found[f"stage_{part}"] = value and value.get(part)
        elif name != "extra":
            found[name] = value
    return found


def _write_csv(rows: Iterator[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """A CSV file with a header. None and "" are both an empty cell."""
    from replyio._export import Line

    line = Line()
    _write(line.of(columns))
    shown: Callable[[Any], str] = harmless if sys.stdout.isatty() else _plain
    for row in rows:
        values = [row.get(name) for name in columns]
        _write(line.of(value if isinstance(value, int) or not value else shown(value) or None for value in values))


def _write_rows(rows: Iterator[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """A table with aligned columns. The first rows decide how wide they are."""
    lines = ([harmless(row.get(name)) for name in columns] for row in rows)
    first = list(islice(lines, _MEASURED))
    widths = [min(max(map(width, column)), _WIDEST) for column in zip(columns, *first, strict=True)]
    for line in chain([list(columns)], first, lines):
        *cells, last = (_cut(text, _WIDEST) for text in line)
        padded = (text + " " * (wide - width(text)) for text, wide in zip(cells, widths, strict=False))
        _write("  ".join([*padded, line[-1] if len(columns) == 2 else last]).rstrip() + "\n")  # noqa: PLR2004 - name, value


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(each) or each in "\u200b\u200c\u200d\ufe0f"
        else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )


def _cut(text: str, most: int) -> str:
    """A text that is not wider."""
    if width(text) <= most:
        return text
    while width(text) >= most:
        text = text[:-1]
    return text + "…"


def harmless(value: object) -> str:
    """A value on one line, with nothing that a terminal would obey."""
    if value is None:
        return ""
    text = _plain(value)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\u200c\u200d" else " " if each.isspace() else "�" for each in text
    )
