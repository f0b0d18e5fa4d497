"""What is logged: nothing unless asked for; then a line for each request and wait, and never a key or a value."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING

import pytest

from replyio import BadRequestError, NotFoundError, Quota, RateLimitError, ReplyClient, TransportError
from replyio.sandbox import Deviations, Fault, Sandbox
from support import MODES, call, listed, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIME = r"(?:\d+\.\d{3} s|\d+ ms)"


@pytest.fixture
def info(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Turns INFO on, and gives the lines."""
    caplog.set_level(logging.INFO, "replyio")
    return lambda: [f"{record.levelname} {record.name} {record.getMessage()}" for record in caplog.records]


def test_nothing_is_written_by_default(reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(request=2, status=503))
    done = run(
        """
        import asyncio, replyio
        client = replyio.ReplyClient()
        client.patch_contact_account(4711, city="Bergen")
        asyncio.run(client.get_contact_account_async(4711))
        try:
            client.get_contact_account(1)
        except replyio.NotFoundError:
            pass
        """,
        reply_sandbox,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_that_does_not_log_never_imports_logging(reply_sandbox: Sandbox) -> None:
    code = """
        import sys, replyio
        client = replyio.ReplyClient()
        client.patch_contact_account(4711, city="Bergen")
        list(client.list_contact_accounts())
        print("logging" in sys.modules)
        client.close()
    """
    assert run(code, reply_sandbox).stdout == "False\n"


def test_a_long_wait_is_announced_even_when_nobody_turned_logging_on(reply_sandbox: Sandbox) -> None:
    code = """
        import signal, replyio
        client = replyio.ReplyClient(quota=replyio.Quota(1, 100))
        client.get_contact_account(4711)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            client.get_contact_account(4711)
        except KeyboardInterrupt:
            pass
    """
    done = run(code, reply_sandbox)
    assert done.stderr == "get of account 4711: waiting 60 s (quota: 1 per minute)\n"


@pytest.mark.parametrize("mode", MODES)
def test_info_is_a_line_for_each_request(mode: str, reply_sandbox: Sandbox, info: Callable[[], list[str]]) -> None:
    with reply_sandbox.client() as client:
        call(client, "patch_contact_account", mode, 4711, city="Bergen")
        with pytest.raises(NotFoundError):
            call(client, "get_contact_account", mode, 1)
        listed(client, mode, search="canary")
    expected = [
        rf"INFO replyio GET /v3/contact-accounts/4711 200 attempt 1 in {TIME}",
        rf"INFO replyio PUT /v3/contact-accounts/4711 200 attempt 1 in {TIME}",
        rf"INFO replyio GET /v3/contact-accounts/1 404 attempt 1 in {TIME}",
        rf"INFO replyio GET /v3/contact-accounts 200 attempt 1 in {TIME}",
    ]
    assert len(info()) == len(expected)
    for line, pattern in zip(info(), expected, strict=True):
        assert re.fullmatch(pattern, line), line


@pytest.mark.parametrize("mode", MODES)
def test_info_tells_attempts_and_waits(mode: str, reply_sandbox: Sandbox, info: Callable[[], list[str]]) -> None:
    reply_sandbox.add_fault(Fault(request=1, status=503))
    reply_sandbox.add_fault(Fault(request=2, status=429, retry_after=1))
    with reply_sandbox.client() as client:
        call(client, "get_contact_account", mode, 4711)
    expected = [
        rf"INFO replyio GET /v3/contact-accounts/4711 503 attempt 1 in {TIME}",
        r"INFO replyio get of account 4711: waiting .* \(pause before the next attempt\)",
        rf"INFO replyio GET /v3/contact-accounts/4711 429 attempt 2 in {TIME}",
        r"INFO replyio get of account 4711: waiting 1 s \(Retry-After of the service\)",
        rf"INFO replyio GET /v3/contact-accounts/4711 200 attempt 3 in {TIME}",
    ]
    assert len(info()) == len(expected)
    for line, pattern in zip(info(), expected, strict=True):
        assert re.fullmatch(pattern, line), line


def test_a_wait_for_the_limit_that_the_service_reports_is_not_blamed_on_retry_after(
    info: Callable[[], list[str]],
) -> None:
    deviations = Deviations(rate_limit_headers="x-rate-limit")
    with Sandbox(quota=(1, 100), deviations=deviations) as sandbox, sandbox.client(quota=Quota(), timeout=5) as client:
        client.get_contact_account(4711)
        with pytest.raises(
            RateLimitError, match=r"\d+ s \(limit reported by the service\), too late for this call's timeout"
        ):
            client.get_contact_account(4711)
    assert [request.status for request in sandbox.requests] == [200]
    assert not [line for line in info() if "Retry-After" in line]


def test_a_path_of_the_environment_cannot_forge_a_line(
    reply_sandbox: Sandbox, info: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLYIO_STATE_DIR", "/proc/a\nERROR forged \x1b[31m")
    with reply_sandbox.client(api_key="another-key", quota=Quota()) as client:
        client.get_contact_account(4711)
    (line,) = (line for line in info() if "counts only" in line)
    assert r"/proc/a\nERROR forged \x1b[31m" in line


@pytest.mark.parametrize("mode", MODES)
def test_a_request_without_an_answer_says_why(mode: str, info: Callable[[], list[str]]) -> None:
    with Sandbox() as sandbox:
        address = sandbox.url
    with ReplyClient("key", base_url=address, max_attempts=1) as client, pytest.raises(TransportError):
        call(client, "get_contact_account", mode, 4711)
    (line,) = info()
    assert re.fullmatch(
        rf"INFO replyio GET /v3/contact-accounts/4711 failed: could not connect .*, attempt 1 in {TIME}", line
    )


@pytest.mark.parametrize("mode", MODES)
def test_no_line_has_a_key_or_a_value(
    mode: str, reply_sandbox: Sandbox, info: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reply_sandbox.add_fault(Fault(request=2, status=400, body={"detail": "canary-value canary-key"}))
    with reply_sandbox.client(api_key="canary-key", act_as="canary@acme.example") as client:
        call(client, "update_contact_account", mode, 4711, name="canary-value", city="canary-value")
        with pytest.raises(BadRequestError):
            call(client, "patch_contact_account", mode, 4711, city="another canary-value")
        listed(client, mode, search="canary-value")
    assert [line for line in info() if "canary" in line] == []
    assert len([line for line in info() if "replyio" in line]) == 3


def test_another_level_or_logger_stays_silent(reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "replyio")
    with reply_sandbox.client() as client:
        client.get_contact_account(4711)
    assert caplog.records == []


class Curious(logging.Handler):
    """A handler that uses the client itself."""

    def __init__(self, client: ReplyClient) -> None:
        super().__init__()
        self.client = client
        self.seen: list[str] = []
        self.busy = False

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())
        if not self.busy:
            self.busy = True
            try:
                self.seen.append(self.client.get_contact_account(4712).name)
            finally:
                self.busy = False


@pytest.mark.parametrize("mode", MODES)
def test_a_handler_may_call_the_client(mode: str, reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "replyio")
    with reply_sandbox.client() as client:
        handler = Curious(client)
        logging.getLogger("replyio").addHandler(handler)
        try:
            assert call(client, "get_contact_account", mode, 4711).id == 4711
        finally:
            logging.getLogger("replyio").removeHandler(handler)
    assert [line.split(" in ")[0] for line in handler.seen] == [
        "GET /v3/contact-accounts/4711 200 attempt 1",
        "GET /v3/contact-accounts/4712 200 attempt 1",
        "Globex",
    ]


class Broken(logging.Handler):
    """A handler that fails without `logging` noticing."""

    def handle(self, record: logging.LogRecord) -> bool:
        raise RuntimeError("the handler failed")


@pytest.fixture
def broken(caplog: pytest.LogCaptureFixture) -> Iterator[Broken]:
    caplog.set_level(logging.INFO, "replyio")
    handler = Broken()
    logging.getLogger("replyio").addHandler(handler)
    yield handler
    logging.getLogger("replyio").removeHandler(handler)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `sys.unraisablehook` is told."""
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hooked: told.append(repr(hooked.exc_value)))
    return told


def test_a_handler_that_fails_takes_no_answer_away(
    reply_sandbox: Sandbox, broken: Broken, unraisable: list[str]
) -> None:
    """An update that has happened must not look like one that failed. Broken by `log(py, &lines)?` in lane.rs."""
    with reply_sandbox.client() as client:
        account = client.update_contact_account(4711, name="Acme", city="Bergen", owner_user_id=42)
        assert (account.id, account.city, reply_sandbox.accounts[4711].city) == (4711, "Bergen", "Bergen")
        assert client.patch_contact_account(4711, city="Oslo").city == "Oslo"
        assert [account.id for account in client.list_contact_accounts()] == sorted(reply_sandbox.accounts)
        assert len(reply_sandbox.requests) == 4
        with pytest.raises(NotFoundError):
            client.get_contact_account(1)
        assert unraisable == ["RuntimeError('the handler failed')"] * 5
        logging.getLogger("replyio").removeHandler(broken)
        assert client.get_contact_account(4711).city == "Oslo"


@pytest.mark.usefixtures("broken")
def test_a_handler_that_fails_during_a_wait_does_not_end_the_call(
    reply_sandbox: Sandbox, unraisable: list[str]
) -> None:
    reply_sandbox.add_fault(Fault(request=1, status=503, retry_after=1))
    with reply_sandbox.client() as client:
        assert client.get_contact_account(4711).id == 4711
    assert unraisable == ["RuntimeError('the handler failed')"] * 3
    assert len(reply_sandbox.requests) == 2


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("waits", [False, True], ids=["at the end", "during a wait"])
def test_an_interrupt_inside_a_handler_goes_on(
    raised: type[BaseException],
    waits: bool,
    reply_sandbox: Sandbox,
    broken: Broken,
    unraisable: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def handle(_: logging.LogRecord) -> bool:
        raise raised

    monkeypatch.setattr(broken, "handle", handle)
    if waits:
        reply_sandbox.add_fault(Fault(request=1, status=503, retry_after=60))
    with reply_sandbox.client() as client:
        with pytest.raises(raised):
            client.get_contact_account(4711)
        logging.getLogger("replyio").removeHandler(broken)
        assert client.get_contact_account(4712).id == 4712
    assert unraisable == []
