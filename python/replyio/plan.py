"""Plans of many updates, and their results.

`ReplyClient.plan_contact_account_updates` creates a plan, `ReplyClient.open_plan` opens one, and `replyio.read_plan`
opens one without a client.
"""

# The classes of this file are parts of each other.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast, get_args, overload

from replyio import _again
from replyio import _plan_text as text
from replyio._annotations import complete
from replyio._blocking import warn_of_blocking
from replyio._counts import Counts, Status
from replyio._export import refused, rows_of, write
from replyio._progress import drive, drive_async, is_command, show_for, start_async
from replyio._replyio import Job, Report, safe_text
from replyio.errors import FieldError, PlanError, ReplyError, ValidationError, add_to

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    import pandas
    import polars
    from typing_extensions import CapsuleType, Self

__all__ = ["ApplyResult", "Plan", "PlanTable", "read_plan"]

# The columns of an empty table, and the types that pandas would not infer.
_COLUMNS = {
    "rows": ("row", "id", "key", "status", "error", "repeated", "stored_otherwise", "done_at"),
    "changes": ("row", "id", "field", "before", "after", "status"),
    "failures": ("row", "id", "key", "status", "error", "repeated", "stored_otherwise", "done_at"),
    "suspicious_changes": ("row", "id", "field", "before", "after", "status"),
}
_TYPES = {
    "row": "int64",
    "id": "Int64",
    "repeated": "int64",
    "stored_otherwise": "bool",
    "done_at": "datetime64[us, UTC]",
}


class _OpenPlan(Protocol):
    """The file of a plan, as `replyio._bulk` provides it."""

    def header(self) -> dict[str, Any]: ...
    def counts(self) -> Counts: ...
    def rows(self) -> Report: ...
    def changes(self) -> Report: ...
    def suspicious_changes(self) -> Report: ...
    def first_failures(self, limit: int) -> list[dict[str, Any]]: ...
    def first_changes(self, limit: int) -> tuple[list[dict[str, Any]], int]: ...
    def failures(self) -> Report: ...
    def stored_otherwise(self) -> int: ...
    def keep(self) -> None: ...
    def start(self, action: str, options: Options) -> Job: ...
    def reverse(self) -> Plan: ...
    def blocked_by(self) -> str | None: ...
    def is_revert(self) -> bool: ...
    def opening(self) -> _again.Opening: ...


class Options(NamedTuple):
    """The options of a run."""

    on_conflict: str
    on_unknown_member: str
    limit: int | None = None
    max_changes: int | None = None
    max_cleared: int | None = None
    rows: list[int] | None = None


def read_plan(path: str | os.PathLike[str], *, recover: bool = False) -> Plan:
    """Opens a plan to look at it. Needs no API key and sends no request.

    Counts, rows, changes, failures and exports work, even while a run writes the plan. To apply or revert the plan,
    open it with `ReplyClient.open_plan`.

    Args:
        path: The file of the plan.
        recover: Whether to open a plan whose log (`-wal`) is missing because only the file itself was copied or moved
            after a crash. Every row that may have been updated becomes `unknown`. Default False: refuse such a file.

    Returns:
        The plan.

    Raises:
        PlanError: If the file is missing, incomplete or damaged, or lacks its log.

    Examples:
        >>> import replyio
        >>> client = replyio.ReplyClient()
        >>> plan = client.plan_contact_account_updates([{"id": 4711, "city": "Oslo"}], progress=False)
        >>> replyio.read_plan(plan.path).counts == plan.counts
        True
    """
    from replyio import _bulk, _replyio

    return _bulk.plan_of(None, _replyio.PlanFile.open(None, path, recover=recover))


def suspicions_of(plan: Plan) -> Sequence[tuple[str, int, int]]:
    """Returns the columns that have suspicious cells, with the number of such cells and the first row."""
    return plan._suspicions()


def reverse(plan: Plan) -> Plan:
    """Returns the plan that `Plan.revert` applies, in a file next to the reverted one."""
    return plan._file.reverse()


def opening_of(report: Plan | ApplyResult) -> _again.Opening:
    """Returns how to open a plan again."""
    return report._file.opening()


def blocked_by(report: Plan | ApplyResult) -> str | None:
    """Returns the file that blocks runs of a plan: its last revert, or a newer file that undoes a revert."""
    return report._file.blocked_by()


def is_revert(report: Plan | ApplyResult) -> bool:
    """Returns whether a plan reverts another one."""
    return report._file.is_revert()


def rest_of(report: Plan | ApplyResult, counts: Mapping[Status, int]) -> text.Rest:
    """Returns what the runs of a plan may still do."""
    rest = text.rest_of(counts, is_reverted=False)
    return text.rest_of(counts, is_reverted=any(rest) and blocked_by(report) is not None)


