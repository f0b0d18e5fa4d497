"""Watches a job: shows its progress, and stops it cleanly on Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from replyio._blocking import finished, is_notebook
from replyio._plan_text import counted, progress_html, progress_line, progress_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import TypeVarTuple, Unpack

    from replyio._replyio import Job

    _Arguments = TypeVarTuple("_Arguments")

_Started = TypeVar("_Started")

# Times in seconds. A job runs by itself; this is the interval between two checks.
_POLL = 0.1
_LINE_EVERY = 2.0
_LOG_EVERY = 60.0
_NOTEBOOK_EVERY = 1.0
_LONG_WAIT = 5.0
# How long to wait for a stopped job, which ends by itself after 4.5 s, and for an abandoned one.
GRACE = 5.0
_LET_GO = 1.0

# The state that a progress function receives, besides the text for people.
_TOLD = ("phase", "rows", "done", "requests", "seconds", "seconds_left", "waiting", "waiting_until")

_logger = logging.getLogger("replyio")
_settings: Mapping[str, Any] | None = None


def speak_to_a_command(settings: Mapping[str, Any]) -> None:
    """Makes each message show only commands, with the settings of this one."""
    global _settings  # noqa: PLW0603 - the whole process is the command
    _settings = settings


def is_command() -> bool:
    """Returns whether the reader of a message runs the command and not Python."""
    return _settings is not None


def settings_of_the_command() -> Mapping[str, Any]:
    """Returns the options with which the command opens a plan; none in Python."""
    return _settings or {}


class Show:
    """Shows the progress. This base class shows nothing."""

    def update(self, state: dict[str, Any]) -> None:
        """Shows a state of the job."""

    def close(self, state: dict[str, Any]) -> None:
        """Shows the last state, and ends the line."""


class Line(Show):
    """A line on a terminal that is rewritten every few seconds, and never wider than the terminal."""

    def __init__(self) -> None:
        self._due = 0.0
        self._width = 0

    def update(self, state: dict[str, Any]) -> None:
        """Writes the line if it is due."""
        if state["seconds"] >= self._due:
            self._due = state["seconds"] + _LINE_EVERY
            self._write(progress_line(state), "")

    def close(self, state: dict[str, Any]) -> None:
        """Writes the line once more, and ends it."""
        self._write(progress_line(state), "\n")

    def _write(self, text: str, end: str) -> None:
        columns = shutil.get_terminal_size().columns - 1
        text = text if len(text) <= columns else f"{text[: columns - 3]}..."
        blanks = " " * (self._width - len(text))
        self._width = len(text)
        tell(f"\r{text}{blanks}{end}", end="")


class Log(Show):
    """For output that is not a terminal: a warning for each long wait, and one line per minute.

    The line goes to the log if that is enabled for INFO, otherwise to stderr, because a cron job may run for hours.
    """

    def __init__(self) -> None:
        self._due = _LOG_EVERY
        self._waiting: object = None
        self._has_told = False

    def update(self, state: dict[str, Any]) -> None:
        """Reports if a line is due, or if a long wait begins."""
        waiting, seconds = state.get("waiting"), state.get("waiting_until")
        if waiting and waiting != self._waiting and (seconds is None or seconds > _LONG_WAIT):
            self._waiting = waiting
            _logger.warning("%s", progress_line(state))
        elif not waiting:
            self._waiting = None
        if state["seconds"] >= self._due:
            self._due = state["seconds"] + _LOG_EVERY
            self._tell(state)

    def close(self, state: dict[str, Any]) -> None:
        """Reports the last state of a long job, or of any job if the log is enabled for INFO."""
        if self._has_told or _logger.isEnabledFor(logging.INFO):
            self._tell(state)

    def _tell(self, state: dict[str, Any]) -> None:
        self._has_told = True
        if _logger.isEnabledFor(logging.INFO) and _logger.hasHandlers():
            _logger.info("%s", progress_line(state))
        else:
            tell(f"replyio: {progress_line(state)}")


class Notebook(Show):
    """A line with a bar below a notebook cell, replaced every second. Needs no widgets."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._due = 0.0

    def update(self, state: dict[str, Any]) -> None:
        """Replaces the line if it is due."""
        if state["seconds"] >= self._due:
            self._due = state["seconds"] + _NOTEBOOK_EVERY
            self._show(state)

    def close(self, state: dict[str, Any]) -> None:
        """Shows the last state."""
        self._show(state)

    def _show(self, state: dict[str, Any]) -> None:
        shown = {"text/plain": progress_line(state), "text/html": progress_html(state)}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


