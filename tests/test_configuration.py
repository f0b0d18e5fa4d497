"""Every setting is checked when a client is made, without a request, and does what it says."""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

import replyio
import support
from replyio import (
    AuthenticationError,
    ConfigurationError,
    DeadlineExceededError,
    Quota,
    ReplyClient,
    ServerError,
    TransportError,
)
from replyio.sandbox import Fault, Sandbox
from support import MODES, call, sent

SETTINGS = [name for name in inspect.signature(ReplyClient).parameters if name != "api_key"]


def connections(sandbox: Sandbox) -> set[int]:
    return {request.connection for request in sandbox.requests}


# The key


def test_no_key_is_an_error_that_says_where_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match="REPLY_API_KEY") as caught:
        ReplyClient()
    assert "replyio.sandbox" in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_empty_variable_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "")
    with pytest.raises(ConfigurationError, match="no API key"):
        ReplyClient()


@pytest.mark.parametrize("given", ["state", "~/state", "./a\x1bb"])
def test_a_relative_state_directory_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("REPLYIO_STATE_DIR", given)
    shown = given.replace("\x1b", "\\x1b")
    expected = f"^{re.escape(f'REPLYIO_STATE_DIR must be an absolute path, not {shown}')}$"
    with pytest.raises(ConfigurationError, match=expected):
        ReplyClient(api_key="k", base_url="http://127.0.0.1:1/v3")
    with pytest.raises(ConfigurationError, match=expected):
        replyio.plans()


def test_the_key_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, reply_sandbox: Sandbox) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "from-the-environment")
    monkeypatch.setenv("REPLY_BASE_URL", reply_sandbox.url)
    with ReplyClient() as client:
        assert client.get_contact_account(4711).name == "Acme"


@pytest.mark.reply_sandbox(api_keys=["right"])
def test_a_key_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, reply_sandbox: Sandbox) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "wrong")
    with ReplyClient("right", base_url=reply_sandbox.url) as client:
        assert client.get_contact_account(4711).name == "Acme"


BAD_KEYS = ["", " ", "canary\n", "canary\r\n", " canary", "can\0ary", "canarÿ", "can ary", "canary\ud800"]
BAD_KEYS += ["canary" * 200_000]


