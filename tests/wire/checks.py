"""The six checks after every fault, as `docs` has them: secret, time, count, leaks, pool.

The sixth, rows, is for plans. A test gives a script and what is to come of it; `Survival.survives` does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import faulthandler
import gc
import logging
import pickle
import re
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import replyio
from replyio import ContactAccount, ReplyError
from seen import assert_hidden, opened, pieces, shown

from .hostile import Hostile, Script, honest

KEY = "Zq7+xW/3vB=9%tR~5mN_kP2"
FIELD = "Ly4 &J8d=0 <nobody> may see this"
PROXY_PASSWORD = "hG6rT1wQ8zX3"


class Face(enum.Enum):
    """The ways in which the same thing can be asked for."""

    SYNC = "sync"
    ASYNC = "async"
    LIST = "list"
    LIST_ASYNC = "list-async"


UPDATES = (Face.SYNC, Face.ASYNC)
LISTS = (Face.LIST, Face.LIST_ASYNC)
ALL = (*UPDATES, *LISTS)
USUAL = (*UPDATES, Face.LIST)


class Outcome(NamedTuple):
    """What came of a call."""

    accounts: list[ContactAccount]
    error: ReplyError | None
    elapsed: float


def ask(face: Face, client: replyio.ReplyClient) -> list[ContactAccount]:
    """Updates account 7, or lists all."""

    async def update() -> list[ContactAccount]:
        return [await client.update_contact_account_async(7, name=FIELD, city=FIELD)]

    async def gather() -> list[ContactAccount]:
        return [account async for account in client.list_contact_accounts_async(FIELD, page_size=10)]

    if face is Face.SYNC:
        return [client.update_contact_account(7, name=FIELD, city=FIELD)]
    if face is Face.LIST:
        return list(client.list_contact_accounts(FIELD, page_size=10))
    return asyncio.run(update() if face is Face.ASYNC else gather())


def call(face: Face, client: replyio.ReplyClient, method: str, *arguments: Any, **fields: Any) -> ContactAccount:
    """Calls a method of the client, or its asynchronous twin."""

    async def twin() -> ContactAccount:
        account: ContactAccount = await getattr(client, f"{method}_async")(*arguments, **fields)
        return account

    if face in (Face.SYNC, Face.LIST):
        account: ContactAccount = getattr(client, method)(*arguments, **fields)
        return account
    return asyncio.run(twin())


def get(face: Face, client: replyio.ReplyClient, id: int) -> ContactAccount:
    """Reads an account."""
    return call(face, client, "get_contact_account", id)


def attempt(face: Face, client: replyio.ReplyClient) -> Outcome:
    """Asks, and takes the time."""
    started = time.monotonic()
    try:
        accounts = ask(face, client)
    except ReplyError as error:
        return Outcome([], error, time.monotonic() - started)
    return Outcome(accounts, None, time.monotonic() - started)


def client_of(base_url: str, **options: Any) -> replyio.ReplyClient:
    """A client with short limits and no quota."""
    limits: dict[str, Any] = {"timeout": 3.0, "attempt_timeout": 1.5, "connect_timeout": 1.0, "max_attempts": 2}
    return replyio.ReplyClient(KEY, base_url=base_url, **{**limits, "quota": None, **options})


_KEY_PIECES = pieces(KEY, PROXY_PASSWORD)
_FIELD_PIECES = pieces(FIELD)


def assert_secret(text: str, where: str, *, said_by_server: bool = False) -> None:
    """No key and no password are in a text, and no field value that the server itself did not say."""
    assert_hidden(text, where, _KEY_PIECES | (set() if said_by_server else _FIELD_PIECES))


class _Kept(logging.Handler):
    """Keeps every record."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.getMessage()} {record.args!r} {vars(record)!r}")


def _soon(happened: Callable[[], bool], seconds: float = 2.0) -> bool:
    given_up = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > given_up:
            return False
        time.sleep(0.002)
    return True


