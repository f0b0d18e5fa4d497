"""TLS: what is refused once and for all, what is tried again, and whom to trust."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from replyio import ConfigurationError, TLSError, TransportError
from replyio.sandbox import Sandbox

from .certificates import API, Authority
from .checks import ALL, UPDATES, USUAL, Face, Survival, client_of
from .hostile import Hostile, Peer, Script, after_request, head, honest, response

faces = pytest.mark.parametrize("face", ALL, ids=[face.value for face in ALL])
usual = pytest.mark.parametrize("face", USUAL, ids=[face.value for face in USUAL])
updates = pytest.mark.parametrize("face", UPDATES, ids=[face.value for face in UPDATES])

NOW = datetime.now(timezone.utc)
LONG = timedelta(days=1000)
DAY = timedelta(days=1)

REFUSED: dict[str, tuple[Callable[[Authority, Authority], ssl.SSLContext], str]] = {
    "expired": (
        lambda ours, _: ours.tls(not_before=NOW - LONG, not_after=NOW - DAY),
        "has expired after 1 attempt.*clock",
    ),
    "not_yet_valid": (lambda ours, _: ours.tls(not_before=NOW + DAY, not_after=NOW + LONG), "is not valid yet.*clock"),
    "wrong_host": (lambda ours, _: ours.tls("elsewhere.test"), "is for another host"),
    "unknown_issuer": (lambda _, theirs: theirs.tls(), "is from an unknown issuer.*ca_file or SSL_CERT_FILE"),
    "tls_1_1": (lambda ours, _: ours.outdated_tls(), "the TLS handshake failed .*TLS 1.2 or later"),
}


@faces
@pytest.mark.parametrize(("tls", "says"), REFUSED.values(), ids=REFUSED)
def test_a_server_that_cannot_be_trusted_is_refused_after_one_connection(
    survival: Survival,
    authority: Authority,
    stranger: Authority,
    face: Face,
    tls: Callable[[Authority, Authority], ssl.SSLContext],
    says: str,
) -> None:
    survival.survives(
        face,
        raises=TLSError,
        says=says,
        requests=0,
        connections=1,
        attempts=1,
        server=Hostile(tls=tls(authority, stranger)),
        then_tls=authority.tls(),
        ca_file=authority.ca_file,
    )


NOT_TLS: dict[str, Script] = {
    "plain_http": lambda peer: greet(peer, response(b"<html>Use https</html>", status="400 Bad Request")),
    "mail": lambda peer: greet(peer, b"220 mail.example ESMTP ready\r\n"),
    "bytes": lambda peer: greet(peer, bytes(range(1, 200))),
}


def greet(peer: Peer, greeting: bytes) -> None:
    peer.read()
    peer.write(greeting)
    peer.wait_closed()


@faces
@pytest.mark.parametrize("script", NOT_TLS.values(), ids=NOT_TLS)
def test_what_is_not_tls_is_refused_after_one_connection(
    survival: Survival, authority: Authority, face: Face, script: Script
) -> None:
    server = Hostile()
    survival.survives(
        face,
        script,
        raises=TLSError,
        says="does not use TLS on this port after 1 attempt.*check base_url and its port",
        requests=0,
        connections=1,
        attempts=1,
        server=server,
        base_url=f"https://127.0.0.1:{server.port}/v3",
        then_tls=authority.tls(),
        ca_file=authority.ca_file,
    )


def hello_then(then: Callable[[Peer], None]) -> Script:
    """Lets the client begin the handshake."""

    def script(peer: Peer) -> None:
        peer.read()
        then(peer)

    return script


BROKEN: dict[str, tuple[Script, str]] = {
    "reset_before": (Peer.reset, "could not connect"),
    "reset": (hello_then(Peer.reset), "could not connect"),
    "closed": (hello_then(lambda _: None), "could not connect"),
    "closed_inside_a_record": (hello_then(lambda peer: peer.write(b"\x16\x03\x03\x00\x7a\x02")), "could not connect"),
    "silence": (hello_then(Peer.wait_closed), "could not connect within 0.3 s"),
}


@usual
@pytest.mark.parametrize(("script", "says"), BROKEN.values(), ids=BROKEN)
def test_a_handshake_that_breaks_is_tried_again(
    survival: Survival, authority: Authority, face: Face, script: Script, says: str
) -> None:
    server = Hostile()
    survival.survives(
        face,
        script,
        raises=TransportError,
        says=f"{says}.* after 2 attempts",
        requests=0,
        connections=2,
        attempts=2,
        server=server,
        base_url=f"https://127.0.0.1:{server.port}/v3",
        then_tls=authority.tls(),
        ca_file=authority.ca_file,
        connect_timeout=0.3,
    )


@updates
def test_a_tls_error_after_the_update_was_sent_says_that_it_may_have_been_applied(
    survival: Survival, authority: Authority, face: Face
) -> None:
    outcome = survival.survives(
        face,
        after_request(lambda peer: peer.write_below_tls(bytes(range(1, 200)))),
        raises=TransportError,
        says="the TLS connection broke: .* after 2 attempts .*it may have been applied",
        requests=2,
        server=Hostile(tls=authority.tls()),
        then_tls=authority.tls(),
        ca_file=authority.ca_file,
    )
    assert isinstance(outcome.error, TransportError)
    assert outcome.error.may_have_been_applied


@faces
def test_a_connection_that_ends_without_the_end_of_tls_is_no_whole_answer(
    survival: Survival, authority: Authority, face: Face
) -> None:
    # The body is whole, but anybody on the way could have cut it here.
    def cut(peer: Peer) -> None:
        if request := peer.request():
            peer.write(head() + request.good)

    survival.survives(
        face,
        cut,
        raises=TransportError,
        says="the connection broke.* after 2 attempts",
        requests=2,
        server=Hostile(tls=authority.tls()),
        ca_file=authority.ca_file,
    )


@updates
@pytest.mark.parametrize("close", [lambda _: None, Peer.reset], ids=["closed", "reset"])
def test_a_tls_connection_cut_before_any_answer_is_tried_again(
    survival: Survival, authority: Authority, face: Face, close: Callable[[Peer], None]
) -> None:
    survival.survives(
        face,
        after_request(close),
        honest,
        requests=2,
        server=Hostile(tls=authority.tls()),
        ca_file=authority.ca_file,
    )


@faces
@pytest.mark.parametrize("setting", ["ca_file", "SSL_CERT_FILE"])
def test_an_interception_works_with_the_companys_own_authority(
    survival: Survival, authority: Authority, monkeypatch: pytest.MonkeyPatch, face: Face, setting: str
) -> None:
    if setting == "SSL_CERT_FILE":
        monkeypatch.setenv(setting, str(authority.ca_file))
    options = {"ca_file": str(authority.ca_file)} if setting == "ca_file" else {}
    outcome = survival.survives(face, server=Hostile(tls=authority.tls()), **options)
    assert outcome.accounts[0].id == 7


def test_the_authority_given_wins_over_the_environment(
    survival: Survival, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.ca_file))
    survival.survives(Face.SYNC, server=Hostile(tls=authority.tls()), ca_file=authority.ca_file)


@pytest.mark.parametrize("setting", ["ca_file", "SSL_CERT_FILE"])
@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read"), (b"", "no certificate"), (b"\xff\0", "no certificate")]
)
def test_authorities_that_cannot_be_read_are_named_at_construction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / "mine.pem"
    if content is not None:
        path.write_bytes(content)
    if setting == "SSL_CERT_FILE":
        monkeypatch.setenv(setting, str(path))
    options = {"ca_file": path} if setting == "ca_file" else {}
    with pytest.raises(ConfigurationError, match=rf"^{setting} .*mine\.pem: .*{says}"):
        client_of(API, **options)


@pytest.mark.parametrize("url", ["http://api.reply.io/v3", "http://10.0.0.1/v3", "http://127.0.0.1.example.com/v3"])
def test_plain_http_is_refused_but_on_this_machine(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url must use https"):
        client_of(url)


def test_authorities_of_folders_are_trusted_beside_those_of_a_file(
    survival: Survival, authority: Authority, stranger: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(authority.ca_file, tmp_path / "company.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    survival.survives(Face.SYNC, server=Hostile(tls=authority.tls()))


def test_a_folder_without_authorities_is_refused_and_not_replaced_by_the_bundled_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"^SSL_CERT_DIR .*: has no certificate in PEM form$"):
        client_of(API)
    with Sandbox() as sandbox:
        assert len(list(sandbox.client().list_contact_accounts())) == 3


@pytest.mark.parametrize("setting", ["ca_file", "SSL_CERT_FILE"])
def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    if setting == "SSL_CERT_FILE":
        monkeypatch.setenv(setting, str(path))
    options = {"ca_file": path} if setting == "ca_file" else {}
    with pytest.raises(ConfigurationError, match=f"^{setting} .*fifo: cannot be read .*not a regular file"):
        client_of(API, **options)
