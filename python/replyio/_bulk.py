"""Creates, opens and starts plans: the layer between the client and `replyio.plan`."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from replyio import _replyio, _state
from replyio._again import Opening, call, opened
from replyio._counts import Counts
from replyio._progress import GRACE, drive, drive_async, settings_of_the_command, show_for, start_async
from replyio._replaced import Replaced
from replyio.errors import ConfigurationError, FieldError, PlanError, ReplyError, ValidationError, add_to
from replyio.plan import ApplyResult, Plan, opening_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from replyio._replyio import Job
    from replyio.plan import Options

_WORDS = {
    "on_conflict": ("skip", "overwrite"),
    "on_unknown_member": ("stop", "clear"),
    "if_exists": ("error", "resume", "replace"),
}
_LIMITS = ("limit", "max_changes", "max_cleared")
_LARGEST = 2**63 - 1
_STOPPED = "replyio: planning stopped, and no account was changed; plan again to start over"
# How many seconds rows of Python objects are read for, before other tasks of the event loop get their turn.
_TURN = 0.002


def check(options: Mapping[str, Any]) -> None:
    """Checks the options of a run.

    Args:
        options: The options by name. Ignores options that do not belong to a run.

    Raises:
        ConfigurationError: If one cannot be used.
    """
    for name, words in _WORDS.items():
        if name in options and options[name] not in words:
            *first, last = (f'"{word}"' for word in words)
            raise ConfigurationError(f"{name} must be {', '.join(first)} or {last}")
    for name in _LIMITS:
        number: object = options.get(name)
        is_number = isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= _LARGEST
        if number is not None and not is_number:
            raise ConfigurationError(f"{name} must be None or a whole number from 0 to {_LARGEST}")


class OpenPlan:
    """The file of a plan, with an estimate for the rest of it."""

    __slots__ = (
        "_core",
        "_file",
        "_new_key",
        "_place",
        "_temporary",
        "changes",
        "failures",
        "first_changes",
        "first_failures",
        "rows",
        "stored_otherwise",
        "suspicious_changes",
    )

    def __init__(
        self,
        core: _replyio.Client | None,
        file: _replyio.PlanFile,
        temporary: _state.Temporary | None = None,
        *,
        new_key: bool = False,
    ) -> None:
        """Takes an open file, and the temporary directory that must exist while the file is in use."""
        self._core = core
        self._file = file
        self._temporary = temporary
        self._new_key = new_key
        self._place = _absolute(os.fspath(file.path))
        self.rows, self.changes, self.failures = file.rows, file.changes, file.failures
        self.first_changes, self.first_failures = file.first_changes, file.first_failures
        self.stored_otherwise, self.suspicious_changes = file.stored_otherwise, file.suspicious_changes

    def header(self) -> dict[str, Any]:
        """Returns the purpose of the plan and, with a client, an estimate of the rest."""
        requests, seconds = (None, None) if self._core is None else self._file.estimate(self._core)
        return {**self._file.header(), "requests_left": requests, "seconds_left": seconds}

    def counts(self) -> Counts:
        """Returns the number of rows by status."""
        return Counts(self._file.counts())

    def keep(self) -> None:
        """Keeps the file after the end of the process, because a message contains its name."""
        if self._temporary is not None:
            self._temporary.keep()

    def start(self, action: str, options: Options) -> Job:
        """Starts a job for the plan."""
        check(options._asdict())
        return self._file.apply(
            self._client(),
            overwrite=options.on_conflict == "overwrite",
            clear_unknown_members=options.on_unknown_member == "clear",
            retry_failed=action == "retry_failed",
            rows=None if options.rows is None else set(options.rows),
            limit=options.limit,
            max_changes=options.max_changes,
            max_cleared=options.max_cleared,
        )

    def reverse(self) -> Plan:
        """Returns the plan that reverts this one, in a file next to it."""
        core = self._client()
        return plan_of(core, self._file.revert_file(core), temporary=self._temporary, new_key=self._new_key)

    def blocked_by(self) -> str | None:
        """Returns the file that blocks runs of the plan."""
        revert = self._file.blocked_by()
        return None if revert is None else os.fspath(revert)

    def is_revert(self) -> bool:
        """Returns whether the plan reverts another one."""
        return bool(self._file.header()["is_revert"])

    def opening(self) -> Opening:
        """Returns how to open the plan again, from the current directory."""
        path, header = os.fspath(self._file.path), self._file.header()
        settings = {name: header.get(name) for name in ("act_as", "team_id")}
        # A relative path names another file after a change of the directory.
        here = path if self._place in {None, _absolute(path)} else str(self._place)
        return Opening(here, {**settings, "new_key": self._new_key, **settings_of_the_command()})

    def _client(self) -> _replyio.Client:
        if self._core is None:
            path = os.fspath(self._file.path)
            raise PlanError(f"plan file {path}: read_plan() only reads; use {opened(self.opening())} to apply it")
        return self._core


def plan_of(
    core: _replyio.Client | None,
    file: _replyio.PlanFile,
    *,
    temporary: _state.Temporary | None = None,
    new_key: bool = False,
) -> Plan:
    """Returns the plan of an open file.

    Args:
        core: The client that applies it; None for a read-only plan.
        file: The file.
        temporary: Its temporary directory, if there is one.
        new_key: Whether it was opened with another key than the one that created it.

    Returns:
        The plan.
    """
    return Plan(OpenPlan(core, file, temporary, new_key=new_key), os.fspath(file.path))


def _absolute(path: str) -> str | None:
    """Returns the absolute path of a file; None if the current directory does not exist."""
    try:
        return os.path.abspath(path)  # noqa: PTH100 - of a string, without a look at links
    except OSError:
        return None


class Planning:
    """A plan during its creation: the common part of the synchronous and the asynchronous call."""

    def __init__(
        self,
        core: _replyio.Client,
        data: object,
        save_as: str | os.PathLike[str] | None,
        if_exists: str,
        options: Mapping[str, object],
    ) -> None:
        """Checks the arguments. Reads nothing.

        Args:
            core: The client.
            data: The table.
            save_as: The file of the plan; None for one in the state directory.
            if_exists: What to do if the file exists: "error", "resume" or "replace".
            options: The options for the columns and their format.
        """
        self._data = data
        del data  # a traceback that shows local variables must not show field values
        check({"if_exists": if_exists})
        if save_as is None and if_exists != "error":
            raise ConfigurationError(f'if_exists="{if_exists}" needs save_as=, the file of the plan')
        self._core = core
        self._save_as = save_as
        self._if_exists = if_exists
        self._options = dict(options)
        self._temporary: _state.Temporary | None = None
        self._replaced: Replaced | None = None
        self._job: Job | None = None
        self.path = ""

    async def _table_async(self) -> _replyio.Table:
        """Reads the table. Does not block the event loop.

        Rows of Python objects may belong to this thread, as those of a database do: it reads them itself, in turns.
        """
        reader = _replyio.Table.start(self._data, self._options)
        while not reader.step(_TURN):  # noqa: ASYNC110 - each step does a part of the work
            await asyncio.sleep(0)
        return await asyncio.to_thread(reader.table)

    def _start(self, table: _replyio.Table) -> Plan | Job:
        """Starts, or finds the plan to resume. Checks everything before any request."""
        if self._save_as is None:
            self.path, self._temporary = _state.new_file()
        else:
            self.path = os.fspath(self._save_as)
        if self._if_exists == "resume":
            found = _replyio.PlanFile.resume(self._core, table, self.path)
            if found is not None:
                return plan_of(self._core, found)
        if self._if_exists == "replace":
            self._replaced = Replaced(self.path)
            self._replaced.move()
        self._job = _replyio.PlanFile.plan(self._core, table, self.path)
        return self._job

    def made(self, file: Any) -> Plan:
        """Returns the new plan. Deletes the replaced one."""
        if self._replaced is not None:
            self._replaced.delete()
        return plan_of(self._core, file, temporary=self._temporary)

    @contextmanager
    def _or_back(self) -> Generator[None]:
        """Restores the old plan if no new plan was created."""
        try:
            yield
        except GeneratorExit:
            with suppress(RuntimeError):  # the interpreter ends
                threading.Thread(target=self._back_later).start()
            raise
        except BaseException as error:
            if left := self._back():
                _tell(error, f"the plan to be replaced is now {_replyio.safe_text(left)}")
            raise

    def _back(self) -> str | None:
        """Restores the old plan. Returns its file if it cannot have its name back."""
        if self._replaced is None:
            return None
        if self._is_complete():
            self._replaced.delete()
            return None
        return self._replaced.restore()

    def _back_later(self) -> None:
        """Restores the old plan after the end of the job, for which a closed coroutine cannot wait."""
        if self._job is not None:
            with suppress(ReplyError):
                self._job.wait(GRACE)
        self._back()

    def _is_complete(self) -> bool:
        """Returns whether the job has created the new plan, although the call was interrupted."""
        try:
            return self._job is not None and self._job.result() is not None
        except Exception:  # noqa: BLE001 - it has failed, or was abandoned
            return False

    def wait(self, progress: bool | Callable[[dict[str, Any]], object]) -> Plan:
        """Waits for the plan."""
        table = _replyio.Table(self._data, self._options)
        show = show_for(progress)  # it may import a library, and Ctrl-C meanwhile must not leave a job behind
        with self._or_back():
            work = self._start(table)
            if isinstance(work, Plan):
                return work
            file = drive(work, show, _STOPPED)
        return self.made(file)

    async def wait_async(self, progress: bool | Callable[[dict[str, Any]], object]) -> Plan:
        """Waits for the plan without blocking the event loop."""
        table = await self._table_async()
        show = show_for(progress)
        with self._or_back():
            work = await start_async(self._start, table)
            if isinstance(work, Plan):
                return work
            file = await drive_async(work, show, _STOPPED)
        return self.made(file)


def _tell(error: BaseException, text: str) -> None:
    """Adds a text to an error of this package. Logs it beside any other."""
    if isinstance(error, ReplyError):
        add_to(error, text)
    else:
        logging.getLogger("replyio").warning("%s", text)


@contextmanager
def _telling_where(plan: Plan, options: Mapping[str, Any]) -> Generator[None]:
    """Adds the file of the plan to an error that stops a one-shot call."""
    try:
        yield
    except ReplyError as error:
        # The core names the limit that the run would exceed.
        again = {name: value for name, value in options.items() if f"but {name}=" not in error.message}
        does = "resume it" if again == options else "after a review, apply it"
        _tell(error, f"the plan was kept; {does} with {call(opening_of(plan), 'apply', again)}")
        raise


def patch(
    planning: Planning, progress: bool | Callable[[dict[str, Any]], object], options: Mapping[str, Any]
) -> ApplyResult:
    """Plans and applies."""
    plan = planning.wait(progress)
    with _telling_where(plan, options):
        return plan.apply(**options, progress=progress)


async def patch_async(
    planning: Planning, progress: bool | Callable[[dict[str, Any]], object], options: Mapping[str, Any]
) -> ApplyResult:
    """Plans and applies without blocking the event loop."""
    plan = await planning.wait_async(progress)
    with _telling_where(plan, options):
        return await plan.apply_async(**options, progress=progress)


def check_patch(mode: str, options: Mapping[str, Any]) -> None:
    """Checks the options of a one-shot call before it reads its table.

    Args:
        mode: The mode of the plan.
        options: The options of the run.

    Raises:
        ValidationError: If it would replace accounts.
        ConfigurationError: If an option of the run cannot be used.
    """
    if mode == "replace":
        fault = FieldError(
            "mode",
            'must be "patch" or "fill": this call never replaces an account. To replace many accounts, create and '
            "review a plan: "
            'plan_contact_account_updates(..., mode="replace")',
        )
        raise ValidationError(f"{fault.field} {fault.message}", errors=[fault])
    check(options)