def refuses_without_echo(source: str, *arguments: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{source} ") as caught:
        ReplyClient(*arguments)
    for text in (str(caught.value), repr(caught.value)):
        assert "can" not in text.replace("cannot", "")
        assert "7001" not in text
        assert len(text) < 300


@pytest.mark.parametrize("key", [*BAD_KEYS, b"canary", 7001], ids=lambda key: repr(key)[:20])
def test_a_key_that_cannot_be_one_is_refused_and_not_echoed(key: Any) -> None:
    refuses_without_echo("api_key", key)


@pytest.mark.parametrize(
    "key", [" ", "canary\n", " canary", "canarÿ", "can ary", "can\udcffary", "can" * 10_000], ids=ascii
)
def test_a_key_in_the_environment_is_checked_as_well(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_API_KEY", key)
    refuses_without_echo("REPLY_API_KEY")


# Where the service is


def test_the_address_is_the_live_service_by_default() -> None:
    assert repr(ReplyClient("key")) == "<ReplyClient for https://api.reply.io/v3>"


def test_the_address_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_BASE_URL", "http://127.0.0.1:1/v3")
    assert repr(ReplyClient("key")) == "<ReplyClient for http://127.0.0.1:1/v3>"
    assert repr(ReplyClient("key", base_url="https://eu.example/v3")) == "<ReplyClient for https://eu.example/v3>"
    monkeypatch.setenv("REPLY_BASE_URL", "http://eu.example/v3")
    with pytest.raises(ConfigurationError, match="https"):
        ReplyClient("key")


def test_the_address_may_end_in_a_slash(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(base_url=reply_sandbox.url + "/") as client:
        client.get_contact_account(4711)
    assert reply_sandbox.requests[0].path == "/v3/contact-accounts/4711"


def test_a_proxy_never_carries_what_is_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, reply_sandbox: Sandbox
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with reply_sandbox.client(proxy="http://127.0.0.1:1") as client:
        assert client.get_contact_account(4711).id == 4711


# What is refused

REFUSALS: list[tuple[str, Any]] = [
    ("base_url", "http://api.reply.io/v3"),
    ("base_url", "api.reply.io"),
    ("base_url", "ftp://127.0.0.1"),
    ("base_url", "https://user:canary@api.reply.io/v3"),
    ("base_url", "https://api.reply.io/v3?canary"),
    ("base_url", ""),
    ("base_url", 5),
    ("base_url", "https://\ud800"),
    ("auth", "basic"),
    ("auth", "Bearer"),
    ("auth", None),
    ("auth", 1),
    ("act_as", 0),
    ("act_as", -1),
    ("act_as", True),
    ("act_as", 1.0),
    ("act_as", 2**63),
    ("act_as", "nobody"),
    ("act_as", "a@b\r\nX-Team-Id: 1"),
    ("act_as", "ä@b.example"),
    ("act_as", ""),
    ("team_id", 0),
    ("team_id", -1),
    ("team_id", True),
    ("team_id", "1"),
    ("team_id", 2**200),
    *((name, value) for name in ("timeout", "attempt_timeout", "connect_timeout") for value in (
        0, -1, True, None, "5", math.nan, math.inf, 1e300, 2**2000, [5]
    )),
    *(("max_attempts", value) for value in (0, -1, True, 1.0, None, "4", 2**32, math.nan)),
    *(("pickle_api_key", value) for value in (0, 1, "no", None)),
    ("quota", 95),
    ("quota", (95, 2900)),
    ("quota", "none"),
    ("proxy", "proxy.example:3128"),
    ("proxy", "socks5://user:canary@proxy.example"),
    ("proxy", 3128),
    ("proxy", ""),
    ("ca_file", "/no/such/canary"),
    ("ca_file", 5),
    ("ca_file", support.__file__),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSALS, ids=lambda part: ascii(part)[:40])
def test_a_setting_that_cannot_be_used_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        ReplyClient("key", **{name: value})
    message = str(caught.value)
    assert "\n" not in message
    if name != "ca_file":
        assert "canary" not in message


def test_every_setting_has_a_refusal() -> None:
    assert {name for name, _ in REFUSALS} == set(SETTINGS)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "95", None, 2**32, 2**70])
def test_a_number_that_cannot_be_used_is_told_the_smallest_and_the_largest_one(value: Any) -> None:
    allowed = "must be an integer from 1 to 4294967295"
    for name in ("per_minute", "per_hour"):
        with pytest.raises(ConfigurationError, match=f"{name} {allowed}"):
            Quota(**{name: value})
    with pytest.raises(ConfigurationError, match=f"max_attempts {allowed}"):
        ReplyClient("key", max_attempts=value)


@pytest.mark.parametrize("value", [None, b"bearer", 5, "", "basic"])
def test_a_wrong_auth_is_told_the_allowed_ones(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="auth must be 'auto', 'x-api-key' or 'bearer'"):
        ReplyClient("key", auth=value)


def test_a_clock_that_is_too_slow_or_too_fast_is_refused_by_its_name_in_python() -> None:
    for scale in (1e-9, 1e9):
        with pytest.raises(ConfigurationError, match=r"^clock_scale must be a number from"):
            ReplyClient("key", quota=Quota(clock_scale=scale))


def test_a_base_url_of_the_environment_is_refused_by_the_name_of_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://reply.example/v3", "nothing", "https://user@reply.example/v3", "https://reply .example"):
        monkeypatch.setenv("REPLY_BASE_URL", url)
        with pytest.raises(ConfigurationError, match=r"^REPLY_BASE_URL ") as caught:
            ReplyClient("key")
        assert "base_url" not in str(caught.value)


def test_an_integer_of_another_library_is_a_number_of_seconds() -> None:
    class Integer:
        def __index__(self) -> int:
            return 5

    assert ReplyClient("key", timeout=Integer(), max_attempts=Integer())  # type: ignore[arg-type]


def test_a_quota_is_a_value() -> None:
    assert Quota() == Quota(95, 2900) == Quota(per_minute=95, per_hour=2900)
    assert hash(Quota(1, 2)) == hash(Quota(1, 2))
    assert Quota(1, 2) != Quota(2, 1)
    assert Quota(1, 2) != (1, 2)
    assert repr(Quota(1, 2)) == "Quota(per_minute=1, per_hour=2)"
    with pytest.raises(AttributeError, match="immutable"):
        Quota().per_minute = 5


def test_a_setting_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="retries"):
        ReplyClient("key", retries=5)  # type: ignore[call-arg]


