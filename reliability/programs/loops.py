"""Experiment: event loops that cancel calls, time out, close, and follow one another."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from common import PLAIN, SILENT, Report, client, main

reply = client()
KEPT_OPEN = 40


def files() -> int:
    """How many files and sockets are open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as the system gives it


async def leaves_nothing(report: Report, count: int, give_up: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """Gives calls up, sixteen at a time; their connections are closed, and the next call gets its answer."""
    before = files()
    for _ in range(0, count, 16):
        for good in await asyncio.gather(*(give_up() for _ in range(16))):
            report.check(good, "not given up")
        account = await reply.get_contact_account_async(PLAIN)
        report.check(account.id == PLAIN, "another call's answer")
    for _ in range(100):
        if files() <= before + KEPT_OPEN:
            break
        await asyncio.sleep(0.01)
    report.check(files() <= before + KEPT_OPEN, f"{files() - before} files are still open")


def cancel(count: int, report: Report) -> None:
    """Tasks are cancelled."""

    async def one() -> bool:
        task = asyncio.ensure_future(reply.get_contact_account_async(SILENT))
        await asyncio.sleep(random.random() * 0.005)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    asyncio.run(leaves_nothing(report, count, one))


def wait_for(count: int, report: Report) -> None:
    """`wait_for` runs out."""

    async def one() -> bool:
        try:
            await asyncio.wait_for(reply.get_contact_account_async(SILENT), random.random() * 0.01)
        except asyncio.TimeoutError:
            return True
        return False

    asyncio.run(leaves_nothing(report, count, one))


def closed(count: int, report: Report) -> None:
    """A loop is closed under a call."""

    async def start() -> Coroutine[Any, Any, Any]:
        coroutine = reply.get_contact_account_async(SILENT)
        coroutine.send(None)
        await asyncio.sleep(random.random() * 0.002)
        return coroutine

    before = files()
    for _ in range(count):
        loop = asyncio.new_event_loop()
        coroutine = loop.run_until_complete(start())
        loop.close()
        coroutine.close()
        report.check(reply.get_contact_account(PLAIN).id == PLAIN, "another call's answer")
    account = asyncio.run(reply.get_contact_account_async(PLAIN))
    report.check(account.id == PLAIN and files() <= before + KEPT_OPEN, f"{files() - before} files are still open")


def runs(count: int, report: Report) -> None:
    """One `asyncio.run` after another."""
    for number in range(count):
        account = asyncio.run(reply.get_contact_account_async(1000 + number % 16))
        report.check(account.id == 1000 + number % 16, "another call's answer")


def threads(count: int, report: Report, run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run) -> None:
    """Several loops at once."""
    lock = threading.Lock()

    async def calls() -> None:
        ids = [1000 + number % 16 for number in range(32)]
        for account, id in zip(await asyncio.gather(*map(reply.get_contact_account_async, ids)), ids, strict=True):
            with lock:
                report.check(account.id == id, "another call's answer")

    async def several() -> None:
        for _ in range(max(1, count // 256)):
            await calls()

    started = [threading.Thread(target=lambda: run(several())) for _ in range(8)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def uvloop(count: int, report: Report) -> None:
    """The same on uvloop, and cancelled tasks."""
    import uvloop as library

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        loop = library.new_event_loop()
        try:
            loop.run_until_complete(coroutine)
        finally:
            loop.close()

    threads(count, report, run)


if __name__ == "__main__":
    main(globals())