class Call(Show):
    """Passes each new state to a function of the caller."""

    def __init__(self, function: Callable[[dict[str, Any]], object]) -> None:
        self._function = function
        self._last: object = None

    def update(self, state: dict[str, Any]) -> None:
        """Calls the function if something has changed."""
        told = tuple(state.get(name) for name in ("phase", "done", "rows", "requests", "waiting"))
        if told != self._last:
            self._last = told
            self._call(state)

    def close(self, state: dict[str, Any]) -> None:
        """Calls the function with the last state."""
        self._call(state)

    def _call(self, state: dict[str, Any]) -> None:
        self._function({name: state.get(name) for name in _TOLD} | {"text": progress_line(state)})


class Bar(Show):
    """A tqdm bar on a terminal. It shows the time left according to the quota, which tqdm does not know."""

    def __init__(self, tqdm: Any) -> None:
        bar_format = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} rows, {elapsed}{postfix}"
        self._bar = tqdm(total=0, bar_format=bar_format, dynamic_ncols=True, mininterval=0)

    def update(self, state: dict[str, Any]) -> None:
        """Draws the bar."""
        bar = self._bar
        if bar.total != state.get("rows", 0):
            bar.reset(total=state.get("rows", 0))
        bar.n = state.get("done", 0)
        bar.set_description_str(str(state.get("phase") or "working"), refresh=False)
        bar.set_postfix_str(progress_text(state), refresh=False)
        bar.refresh()

    def close(self, state: dict[str, Any]) -> None:
        """Draws it once more, and keeps it."""
        self.update(state)
        self._bar.close()


def show_for(progress: bool | Callable[[dict[str, Any]], object]) -> Show:
    """Returns what shows the progress: a line below a notebook cell, a tqdm bar or a line on a terminal, or the log.

    Args:
        progress: False to show nothing; or a function to call with each new state.

    Returns:
        What shows it.
    """
    if not progress:
        return Show()
    if callable(progress):
        return Call(progress)
    if is_notebook():
        return Notebook(import_module("IPython.display").display)
    if not _is_terminal():
        return Log()
    try:
        return Bar(import_module("tqdm").tqdm)
    except ImportError:
        return Line()