class Survival:
    """Does the checks around a fault."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture
        self.log = _Kept()

    @contextlib.contextmanager
    def watched(self, *, said_by_server: bool = False) -> Iterator[None]:
        """Watches what is printed and logged, and whether everything is given back; the clients are closed inside."""
        gc.collect()
        faulthandler.dump_traceback_later(60, exit=True)  # a thread itself, so it is there before and after
        before = opened()
        root = logging.getLogger()
        level = root.level
        root.addHandler(self.log)
        root.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.removeHandler(self.log)
            root.setLevel(level)
        try:
            # One by one: a thread of another test that is still leaving must not hide a descriptor.
            given_back = _soon(lambda: all(now <= then for now, then in zip(opened(), before, strict=True)))
            assert given_back, f"threads and descriptors were {before} and are {opened()}"
        finally:
            faulthandler.cancel_dump_traceback_later()
        out, err = self.capture.readouterr()
        assert (out, err) == ("", ""), "something was printed"
        assert_secret("\n".join(self.log.lines), "the log", said_by_server=said_by_server)

    def survives(
        self,
        face: Face,
        *scripts: Script,
        raises: type[ReplyError] | None = None,
        says: str = "",
        requests: int | None = 1,
        connections: int | None = None,
        attempts: int | None = None,
        within: float | None = None,
        said_by_server: bool = False,
        server: Hostile | None = None,
        base_url: str | None = None,
        afterwards: Script = honest,
        then_tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> Outcome:
        """Asks a server that plays the scripts, and checks what must be so after every fault.

        Args:
            face: How to ask.
            *scripts: What the connections play, one after the other.
            raises: The exact class of the error; None for an answer.
            says: What the message must hold, as a regular expression.
            requests: How many requests the server must have seen; None where it cannot tell.
            connections: How many connections it must have seen, where that is to be checked.
            attempts: How often the error says that it was tried; the number of requests where not given.
            within: Seconds that it may take; the deadline and half a second where not given.
            said_by_server: Whether the server repeats the field value, which may then be seen.
            server: The server, where it is not a new one for plain HTTP.
            base_url: How the server is called, where not by its own address.
            afterwards: What is played when the fault is over.
            then_tls: How the server speaks TLS when the fault is over.
            **options: Options of the client.
        """
        gc.collect()
        server = server or Hostile()
        server.play(*scripts)
        # The server's own listener is there before and after; it is closed behind the check.
        with server, self.watched(said_by_server=said_by_server):
            client = client_of(base_url or server.base_url, **options)
            outcome = attempt(face, client)
            self.judge(outcome, raises, says, said_by_server=said_by_server)
            limit = within if within is not None else float(options.get("timeout", 3.0)) + 0.5
            assert outcome.elapsed < limit, f"took {outcome.elapsed:.2f} s of {limit} s"
            if requests is not None:
                assert len(server.requests) == requests, [request[:2] for request in server.requests]
            if connections is not None:
                assert len(server.peers) == connections
            if isinstance(outcome.error, replyio.ReplyError):
                tried = attempts if attempts is not None else requests
                assert tried is None or getattr(outcome.error, "attempts", tried) == tried
            server.tls = then_tls or server.tls
            server.play(afterwards)
            # A Retry-After holds back the user: another one asks over the same connections.
            is_held = bool(getattr(outcome.error, "retry_after", None))
            self.asks_again(face, client.with_options(act_as=1) if is_held else client)
            client.close()
            assert server.wait_until_left(), "a connection is open after close()"
        return outcome

    @staticmethod
    def judge(
        outcome: Outcome, raises: type[ReplyError] | None, says: str = "", *, said_by_server: bool = False
    ) -> None:
        """What came of a call is what was to come of it, in one line, and shows no secret."""
        if raises is None:
            assert outcome.error is None, repr(outcome.error)
            return
        error = outcome.error
        assert type(error) is raises, repr(error or outcome.accounts)
        message = str(error)
        assert re.search(says, message), message
        assert "\n" not in message
        assert len(message) < 3000
        for where, text in shown(error):
            assert_secret(text, where, said_by_server=said_by_server)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), message, vars(error))

    @staticmethod
    def asks_again(face: Face, client: replyio.ReplyClient) -> None:
        """The next calls on the same client get their own answers, whatever the fault left in the pool."""
        for id in (11, 12):
            account = get(face, client, id)
            assert (account.id, account.name) == (id, f"account {id}")
