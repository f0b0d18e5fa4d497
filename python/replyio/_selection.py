"""Selects the rows of a run: row numbers, or a table with a column `row`."""

from __future__ import annotations

import csv
import io
import json
import operator
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from replyio._export import guard, rows_of
from replyio.errors import FieldError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from replyio._replyio import Report

__all__: list[str] = []

# The columns of a table that refer to the plan. Others are ignored.
_COLUMNS = ("row", "id", "field", "before", "after")
_SPREADSHEETS = {".xlsx", ".xlsm", ".xls", ".ods", ".numbers"}


def selected(rows: object, table: Report, changes: Report) -> list[int]:
    """Reads the selected rows, and compares them with the plan.

    A table with the ids, fields or values of an export must match the plan: it may belong to another plan or be edited,
    and a run sends only the plan's values.

    Args:
        rows: Row numbers, or a table with a column `row`.
        table: The rows of the plan.
        changes: The changes of the plan.

    Returns:
        The row numbers, each once.

    Raises:
        ValidationError: If they cannot be read, are not in the plan, or do not match it.
    """
    lines = list(_lines(rows))
    numbers = sorted({number for number, _ in lines})
    wanted = set(numbers)
    planned = [row for row in rows_of(table) if row["row"] in wanted]
    ids = {row["row"]: row["id"] for row in planned}
    missing = next((number for number in numbers if number not in ids), None)
    if missing is not None:
        _refuse(f"row {missing} is not in the plan")
    for number, line in lines:
        if "id" in line and not _is_same(line["id"], ids[number]):
            _refuse(
                f"row {number} of the plan has another id than in this table; is this table an export of this plan?"
            )
    if any("field" in line for _, line in lines):
        pending = {row["row"] for row in planned if row["status"] == "pending"}
        _check_changes(lines, wanted, pending, changes)
    return numbers


def _check_changes(
    lines: list[tuple[int, Mapping[str, Any]]], wanted: set[int], pending: set[int], changes: Report
) -> None:
    """Checks that each row is complete and has the values of the plan."""
    planned: dict[int, dict[str, Mapping[str, Any]]] = {}
    for change in rows_of(changes):
        if change["row"] in wanted:
            planned.setdefault(change["row"], {})[change["field"]] = change
    found: dict[int, set[str]] = {}
    for number, line in lines:
        field, fields = str(line.get("field")).strip(), planned.get(number, {})
        if field not in fields:
            _refuse(f"row {number} of the plan does not change the field {field!r} of this table")
        # A run that overwrites conflicts changes the previous values of its rows.
        if number in pending and "before" in line and not _is_same(line["before"], fields[field]["before"]):
            _refuse(
                f"row {number}, {field}: the value in `before` differs from the plan; is this table an export of this "
                f"plan? If only its format changed, remove the column `before`"
            )
        if "after" in line and not _is_same(line["after"], fields[field]["after"]):
            _refuse(
                f"row {number}, {field}: the value in `after` differs from the plan, and a run sends only the "
                f"plan's values; plan again from the edited values, or remove the column `after` if only its format "
                f"changed"
            )
        found.setdefault(number, set()).add(field)
    for number, named in found.items():
        left = sorted(planned[number].keys() - named)
        if left:
            _refuse(
                f"row {number} also changes {', '.join(left)}: keep or remove all lines of a row together; {_WHOLE}"
            )


_WHOLE = "to leave out single fields, plan again without their cells"


