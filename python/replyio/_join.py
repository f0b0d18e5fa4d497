"""Adds the outcome of each row to the caller's table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from replyio._frames import columns_of, values_of
from replyio.errors import FieldError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from replyio.plan import PlanTable

__all__: list[str] = []

_TAKEN = "a pandas or polars DataFrame or a pyarrow Table"


def joined(table: Any, rows: PlanTable, prefix: str) -> Any:
    """Adds status and reason to a table.

    Args:
        table: The caller's table.
        rows: The rows of the plan.
        prefix: The prefix of the new column names.

    Returns:
        A table of the same kind.

    Raises:
        ValidationError: If the table is of another kind, has other rows, or already has such columns.
    """
    kind = _kind(table)
    columns = columns_of(table) or []
    names = {_first_label(name) for name, _ in columns}
    if len(table) != len(rows):
        _refuse(
            f"has {len(table):,} rows, but the plan has {len(rows):,}; join the table that the plan was created from"
        )
    added: dict[str, list[Any]] = {f"{prefix}status": [], f"{prefix}reason": []}
    taken = [name for name in added if name in names]
    if taken:
        _refuse(f'has a column {taken[0]} already; pass prefix="reply_" to rename the new columns')
    records = list(rows)
    places = [_first_other(values_of(column), records) for _, column in columns]
    if records and None not in places:
        place = max((place for place in places if place is not None), default=0)
        _refuse(f"has another account in row {place} than the plan; join the table in its original order")
    statuses, reasons = added.values()
    statuses.extend(row["status"] for row in records)
    reasons.extend(row["error"] for row in records)
    return _with_columns(kind, table, added)


def _kind(table: Any) -> str:
    """Returns the library of a table. Imports no library for this."""
    for library, name in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table")):
        found = getattr(sys.modules.get(library), name, None)
        if found is not None and isinstance(table, found):
            return library
    lazy = hasattr(table, "collect")
    return _refuse(f"must be {_TAKEN}, not {type(table).__name__}{'; collect() it first' if lazy else ''}")


def _first_label(name: object) -> str:
    """Returns the name of a column. In pandas it may have several levels."""
    return str(cast("tuple[object, ...]", name)[0] if isinstance(name, tuple) else name)


def _first_other(values: Sequence[Any], records: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns the first row whose value in a column differs from the plan's key; None if all match.

    The column may have any name, because `columns=` may have renamed it at planning.
    """
    return next((place for place, row in enumerate(records) if not _agrees(values[place], row)), None)


def _agrees(value: Any, row: Mapping[str, Any]) -> bool:
    """Returns whether a value is the key of a row.

    Returns True for an unusable value, because the row already has that error.
    """
    key: str | None = row["key"]
    if key is not None:
        return str(value) == key
    if row["id"] is None:
        return True
    try:
        # Texts such as "4711.0" are ids too.
        number = _number(value) if isinstance(value, str) else value
        return bool(number == row["id"])
    except (TypeError, ValueError):
        return False


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _with_columns(kind: str, table: Any, added: Mapping[str, list[Any]]) -> Any:
    library = sys.modules[kind]
    if kind == "pandas":
        text = library.Series(["text"]).dtype  # whatever the columns contain, even nothing
        more = ("",) * (table.columns.nlevels - 1)
        table = table.copy()
        for name, values in added.items():
            table[(name, *more) if more else name] = library.array(values, dtype=text)
        return table
    if kind == "polars":
        return table.with_columns(library.Series(name, values, dtype=library.String) for name, values in added.items())
    for name, values in added.items():
        table = table.append_column(name, library.array(values, type=library.string()))
    return table


def _refuse(message: str) -> NoReturn:
    raise ValidationError(f"join refused: the table {message}", errors=[FieldError("table", message)])
