"""How plans are made, opened and started: between the client and `replyio.plan`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replyio import _replyio, _state
from replyio._counts import Counts
from replyio._plan_text import opened
from replyio._progress import drive, drive_async, show_for
from replyio.errors import ConfigurationError, FieldError, PlanError, ReplyError, ValidationError
from replyio.plan import ApplyResult, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from replyio._progress import Job
    from replyio.plan import Options

# Rows in flight at once. Within the quota two would do; without one, sixteen would be faster by half. But all rows in
# flight are unknown after a crash, and eight are enough for thousands of rows a second.
_CONCURRENCY = 8
_WORDS = {
    "on_conflict": ("skip", "overwrite"),
    "on_unknown_member": ("stop", "clear"),
    "if_exists": ("error", "resume", "replace"),
}
_LIMITS = ("limit", "max_changes", "max_cleared")
_LARGEST = 2**63 - 1


def check(options: Mapping[str, Any]) -> None:
    """Checks the options of a run.

    Args:
        options: The options by name; others than those of a run are not looked at.

    Raises:
        ConfigurationError: When one cannot be used.
    """
    for name, words in _WORDS.items():
        if name in options and options[name] not in words:
            *first, last = (f'"{word}"' for word in words)
            raise ConfigurationError(f"{name} must be {', '.join(first)} or {last}")
    for name in _LIMITS:
        number: object = options.get(name)
        is_number = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _LARGEST
        if number is not None and not is_number:
            raise ConfigurationError(f"{name} must be None or a whole number, 0 or greater")


class PlanFile:
    """A plan's file, with what it costs a client to apply the rest of it."""

    __slots__ = ("_core", "_file", "_temporary")

    def __init__(
        self, core: _replyio.Client | None, file: _replyio.PlanFile, temporary: _state.Temporary | None = None
    ) -> None:
        """Takes an open file, and the temporary folder that is to stay as long as it is used."""
        self._core = core
        self._file = file
        self._temporary = temporary

    def header(self) -> dict[str, Any]:
        """What the plan was made for, and what is left to do where a client is there to do it."""
        requests, seconds = (None, None) if self._core is None else self._file.estimate(self._core)
        return {**self._file.header(), "requests_left": requests, "seconds_left": seconds}

    def counts(self) -> Counts:
        """Rows by status."""
        return Counts(self._file.counts())

    def rows(self) -> _replyio.Report:
        """Every row."""
        return self._file.rows()

    def changes(self) -> _replyio.Report:
        """Every change."""
        return self._file.changes()

    def first_failures(self, limit: int) -> list[dict[str, Any]]:
        """The first rows that fell short."""
        return self._file.first_failures(limit)

    def first_changes(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """The first changes, and how many there are."""
        return self._file.first_changes(limit)

    def failures(self) -> _replyio.Report:
        """The rows that fell short."""
        return self._file.failures()

    def stored_otherwise(self) -> int:
        """How many rows the service stored differently from what was sent."""
        return self._file.stored_otherwise()

    def keep(self) -> None:
        """Leaves the file there when the process ends: somebody was told its name."""
        if self._temporary is not None:
            self._temporary.keep()

    def start(self, action: str, options: Options) -> Job:
        """Starts a job over it."""
        check(options)
        return self._file.apply(
            self._client(),
            overwrite=options["on_conflict"] == "overwrite",
            clear_unknown_members=options["on_unknown_member"] == "clear",
            retry_failed=action == "retry_failed",
            concurrency=_CONCURRENCY,
            rows=None if options["rows"] is None else set(options["rows"]),
            limit=options["limit"],
            max_changes=options["max_changes"],
            max_cleared=options["max_cleared"],
        )

    def reverse(self) -> Plan:
        """The plan that reverts this one, in a file beside it."""
        core = self._client()
        return plan_of(core, self._file.revert_file(), temporary=self._temporary)

    def _client(self) -> _replyio.Client:
        if self._core is None:
            path = os.fspath(self._file.path)
            raise PlanError(f"plan file {path}: read_plan() only reads; {opened(path)} can apply it")
        return self._core


def plan_of(
    core: _replyio.Client | None,
    file: _replyio.PlanFile,
    *,
    temporary: _state.Temporary | None = None,
) -> Plan:
    """Makes the plan of an open file.

    Args:
        core: The client that applies it; None for a plan that is only read.
        file: The file.
        temporary: The temporary folder around it.

    Returns:
        The plan.
    """
    wrapped = PlanFile(core, file, temporary)
    return Plan(wrapped, os.fspath(file.path), wrapped.start, wrapped.reverse)


class Planning:
    """A plan that is being made: what its two ways of waiting have in common."""

    def __init__(
        self,
        core: _replyio.Client,
        data: object,
        save_as: str | os.PathLike[str] | None,
        if_exists: str,
        options: Mapping[str, object],
    ) -> None:
        """Reads the table and starts, or finds the plan to resume. All of it is checked before any request.

        Args:
            core: The client.
            data: The table.
            save_as: The file of the plan; None keeps it in the state directory.
            if_exists: What to do when the file is there: "error", "resume" or "replace".
            options: What the columns mean, and how they are read.
        """
        check({"if_exists": if_exists})
        if save_as is None and if_exists != "error":
            raise ConfigurationError(f'if_exists="{if_exists}" needs save_as=, the file of the plan')
        table = _replyio.Table(data, dict(options))
        self._core = core
        self._temporary: _state.Temporary | None = None
        self._aside: str | None = None
        if save_as is None:
            self.path, self._temporary = _state.new_file()
        else:
            self.path = os.fspath(save_as)
        if if_exists == "resume":
            found = _replyio.PlanFile.resume(core, table, dict(options), self.path)
            if found is not None:
                self.work: Plan | Job = plan_of(core, found)
                return
        if if_exists == "replace" and _replyio.PlanFile.is_replaceable(self.path):
            self._aside = f"{self.path}.replaced"
            os.replace(self.path, self._aside)  # noqa: PTH105 - both are texts
        with self._or_back():
            self.work = _replyio.PlanFile.plan(core, table, dict(options), self.path)

    def made(self, file: Any) -> Plan:
        """The plan that was made. The one that it replaces goes."""
        if self._aside is not None:
            Path(self._aside).unlink(missing_ok=True)
        return plan_of(self._core, file, temporary=self._temporary)

    @contextmanager
    def _or_back(self) -> Generator[None]:
        """Restores the plan that would have been replaced, when no new plan was made."""
        try:
            yield
        except BaseException:
            if self._aside is not None:
                os.replace(self._aside, self.path)  # noqa: PTH105 - both are texts
            raise

    def wait(self, progress: bool | Callable[[dict[str, Any]], object]) -> Plan:
        """Waits for the plan."""
        if isinstance(self.work, Plan):
            return self.work
        with self._or_back():
            file = drive(self.work, show_for(progress), "plan", self.path)
        return self.made(file)

    async def wait_async(self, progress: bool | Callable[[dict[str, Any]], object]) -> Plan:
        """Waits for the plan without blocking the event loop."""
        if isinstance(self.work, Plan):
            return self.work
        with self._or_back():
            file = await drive_async(self.work, show_for(progress), "plan", self.path)
        return self.made(file)


@contextmanager
def _telling_where(plan: Plan) -> Generator[None]:
    """Has an error that stops a one-shot call say where its plan is."""
    try:
        yield
    except ReplyError as error:
        error.message = f"{error.message}; the plan is kept: resume it with {opened(plan.path)}.apply()"
        error.args = (error.message,)
        raise


def patch(
    planning: Planning, progress: bool | Callable[[dict[str, Any]], object], options: Mapping[str, Any]
) -> ApplyResult:
    """Plans and applies."""
    plan = planning.wait(progress)
    with _telling_where(plan):
        return plan.apply(**options, progress=progress)


async def patch_async(
    planning: Planning, progress: bool | Callable[[dict[str, Any]], object], options: Mapping[str, Any]
) -> ApplyResult:
    """Plans and applies without blocking the event loop."""
    plan = await planning.wait_async(progress)
    with _telling_where(plan):
        return await plan.apply_async(**options, progress=progress)


def check_patch(mode: str, options: Mapping[str, Any]) -> None:
    """Checks what a one-shot call is asked for, before it reads its table.

    Args:
        mode: What the columns do.
        options: The options of the run.

    Raises:
        ValidationError: When it would replace accounts.
        ConfigurationError: When an option of the run cannot be used.
    """
    if mode == "replace":
        fault = FieldError(
            "mode",
            'must be "patch" or "fill": this call never replaces an account. To replace many accounts, review a plan: '
            'plan_contact_account_updates(..., mode="replace")',
        )
        raise ValidationError(f"{fault.field} {fault.message}", errors=[fault])
    check(options)
