"""Experiment: the interpreter exits while calls, tasks or lists are in one of several states."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import random
import signal
import sys
import threading
import time
from typing import Any

from common import BUSY, PLAIN, SILENT, SLOW, client, main

from replyio import ReplyError

reply = client(max_attempts=1)


def start_threads(account: int, *, daemon: bool = True) -> None:
    """Eight threads that call."""

    def call() -> None:
        with contextlib.suppress(ReplyError):
            reply.get_contact_account(account)

    for _ in range(8):
        threading.Thread(target=call, daemon=daemon).start()


def call_without_end() -> None:
    """Calls as fast as it can."""
    while True:
        with contextlib.suppress(ReplyError):
            reply.get_contact_account(PLAIN)


def a_moment() -> None:
    """Sleeps up to 30 ms, so that every run ends somewhere else."""
    time.sleep(random.random() * 0.03)


def threads_waiting() -> None:
    """Daemon threads wait for an answer."""
    start_threads(SILENT)
    a_moment()
    sys.exit(5)


def threads_busy() -> None:
    """Daemon threads call."""
    for _ in range(8):
        threading.Thread(target=call_without_end, daemon=True).start()
    a_moment()
    sys.exit(5)


def tasks_pending() -> None:
    """Tasks wait for answers."""

    async def run() -> None:
        tasks = [asyncio.ensure_future(reply.get_contact_account_async(SILENT)) for _ in range(16)]
        await asyncio.wait(tasks, timeout=random.random() * 0.03)
        sys.exit(5)

    asyncio.run(run())


def loop_in_thread() -> None:
    """A daemon thread runs an event loop."""

    async def run() -> None:
        while True:
            await asyncio.gather(*(reply.get_contact_account_async(PLAIN) for _ in range(16)))

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    a_moment()
    sys.exit(5)


def threads_finish() -> None:
    """Threads that are no daemons finish; none gets an error for it."""

    def call() -> None:
        try:
            assert reply.get_contact_account(SLOW).id == SLOW
        except BaseException:  # noqa: BLE001 - whatever it is
            os._exit(9)

    for _ in range(8):
        threading.Thread(target=call).start()


def exit_in_thread() -> None:
    """A thread exits while others call; that ends the thread and nothing else."""
    start_threads(SLOW, daemon=False)
    threading.Thread(target=sys.exit, args=(3,)).start()


def _call_at_exit() -> None:
    if reply.get_contact_account(PLAIN).id != PLAIN:
        os._exit(9)


def atexit_first() -> None:
    """A handler that runs after the client's own."""
    atexit.register(_call_at_exit)
    reply.get_contact_account(PLAIN)
    sys.exit(5)


def atexit_last() -> None:
    """A handler that runs before the client's own."""
    reply.get_contact_account(PLAIN)
    atexit.register(_call_at_exit)
    start_threads(SILENT)
    threading.Thread(target=call_without_end, daemon=True).start()
    a_moment()
    sys.exit(5)


def _raise_later(number: signal.Signals) -> None:
    def send() -> None:
        a_moment()
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


def signal_exits() -> None:
    """A signal handler exits."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    start_threads(SILENT)
    _raise_later(signal.SIGTERM)
    reply.get_contact_account(SILENT)


def signal_calls() -> None:
    """A signal handler calls."""

    def handle(*_: Any) -> None:
        sys.exit(5 if reply.get_contact_account(PLAIN).id == PLAIN else 9)

    signal.signal(signal.SIGALRM, handle)
    _raise_later(signal.SIGALRM)
    with contextlib.suppress(ReplyError):
        # Another user: a Retry-After holds all calls of the user who got it, the handler's too.
        client(api_key="busy").get_contact_account(BUSY)
    reply.get_contact_account(SILENT)


class Last:
    """Calls when it is finalized."""

    def __init__(self) -> None:
        """Uses the client once."""
        self.client = client()
        self.client.get_contact_account(PLAIN)

    def __del__(self) -> None:
        """Calls once more, when most of the interpreter is gone."""
        if self.client.get_contact_account(PLAIN).id != PLAIN:
            os._exit(9)
        self.client.close()


def finalizer() -> None:
    """A global object calls when it goes."""
    global last
    last = Last()
    sys.exit(5)


def list_half_read() -> None:
    """Lists are half read."""
    global pages, later

    async def half() -> Any:
        accounts = reply.list_contact_accounts_async(page_size=1)
        await accounts.__anext__()
        return accounts

    pages = reply.list_contact_accounts(page_size=1)
    next(pages)
    later = asyncio.run(half())
    sys.exit(5)


def sandbox_running() -> None:
    """A sandbox is never stopped."""
    global sandbox, caller
    from replyio.sandbox import Sandbox

    sandbox = Sandbox()
    caller = sandbox.client(quota=None)
    assert caller.get_contact_account(4711).id == 4711
    threading.Thread(target=lambda: [caller.get_contact_account(4711) for _ in range(10_000)], daemon=True).start()
    a_moment()
    sys.exit(5)


if __name__ == "__main__":
    main(globals())
