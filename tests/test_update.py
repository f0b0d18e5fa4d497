"""`update_contact_account` sends the PUT exactly as given, and gives the account that the service answers."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replyio import CompanySize, ContactAccountStage, NotFoundError, UnexpectedResponseError, ValidationError
from replyio.sandbox import Fault, Sandbox
from support import FIELDS, MODES, NAMES, PAGE_ANSWER, PAGE_EXAMPLE, TEXT_FIELDS, body, call, sent

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def lasting() -> Iterator[Sandbox]:
    """A sandbox for the tests that Hypothesis calls many times."""
    with Sandbox() as sandbox:
        yield sandbox


def test_the_example_of_the_page_is_sent_as_it_stands_there(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.set_account({"id": 123, "name": "before"})
    with reply_sandbox.client() as client:
        account = call(client, "update_contact_account", mode, 123, **PAGE_EXAMPLE)
    (request,) = reply_sandbox.requests
    assert (request.method, request.path, request.query) == ("PUT", "/v3/contact-accounts/123", {})
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-api-key"] == "[key]"
    assert request.body == PAGE_EXAMPLE
    assert {name: getattr(account, name) for name in FIELDS} == {
        name: PAGE_EXAMPLE[wire] for wire, name in NAMES.items()
    }


def test_the_answer_of_the_page_is_read_in_full(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(status=200, body=PAGE_ANSWER))
    with reply_sandbox.client() as client:
        account = call(client, "update_contact_account", mode, 123, name="<string>")
    moment = datetime.datetime(2023, 11, 7, 5, 31, 56, tzinfo=datetime.timezone.utc)
    assert (account.created_date, account.last_activity_date) == (moment, moment)
    assert account.stage == ContactAccountStage(123, "<string>", 123)
    assert account.company_size is CompanySize.EMPTY
    assert account.to_dict(by_alias=True) == {**PAGE_ANSWER, "emailProvider": None}


def test_python_names_and_the_names_of_the_page_mean_the_same(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        for names in (list(NAMES), FIELDS):
            call(client, "update_contact_account", mode, 4711, **dict(zip(names, PAGE_EXAMPLE.values(), strict=True)))
    assert [request.body for request in reply_sandbox.requests] == [PAGE_EXAMPLE, PAGE_EXAMPLE]


def test_absent_none_and_a_value_are_three_things_on_the_wire(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        call(client, "update_contact_account", mode, 4711, name="Acme", city=None, country="", state="Oslo")
    assert body(reply_sandbox) == {"name": "Acme", "city": None, "country": "", "state": "Oslo"}


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "company_size"])
def test_every_optional_field_may_be_none(mode: str, field: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        account = call(client, "update_contact_account", mode, 4711, name="Acme", **{field: None})
    wire = next(wire for wire, name in NAMES.items() if name == field)
    assert body(reply_sandbox) == {"name": "Acme", wire: None}
    assert getattr(account, field) is None


def test_what_is_left_out_is_cleared(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        account = call(client, "update_contact_account", mode, 4711, name="Acme")
    assert [getattr(account, field) for field in [*TEXT_FIELDS, "company_size"]] == [None] * 14
    assert reply_sandbox.accounts[4711].city is None


@pytest.mark.parametrize("size", list(CompanySize))
def test_a_company_size_is_a_member_or_its_text(mode: str, size: CompanySize, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        for given_size in (size, size.value):
            account = call(client, "update_contact_account", mode, 4711, name="Acme", company_size=given_size)
            assert body(reply_sandbox)["companySize"] == size.value
            assert account.company_size is size


@pytest.mark.reply_sandbox(owners=[42, 43])
def test_an_owner_can_be_given(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        account = call(client, "update_contact_account", mode, 4711, name="Acme", owner_user_id=43)
    assert account.owner_user_id == 43
    assert b'"ownerUserId":43' in reply_sandbox.requests[-1].raw_body


@pytest.mark.parametrize("wire", [wire for wire, name in NAMES.items() if wire != name])
def test_both_names_of_a_field_at_once_are_an_error(mode: str, wire: str, reply_sandbox: Sandbox) -> None:
    both = {wire: PAGE_EXAMPLE[wire], NAMES[wire]: PAGE_EXAMPLE[wire]}
    with reply_sandbox.client() as client:
        for keywords in (both, dict(reversed(both.items()))):
            with pytest.raises(ValidationError, match=f"{NAMES[wire]} is given twice, as {NAMES[wire]} and as {wire}"):
                call(client, "update_contact_account", mode, 4711, name="Acme", **keywords)
    assert reply_sandbox.requests == []


def test_an_update_without_a_name_points_at_the_patch(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, pytest.raises(ValidationError, match="patch_contact_account") as caught:
        call(client, "update_contact_account", mode, 4711, city="Oslo")
    assert [error.field for error in caught.value.errors] == ["name"]
    assert reply_sandbox.requests == []


def test_an_answer_about_another_account_is_an_error(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(status=200, body=PAGE_ANSWER))
    with reply_sandbox.client() as client, pytest.raises(UnexpectedResponseError, match="4711") as caught:
        call(client, "update_contact_account", mode, 4711, name="Acme")
    assert caught.value.attempts == 1
    assert sent(reply_sandbox) == ["PUT"]


def test_an_unknown_account_is_not_found(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, pytest.raises(NotFoundError, match="account 1 failed: 404") as caught:
        call(client, "update_contact_account", mode, 1, name="Acme")
    assert (caught.value.code, caught.value.attempts) == ("contactAccount.notFound", 1)


def test_an_update_is_repeated_although_it_may_have_been_applied(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(request=1, status=503, applied=True))
    with reply_sandbox.client() as client:
        account = call(client, "update_contact_account", mode, 4711, name="Acme", city="Bergen")
    assert account.city == "Bergen"
    assert [(request.status, request.applied) for request in reply_sandbox.requests] == [(503, True), (200, True)]


TRICKY = [
    "Ωμέγα 🜂",
    "عربي עברית",
    "e\u0301 é",
    "\0",
    "\u200f\u202e",
    "\r\n\t",
    "👩‍👩‍👧‍👦",
    "\ufeff",
    "\uffff",
    "\U0010ffff",
    '"\\/',
    " ",
]


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_text_arrives_byte_for_byte(mode: str, text: str, lasting: Sandbox) -> None:
    lasting.clear_requests()
    with lasting.client(quota=None) as client:
        account = call(client, "update_contact_account", mode, 4711, name=f"a{text}", city=text)
    assert json.loads(lasting.requests[-1].raw_body) == {"name": f"a{text}", "city": text}
    assert (account.name, account.city, lasting.accounts[4711].city) == (f"a{text}", text, text)


@settings(max_examples=60, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(TEXT_FIELDS), st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_real_text_round_trips(mode: str, lasting: Sandbox, fields: dict[str, str]) -> None:
    with lasting.client(quota=None) as client:
        account = call(client, "update_contact_account", mode, 4711, name="Acme", **fields)
    wires = {name: wire for wire, name in NAMES.items()}
    assert body(lasting) == {"name": "Acme"} | {wires[name]: text for name, text in fields.items()}
    assert {name: getattr(account, name) for name in fields} == fields


@settings(max_examples=40, deadline=None)
@given(before=st.text(), surrogate=st.characters(categories=["Cs"]), after=st.text())
def test_a_lone_surrogate_is_refused_before_any_request(
    mode: str, lasting: Sandbox, before: str, surrogate: str, after: str
) -> None:
    lasting.clear_requests()
    expected: list[Any] = [("city", "must be valid Unicode: it contains a lone surrogate")]
    with lasting.client(quota=None) as client, pytest.raises(ValidationError) as caught:
        call(client, "update_contact_account", mode, 4711, name="Acme", city=before + surrogate + after)
    assert caught.value.errors == expected
    assert lasting.requests == []