def _lines(rows: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields row numbers, each with the other columns of its line."""
    if isinstance(rows, (str, os.PathLike)):
        found: Iterable[Any] = _file(Path(cast("str", rows)))
    else:
        names: Any = getattr(rows, "column_names", None) or getattr(rows, "columns", None)
        if names is not None and hasattr(rows, "__getitem__") and not isinstance(rows, Mapping):
            found = _frame(rows, [str(name) for name in names])
        elif isinstance(rows, Iterable) and not isinstance(rows, (bytes, Mapping)):
            found = cast("Iterable[Any]", rows)  # type: ignore[redundant-cast] # pyright infers less
        else:
            kind: str = type(cast("object", rows)).__name__  # type: ignore[redundant-cast] # pyright infers less
            _refuse(f"must be row numbers or a table with a column `row`, not {kind}")
    for each in found:
        if isinstance(each, Mapping):
            whole = cast("Mapping[str, Any]", each)
            line = {name: whole[name] for name in _COLUMNS if name in whole}
            if "row" not in line:
                _refuse("the table has no column `row`")
            yield _number(line["row"]), line
        else:
            yield _number(each), {}


def _number(value: object) -> int:
    """Parses a row number. A spreadsheet or a DataFrame may have converted it to text or a float."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    if isinstance(value, float) and value.is_integer() and value >= 0:
        return int(value)
    if not isinstance(value, bool):
        try:
            number = operator.index(cast("Any", value))
        except TypeError:
            pass
        else:
            if number >= 0:
                return number
    return _refuse("a row number must be a whole number, 0 or greater")


def _frame(frame: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yields the lines of a pandas or polars DataFrame, or of a pyarrow table."""
    known = [name for name in _COLUMNS if name in names]
    if "row" not in known:
        _refuse("the table has no column `row`")
    columns: list[list[Any]] = []
    for name in known:
        column = frame[name]
        give = next(
            (getattr(column, name) for name in ("to_pylist", "to_list", "tolist") if hasattr(column, name)), None
        )
        columns.append(list(column) if give is None else give())
    for values in zip(*columns, strict=True):
        yield dict(zip(known, values, strict=True))


def _file(path: Path) -> Iterable[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    if "\0" in str(path):
        _refuse("the name of the file contains a null character")
    if suffix not in {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}:
        hint = "; save the sheet as CSV first" if suffix in _SPREADSHEETS else ""
        _refuse(f"the name of the file must end in .csv, .tsv, .jsonl, .ndjson or .parquet{hint}")
    try:
        if suffix == ".parquet":
            from replyio._parquet import read

            return list(_read_parquet(_parquet_of(read, path)))
        raw = path.read_bytes()
    except OSError as error:
        _refuse(f"the file cannot be read: {error.strerror}")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        content = raw.decode("cp1252", "replace")  # the encoding of some spreadsheets, with the same numbers and names
    if suffix in {".csv", ".tsv"}:
        head = content.partition("\n")[0]
        delimiter = max("\t;,|", key=head.count)
        try:
            # Only CR and LF end a line: other characters that Python treats as line ends may be in a value.
            return list(csv.DictReader(io.StringIO(content, newline=""), delimiter=delimiter))
        except csv.Error as error:
            _refuse(f"the file is not CSV: {error}")
    try:
        lines: list[Any] = [json.loads(line) for line in content.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        _refuse("the file is not JSON Lines")
    return lines


def _parquet_of(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except ValidationError:
        _refuse("the file cannot be read as Parquet")


def _read_parquet(table: Any) -> Iterator[dict[str, Any]]:
    names: Any = getattr(table, "column_names", None) or table.columns
    return _frame(table, [str(name) for name in names])


def _is_same(found: object, planned: object) -> bool:
    """Returns whether a cell has the plan's value, in the form of a file, a DataFrame or an export for spreadsheets."""
    if _plain(found) == _plain(planned):
        return True
    guarded = (guard(delimiter)(planned) for delimiter in ",\t") if isinstance(planned, str) else ()
    return isinstance(found, str) and found.strip() in {text.strip() for text in guarded}


def _plain(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN  # pyright: ignore[reportUnnecessaryComparison]
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return "" if text in {"<NA>", "NaT"} else text


def _refuse(message: str) -> NoReturn:
    raise ValidationError(f"rows refused: {message}", errors=[FieldError("rows", message)])
