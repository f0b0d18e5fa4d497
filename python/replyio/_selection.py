"""Selects the rows of a run: row numbers, or a table with a column `row`."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from replyio._export import guard, rows_of
from replyio._frames import columns_of, values_of
from replyio._rows_file import json_lines, parquet, refuse, refuse_other_names, separated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from replyio._replyio import Report

__all__: list[str] = []

# The columns of a table that refer to the plan. Others are ignored.
_COLUMNS = ("row", "id", "field", "before", "after")
# An integer, and the zeros if it was a float.
_INTEGER = re.compile(r"(\d{1,19})(?:\.(0+))?", re.ASCII)
# In many languages this is a number of thousands.
_THOUSANDS = re.compile(r"\d{1,3}\.000", re.ASCII)
_LAZY = {"collect": "; collect() it first", "compute": "; compute() it first"}


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
        refuse(f"row {missing} is not in the plan")
    for number, line in lines:
        if "id" in line and not _is_same_id(line["id"], ids[number]):
            refuse(f"row {number} of the plan has another id than in this table; is this table an export of this plan?")
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
        if "field" not in line:
            refuse(f"row {number} has a line without `field`, which other lines have")
        field, fields = _plain(line["field"]), planned.get(number, {})
        if field not in fields:
            refuse(f"row {number} of the plan does not change the field {field!r} of this table")
        # A run that overwrites conflicts changes the previous values of its rows.
        if number in pending and "before" in line and not _is_same(line["before"], fields[field]["before"]):
            refuse(
                f"row {number}, {field}: the value in `before` differs from the plan; is this table an export of this "
                f"plan? If only its format changed, remove the column `before`"
            )
        if "after" in line and not _is_same(line["after"], fields[field]["after"]):
            refuse(
                f"row {number}, {field}: the value in `after` differs from the plan, and a run sends only the "
                f"plan's values; plan again from the edited values, or remove the column `after` if only its format "
                f"changed"
            )
        found.setdefault(number, set()).add(field)
    for number, named in found.items():
        left = sorted(planned[number].keys() - named)
        if left:
            refuse(f"row {number} also changes {', '.join(left)}: keep or remove all lines of a row together; {_WHOLE}")


_WHOLE = "to leave out single fields, plan again without their cells"


def _lines(rows: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields row numbers, each with the other columns of its line."""
    for place, line in _given(rows):
        number = _whole(line["row"])
        if number is None:
            refuse(f"{place}a row number must be a whole number, 0 or greater")
        yield number, line


