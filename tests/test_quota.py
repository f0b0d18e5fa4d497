"""The quota is counted over all clients of a user in a process, and waiting for it is never a mystery."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from replyio import ConfigurationError, Quota, RateLimitError, ReplyClient
from replyio.sandbox import Fault, Sandbox
from support import MODES, call, sent

if TYPE_CHECKING:
    from types import FrameType


def fresh() -> str:
    """A key that no other test has used: the quota is remembered by key."""
    return uuid.uuid4().hex


def refused(client: ReplyClient, mode: str = "sync") -> RateLimitError:
    """The refusal of a call that does not fit, which comes at once."""
    begin = time.monotonic()
    with pytest.raises(RateLimitError) as caught:
        call(client, "get_contact_account", mode, 4711)
    assert time.monotonic() - begin < 0.5
    assert caught.value.retry_after is not None
    return caught.value


@pytest.mark.parametrize("mode", MODES)
def test_a_wait_that_does_not_fit_is_refused_at_once_and_nothing_is_sent(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key=fresh(), quota=Quota(2, 100), timeout=5) as client:
        for _ in range(2):
            call(client, "get_contact_account", mode, 4711)
        error = refused(client, mode)
    assert (error.status, error.attempts) == (429, 0)
    assert 50 < (error.retry_after or 0) <= 60
    assert "quota: 2 per minute" in str(error)
    assert "nothing was sent" in str(error)
    assert len(reply_sandbox.requests) == 2


@pytest.mark.parametrize("mode", MODES)
def test_the_hour_has_a_window_of_its_own(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key=fresh(), quota=Quota(100, 2), timeout=5) as client:
        for _ in range(2):
            call(client, "get_contact_account", mode, 4711)
        error = refused(client, mode)
    assert 3590 < (error.retry_after or 0) <= 3600
    assert "quota: 2 per hour" in str(error)


def test_clients_of_one_user_count_together(reply_sandbox: Sandbox) -> None:
    options: dict[str, Any] = {"api_key": fresh(), "quota": Quota(4, 100), "timeout": 5}
    clients = [reply_sandbox.client(**options), reply_sandbox.client(**options)]
    clients.append(clients[0].with_options(timeout=4))
    for client in clients:
        client.get_contact_account(4711)
    call(clients[0], "get_contact_account", "async", 4711)
    for client in clients:
        refused(client)
    assert len(reply_sandbox.requests) == 4
    for client in clients:
        client.close()


def test_threads_count_together(reply_sandbox: Sandbox) -> None:
    outcomes: list[str] = []

    def work() -> None:
        with reply_sandbox.client(api_key=key, quota=Quota(10, 100), timeout=5) as client:
            try:
                client.get_contact_account(4711)
                outcomes.append("done")
            except RateLimitError:
                outcomes.append("refused")

    key = fresh()
    threads = [threading.Thread(target=work) for _ in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count("done"), outcomes.count("refused")) == (10, 15)
    assert len(reply_sandbox.requests) == 10


def test_another_key_another_user_and_another_address_have_quotas_of_their_own(reply_sandbox: Sandbox) -> None:
    key = fresh()
    with Sandbox() as elsewhere, reply_sandbox.client(api_key=key, quota=Quota(1, 100), timeout=5) as client:
        client.get_contact_account(4711)
        refused(client)
        client.with_options(act_as=7).get_contact_account(4711)
        refused(client.with_options(act_as=7))
        client.with_options(act_as="someone@acme.example").get_contact_account(4711)
        reply_sandbox.client(api_key=fresh(), quota=Quota(1, 100)).get_contact_account(4711)
        elsewhere.client(api_key=key, quota=Quota(1, 100)).get_contact_account(4711)


def test_a_sandbox_on_the_port_of_an_earlier_one_has_counted_nothing_and_told_nobody_to_wait() -> None:
    key = fresh()
    with Sandbox(faults=[Fault(request=1, status=429, retry_after=3600)]) as earlier:
        port = earlier.port
        client = earlier.client(api_key=key, quota=Quota(1, 100), timeout=5, max_attempts=1)
        with pytest.raises(RateLimitError, match="429"):
            client.get_contact_account(4711)
    with Sandbox(port=port) as later, later.client(api_key=key, quota=Quota(1, 100), timeout=5) as client:
        assert client.get_contact_account(4711).id == 4711


def test_this_machine_has_one_quota_by_whatever_name(reply_sandbox: Sandbox) -> None:
    key = fresh()
    with reply_sandbox.client(api_key=key, quota=Quota(1, 100), timeout=5) as client:
        client.get_contact_account(4711)
    named = reply_sandbox.url.replace("127.0.0.1", "localhost")
    with reply_sandbox.client(api_key=key, base_url=named, quota=Quota(1, 100), timeout=5) as client:
        refused(client)


def test_a_patch_takes_two_places_and_a_refused_call_none(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key=fresh(), quota=Quota(3, 100), timeout=5) as client:
        client.patch_contact_account(4711, city="Bergen")
        with pytest.raises(ValueError, match="positive"):
            client.get_contact_account(0)
        client.get_contact_account(4711)
        refused(client)


def test_a_patch_whose_write_does_not_fit_writes_nothing(reply_sandbox: Sandbox) -> None:
    client = reply_sandbox.client(api_key=fresh(), quota=Quota(2, 100), timeout=5)
    with client:
        client.get_contact_account(4711)
        with pytest.raises(RateLimitError) as caught:
            client.patch_contact_account(4711, city="Bergen")
    assert caught.value.attempts == 1
    assert sent(reply_sandbox) == ["GET", "GET"]


def test_a_patch_is_refused_under_a_quota_that_allows_no_pair_of_requests(reply_sandbox: Sandbox) -> None:
    for quota in (Quota(1, 100), Quota(5, 1)):
        with (
            reply_sandbox.client(api_key=fresh(), quota=quota) as client,
            pytest.raises(ConfigurationError, match="at least 2 requests per minute and per hour"),
        ):
            client.patch_contact_account(4711, city="Bergen")
    assert sent(reply_sandbox) == []


@pytest.mark.reply_sandbox(quota=(3, 100))
def test_no_quota_leaves_it_to_the_service(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(quota=None, timeout=5) as client:
        for _ in range(3):
            client.get_contact_account(4711)
        error = refused(client)
    assert (error.attempts, len(reply_sandbox.requests)) == (1, 4)
    assert error.title
    assert 0 < (error.retry_after or 0) <= 60
    assert "the quota allows the next request in" in str(error)


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_after_that_fits_is_waited_for(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(request=1, status=429, retry_after=1))
    with reply_sandbox.client(api_key=fresh()) as client:
        begin = time.monotonic()
        assert call(client, "get_contact_account", mode, 4711).id == 4711
    assert 1.0 <= time.monotonic() - begin < 2.5
    assert [request.status for request in reply_sandbox.requests] == [429, 200]


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_after_that_does_not_fit_holds_back_every_client_of_the_user(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(request=1, status=429, retry_after=3600))
    options: dict[str, Any] = {"api_key": fresh(), "timeout": 60}
    with reply_sandbox.client(**options) as client, reply_sandbox.client(**options) as other:
        error = refused(client, mode)
        assert (error.retry_after, error.attempts) == (3600, 1)
        held = refused(other, mode)
        assert held.attempts == 0
        assert 3590 < (held.retry_after or 0) <= 3600
    assert len(reply_sandbox.requests) == 1


class _EnoughError(Exception):
    """Ends a wait that was seen to begin."""


def _end(_number: int, _frame: FrameType | None) -> None:
    raise _EnoughError


def begin_to_wait(client: ReplyClient, mode: str) -> None:
    """Calls, and gives up after a fifth of a second."""
    if mode == "async":
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            asyncio.run(asyncio.wait_for(client.get_contact_account_async(4711), 0.2))
        return
    before = signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(_EnoughError):
            client.get_contact_account(4711)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("mode", MODES)
def test_a_long_wait_is_announced_as_it_begins(
    mode: str, reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    with reply_sandbox.client(api_key=fresh(), quota=Quota(1, 100)) as client:
        call(client, "get_contact_account", mode, 4711)
        begin_to_wait(client, mode)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "get of account 4711: waiting 60 s (quota: 1 per minute)")
    ]
    assert len(reply_sandbox.requests) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_gave_up_waiting_gives_its_place_back(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key=fresh(), quota=Quota(2, 100)) as client:
        call(client, "get_contact_account", mode, 4711)
        time.sleep(0.3)
        call(client, "get_contact_account", mode, 4711)
        for _ in range(3):
            begin_to_wait(client, mode)
        # The first of the two leaves the window in a minute; had the waits kept their places, it would be two.
        assert 50 < (refused(client.with_options(timeout=1)).retry_after or 0) <= 60


@pytest.mark.parametrize("mode", MODES)
def test_a_short_wait_is_not_announced(mode: str, reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    reply_sandbox.add_fault(Fault(request=1, status=429, retry_after=1))
    with reply_sandbox.client(api_key=fresh()) as client:
        call(client, "get_contact_account", mode, 4711)
    assert caplog.records == []
