"""Calls leave nothing behind: memory, descriptors and threads are the same after thousands of them."""

from __future__ import annotations

import pytest

from replyio.sandbox import Sandbox
from support import run

MEASURE = """
import asyncio, gc, os
import replyio
from replyio import ReplyClient

client = ReplyClient(quota=None, max_attempts=1)

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

def held():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

def calls(count):
    for number in range(count):
        client.update_contact_account(4711, name="Acme", city=str(number), description="x" * 500)

def errors(count):
    for _ in range(count):
        try:
            client.get_contact_account(1)
        except replyio.NotFoundError:
            pass

def refusals(count):
    for _ in range(count):
        try:
            client.update_contact_account(0, name=" ", citty="Oslo")
        except replyio.ValidationError:
            pass

def loops(count):
    async def main():
        for _ in range(count // 500):
            await asyncio.gather(*(client.get_contact_account_async(4711) for _ in range(50)))
    for _ in range(10):
        asyncio.run(main())

def cancelled(count):
    async def main():
        for _ in range(count // 50):
            tasks = [asyncio.ensure_future(client.get_contact_account_async(4711)) for _ in range(50)]
            await asyncio.sleep(0.002)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    asyncio.run(main())

def clients(count):
    for _ in range(count):
        with ReplyClient(quota=None) as one:
            one.get_contact_account(4711)


def work(name, count):
    globals()[name](count)
"""
# What is done, how often to warm up, and how often then.
WORK = {
    "calls": (2_000, 20_000),
    "errors": (1_000, 5_000),
    "refusals": (1_000, 5_000),
    "loops": (1_000, 5_000),
    "cancelled": (1_000, 2_000),
    "clients": (100, 400),
}


@pytest.mark.parametrize("name", WORK)
def test_memory_stays_flat(name: str) -> None:
    warm_up, count = WORK[name]
    code = f"""
work({name!r}, {warm_up})
before, held_before = resident(), held()
work({name!r}, {count})
print(round(resident() - before, 2))
client.close()
print(held()[0] <= held_before[0], held()[1] <= held_before[1])
"""
    with Sandbox(keep_requests=1) as sandbox:
        done = run(MEASURE + code, sandbox, timeout=110)
    assert done.stderr == ""
    growth, held = done.stdout.split("\n")[:2]
    assert float(growth) < 3, f"{growth} MiB more after {count} {name}"
    assert held == "True True"
