"""Experiment: sends Ctrl-C to a waiting call and measures the time until the exception."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable

from common import BUSY, PLAIN, SILENT, Report, client, main

from replyio import Quota
from replyio.sandbox import Fault, Sandbox

LONGEST = 0.2


def interrupt(count: int, report: Report, wait: Callable[[], object]) -> None:
    """Interrupts a wait, time after time. The next call gets its answer."""
    # A shell that starts something in the background has it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    other = client()
    logging.getLogger("replyio").addHandler(logging.NullHandler())
    for _ in range(count):
        pressed = []

        def press(pressed: list[float] = pressed) -> None:
            time.sleep(0.05 + random.random() * 0.1)
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        try:
            wait()
            latency = float("inf")
        except KeyboardInterrupt:
            latency = time.monotonic() - pressed[0]
            report.measure("latency", latency)
        thread.join()
        answered = other.get_contact_account(PLAIN).id == PLAIN
        report.check(latency < LONGEST and answered, f"after {latency:.3f} s")


def call(count: int, report: Report) -> None:
    """An answer does not come."""
    interrupt(count, report, lambda: reply.get_contact_account(SILENT))


def quota(count: int, report: Report) -> None:
    """The quota is used up."""
    narrow = client(quota=Quota(per_minute=1, per_hour=1000), timeout=120.0, api_key="used-up")
    narrow.get_contact_account(PLAIN)
    interrupt(count, report, lambda: narrow.get_contact_account(PLAIN))


def back_off(count: int, report: Report) -> None:
    """The service asked for a pause."""
    patient = client(max_attempts=2)
    interrupt(count, report, lambda: patient.get_contact_account(BUSY))


def list(count: int, report: Report) -> None:  # noqa: A001 - the state's name
    """A page does not come."""
    with Sandbox(faults=[Fault(delay=60.0)]) as sandbox:
        silent = sandbox.client(timeout=3.0)
        interrupt(count, report, lambda: next(silent.list_contact_accounts()))


def asyncio_(count: int, report: Report) -> None:
    """A task waits."""
    interrupt(count, report, lambda: asyncio.run(reply.get_contact_account_async(SILENT)))


reply = client(timeout=3.0, max_attempts=1)

if __name__ == "__main__":
    main({**globals(), "asyncio": asyncio_})
