"""What holds for any input, as far as Hypothesis can think of it."""

from __future__ import annotations

import datetime
import email.utils
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replyio import RateLimitError, ReplyClient, ValidationError, _replyio
from replyio.sandbox import Fault, Sandbox
from support import PAGE_ANSWER, TEXT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

sixty = settings(max_examples=60, deadline=None, derandomize=True)

CANARY = "canary-7001"
WIRES = {row[1] for row in _replyio.MEMBERS}
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)


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


@sixty
@given(field=st.sampled_from(TEXT_FIELDS), value=objects)
def test_any_object_is_refused_by_field_and_type(field: str, value: Any, lasting: Sandbox, client: ReplyClient) -> None:
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


@sixty
@given(extra=extras)
def test_members_that_nobody_knows_are_kept_to_the_last_bit(
    extra: dict[str, Any], lasting: Sandbox, client: ReplyClient
) -> None:
    answer = PAGE_ANSWER | extra
    lasting.clear_faults()
    lasting.add_fault(Fault(status=200, body=json.dumps(answer)))
    account = client.get_contact_account(123)
    # As text, in which 1, 1.0 and true, and 0.0 and -0.0, are not the same.
    assert json.dumps(account.extra, sort_keys=True) == json.dumps(extra, sort_keys=True)
    given_back = json.dumps(account.to_dict(by_alias=True), sort_keys=True)
    assert given_back == json.dumps(answer | {"emailProvider": None}, sort_keys=True)


def _later(seconds: int) -> str:
    return email.utils.format_datetime(NOW + datetime.timedelta(seconds=seconds), usegmt=True)


hints = st.one_of(
    st.integers(0, 2**32 - 1).map(lambda seconds: (str(seconds), float(seconds))),
    st.integers(2**32, 10**30).map(lambda seconds: (str(seconds), float(2**32 - 1))),
    st.integers(-86_400, 86_400).map(lambda seconds: (_later(seconds), float(max(seconds, 0)))),
    st.integers(-(10**30), -1).map(lambda seconds: (str(seconds), None)),
    st.floats(0, 1000).map(lambda seconds: (repr(seconds), None)),
    # No digit alone, and no name of a month: nothing that could be either form.
    st.text(st.sampled_from("abcxyz-+.,:; "), min_size=1).filter(str.strip).map(lambda text: (text, None)),
)


@sixty
@given(hint=hints)
def test_a_retry_after_is_read_or_not_there(
    hint: tuple[str, float | None], lasting: Sandbox, client: ReplyClient
) -> None:
    text, expected = hint
    lasting.clear_faults()
    lasting.add_fault(Fault(status=429, retry_after=text, headers={"Date": _later(0)}))
    with pytest.raises(RateLimitError) as caught:
        client.get_contact_account(4711)
    assert caught.value.retry_after == expected
