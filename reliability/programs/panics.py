"""Experiment: makes the core panic at each place. It needs the wheel with the feature `sabotage`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from common import BUSY, PLAIN, Report, client, main

import replyio

EVERYWHERE = ("begin", "quota", "answered")
reply = client()


@contextlib.contextmanager
def panicking(place: str) -> Iterator[None]:
    """Has that place panic."""
    os.environ["REPLYIO_PANIC_AT"] = place
    try:
        yield
    finally:
        del os.environ["REPLYIO_PANIC_AT"]


def fails(report: Report, place: str, call: Callable[[], Any], again: Callable[[], Any]) -> None:
    """The call is an `InternalError` that says where, and the same client then works."""
    with panicking(place):
        try:
            what = f"{place}: {call()!r}"
            good = False
        except replyio.InternalError as error:
            what = f"{place}: {error}"
            good = "a panic at " in str(error) and str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
        except BaseException as error:  # noqa: BLE001 - it is pyo3's, which is no Exception
            what = f"{place}: {type(error).__name__}"
            good = False
    report.check(good, what)
    report.check(again().id == PLAIN, f"{place}: the client is unusable")


def sync(count: int, report: Report) -> None:
    """Synchronous calls."""
    calls: dict[str, Callable[[], Any]] = {
        "new": client,
        "with_options": lambda: reply.with_options(timeout=1.0),
        "update": lambda: reply.update_contact_account(PLAIN, name="Acme"),
        "patch": lambda: reply.patch_contact_account(PLAIN, city="Oslo"),
        "get": lambda: reply.get_contact_account(PLAIN),
        "list": reply.list_contact_accounts,
        "next_page": lambda: next(reply.list_contact_accounts()),
        "accounts": lambda: next(reply.list_contact_accounts()),
        "arrow": lambda: reply.list_contact_accounts().__arrow_c_stream__(),
        "budget": lambda: reply.with_options(timeout=0.5).get_contact_account(BUSY),
        "close": reply.close,
        **{place: lambda: reply.get_contact_account(PLAIN) for place in EVERYWHERE},
    }
    for _ in range(max(1, count // len(calls))):
        for place, call in calls.items():
            fails(report, place, call, lambda: reply.get_contact_account(PLAIN))


def asyncio_(count: int, report: Report) -> None:
    """Asynchronous calls."""

    async def first() -> Any:
        return [account async for account in reply.list_contact_accounts_async()]

    def run(call: Callable[[], Any]) -> Callable[[], Any]:
        async def run_it() -> Any:
            return await asyncio.wait_for(call(), 5)

        return lambda: asyncio.run(run_it())

    calls: dict[str, Callable[[], Any]] = {
        "update": lambda: reply.update_contact_account_async(PLAIN, name="Acme"),
        "patch": lambda: reply.patch_contact_account_async(PLAIN, city="Oslo"),
        "get": lambda: reply.get_contact_account_async(PLAIN),
        "convert": lambda: reply.get_contact_account_async(PLAIN),
        "next_page": first,
        "accounts": first,
        "budget": lambda: reply.with_options(timeout=0.5).get_contact_account_async(BUSY),
        "close": reply.aclose,
        **{place: lambda: reply.get_contact_account_async(PLAIN) for place in EVERYWHERE},
    }
    for _ in range(max(1, count // len(calls))):
        for place, call in calls.items():
            fails(report, place, run(call), run(lambda: reply.get_contact_account_async(PLAIN)))


if __name__ == "__main__":
    main({**globals(), "asyncio": asyncio_})
