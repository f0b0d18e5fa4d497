"""What holds for any input, as far as Hypothesis can think of it."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import functools
import itertools
import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from replyio import NotFoundError, RateLimitError, ReplyClient, ValidationError, _replyio
from replyio.sandbox import Fault, Sandbox
from support import PAGE_ANSWER, TEXT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = int(os.environ.get("REPLYIO_EXAMPLES", "60"))

CANARY = "canary-7001"
WIRES = {row[1] for row in _replyio.MEMBERS}
_WIRE_OF = {row[0]: row[1] for row in _replyio.MEMBERS}
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)


TRIED: Counter[str] = Counter()


def generated(**strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Tries a test as often as is asked, always with the same values, and counts."""

    def wrap(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*arguments: Any, **keywords: Any) -> None:
            TRIED[test.__name__] += 1
            test(*arguments, **keywords)

        return settings(max_examples=EXAMPLES, deadline=None, derandomize=True)(given(**strategies)(counted))

    return wrap


@pytest.fixture(scope="module", autouse=True)
def _told(reliability: Callable[..., None]) -> Iterator[None]:
    yield
    reliability("generated", tried=TRIED.total(), tests=len(TRIED))


@pytest.fixture(scope="module")
def lasting() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def client(lasting: Sandbox) -> Iterator[ReplyClient]:
    with lasting.client(quota=None, max_attempts=1) as client:
        yield client


class Talkative:
    """An object that says everything about itself."""

    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


leaves: st.SearchStrategy[Any] = st.one_of(
    st.integers(), st.floats(), st.booleans(), st.binary(), st.complex_numbers(), st.decimals(), st.datetimes()
)
leaves |= st.sampled_from([Talkative(), CANARY.encode(), [CANARY], {CANARY: CANARY}, (CANARY,), {CANARY}, ..., int])
objects = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@generated(field=st.sampled_from(TEXT_FIELDS), value=objects)
def test_any_object_is_refused_by_field_and_type(field: str, value: Any, lasting: Sandbox, client: ReplyClient) -> None:
    """Seen to fail with a refusal that says the value, `{value}` in place of `type_name(value)` in `text()`."""
    lasting.clear_requests()
    with pytest.raises(ValidationError) as caught:
        client.update_contact_account(4711, **{"name": "Acme", field: value})
    assert caught.value.errors == [(field, f"must be a string or None, not {type(value).__name__}")]
    assert all(CANARY not in text for text in (str(caught.value), repr(caught.value), repr(caught.value.args)))
    assert lasting.requests == []


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
extras = st.dictionaries(names.filter(lambda name: name not in WIRES), json_values, max_size=5)


@generated(extra=extras)
def test_members_that_nobody_knows_are_kept_to_the_last_bit(
    extra: dict[str, Any], lasting: Sandbox, client: ReplyClient
) -> None:
    """Seen to fail without `float_roundtrip` of serde_json, by the last digit of a float."""
    answer = PAGE_ANSWER | extra
    lasting.clear_faults()
    lasting.add_fault(Fault(status=200, body=json.dumps(answer)))
    account = client.get_contact_account(123)
    # As text, in which 1, 1.0 and true, and 0.0 and -0.0, are not the same.
    assert json.dumps(account.extra, sort_keys=True) == json.dumps(extra, sort_keys=True)
    given_back = json.dumps(account.to_dict(by_alias=True), sort_keys=True)
    assert given_back == json.dumps(answer | {"emailProvider": None}, sort_keys=True)


# Thirty days: the most that `retry_after` says.
LONGEST_HINT = 2_592_000
USERS = itertools.count(1)


def _later(seconds: int) -> str:
    return email.utils.format_datetime(NOW + datetime.timedelta(seconds=seconds), usegmt=True)


hints = st.one_of(
    st.integers(0, LONGEST_HINT).map(lambda seconds: (str(seconds), float(seconds))),
    st.integers(LONGEST_HINT, 10**30).map(lambda seconds: (str(seconds), float(LONGEST_HINT))),
    st.integers(LONGEST_HINT, 251_000_000_000).map(lambda seconds: (_later(seconds), float(LONGEST_HINT))),
    st.integers(-86_400, 86_400).map(lambda seconds: (_later(seconds), float(max(seconds, 0)))),
    st.integers(-(10**30), -1).map(lambda seconds: (str(seconds), None)),
    st.floats(0, 1000).map(lambda seconds: (repr(seconds), None)),
    # No digit alone, and no name of a month: nothing that could be either form.
    st.text(st.sampled_from("abcxyz-+.,:; "), min_size=1).filter(str.strip).map(lambda text: (text, None)),
)


@generated(hint=hints)
def test_a_retry_after_is_read_or_not_there(
    hint: tuple[str, float | None], lasting: Sandbox, client: ReplyClient
) -> None:
    """Seen to fail with a date that is measured against this machine's clock, and without `LONGEST_HINT`."""
    text, expected = hint
    lasting.clear_faults()
    lasting.add_fault(Fault(status=429, retry_after=text, headers={"Date": _later(0)}))
    # A user of its own, because a refusal holds back every call of its user.
    other = client.with_options(act_as=next(USERS))
    with pytest.raises(RateLimitError) as caught:
        other.get_contact_account(4711)
    assert caught.value.retry_after == expected


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@example(
    field="city", text="\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT} \N{RIGHT-TO-LEFT MARK}\0 \N{PARTY POPPER}"
)
@example(field="city", text="\ufeff\u2028\x7f\r\n")
@generated(field=st.sampled_from(TEXT_FIELDS), text=texts)
def test_any_text_comes_to_the_service_and_back_as_it_is(
    field: str, text: str, lasting: Sandbox, client: ReplyClient
) -> None:
    """Seen to fail with `text.trim()` where the core takes a text over."""
    text = text if field != "name" else f"{text}x"
    lasting.clear_faults()
    lasting.clear_requests()
    account = client.update_contact_account(4711, **{"name": "Acme", "owner_user_id": 42, field: text})
    (request,) = lasting.requests
    kept = getattr(lasting.accounts[4711], field)
    wanted = text or None
    assert request.body[_WIRE_OF[field]] == text
    assert [getattr(account, field) or None, kept or None] == [wanted, wanted]
    assert (getattr(client.get_contact_account(4711), field) or None) == wanted


ids = st.one_of(
    st.integers(), st.integers(-(2**70), 2**70), st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**200])
)


@generated(id=ids)
def test_any_integer_is_an_id_as_it_is_or_refused_before_a_request(
    id: int, lasting: Sandbox, client: ReplyClient
) -> None:
    """Seen to fail with an id that is cut to 32 bits, and with one that may be 0."""
    lasting.clear_faults()
    lasting.clear_requests()
    if not 0 < id < 2**63:
        with pytest.raises(ValidationError) as caught:
            client.get_contact_account(id)
        assert [fault.field for fault in caught.value.errors] == ["id"]
        assert lasting.requests == []
        return
    with contextlib.nullcontext() if id in lasting.accounts else pytest.raises(NotFoundError):
        assert client.get_contact_account(id).id == id
    assert [request.path for request in lasting.requests] == [f"/v3/contact-accounts/{id}"]
