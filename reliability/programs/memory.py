"""Experiment: measures memory, threads and open files over many calls."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import PLAIN, SILENT, Report, client, main

import replyio

MISSING = 999_999
LIMIT = 4 << 20
"""Bytes that the process may grow after its warm-up."""

kept: list[Any] = []
keep: Callable[[Any], None] = kept.append if "RELIABILITY_KEEPS" in os.environ else lambda _: None
reply = client()


def resident() -> int:
    """Bytes of memory that the process has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def opened() -> tuple[int, int]:
    """Threads and files."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as the system has it


def judge(count: int, report: Report, before: tuple[int, tuple[int, int]]) -> None:
    """Compares with what was before."""
    memory, (threads, files) = before
    # What has just been given up is closed by another thread.
    given_up = time.monotonic() + 1
    while opened() > (threads, files) and time.monotonic() < given_up:
        time.sleep(0.01)
    grown = resident() - memory
    more_threads, more_files = (now - then for now, then in zip(opened(), (threads, files), strict=True))
    report.tried += count
    good = grown < LIMIT and more_threads <= 0 and more_files <= 0
    report.short += not good
    if not good:
        report.notes.append(f"grown by {grown / 1e6:.1f} MB, {more_threads} threads, {more_files} files")
    report.measure("growth", grown)


def watch(count: int, report: Report, step: Callable[[], None]) -> None:
    """Does something many times; a fifth of it is warm-up."""
    for _ in range(count // 5):
        step()
    before = resident(), opened()
    for _ in range(count):
        step()
    judge(count, report, before)


def calls(count: int, report: Report) -> None:
    """Updates."""
    watch(count, report, lambda: keep(reply.update_contact_account(PLAIN, name="Acme", city="Oslo")))


def errors(count: int, report: Report) -> None:
    """Errors."""

    def step() -> None:
        try:
            reply.get_contact_account(MISSING)
        except replyio.NotFoundError as error:
            keep((error, str(error) * 2))

    watch(count, report, step)


async def watch_async(count: int, report: Report, at_once: int, step: Callable[[], Any]) -> None:
    """Does something many times, some at once."""
    for _ in range(count // 5 // at_once):
        await asyncio.gather(*(step() for _ in range(at_once)))
    before = resident(), opened()
    for _ in range(count // at_once):
        await asyncio.gather(*(step() for _ in range(at_once)))
    judge(count, report, before)


def async_calls(count: int, report: Report) -> None:
    """Asynchronous calls."""

    async def step() -> None:
        keep(await reply.get_contact_account_async(PLAIN))

    asyncio.run(watch_async(count, report, 16, step))


def cancelled(count: int, report: Report) -> None:
    """Cancelled calls."""

    async def step() -> None:
        task = asyncio.ensure_future(reply.get_contact_account_async(SILENT))
        await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])
        keep((task, bytearray(1024)))

    asyncio.run(watch_async(count, report, 16, step))


if __name__ == "__main__":
    main(globals())