def test_making_clients_sends_nothing(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, client.with_options(timeout=5):
        pass
    assert reply_sandbox.requests == []


def test_every_setting_can_be_given(tmp_path: Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.write_text(CERTIFICATE)
    for ca_file in (authorities, str(authorities)):
        settings: dict[str, Any] = {
            "base_url": "https://api.reply.io/v3",
            "auth": "bearer",
            "act_as": "someone@acme.example",
            "team_id": 7,
            "timeout": 1,
            "attempt_timeout": 0.5,
            "connect_timeout": 0.1,
            "max_attempts": 1,
            "quota": Quota(1, 1),
            "proxy": "http://user:password@proxy.example:3128",
            "ca_file": ca_file,
            "pickle_api_key": True,
        }
        _, (taken,) = ReplyClient("key", **settings).__reduce__()
        assert taken == {"api_key": "key", **settings}


# Who is calling


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"act_as": 7}, {"x-user-id": "7"}),
        ({"act_as": "someone@acme.example"}, {"x-user-email": "someone@acme.example"}),
        ({"team_id": 8}, {"x-team-id": "8"}),
        ({"act_as": 7, "team_id": 8, "auth": "bearer"}, {"x-user-id": "7", "x-team-id": "8"}),
    ],
)
def test_headers_say_for_whom(
    mode: str, options: dict[str, Any], expected: dict[str, str], reply_sandbox: Sandbox
) -> None:
    with reply_sandbox.client(**options) as client:
        call(client, "patch_contact_account", mode, 4711, city="Bergen")
    for request in reply_sandbox.requests:
        assert {name: value for name, value in request.headers.items() if name.startswith(("x-u", "x-t"))} == expected


