"""The thread that calls `Quota(acquire=...)`, for one request after the other."""

from __future__ import annotations

import asyncio
import inspect
import socket
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from replyio import Quota, _replyio


def is_async(acquire: Callable[[], object]) -> bool:
    """Whether it is a coroutine function, or an object whose `__call__` is one."""
    call = getattr(type(acquire), "__call__", None)  # noqa: B004 - what kind of function it is
    return inspect.iscoroutinefunction(acquire) or inspect.iscoroutinefunction(call)


def start(asked: _replyio.Asked, descriptor: int, quota: Callable[[], Quota | None]) -> None:
    """Starts the thread. It ends when the last client of the quota is gone, and does not keep Python from exiting."""
    signal = socket.socket(fileno=descriptor)
    try:
        found = quota()
        serve = _serve_in_a_loop if found is not None and is_async(_function(found)) else _serve
        threading.Thread(target=serve, args=(asked, signal, quota), name="replyio-acquire", daemon=True).start()
    except BaseException:
        signal.close()
        raise


def _serve(asked: _replyio.Asked, signal: socket.socket, quota: Callable[[], Quota | None]) -> None:
    with signal:
        while _is_called(asked, signal):
            _ask(asked, quota)


def _serve_in_a_loop(asked: _replyio.Asked, signal: socket.socket, quota: Callable[[], Quota | None]) -> None:
    with signal:
        while _is_called(asked, signal):
            _run_loop(asked, signal, quota)


def _is_called(asked: _replyio.Asked, signal: socket.socket) -> bool:
    """Waits for a request. Returns False if there are no further ones."""
    signal.setblocking(True)
    while not asked.is_wanted():
        if asked.is_closed() or not signal.recv(64):
            return False
    return True


def _run_loop(asked: _replyio.Asked, signal: socket.socket, quota: Callable[[], Quota | None]) -> None:
    """Runs an event loop until there are no further requests, or until the function stops it."""
    try:
        asyncio.run(_serve_async(asked, signal, quota))
    except BaseException as error:  # noqa: BLE001 - the call that waits raises it
        _refuse(asked, error)


async def _serve_async(asked: _replyio.Asked, signal: socket.socket, quota: Callable[[], Quota | None]) -> None:
    signal.setblocking(False)
    loop = asyncio.get_running_loop()
    while True:
        while asked.is_wanted():
            await _ask_async(asked, quota)
        if asked.is_closed() or not await loop.sock_recv(signal, 64):
            return


def _ask(asked: _replyio.Asked, quota: Callable[[], Quota | None]) -> None:
    try:
        granted = _function(quota())()
    except BaseException as error:  # noqa: BLE001 - the call that waits raises it
        _refuse(asked, error)
    else:
        _answer(asked, granted)


async def _ask_async(asked: _replyio.Asked, quota: Callable[[], Quota | None]) -> None:
    try:
        granted = await _function(quota())()
    except BaseException as error:  # noqa: BLE001 - the call that waits raises it
        _refuse(asked, error)
    else:
        _answer(asked, granted)


def _function(quota: Quota | None) -> Callable[[], Any]:
    if quota is None or quota.acquire is None:
        raise RuntimeError("the Quota object no longer exists")
    return quota.acquire


def _refuse(asked: _replyio.Asked, error: BaseException) -> None:
    try:
        text = str(error).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001 - it has no text
        text = ""
    asked.refuse(f"it raised {type(error).__name__}{': ' if text else ''}{text}", error)


def _answer(asked: _replyio.Asked, granted: object) -> None:
    if inspect.isawaitable(granted):
        if inspect.iscoroutine(granted):
            granted.close()
        asked.refuse("it returned an awaitable but is not a coroutine function; define it with async def")
    elif granted is False:
        asked.refuse("it returned False")
    else:
        asked.grant()
