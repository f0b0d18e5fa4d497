"""What must be so after every fault: no secret shown, in time, nothing left open, and the client still of use."""

from __future__ import annotations

import base64
import gc
import logging
import pickle
import re
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest

import replyio
from replyio import ContactAccount, ReplyError
from replyio.sandbox import Sandbox

E = TypeVar("E", bound=ReplyError)

KEY = "kEy5+Canary/7Qw=2Xz"
FIELD = "A city that nobody may see"
USER = "somebody"
# Most of it must be percent-encoded in an address.
PASSWORD = "pa55@wOrd/Canary#9?"

_LIMITS: dict[str, Any] = {
    "timeout": 5.0,
    "attempt_timeout": 3.0,
    "connect_timeout": 1.5,
    "max_attempts": 2,
    "quota": None,
}


def _forms(secret: str) -> Iterator[str]:
    """Every form in which a secret could get out."""
    yield secret
    yield quote(secret, "")
    yield quote(secret)
    for before in ("", "x", "xy", "Bearer ", f"{USER}:"):
        encoded = base64.b64encode((before + secret).encode()).decode().rstrip("=")
        # What stands at the edges is made of the neighbours too.
        yield encoded[-(-len(before) * 4 // 3) : -1]


SECRETS = {form for secret in (KEY, FIELD, PASSWORD) for form in _forms(secret)}


def assert_no_secret(text: str, where: str) -> None:
    """No key, no password and no field's value is in a text."""
    found = [secret for secret in SECRETS if secret in text]
    assert not found, f"{where} shows {found}"


def _shown(error: BaseException) -> Iterator[tuple[str, str]]:
    """Every way in which an exception is printed or kept, and those that it comes from."""
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.append(current)
        waiting += [current.__cause__, current.__context__]
        yield "str", str(current)
        yield "repr", repr(current)
        yield "args", repr(current.args)
        yield "attributes", repr(vars(current))
        yield "pickle", pickle.dumps(current, protocol=0).decode("latin-1")
        told = traceback.TracebackException.from_exception(current, capture_locals=True)
        yield "traceback", "".join(told.format())


def _open() -> tuple[int, int]:
    """How many threads and file descriptors this process has, where the system tells."""
    if not Path("/proc/self/fd").exists():
        return 0, 0
    return len(list(Path("/proc/self/task").iterdir())), len(list(Path("/proc/self/fd").iterdir())) - 1


class Day:
    """A day with one service and the clients that were made in it."""

    def __init__(self, sandbox: Sandbox, log: pytest.LogCaptureFixture) -> None:
        self.sandbox = sandbox
        self._log = log
        self._clients: list[replyio.ReplyClient] = []
        gc.collect()
        self._before = _open()

    def client(self, base_url: str, **options: Any) -> replyio.ReplyClient:
        """A client with short limits and no quota."""
        client = replyio.ReplyClient(KEY, base_url=base_url, **{**_LIMITS, **options})
        self._clients.append(client)
        return client

    def succeeds(self, client: replyio.ReplyClient, id: int = 4711) -> ContactAccount:
        """An update, of which the service has all that was sent and the client gets its own answer."""
        account = client.update_contact_account(id, name=f"Account {id}", city=FIELD)
        assert (account.id, account.name, account.city) == (id, f"Account {id}", FIELD)
        assert self.sandbox.accounts[id].city == FIELD
        return account

    def fails(
        self, client: replyio.ReplyClient, raises: type[E], says: str, *, within: float = 5.5, attempts: int = 1
    ) -> E:
        """An update that ends in an error of exactly this class, in time and in one line that shows no secret."""
        started = time.monotonic()
        with pytest.raises(ReplyError) as caught:
            client.update_contact_account(4711, name=FIELD, city=FIELD)
        elapsed = time.monotonic() - started
        error = caught.value
        assert type(error) is raises, repr(error)
        message = str(error)
        assert re.search(says, message), message
        assert "\n" not in message
        for where, text in _shown(error):
            assert_no_secret(text, where)
        assert getattr(error, "attempts", attempts) == attempts, message
        assert elapsed < within, f"took {elapsed:.2f} s of {within} s"
        return error

    def end(self, out: str, err: str) -> None:
        """Closes the clients and looks at what is left of the day."""
        for client in self._clients:
            assert_no_secret(repr(client), "the client's repr")
            client.close()
        # What nginx keeps open to the service is in this process too.
        self.sandbox.close_connections()
        given_up = time.monotonic() + 2
        while any(now > before for now, before in zip(_open(), self._before, strict=True)):
            assert time.monotonic() < given_up, f"threads and descriptors were {self._before} and are {_open()}"
            time.sleep(0.005)
        assert (out, err) == ("", ""), "something was printed"
        for record in self._log.get_records("call"):
            assert_no_secret(f"{record.getMessage()} {vars(record)!r}", "the log")

    def log_everything(self) -> None:
        """Has every line logged."""
        self._log.set_level(logging.DEBUG)
