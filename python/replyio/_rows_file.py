"""Reads the file of `rows=` as strictly as a table: a lenient reader can turn four lines into two."""

from __future__ import annotations

import codecs
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replyio._plan_text import counted
from replyio.errors import FieldError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

__all__: list[str] = []

# The suffixes of tables.
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_SPREADSHEETS = {".xlsx", ".xlsm", ".xls", ".ods", ".numbers"}
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# The line that names the separator for Excel.
_SEPARATOR = re.compile(r'("?)sep=([^\r\n"])\1(?:\r\n|\r|\n)', re.IGNORECASE)
# Other characters that Python treats as line ends may be in a value.
_LINE_END = re.compile(r"\r\n|\r|\n")
_QUOTED = re.compile(r'"([^"]*(?:""[^"]*)*)"(?!")')


def separated(path: Path, is_key: Callable[[str], bool]) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Reads a file of separated values.

    Args:
        path: The file.
        is_key: Tells the name of a column that the file must have. It decides which character separates the values.

    Returns:
        The column names, and the number and the values of each other line. Skips empty lines.

    Raises:
        ValidationError: If the file cannot be read, or can be read in two ways.
    """
    text, line, delimiter = _decoded(path), 1, None
    if found := _SEPARATOR.match(text):
        text, line, delimiter = text[found.end() :], 2, found[2]
    records = _records(text, delimiter or _delimiter(text, is_key), line)
    names = _first(records)
    return names, _of_width(len(names), records)


def json_lines(path: Path) -> Iterator[tuple[int, tuple[tuple[str, Any], ...]]]:
    """Yields the number and the members of each line of a JSON Lines file. Skips empty lines.

    Args:
        path: The file.

    Yields:
        The number of the line, and its names and values. A name may occur twice.

    Raises:
        ValidationError: If the file cannot be read, or a line is not a JSON object.
    """
    # As tuples, because a dict has only the last of two members with the same name.
    # Decimals, because a float would be rounded.
    decode = json.JSONDecoder(object_pairs_hook=tuple, parse_float=Decimal).decode
    for number, line in enumerate(_decoded(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            members: object = decode(line)
        except (ValueError, ArithmeticError, RecursionError):
            members = None
        if not isinstance(members, tuple):
            refuse(f"line {number} is not a JSON object")
        yield number, members


def parquet(path: Path) -> Any:
    """Reads a Parquet file.

    Args:
        path: The file.

    Returns:
        A table of an installed library.

    Raises:
        ValidationError: If the file cannot be read.
    """
    from replyio._parquet import read

    try:
        return read(path)
    except OSError as error:
        refuse(f"the file cannot be read: {error.strerror}")
    except ValidationError:
        refuse("the file cannot be read as Parquet")


def refuse_other_names(path: Path) -> None:
    """Refuses a name without the suffix of a table, or with a null character.

    Args:
        path: The file.

    Raises:
        ValidationError: If the name is one of these.
    """
    suffix = path.suffix.lower()
    if "\0" in str(path):
        refuse("the name of the file contains a null character")
    if suffix not in TABLES:
        hint = "; save the sheet as CSV first" if suffix in _SPREADSHEETS else ""
        refuse(f"the name of the file must end in {', '.join(TABLES[:-1])} or {TABLES[-1]}{hint}")


def refuse(message: str) -> NoReturn:
    """Refuses the rows.

    Args:
        message: Why.

    Raises:
        ValidationError: Always.
    """
    raise ValidationError(f"rows refused: {message}", errors=[FieldError("rows", message)])


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        refuse(f"the file cannot be read: {error.strerror}")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError:
            refuse("the file is not valid UTF-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")  # the encoding of some spreadsheets, with the same numbers and names


def _delimiter(text: str, is_key: Callable[[str], bool]) -> str:
    """Returns the character that separates the key column from the other columns."""
    found: list[str] = []
    for delimiter in _DELIMITERS:
        try:
            names = _first(_records(text, delimiter, 1))
        except ValidationError:
            continue  # its quotes belong to another separator
        if len(names) > 1 and any(map(is_key, names)):
            found.append(delimiter)
    if len(found) > 1:
        words = " or ".join(_DELIMITERS[delimiter] for delimiter in found)
        refuse(f"the columns of the file may be separated by {words}; rename its columns")
    return found[0] if found else ","


def _first(records: Iterator[tuple[int, list[str]]]) -> list[str]:
    for _, fields in records:
        return fields
    return []


def _of_width(width: int, records: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    for number, values in records:
        if len(values) != width:
            refuse(f"line {number} has {counted(len(values), 'field')}, but the first line has {width}")
        yield number, values


def _records(text: str, delimiter: str, line: int) -> Iterator[tuple[int, list[str]]]:
    """Yields the fields of each record that is not empty, with the number of its first line.

    The csv module would read a quote inside a field, and its limit for the length of a field is global.
    """
    place = 0
    while place < len(text):
        end = _LINE_END.search(text, place)
        stop, following = end.span() if end else (len(text), len(text))
        if text.find('"', place, stop) < 0:
            fields = text[place:stop].split(delimiter)
        else:
            fields, following = _with_quotes(text, place, delimiter, line)
        if any(map(str.strip, fields)):
            yield line, fields
        line += len(_LINE_END.findall(text, place, following))
        place = following


def _with_quotes(text: str, start: int, delimiter: str, line: int) -> tuple[list[str], int]:
    """Returns the fields of a record that has quotes, and where the next record begins."""
    bare = re.compile(f'[^"\r\n{re.escape(delimiter)}]*')
    fields: list[str] = []
    place = start
    while True:
        found = _QUOTED.match(text, place)
        if found:
            fields.append(found[1].replace('""', '"'))
        else:
            found = bare.match(text, place)
            fields.append(found[0] if found else "")
        begun, place = place, found.end() if found else place
        if place == len(text):
            return fields, place
        if text[place] == delimiter:
            place += 1
            continue
        if end := _LINE_END.match(text, place):
            return fields, end.end()
        number = line + len(_LINE_END.findall(text, start, place))
        if place == begun:
            refuse(f"line {number}: the file is not CSV: a quote is opened and never closed")
        refuse(
            f"line {number}: the file is not CSV: a quote is allowed only around a whole field; write each quote "
            'inside it twice ("")'
        )