def _is_terminal() -> bool:
    """Returns whether stderr is a terminal. There may be no stderr, or a closed one."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def tell(text: str, end: str = "\n") -> None:
    """Writes to stderr. A closed stderr must not end a job of hours."""
    try:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        sys.stderr.write(text.encode(encoding, "replace").decode(encoding) + end)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass


class _Watch:
    """Calls a `Show`, whose failure does not affect the job."""

    def __init__(self, job: Job, show: Show) -> None:
        self._job = job
        self._show: Show | None = show
        self._has_told = False

    def update(self) -> None:
        self._call("update")

    def close(self) -> None:
        self._call("close")
        self._show = None

    def _call(self, name: str) -> None:
        state = self._job.progress()
        if state.get("items_are_incomplete") and not self._has_told:
            self._has_told = True
            left = counted(state.get("requests_left", 0), "request")
            _logger.warning(
                "list items lack or truncate fields, so the run reads each account with GET; about %s left", left
            )
        if self._show is None:
            return
        try:
            getattr(self._show, name)(state)
        except Exception as error:  # noqa: BLE001 - an error of the display; the job continues without it
            self._show = None
            _logger.warning("replyio stopped showing the progress: %s", type(error).__name__)


def drive(
    job: Job,
    show: Show,
    stopped: str | Callable[[dict[str, Any]], str],
) -> object:
    """Waits for a job. Ctrl-C stops it; a second Ctrl-C abandons the requests in flight.

    Args:
        job: The running job.
        show: What shows its progress.
        stopped: The line after a stopped job, or a function that returns it for the last state.

    Returns:
        The job's result.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the job has ended. A line on stderr shows how to resume.
    """
    watch = _Watch(job, show)
    try:
        while not job.wait(_POLL):
            watch.update()
    except BaseException:
        _stop(job)
        watch.close()
        tell(stopped if isinstance(stopped, str) else stopped(job.progress()))
        raise
    watch.close()
    return job.result()


def _stop(job: Job) -> None:
    """Stops a job, and waits until it ends. A second interruption ends the wait."""
    job.stop()
    try:
        job.wait(GRACE)
    except BaseException:  # noqa: BLE001 - the first exception is raised, whatever this one is
        job.abandon()
        with suppress(KeyboardInterrupt):
            job.wait(_LET_GO)


async def drive_async(
    job: Job,
    show: Show,
    stopped: str | Callable[[dict[str, Any]], str],
) -> object:
    """Waits for a job without blocking the event loop.

    Canceling the task stops the job; canceling it again abandons it.

    A closed coroutine cannot wait. Its job ends by itself, within the same five seconds.

    Args:
        job: The running job.
        show: What shows its progress.
        stopped: The line after a stopped job, or a function that returns it for the last state.

    Returns:
        The job's result.

    Raises:
        CancelledError: If the task was canceled, after the job has ended. A line on stderr shows how to resume.
    """
    watch = _Watch(job, show)
    try:
        while not await _ended_within(job, _POLL):
            watch.update()
    except GeneratorExit:
        job.stop()
        raise
    except BaseException:
        await _stop_async(job)
        watch.close()
        tell(stopped if isinstance(stopped, str) else stopped(job.progress()))
        raise
    watch.close()
    return job.result()


async def start_async(start: Callable[[Unpack[_Arguments]], _Started], *arguments: Unpack[_Arguments]) -> _Started:
    """Calls a function in a thread, because it reads or writes a file. It may start a job.

    Args:
        start: The function.
        arguments: Its arguments.

    Returns:
        Its result.

    Raises:
        CancelledError: If the task was canceled, after the function has returned. A job that it started has ended.
    """
    starting = asyncio.ensure_future(asyncio.to_thread(start, *arguments))
    try:
        return await asyncio.shield(starting)
    except GeneratorExit:
        # A closed coroutine cannot wait.
        starting.add_done_callback(_stop_started)
        raise
    except asyncio.CancelledError:
        with shielded():
            # The caller undoes its work next, so the function must have ended, however often the task is canceled.
            while not starting.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([starting])
        if (job := _started_job(starting)) is not None:
            await _stop_async(job)
        raise


def _started_job(starting: asyncio.Future[Any]) -> Job | None:
    """Returns the job that a function has started, if it has."""
    if starting.cancelled() or starting.exception() is not None:
        return None
    started = starting.result()
    return started if hasattr(started, "abandon") else None


def _stop_started(starting: asyncio.Future[Any]) -> None:
    """Stops the job that a function has started."""
    if (job := _started_job(starting)) is not None:
        job.stop()


async def _stop_async(job: Job) -> None:
    """Stops a job, and waits until it ends. A second cancellation ends the wait."""
    job.stop()
    with shielded():
        try:
            await _ended_within(job, GRACE)
        except GeneratorExit:
            raise
        except BaseException:  # noqa: BLE001 - the first exception is raised, whatever this one is
            job.abandon()
            await _ended_within(job, _LET_GO)


def shielded() -> AbstractContextManager[object]:
    """Prevents an anyio scope, which cancels its content repeatedly, from canceling this again.

    A program that uses such a scope has imported anyio.
    """
    scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
    return nullcontext() if scope is None else scope(shield=True)


async def _ended_within(job: Job, seconds: float) -> bool:
    """Returns whether a job ends in time. Uses the job's clock, because tests may stop the clock of the event loop."""
    return await finished(job.wait(seconds, asyncio.get_running_loop()))
