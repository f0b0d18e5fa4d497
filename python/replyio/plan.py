"""Plans of many updates, and what became of them.

`ReplyClient.plan_contact_account_updates` makes a plan, `ReplyClient.open_plan` opens one, and `replyio.read_plan`
opens one to look at it.
"""

from __future__ import annotations

import operator
from importlib import import_module
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, get_args, overload

from replyio import _plan_text as text
from replyio._annotations import complete
from replyio._blocking import warn_if_it_blocks_a_loop
from replyio._counts import Counts, Status
from replyio._export import Table, refused, write
from replyio._progress import Job, drive, drive_async, show_for
from replyio._replyio import safe_text
from replyio.errors import FieldError, ReplyError, ValidationError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    import pandas
    import polars
    from typing_extensions import CapsuleType, Self

__all__ = ["ApplyResult", "Plan", "PlanTable", "read_plan"]

# The columns that are there even when no row is, and the types that pandas would not find by itself.
_COLUMNS = {
    "rows": ("row", "id", "key", "status", "error", "repeated", "stored_otherwise", "done_at"),
    "changes": ("row", "id", "field", "before", "after", "status"),
    "failures": ("row", "id", "key", "status", "error", "repeated", "stored_otherwise", "done_at"),
}
_TYPES = {
    "row": "int64",
    "id": "Int64",
    "repeated": "int64",
    "stored_otherwise": "bool",
    "done_at": "datetime64[us, UTC]",
}
# Rows are taken from a table in steps of this many.
_STEP = 10_000


class _File(Protocol):
    """A plan's file, as the extension module gives it."""

    def header(self) -> dict[str, Any]: ...
    def counts(self) -> Counts: ...
    def rows(self) -> Table: ...
    def changes(self) -> Table: ...
    def first_failures(self, limit: int) -> list[dict[str, Any]]: ...
    def first_changes(self, limit: int) -> tuple[list[dict[str, Any]], int]: ...
    def failures(self) -> Table: ...
    def stored_otherwise(self) -> int: ...
    def keep(self) -> None: ...


class Options(TypedDict):
    """How a plan is applied."""

    on_conflict: str
    on_unknown_member: str
    rows: list[int] | None
    limit: int | None
    max_changes: int | None
    max_cleared: int | None


def _options(
    on_conflict: str,
    on_unknown_member: str,
    limit: int | None = None,
    max_changes: int | None = None,
    max_cleared: int | None = None,
) -> Options:
    return {
        "on_conflict": on_conflict,
        "on_unknown_member": on_unknown_member,
        "rows": None,
        "limit": limit,
        "max_changes": max_changes,
        "max_cleared": max_cleared,
    }


def read_plan(path: str | os.PathLike[str], *, recover: bool = False) -> Plan:
    """Opens a plan to look at it. No API key is needed, and no request is sent.

    Counts, rows, changes, failures and exports work, also while a run writes the plan. To apply or revert it, open it
    with `ReplyClient.open_plan`.

    Args:
        path: The plan's file.
        recover: Whether to open a plan whose log (`-wal`) is missing, because the file was copied or moved alone after
            a crash. Every row that may have been written becomes `unknown`. Default False: such a file is refused.

    Returns:
        The plan.

    Raises:
        PlanError: The file is missing, half written or damaged, or lacks its log.

    Examples:
        >>> import replyio
        >>> client = replyio.ReplyClient()
        >>> plan = client.plan_contact_account_updates([{"id": 4711, "city": "Oslo"}], progress=False)
        >>> replyio.read_plan(plan.path).counts == plan.counts
        True
    """
    from replyio import _bulk, _replyio

    return _bulk.plan_of(None, _replyio.PlanFile.open(None, path, recover=recover))


