"""A company that opens TLS with an authority of its own, looks inside, and passes on: mitmproxy."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from replyio import ContactAccount, ServerError, TLSError, TransportError

from .checks import Day
from .conftest import Authority, StartNginx
from .programs import Mitmdump

LIVE = "https://api.reply.test/v3"
UNKNOWN_ISSUER = "the server's certificate is from an unknown issuer .*hint: .*ca_file or SSL_CERT_FILE"


def test_it_works_with_the_company_s_authority_as_ca_file(day: Day, interception: Mitmdump) -> None:
    day.succeeds(day.client(LIVE, proxy=interception.address, ca_file=interception.authority))
    assert [tunnel["host"] for tunnel in interception.tunnels] == ["api.reply.test"]
    assert interception.hosts == ["api.reply.test"]


def test_it_works_with_the_company_s_authority_in_ssl_cert_file(
    day: Day, interception: Mitmdump, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(interception.authority))
    day.succeeds(day.client(LIVE, proxy=interception.address))


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_the_proxy_is_found_in_the_environment(
    day: Day, interception: Mitmdump, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, interception.address)
    day.succeeds(day.client(LIVE, ca_file=interception.authority))
    assert (interception.connections, len(interception.tunnels)) == (1, 1)


def test_without_the_authority_it_is_a_tls_error_with_a_hint(day: Day, interception: Mitmdump) -> None:
    client = day.client(LIVE, proxy=interception.address)
    day.fails(client, TLSError, UNKNOWN_ISSUER)
    assert len(interception.tunnels) == 1
    assert day.sandbox.requests == []


def test_another_authority_does_not_help(day: Day, interception: Mitmdump, authority: Authority) -> None:
    day.fails(day.client(LIVE, proxy=interception.address, ca_file=authority.file), TLSError, UNKNOWN_ISSUER)
    assert len(interception.tunnels) == 1
    assert day.sandbox.requests == []


def test_it_works_for_awaitables_too(day: Day, interception: Mitmdump) -> None:
    client = day.client(LIVE, proxy=interception.address, ca_file=interception.authority)

    async def patch() -> ContactAccount:
        return await client.patch_contact_account_async(4711, city="Bergen")

    assert asyncio.run(patch()).city == "Bergen"
    assert [request.method for request in day.sandbox.requests] == ["GET", "PUT"]


def test_one_tunnel_serves_many_calls(day: Day, interception: Mitmdump) -> None:
    client = day.client(LIVE, proxy=interception.address, ca_file=interception.authority)
    for id in (4711, 4712, 4713) * 2:
        day.succeeds(client, id)
    assert len(interception.tunnels) == 1
    assert len(day.sandbox.requests) == 6


def test_the_proxy_s_own_page_is_a_server_error_and_the_client_stays_of_use(day: Day, interception: Mitmdump) -> None:
    client = day.client(LIVE, proxy=interception.address, ca_file=interception.authority)
    there = day.sandbox.port
    interception.leads_to(1)
    error = day.fails(client, ServerError, "502 Bad Gateway after 2 attempts.*; hint: ", attempts=2)
    assert error.status == 502
    interception.leads_to(there)
    day.succeeds(client)


def test_a_host_in_no_proxy_is_not_asked_for_at_the_proxy(
    day: Day, interception: Mitmdump, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", interception.address)
    monkeypatch.setenv("NO_PROXY", ".reply.test")
    client = day.client(LIVE, ca_file=interception.authority)
    day.fails(client, TransportError, "the name api.reply.test does not resolve.*HTTPS_PROXY", attempts=2)
    assert interception.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("given", ["argument", "environment"])
def test_this_machine_is_never_reached_through_a_proxy(
    day: Day,
    interception: Mitmdump,
    nginx: StartNginx,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    host: str,
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        if given == "environment":
            monkeypatch.setenv(name, interception.address)
    options = {"proxy": interception.address} if given == "argument" else {}
    tls = nginx(certificate=authority.issue(host))
    day.succeeds(day.client(f"http://{host}:{day.sandbox.port}/v3", **options))
    day.succeeds(day.client(f"https://{host}:{tls.port}/v3", ca_file=authority.file, **options))
    assert interception.connections == 0


def test_the_authority_is_read_when_the_client_is_made(day: Day, interception: Mitmdump, tmp_path: Path) -> None:
    copy = tmp_path / "company.pem"
    copy.write_bytes(interception.authority.read_bytes())
    client = day.client(LIVE, proxy=interception.address, ca_file=copy)
    copy.unlink()
    day.succeeds(client)
