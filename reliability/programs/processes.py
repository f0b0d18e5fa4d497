"""Experiment: child processes from fork, spawn and pools make calls over their own connections."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from common import PLAIN, Report, client, main

import replyio

PATIENCE = 5.0


def works(reply: replyio.ReplyClient) -> bool:
    """Whether both faces of a client work."""
    if reply.get_contact_account(PLAIN).id != PLAIN:
        return False
    return asyncio.run(reply.get_contact_account_async(PLAIN)).id == PLAIN


def in_fork(check: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Whether something is so in a forked child, in time."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    given_up = time.monotonic() + patience
    while time.monotonic() < given_up:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def before(count: int, report: Report) -> None:
    """Nothing has been called yet; the grandchild works too."""
    for _ in range(count):
        reply = client()
        report.check(in_fork(lambda reply=reply: works(reply) and in_fork(lambda: works(reply))), "the child failed")
        report.check(works(reply), "the parent failed")


def after(count: int, report: Report) -> None:
    """The parent has called."""
    reply = client()
    for _ in range(count):
        report.check(works(reply), "the parent failed before")
        report.check(in_fork(lambda: works(reply)), "the child failed")
        report.check(works(reply), "the parent failed after")


def during(count: int, report: Report) -> None:
    """Other threads call for the first time: this process never does, so that it is the first time in each child."""
    warnings.simplefilter("ignore", DeprecationWarning)
    # The threads take turns as often as they can, so that the fork finds them anywhere.
    sys.setswitchinterval(1e-6)

    def forks_among_callers() -> bool:
        reply = client()
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                reply.get_contact_account(PLAIN)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(random.random() * 0.004)
        child_works = in_fork(lambda: works(reply))
        stop.set()
        for thread in threads:
            thread.join()
        return child_works and works(reply)

    for _ in range(count):
        report.check(in_fork(forks_among_callers, PATIENCE + 5), "the child failed")


def job(reply: replyio.ReplyClient) -> int:
    """What a process of `multiprocessing` does."""
    return 0 if works(reply) else 1


def task(reply: replyio.ReplyClient, id: int) -> int:
    """What a pool does."""
    return reply.get_contact_account(id).id


def work_and_exit(reply: replyio.ReplyClient) -> None:
    """The target of a process."""
    raise SystemExit(job(reply))


def started(count: int, report: Report, method: str) -> None:
    """Processes of a kind, four at a time."""
    context = multiprocessing.get_context(method)
    reply = client()
    works(reply)
    for _ in range(0, count, 4):
        processes = [context.Process(target=work_and_exit, args=(reply,)) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(30)
            report.check(process.exitcode == 0, f"exit code {process.exitcode}")


def spawn(count: int, report: Report) -> None:
    """A new interpreter."""
    started(count, report, "spawn")


def forkserver(count: int, report: Report) -> None:
    """A fork of a server."""
    started(count, report, "forkserver")


def pool(count: int, report: Report) -> None:
    """An executor over processes that are forked from one that has called."""
    warnings.simplefilter("ignore", DeprecationWarning)
    reply = client()
    works(reply)
    ids = [1000 + number % 16 for number in range(count)]
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as executor:
        for id, answered in zip(ids, executor.map(task, [reply] * count, ids), strict=True):
            report.check(id == answered, "another call's answer")
    report.check(works(reply), "the parent failed after")


if __name__ == "__main__":
    main(globals())