class PlanTable:
    """A table of a plan: its rows, its changes, or those rows that were not done.

    It is read when it is first used, and stays as it was then. `table[3]` is a row, `table[:10]` a table, and
    `table["row"]` a column.
    """

    __slots__ = ("_name", "_read", "_source")

    def __init__(self, name: str, source: Table | Callable[[], Table]) -> None:
        """Makes a table of what a plan's file gives.

        Args:
            name: "rows", "changes" or "failures".
            source: The table in the file, or what reads it.
        """
        self._name = name
        self._source = source
        self._read: Table | None = None

    def _export(self, path: str | os.PathLike[str], *, overwrite: bool, for_spreadsheet: bool, plan: str | None) -> int:
        """Writes it into a file; see `Plan.export`."""
        columns = _COLUMNS[self._name]
        return write(self._table, columns, path, overwrite=overwrite, for_spreadsheet=for_spreadsheet, plan=plan)

    @property
    def _table(self) -> Table:
        """The table, read once."""
        if self._read is None:
            self._read = self._source() if callable(self._source) else self._source
        return self._read

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(
            dict.fromkeys((*_COLUMNS.get(self._name, ()), *(key for row in self._table.records(1) for key in row)))
        )

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._table)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, each as a dictionary of its own."""
        for first in range(0, len(self._table), _STEP):
            yield from map(dict, self._table.records(_STEP, first))

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> PlanTable: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | slice | str) -> dict[str, Any] | PlanTable | list[Any]:
        """A row, a part of the table, or a column.

        Args:
            key: The place of a row (from the end where it is negative), a slice, or the name of a column.

        Returns:
            The row as a dictionary, a table, or the values of the column.

        Raises:
            IndexError: When there is no such row.
            KeyError: When there is no such column.
        """
        if isinstance(key, slice):
            return PlanTable(self._name, self._table.select(list(range(*key.indices(len(self))))))
        if isinstance(key, str):
            if key not in self.columns:
                raise KeyError(f"{self._name} has no column {key!r}; it has {', '.join(self.columns)}")
            return [row.get(key) for row in self]
        place = operator.index(key)
        number = place + len(self) if place < 0 else place
        if not 0 <= number < len(self):
            raise IndexError(f"{self._name} has {text.counted(len(self), 'row')}, and none at {place}")
        return dict(self._table.records(1, number)[0])

    def filter(self, *statuses: Status) -> PlanTable:
        """Gives the rows that have one of these statuses.

        Args:
            *statuses: Statuses, such as "failed" and "conflict".

        Returns:
            A table of those rows.

        Raises:
            ValidationError: When one is no status, which a misspelled one is.
            PlanError: When the plan's file cannot be read.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> plan = client.plan_contact_account_updates([{"id": 4711, "city": "Oslo"}], progress=False)
            >>> len(plan.rows.filter("invalid", "not_found"))
            0
        """
        wrong = next((status for status in statuses if status not in get_args(Status)), None)
        if wrong is not None:
            message = f"must be among {', '.join(get_args(Status))}"
            raise ValidationError(f"filter refused: status {message}", errors=[FieldError("status", message)])
        return PlanTable(self._name, self._table.of_status(list(statuses)))

    def to_pandas(self) -> pandas.DataFrame:
        """Gives the table as a pandas frame.

        Returns:
            A frame with a row for each row.

        Raises:
            PlanError: When the plan's file cannot be read.
            ImportError: When pandas is not installed.
        """
        module = import_module("pandas")
        records = list(self)
        values = {name: [row.get(name) for row in records] for name in self.columns}
        # What is there before and after is text or a number, and stays what it is.
        types = {name: _TYPES.get(name, "object") for name in values}
        frame: pandas.DataFrame = module.DataFrame(
            {name: module.Series(column, dtype=types[name]) for name, column in values.items()}
        )
        return frame

    def to_polars(self) -> polars.DataFrame:
        """Gives the table as a polars frame.

        Returns:
            A frame with a row for each row.

        Raises:
            PlanError: When the plan's file cannot be read.
            ImportError: When polars is not installed.
        """
        frame: polars.DataFrame = import_module("polars").DataFrame(self._table)
        return frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Gives the table as an Arrow stream, by the Arrow PyCapsule interface.

        Args:
            requested_schema: Ignored, as the interface allows.

        Returns:
            A capsule with the stream.

        Raises:
            PlanError: When the plan's file cannot be read.
        """
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        """What it is, and how long."""
        return f"<PlanTable {self._name}: {text.counted(len(self), 'row')}>"

    def _repr_html_(self) -> str:
        """The first rows, for a notebook."""
        if self._name == "failures":
            return text.failures_html(self._table.records(text.SHOWN_ROWS), len(self))
        return text.table_html(self._table.records(text.SHOWN_ROWS), self.columns, len(self))


