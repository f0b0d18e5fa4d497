"""How a job is watched: its progress is shown, and Ctrl-C stops it in good order."""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, overload

from replyio._plan_text import counted, how_to_go_on, progress_line, progress_text

if TYPE_CHECKING:
    from replyio._replyio import Pending

# Seconds. A job looks after itself; this is how often somebody looks at it.
_POLL = 0.1
_LINE_EVERY = 2.0
_LOG_EVERY = 30.0
# How long to wait for a job that was stopped, which ends by itself after 4.5 s, and for one that was abandoned.
_GRACE = 5.0
_LET_GO = 1.0

_logger = logging.getLogger("replyio")


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
    """A line on a terminal that is written over every few seconds."""

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
        blanks = " " * (self._width - len(text))
        self._width = len(text)
        tell(f"\r{text}{blanks}{end}", end="")


class Log(Show):
    """A line in the log now and then, and one whenever a wait begins: for everything that is no terminal."""

    def __init__(self) -> None:
        self._due = _LOG_EVERY
        self._waiting: object = None

    def update(self, state: dict[str, Any]) -> None:
        """Logs when it is time, or a wait begins."""
        begins = state.get("waiting") and not self._waiting
        self._waiting = state.get("waiting")
        if begins or state["seconds"] >= self._due:
            self._due = state["seconds"] + _LOG_EVERY
            _logger.info("%s", progress_line(state))

    def close(self, state: dict[str, Any]) -> None:
        """Logs the last state."""
        _logger.info("%s", progress_line(state))


class Bar(Show):
    """tqdm's bar, on a terminal or in a notebook. The time left is the quota's, which tqdm cannot know."""

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


def show_for(progress: bool) -> Show:
    """What shows a progress here: tqdm where it is installed, a line on a terminal, else the log.

    Args:
        progress: False for nothing.

    Returns:
        What shows it.
    """
    if not progress:
        return Show()
    if not _is_notebook() and not _is_terminal():
        return Log()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a notebook without ipywidgets gets tqdm's text, and needs no advice
            return Bar(import_module("tqdm.auto").tqdm)
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


def drive(job: Job, show: Show, action: str, path: str | None) -> object:
    """Waits for a job. Ctrl-C stops it, a second one abandons what is in flight at once.

    Args:
        job: The job, which runs.
        show: What shows its progress.
        action: What it does: "plan", "apply", "retry_failed" or "revert".
        path: The plan's file, or None.

    Returns:
        The job's result.

    Raises:
        KeyboardInterrupt: After Ctrl-C, when the job has ended. A line on stderr says how to go on.
    """
    watch = _Watch(job, show)
    try:
        while not job.wait(_POLL):
            watch.update()
    except BaseException:
        _stop(job)
        watch.close()
        tell(how_to_go_on(action, path, job.progress()))
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


async def drive_async(job: Job, show: Show, action: str, path: str | None) -> object:
    """Waits for a job without holding the event loop up. Cancelling the task stops it, a second time abandons.

    A coroutine that is closed cannot wait. Its job ends by itself, within the same five seconds.

    Args:
        job: The job, which runs.
        show: What shows its progress.
        action: What it does: "plan", "apply", "retry_failed" or "revert".
        path: The plan's file, or None.

    Returns:
        The job's result.

    Raises:
        CancelledError: When the task was cancelled, after the job has ended. A line on stderr says how to go on.
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
        tell(how_to_go_on(action, path, job.progress()))
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
