"""What must be so after every fault: no secret shown, in time, nothing left open, and the client still of use."""

from __future__ import annotations

import gc
import logging
import re
import time
from typing import Any, TypeVar

import pytest

import replyio
from replyio import ContactAccount, ReplyError
from replyio.sandbox import Sandbox
from seen import assert_hidden, opened, pieces, shown

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


_HIDDEN = pieces(KEY, FIELD, PASSWORD)


def assert_no_secret(text: str, where: str) -> None:
    """No key, no password and no field's value is in a text."""
    assert_hidden(text, where, _HIDDEN)


class Day:
    """A day with one service and the clients that were made in it."""

    def __init__(self, sandbox: Sandbox, log: pytest.LogCaptureFixture) -> None:
        self.sandbox = sandbox
        self._log = log
        self._clients: list[replyio.ReplyClient] = []
        gc.collect()
        self._before = opened()

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
        for where, text in shown(error):
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
        while any(now > before for now, before in zip(opened(), self._before, strict=True)):
            assert time.monotonic() < given_up, f"threads and descriptors were {self._before} and are {opened()}"
            time.sleep(0.005)
        assert (out, err) == ("", ""), "something was printed"
        for record in self._log.get_records("call"):
            assert_no_secret(f"{record.getMessage()} {vars(record)!r}", "the log")

    def log_everything(self) -> None:
        """Has every line logged."""
        self._log.set_level(logging.DEBUG)
