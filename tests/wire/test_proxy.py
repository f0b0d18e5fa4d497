"""Proxies: one that works, every way in which one does not, and who is never asked for through one."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest

from replyio import ConfigurationError, ReplyError, TLSError, TransportError
from support import refusing_port

from .certificates import API, HOST, Authority
from .checks import ALL, KEY, PROXY_PASSWORD, UPDATES, USUAL, Face, Survival, attempt, client_of, get
from .hostile import Hostile, Peer, Script, after_request, head, response, saying

faces = pytest.mark.parametrize("face", ALL, ids=[face.value for face in ALL])
usual = pytest.mark.parametrize("face", USUAL, ids=[face.value for face in USUAL])
updates = pytest.mark.parametrize("face", UPDATES, ids=[face.value for face in UPDATES])

VARIABLES = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]


def tunnel_to(port: int) -> Script:
    """A proxy that does what it is asked to, wherever the tunnel is to lead."""

    def script(peer: Peer) -> None:
        peer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.relay(port)

    return after_request(script)


def address_of(proxy: Hostile, scheme: str = "http") -> str:
    return f"{scheme}://user:{PROXY_PASSWORD}@127.0.0.1:{proxy.port}"


def survives(survival: Survival, authority: Authority, face: Face, *scripts: Script, **expected: Any) -> None:
    """Asks through a proxy that plays the scripts, and then through one that works."""
    proxy = Hostile()
    with Hostile(tls=authority.tls()) as service:
        tunnel = tunnel_to(service.port)
        survival.survives(
            face,
            *(scripts or (tunnel,)),
            server=proxy,
            base_url=API,
            afterwards=tunnel,
            proxy=address_of(proxy),
            ca_file=authority.ca_file,
            **expected,
        )
        assert service.wait_until_left()
        assert all("proxy-authorization" not in request.headers for request in service.requests)
    for request in proxy.requests:
        assert (request.method, request.path, request.body) == ("CONNECT", f"{HOST}:443", b"")
        credentials = base64.b64encode(f"user:{PROXY_PASSWORD}".encode()).decode()
        assert request.headers["proxy-authorization"] == f"Basic {credentials}"
        assert KEY not in str(request)


@faces
def test_a_proxy_that_works_sees_neither_key_nor_request(survival: Survival, authority: Authority, face: Face) -> None:
    survives(survival, authority, face)


@updates
@pytest.mark.parametrize("variable", VARIABLES)
def test_a_proxy_is_taken_from_the_environment(
    survival: Survival, authority: Authority, monkeypatch: pytest.MonkeyPatch, face: Face, variable: str
) -> None:
    with Hostile(tls=authority.tls()) as service, Hostile(tunnel_to(service.port)) as proxy, survival.watched():
        monkeypatch.setenv(variable, address_of(proxy))
        client = client_of(API, ca_file=authority.ca_file)
        monkeypatch.delenv(variable)
        assert get(face, client, 7).id == 7
        assert len(proxy.requests) == 1
        client.close()
        assert proxy.wait_until_left()
        assert service.wait_until_left()


PASSED_ON = {"says": "the proxy did not open the connection after 2 attempts.*HTTPS_PROXY", "requests": 2}

FAILURES: dict[str, tuple[Script, type[ReplyError], dict[str, Any]]] = {
    "asks_for_a_password": (
        saying(response(b"", 'Proxy-Authenticate: Basic realm="x"', status="407 Proxy Authentication Required")),
        TransportError,
        {"says": "the proxy requires a valid user name and password after 1 attempt.*password", "requests": 1},
    ),
    "answers_502": (saying(response(b"<html>", status="502 Bad Gateway")), TransportError, PASSED_ON),
    "answers_503": (saying(response(b"<html>", status="503 Service Unavailable")), TransportError, PASSED_ON),
    "forbids": (saying(response(b"<html>", status="403 Forbidden")), TransportError, PASSED_ON),
    "redirects": (
        saying(response(b"", "Location: https://login.test/", status="302 Found")),
        TransportError,
        PASSED_ON,
    ),
    "repeats_the_password": (
        saying(response(PROXY_PASSWORD.encode(), status=f"403 {PROXY_PASSWORD}")),
        TransportError,
        PASSED_ON,
    ),
    "is_no_proxy": (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), TransportError, PASSED_ON),
    "resets": (after_request(Peer.reset), TransportError, PASSED_ON),
    "closes": (after_request(lambda _: None), TransportError, PASSED_ON),
    "closes_inside_the_head": (after_request(lambda peer: peer.write(b"HTTP/1.1 20")), TransportError, PASSED_ON),
    "has_an_endless_head": (
        saying(head()[:-2], then=lambda peer: peer.flood(b"X-More: 1\r\n" * 500)),
        TransportError,
        PASSED_ON,
    ),
    "hangs": (
        saying(),
        TransportError,
        {
            "says": "could not connect through the proxy within 0.3 s after 2 attempts",
            "requests": 2,
            "connect_timeout": 0.3,
        },
    ),
    "hangs_inside_the_head": (
        saying(b"HTTP/1.1 200 Conn"),
        TransportError,
        {
            "says": "could not connect through the proxy within 0.3 s after 2 attempts",
            "requests": 2,
            "connect_timeout": 0.3,
        },
    ),
    "hangs_behind_the_tunnel": (
        saying(head()),
        TransportError,
        {
            "says": "could not connect through the proxy within 0.3 s after 2 attempts",
            "requests": 2,
            "connect_timeout": 0.3,
        },
    ),
    "closes_behind_the_tunnel": (
        after_request(lambda peer: peer.write(head())),
        TransportError,
        {"says": "could not connect through the proxy .*after 2 attempts", "requests": 2},
    ),
    "answers_itself_behind_the_tunnel": (
        saying(head(), then=lambda peer: (peer.read(), peer.write(response(b"<html>")), peer.wait_closed())[2]),
        TLSError,
        {"says": "does not use TLS", "requests": 1},
    ),
}


@usual
@pytest.mark.parametrize(("script", "raises", "expected"), FAILURES.values(), ids=FAILURES)
def test_a_proxy_that_fails_is_told_from_the_service(
    survival: Survival,
    authority: Authority,
    face: Face,
    script: Script,
    raises: type[ReplyError],
    expected: dict[str, Any],
) -> None:
    survives(survival, authority, face, script, raises=raises, **expected)


@faces
@pytest.mark.parametrize("status", ["502 Bad Gateway", "403 Forbidden"])
def test_a_proxy_that_fails_once_is_not_seen(survival: Survival, authority: Authority, face: Face, status: str) -> None:
    failing = saying(response(b"", status=status))
    proxy = Hostile()
    with Hostile(tls=authority.tls()) as service:
        tunnel = tunnel_to(service.port)
        survival.survives(
            face,
            failing,
            tunnel,
            requests=2,
            server=proxy,
            base_url=API,
            afterwards=tunnel,
            proxy=address_of(proxy),
            ca_file=authority.ca_file,
        )


@faces
def test_an_interception_by_a_proxy_is_refused_unless_its_authority_is_given(
    survival: Survival, authority: Authority, stranger: Authority, face: Face
) -> None:
    with Hostile(tls=stranger.tls()) as interception:
        survives(
            survival,
            authority,
            face,
            tunnel_to(interception.port),
            raises=TLSError,
            says="unknown issuer after 1 attempt.*ca_file",
            requests=1,
        )
        assert interception.requests == []


@updates
@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:{port}", "could not connect to the proxy .*refused"),
        ("http://user:{password}@proxy.invalid:3128", "the name proxy.invalid does not resolve"),
    ],
    ids=["refused", "unknown"],
)
def test_a_proxy_that_is_not_there_is_tried_again_and_named(
    survival: Survival, authority: Authority, face: Face, address: str, says: str
) -> None:
    with refusing_port() as port, survival.watched():
        proxy = address.format(port=port, password=PROXY_PASSWORD)
        client = client_of(
            API, proxy=proxy, ca_file=authority.ca_file, timeout=20, attempt_timeout=9, connect_timeout=9
        )
        survival.judge(attempt(face, client), TransportError, f"{says}.* after 2 attempts.*HTTPS_PROXY")
        client.close()


@updates
def test_a_proxy_may_speak_tls_itself(survival: Survival, authority: Authority, face: Face) -> None:
    with Hostile(tls=authority.tls()) as service:
        proxy = Hostile(tunnel_to(service.port), tls=authority.tls())
        with proxy, survival.watched():
            client = client_of(API, proxy=address_of(proxy, "https"), ca_file=authority.ca_file)
            assert get(face, client, 7).id == 7
            client.close()
            assert proxy.wait_until_left()
            assert service.wait_until_left()


@updates
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("given", ["environment", "option"])
def test_this_machine_is_never_reached_through_a_proxy(
    survival: Survival,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    face: Face,
    secure: bool,
    given: str,
) -> None:
    with Hostile() as proxy:
        options: dict[str, Any] = {"ca_file": authority.ca_file}
        if given == "option":
            options["proxy"] = address_of(proxy)
        else:
            for variable in [*VARIABLES, "HTTP_PROXY", "http_proxy"]:
                monkeypatch.setenv(variable, address_of(proxy))
        survival.survives(face, server=Hostile(tls=authority.tls() if secure else None), **options)
        assert proxy.peers == []


def test_a_host_in_no_proxy_is_not_reached_through_one(survival: Survival, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hostile() as proxy, survival.watched():
        monkeypatch.setenv("HTTPS_PROXY", address_of(proxy))
        monkeypatch.setenv("NO_PROXY", "other.test, test.invalid")
        client = client_of(API, max_attempts=1, timeout=20, attempt_timeout=9, connect_timeout=9)
        survival.judge(attempt(Face.SYNC, client), TransportError, f"the name {HOST} does not resolve")
        client.close()
        assert proxy.peers == []


def test_a_client_prints_no_password_of_its_proxy() -> None:
    client = client_of(API, proxy=f"http://user:{PROXY_PASSWORD}@127.0.0.1:1")
    assert PROXY_PASSWORD not in repr(client)


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_socks_proxy_of_the_environment_is_refused_at_construction(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, f"socks5://user:{PROXY_PASSWORD}@127.0.0.1:1080")
    with pytest.raises(ConfigurationError, match="SOCKS is not supported") as refused:
        client_of(API)
    assert PROXY_PASSWORD not in str(refused.value)
    client_of("http://127.0.0.1:1/v3").close()


SPECIAL = "p@ss:w/o#r?d\\ 100%&é"


@pytest.mark.parametrize("given", ["environment", "option"])
def test_a_percent_encoded_password_of_a_proxy_is_sent_as_it_is(
    survival: Survival, authority: Authority, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    with Hostile(tls=authority.tls()) as service, Hostile(tunnel_to(service.port)) as proxy, survival.watched():
        address = f"http://us%40er:{quote(SPECIAL, safe='')}@127.0.0.1:{proxy.port}"
        options = {"proxy": address} if given == "option" else {}
        if given == "environment":
            monkeypatch.setenv("HTTPS_PROXY", f"{address}\r")
        client = client_of(API, ca_file=authority.ca_file, **options)
        assert get(Face.SYNC, client, 7).id == 7
        credentials = base64.b64encode(f"us@er:{SPECIAL}".encode()).decode()
        assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {credentials}"
        client.close()
        assert proxy.wait_until_left()
        assert service.wait_until_left()


UNREADABLE = {
    "quotes": '"http://user:{}@127.0.0.1:1"',
    "another scheme": "socks://user:{}@127.0.0.1:1/",
    "a slash in the password": "http://dom\\user:{}/1@127.0.0.1:1",
    "a hash in the password": "http://user:pass@{}#1@127.0.0.1:1",
    "a control character": "http://user:{}@127.0.0.1\x7f:1",
    "a path": "http://user:{}@127.0.0.1:1/path",
}


@pytest.mark.parametrize("given", [*VARIABLES, "proxy"])
@pytest.mark.parametrize("why", UNREADABLE)
def test_a_proxy_that_cannot_be_read_is_refused_by_its_name_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, given: str, why: str
) -> None:
    address = UNREADABLE[why].format(PROXY_PASSWORD)
    options = {"proxy": address} if given == "proxy" else {}
    if given != "proxy":
        monkeypatch.setenv(given, address)
    with pytest.raises(ConfigurationError, match=f"^{given} must be a URL such as http://proxy") as refused:
        client_of(API, **options)
    assert PROXY_PASSWORD not in str(refused.value)
    assert PROXY_PASSWORD.lower() not in str(refused.value)
    if given != "proxy":
        client_of("http://127.0.0.1:1/v3").close()


def test_an_entry_of_no_proxy_that_cannot_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", 'localhost,"test.invalid"')
    with pytest.raises(ConfigurationError, match=r"^NO_PROXY: entry 2 cannot be read"):
        client_of(API)
