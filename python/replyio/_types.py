"""The types that replyio accepts as a table, for annotations. At run time, the extension module checks the table."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Union

if TYPE_CHECKING:
    import sqlite3

__all__: list[str] = []


class _ArrowStream(Protocol):
    """A DataFrame or a relation of pandas, polars, pyarrow, DuckDB, ibis, Daft or Spark 4.2, or a list of accounts."""

    def __arrow_c_stream__(self, requested_schema: Any = None, /) -> Any: ...


class _ArrowArray(Protocol):
    """A record batch."""

    def __arrow_c_array__(self, requested_schema: Any = None, /) -> Any: ...


class _Dataclass(Protocol):
    """An instance of a dataclass, such as `ContactAccount`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class _Attrs(Protocol):
    """An instance of an attrs class."""

    __attrs_attrs__: ClassVar[Any]


class _Model(Protocol):
    """An instance of a pydantic model."""

    @property
    def model_fields_set(self) -> set[str]: ...


class _Named(Protocol):
    """A named tuple, or a row of SQLAlchemy."""

    def _asdict(self) -> dict[str, Any]: ...


# A text where a class would cost an import.
_Row = Union[Mapping[str, Any], _Dataclass, _Attrs, _Model, _Named, "sqlite3.Row"]
TableLike = _ArrowStream | _ArrowArray | Iterable[_Row] | str | os.PathLike[str]
