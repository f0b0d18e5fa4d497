"""Experiment: many threads share one client, and log handlers call it."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Callable

from common import PLAIN, Report, client, main

from replyio import TransportError

reply = client()
THREADS = 64


def in_threads(body: Callable[[int], None]) -> None:
    """Runs something in 64 threads."""
    threads = [threading.Thread(target=body, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def many(count: int, report: Report) -> None:
    """Each thread asks for accounts of its own."""
    lock = threading.Lock()

    def call(number: int) -> None:
        answers = [reply.get_contact_account(1000 + (number + step) % 16).id for step in range(count // THREADS)]
        with lock:
            for step, answer in enumerate(answers):
                report.check(answer == 1000 + (number + step) % 16, "another call's answer")

    in_threads(call)


def closing(count: int, report: Report) -> None:
    """Every eighth thread closes the client now and then; no call notices."""
    lock = threading.Lock()

    def call(number: int) -> None:
        for step in range(count // THREADS):
            if number % 8 == 0 and random.random() < 0.1:
                reply.close()
            try:
                good, note = reply.get_contact_account(1000 + step % 16).id == 1000 + step % 16, "another's answer"
            except TransportError as error:
                good, note = False, str(error)
            with lock:
                report.check(good, note)

    in_threads(call)


class Caller(logging.Handler):
    """A handler that calls the client, whose lines it does not handle again."""

    def __init__(self) -> None:
        """Has called nothing yet."""
        super().__init__()
        self.answers = 0
        self.inside = threading.local()

    def emit(self, _: logging.LogRecord) -> None:
        """Calls."""
        if getattr(self.inside, "calls", False):
            return
        self.inside.calls = True
        try:
            self.answers += reply.get_contact_account(PLAIN).id == PLAIN
        finally:
            self.inside.calls = False


def log_handler(count: int, report: Report) -> None:
    """A handler calls during synchronous calls."""
    handler = _listen(Caller())
    for number in range(count):
        account = reply.get_contact_account(1000)
        report.check(account.id == 1000 and handler.answers == number + 1, "the handler's call failed")


def log_handler_async(count: int, report: Report) -> None:
    """A handler calls on the event loop."""
    handler = _listen(Caller())

    async def run() -> None:
        for number in range(count):
            account = await reply.get_contact_account_async(1000)
            report.check(account.id == 1000 and handler.answers == number + 1, "the handler's call failed")

    asyncio.run(run())


def log_handler_raises(count: int, report: Report) -> None:
    """What a filter raises is told to the event loop, and costs no answer."""
    _listen(logging.NullHandler())

    def refuse(_: logging.LogRecord) -> bool:
        raise RuntimeError("a filter's fault")

    logging.getLogger("replyio").addFilter(refuse)

    async def run() -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        for _ in range(0, count, 16):
            calls = asyncio.gather(*(reply.get_contact_account_async(1000) for _ in range(16)))
            for account in await asyncio.wait_for(calls, 5):
                report.check(account.id == 1000, "another call's answer")
        report.check(bool(told), "the filter's fault was swallowed")

    asyncio.run(run())


def _listen(handler: logging.Handler) -> logging.Handler:
    logger = logging.getLogger("replyio")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return handler


if __name__ == "__main__":
    main(globals())
