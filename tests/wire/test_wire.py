"""The wire: a connection that fails, an answer that is none, and bodies that are not what the contract says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import replyio
from replyio import DeadlineExceededError, TransportError, UnexpectedResponseError
from support import refusing_port

from .checks import ALL, LISTS, UPDATES, USUAL, Face, Survival, attempt, call, client_of, get
from .hostile import (
    Hostile,
    Peer,
    Reply,
    Request,
    Script,
    account,
    after_request,
    answering,
    head,
    honest,
    problem,
    response,
    saying,
)

CHUNKED = head("Transfer-Encoding: chunked")
CUT = {"raises": TransportError, "requests": 2, "says": "the connection (broke|closed)"}
UNREAD = {"requests": None, "connections": 2, "attempts": 2}
STALLED = {
    "raises": DeadlineExceededError,
    "requests": 2,
    "says": r"an attempt took longer.* after 2 attempts.*attempt_timeout=",
}


faces = pytest.mark.parametrize("face", ALL, ids=[face.value for face in ALL])
updates = pytest.mark.parametrize("face", UPDATES, ids=[face.value for face in UPDATES])


class Row(NamedTuple):
    """A fault and what is to come of it."""

    name: str
    script: Script
    expected: dict[str, Any]
    faces: tuple[Face, ...] = USUAL


def parameters(*rows: Row) -> pytest.MarkDecorator:
    """One test for each row and each way to ask; the first row is asked in all of them."""
    first, *others = rows
    return pytest.mark.parametrize(
        ("face", "row"),
        [
            pytest.param(face, row, id=f"{row.name}-{face.value}")
            for row in (first._replace(faces=ALL), *others)
            for face in row.faces
        ],
    )


def replying(reply: Callable[[Request], bytes]) -> Script:
    """Answers every request on a connection with what is made from it."""
    return answering(reply)


def short_of(request: Request) -> bytes:
    return head(f"Content-Length: {len(request.good) + 10}") + request.good


def cut_body(then: Callable[[Peer], None]) -> Script:
    def script(peer: Peer) -> None:
        if request := peer.request():
            peer.write(short_of(request)[:-20])
            then(peer)

    return script


def chunk_of(request: Request) -> bytes:
    return b"%x\r\n%b\r\n" % (len(request.good), request.good)


def cut_chunk(cut: int, then: Callable[[Peer], None]) -> Script:
    """The whole account in one chunk, of which the last bytes are missing."""

    def script(peer: Peer) -> None:
        if request := peer.request():
            whole = CHUNKED + chunk_of(request) + b"0\r\n\r\n"
            peer.write(whole[:-cut])
            then(peer)

    return script


def leave(_: Peer) -> None:
    """Closes the connection in good order."""


@parameters(
    Row("reset_before_the_request_is_read", Peer.reset, {**CUT, **UNREAD, "says": "could not connect|broke"}),
    Row("reset_before_any_byte", after_request(Peer.reset), CUT),
    Row("closed_before_any_byte", after_request(leave), CUT),
    Row("reset_inside_the_head", saying(b"HTTP/1.1 200 O", then=Peer.reset), CUT),
    Row("closed_inside_the_head", saying(b"HTTP/1.1 200 OK\r\nContent-Le", then=leave), CUT),
    Row("reset_inside_the_body", cut_body(Peer.reset), CUT),
    Row("closed_inside_the_body", cut_body(leave), CUT),
    Row("half_closed_inside_the_body", cut_body(lambda peer: (peer.half_close(), peer.wait_closed())[1]), CUT),
    Row("a_body_shorter_than_its_length", lambda peer: answer_and_leave(peer, short_of), CUT),
    Row("reset_inside_a_chunk", cut_chunk(40, Peer.reset), CUT),
    Row("closed_inside_a_chunk", cut_chunk(40, leave), CUT),
    Row("closed_before_the_last_chunk", cut_chunk(5, leave), CUT),
)
def test_a_cut_connection_is_tried_again_and_never_half_an_answer(survival: Survival, face: Face, row: Row) -> None:
    survival.survives(face, row.script, **row.expected)


@faces
@pytest.mark.parametrize("cut", [Peer.reset, leave], ids=["reset", "closed"])
def test_a_second_attempt_that_is_answered_is_the_answer(
    survival: Survival, face: Face, cut: Callable[[Peer], None]
) -> None:
    outcome = survival.survives(face, cut_body(cut), honest, requests=2)
    assert outcome.accounts[0].id == 7


def answer_and_leave(peer: Peer, reply: Callable[[Request], bytes]) -> None:
    if request := peer.request():
        peer.write(reply(request))


@faces
def test_a_closed_port_is_tried_again_and_says_so(survival: Survival, face: Face) -> None:
    with refusing_port() as port, survival.watched():
        client = client_of(f"http://127.0.0.1:{port}/v3")
        outcome = attempt(face, client)
        survival.judge(outcome, TransportError, "could not connect .*refused.* after 2 attempts")
        with Hostile(port=port):
            assert get(face, client, 11).name == "account 11"
            client.close()


@faces
def test_a_connection_that_is_never_answered_is_given_up_and_tried_again(survival: Survival, face: Face) -> None:
    # A full queue makes the system drop what would open another connection.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with survival.watched():
            client = client_of(f"http://127.0.0.1:{listener.getsockname()[1]}/v3", connect_timeout=0.2)
            outcome = attempt(face, client)
            survival.judge(outcome, TransportError, "could not connect within 0.2 s after 2 attempts")
            assert outcome.elapsed < 1.5
            client.close()


@updates
def test_a_name_that_does_not_resolve_is_tried_again_and_named(survival: Survival, face: Face) -> None:
    with survival.watched():
        client = client_of("https://nowhere.invalid/v3", timeout=20, attempt_timeout=10, connect_timeout=10)
        outcome = attempt(face, client)
        survival.judge(outcome, TransportError, "the name nowhere.invalid does not resolve after 2 attempts")
        client.close()


def close_when_idle(then: Callable[[Peer], None]) -> Script:
    """One answer, and then the service closes the connection that the client keeps for the next call."""

    def script(peer: Peer) -> None:
        if request := peer.request():
            peer.write(response(request.good))
            then(peer)

    return script


@updates
@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["at_once", "while_idle"])
@pytest.mark.parametrize("close", [leave, Peer.reset], ids=["closed", "reset"])
def test_a_kept_connection_that_the_server_closes_is_replaced_without_a_pause(
    survival: Survival, face: Face, pause: float, close: Callable[[Peer], None]
) -> None:
    # Seen from the client, a reset right behind the answer may take the answer with it.
    pause = max(pause, 0.02) if close is Peer.reset else pause
    with Hostile(close_when_idle(close)) as server, survival.watched():
        # What was closed while idle does not even cost an attempt.
        client = client_of(server.base_url, max_attempts=1 if pause else 2)
        started = time.monotonic()
        for id in range(1, 9):
            assert get(face, client, id).id == id
            time.sleep(pause)
        assert time.monotonic() - started < 8 * (pause + 0.1)
        # A request that met the closing connection was not answered, and was sent again.
        if pause:
            assert len(server.requests) == 8
        client.close()
        assert server.wait_until_left()


def close_on_the_second(close: Callable[[Peer], None]) -> Script:
    """The service closes the connection while the second request is on its way."""

    def script(peer: Peer) -> None:
        if request := peer.request():
            peer.write(response(request.good))
            peer.request()
            close(peer)

    return script


@updates
@pytest.mark.parametrize("close", [leave, Peer.reset], ids=["closed", "reset"])
def test_a_request_that_crosses_the_close_of_its_connection_is_sent_again_without_a_pause(
    survival: Survival, face: Face, close: Callable[[Peer], None]
) -> None:
    with Hostile(close_on_the_second(close)) as server, survival.watched():
        client = client_of(server.base_url)
        started = time.monotonic()
        for id in range(1, 10):
            assert get(face, client, id).id == id
        assert time.monotonic() - started < 0.8
        assert len(server.requests) == 1 + 2 * 8
        client.close()
        assert server.wait_until_left()


@updates
def test_twenty_calls_in_flight_survive_a_restart_of_the_server(survival: Survival, face: Face) -> None:
    arrived = threading.Barrier(21)

    def hold(peer: Peer) -> None:
        while request := peer.request():
            if request.path.endswith("/7"):  # the first call on each connection is answered
                peer.write(response(request.good))
                continue
            arrived.wait(5)
            peer.wait_closed()

    server = Hostile(hold)
    port = server.port
    restarted: list[Hostile] = []

    def restart() -> None:
        arrived.wait(5)
        server.close()
        restarted.append(Hostile(port=port))

    with survival.watched():
        client = client_of(server.base_url, max_attempts=4, timeout=10)
        thread = threading.Thread(target=restart)
        names = many(face, client, thread)
        thread.join()
        assert names == [f"account {id}" for id in range(101, 121)]
        assert len(restarted[0].requests) == 20
        client.close()
        restarted[0].close()


def many(face: Face, client: replyio.ReplyClient, thread: threading.Thread) -> list[str]:
    """Twenty calls at once, over connections that are in use already."""

    async def gather() -> list[str]:
        await asyncio.gather(*(client.get_contact_account_async(7) for _ in range(20)))
        thread.start()
        accounts = await asyncio.gather(*(client.get_contact_account_async(id) for id in range(101, 121)))
        return [account.name for account in accounts]

    if face is Face.ASYNC:
        return asyncio.run(gather())
    warm = threading.Barrier(21)
    names: dict[int, str] = {}

    def run(id: int) -> None:
        client.get_contact_account(7)
        warm.wait(5)
        names[id] = client.get_contact_account(id).name

    threads = [threading.Thread(target=run, args=(id,)) for id in range(101, 121)]
    for each in threads:
        each.start()
    warm.wait(5)
    thread.start()
    for each in threads:
        each.join(10)
    return [names[id] for id in sorted(names)]


def silence(peer: Peer) -> None:
    """Reads nothing and says nothing."""
    peer.server.closing.wait(0.5)


def drip_good(peer: Peer) -> None:
    if request := peer.request():
        peer.drip(response(request.good), 0.3)


def drip_body(peer: Peer) -> None:
    if request := peer.request():
        peer.write(head(f"Content-Length: {len(request.good)}"))
        peer.drip(request.good, 0.3)


@parameters(
    Row("reads_nothing", silence, {**STALLED, **UNREAD}),
    Row("silence", saying(), STALLED),
    Row("stall_in_the_head", saying(b"HTTP/1.1 200 OK\r\nContent-"), STALLED),
    Row("stall_in_the_body", cut_body(Peer.wait_closed), STALLED),
    Row("stall_in_a_chunk", cut_chunk(40, Peer.wait_closed), STALLED),
    Row("a_byte_every_300_ms", drip_good, {**STALLED, "attempt_timeout": 0.5}, (Face.SYNC, Face.LIST_ASYNC)),
    Row("a_byte_of_the_body_every_300_ms", drip_body, {**STALLED, "attempt_timeout": 0.5}, (Face.ASYNC, Face.LIST)),
)
def test_a_server_that_stalls_is_cut_by_the_limit_of_the_attempt(survival: Survival, face: Face, row: Row) -> None:
    outcome = survival.survives(face, row.script, **{"attempt_timeout": 0.2, **row.expected})
    assert isinstance(outcome.error, DeadlineExceededError)
    assert "an attempt took longer than its timeout of 0." in (outcome.error.last_error or "")


@faces
def test_the_deadline_of_the_call_cuts_the_last_attempt_short(survival: Survival, face: Face) -> None:
    outcome = survival.survives(
        face,
        after_request(Peer.reset),
        saying(),
        raises=DeadlineExceededError,
        says="the call took longer than its timeout of 0.5 s after 2 attempts.* timeout=",
        requests=2,
        timeout=0.5,
        max_attempts=9,
    )
    assert isinstance(outcome.error, DeadlineExceededError)
    assert "connection" in (outcome.error.last_error or "")


@updates
def test_a_body_that_nobody_reads_is_given_up(survival: Survival, face: Face) -> None:
    with Hostile(silence) as server, survival.watched():
        client = client_of(server.base_url, attempt_timeout=0.2)
        description = "x" * (8 << 20)
        with pytest.raises(DeadlineExceededError, match="after 2 attempts"):
            call(face, client, "update_contact_account", 7, name="a", description=description)
        server.play(honest)
        assert get(face, client, 11).name == "account 11"
        client.close()
        assert server.wait_until_left()


BAD_HTTP = {"raises": UnexpectedResponseError, "says": "the answer is not valid HTTP", "requests": 1}


def with_lengths(*lengths: str) -> bytes:
    return head(*(f"Content-Length: {length}" for length in lengths)) + b"{}"


@parameters(
    Row("another_protocol", saying(b"SSH-2.0-OpenSSH_9.6\r\n"), BAD_HTTP),
    Row("bytes", saying(bytes(range(256)) * 4), BAD_HTTP),
    Row("html_without_a_head", saying(b"<html><body>Sign in</body></html>\r\n\r\n"), BAD_HTTP),
    Row("json_without_a_head", saying(account(7) + b"\r\n\r\n"), BAD_HTTP),
    Row("a_chunk_size_that_is_no_number", saying(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"), BAD_HTTP),
    Row("a_chunk_size_past_all_numbers", saying(CHUNKED + b"f" * 17 + b"\r\n{}"), BAD_HTTP),
    Row("a_negative_chunk_size", saying(CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n"), BAD_HTTP),
    Row("a_chunk_without_its_end", saying(CHUNKED + b"2\r\n{}0\r\n\r\n"), BAD_HTTP),
    Row("two_different_lengths", saying(with_lengths("2", "3")), BAD_HTTP),
    Row("two_different_lengths_in_one_line", saying(with_lengths("2, 3")), BAD_HTTP),
    Row("a_negative_length", saying(with_lengths("-1")), BAD_HTTP),
    Row("a_length_that_is_no_number", saying(with_lengths("many")), BAD_HTTP),
    Row("a_length_past_all_numbers", saying(with_lengths("9" * 30)), BAD_HTTP),
    Row("status_99", saying(head(status="99 Odd")), BAD_HTTP),
    Row("status_099", saying(head(status="099 Odd")), BAD_HTTP),
    Row("status_1000", saying(head(status="1000 Odd")), BAD_HTTP),
    Row("no_status", saying(head(status="OK")), BAD_HTTP),
    Row("another_version", saying(b"HTTP/3.0 200 OK\r\n\r\n"), BAD_HTTP),
    Row("the_preface_of_http2", saying(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)), BAD_HTTP),
    Row("chunks_in_http10", saying(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), BAD_HTTP),
    Row("a_header_with_a_nul", saying(head("X-Odd: a\0b")), BAD_HTTP),
    Row("a_header_without_a_name", saying(head(": odd")), BAD_HTTP),
    Row("150_headers", saying(head(*(f"X-{number}: 1" for number in range(150)))), BAD_HTTP),
    Row("a_header_of_1_mib", saying(head("X-Long: " + "x" * (1 << 20))), BAD_HTTP),
    Row("an_endless_head", saying(head()[:-2], then=lambda peer: peer.flood(b"X-More: 1\r\n" * 500)), BAD_HTTP),
    Row("an_endless_status", saying(b"HTTP/1.1 200 ", then=lambda peer: peer.flood(b"O" * 5000)), BAD_HTTP),
)
def test_what_is_not_http_is_refused_after_one_request(survival: Survival, face: Face, row: Row) -> None:
    outcome = survival.survives(face, row.script, **row.expected)
    assert isinstance(outcome.error, UnexpectedResponseError)
    assert outcome.error.status is None


def informed(*informational: bytes) -> Script:
    return replying(lambda request: b"".join(informational) + response(request.good))


@parameters(
    Row("100", informed(b"HTTP/1.1 100 Continue\r\n\r\n"), {}),
    Row("103", informed(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"), {}),
    Row("all", informed(*(b"HTTP/1.1 %d Odd\r\n\r\n" % status for status in (100, 102, 103, 199))), {}),
    Row("ten_thousand", informed(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000), {}, (Face.SYNC, Face.ASYNC)),
)
def test_informational_answers_are_ignored(survival: Survival, face: Face, row: Row) -> None:
    assert survival.survives(face, row.script).accounts[0].id == 7


@pytest.mark.parametrize("face", [Face.SYNC, Face.LIST_ASYNC])
def test_informational_answers_without_end_are_cut_by_the_limit_of_the_attempt(survival: Survival, face: Face) -> None:
    flood = saying(then=lambda peer: peer.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000))
    # A build without optimization reads so slowly that the limit is noticed late.
    survival.survives(face, flood, **STALLED, attempt_timeout=0.3, timeout=10)


@faces
def test_a_switch_of_protocols_is_refused(survival: Survival, face: Face) -> None:
    switch = saying(head("Upgrade: websocket", "Connection: Upgrade", status="101 Switching Protocols"))
    survival.survives(face, switch, raises=UnexpectedResponseError, says="101")


@faces
def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(survival: Survival, face: Face) -> None:
    stray = replying(lambda request: response(request.good) + response(account(11, name="stray")))
    outcome = survival.survives(face, stray)
    assert outcome.accounts[0].id == 7


def mutated(old: bytes, new: bytes) -> Reply:
    """An answer that is good but for one thing."""

    def reply(request: Request) -> bytes:
        assert old in request.good
        return response(request.good.replace(old, new))

    return reply


def whole(body: bytes, *lines: str) -> Script:
    return answering(response(body, *lines))


CITY = b'"linkedProspectsCount": 0'


def wrong(says: str) -> dict[str, Any]:
    return {"raises": UnexpectedResponseError, "says": says, "requests": 1}


AT = {face: "" if face in UPDATES else r"/items/0" for face in ALL}


@parameters(
    Row("empty", whole(b""), wrong("the body is empty")),
    Row("html", whole(b"<!DOCTYPE html><title>Sign in</title>", "Content-Type: text/html"), wrong("a login form")),
    Row("truncated", replying(lambda request: response(request.good[:-9])), wrong("valid JSON")),
    Row("truncated_by_the_close", lambda peer: answer_and_leave(peer, truncated), wrong("valid JSON")),
    Row("not_utf8", answering(mutated(b"account 7", b"acc\xff\xfe7")), wrong("valid JSON")),
    Row(
        "two_byte_order_marks",
        replying(lambda request: response(b"\xef\xbb\xbf" * 2 + request.good)),
        wrong("valid JSON"),
    ),
    Row("gzip", whole(b"\x1f\x8b\x08\x00" + bytes(20), "Content-Encoding: gzip"), wrong("valid JSON")),
    Row("a_million_brackets", whole(b"[" * 1_000_000), wrong("valid JSON")),
    Row("a_million_brackets_inside", answering(mutated(CITY, b'"x":' + b"[" * 400_000)), wrong("valid JSON")),
    Row("1e400", answering(mutated(CITY, b'"linkedProspectsCount": 1e400')), wrong("valid JSON|is too large")),
    Row("nan", answering(mutated(CITY, b'"linkedProspectsCount": NaN')), wrong("valid JSON")),
    Row("two_documents", replying(lambda request: response(request.good * 2)), wrong("valid JSON")),
    Row("null", whole(b"null"), wrong("the body must be an? (account|page) object")),
    Row("a_list", whole(b"[]"), wrong("the body must be an? (account|page) object")),
    Row("a_string", whole(b'"canary"'), wrong("the body must be an? (account|page) object")),
)
def test_a_body_that_is_not_the_contracts_is_refused(survival: Survival, face: Face, row: Row) -> None:
    outcome = survival.survives(face, row.script, **row.expected)
    assert isinstance(outcome.error, UnexpectedResponseError)
    assert outcome.error.status == 200


def truncated(request: Request) -> bytes:
    """A body whose end only the end of the connection tells."""
    return head() + request.good[:-9]


@parameters(
    Row("a_30_digit_id", answering(mutated(b'"id": 7,', b'"id": 123456789012345678901234567890,')), wrong("/id")),
    Row("a_text_as_id", answering(mutated(b'"id": 7,', b'"id": "canary",')), wrong("/id must be an integer")),
    Row("a_float_as_id", answering(mutated(b'"id": 7,', b'"id": 7.0,')), wrong("/id must be an integer")),
    Row("no_id", answering(mutated(b'"id": 7,', b"")), wrong("/id must be an integer")),
    Row("a_list_as_name", answering(mutated(b'"account 7"', b'["canary"]')), wrong("/name must be a string")),
    Row("null_as_name", answering(mutated(b'"account 7"', b"null")), wrong("/name must be a string")),
    Row("a_number_as_city", answering(mutated(CITY, CITY + b', "city": 5')), wrong("/city must be a string or null")),
    Row("a_text_as_owner", answering(mutated(b'Id": 42', b'Id": "canary"')), wrong("/ownerUserId must be an integer")),
    Row("no_items", whole(b'{"hasMore": false}'), wrong("/items must be a list"), LISTS),
    Row("a_text_as_has_more", whole(b'{"items": [], "hasMore": "canary"}'), wrong("/hasMore must be true or"), LISTS),
    Row("another_accounts_id", whole(account(8)), wrong("another account: its /id"), UPDATES),
)
def test_a_member_of_the_wrong_type_is_named_by_its_path_and_never_by_its_value(
    survival: Survival, face: Face, row: Row
) -> None:
    outcome = survival.survives(face, row.script, **row.expected)
    message = str(outcome.error)
    assert "canary" not in message
    assert "1234567" not in message
    if face in LISTS and "/items" not in row.expected["says"] and "/hasMore" not in row.expected["says"]:
        assert "/items/0/" in message


@faces
def test_unknown_members_and_values_are_kept(survival: Survival, face: Face) -> None:
    more = b', "companySize": "huge", "tags": ["a", {"b": 1}], "stage": {"id": 1, "name": "New", "icon": "x"}'
    outcome = survival.survives(face, answering(mutated(CITY, CITY + more)))
    first = outcome.accounts[0]
    assert first.stage is not None
    assert (first.company_size, first.extra, first.stage.name) == ("huge", {"tags": ["a", {"b": 1}]}, "New")


@faces
def test_a_problem_with_wrong_types_is_still_a_problem(survival: Survival, face: Face) -> None:
    odd = problem("404 Not Found", title=5, status="x", detail=["a"], code={}, errors={"pointer": 1})
    outcome = survival.survives(face, answering(odd), raises=replyio.NotFoundError, says="404")
    assert isinstance(outcome.error, replyio.NotFoundError)
    assert (outcome.error.title, outcome.error.detail, outcome.error.code, outcome.error.errors) == (None,) * 3 + ([],)


@faces
def test_a_detail_of_a_megabyte_full_of_escapes_is_cut_and_escaped(survival: Survival, face: Face) -> None:
    long = problem("400 Bad Request", detail="\x1b[31m\r\n\u202e" * 40_000)
    outcome = survival.survives(face, answering(long), raises=replyio.BadRequestError, says="400")
    assert isinstance(outcome.error, replyio.BadRequestError)
    assert not set(outcome.error.detail or "") & {"\x1b", "\r", "\n", "\u202e"}


@faces
def test_a_thousand_faults_make_one_readable_line(survival: Survival, face: Face) -> None:
    faults = [{"pointer": f"/field{number}", "detail": "x" * 900} for number in range(1000)]
    outcome = survival.survives(
        face, answering(problem("400 Bad Request", errors=faults)), raises=replyio.BadRequestError, says="field0: x"
    )
    assert isinstance(outcome.error, replyio.BadRequestError)
    assert len(outcome.error.errors) == 100


def flood(data: bytes) -> Callable[[Peer], None]:
    return lambda peer: peer.flood(data)


SPACES = flood(b" " * 65536)
CHUNKS = flood(b"1000\r\n" + b" " * 4096 + b"\r\n")


@parameters(
    Row("10_gb_announced", saying(head("Content-Length: 10000000000"), then=SPACES), {}),
    Row("without_an_end", saying(head(), then=SPACES), {}),
    Row("chunks_without_an_end", saying(CHUNKED, then=CHUNKS), {}),
    Row("a_problem_without_an_end", saying(head(status="400 Bad Request"), then=SPACES), {}),
)
def test_a_body_longer_than_a_mebibyte_is_refused(survival: Survival, face: Face, row: Row) -> None:
    survival.survives(face, row.script, raises=UnexpectedResponseError, says="longer than 1 MiB")
