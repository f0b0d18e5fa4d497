"""Writes the tables of a plan to files: CSV, JSON Lines and Parquet."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from replyio._rows_file import TABLES
from replyio.errors import FieldError, PlanError, ValidationError
from replyio.models import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from replyio._replyio import Report

__all__: list[str] = []

# The number of rows to read from a table at once.
_STEP = 10_000
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# A spreadsheet detects UTF-8 by this mark.
BOM = "\ufeff"
# The characters that begin a formula in a spreadsheet, including their full-width forms.
_FORMULA = "=+\\-@\uff1d\uff0b\uff0d\uff20"
# A spreadsheet may split at any of these, whatever the separator of the file is, depending on the user's locale.
_SPLITS = "\t\r\n\x0b\x0c\x85\u2028\u2029;|,"
# The characters that a spreadsheet ignores before a formula: spaces, invisible characters, quotation marks.
_DROPPED = '[^\\S\t\r\n\x0b\x0c\x85\u2028\u2029]|[\\x00-\\x08\\x0e-\\x1b\xad\u200b-\u200f\u2060-\u2064\ufeff"]'


def write(
    table: Report,
    columns: Sequence[str],
    path: str | os.PathLike[str],
    *,
    overwrite: bool,
    for_spreadsheet: bool,
    plan: str | None,
) -> int:
    """Writes a table to a file, completely or not at all.

    Args:
        table: The table.
        columns: The names of its columns.
        path: The file; its suffix determines the format.
        overwrite: Whether to replace an existing file.
        for_spreadsheet: Whether the CSV file is for a spreadsheet.
        plan: The plan's own file, which is never replaced.

    Returns:
        The number of rows.

    Raises:
        ValidationError: If the suffix is unknown.
        PlanError: If the file is the plan itself.
        FileExistsError: If the file exists and `overwrite` is false.
        ImportError: If no installed library writes Parquet.
        OSError: If the file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in TABLES:
        raise refused("path", f"must end in {', '.join(TABLES[:-1])} or {TABLES[-1]}, not in {suffix!r}")
    if for_spreadsheet and suffix not in _DELIMITERS:
        raise refused("for_spreadsheet", f"is for .csv and .tsv, not for {suffix}")
    if plan is not None and _is_same(target, plan):
        raise PlanError(f"{target} is the plan itself; export to another file")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)
    temporary: str | None = None
    try:
        # Next to the target, so that a rename is enough; readable only by its owner.
        descriptor, temporary = tempfile.mkstemp(".part", f".{target.name[:40]}.", target.parent)
        with os.fdopen(descriptor, "wb") as file:
            if suffix in _DELIMITERS:
                _write_separated(file, table, columns, _DELIMITERS[suffix], for_spreadsheet)
            elif suffix == ".parquet":
                _write_parquet(file, table)
            else:
                _write_json_lines(file, table)
            file.flush()
            os.fsync(file.fileno())
        _publish(temporary, target, overwrite)
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or errno.EIO, f"{reason}; replyio kept no part of the export", str(target)) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108 - the path is a string
    return len(table)


def refused(name: str, message: str) -> ValidationError:
    """Returns the error for an invalid argument."""
    return ValidationError(f"export refused: {name} {message}", errors=[FieldError(name, message)])


def _exists(target: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "already exists; overwrite=True replaces it", str(target))


def _is_same(target: Path, plan: str) -> bool:
    with contextlib.suppress(OSError):
        return target.samefile(plan)
    return False


def _publish(temporary: str, target: Path, overwrite: bool) -> None:
    """Gives a file its final name. Without `overwrite`, keeps a file that appeared in the meantime."""
    if overwrite:
        Path(temporary).replace(target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise _exists(target) from None
        Path(temporary).rename(target)


def rows_of(table: Report) -> Iterator[dict[str, Any]]:
    """Yields each row of a table as a new dictionary, and holds only some of them at a time."""
    for first in range(0, len(table), _STEP):
        yield from table.records(_STEP, first)


def _write_separated(
    file: BinaryIO, table: Report, columns: Sequence[str], delimiter: str, for_spreadsheet: bool
) -> None:
    line = Line(delimiter, guards=for_spreadsheet)
    file.write((BOM if for_spreadsheet else "").encode())
    file.write(line.of(columns).encode())
    file.writelines(line.of([row[name] for name in columns]).encode() for row in rows_of(table))


def guard(delimiter: str) -> Callable[[str], str]:
    """Returns a function that puts a `'` in front of anything that a spreadsheet would run as a formula."""
    # Inside quotation marks, the delimiter itself begins no cell.
    splits = _SPLITS.replace(delimiter, "") if delimiter == "," else _SPLITS
    beginning = re.compile(f"(?:\\A(?=[\t\r\n])|(?:\\A|[{splits}])(?=(?:{_DROPPED})*[{_FORMULA}]))")
    return lambda text: beginning.sub(r"\g<0>'", text)


class Line:
    """Formats a line of separated values. None is an empty cell, and the empty text is two quotes."""

    __slots__ = ("_delimiter", "_guarded", "_quoted")

    def __init__(self, delimiter: str = ",", *, guards: bool = False) -> None:
        """Creates the format.

        Args:
            delimiter: The separator.
            guards: Whether to put a `'` in front of anything that a spreadsheet would run as a formula: at the
                beginning of a text, and after any character that may begin a new cell.
        """
        self._delimiter = delimiter
        self._guarded = guard(delimiter) if guards else None
        # A reader may treat any carriage return as the end of a line.
        self._quoted = re.compile(f'["\r\n{delimiter}]').search

    def of(self, values: Iterable[object]) -> str:
        """Returns a line."""
        return self._delimiter.join(map(self._cell, values)) + "\n"

    def _cell(self, value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            return plain(value)
        if self._guarded:
            value = self._guarded(value)
        return '"' + value.replace('"', '""') + '"' if not value or self._quoted(value) else value


def _write_json_lines(file: BinaryIO, table: Report) -> None:
    encode = json.JSONEncoder(ensure_ascii=False, default=plain).encode
    file.writelines(f"{encode(row)}\n".encode() for row in rows_of(table))


def _write_parquet(file: BinaryIO, table: Report) -> None:
    for writer in (_with_pyarrow, _with_polars):
        with contextlib.suppress(ImportError):
            return writer(file, table)
    raise ImportError("to write a .parquet file, install pyarrow or polars")


def _with_pyarrow(file: BinaryIO, table: Report) -> None:
    parquet, arrow = import_module("pyarrow.parquet"), import_module("pyarrow")
    parquet.write_table(arrow.table(table), file)


def _with_polars(file: BinaryIO, table: Report) -> None:
    import_module("polars").DataFrame(table).write_parquet(file)
