"""Statuses, what they mean, and what the service says about trying again."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import pytest

import replyio
from replyio import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    Quota,
    RateLimitError,
    ServerError,
    UnexpectedResponseError,
)

from .checks import ALL, FIELD, KEY, UPDATES, USUAL, Face, Survival, attempt, call, client_of, get
from .hostile import Hostile, Peer, Request, Script, account, answering, honest, problem, response

faces = pytest.mark.parametrize("face", ALL, ids=[face.value for face in ALL])
usual = pytest.mark.parametrize("face", USUAL, ids=[face.value for face in USUAL])
updates = pytest.mark.parametrize("face", UPDATES, ids=[face.value for face in UPDATES])


@faces
@pytest.mark.parametrize("status", ["400 Bad Request", "422 Unprocessable Content"])
def test_faults_of_fields_are_named_as_python_names_them(survival: Survival, face: Face, status: str) -> None:
    faults = [
        {"pointer": "/companySize", "detail": "Unknown value."},
        {"pointer": "#/linkedInUrl", "detail": "Not a URL."},
        {"pointer": "name", "detail": "Name is required."},
        {"pointer": "", "detail": "Nothing to do."},
        {"pointer": "/a/b", "detail": "Deep."},
    ]
    script = answering(problem(status, title="Validation failed", errors=faults, extensions={}))
    outcome = survival.survives(face, script, raises=BadRequestError, says="company_size: Unknown value")
    assert isinstance(outcome.error, BadRequestError)
    assert [tuple(error) for error in outcome.error.errors] == [
        ("company_size", "Unknown value."),
        ("linked_in_url", "Not a URL."),
        ("name", "Name is required."),
        ("", "Nothing to do."),
        ("a/b", "Deep."),
    ]
    assert (outcome.error.status, outcome.error.title) == (int(status[:3]), "Validation failed")


NOT_REPEATED = [
    ("400 Bad Request", "contactAccount.invalidInput", BadRequestError, "contactAccount.invalidInput"),
    ("402 Payment Required", "billing", APIError, "402"),
    ("403 Forbidden", "contactAccount.forbidden", PermissionDeniedError, "contacts:(write|read)"),
    ("404 Not Found", "contactAccount.notFound", NotFoundError, "list_contact_accounts"),
    ("409 Conflict", "contactAccount.conflict", ConflictError, "409"),
    ("412 Precondition Failed", "contactAccount.stale", ConflictError, "412"),
    ("501 Not Implemented", "no", ServerError, "501"),
    ("505 HTTP Version Not Supported", "no", ServerError, "505"),
]


@usual
@pytest.mark.parametrize(("status", "code", "raises", "says"), NOT_REPEATED, ids=[row[0] for row in NOT_REPEATED])
def test_what_cannot_pass_is_asked_once_and_keeps_its_code(
    survival: Survival, face: Face, status: str, code: str, raises: type[APIError], says: str
) -> None:
    refusal = problem(status, "X-Request-Id: r-1", code=code, title="No", detail="Because.")
    outcome = survival.survives(face, answering(refusal), raises=raises, says=says)
    error = outcome.error
    assert isinstance(error, APIError)
    assert (error.status, error.code, error.title, error.detail) == (int(status[:3]), code, "No", "Because.")
    assert error.request_id == "r-1"


REPEATED = ["408 Request Timeout", "500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable"]
REPEATED += ["504 Gateway Timeout", "520 Odd", "524 Odd", "599 Odd"]


@usual
@pytest.mark.parametrize("status", REPEATED)
def test_what_may_pass_is_tried_again(survival: Survival, face: Face, status: str) -> None:
    raises = APIError if status.startswith("408") else ServerError
    page = response(b"<html>Bad gateway</html>", "Content-Type: text/html", status=status)
    survival.survives(face, answering(page), raises=raises, says=f"{status[:3]}.* after 2 attempts", requests=2)


@faces
def test_a_failure_that_passes_is_not_seen(survival: Survival, face: Face) -> None:
    script = answering(problem("503 Service Unavailable"), lambda request: response(request.good))
    assert survival.survives(face, script, requests=2).accounts[0].id == 7


EMPTY_401 = response(b"", "WWW-Authenticate: Bearer", status="401 Unauthorized")


@faces
@pytest.mark.parametrize(("auth", "requests"), [("auto", 2), ("x-api-key", 1), ("bearer", 1)])
def test_an_empty_401_is_a_matter_of_the_key(survival: Survival, face: Face, auth: str, requests: int) -> None:
    with Hostile() as server:
        outcome = survival.survives(
            face,
            answering(EMPTY_401),
            raises=AuthenticationError,
            says="401 Unauthorized.*check the key passed as api_key=",
            requests=requests,
            server=server,
            auth=auth,
        )
        assert isinstance(outcome.error, AuthenticationError)
        schemes = ["bearer" if "authorization" in request.headers else "key" for request in server.requests[:requests]]
    assert schemes == {"auto": ["key", "bearer"], "x-api-key": ["key"], "bearer": ["bearer"]}[auth]


@faces
def test_a_401_without_a_challenge_is_asked_once(survival: Survival, face: Face) -> None:
    refusal = problem("401 Unauthorized", code="user.blocked", detail="Blocked.")
    survival.survives(face, answering(refusal), raises=AuthenticationError, says="user.blocked.*Blocked")


@updates
def test_the_scheme_that_worked_is_kept(survival: Survival, face: Face) -> None:
    def bearer_only(request: Request) -> bytes:
        return response(request.good) if "authorization" in request.headers else EMPTY_401

    with Hostile(answering(bearer_only)) as server, survival.watched():
        client = client_of(server.base_url)
        assert [get(face, client, id).id for id in (1, 2, 3)] == [1, 2, 3]
        assert len(server.requests) == 4
        assert server.requests[-1].headers["authorization"] == f"Bearer {KEY}"
        assert "x-api-key" not in server.requests[-1].headers
        client.close()
        assert server.wait_until_left()


def refused_for(*lines: str) -> Script:
    """A 429 with some headers, and then an answer."""
    return answering(problem("429 Too Many Requests", *lines), lambda request: response(request.good))


NOW = 1_800_000_000.0


def date(form: str, moment: float) -> str:
    """A moment in one of the three forms that HTTP knows."""
    if form == "imf":
        return formatdate(moment, usegmt=True)
    return time.strftime(
        {"rfc850": "%A, %d-%b-%y %H:%M:%S GMT", "asctime": "%a %b %e %H:%M:%S %Y"}[form], time.gmtime(moment)
    )


AT_ONCE: dict[str, tuple[tuple[str, ...], float]] = {
    "59": (("Retry-After: 59",), 59),
    "3600": (("Retry-After: 3600",), 3600),
    "absurd": (("Retry-After: 99999999999999999999999",), 2_592_000),
    **{
        form: ((f"Date: {date('imf', NOW)}", f"Retry-After: {date(form, NOW + 59)}"), 59)
        for form in ("imf", "rfc850", "asctime")
    },
}


@usual
@pytest.mark.parametrize(("lines", "seconds"), AT_ONCE.values(), ids=AT_ONCE)
def test_a_wait_past_the_deadline_is_refused_at_once(
    survival: Survival, face: Face, lines: tuple[str, ...], seconds: float
) -> None:
    says = "429 Too Many Requests.*the quota allows the next request in"
    outcome = survival.survives(face, refused_for(*lines), raises=RateLimitError, says=says, within=0.9)
    assert isinstance(outcome.error, RateLimitError)
    assert outcome.error.retry_after == seconds


@faces
def test_a_date_without_one_of_the_answer_is_measured_by_the_clock_here(survival: Survival, face: Face) -> None:
    script = refused_for(f"Retry-After: {formatdate(time.time() + 60, usegmt=True)}")
    outcome = survival.survives(face, script, raises=RateLimitError, within=0.9)
    assert isinstance(outcome.error, RateLimitError)
    assert 55 < (outcome.error.retry_after or 0) <= 60


SOON: dict[str, tuple[str, ...]] = {
    "0": ("Retry-After: 0",),
    "past": (f"Date: {date('imf', NOW)}", f"Retry-After: {date('imf', NOW - 100)}"),
    "long_past": ("Retry-After: Sun, 06 Nov 1994 08:49:37 GMT",),
    "absent": (),
    "no_number": ("Retry-After: soon",),
    "negative": ("Retry-After: -5",),
    "empty": ("Retry-After:",),
}


@usual
@pytest.mark.parametrize("lines", SOON.values(), ids=SOON)
def test_a_refusal_that_is_over_or_says_nothing_is_tried_again_soon(
    survival: Survival, face: Face, lines: tuple[str, ...]
) -> None:
    outcome = survival.survives(face, refused_for(*lines), requests=2, within=2.0)
    assert outcome.accounts[0].id == 7


@faces
def test_a_wait_that_fits_the_deadline_is_waited_for(survival: Survival, face: Face) -> None:
    outcome = survival.survives(face, refused_for("Retry-After: 1"), requests=2)
    assert 1.0 <= outcome.elapsed < 2.0


@faces
def test_a_service_that_always_refuses_is_asked_no_more_often_than_allowed(survival: Survival, face: Face) -> None:
    always = answering(problem("429 Too Many Requests", "Retry-After: 0"))
    outcome = survival.survives(face, always, raises=RateLimitError, requests=3, max_attempts=3)
    assert isinstance(outcome.error, RateLimitError)
    assert outcome.error.retry_after == 0


@updates
def test_a_refusal_holds_back_every_call_of_that_user(survival: Survival, face: Face) -> None:
    refusal = problem("429 Too Many Requests", "Retry-After: 1")
    with Hostile(answering(refusal, lambda request: response(request.good))) as server, survival.watched():
        client = client_of(server.base_url, quota=Quota())
        started = time.monotonic()
        hurried = client.with_options(timeout=0.3)
        with pytest.raises(RateLimitError) as refused:
            get(face, hurried, 1)
        assert refused.value.attempts == 1
        # Another client of the same key, which has not been refused itself.
        other = client_of(server.base_url, quota=Quota(), timeout=0.3)
        with pytest.raises(RateLimitError, match="nothing was sent") as held:
            get(face, other, 2)
        assert held.value.attempts == 0
        assert len(server.requests) == 1
        assert get(face, client, 3).id == 3
        assert time.monotonic() - started >= 1.0
        for each in (client, other):
            each.close()
        assert server.wait_until_left()


@pytest.mark.parametrize("quota", [Quota(), None])
@pytest.mark.parametrize(("seconds", "holds"), [(7_200, True), (7_201, False), (999_999_999_999, False)])
def test_a_wait_of_two_hours_holds_every_call_and_a_longer_one_holds_nobody(
    survival: Survival, quota: Quota | None, seconds: int, holds: bool
) -> None:
    refusal = problem("429 Too Many Requests", f"Retry-After: {seconds}")
    with Hostile(answering(refusal)) as server, survival.watched():
        client = client_of(server.base_url, quota=quota)
        for attempts in (1, 0 if holds else 1):
            with pytest.raises(RateLimitError) as refused:
                client.get_contact_account(1)
            assert refused.value.attempts == attempts
            longest = min(seconds, 2_592_000)
            assert longest - 5 < (refused.value.retry_after or 0) <= longest
        assert len(server.requests) == (1 if holds else 2)
        client.close()
        assert server.wait_until_left()


class Store:
    """A service that applies updates, and then fails to say so."""

    def __init__(self, fail: Callable[[Peer], None]) -> None:
        self.names: list[str] = []
        self._fail = fail
        self._lock = threading.Lock()

    def __call__(self, peer: Peer) -> None:
        while request := peer.request():
            if request.method != "PUT":
                peer.write(response(request.good))
                continue
            with self._lock:
                first = not self.names
                self.names.append(json.loads(request.body)["name"])
            if first:
                self._fail(peer)
            else:
                peer.write(response(account(7, name=FIELD, city=FIELD)))


FAILURES: dict[str, tuple[Callable[[Peer], None], dict[str, Any]]] = {
    "answered_500": (lambda peer: peer.write(problem("500 Internal Server Error")), {}),
    "answered_502": (lambda peer: peer.write(problem("502 Bad Gateway")), {}),
    "reset": (Peer.reset, {}),
    "answered_too_late": (Peer.wait_closed, {"attempt_timeout": 0.2}),
}


@updates
@pytest.mark.parametrize(("fail", "options"), FAILURES.values(), ids=FAILURES)
def test_an_update_that_was_applied_unseen_ends_in_the_right_state(
    survival: Survival, face: Face, fail: Callable[[Peer], None], options: dict[str, Any]
) -> None:
    store = Store(fail)
    outcome = survival.survives(face, store, requests=2, said_by_server=True, **options)
    assert outcome.accounts[0].name == FIELD
    assert store.names == [FIELD, FIELD]


@updates
def test_an_attempt_that_took_too_long_is_over_before_the_next_one_is_sent(survival: Survival, face: Face) -> None:
    overlaps: list[bool] = []

    def slow(peer: Peer) -> None:
        if peer.request() and not peer.is_outdated:
            given_up = time.monotonic() + 0.1
            earlier = [other for other in peer.server.peers if other is not peer]
            while any(other.closed_at is None for other in earlier) and time.monotonic() < given_up:
                time.sleep(0.001)
            overlaps.append(any(other.closed_at is None for other in earlier))
            peer.wait_closed()

    survival.survives(
        face,
        slow,
        raises=replyio.DeadlineExceededError,
        requests=3,
        attempt_timeout=0.2,
        max_attempts=3,
    )
    assert overlaps == [False, False, False]


@usual
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_other_origin_sees_nothing(
    survival: Survival, face: Face, status: int
) -> None:
    with Hostile() as other:
        moved = response(b"", f"Location: {other.base_url}/contact-accounts/7", status=f"{status} Moved")
        survival.survives(
            face, answering(moved), raises=UnexpectedResponseError, says=f"{status}.*a redirect.*never follows"
        )
        assert (len(other.peers), other.requests) == (0, [])


@faces
@pytest.mark.parametrize("location", ["/v3/contact-accounts/7", "//127.0.0.1:1/", "", "http://["])
def test_a_redirect_to_anywhere_is_not_followed(survival: Survival, face: Face, location: str) -> None:
    moved = response(b"", f"Location: {location}", status="307 Temporary Redirect")
    survival.survives(face, answering(moved), raises=UnexpectedResponseError, says="a redirect", connections=1)


@updates
def test_a_redirect_of_the_second_request_of_a_patch_is_not_followed(survival: Survival, face: Face) -> None:
    with Hostile() as other:
        moved = response(b"", f"Location: {other.base_url}/contact-accounts/7", status="308 Permanent Redirect")
        with Hostile(answering(lambda request: response(request.good), moved)) as server, survival.watched():
            client = client_of(server.base_url)
            with pytest.raises(UnexpectedResponseError, match=r"patch of account 7.*308.*a redirect"):
                call(face, client, "patch_contact_account", 7, city=FIELD)
            assert [request.method for request in server.requests] == ["GET", "PUT"]
            client.close()
            assert server.wait_until_left()
        assert other.peers == []


@faces
@pytest.mark.parametrize("status", ["202 Accepted", "204 No Content", "206 Partial Content", "304 Not Modified"])
def test_a_success_that_the_contract_does_not_have_is_refused(survival: Survival, face: Face, status: str) -> None:
    answer = response(account(7), status=status) if status < "204" else f"HTTP/1.1 {status}\r\n\r\n".encode()
    script = answering(answer)
    if status.startswith("206"):
        script = answering(response(account(7), status=status))
    outcome = survival.survives(face, script, raises=UnexpectedResponseError, says=status[:3])
    assert isinstance(outcome.error, UnexpectedResponseError)
    assert outcome.error.status == int(status[:3])
    assert "redirect" not in str(outcome.error)


@faces
@pytest.mark.parametrize("status", ["405 Method Not Allowed", "418 Teapot", "600 Odd", "999 Odd"])
def test_a_status_that_the_contract_does_not_have_is_refused(survival: Survival, face: Face, status: str) -> None:
    page = response(b"<html>what?</html>", status=status)
    survival.survives(face, answering(page), raises=UnexpectedResponseError, says=status[:3])


ECHOES: dict[str, Callable[[str], bytes]] = {
    "problem": lambda text: problem("400 Bad Request", detail=f"no {text} here", title=text, code=text),
    "at_the_cut_of_a_detail": lambda text: problem("400 Bad Request", detail="x" * (500 - len(text) // 2) + text),
    "fault": lambda text: problem("400 Bad Request", errors=[{"pointer": f"/{text}", "detail": f"is {text}"}]),
    "request_id": lambda text: problem("400 Bad Request", f"X-Request-Id: {text}"),
    "page": lambda text: response(f"<html>{text}</html>".encode(), status="418 Teapot"),
    "at_the_cut_of_a_page": lambda text: response(b"<" + b"x" * (199 - len(text) // 2) + text.encode()),
    "page_full_of_it": lambda text: response(b"<html>" + text.encode() * 500),
    "status_line": lambda text: response(b"<", status=f"418 {text}"),
    "bad_http": lambda text: text.encode() * 3 + b"\r\n\r\n",
    "location": lambda text: response(b"", f"Location: https://other.invalid/?{text}", status="302 Found"),
}


def _escaped(form: str) -> str:
    return "".join(letter if letter.isalnum() else form.format(ord(letter)) for letter in KEY)


SPELLINGS = {
    "plain": KEY,
    "upper": KEY.upper(),
    "hex": KEY.encode().hex(),
    "percent": quote(KEY, ""),
    "percent_lower": _escaped("%{:02x}"),
    "percent_twice": quote(quote(KEY, ""), ""),
    "form": KEY.replace("+", " "),
    "html": _escaped("&#x{:X};"),
    "html_decimal": _escaped("&#{};"),
    "html_named": KEY.replace("+", "&plus;").replace("/", "&sol;").replace("=", "&equals;"),
    "html_twice": _escaped("&amp;#{};"),
    "base64": base64.b64encode(f"user:{KEY}".encode()).decode(),
    "base64_url": base64.urlsafe_b64encode(f"x{KEY}".encode()).decode(),
    "json": KEY.replace("/", "\\/").replace("+", "\\u002b"),
    "json_twice": _escaped("\\\\u{:04X}"),
}
"""The key as a server might repeat it."""


@updates
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("form", SPELLINGS)
def test_a_key_that_the_server_echoes_is_not_shown(
    survival: Survival, face: Face, echo: Callable[[str], bytes], form: str
) -> None:
    text = SPELLINGS[form]
    scripts = [answering(echo(text))]
    with Hostile(*scripts) as server, survival.watched():
        client = client_of(server.base_url, max_attempts=1)
        outcome = attempt(face, client)
        assert outcome.error is not None
        survival.judge(outcome, type(outcome.error))
        server.play(honest)
        assert get(face, client, 11).id == 11
        client.close()
        assert server.wait_until_left()
