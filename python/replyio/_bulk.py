"""How plans are made, opened and started: between the client and `replyio.plans`."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from replyio import _replyio
from replyio._progress import drive, drive_async, show_for
from replyio.plans import ApplyResult, Plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from replyio._progress import Job

# Rows in flight at once. Within the quota two would do; without one, twice as many would be faster by half. But so many
# rows are unknown after a crash, and eight are enough for thousands a second.
_CONCURRENCY = 8


def _check(on_conflict: str, on_unknown_member: str) -> None:
    from replyio.errors import ConfigurationError

    if on_conflict not in {"skip", "overwrite"}:
        raise ConfigurationError('on_conflict must be "skip" or "overwrite"')
    if on_unknown_member not in {"stop", "clear"}:
        raise ConfigurationError('on_unknown_member must be "stop" or "clear"')


class PlanFile:
    """A plan's file, with what it costs a client to apply the rest of it."""

    __slots__ = ("_core", "_directory", "_file")

    def __init__(self, core: _replyio.Client, file: _replyio.PlanFile, directory: Directory | None = None) -> None:
        """Takes an open file, and the folder that is to go with it."""
        self._core = core
        self._file = file
        self._directory = directory

    def header(self) -> dict[str, Any]:
        """What the plan was made for, and what is left to do."""
        requests, seconds = self._file.estimate(self._core)
        return {**self._file.header(), "requests_left": requests, "seconds_left": seconds}

    def counts(self) -> dict[str, int]:
        """Rows by status."""
        return self._file.counts()

    def rows(self) -> _replyio.Report:
        """Every row."""
        return self._file.rows()

    def changes(self) -> _replyio.Report:
        """Every change."""
        return self._file.changes()

    def failures(self) -> _replyio.Report:
        """The rows that fell short."""
        return self._file.failures()

    def close(self) -> None:
        """Removes the file, where nobody asked to keep it."""
        if self._directory is not None:
            self._directory.remove()

    def stored_otherwise(self) -> int:
        """How many rows the service stored differently from what was sent."""
        return self._file.stored_otherwise()

    def start(self, action: str, on_conflict: str, on_unknown_member: str) -> Job:
        """Starts a job over it."""
        _check(on_conflict, on_unknown_member)
        return self._file.apply(
            self._core,
            overwrite=on_conflict == "overwrite",
            clear_unknown_members=on_unknown_member == "clear",
            retry_failed=action == "retry_failed",
            concurrency=_CONCURRENCY,
        )

    def reverse(self) -> Plan:
        """The plan that reverts this one, in a file beside it: a new one, or one that has rows left to do."""
        file = self._file.revert_file()
        return plan_of(self._core, file, str(file.path))


class Directory:
    """A folder for a plan that nobody wants to keep. It goes when the plan is closed or forgotten."""

    __slots__ = ("__weakref__", "_finalizer", "path")

    def __init__(self) -> None:
        """Makes it.

        Raises:
            PlanError: When it cannot be made.
        """
        try:
            self.path = tempfile.mkdtemp(prefix="replyio-")
        except OSError as error:
            from replyio.errors import PlanError

            message = f"no temporary folder for the plan can be made: {error.strerror}"
            raise PlanError(f"{message}; hint: give save_as= a file, and see that there is room") from None
        self._finalizer = weakref.finalize(self, _remove, self.path, os.getpid())

    def remove(self) -> None:
        """Removes it."""
        self._finalizer()

    def keep(self) -> None:
        """Leaves it there."""
        self._finalizer.detach()


def _remove(path: str, process: int) -> None:
    # A forked child has a copy of this, and not the plan.
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


def plan_of(
    core: _replyio.Client, file: _replyio.PlanFile, path: str | None, directory: Directory | None = None
) -> Plan:
    """Makes the plan of an open file."""
    wrapped = PlanFile(core, file, directory)
    return Plan(wrapped, path, wrapped.start, wrapped.reverse)


class Planning:
    """A plan that is being made: what its two ways of waiting have in common."""

    def __init__(
        self,
        core: _replyio.Client,
        data: object,
        save_as: str | os.PathLike[str] | None,
        mode: Literal["patch", "fill", "replace"],
        nulls: Literal["keep", "clear"],
        match_on: Literal["id", "domain_name", "name"],
        ignore: Iterable[str],
        on_conflict: str = "skip",
        on_unknown_member: str = "stop",
        reading: Mapping[str, object] | None = None,
    ) -> None:
        """Reads the table and starts. The data and the options are checked before any request."""
        _check(on_conflict, on_unknown_member)
        options = {"mode": mode, "nulls": nulls, "match_on": match_on, "ignore": ignore}
        table = _replyio.Table(data, {**options, **(reading or {})})
        self._core = core
        self._directory = Directory() if save_as is None else None
        self.path = None if save_as is None else os.fspath(save_as)
        self._file_path = self.path or str(Path(getattr(self._directory, "path", ""), "plan.replyplan"))
        self.job = _replyio.PlanFile.plan(core, table, options, self._file_path)

    def plan(self, result: Any) -> Plan:
        """The plan that was made."""
        return plan_of(self._core, result, self.path, self._directory)

    def kept(self, plan: Plan) -> Plan:
        """The same plan under its real path, and not removed with the object: whoever is interrupted needs it."""
        if self._directory is not None:
            self._directory.keep()
        return plan.at(self._file_path)

    def finish(self, result: ApplyResult) -> ApplyResult:
        """Leaves nothing behind that nobody asked for, once every row is done."""
        if self._directory is not None and not result.counts.keys() & {"pending", "unknown", "failed", "conflict"}:
            result.read_all()
            shutil.rmtree(self._directory.path, ignore_errors=True)
        return result


def make(planning: Planning, progress: bool) -> Plan:
    """Waits for a plan."""
    return planning.plan(drive(planning.job, show_for(progress), "plan", planning.path))


async def make_async(planning: Planning, progress: bool) -> Plan:
    """Waits for a plan without holding the event loop up."""
    return planning.plan(await drive_async(planning.job, show_for(progress), "plan", planning.path))


def update(
    planning: Planning,
    on_conflict: Literal["skip", "overwrite"],
    progress: bool,
    on_unknown_member: Literal["stop", "clear"],
) -> ApplyResult:
    """Plans and applies."""
    plan = planning.kept(make(planning, progress))
    return planning.finish(plan.apply(on_conflict, progress, on_unknown_member))


async def update_async(
    planning: Planning,
    on_conflict: Literal["skip", "overwrite"],
    progress: bool,
    on_unknown_member: Literal["stop", "clear"],
) -> ApplyResult:
    """Plans and applies without blocking the event loop."""
    plan = planning.kept(await make_async(planning, progress))
    return planning.finish(await plan.apply_async(on_conflict, progress, on_unknown_member))