def test_every_request_says_which_program_it_is_from(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        client.patch_contact_account(4711, city="Bergen")
    agents = {request.headers["user-agent"] for request in reply_sandbox.requests}
    assert agents == {f"replyio/{replyio.__version__}"}


def schemes(sandbox: Sandbox) -> list[str]:
    return ["bearer" if "authorization" in request.headers else "x-api-key" for request in sandbox.requests]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("auth", ["auto", "x-api-key", "bearer"])
def test_a_key_is_sent_in_the_header_that_was_chosen(mode: str, auth: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(auth=auth) as client:
        call(client, "get_contact_account", mode, 4711)
    (request,) = reply_sandbox.requests
    assert ("authorization" in request.headers) == (auth == "bearer")
    assert ("x-api-key" in request.headers) == (auth != "bearer")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.reply_sandbox(auth="bearer")
def test_a_bearer_challenge_is_followed_once_and_remembered(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        for _ in range(3):
            call(client, "get_contact_account", mode, 4711)
        call(client.with_options(timeout=5), "get_contact_account", mode, 4711)
    assert schemes(reply_sandbox) == ["x-api-key", "bearer", "bearer", "bearer", "bearer"]
    assert [request.status for request in reply_sandbox.requests] == [401, 200, 200, 200, 200]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.reply_sandbox(auth="bearer")
def test_a_bearer_challenge_is_not_followed_when_a_header_was_chosen(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(auth="x-api-key") as client, pytest.raises(AuthenticationError):
        call(client, "get_contact_account", mode, 4711)
    assert schemes(reply_sandbox) == ["x-api-key"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.reply_sandbox(api_keys=["right"])
def test_a_wrong_key_is_tried_both_ways_and_no_more(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(api_key="wrong") as client:
        for _ in range(2):
            with pytest.raises(AuthenticationError, match="check the key passed as api_key=") as caught:
                call(client, "get_contact_account", mode, 4711)
            assert caught.value.status == 401
    assert schemes(reply_sandbox) == ["x-api-key", "bearer"] * 2


# How long and how often


@pytest.mark.parametrize("mode", MODES)
def test_a_call_takes_no_longer_than_its_timeout(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(delay=5))
    with reply_sandbox.client(timeout=0.3) as client:
        begin = time.monotonic()
        with pytest.raises(DeadlineExceededError) as caught:
            call(client, "get_contact_account", mode, 4711)
    assert 0.3 <= time.monotonic() - begin < 0.8
    assert (caught.value.attempts, len(reply_sandbox.requests)) == (1, 1)
    assert isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("mode", MODES)
def test_an_attempt_takes_no_longer_than_its_timeout_and_is_repeated(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(request=1, delay=5))
    with reply_sandbox.client(attempt_timeout=0.2) as client:
        assert call(client, "get_contact_account", mode, 4711).id == 4711
    assert len(reply_sandbox.requests) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_request_is_tried_as_often_as_allowed(mode: str, attempts: int, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(status=503))
    with reply_sandbox.client(max_attempts=attempts) as client, pytest.raises(ServerError) as caught:
        call(client, "get_contact_account", mode, 4711)
    assert (caught.value.attempts, len(reply_sandbox.requests)) == (attempts, attempts)


# One client and those derived from it


@pytest.mark.parametrize("mode", MODES)
def test_a_derived_client_uses_the_same_connection(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        derived = client.with_options(timeout=5, act_as=7)
        for each in (client, derived, client, derived.with_options(team_id=1)):
            call(each, "get_contact_account", mode, 4711)
    assert len(connections(reply_sandbox)) == 1
    assert [request.headers.get("x-user-id") for request in reply_sandbox.requests] == [None, "7", None, "7"]


def test_a_derived_client_keeps_what_is_not_named(reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(status=503))
    with reply_sandbox.client(max_attempts=1, auth="bearer", team_id=3) as client:
        derived = client.with_options(act_as=7).with_options(team_id=None, quota=None, attempt_timeout=1)
        with pytest.raises(ServerError):
            derived.get_contact_account(4711)
    (request,) = reply_sandbox.requests
    assert "authorization" in request.headers
    assert request.headers["x-user-id"] == "7"
    assert "x-team-id" not in request.headers


@pytest.mark.parametrize(
    "options",
    [{"api_key": "canary"}, {"base_url": "x"}, {"proxy": "http://canary@p"}, {"ca_file": None}, {"retries": 1},
     {"connect_timeout": 1}, {"pickle_api_key": True}, {"timeout": 0}, {"quota": 5}, {"act_as": 0}, {"team_id": 0}],
)  # fmt: skip
def test_a_derived_client_refuses_what_belongs_to_the_connections(
    options: dict[str, Any], reply_sandbox: Sandbox
) -> None:
    with reply_sandbox.client() as client, pytest.raises(ConfigurationError) as caught:
        client.with_options(**options)
    assert next(iter(options)) in str(caught.value) or "quota" in options
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_was_closed_opens_again(mode: str, reply_sandbox: Sandbox) -> None:
    client = reply_sandbox.client()
    for _ in range(2):
        call(client, "get_contact_account", mode, 4711)
        client.close()
        client.close()
    assert len(connections(reply_sandbox)) == 2


def test_leaving_with_closes_the_connections(reply_sandbox: Sandbox) -> None:
    async def main() -> None:
        async with reply_sandbox.client() as client:
            assert client is client.__enter__()
            await client.get_contact_account_async(4711)
        await client.aclose()

    asyncio.run(main())
    with reply_sandbox.client() as client:
        client.get_contact_account(4711)
    assert sent(reply_sandbox) == ["GET", "GET"]


@pytest.mark.parametrize("mode", MODES)
def test_a_connection_that_the_server_closed_meanwhile_is_not_used(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(max_attempts=1) as client:
        for number in range(1, 6):
            call(client, "update_contact_account", mode, 4711, name="Acme")
            reply_sandbox.close_connections()
            time.sleep(0.005)
            assert len(connections(reply_sandbox)) == number


@pytest.mark.parametrize("mode", MODES)
def test_nobody_there_is_a_transport_error(mode: str) -> None:
    with Sandbox() as sandbox:
        address = sandbox.url
    with ReplyClient("key", base_url=address, max_attempts=2) as client, pytest.raises(TransportError) as caught:
        call(client, "get_contact_account", mode, 4711)
    assert caught.value.attempts == 2
    assert isinstance(caught.value, ConnectionError)


# Made for these tests; its key was thrown away.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBhTCCASugAwIBAgIUG7+ZIALCsDtjuPwbiifBIGs1PiIwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMcmVwbHlpbyB0ZXN0MCAXDTI2MTEyNDExMTEzNloYDzIxMjYx
MDMxMTExMTM2WjAXMRUwEwYDVQQDDAxyZXBseWlvIHRlc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAS3qE3tEbb0/NORTucVESoDVlQP9w2AUL/+8ec6KcNZjY8B
pSOGh7l2yuWFcTC4SXnh+v3rr2YEjW9QndbJpkKRo1MwUTAdBgNVHQ4EFgQUbDB5
uFV7fLA2YDfbF+gdKiAbYNcwHwYDVR0jBBgwFoAUbDB5uFV7fLA2YDfbF+gdKiAb
YNcwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiAXLDqCdaO6F1eJ
i+yklkIwxOfsaFWehvFVIBAl8AZTbAIhAPM4//km5mvm2Q+R4F9nUHcpPfZO3XCL
CVUhCxFwX/di
-----END CERTIFICATE-----
"""
