"""A company's proxy that asks for a password and passes on what it cannot read: mitmproxy, without a look inside."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from replyio import TransportError

from .checks import PASSWORD, USER, Day, assert_no_secret
from .conftest import Authority
from .programs import Mitmdump

LIVE = "https://api.reply.test/v3"
REFUSED = "the proxy .*after 1 attempt.*hint: check proxy or HTTPS_PROXY, including the user name and password"


def with_password(proxy: Mitmdump, password: str = PASSWORD, scheme: str = "http") -> str:
    return f"{scheme}://{USER}:{quote(password, '')}@127.0.0.1:{proxy.port}"


def test_the_right_password_opens_a_tunnel(day: Day, forward_proxy: Mitmdump, authority: Authority) -> None:
    client = day.client(LIVE, proxy=with_password(forward_proxy), ca_file=authority.file)
    for id in (4711, 4712):
        day.succeeds(client, id)
    assert len(forward_proxy.tunnels) == 1


def test_a_password_in_the_environment_opens_a_tunnel(
    day: Day, forward_proxy: Mitmdump, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", with_password(forward_proxy))
    day.succeeds(day.client(LIVE, ca_file=authority.file))
    assert len(forward_proxy.tunnels) == 1


def test_the_proxy_never_sees_the_key_and_the_service_never_the_password(
    day: Day, forward_proxy: Mitmdump, authority: Authority
) -> None:
    day.succeeds(day.client(LIVE, proxy=with_password(forward_proxy), ca_file=authority.file))
    [tunnel] = forward_proxy.tunnels
    assert {"x-api-key", "authorization"}.isdisjoint(name.lower() for name in tunnel["headers"])
    others = {name: value for name, value in tunnel["headers"].items() if name.lower() != "proxy-authorization"}
    assert_no_secret(repr(others), "the request for the tunnel")
    [request] = day.sandbox.requests
    assert "x-api-key" in request.headers
    assert "proxy-authorization" not in request.headers


@pytest.mark.parametrize("password", ["wrong", PASSWORD[:-1], "", None])
@pytest.mark.parametrize("given", ["argument", "environment"])
def test_a_wrong_or_missing_password_is_told_once_and_not_tried_again(
    day: Day,
    forward_proxy: Mitmdump,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    password: str | None,
) -> None:
    address = forward_proxy.address if password is None else with_password(forward_proxy, password)
    if given == "environment":
        monkeypatch.setenv("HTTPS_PROXY", address)
    client = day.client(LIVE, ca_file=authority.file, **({"proxy": address} if given == "argument" else {}))
    day.fails(client, TransportError, REFUSED)
    assert len(forward_proxy.tunnels) == 1
    assert day.sandbox.requests == []


def test_the_proxy_itself_can_be_behind_tls(day: Day, forward_proxy: Mitmdump, authority: Authority) -> None:
    both = authority.file.with_name("both.pem")
    both.write_bytes(authority.file.read_bytes() + forward_proxy.authority.read_bytes())
    client = day.client(LIVE, proxy=with_password(forward_proxy, scheme="https"), ca_file=both)
    day.succeeds(client)
    assert len(forward_proxy.tunnels) == 1


def test_a_proxy_that_does_not_reach_the_service_is_named(
    day: Day, forward_proxy: Mitmdump, authority: Authority
) -> None:
    forward_proxy.leads_to(1)
    client = day.client(LIVE, proxy=with_password(forward_proxy), ca_file=authority.file, max_attempts=2)
    day.fails(client, TransportError, "the proxy .*after 2 attempts.*hint: check proxy or HTTPS_PROXY", attempts=2)
    assert len(forward_proxy.tunnels) == 2