def _given(rows: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the columns of each line that refer to the plan, with the place of the line in a file."""
    if isinstance(rows, (str, os.PathLike)):
        yield from _of_file(Path(cast("str", rows)))
        return
    lazy = next((hint for name, hint in _LAZY.items() if hasattr(type(rows), name)), "")
    columns = None if lazy else columns_of(rows)
    if columns is not None:
        yield from _of_columns(columns)
    elif isinstance(rows, Iterable) and not isinstance(rows, (bytes, Mapping)) and not lazy:
        for each in cast("Iterable[Any]", rows):  # type: ignore[redundant-cast] # pyright infers less
            if isinstance(each, Mapping):
                pairs = list(cast("Mapping[object, Any]", each).items())
                yield "", _cells(_places(tuple(name for name, _ in pairs)), [value for _, value in pairs])
            else:
                yield "", {"row": each}
    else:
        kind: str = type(cast("object", rows)).__name__  # type: ignore[redundant-cast] # pyright infers less
        refuse(f"must be row numbers or a table with a column `row`, not {kind}{lazy}")


def _of_file(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    refuse_other_names(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from _of_columns(columns_of(parquet(path)) or [])
    elif suffix in {".csv", ".tsv"}:
        names, records = separated(path, lambda name: _plain_name(name) == "row")
        places = _places(tuple(names))
        for number, values in records:
            yield f"line {number}: ", _cells(places, values)
    else:
        for number, members in json_lines(path):
            place = f"line {number}: "
            yield place, _cells(_places(tuple(name for name, _ in members), place), [value for _, value in members])


def _of_columns(columns: Sequence[tuple[object, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    places = _places(tuple(name for name, _ in columns))
    for values in zip(*(values_of(columns[place][1]) for place in places.values()), strict=True):
        yield "", dict(zip(places, values, strict=True))


def _cells(places: Mapping[str, int], values: Sequence[Any]) -> dict[str, Any]:
    return {name: values[place] for name, place in places.items()}


@lru_cache(maxsize=64)
def _places(names: tuple[object, ...], place: str = "") -> dict[str, int]:
    """Returns the positions of the columns that refer to the plan. Compares names by letters and digits only."""
    found: dict[str, int] = {}
    for position, name in enumerate(map(_plain_name, names)):
        if name in found:
            refuse(f"{place}the column `{name}` is there twice")
        if name in _COLUMNS:
            found[name] = position
    if "row" not in found:
        refuse(f"{place}the table has no column `row`")
    value = next((name for name in ("before", "after") if name in found), None)
    if value is not None and "field" not in found:
        refuse(
            f"{place}the table has the column `{value}` but not `field`, so replyio cannot compare its values with the "
            f"plan; keep the column `field`, or remove the columns `before` and `after`"
        )
    return found


def _plain_name(name: object) -> str:
    return "".join(filter(str.isalnum, str(name))).lower()


def _whole(value: object) -> int | None:
    """Parses a row number or an id by the rules for the ids of a table; returns None if it is neither.

    A spreadsheet or a DataFrame may have converted it to text, a float or a decimal.
    """
    if isinstance(value, str):
        return _whole_of_text(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, (Decimal, Real)):
        return _whole_of_number(value)
    try:
        number = operator.index(cast("Any", value))
    except TypeError:
        return None
    return number if number >= 0 else None


def _whole_of_text(text: str) -> int | None:
    found = None if _THOUSANDS.fullmatch(text.strip()) else _INTEGER.fullmatch(text.strip())
    if found is None:
        return None
    number = int(found[1])
    may_be_rounded = found[2] is not None and number >= 2**53
    return None if may_be_rounded or number >= 2**63 else number


def _whole_of_number(number: Any) -> int | None:
    try:
        # The limit is first: int() would write out all digits of a large decimal.
        whole = int(number) if 0 <= number < 2**63 else None
        # From some size on, neighboring integers are the same float.
        return whole if whole == number and (isinstance(number, Integral) or number + 1 != number) else None
    except ArithmeticError:
        return None  # a decimal NaN cannot be compared


def _is_same_id(found: object, planned: int | None) -> bool:
    return _is_same(found, planned) or (planned is not None and _whole(found) == planned)


def _is_same(found: object, planned: object) -> bool:
    """Returns whether a cell has the plan's value, in the form of a file, a DataFrame or an export for spreadsheets."""
    if isinstance(found, str) and isinstance(planned, str):
        # An edit may remove only a space.
        return found in {planned, *(guard(delimiter)(planned) for delimiter in ",\t")}
    return _plain(found) == ("" if planned is None else str(planned))


def _plain(value: object) -> str:
    """Returns the text of a cell, which a library may have converted; that of a missing value is empty."""
    if _is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Decimal) and (number := _whole(value)) is not None:
        return str(number)
    return str(value).strip()


def _is_missing(value: object) -> bool:
    """Returns whether a value is the one that a library has for "no value"; a text of its name is none."""
    if value is None:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    kind = type(value)
    # It cannot be compared: the result has no truth value.
    if kind.__module__.startswith("pandas.") and kind.__name__ in {"NAType", "NaTType"}:
        return True
    is_of_numpy = kind.__module__ == "numpy" and kind.__name__ in {"datetime64", "timedelta64"}
    return (isinstance(value, Real) or is_of_numpy) and bool(value != value)  # noqa: PLR0124 - NaN, NaT
