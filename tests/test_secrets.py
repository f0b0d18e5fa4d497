"""A key and a field's value are nowhere that a bad day would show them."""

from __future__ import annotations

import asyncio
import base64
import copy
import html
import logging
import os
import pickle
import traceback
import urllib.parse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from replyio import ConfigurationError, ReplyClient, ReplyError, ReplyWarning
from replyio.sandbox import Deviations, Fault, Sandbox
from support import MODES, PAGE_ANSWER, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Module constants, so that no frame of a test has them among its local variables.
KEY = "canary+key/with=signs-0123456789"
VALUE = "canary value: Füße & 0123456789"
# Members of an account in which a service repeats the key.
ECHOES = {f"seen with {KEY}": 1, "debug": {"X-API-Key": [KEY]}}
PROXY = "http://user:canary-password@127.0.0.1:1"


def spellings(secret: str) -> set[str]:
    """A secret as it is, escaped once or twice, in upper case, and in hexadecimal digits."""
    raw = secret.encode()
    quoted = urllib.parse.quote(secret, safe="")
    references = {
        "".join(letter if letter.isalnum() else form.format(ord(letter)) for letter in secret)
        for form in ("&#{};", "&#x{:x};", "&#x{:X};", "\\u{:04x}", "\\u{:04X}", "%{:02x}")
    }
    found = {secret, ascii(secret)[1:-1], urllib.parse.quote(secret), quoted, urllib.parse.quote_plus(secret)}
    found |= {secret.upper(), secret.replace("+", " "), repr(raw)[2:-1], raw.hex(), raw.hex().upper()}
    found |= {urllib.parse.quote(quoted), *references, *map(html.escape, references)}
    return found | {secret.replace("+", "&plus;").replace("/", "&sol;").replace("=", "&equals;")}


def forms(secret: str) -> set[str]:
    """A secret in every spelling, and inside any base64."""
    found = spellings(secret)
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + secret.encode()).decode().rstrip("=")
        found.add(whole[4:-2] if shift else whole[:-2])
    return found


FORMS = forms(KEY) | forms(VALUE) | forms("canary-password")


def leaks(text: str | bytes) -> list[str]:
    """The secrets in a text."""
    if isinstance(text, bytes):
        return [form for form in FORMS if form.encode() in text]
    return [form for form in FORMS if form in text]


def test_the_search_finds_every_form() -> None:
    for secret in (KEY, VALUE):
        for text in (
            f"x{secret}y",
            ascii(secret),
            urllib.parse.quote(f"x{secret}", safe=""),
            base64.b64encode(f"Bearer {secret}!".encode()).decode(),
            base64.b64encode(f"x{secret}".encode()).decode(),
            pickle.dumps({"x": secret}),
        ):
            assert leaks(text), text
    assert leaks("nothing") == []


def everything_about(error: BaseException) -> Iterator[str | bytes]:
    """All that a program could show of an error."""
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)), pickle.dumps(error))
    yield repr(copy.copy(error))
    yield "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    for other in (error.__cause__, error.__context__):
        if other is not None:
            yield from everything_about(other)


def checked(error: BaseException) -> None:
    found = [leak for text in everything_about(error) for leak in leaks(text)]
    assert found == []