class _Report:
    """What a plan and its result have in common: a file, and what it says."""

    __slots__ = ("_file", "_path")

    def __init__(self, file: _File, path: str) -> None:
        self._file = file
        self._path = path

    @property
    def path(self) -> str:
        """The plan's file."""
        return self._path

    @property
    def rows(self) -> PlanTable:
        """Every row of the input: number, id, the domain or name that found it, status, error, `repeated`, `done_at`.

        `done_at` is when the row was done, in UTC; None while it is not.

        `repeated` is how often the row was sent again while nobody knew what had become of the time before: after a
        crash, or when an answer was lost. Normally 0.
        """
        return PlanTable("rows", self._file.rows)

    @property
    def changes(self) -> PlanTable:
        """Every field that is to change, or has changed: row number, id, field, before, after, status of the row."""
        return PlanTable("changes", self._file.changes)

    @property
    def failures(self) -> PlanTable:
        """The rows that cannot be, or were not done, with the reason; the columns are those of `rows`."""
        return PlanTable("failures", self._file.failures)

    def export(
        self,
        path: str | os.PathLike[str],
        table: Literal["rows", "changes", "failures"] = "rows",
        *,
        overwrite: bool = False,
        for_spreadsheet: bool = False,
    ) -> int:
        """Writes one of the tables into a file: CSV, JSON Lines or Parquet, by the suffix of its name.

        The columns are those of the table. The file appears when all of it is there, and never in part; only its owner
        can read it. In CSV None is nothing between two commas and the empty text is `""`, which most readers take for
        the same; JSON Lines and Parquet always keep them apart.

        Args:
            path: The file. `.csv` (with commas), `.tsv` (with tabs), `.jsonl` or `.ndjson` (an object on each line),
                `.parquet` (needs pyarrow or polars). All of it is UTF-8.
            table: "rows" (the default), "changes" or "failures".
            overwrite: Whether a file that is there is replaced. Default False.
            for_spreadsheet: Whether a CSV file is for people who open it in a spreadsheet. Whatever the spreadsheet
                would run as a formula, since `=`, `+`, `-` or `@` stands at the beginning of a text or behind a
                separator, a tab or a line end in it, gets a `'` in front, and the file a mark by which Excel knows
                UTF-8. Default False: every value is what it is, since telephone numbers begin with `+`, and what a
                program reads back must be what was written.

        Returns:
            How many rows were written.

        Raises:
            ValidationError: When the suffix or the table is none of these, or `for_spreadsheet` is for no CSV file.
            FileExistsError: When there is such a file and `overwrite` is false.
            PlanError: When the plan's file cannot be read, or would be overwritten.
            ImportError: When the suffix is `.parquet`, and neither pyarrow nor polars is installed.
            OSError: When the file cannot be written, for want of room or otherwise.
        """
        if table not in _COLUMNS:
            raise refused("table", f"must be one of {', '.join(_COLUMNS)}")
        found: PlanTable = getattr(self, table)
        return found._export(  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - a table of its own
            path, overwrite=overwrite, for_spreadsheet=for_spreadsheet, plan=self._path
        )

    def _name(self) -> str:
        """The file's name, without its folder."""
        return PurePath(self._path).name

    def _rows_html(self, counts: Mapping[Status, int], stored_otherwise: int) -> str:
        """The first failures with their reasons, then the first changes. No others are read."""
        failed = text.not_done(counts) - counts.get("pending", 0) + stored_otherwise
        first = self._file.first_failures(text.SHOWN_FAILURES) if failed else []
        return text.failures_html(first, failed) + text.changes_html(*self._file.first_changes(text.SHOWN_ROWS))

    def join(self, table: Any, *, prefix: str = "") -> Any:
        """Adds to each row of the caller's table what became of it.

        Args:
            table: The table that the plan was made from, with the same rows in the same order: a pandas or polars
                `DataFrame`, or a pyarrow `Table`.
            prefix: What the two new columns begin with. Default "": they are `status` and `reason`.

        Returns:
            A new table of the same kind, with a status and a reason (None where there is none) for each row.

        Raises:
            ValidationError: When the table is of another kind, has other rows, or has columns of these names.
            PlanError: When the plan's file cannot be read.

        Examples:
            >>> import pandas as pd
            >>> import replyio
            >>> table = pd.DataFrame({"id": [4711], "city": ["Oslo"]})
            >>> result = replyio.ReplyClient().patch_contact_accounts(table, progress=False)
            >>> list(result.join(table).columns)
            ['id', 'city', 'status', 'reason']
        """
        from replyio._join import joined

        return joined(table, self.rows, prefix)


