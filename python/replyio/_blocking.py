"""For calls in an event loop: the wait for an asynchronous call, and a warning for synchronous calls that block."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import TypeVar

    from replyio._replyio import Pending

    _T = TypeVar("_T")

_has_warned = False


async def finished(pending: Pending[_T]) -> _T:
    """Waits for an operation, and ends it if the coroutine is canceled or closed."""
    try:
        return await pending.future
    finally:
        pending.close()


def is_notebook() -> bool:
    """Returns whether this is a notebook kernel. A program that starts kernels has the same modules, but is not one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def warn_of_blocking(call: str) -> None:
    """Warns as `warn_if_it_blocks_a_loop` does.

    Args:
        call: The name of a synchronous call, whose twin has the suffix `_async`.
    """
    warn_if_it_blocks_a_loop(f"{call}()", f"await {call}_async()")


def warn_if_it_blocks_a_loop(call: str, twin: str) -> None:
    """Warns, once per process, if a coroutine of a running event loop makes the call.

    A notebook runs its cells in its own loop, where a synchronous call is intended.

    Args:
        call: The synchronous call, such as "get_contact_account()".
        twin: The call to use instead.
    """
    global _has_warned  # noqa: PLW0603 - once for all clients
    asyncio = sys.modules.get("asyncio")
    if _has_warned or asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - documented for its speed
        return
    if asyncio.current_task() is None:  # a callback, such as a log handler, cannot await anything
        return
    if is_notebook():
        return
    _has_warned = True
    import warnings

    from replyio.errors import ReplyWarning

    message = f"{call} blocks the running event loop and all its tasks until it returns; hint: {twin}"
    warnings.warn(message, ReplyWarning, stacklevel=_level_of_the_caller())


def _level_of_the_caller() -> int:
    """Returns the stack level, for the caller of this function, of the first frame outside of the package."""
    package = os.path.dirname(__file__) + os.sep  # noqa: PTH120 - the prefix of other texts
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - documented  # pyright: ignore[reportPrivateUsage]
    level = 0
    while frame is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    return level
