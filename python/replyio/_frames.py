"""Reads the columns of a table by their position, because a name may occur twice or be no text."""

from __future__ import annotations

from typing import Any, cast

__all__: list[str] = []


def columns_of(table: Any) -> list[tuple[object, Any]] | None:
    """Returns the columns of a table. The levels of a pandas index count as columns if they have a name.

    Args:
        table: A DataFrame of pandas or polars, an Arrow table, a relation of DuckDB, or any other object.

    Returns:
        The names and the columns, for `values_of`; None if the object is no such table.
    """
    kind = type(cast("object", table))  # an attribute of the object may be a column
    if not hasattr(kind, "columns"):
        return None
    if hasattr(kind, "iloc"):
        levels = [(name, table.index.get_level_values(i)) for i, name in enumerate(table.index.names)]
        columns = [(name, table.iloc[:, i]) for i, name in enumerate(table.columns)]
        return [*((name, level) for name, level in levels if name is not None), *columns]
    if hasattr(kind, "get_columns"):
        return list(zip(table.columns, table.get_columns(), strict=True))
    if hasattr(kind, "column_names"):
        return list(zip(table.column_names, table.columns, strict=True))
    if hasattr(kind, "fetchall"):
        names, rows = list(table.columns), table.fetchall()
        return [(name, [row[i] for row in rows]) for i, name in enumerate(names)]
    return None


def values_of(column: Any) -> list[Any]:
    """Returns the values of a column as Python objects.

    Args:
        column: A column of `columns_of`.

    Returns:
        The values.
    """
    give = getattr(column, "to_pylist", None) or getattr(column, "to_list", None)
    return list(column) if give is None else give()
