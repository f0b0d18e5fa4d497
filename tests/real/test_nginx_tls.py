"""The service behind nginx with TLS: what is let in, and what is refused, with one connection and a hint."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
import warnings
from typing import Any

import pytest

from replyio import BadRequestError, TLSError

from .checks import Day
from .conftest import Authority, StartNginx
from .programs import Nginx

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.timezone.utc)
CLOCK = "hint: check this machine's clock"
TRUST = "hint: a company proxy may intercept the connection; set ca_file or SSL_CERT_FILE to its certificate authority"
ADDRESS = "hint: check base_url and its port, and whether another server answers there"
UNKNOWN_ISSUER = "the server's certificate is from an unknown issuer"
PAGE = "hint: this looks like a page from a proxy or a login form"
TLS_1_1 = "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_works_with_the_authority_as_ca_file(day: Day, nginx: StartNginx, authority: Authority, host: str) -> None:
    front = nginx(certificate=authority.issue(host))
    client = day.client(f"https://{host}:{front.port}/v3", ca_file=authority.file)
    for id in (4711, 4712, 4713):
        day.succeeds(client, id)
    assert len({request["connection"] for request in front.requests(3)}) == 1


def test_it_works_with_the_authority_in_ssl_cert_file(
    day: Day, nginx: StartNginx, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    day.succeeds(day.client(nginx(certificate=authority.issue("127.0.0.1")).url))


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_it_works_with_each_version_of_today(day: Day, nginx: StartNginx, authority: Authority, version: str) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1"), server=f"ssl_protocols {version};")
    day.succeeds(day.client(front.url, ca_file=authority.file))


def test_a_chain_with_an_authority_in_between_works(day: Day, nginx: StartNginx, authority: Authority) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1", over=authority.in_between()))
    day.succeeds(day.client(front.url, ca_file=authority.file))


def test_the_next_call_succeeds_after_nginx_was_killed_and_started_again(
    day: Day, nginx: StartNginx, authority: Authority
) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1"))
    client = day.client(front.url, ca_file=authority.file)
    day.succeeds(client)
    front.kill()
    front.start()
    day.succeeds(client)
    assert len(day.sandbox.requests) == 2


def test_a_certificate_that_was_renewed_by_a_reload_is_taken(day: Day, nginx: StartNginx, authority: Authority) -> None:
    served = authority.issue("127.0.0.1", not_after=NOW + DAY)
    front = nginx(certificate=served)
    client = day.client(front.url, ca_file=authority.file)
    day.succeeds(client)
    served.write_bytes(authority.issue("127.0.0.1").read_bytes())
    front.reload()
    time.sleep(0.3)
    day.succeeds(client)


def refused(day: Day, front: Nginx, says: str, hint: str, **options: Any) -> None:
    """It is a TLS error in these words, tried once on one connection, and no request reaches the service."""
    day.fails(day.client(front.url, **options), TLSError, f"{says}.* after 1 attempt in .*{hint}")
    assert front.failed_handshakes() == 1
    assert front.requests(0) == []
    assert day.sandbox.requests == []


def test_a_certificate_that_has_expired_is_refused(day: Day, nginx: StartNginx, authority: Authority) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1", not_before=NOW - 9 * DAY, not_after=NOW - DAY))
    refused(day, front, "the server's certificate has expired", CLOCK, ca_file=authority.file)


def test_a_certificate_that_is_not_valid_yet_is_refused(day: Day, nginx: StartNginx, authority: Authority) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1", not_before=NOW + DAY, not_after=NOW + 9 * DAY))
    refused(day, front, "the server's certificate is not valid yet", CLOCK, ca_file=authority.file)


def test_a_certificate_for_another_host_is_refused(day: Day, nginx: StartNginx, authority: Authority) -> None:
    front = nginx(certificate=authority.issue("other.example"))
    refused(day, front, "the server's certificate is for another host", ADDRESS, ca_file=authority.file)


def test_a_certificate_of_an_authority_that_nobody_knows_is_refused(
    day: Day, nginx: StartNginx, authority: Authority
) -> None:
    refused(day, nginx(certificate=authority.issue("127.0.0.1")), UNKNOWN_ISSUER, TRUST)


def test_a_chain_without_the_authority_in_between_is_refused(day: Day, nginx: StartNginx, authority: Authority) -> None:
    certificate = authority.issue("127.0.0.1", over=authority.in_between(), whole_chain=False)
    refused(day, nginx(certificate=certificate), UNKNOWN_ISSUER, TRUST, ca_file=authority.file)


def test_a_server_that_only_speaks_tls_1_1_is_refused(day: Day, nginx: StartNginx, authority: Authority) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1"), server=TLS_1_1)
    refused(day, front, "the TLS handshake failed", ADDRESS, ca_file=authority.file)


def test_tls_1_1_is_really_all_that_this_server_speaks(nginx: StartNginx, authority: Authority) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1"), server=TLS_1_1)
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    with (
        socket.create_connection(("127.0.0.1", front.port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as spoken,
    ):
        assert spoken.version() == "TLSv1.1"


def test_https_to_a_port_without_tls_is_refused(day: Day, nginx: StartNginx) -> None:
    front = nginx()
    client = day.client(front.url.replace("http:", "https:"))
    day.fails(client, TLSError, f"the server does not use TLS on this port after 1 attempt in .*{ADDRESS}")
    assert day.sandbox.requests == []


def test_http_to_a_port_with_tls_is_told_by_nginx(day: Day, nginx: StartNginx, authority: Authority) -> None:
    front = nginx(certificate=authority.issue("127.0.0.1"))
    day.fails(
        day.client(front.url.replace("https:", "http:")),
        BadRequestError,
        f"400 Bad Request after 1 attempt in .*{PAGE}",
    )
    assert day.sandbox.requests == []


def test_a_refused_certificate_leaves_the_client_of_use(day: Day, nginx: StartNginx, authority: Authority) -> None:
    served = authority.issue("127.0.0.1", not_before=NOW - 9 * DAY, not_after=NOW - DAY)
    front = nginx(certificate=served)
    client = day.client(front.url, ca_file=authority.file)
    day.fails(client, TLSError, "has expired")
    served.write_bytes(authority.issue("127.0.0.1").read_bytes())
    front.kill()
    front.start()
    day.succeeds(client)