@pytest.fixture(autouse=True)
def _nothing_in_logs_and_streams(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    shown = capfd.readouterr()
    for text in (shown.out, shown.err, caplog.text, *(repr(vars(record)) for record in caplog.records)):
        assert leaks(text) == []


def echo(status: int) -> Fault:
    """An answer that says the key back, in every form that a service or a proxy might."""
    text = " ".join([base64.b64encode(f"Bearer {KEY}".encode()).decode(), *sorted(spellings(KEY))])
    body = {"title": text, "detail": text, "code": KEY, "errors": [{"pointer": f"/{KEY}", "detail": text}]}
    return Fault(status=status, body=body, headers={"X-Request-Id": KEY, "Location": f"https://elsewhere/{KEY}"})


FAULTS: dict[str, Fault] = {
    **{str(status): echo(status) for status in (202, 302, 400, 401, 403, 404, 409, 418, 429, 500, 503, 599)},
    "wrong id": Fault(status=200, body=PAGE_ANSWER | {"id": 5, "name": KEY}),
    "wrong type": Fault(status=200, body=PAGE_ANSWER | {"id": 4711, "ownerUserId": KEY}),
    "a key in html": Fault(status=200, body=f"<html>{' '.join(sorted(spellings(KEY)))}"),
    "no json": Fault(status=200, body=f'{{"id": 4711, "name": "{KEY}'),
    "reset": Fault(reset=True),
    "close": Fault(close=True),
    "cut": Fault(cut=20),
    "late": Fault(delay=5),
}


CALLS: dict[str, Callable[[ReplyClient], Any]] = {
    "update": lambda client: client.update_contact_account(4711, name=VALUE, city=VALUE),
    "patch": lambda client: client.patch_contact_account(4711, name=VALUE, city=VALUE),
    "update async": lambda client: asyncio.run(client.update_contact_account_async(4711, name=VALUE, city=VALUE)),
    "patch async": lambda client: asyncio.run(client.patch_contact_account_async(4711, name=VALUE, city=VALUE)),
    "list": lambda client: list(client.list_contact_accounts()),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_failed_call_shows_a_secret(call: str, fault: str) -> None:
    with (
        Sandbox(faults=[FAULTS[fault]]) as sandbox,
        sandbox.client(api_key=KEY, timeout=0.5, max_attempts=2) as client,
        pytest.raises(ReplyError) as caught,
    ):
        CALLS[call](client)
    checked(caught.value)


REFUSED: dict[str, Callable[[Any], Any]] = {
    "update": lambda client: client.update_contact_account(-1, name=VALUE, city=VALUE, color=VALUE),
    "a wrong size": lambda client: client.update_contact_account(1, name=VALUE, company_size=VALUE),
    "a surrogate": lambda client: client.update_contact_account(1, name=f"{VALUE}\ud800"),
    "a wrong type": lambda client: client.patch_contact_account(1, city=[VALUE]),
    "update async": lambda client: asyncio.run(client.update_contact_account_async(-1, name=VALUE)),
    "patch async": lambda client: asyncio.run(client.patch_contact_account_async(-1, name=VALUE)),
    "a key as an option": lambda client: client.with_options(api_key=KEY),
    "a proxy as an option": lambda client: client.with_options(timeout=1, proxy=PROXY),
}


@pytest.mark.parametrize("call", REFUSED)
def test_no_refused_call_shows_a_secret(call: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key=KEY) as client, pytest.raises(ReplyError) as caught:
        REFUSED[call](client)
    checked(caught.value)


ANY: Any = ReplyClient
CONSTRUCTIONS: dict[str, Callable[[], Any]] = {
    "a key with a line end": lambda: ANY(KEY + "\n"),
    "a key in bytes": lambda: ANY(KEY.encode()),
    "a wrong setting beside a key": lambda: ANY(KEY, timeout=-1),
    "a wrong proxy": lambda: ANY(KEY, proxy=PROXY.replace("http", "socks5")),
    "a proxy in the base_url's place": lambda: ANY(KEY, base_url=PROXY),
    "a missing file": lambda: ANY(KEY, proxy=PROXY, ca_file="/no/such/file"),
    "a quota that is none": lambda: ANY(KEY, proxy=PROXY, quota=5, pickle_api_key=True),
}


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_no_refused_construction_shows_a_secret(construction: str) -> None:
    with pytest.raises(ReplyError) as caught:
        CONSTRUCTIONS[construction]()
    checked(caught.value)


def test_a_pickle_that_cannot_be_used_shows_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(Path(__file__).with_name("test_configuration.py").read_bytes())  # has a certificate
    pickled = tmp_path / "client"
    pickled.write_bytes(pickle.dumps(ReplyClient(KEY, proxy=PROXY, ca_file=file, pickle_api_key=True)))
    assert leaks(pickled.read_bytes())
    file.unlink()
    with pytest.raises(ReplyError) as caught:
        pickle.loads(pickled.read_bytes())
    checked(caught.value)


def test_a_client_shows_no_secret(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key=KEY, proxy=PROXY) as client:
        client.get_contact_account(4711)
        for each in (client, client.with_options(timeout=5)):
            for text in (repr(each), str(each), f"{each}", repr(each._core)):
                assert leaks(text) == []
            with pytest.raises(ConfigurationError, match="cannot be pickled") as caught:
                pickle.dumps(each)
            assert leaks(str(caught.value)) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_warning_shows_no_secret_even_as_an_error(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=PAGE_ANSWER | {"id": 4711, "city": VALUE}))
    with reply_sandbox.client(api_key=KEY) as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ReplyWarning) as caught:
            CALLS["patch" if mode == "sync" else "patch async"](client)
    checked(caught.value)