class Plan(_Report):
    """Updates of many accounts, which were compared with the accounts and not yet written.

    A plan is a view of its file: whatever it says is read from there when it is asked for. Any number of views may be
    open, in any process, also while a run writes. There is nothing to close.
    """

    __slots__ = ("_reverse", "_start")

    def __init__(
        self,
        file: _File,
        path: str,
        start: Callable[[str, Options], Job],
        reverse: Callable[[], Plan] | None = None,
    ) -> None:
        """Makes a plan of its file.

        `ReplyClient.plan_contact_account_updates`, `ReplyClient.open_plan` and `replyio.read_plan` make plans.

        Args:
            file: The open file.
            path: Where it is, as it was given.
            start: Starts a job ("apply" or "retry_failed") with the options of the run.
            reverse: Makes the plan that reverts this one.
        """
        super().__init__(file, path)
        self._start = start
        self._reverse = reverse

    @property
    def counts(self) -> dict[Status, int]:
        """The number of rows with each status, 0 included. They add up to the input."""
        return self._file.counts()

    @property
    def requests(self) -> int | None:
        """How many requests are still to be sent, as estimated; None where that is not known."""
        return self._file.header().get("requests_left")

    @property
    def seconds(self) -> float | None:
        """How many seconds that takes within the quota, as estimated; None where that is not known."""
        return self._file.header().get("seconds_left")

    def apply(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
        *,
        rows: object = None,
        limit: int | None = None,
        max_changes: int | None = None,
        max_cleared: int | None = None,
    ) -> ApplyResult:
        """Writes the rows that are pending or unknown, within the quota.

        The run resumes where an earlier one stopped, also after a crash. It reads every account again before it writes
        it, and keeps the newest value of each field that the plan does not name. Ctrl-C lets the updates in flight
        finish, for five seconds at most; a second Ctrl-C ends the run at once. Rows that were not written stay pending.

        Args:
            on_conflict: What happens when somebody else changed a field of the plan since it was made: "skip" (the
                default) leaves the account as it is and makes the row a conflict, "overwrite" writes the plan's value.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: What happens when an update clears a member of the account that it cannot carry, which is
                `stage` or one that this version of replyio does not know: "stop" (the default) ends the run at the
                first such row, and later runs before they write an account that has the member; "clear" continues and
                clears it in every account that the plan writes.
            rows: Which rows to write: row numbers, or a table with a column `row`, such as an export of the changes
                from which lines were removed: a frame, a list of mappings, or the path of a CSV, JSON Lines or Parquet
                file. All lines of a row stay, or none. Default None: every row.
            limit: The most rows to write, in the order of their numbers. Default None: all of them.
            max_changes: The run is refused, with nothing sent, when it would change more accounts than that. Default
                None: no limit.
            max_cleared: The run is refused, with nothing sent, when it would empty more fields than that. Default None:
                no limit.

        Returns:
            What became of the rows. Failed rows raise nothing; see `ApplyResult.raise_for_failures`.

        Raises:
            ValidationError: When `rows` cannot be read, or does not agree with the plan.
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry; or when the run would do more than `max_changes` or `max_cleared`.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        options = _options(on_conflict, on_unknown_member, limit, max_changes, max_cleared)
        return self._run("apply", self._of_rows(options, rows), progress)

    async def apply_async(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
        *,
        rows: object = None,
        limit: int | None = None,
        max_changes: int | None = None,
        max_cleared: int | None = None,
    ) -> ApplyResult:
        """Writes the rows that are pending or unknown, within the quota.

        See `apply`. Cancelling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `apply`.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: "stop" (the default) or "clear"; see `apply`.
            rows: Row numbers, or a table with a column `row`; None for every row.
            limit: The most rows to write; None for all.
            max_changes: The most accounts that the run may change; None for any number.
            max_cleared: The most fields that the run may empty; None for any number.

        Returns:
            What became of the rows. Failed rows raise nothing; see `ApplyResult.raise_for_failures`.

        Raises:
            ValidationError: When `rows` cannot be read, or does not agree with the plan.
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry; or when the run would do more than `max_changes` or `max_cleared`.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        options = _options(on_conflict, on_unknown_member, limit, max_changes, max_cleared)
        return await self._run_async("apply", self._of_rows(options, rows), progress)

    def retry_failed(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Makes failed rows and conflicts pending again, then applies the plan.

        Rows that are unknown need no retry: every `apply` takes them up.

        Args:
            on_conflict: What happens when somebody else changed a field of the plan since it was made: "skip" (the
                default) leaves the account as it is and makes the row a conflict, "overwrite" writes the plan's value.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: What happens when an update clears a member of the account that it cannot carry, which is
                `stage` or one that this version of replyio does not know: "stop" (the default) ends the run at the
                first such row, and later runs before they write an account that has the member; "clear" continues and
                clears it in every account that the plan writes.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        options = _options(on_conflict, on_unknown_member)
        return self._run("retry_failed", options, progress)

    async def retry_failed_async(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Makes failed rows and conflicts pending again, then applies the plan.

        See `retry_failed`. Cancelling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `retry_failed`.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: "stop" (the default) or "clear"; see `retry_failed`.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        options = _options(on_conflict, on_unknown_member)
        return await self._run_async("retry_failed", options, progress)

    def revert(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Restores the previous values in the accounts that this plan has changed.

        The revert covers every row that was written or may have been written. It is a plan too, in a file beside this
        one (`acme.revert.replyplan`), which can be stopped, resumed and reverted: `result.plan`. A field that somebody
        else changed since is a conflict.

        A revert that was interrupted is resumed. In every other case a new one is made (`acme.revert2.replyplan` and
        so on), which looks at each account again; a row that already has the previous values ends as "unchanged".

        Args:
            on_conflict: What happens when somebody else changed a field of the plan since it was made: "skip" (the
                default) leaves the account as it is and makes the row a conflict, "overwrite" writes the plan's value.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: What happens when an update clears a member of the account that it cannot carry, which is
                `stage` or one that this version of replyio does not know: "stop" (the default) ends the run at the
                first such row, and later runs before they write an account that has the member; "clear" continues and
                clears it in every account that the plan writes.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        options = _options(on_conflict, on_unknown_member)
        plan = self._reversed()
        return plan._run("apply", options, progress)  # noqa: SLF001 - a plan too

    async def revert_async(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Restores the previous values in the accounts that this plan has changed.

        See `revert`. Cancelling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `revert`.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: "stop" (the default) or "clear"; see `revert`.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        options = _options(on_conflict, on_unknown_member)
        plan = self._reversed()
        return await plan._run_async("apply", options, progress)  # noqa: SLF001 - a plan too

    def _reversed(self) -> Plan:
        return self if self._reverse is None else self._reverse()

    def _of_rows(self, options: Options, rows: object) -> Options:
        """The options of a run over the rows that were asked for."""
        if rows is None:
            return options
        from replyio._selection import selected

        return {**options, "rows": selected(rows, self._file.rows(), self._file.changes())}

    def _run(self, action: str, options: Options, progress: bool | Callable[[dict[str, Any]], object]) -> ApplyResult:
        warn_if_it_blocks_a_loop(f"{action}()", f"await {action}_async()")
        show = show_for(progress)  # it may import a library, and Ctrl-C meanwhile must not leave a job behind
        job = self._start(action, options)
        try:
            drive(job, show, action, self._path)
        except BaseException:  # whatever it is, its reader is told the name of the file
            self._file.keep()
            raise
        return self._result(job)

    async def _run_async(
        self, action: str, options: Options, progress: bool | Callable[[dict[str, Any]], object]
    ) -> ApplyResult:
        show = show_for(progress)
        job = self._start(action, options)
        try:
            await drive_async(job, show, action, self._path)
        except BaseException:  # whatever it is, its reader is told the name of the file
            self._file.keep()
            raise
        return self._result(job)

    def _result(self, job: Job) -> ApplyResult:
        state = job.progress()
        return ApplyResult(self, self._file, state["requests"], state["seconds"])

    def close(self) -> None:
        """Does nothing: a plan is a view of its file, and stays usable. It is there for `with`."""

    def __enter__(self) -> Self:
        """The plan itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Does nothing; see `close`."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Gives the rows as an Arrow stream; see `rows`.

        Args:
            requested_schema: Ignored, as the interface allows.

        Returns:
            A capsule with the stream.

        Raises:
            PlanError: When the file cannot be read.
        """
        return self.rows.__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pandas.DataFrame:
        """Gives the rows as a pandas frame; see `rows`.

        Returns:
            A frame with a row for each row of the input.

        Raises:
            PlanError: When the file cannot be read.
            ImportError: When pandas is not installed.
        """
        return self.rows.to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """Gives the rows as a polars frame; see `rows`.

        Returns:
            A frame with a row for each row of the input.

        Raises:
            PlanError: When the file cannot be read.
            ImportError: When polars is not installed.
        """
        return self.rows.to_polars()

    @property
    def cleared(self) -> int:
        """How many fields the plan empties that had a value when it was made."""
        cleared: int = self._file.header().get("cleared", 0)
        return cleared

    @property
    def suspicious(self) -> dict[str, int]:
        """How many cells of which column hold a text that often means nothing, or that only a program makes.

        Such as `NULL`, `N/A`, `-`, `nan`, or a telephone number as `4.91E+11`. The plan writes them as they are, unless
        `null_values=` makes them empty cells.
        """
        return {column: cells for column, cells, _ in self._file.header().get("suspicious", ())}

    def _notes(self) -> list[str]:
        """What people must know before they apply the plan."""
        cleared = text.cleared_text(self.cleared, done=not self.counts.get("pending", 0))
        return [cleared, text.suspicious_text(self.suspicious)]

    def _cost(self) -> str:
        header = self._file.header()
        return text.cost_text(header.get("requests_left"), header.get("seconds_left"))

    def __repr__(self) -> str:
        """What it would do, and what that costs."""
        try:
            return text.line("Plan", self._name(), self.counts, self._cost(), self._notes())
        except ReplyError as error:  # a file that is gone; whoever looks at a variable must not get an exception
            return text.printable(f"<Plan {text.cell(self._name())}: {error}>")

    def _repr_html_(self) -> str:
        """What it would do, with the first changes, for a notebook."""
        title = f"Plan {self._name()}"
        try:
            counts = self.counts
            hints = text.plan_hints(counts, None if self.requests is not None else self._path, text.as_frame())
            inner = self._rows_html(counts, self._file.stored_otherwise())
            return text.box_html(title, self._cost(), counts, inner, hints, self._notes())
        except ReplyError as error:
            return text.box_html(title, "", {}, "", [], [str(error)])


class ApplyResult(_Report):
    """What became of the rows of a plan.

    It outlives its plan: the counts are those of the moment when the run ended, the tables are read from the plan's
    file when they are asked for.
    """

    __slots__ = ("_counts", "_plan", "_requests", "_seconds", "_stored_otherwise")

    def __init__(self, plan: Plan, file: _File, requests: int, seconds: float) -> None:
        """Makes the result of a job that has ended. Made by `Plan.apply` and its like.

        Args:
            plan: The plan.
            file: The plan's file.
            requests: How many requests were sent.
            seconds: How long it took.
        """
        super().__init__(file, plan.path)
        self._plan = plan
        self._counts = self._file.counts()
        self._stored_otherwise = self._file.stored_otherwise()
        self._requests = requests
        self._seconds = seconds

    @property
    def counts(self) -> dict[Status, int]:
        """The number of rows with each status when the job ended, 0 included. They add up to the input."""
        return Counts(self._counts)

    @property
    def stored_otherwise(self) -> int:
        """How many of the changed rows the service stored differently from what was sent."""
        return self._stored_otherwise

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return self._requests

    @property
    def seconds(self) -> float:
        """How many seconds it took."""
        return self._seconds

    @property
    def plan(self) -> Plan:
        """The plan that was applied: to resume it, to look at its rows, or to revert it."""
        return self._plan

    def retry_failed(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Makes failed rows and conflicts pending again, then applies the plan.

        Rows that are unknown need no retry: every `apply` takes them up.

        Args:
            on_conflict: What happens when somebody else changed a field of the plan since it was made: "skip" (the
                default) leaves the account as it is and makes the row a conflict, "overwrite" writes the plan's value.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: What happens when an update clears a member of the account that it cannot carry, which is
                `stage` or one that this version of replyio does not know: "stop" (the default) ends the run at the
                first such row, and later runs before they write an account that has the member; "clear" continues and
                clears it in every account that the plan writes.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        return self._plan.retry_failed(on_conflict, progress, on_unknown_member)

    async def retry_failed_async(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Makes failed rows and conflicts pending again, then applies the plan.

        See `retry_failed`. Cancelling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `retry_failed`.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: "stop" (the default) or "clear"; see `retry_failed`.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        return await self._plan.retry_failed_async(on_conflict, progress, on_unknown_member)

    def revert(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Restores the previous values in the accounts that this plan has changed.

        The revert covers every row that was written or may have been written. It is a plan too, in a file beside this
        one (`acme.revert.replyplan`), which can be stopped, resumed and reverted: `result.plan`. A field that somebody
        else changed since is a conflict.

        Args:
            on_conflict: What happens when somebody else changed a field of the plan since it was made: "skip" (the
                default) leaves the account as it is and makes the row a conflict, "overwrite" writes the plan's value.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: What happens when an update clears a member of the account that it cannot carry, which is
                `stage` or one that this version of replyio does not know: "stop" (the default) ends the run at the
                first such row, and later runs before they write an account that has the member; "clear" continues and
                clears it in every account that the plan writes.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        return self._plan.revert(on_conflict, progress, on_unknown_member)

    async def revert_async(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Restores the previous values in the accounts that this plan has changed.

        See `revert`. Cancelling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `revert`.
            progress: Whether to show rows, requests and the time left, or a function that is called with a dictionary
                of them (and `text`, a line for people) whenever they change. Default True.
            on_unknown_member: "stop" (the default) or "clear"; see `revert`.

        Returns:
            What became of the rows.

        Raises:
            PlanError: When the file cannot be used, another run has it, the disk is full, or an update cleared a member
                that it cannot carry.
            AuthenticationError: When the service refuses the key. Every row stays as it is.
            ReplyError: Any other failure that ends the run. Every row stays as it is.
        """
        return await self._plan.revert_async(on_conflict, progress, on_unknown_member)

    def raise_for_failures(self) -> None:
        """Raises if a row was not done, or if the service stored something else than was sent.

        Raises:
            ReplyError: With the counts and the first of those rows.
        """
        missing, total = text.not_done(self._counts), sum(self._counts.values())
        problems: list[str] = []
        if missing:
            problems.append(f"{missing:,} of {text.counted(total, 'row')} not done: {text.counts_text(self._counts)}")
        if self._stored_otherwise:
            problems.append(f"{text.counted(self._stored_otherwise, 'row')} stored differently from what was sent")
        if not problems:
            return
        message = "; ".join(problems)
        for first in islice(self.failures, 1):
            row = f"row {first.get('row')}: "
            reason = safe_text(str(first.get("error") or first.get("status")))
            message += f"; the first is {row}{reason.removeprefix(row)}"
        raise ReplyError(f"{message}; hint: .failures has them all")

    def __repr__(self) -> str:
        """What was done, and what it took."""
        return text.line("ApplyResult", self._name(), self._counts, self._spent(), self._notes())

    def _repr_html_(self) -> str:
        """What was done, with the first changes, for a notebook."""
        title = f"Result of {self._name()}"
        try:
            hints = text.result_hints(self._counts, self._stored_otherwise, text.as_frame())
            inner = self._rows_html(self._counts, self._stored_otherwise)
            return text.box_html(title, self._spent(), self._counts, inner, hints, self._notes())
        except ReplyError as error:  # the counts are here, and the file is gone
            return text.box_html(title, self._spent(), self._counts, "", [], [*self._notes(), str(error)])

    def _notes(self) -> list[str]:
        """What people must know first."""
        return [text.stored_otherwise_text(self._stored_otherwise)]

    def _spent(self) -> str:
        return text.spent_text(self._requests, self._seconds)


complete(globals())
