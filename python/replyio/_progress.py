"""How a job is watched: its progress is shown, and Ctrl-C stops it in good order."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, overload

from replyio._plan_text import counted, how_to_go_on, progress_html, progress_line, progress_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from replyio._replyio import Pending

# Seconds. A job looks after itself; this is how often somebody looks at it.
_POLL = 0.1
_LINE_EVERY = 2.0
_LOG_EVERY = 60.0
_NOTEBOOK_EVERY = 1.0
_LONG_WAIT = 5.0
# How long to wait for a job that was stopped, which ends by itself after 4.5 s, and for one that was abandoned.
_GRACE = 5.0
_LET_GO = 1.0

# What a function of the caller is told of a job, besides the text for people.
_TOLD = ("phase", "rows", "done", "requests", "seconds", "seconds_left", "waiting", "waiting_until")

_logger = logging.getLogger("replyio")
_in_command = False


def speak_to_a_command() -> None:
    """Has a job that is stopped say how to resume it in the words of the command line alone."""
    global _in_command  # noqa: PLW0603 - the whole process is the command
    _in_command = True


class Job(Protocol):
    """A job that runs in the core, as the extension module gives it."""

    def progress(self) -> dict[str, Any]: ...
    def stop(self) -> None: ...
    def abandon(self) -> None: ...
    @overload
    def wait(self, seconds: float, event_loop: None = None) -> bool: ...
    @overload
    def wait(self, seconds: float, event_loop: asyncio.AbstractEventLoop) -> Pending[bool]: ...
    def result(self) -> object: ...


class Show:
    """Shows a progress. This one shows nothing."""

    def update(self, state: dict[str, Any]) -> None:
        """Shows a state of the job."""

    def close(self, state: dict[str, Any]) -> None:
        """Shows the last state, and leaves the terminal tidy."""


class Line(Show):
    """A line on a terminal that is written over every few seconds, and never wider than the terminal."""

    def __init__(self) -> None:
        self._due = 0.0
        self._width = 0

    def update(self, state: dict[str, Any]) -> None:
        """Writes the line when it is time."""
        if state["seconds"] >= self._due:
            self._due = state["seconds"] + _LINE_EVERY
            self._write(progress_line(state), "")

    def close(self, state: dict[str, Any]) -> None:
        """Writes it once more, and ends it."""
        self._write(progress_line(state), "\n")

    def _write(self, text: str, end: str) -> None:
        columns = shutil.get_terminal_size().columns - 1
        text = text if len(text) <= columns else f"{text[: columns - 3]}..."
        blanks = " " * (self._width - len(text))
        self._width = len(text)
        tell(f"\r{text}{blanks}{end}", end="")


class Log(Show):
    """For everything that is no terminal: a warning for each long wait, and a line a minute.

    The line goes to the log where somebody has asked for such lines, and else to stderr: a job of cron runs for hours.
    """

    def __init__(self) -> None:
        self._due = _LOG_EVERY
        self._waiting: object = None
        self._has_told = False

    def update(self, state: dict[str, Any]) -> None:
        """Tells when it is time, or when a long wait begins."""
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
        """Tells the last state of a job that took long, or that the log follows."""
        if self._has_told or _logger.isEnabledFor(logging.INFO):
            self._tell(state)

    def _tell(self, state: dict[str, Any]) -> None:
        self._has_told = True
        if _logger.isEnabledFor(logging.INFO) and _logger.hasHandlers():
            _logger.info("%s", progress_line(state))
        else:
            tell(f"replyio: {progress_line(state)}")


class Notebook(Show):
    """A line with a bar below a notebook's cell, which is replaced every second. Needs no widgets."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._due = 0.0

    def update(self, state: dict[str, Any]) -> None:
        """Replaces the line when it is time."""
        if state["seconds"] >= self._due:
            self._due = state["seconds"] + _NOTEBOOK_EVERY
            self._show(state)

    def close(self, state: dict[str, Any]) -> None:
        """Replaces it by the last state."""
        self._show(state)

    def _show(self, state: dict[str, Any]) -> None:
        shown = {"text/plain": progress_line(state), "text/html": progress_html(state)}
        if self._handle is None:
            self._handle = self._display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


class Call(Show):
    """Hands each new state to a function of the caller, which shows it where this package cannot."""

    def __init__(self, function: Callable[[dict[str, Any]], object]) -> None:
        self._function = function
        self._last: object = None

    def update(self, state: dict[str, Any]) -> None:
        """Calls the function when something has changed."""
        told = tuple(state.get(name) for name in ("phase", "done", "rows", "requests", "waiting"))
        if told != self._last:
            self._last = told
            self.close(state)

    def close(self, state: dict[str, Any]) -> None:
        """Calls the function with the last state."""
        self._function({name: state.get(name) for name in _TOLD} | {"text": progress_line(state)})


