"""The statuses of a plan's rows, and how many rows have each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

__all__: list[str] = []

Status = Literal[
    "pending", "changed", "unchanged", "failed", "conflict", "unknown", "invalid", "ambiguous", "not_found"
]
_NO_ROWS: dict[Status, int] = dict.fromkeys(get_args(Status), 0)


class Counts(dict[Status, int]):
    """The number of rows with each status. Every status is there; 0 where no row has it.

    Two of them are equal when they agree on the statuses that rows have, `repr` shows only those, and `in` is true only
    for those: `counts == {"changed": 4}`, `"failed" not in counts`.
    """

    __slots__ = ()

    def __init__(self, counts: Mapping[str, int] | Mapping[Status, int] | None = None) -> None:
        """Adds the statuses that are missing.

        Args:
            counts: The number of rows by status; statuses without rows can be left out. Default None: no rows.
        """
        super().__init__(_NO_ROWS | cast("dict[Status, int]", dict(counts or {})))

    def __repr__(self) -> str:
        """The statuses that rows have: what a person wants to read."""
        return repr(_with_rows(self))

    def __contains__(self, status: object) -> bool:
        """Whether rows have this status. Otherwise `if "failed" in counts` would be true for every plan."""
        return bool(self.get(cast("Status", status), 0))

    def __eq__(self, other: object) -> bool:
        """Whether both have the same rows by status."""
        if not isinstance(other, Mapping):
            return NotImplemented
        return _with_rows(self) == _with_rows(other)  # pyright: ignore[reportUnknownArgumentType]

    def __ne__(self, other: object) -> bool:
        """Whether they differ; a dict would compare the statuses without rows too."""
        return not self == other

    __hash__ = None  # pyright: ignore[reportAssignmentType] - as of a dict


def _with_rows(counts: Mapping[Any, Any]) -> dict[Any, Any]:
    return {status: number for status, number in counts.items() if number}