class PlanTable:
    """A table of a plan: its rows, its changes or its failures.

    The table is read on first use and does not change after that. `table[3]` is a row, `table[:10]` a table, and
    `table["row"]` a column.
    """

    __slots__ = ("_name", "_read", "_source")

    def __init__(self, name: str, source: Report | Callable[[], Report]) -> None:
        """Creates a table.

        Args:
            name: "rows", "changes", "failures" or "suspicious_changes".
            source: The table in the file, or a function that reads it.
        """
        self._name = name
        self._source = source
        self._read: Report | None = None

    def _export(self, path: str | os.PathLike[str], *, overwrite: bool, for_spreadsheet: bool, plan: str | None) -> int:
        """Writes the table to a file; see `Plan.export`."""
        columns = _COLUMNS[self._name]
        return write(self._table, columns, path, overwrite=overwrite, for_spreadsheet=for_spreadsheet, plan=plan)

    @property
    def _table(self) -> Report:
        """Returns the table, and reads it on first use."""
        if self._read is None:
            self._read = self._source() if callable(self._source) else self._source
        return self._read

    @property
    def columns(self) -> list[str]:
        """The column names."""
        return list(
            dict.fromkeys((*_COLUMNS.get(self._name, ()), *(key for row in self._table.records(1) for key in row)))
        )

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self._table)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields each row as a new dictionary."""
        yield from rows_of(self._table)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> PlanTable: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | slice | str) -> dict[str, Any] | PlanTable | list[Any]:
        """Returns a row, a part of the table, or a column.

        Args:
            key: The position of a row (negative: from the end), a slice, or a column name.

        Returns:
            The row as a dictionary, a table, or the values of the column.

        Raises:
            IndexError: If there is no such row.
            KeyError: If there is no such column.
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
            raise IndexError(f"{self._name} has {text.counted(len(self), 'row')}, and none at position {place}")
        return dict(self._table.records(1, number)[0])

    def filter(self, *statuses: Status) -> PlanTable:
        """Returns the rows that have one of these statuses.

        Args:
            *statuses: Statuses, such as "failed" and "conflict".

        Returns:
            A table of those rows.

        Raises:
            ValidationError: If one of them is not a status, for example because it is misspelled.
            PlanError: If the plan's file cannot be read.

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
        """Returns the table as a pandas DataFrame.

        Returns:
            A DataFrame with one row for each row of the table.

        Raises:
            PlanError: If the plan's file cannot be read.
            ImportError: If pandas is not installed.
        """
        module = import_module("pandas")
        records = list(self)
        values = {name: [row.get(name) for row in records] for name in self.columns}
        # The values before and after are text or numbers, and keep their types.
        types = {name: _TYPES.get(name, "object") for name in values}
        frame: pandas.DataFrame = module.DataFrame(
            {name: module.Series(column, dtype=types[name]) for name, column in values.items()}
        )
        return frame

    def to_polars(self) -> polars.DataFrame:
        """Returns the table as a polars DataFrame.

        Returns:
            A DataFrame with one row per row of the table.

        Raises:
            PlanError: If the plan's file cannot be read.
            ImportError: If polars is not installed.
        """
        frame: polars.DataFrame = import_module("polars").DataFrame(self._table)
        return frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Returns the table as an Arrow stream, as the Arrow PyCapsule interface defines it.

        Args:
            requested_schema: Ignored, as the interface allows.

        Returns:
            A capsule with the stream.

        Raises:
            PlanError: If the plan's file cannot be read.
        """
        return self._table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        """Returns a text with the name and the number of rows."""
        return f"<PlanTable {self._name}: {text.counted(len(self), 'row')}>"

    def _repr_html_(self) -> str:
        """Returns the first rows as HTML, for a notebook."""
        if self._name == "failures":
            return text.failures_html(self._table.records(text.SHOWN_ROWS), len(self))
        return text.table_html(self._table.records(text.SHOWN_ROWS), self.columns, len(self))


