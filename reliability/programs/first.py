"""Experiment: a thread uses the package first and ends; other threads use it afterwards.

Each try is a forked child: the extension module must not be loaded before, and to start Python anew takes too long.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from common import PLAIN, Report, main

PATIENCE = 20.0
THREADS_AFTER = 12


def extension_module() -> object:
    """Loads the extension module."""
    from replyio import _replyio

    return _replyio


def call() -> object:
    """Makes a client and calls it."""
    from common import client

    with client() as reply:
        return reply.get_contact_account(PLAIN)


def sandbox() -> object:
    """Starts a sandbox and calls it."""
    from replyio.sandbox import Sandbox

    with Sandbox() as service, service.client() as reply:
        return reply.get_contact_account(4711)


def plan() -> object:
    """Plans an update."""
    from common import client

    with client() as reply, reply.plan_contact_account_updates([{"id": PLAIN, "city": "Oslo"}], progress=False) as made:
        return made.counts


def in_threads(work: Callable[[], object], count: int) -> bool:
    """Runs the same in one thread after the other, each of which ends. Gives whether none of them failed."""
    done: list[object] = []
    for _ in range(count):
        thread = threading.Thread(target=lambda: done.append(work()))
        thread.start()
        thread.join()
    return len(done) == count


def child(first: Callable[[], object]) -> int:
    """What a child does: the first use in a thread of its own, then calls in others and in the main thread."""
    good = in_threads(first, 1) and in_threads(call, THREADS_AFTER) and call() is not None
    return 0 if good else 1


def tries(first: Callable[[], object]) -> Callable[[int, Report], None]:
    """The experiment of one way to use it first."""

    def run(count: int, report: Report) -> None:
        warnings.simplefilter("ignore", DeprecationWarning)
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = child(first)
                finally:
                    os._exit(code)
            report.check(*ended(pid))

    return run


def ended(pid: int) -> tuple[bool, str]:
    """Waits for a child. Gives whether it did well, and what became of it."""
    given_up = time.monotonic() + PATIENCE
    while time.monotonic() < given_up:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code == 0, f"exit code {code}"
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False, "still running"


STATES: dict[str, Any] = {
    "import": tries(extension_module),
    "call": tries(call),
    "sandbox": tries(sandbox),
    "plan": tries(plan),
}

if __name__ == "__main__":
    main(STATES)