def test_a_cancelled_call_shows_no_secret(reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(delay=5))

    async def main() -> None:
        await asyncio.wait_for(client.update_contact_account_async(4711, name=VALUE, city=VALUE), 0.1)

    with reply_sandbox.client(api_key=KEY) as client, pytest.raises((TimeoutError, asyncio.TimeoutError)) as caught:
        asyncio.run(main())
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert leaks("".join(shown.format())) == []


@pytest.mark.parametrize("options", [{}, {"mode": "x"}, {"if_exists": "x"}, {"ignore": ["city"]}])
def test_a_table_is_not_in_the_frames_of_the_package(options: dict[str, Any], reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key=KEY, quota=None) as client:
        calls: list[Callable[[Any], Any]] = [
            lambda rows: client.plan_contact_account_updates(rows, progress=False, **options),
            lambda rows: client.patch_contact_accounts(rows, progress=False, **options),
            lambda rows: asyncio.run(client.plan_contact_account_updates_async(rows, progress=False, **options)),
            lambda rows: asyncio.run(client.patch_contact_accounts_async(rows, progress=False, **options)),
        ]
        rows: list[Any] = [{"id": 4711, "city": VALUE, "unknown": VALUE}]
        if not options:
            plan = client.plan_contact_account_updates([{"id": 4711, "city": "Bergen"}], progress=False)
            calls += [
                lambda rows: plan.apply(rows=rows, progress=False),
                lambda rows: asyncio.run(plan.apply_async(rows=rows, progress=False)),
            ]
            rows[0] |= {"row": 0, "field": "city", "after": VALUE}
        reply_sandbox.add_fault(echo(400))
        for call in calls:
            with pytest.raises(ReplyError) as caught:
                call(rows)
            trace = caught.tb.tb_next  # the frame of this test has the rows
            while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
                trace = trace.tb_next
            shown = traceback.TracebackException(type(caught.value), caught.value, trace, capture_locals=True)
            assert leaks("".join(shown.format())) == []


def test_a_program_that_dies_of_an_error_shows_no_secret(reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(echo(400))
    # The value comes from outside: from Python 3.13 on a traceback shows the lines of such a program.
    code = """
        import logging, os, sys, traceback
        from replyio import ReplyClient
        logging.basicConfig(level=logging.DEBUG)

        def hook(kind, error, trace):
            print("".join(traceback.TracebackException(kind, error, trace, capture_locals=True).format()))

        sys.excepthook = hook
        ReplyClient().update_contact_account(4711, name=os.environ["CANARY"])
    """
    variables = {"REPLY_API_KEY": KEY, "CANARY": VALUE, "RUST_BACKTRACE": "full", "RUST_LOG": "trace"}
    done = run(code, reply_sandbox, variables=variables)
    assert done.returncode == 1
    assert "BadRequestError" in done.stdout
    assert "PUT /v3/contact-accounts/4711 400" in done.stderr
    assert leaks(done.stdout + done.stderr) == []


def test_the_sandbox_keeps_no_key(reply_sandbox: Sandbox) -> None:
    for auth in ("x-api-key", "bearer"):
        with reply_sandbox.client(api_key=KEY, auth=auth) as client:
            client.get_contact_account(4711)
    assert leaks(repr(reply_sandbox.requests)) == []
    assert "[key]" in repr(reply_sandbox.requests)


def test_a_key_in_an_unknown_member_is_in_no_warning_error_or_plan_file(tmp_path: Path) -> None:
    rows = [{"id": 4711, "city": "Bergen"}]
    with Sandbox(deviations=Deviations(unknown_members=ECHOES)) as sandbox:
        client = sandbox.client(api_key=KEY, quota=None, max_attempts=1)
        plan = client.plan_contact_account_updates(rows, save_as=tmp_path / "a.replyplan", progress=False)
        sandbox.add_fault(Fault(method="PUT", reset=True))
        assert plan.apply(progress=False).counts == {"unknown": 1}
        in_file = [(tmp_path / name).read_bytes() for name in os.listdir(tmp_path)]
        assert any(b"X-API-Key" in content for content in in_file), "the members at risk are in the file"
        sandbox.clear_faults()
        with pytest.raises(ReplyError) as raised_error:
            plan.apply(progress=False)
        told = [str(text) for text in everything_about(raised_error.value)]
        assert any("[key]" in text for text in told)
        with pytest.warns(ReplyWarning, match=r"cleared debug, seen with \[key\]") as warned:
            client.patch_contact_account(4712, city="Bergen")
        told += [str(warning.message) for warning in warned]
        in_file += [(tmp_path / name).read_bytes() for name in os.listdir(tmp_path)]
    assert [leak for text in [*told, *in_file] for leak in leaks(text)] == []