class _PlanView:
    """The common part of a plan and its result: the file and its tables."""

    __slots__ = ("_file", "_path")

    def __init__(self, file: _OpenPlan, path: str) -> None:
        self._file = file
        self._path = path

    @property
    def path(self) -> str:
        """The file of the plan."""
        return self._path

    @property
    def rows(self) -> PlanTable:
        """Every row of the input.

        The columns are `row` (int: the number of the row, from 0), `id` (int, or None), `key` (str: the domain or name
        that the row was matched on, or None), `status` (str), `error` (str: the reason, or None), and:

        - `repeated` (int): how often a run sent the row again without knowing the outcome of the previous attempt,
          after a crash or a lost answer. Normally 0.
        - `stored_otherwise` (bool): whether the service stored another value than was sent; an update cleared, or may
          have reset, a member that it cannot include; the account has another stage after the update; a field that no
          row names has another value after an update without an answer; or a revert left a field as it is. `error` says
          what differs.
        - `done_at` (datetime): the time in UTC when the row was done; None if it is not done.
        """
        return PlanTable("rows", self._file.rows)

    @property
    def changes(self) -> PlanTable:
        """Every field that the plan changes or has changed.

        The columns are `row` (int: the number of the row), `id` (int), `field` (str), `before` and `after` (str or
        None; text also for `owner_user_id`) and `status` (str: of the row).
        """
        return PlanTable("changes", self._file.changes)

    @property
    def suspicious_changes(self) -> PlanTable:
        """The changes whose new value may be a mistake; see `Plan.suspicious`.

        The columns are those of `changes`. A suspicious cell that changes nothing, because its account has the same
        value, is not here.
        """
        return PlanTable("suspicious_changes", self._file.suspicious_changes)

    @property
    def failures(self) -> PlanTable:
        """The rows that are invalid, not found, ambiguous, conflicts, failed or unknown, with the reason.

        Also contains the rows whose `stored_otherwise` is true. The columns are those of `rows`.
        """
        return PlanTable("failures", self._file.failures)

    def export(
        self,
        path: str | os.PathLike[str],
        table: Literal["rows", "changes", "failures", "suspicious_changes"] = "rows",
        *,
        overwrite: bool = False,
        for_spreadsheet: bool = False,
    ) -> int:
        """Writes one of the tables to a file: CSV, JSON Lines or Parquet, depending on the suffix of its name.

        The columns are those of the table. The file appears only when it is complete, and only its owner can read it.
        In CSV, None is an empty cell and the empty text is `""`; most readers treat them as the same. JSON Lines and
        Parquet keep them apart.

        Args:
            path: The file. `.csv` (with commas), `.tsv` (with tabs), `.jsonl` or `.ndjson` (one object per line),
                `.parquet` (needs pyarrow or polars). Text files are UTF-8.
            table: "rows" (the default), "changes", "failures" or "suspicious_changes".
            overwrite: Whether to replace an existing file. Default False.
            for_spreadsheet: Whether people open the CSV file in a spreadsheet. A spreadsheet may run a text as a
                formula if `=`, `+`, `-` or `@` is at its beginning or after a separator, a tab or a line end. With
                True, the export puts a `'` in front of these characters, also in phone numbers such as `+47 1`. It
                also begins the file with a byte order mark, so that Excel reads it as UTF-8. Default False: export
                every value unchanged, for programs.

        Returns:
            The number of rows written.

        Raises:
            ValidationError: If the suffix or the table is not one of these, or `for_spreadsheet` is true but the file
                is neither `.csv` nor `.tsv`.
            FileExistsError: If the file already exists and `overwrite` is false.
            PlanError: If the plan's file cannot be read, or the export would overwrite it.
            ImportError: If the suffix is `.parquet`, and neither pyarrow nor polars is installed.
            OSError: If the file cannot be written, for example because the disk is full.
        """
        if table not in _COLUMNS:
            raise refused("table", f"must be one of {', '.join(_COLUMNS)}")
        found: PlanTable = getattr(self, table)
        return found._export(path, overwrite=overwrite, for_spreadsheet=for_spreadsheet, plan=self._path)

    def _subject(self) -> Plan:
        """Returns the plan that a retry applies."""
        raise NotImplementedError

    def _name(self) -> str:
        """Returns the file name without its directory."""
        return PurePath(self._path).name

    def _rows_html(self, counts: Mapping[Status, int], stored_otherwise: int) -> str:
        """Returns the first failures with their reasons, then the first changes. Reads no other rows."""
        failed = text.not_done(counts) - counts.get("pending", 0) + stored_otherwise
        first = self._file.first_failures(text.SHOWN_FAILURES) if failed else []
        return text.failures_html(first, failed) + text.changes_html(*self._file.first_changes(text.SHOWN_ROWS))

    def _conflicts(self, counts: Mapping[Status, int]) -> list[int]:
        """Returns the rows in conflict that the HTML shows and that can be overwritten, if no row has failed."""
        if not counts.get("conflict") or counts.get("failed"):
            return []
        first = self._file.first_failures(text.SHOWN_FAILURES)
        return [record["row"] for record in first if text.can_be_overwritten(record)]

    def join(self, table: Any, *, prefix: str = "") -> Any:
        """Adds the status and the reason of each row to your table.

        Args:
            table: The table that the plan was created from, with the same rows in the same order: a pandas or polars
                `DataFrame`, or a pyarrow `Table`.
            prefix: The prefix of the two new columns. Default "": their names are `status` and `reason`.

        Returns:
            A new table of the same kind, with a status and a reason (or None) for each row.

        Raises:
            ValidationError: If the table is of another kind, has other rows, or already has columns of these names.
            PlanError: If the plan's file cannot be read.

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

    def retry_failed(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Applies the plan again, including failed rows and conflicts.

        Sends the same kinds of requests as `Plan.apply`. Such a row keeps its status until the run has processed it.
        You need not retry unknown rows: every `apply` includes them.

        Args:
            on_conflict: What to do if someone else changed a field of the plan after the plan was created: "skip" (the
                default) leaves the account unchanged and marks the row as a conflict; "overwrite" sends the plan's
                value.
            progress: True (the default) shows the rows, the requests and the time left, and False shows nothing. A
                function is called on each change, with a dictionary of these values and of `text`, a line for people.
            on_unknown_member: What to do if an update clears a member of the account that it cannot include: `stage`,
                or a member that this version of replyio does not know. "stop" (the default) ends the run at the first
                such row. Later runs end before they update an account that has the member. "clear" continues, and
                clears the member in every account that the plan updates. "stop" also ends the run if an update empties
                a field that should have a value, or if an account has another stage, or an owner that its row did not
                set, after its update; the next run continues with the next row.

        Returns:
            The outcome of the rows.

        Raises:
            PlanError: If the file cannot be used, another run uses it, the plan was reverted, or the disk is full; or
                if `on_unknown_member="stop"` ends the run.
            ConfigurationError: If an option has a value that is not allowed.
            AuthenticationError: If the service refuses the key. Rows that the run did not write keep their status.
            ReplyError: If another failure ends the run. Rows that it did not write keep their status.
        """
        options = Options(on_conflict, on_unknown_member)
        warn_of_blocking("retry_failed")
        return self._subject()._run("retry_failed", options, progress)

    async def retry_failed_async(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Applies the plan again, including failed rows and conflicts.

        See `retry_failed`. Canceling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `retry_failed`.
            progress: True (the default) shows the rows, the requests and the time left, and False shows nothing. A
                function is called on each change, with a dictionary of these values and of `text`, a line for people.
            on_unknown_member: "stop" (the default) or "clear"; see `retry_failed`.

        Returns:
            The outcome of the rows.

        Raises:
            PlanError: If the file cannot be used, another run uses it, the plan was reverted, or the disk is full; or
                if `on_unknown_member="stop"` ends the run.
            ConfigurationError: If an option has a value that is not allowed.
            AuthenticationError: If the service refuses the key. Rows that the run did not write keep their status.
            ReplyError: If another failure ends the run. Rows that it did not write keep their status.
        """
        options = Options(on_conflict, on_unknown_member)
        return await self._subject()._run_async("retry_failed", options, progress)

    def revert(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Restores the previous values in the accounts that this plan has changed.

        The revert includes every row that was updated or may have been updated. If someone else changed a field since
        then, the row becomes a conflict. The revert is a plan, too, in a file next to this one
        (`acme.revert.replyplan`). The `plan` of the result is that plan, which you can stop, resume and revert. A
        revert sends the same kinds of requests as `Plan.apply`.

        If a revert was interrupted, this call resumes it. Otherwise it creates a new one (`acme.revert2.replyplan` and
        so on), which reads each account again. If an account already has the previous values, its row becomes
        `unchanged`.

        Args:
            on_conflict: What to do if someone else changed a field after this plan wrote it: "skip" (the default)
                leaves the account unchanged and marks the row as a conflict; "overwrite" restores the previous value.
            progress: True (the default) shows the rows, the requests and the time left, and False shows nothing. A
                function is called on each change, with a dictionary of these values and of `text`, a line for people.
            on_unknown_member: What to do if an update clears a member of the account that it cannot include: `stage`,
                or a member that this version of replyio does not know. "stop" (the default) ends the run at the first
                such row. Later runs end before they update an account that has the member. "clear" continues, and
                clears the member in every account that the plan updates. "stop" also ends the run if an update empties
                a field that should have a value, or if an account has another stage, or an owner that its row did not
                set, after its update; the next run continues with the next row.

        Returns:
            The outcome of the rows.

        Raises:
            PlanError: If the file cannot be used, another run uses it, or the disk is full; or if
                `on_unknown_member="stop"` ends the run.
            ConfigurationError: If an option has a value that is not allowed.
            AuthenticationError: If the service refuses the key. Rows that the run did not write keep their status.
            ReplyError: If another failure ends the run. Rows that it did not write keep their status.
        """
        options = Options(on_conflict, on_unknown_member)
        warn_of_blocking("revert")
        return self._file.reverse()._run("apply", options, progress)

    async def revert_async(
        self,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        progress: bool | Callable[[dict[str, Any]], object] = True,
        on_unknown_member: Literal["stop", "clear"] = "stop",
    ) -> ApplyResult:
        """Restores the previous values in the accounts that this plan has changed.

        See `revert`. Canceling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `revert`.
            progress: True (the default) shows the rows, the requests and the time left, and False shows nothing. A
                function is called on each change, with a dictionary of these values and of `text`, a line for people.
            on_unknown_member: "stop" (the default) or "clear"; see `revert`.

        Returns:
            The outcome of the rows.

        Raises:
            PlanError: If the file cannot be used, another run uses it, or the disk is full; or if
                `on_unknown_member="stop"` ends the run.
            ConfigurationError: If an option has a value that is not allowed.
            AuthenticationError: If the service refuses the key. Rows that the run did not write keep their status.
            ReplyError: If another failure ends the run. Rows that it did not write keep their status.
        """
        options = Options(on_conflict, on_unknown_member)
        plan = await start_async(self._file.reverse)
        return await plan._run_async("apply", options, progress)


class _Stopped:
    """What to say after a run that stopped."""

    __slots__ = ("_action", "_file", "_options", "_unknown_before")

    def __init__(self, file: _OpenPlan, action: str, options: Options) -> None:
        """Takes the run before it starts. With a limit, this reads the file."""
        self._file, self._action, self._options = file, action, options
        self._unknown_before = self._unknown()

    def told(self, state: dict[str, Any]) -> str:
        """Returns the line after a run that was interrupted: how to resume it."""
        opening, options = self._file.opening(), self._options._asdict()
        return _again.how_to_go_on(self._action, opening, self._of_run(state), options, in_command=is_command())

    def explain(self, error: PlanError, state: dict[str, Any]) -> None:
        """Adds to an error how to write the other rows, if the row at which the run stopped would stop it again."""
        if state["obstacle"] is None:
            return
        try:
            told = self._others(state)
        except ReplyError:  # no run can read the file either
            return
        if told:
            add_to(error, told)

    def _others(self, state: dict[str, Any]) -> str:
        """Returns how to write the other rows of the run."""
        statuses = ["pending", "unknown", *(["conflict"] if self._options.on_conflict == "overwrite" else [])]
        selected = None if self._options.rows is None else set(self._options.rows)
        found = [
            (each["status"] != "pending", each["row"])
            for each in PlanTable("rows", self._file.rows().of_status(statuses))
            if each["row"] != state["obstacle"] and (selected is None or each["row"] in selected)
        ]
        limit = None if self._options.limit is None else _again.limit_left(self._of_run(state))
        rows = [row for _, row in sorted(found)[:limit]]
        options = self._options._replace(limit=None)._asdict()
        return _again.without(self._action, self._file.opening(), rows, options, in_command=is_command())

    def _of_run(self, state: dict[str, Any]) -> dict[str, Any]:
        """Returns the state with the number of rows that became unknown in a run with a limit."""
        return {**state, "unknown": max(self._unknown() - self._unknown_before, 0)}

    def _unknown(self) -> int:
        """Returns the number of unknown rows; 0 if the file cannot be read, because then no run can resume it."""
        if self._options.limit is None:
            return 0
        try:
            return self._file.counts().get("unknown", 0)
        except ReplyError:
            return 0


class Plan(_PlanView):
    """Planned updates of many accounts, compared with the current accounts.

    A plan is a view of its file: each property and method reads the file. You can open any number of views, in any
    process, even while a run writes the file. You need not close a plan.
    """

    __slots__ = ()

    def __init__(self, file: _OpenPlan, path: str) -> None:
        """Creates a plan from its file.

        Use `ReplyClient.plan_contact_account_updates`, `ReplyClient.open_plan` or `replyio.read_plan` instead.

        Args:
            file: The open file.
            path: The path of the file, as it was passed.
        """
        super().__init__(file, path)

    @property
    def counts(self) -> dict[Status, int]:
        """The number of rows by status, and 0 for a status without rows. They add up to the rows of the input."""
        return self._file.counts()

    @property
    def requests(self) -> int | None:
        """The estimated number of requests left to send; None if unknown."""
        return self._file.header().get("requests_left")

    @property
    def seconds(self) -> float | None:
        """The estimated duration of these requests within the quota, in seconds; None if unknown."""
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
        """Sends the updates of all pending and unknown rows, within the quota.

        The run resumes where an earlier one stopped, even after a crash. It reads each account again before the update,
        with `GET /v3/contact-accounts` or `GET /v3/contact-accounts/{id}`, and sends
        `PUT /v3/contact-accounts/{id}` for each row. Each field that the plan does not change keeps its newest value.
        After Ctrl-C, the run waits at most five seconds for the updates in flight; a second Ctrl-C ends it immediately.
        Rows that were not sent stay pending.

        Args:
            on_conflict: What to do if someone else changed a field of the plan after the plan was created: "skip" (the
                default) leaves the account unchanged and marks the row as a conflict; "overwrite" sends the plan's
                value.
            progress: True (the default) shows the rows, the requests and the time left, and False shows nothing. A
                function is called on each change, with a dictionary of these values and of `text`, a line for people.
            on_unknown_member: What to do if an update clears a member of the account that it cannot include: `stage`,
                or a member that this version of replyio does not know. "stop" (the default) ends the run at the first
                such row. Later runs end before they update an account that has the member. "clear" continues, and
                clears the member in every account that the plan updates. "stop" also ends the run if an update empties
                a field that should have a value, or if an account has another stage, or an owner that its row did not
                set, after its update; the next run continues with the next row.
            rows: The rows to update: row numbers, or a table with a column `row`. The table is a DataFrame, a list of
                mappings, or the path of a CSV, JSON Lines or Parquet file. For example, export the changes and remove
                lines; keep or remove all lines of a row together. Default None: every row.
            limit: The maximum number of rows to update: first a row whose update may have cleared a member, if the plan
                has one, then the pending rows, then the others, each in the order of their numbers. Default None: all
                rows.
            max_changes: Refuse the run, and send nothing, if it would change more accounts than this. Default None: no
                limit.
            max_cleared: Refuse the run, and send nothing, if it would empty more fields than this. Default None: no
                limit.

        Returns:
            The outcome of the rows. Failed rows do not raise an error; see `ApplyResult.raise_for_failures`.

        Raises:
            ValidationError: If `rows` cannot be read, or does not match the plan.
            PlanError: If the file cannot be used, another run uses it, the plan was reverted and `rows` is None, or the
                disk is full; if the run would exceed `max_changes` or `max_cleared`; or if `on_unknown_member="stop"`
                ends the run.
            ConfigurationError: If an option has a value that is not allowed.
            AuthenticationError: If the service refuses the key. Rows that the run did not write keep their status.
            ReplyError: If another failure ends the run. Rows that it did not write keep their status.
        """
        options = Options(on_conflict, on_unknown_member, limit, max_changes, max_cleared)
        warn_of_blocking("apply")
        try:
            options = self._of_rows(options, rows)
        finally:
            del rows  # a traceback that shows local variables must not show field values
        return self._run("apply", options, progress)

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
        """Sends the updates of all pending and unknown rows, within the quota.

        See `apply`. Canceling the task stops the run as Ctrl-C does.

        Args:
            on_conflict: "skip" (the default) or "overwrite"; see `apply`.
            progress: True (the default) shows the rows, the requests and the time left, and False shows nothing. A
                function is called on each change, with a dictionary of these values and of `text`, a line for people.
            on_unknown_member: "stop" (the default) or "clear"; see `apply`.
            rows: Row numbers, or a table with a column `row`. Default None: every row.
            limit: The maximum number of rows to update. Default None: all rows.
            max_changes: The maximum number of accounts that the run may change. Default None: no limit.
            max_cleared: The maximum number of fields that the run may empty. Default None: no limit.

        Returns:
            The outcome of the rows. Failed rows do not raise an error; see `ApplyResult.raise_for_failures`.

        Raises:
            ValidationError: If `rows` cannot be read, or does not match the plan.
            PlanError: If the file cannot be used, another run uses it, the plan was reverted and `rows` is None, or the
                disk is full; if the run would exceed `max_changes` or `max_cleared`; or if `on_unknown_member="stop"`
                ends the run.
            ConfigurationError: If an option has a value that is not allowed.
            AuthenticationError: If the service refuses the key. Rows that the run did not write keep their status.
            ReplyError: If another failure ends the run. Rows that it did not write keep their status.
        """
        options = Options(on_conflict, on_unknown_member, limit, max_changes, max_cleared)
        if rows is not None:
            # A cursor of a database belongs to this thread.
            given: list[object] = [list(cast("Iterator[object]", rows)) if isinstance(rows, Iterator) else rows]
            del rows  # a traceback that shows local variables must not show field values
            options = await asyncio.to_thread(lambda: self._of_rows(options, given.pop()))
        return await self._run_async("apply", options, progress)

    def _subject(self) -> Plan:
        return self

    def _of_rows(self, options: Options, rows: object) -> Options:
        """Returns the options of a run with the selected rows."""
        if rows is None:
            return options
        from replyio._selection import selected

        try:
            return options._replace(rows=selected(rows, self._file.rows(), self._file.changes()))
        except ValidationError as error:
            refusal = error.with_traceback(None)  # the frames that read the table have field values
        finally:
            del rows
        raise refusal from None

    def _run(self, action: str, options: Options, progress: bool | Callable[[dict[str, Any]], object]) -> ApplyResult:
        show = show_for(progress)  # it may import a library, and Ctrl-C meanwhile must not leave a job behind
        try:
            stopped = _Stopped(self._file, action, options)
            job = self._file.start(action, options)
            try:
                drive(job, show, stopped.told)
            except PlanError as error:
                stopped.explain(error, job.progress())
                raise
            return self._result(job)
        except BaseException:  # a message has already shown the name of the file
            self._file.keep()
            raise

    async def _run_async(
        self, action: str, options: Options, progress: bool | Callable[[dict[str, Any]], object]
    ) -> ApplyResult:
        show = show_for(progress)
        try:
            # With a limit, it reads the file.
            reads = options.limit is not None
            run = (self._file, action, options)
            stopped = await asyncio.to_thread(_Stopped, *run) if reads else _Stopped(*run)
            job = await start_async(self._file.start, action, options)
            try:
                await drive_async(job, show, stopped.told)
            except PlanError as error:
                await asyncio.to_thread(stopped.explain, error, job.progress())
                raise
            return await asyncio.to_thread(self._result, job)
        except BaseException:  # a message has already shown the name of the file
            self._file.keep()
            raise

    def _result(self, job: Job) -> ApplyResult:
        state = job.progress()
        result = ApplyResult(self, self._file, state["requests"], state["seconds"])
        if result.counts.get("unknown"):  # the only record of what these rows may have overwritten
            self._file.keep()
        if not result.requests and result.counts.get("changed"):
            self._warn_of_a_revert()
        return result

    def _warn_of_a_revert(self) -> None:
        """Warns about a run that had nothing to write although the accounts have their previous values."""
        revert = self._file.blocked_by()
        if revert is not None:
            import logging

            again = "plan the table again with another save_as="
            if self._file.is_revert():
                again = f"revert {safe_text(revert)}"
            logging.getLogger("replyio").warning(
                "nothing was sent: %s was reverted by %s, or is being reverted, so no run writes its changed rows "
                "again; to write the values again, %s",
                *map(safe_text, (self._path, revert)),
                again,
            )

    def close(self) -> None:
        """Does nothing: a plan is a view of its file and stays usable. It exists for `with`."""

    def __enter__(self) -> Self:
        """Returns the plan."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Does nothing; see `close`."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Returns the rows as an Arrow stream; see `rows`.

        Args:
            requested_schema: Ignored, as the interface allows.

        Returns:
            A capsule with the stream.

        Raises:
            PlanError: If the file cannot be read.
        """
        return self.rows.__arrow_c_stream__(requested_schema)

    def to_pandas(self) -> pandas.DataFrame:
        """Returns the rows as a pandas DataFrame; see `rows`.

        Returns:
            A DataFrame with one row per row of the input.

        Raises:
            PlanError: If the file cannot be read.
            ImportError: If pandas is not installed.
        """
        return self.rows.to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """Returns the rows as a polars DataFrame; see `rows`.

        Returns:
            A DataFrame with one row per row of the input.

        Raises:
            PlanError: If the file cannot be read.
            ImportError: If polars is not installed.
        """
        return self.rows.to_polars()

    @property
    def cleared(self) -> int:
        """The number of fields that had a value when the plan was created and that the plan empties."""
        cleared: int = self._file.header().get("cleared", 0)
        return cleared

    @property
    def suspicious(self) -> dict[str, int]:
        """The number of suspicious cells by column.

        Suspicious cells are texts that often mean an empty value, such as `NULL`, `N/A`, `-` and `nan`; numbers that a
        program has altered, such as a phone number as `4.91E+11` or `4721000001.0`; dates; formulas; texts that begin
        or end with white space or an invisible character; texts in double quotes; texts that a program has damaged,
        such as `AT&amp;T` or `BÃ¦rum`; and possible error values of LibreOffice. The plan sends them unchanged, unless
        `null_values=` treats them as empty cells. `suspicious_changes` has those that the plan writes.
        """
        return {column: cells for column, cells, _ in self._suspicions()}

    def _suspicions(self) -> Sequence[tuple[str, int, int]]:
        """Returns the columns that have suspicious cells, with the number of such cells and the first row."""
        found: Sequence[tuple[str, int, int]] = self._file.header().get("suspicious", ())
        return found

    def _notes(self) -> list[str]:
        """Returns what people must know before they apply the plan."""
        return [text.cleared_text(self.cleared), text.suspicious_text(self._suspicions())]

    def _cost(self) -> str:
        header = self._file.header()
        return text.cost_text(header.get("requests_left"), header.get("seconds_left"))

    def __repr__(self) -> str:
        """Returns a text with the counts and the requests left."""
        try:
            return text.line("Plan", self._name(), self.counts, self._cost(), self._notes())
        except ReplyError as error:  # the file is missing; displaying a variable must not raise an exception
            return text.printable(f"<Plan {text.cell(self._name())}: {error}>")

    def _repr_html_(self) -> str:
        """Returns the counts and the first changes as HTML, for a notebook."""
        title = f"Plan {self._name()}"
        try:
            counts = self.counts
            read_only = None if self.requests is not None else self._file.opening()
            hints = text.plan_hints(counts, rest_of(self, counts), read_only, text.as_frame(), self._conflicts(counts))
            inner = self._rows_html(counts, self._file.stored_otherwise())
            return text.box_html(title, self._cost(), counts, inner, hints, self._notes())
        except ReplyError as error:
            return text.box_html(title, "", {}, "", [], [str(error)])


class ApplyResult(_PlanView):
    """The outcome of the rows of a plan.

    The counts are those at the end of the run. The tables are read from the plan's file on first use.
    """

    __slots__ = ("_counts", "_plan", "_requests", "_seconds", "_stored_otherwise")

    def __init__(self, plan: Plan, file: _OpenPlan, requests: int, seconds: float) -> None:
        """Creates the result of a finished run. `Plan.apply` and similar methods return it.

        Args:
            plan: The plan.
            file: The plan's file.
            requests: The number of requests sent.
            seconds: The duration in seconds.
        """
        super().__init__(file, plan.path)
        self._plan = plan
        self._counts = self._file.counts()
        self._stored_otherwise = self._file.stored_otherwise()
        self._requests = requests
        self._seconds = seconds

    @property
    def counts(self) -> dict[Status, int]:
        """The number of rows by status at the end of the run, and 0 for a status without rows."""
        return Counts(self._counts)

    @property
    def stored_otherwise(self) -> int:
        """The number of rows whose `stored_otherwise` is true; see `rows`."""
        return self._stored_otherwise

    @property
    def requests(self) -> int:
        """The number of requests sent."""
        return self._requests

    @property
    def seconds(self) -> float:
        """The duration of the run in seconds."""
        return self._seconds

    @property
    def plan(self) -> Plan:
        """The plan that was applied. Use it to resume, look at rows, or revert."""
        return self._plan

    def _subject(self) -> Plan:
        return self._plan

    def raise_for_failures(self) -> None:
        """Raises an error if a row was not done, or if its `stored_otherwise` is true.

        Raises:
            ReplyError: If there is such a row. The message contains the counts and the first of these rows.
                `may_have_been_applied` is true if a row is unknown.
        """
        missing, total = text.not_done(self._counts), sum(self._counts.values())
        problems: list[str] = []
        if missing:
            problems.append(f"{missing:,} of {text.counted(total, 'row')} not done: {text.counts_text(self._counts)}")
        if self._stored_otherwise:
            problems.append(text.stored_otherwise_text(self._stored_otherwise))
        if not problems:
            return
        message = "; ".join(problems)
        for first in islice(self.failures, 1):
            row = f"row {first.get('row')}: "
            reason = safe_text(str(first.get("error") or first.get("status")))
            message += f"; the first is {row}{reason.removeprefix(row)}"
        message += "; result.failures lists these rows, except pending ones"
        raise ReplyError(message, may_have_been_applied=self._counts.get("unknown", 0) > 0)

    def __repr__(self) -> str:
        """Returns a text with the counts, requests and duration."""
        return text.line("ApplyResult", self._name(), self._counts, self._spent(), self._notes())

    def _repr_html_(self) -> str:
        """Returns the counts and the first changes as HTML, for a notebook."""
        title = f"Result of {self._name()}"
        try:
            rest = rest_of(self, self._counts)
            conflicts = self._conflicts(self._counts)
            hints = text.result_hints(self._counts, rest, self._stored_otherwise, text.as_frame(), conflicts)
            inner = self._rows_html(self._counts, self._stored_otherwise)
            return text.box_html(title, self._spent(), self._counts, inner, hints, self._notes())
        except ReplyError as error:  # the counts are known, but the file is missing
            return text.box_html(title, self._spent(), self._counts, "", [], [*self._notes(), str(error)])

    def _notes(self) -> list[str]:
        """Returns what people must know first."""
        return [text.stored_otherwise_text(self._stored_otherwise)]

    def _spent(self) -> str:
        return text.spent_text(self._requests, self._seconds)


complete(globals())
