"""Answers made from good ones by cutting, flipping, repeating and inserting bytes: each is read right, or refused.

`REPLYIO_MUTANTS` is how many, for a run that is longer than the usual one.
"""

from __future__ import annotations

import datetime
import http.client
import io
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import pytest

from replyio import CompanySize, ContactAccount, InternalError, ReplyClient, ReplyError, _replyio

from .checks import client_of
from .hostile import Hostile, Peer, account, head, response

TRIED = int(os.environ.get("REPLYIO_MUTANTS", "1000"))
SEED = 20_261_124
ATTEMPT = 0.3
SLACK = 0.5
# One in so many incomplete answers stalls, which costs an attempt's time; the others end with the connection.
STALLED = 50

WIRES = {row[1]: row for row in _replyio.MEMBERS}
SIZES = {size.value.lower(): size.value for size in CompanySize}
MOMENT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2})(?::?([0-9]{2}))?)?"
)
# The last moment that every time zone can show, and so the last that the core has.
LAST = datetime.datetime(9999, 12, 30, 22, 0, 0, 999_999, tzinfo=datetime.timezone.utc)


def chunked(body: bytes, *lines: str, pieces: int = 3, status: str = "200 OK") -> bytes:
    """A whole response, in chunks."""
    size = -(-len(body) // pieces) or 1
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    return head(*lines, "Transfer-Encoding: chunked", status=status) + framed


FULL = account(
    7,
    city="Ωmsk 🜂",
    description="Where most accidents change nothing but the text. " * 10,
    companySize="51-200",
    stage={"id": 3, "name": "Lead", "colorId": None, "icon": "x"},
    emailProvider=None,
    tags=["a", {"b": 1.5}],
)
PAGE = b'{"items": [%b, %b], "hasMore": false, "total": 2}' % (FULL, account(8))
JSON = "Content-Type: application/json"
PROBLEM = b'{"title": "Bad", "code": "contactAccount.bad", "errors": [{"pointer": "/companySize", "detail": "No."}]}'
PROBLEM_JSON = "Content-Type: application/problem+json"

# What is asked for, the body of a good answer to it, and how that is sent.
GOOD: list[tuple[str, bytes, Callable[[bytes], bytes]]] = [
    ("get", FULL, lambda body: response(body, JSON)),
    ("get", FULL, lambda body: chunked(body, JSON)),
    ("list", PAGE, lambda body: response(body, JSON)),
    ("list", PAGE, lambda body: chunked(body, JSON, pieces=5)),
    ("get", PROBLEM, lambda body: response(body, PROBLEM_JSON, status="400 Bad Request")),
    ("get", PROBLEM, lambda body: response(body, PROBLEM_JSON, "Retry-After: 30", status="429 Too Many Requests")),
    ("get", PROBLEM, lambda body: chunked(body, PROBLEM_JSON, status="503 Service Unavailable")),
]
PIECES = [b"\r\n", b"\n", b"\0", b'"', b"{", b"}", b"[", b",", b":", b"0", b"-", b" ", b"\xff", b"\\u", b"null", b"1e9"]
PIECES += [
    b"HTTP/1.1 200 OK\r\n",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"HTTP/1.1 100 Hm\r\n\r\n",
]


def mutate(chance: random.Random, good: bytes) -> bytes:
    """Bytes after one to three accidents."""
    mutant = bytearray(good)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        at = chance.randrange(len(mutant) + 1)
        end = min(len(mutant), at + chance.choice([1, 1, 2, 8, 64, 4096]))
        accident = chance.randrange(6)
        if accident == 0:
            del mutant[at:]
        elif accident == 1:
            del mutant[at:end]
        elif accident == 2:
            mutant[at:at] = mutant[at:end]
        elif accident == 3:
            mutant[at:at] = chance.choice(PIECES)
        elif accident == 4 and at < len(mutant):
            mutant[at] ^= 1 << chance.randrange(8)
        elif at < len(mutant):
            mutant[at] = chance.randrange(256)
    return bytes(mutant)


class _Bytes:
    """What `http.client` needs of a socket."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def makefile(self, _: str) -> io.BytesIO:
        return self._file


class Reading(NamedTuple):
    """What another client makes of an answer."""

    # Whether the answer says itself where it ends, and has all of it.
    is_whole: bool
    # The JSON of a 200, or None where there is none.
    value: Any


def reading(data: bytes) -> Reading:
    """Reads an answer with the standard library."""
    answer = http.client.HTTPResponse(cast("Any", _Bytes(data)), method="GET")
    try:
        answer.begin()
        is_bounded = answer.length is not None or bool(answer.chunked)
        body = answer.read()
    except (http.client.HTTPException, ValueError, OSError):
        return Reading(is_whole=False, value=None)
    try:
        return Reading(is_bounded, json.loads(body.decode()) if answer.status == 200 else None)
    except (ValueError, RecursionError):
        return Reading(is_bounded, None)


def moment(text: str) -> datetime.datetime | None:
    """A point in time in one of the forms that the service answers."""
    found = MOMENT.fullmatch(text)
    if not found:
        return None
    *parts, fraction, sign, hours, minutes = found.groups()
    year, month, day, hour, minute, second = map(int, parts)
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    offset = datetime.timedelta(hours=int(hours or 0), minutes=int(minutes or 0)) * (-1 if sign == "-" else 1)
    try:
        # A leap second is the second before it.
        local = datetime.datetime(year, month, day, hour, minute, min(second, 59), micros, tzinfo=datetime.timezone.utc)
        return min(local - offset, LAST)
    except OverflowError:
        # Later than the last one; what is too early is refused.
        return LAST if year == 9999 else None
    except ValueError:
        return None


def plain(value: Any) -> Any:
    """JSON with the numbers that the core has: an integer of more than 64 bits is a float."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        return float(value)
    return value


def wanted(value: Any) -> Any:
    """What the account of a JSON object must be in the form of `shown`, or None where it is no account."""
    if not isinstance(value, dict):
        return None
    members: dict[str, Any] = dict.fromkeys(WIRES) | plain(value)
    for _, wire, kind, writable, always, _ in WIRES.values():
        # What no update needs may be anything.
        if not (writable or wire == "id"):
            continue
        found = members[wire]
        if found is None:
            if always:
                return None
        elif kind == "Integer" and type(found) is not int:
            return None
    for wire in ("createdDate", "lastActivityDate"):
        members[wire] = moment(str(members[wire])) or members[wire]
    size = members["companySize"]
    members["companySize"] = SIZES.get(size.lower(), size) if isinstance(size, str) else size
    if is_stage(members["stage"]):
        members["stage"] = {"colorId": None} | members["stage"]
    return members


def is_stage(value: Any) -> bool:
    """Whether a value is a stage as the contract has it."""
    if not isinstance(value, dict):
        return False
    color = value.get("colorId")
    return type(value.get("id")) is int and isinstance(value.get("name"), str) and (color is None or type(color) is int)


def shown(given: ContactAccount) -> Any:
    """An account with the names of the wire."""
    moments = {"createdDate": given.created_date, "lastActivityDate": given.last_activity_date}
    return given.to_dict(by_alias=True) | {wire: date for wire, date in moments.items() if date is not None}


def expected(asked: str, value: Any) -> list[Any]:
    """The accounts that an answer has."""
    items = [value]
    if asked == "list":
        items = value.get("items") if isinstance(value, dict) else None
    return [wanted(item) for item in items] if isinstance(items, list) else [None]


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same JSON, where 1, 1.0 and true are three."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


def ask(client: ReplyClient, asked: str) -> tuple[list[ContactAccount], ReplyError | None]:
    """Asks for account 7, or for all."""
    try:
        return [client.get_contact_account(7)] if asked == "get" else list(client.list_contact_accounts("x")), None
    except ReplyError as error:
        return [], error


@pytest.mark.timeout(60 + TRIED // 10)
def test_a_damaged_answer_is_read_right_or_refused(reliability: Callable[..., None]) -> None:
    chance = random.Random(SEED)  # noqa: S311
    waiting: list[tuple[bytes, bool]] = []

    def script(peer: Peer) -> None:
        while request := peer.request():
            if not waiting:
                peer.write(response(request.good))
                continue
            mutant, ends = waiting.pop()
            peer.write(mutant)
            if ends:
                peer.half_close()

    accepted = 0
    refusals: Counter[str] = Counter()
    short: list[str] = []
    with Hostile(script) as server, client_of(server.base_url, attempt_timeout=ATTEMPT, max_attempts=1) as client:
        # All over the same connections.
        patient = client.with_options(max_attempts=3, attempt_timeout=2.0)
        for number in range(TRIED):
            asked, body, framed = chance.choice(GOOD)
            # Damage on the way, or in the service: then the frame is right.
            mutant = mutate(chance, framed(body)) if chance.randrange(2) else framed(mutate(chance, body))
            read = reading(mutant)
            what = f"mutant {number} ({asked}): {mutant!r}"
            waiting[:] = [(mutant, not read.is_whole and number % STALLED != 0)]
            started = time.monotonic()
            # A user of its own, because a refusal holds back every call of its user.
            accounts, error = ask(client.with_options(act_as=number + 1), asked)
            elapsed = time.monotonic() - started
            assert elapsed < ATTEMPT + SLACK, f"{elapsed:.2f} s for {what}"
            if error:
                assert type(error) not in {ReplyError, InternalError}, f"{error!r} for {what}"
                refusals[type(error).__name__] += 1
            else:
                accepted += 1
                if not same([shown(each) for each in accounts], expected(asked, read.value)):
                    short.append(f"{what} became {accounts!r}")
            waiting.clear()
            assert patient.get_contact_account(8).name == "account 8", f"after {what}"
    reliability("mutants", tried=TRIED, accepted=accepted, **dict(refusals.most_common()), short=len(short))
    assert not short, "\n".join(short[:5])
    # Each happens, or it would say nothing.
    assert accepted > TRIED // 20
    assert refusals.total() > TRIED // 4
    assert {"UnexpectedResponseError", "TransportError", "BadRequestError", "RateLimitError"} <= refusals.keys()