class Bar(Show):
    """tqdm's bar on a terminal. The time left is the quota's, which tqdm cannot know."""

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
        """Draws it once more, and leaves it there."""
        self.update(state)
        self._bar.close()


def show_for(progress: bool | Callable[[dict[str, Any]], object]) -> Show:
    """What shows a progress here: a line below a notebook's cell, tqdm's bar or a line on a terminal, else the log.

    Args:
        progress: False for nothing; a function that is called with each new state.

    Returns:
        What shows it.
    """
    if not progress:
        return Show()
    if callable(progress):
        return Call(progress)
    if _is_notebook():
        return Notebook(import_module("IPython.display").display)
    if not _is_terminal():
        return Log()
    try:
        return Bar(import_module("tqdm").tqdm)
    except ImportError:
        return Line()


def _is_notebook() -> bool:
    """Whether this is a notebook's kernel. A program that starts kernels has the modules of one, and is none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _is_terminal() -> bool:
    """Whether somebody can see a line that is written over. There may be no stderr, or a closed one."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def tell(text: str, end: str = "\n") -> None:
    """Writes to stderr. That nobody can read it must not end a job of hours."""
    try:
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        sys.stderr.write(text.encode(encoding, "replace").decode(encoding) + end)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass


class _Watch:
    """Calls a show, which may fail without failing the job."""

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
            _logger.warning("list items lack or cut fields: the run reads each account by GET; about %s left", left)
        if self._show is None:
            return
        try:
            getattr(self._show, name)(state)
        except Exception as error:  # noqa: BLE001 - of whatever shows it; the job goes on unseen
            self._show = None
            _logger.warning("the progress is not shown any more: %s", type(error).__name__)


def drive(job: Job, show: Show, action: str, path: str) -> object:
    """Waits for a job. Ctrl-C stops it, a second one abandons what is in flight at once.

    Args:
        job: The job, which runs.
        show: What shows its progress.
        action: What it does: "plan", "apply" or "retry_failed".
        path: The plan's file.

    Returns:
        The job's result.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the job has ended. A line on stderr says how to resume.
    """
    watch = _Watch(job, show)
    try:
        while not job.wait(_POLL):
            watch.update()
    except BaseException:
        _stop(job)
        watch.close()
        tell(how_to_go_on(action, path, job.progress(), in_command=_in_command))
        raise
    watch.close()
    return job.result()


def _stop(job: Job) -> None:
    """Stops a job, and waits while it ends by itself. Whoever asks again does not want to wait."""
    job.stop()
    try:
        job.wait(_GRACE)
    except BaseException:  # noqa: BLE001 - whatever it is, the first one is raised
        job.abandon()
        job.wait(_LET_GO)


async def drive_async(job: Job, show: Show, action: str, path: str) -> object:
    """Waits for a job without holding the event loop up. Cancelling the task stops it, a second time abandons.

    A coroutine that is closed cannot wait. Its job ends by itself, within the same five seconds.

    Args:
        job: The job, which runs.
        show: What shows its progress.
        action: What it does: "plan", "apply" or "retry_failed".
        path: The plan's file.

    Returns:
        The job's result.

    Raises:
        CancelledError: When the task was cancelled, after the job has ended. A line on stderr says how to resume.
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
        tell(how_to_go_on(action, path, job.progress(), in_command=_in_command))
        raise
    watch.close()
    return job.result()


async def _stop_async(job: Job) -> None:
    """Stops a job, and waits while it ends by itself; a second cancellation ends that time."""
    job.stop()
    with _shielded():
        try:
            await _ended_within(job, _GRACE)
        except GeneratorExit:
            raise
        except BaseException:  # noqa: BLE001 - whatever it is, the first one is raised
            job.abandon()
            await _ended_within(job, _LET_GO)


def _shielded() -> AbstractContextManager[object]:
    """Keeps a scope of anyio, which cancels what is in it again and again, from cancelling this once more.

    A program that uses such a scope has imported anyio.
    """
    scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
    return nullcontext() if scope is None else scope(shield=True)


async def _ended_within(job: Job, seconds: float) -> bool:
    """Whether a job ends in time. The clock is the job's own: the event loop's may have been stopped, as tests do."""
    pending = job.wait(seconds, asyncio.get_running_loop())
    try:
        return await pending.future
    finally:
        pending.close()
