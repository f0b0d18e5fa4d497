"""Makes one measurement of one Python client and prints it as a line of JSON.

`compare.py` starts it; the first two measurements of native reqwest are in `native.rs`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

from contenders import CONCURRENCY, CONTENDERS, THREADS, AsyncCall, Call, Contender

Figures = dict[str, Any]


class WrongAnswerError(Exception):
    """A contender answered with another account than the one asked for."""


def _check(asked: int, answered: int) -> None:
    if answered != asked:
        raise WrongAnswerError(f"asked for {asked}, answered {answered}")


def _rates(calls: int, wall_ns: int, cpu_ns: int) -> Figures:
    return {
        "calls": calls,
        "calls_per_s": calls / wall_ns * 1e9,
        "cpu_us": cpu_ns / 1000 / calls,
    }


def _with_latencies(latencies: list[int], figures: Figures) -> Figures:
    latencies.sort()
    percentiles = {f"p{percent}_us": latencies[len(latencies) * percent // 100] / 1000 for percent in (50, 90, 99)}
    return percentiles | figures


def sequential(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    """One call after another, on one client: latencies and processor time."""
    if contender.open_async is not None:
        return _run(contender, _sequential_async(contender, base_url, calls, warmup))
    clock = time.perf_counter_ns
    with _open(contender, base_url) as call:
        for account_id in range(1, warmup + 1):
            _check(account_id, call(account_id))
        latencies = [0] * calls
        cpu, start = time.process_time_ns(), clock()
        for index in range(calls):
            begin = clock()
            answered = call(index + 1)
            latencies[index] = clock() - begin
            _check(index + 1, answered)
        wall, cpu = clock() - start, time.process_time_ns() - cpu
    return _with_latencies(latencies, _rates(calls, wall, cpu))


async def _sequential_async(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    clock = time.perf_counter_ns
    async with _open_async(contender, base_url) as call:
        for account_id in range(1, warmup + 1):
            _check(account_id, await call(account_id))
        latencies = [0] * calls
        cpu, start = time.process_time_ns(), clock()
        for index in range(calls):
            begin = clock()
            answered = await call(index + 1)
            latencies[index] = clock() - begin
            _check(index + 1, answered)
        wall, cpu = clock() - start, time.process_time_ns() - cpu
    return _with_latencies(latencies, _rates(calls, wall, cpu))


def in_flight(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    """`CONCURRENCY` coroutines on one client, each with one call in flight."""
    return _run(contender, _in_flight(contender, base_url, calls, warmup))


async def _in_flight(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    async def keep_calling(call: AsyncCall, ids: count[int], last: int) -> None:
        while (account_id := next(ids)) <= last:
            _check(account_id, await call(account_id))

    async def run(call: AsyncCall, last: int) -> None:
        ids = count(1)
        await asyncio.gather(*(keep_calling(call, ids, last) for _ in range(CONCURRENCY)))

    return await _timed(run, contender, base_url, calls, warmup)


async def _timed(
    run: Callable[[AsyncCall, int], Awaitable[None]], contender: Contender, base_url: str, calls: int, warmup: int
) -> Figures:
    async with _open_async(contender, base_url) as call:
        await run(call, warmup)
        cpu, start = time.process_time_ns(), time.perf_counter_ns()
        await run(call, calls)
        wall, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
    return _rates(calls, wall, cpu)


def gather(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    """All calls at once as tasks, of which a semaphore lets `CONCURRENCY` call at a time."""
    return _run(contender, _gather(contender, base_url, calls, warmup))


async def _gather(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    async def run(call: AsyncCall, last: int) -> None:
        free = asyncio.Semaphore(CONCURRENCY)

        async def one(account_id: int) -> None:
            async with free:
                _check(account_id, await call(account_id))

        await asyncio.gather(*(one(account_id) for account_id in range(1, last + 1)))

    return await _timed(run, contender, base_url, calls, warmup)


def threads(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    """`THREADS` threads on one client, or a client each where the contender asks for it."""
    share, warmup_share = calls // THREADS, warmup // THREADS + 1
    barrier = Barrier(THREADS, timeout=60)

    def keep_calling(call: Call) -> tuple[int, int]:
        for account_id in range(1, warmup_share + 1):
            _check(account_id, call(account_id))
        barrier.wait()
        start = time.perf_counter_ns()
        for account_id in range(1, share + 1):
            _check(account_id, call(account_id))
        return start, time.perf_counter_ns()

    with ExitStack() as stack, ThreadPoolExecutor(THREADS) as pool:
        if contender.client_per_thread:
            clients = [stack.enter_context(_open(contender, base_url)) for _ in range(THREADS)]
        else:
            clients = [stack.enter_context(_open(contender, base_url))] * THREADS
        cpu = time.process_time_ns()
        spans = list(pool.map(keep_calling, clients))
        cpu = time.process_time_ns() - cpu
    wall = max(end for _, end in spans) - min(start for start, _ in spans)
    figures = _rates(share * THREADS, wall, cpu)
    # The warm-up runs inside the threads, so it is in the processor time, and is counted there.
    figures["cpu_us"] = cpu / 1000 / ((share + warmup_share) * THREADS)
    return figures


def memory(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    """Resident memory after the warm-up and after all calls, `warmup` included."""
    if contender.open_async is not None:
        return _run(contender, _memory_async(contender, base_url, calls, warmup))
    samples = []
    with _open(contender, base_url) as call:
        for account_id in range(1, calls + 1):
            _check(account_id, call(account_id))
            if account_id % warmup == 0:
                samples.append(_resident_bytes())
    return {"calls": calls, "warmup": warmup, "rss": samples}


async def _memory_async(contender: Contender, base_url: str, calls: int, warmup: int) -> Figures:
    samples = []
    async with _open_async(contender, base_url) as call:
        for first in range(1, calls + 1, warmup):
            for batch in range(first, first + warmup, CONCURRENCY):
                ids = range(batch, min(batch + CONCURRENCY, first + warmup))
                for asked, answered in zip(ids, await asyncio.gather(*map(call, ids)), strict=True):
                    _check(asked, answered)
            samples.append(_resident_bytes())
    return {"calls": calls, "warmup": warmup, "rss": samples}


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _open(contender: Contender, base_url: str) -> Any:
    if contender.open is None:
        raise SystemExit(f"{contender.name} has no synchronous client")
    return contender.open(base_url)


def _open_async(contender: Contender, base_url: str) -> Any:
    if contender.open_async is None:
        raise SystemExit(f"{contender.name} has no asynchronous client")
    return contender.open_async(base_url)


def _run(contender: Contender, coroutine: Coroutine[Any, Any, Figures]) -> Figures:
    if not contender.uvloop:
        return asyncio.run(coroutine)
    import uvloop

    result: Figures = uvloop.run(coroutine)
    return result


MODES = {"sequential": sequential, "in-flight": in_flight, "gather": gather, "threads": threads, "memory": memory}


def main() -> int:
    """Measures what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("port", type=int)
    parser.add_argument("calls", type=int)
    parser.add_argument("warmup", type=int)
    arguments = parser.parse_args()
    base_url = f"http://127.0.0.1:{arguments.port}/v3"
    contender = CONTENDERS[arguments.contender]
    figures = MODES[arguments.mode](contender, base_url, arguments.calls, arguments.warmup)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
