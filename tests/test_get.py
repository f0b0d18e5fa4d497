"""`get_contact_account` reads one account, whatever harmless form the service answers in."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

from replyio import CompanySize, NotFoundError, PermissionDeniedError, UnexpectedResponseError
from replyio.sandbox import Fault
from support import MODES, PAGE_ANSWER, call, sent

if TYPE_CHECKING:
    from replyio.sandbox import Sandbox

pytestmark = pytest.mark.parametrize("mode", MODES)

UTC = datetime.timezone.utc


def answered(sandbox: Sandbox, mode: str, **members: Any) -> Any:
    """The account as it is read when the service answers so."""
    sandbox.add_fault(Fault(status=200, body=PAGE_ANSWER | members))
    with sandbox.client() as client:
        return call(client, "get_contact_account", mode, 123)


def test_an_account_is_read_with_one_request(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        account = call(client, "get_contact_account", mode, 4711)
    (request,) = reply_sandbox.requests
    assert (request.method, request.path, request.raw_body) == ("GET", "/v3/contact-accounts/4711", b"")
    assert account == reply_sandbox.accounts[4711]
    assert account.email_provider == "Gmail"


def test_an_unknown_account_is_not_found(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, pytest.raises(NotFoundError, match="get of account 1 failed: 404"):
        call(client, "get_contact_account", mode, 1)
    assert sent(reply_sandbox) == ["GET"]


@pytest.mark.reply_sandbox(forbidden=[4712])
def test_an_account_of_others_is_forbidden(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, pytest.raises(PermissionDeniedError) as caught:
        call(client, "get_contact_account", mode, 4712)
    assert caught.value.code == "contactAccount.forbidden"


def test_the_largest_id_can_be_asked_for(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, pytest.raises(NotFoundError):
        call(client, "get_contact_account", mode, 2**63 - 1)
    assert reply_sandbox.requests[0].path == f"/v3/contact-accounts/{2**63 - 1}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-07T05:31:56Z", datetime.datetime(2023, 11, 7, 5, 31, 56, tzinfo=UTC)),
        ("2026-09-08T12:08:22.58+00:00", datetime.datetime(2026, 9, 8, 12, 8, 22, 580_000, tzinfo=UTC)),
        ("2026-09-08T14:08:22.58+02:00", datetime.datetime(2026, 9, 8, 12, 8, 22, 580_000, tzinfo=UTC)),
        ("2026-09-08T12:08:22", datetime.datetime(2026, 9, 8, 12, 8, 22, tzinfo=UTC)),
        ("2026-09-08T12:08:22.1234567890123Z", datetime.datetime(2026, 9, 8, 12, 8, 22, 123_456, tzinfo=UTC)),
        ("0001-01-01T00:00:00", datetime.datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999", datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("9999-12-31T00:00:00Z", datetime.datetime(9999, 12, 31, tzinfo=UTC)),
        ("9999-12-30T22:00:00.9999999Z", datetime.datetime(9999, 12, 30, 22, 0, 0, 999_999, tzinfo=UTC)),
    ],
)
def test_dates_are_aware_and_in_utc_whatever_their_form(
    mode: str, text: str, expected: datetime.datetime, reply_sandbox: Sandbox
) -> None:
    date = answered(reply_sandbox, mode, createdDate=text).created_date
    assert date == expected
    assert date.tzinfo is UTC


@pytest.mark.parametrize("text", ["yesterday", "", "2024-01-02", "2023-02-30T00:00:00Z", "10000-01-01T00:00:00Z"])
def test_what_is_no_date_is_kept_as_it_came(mode: str, text: str, reply_sandbox: Sandbox) -> None:
    account = answered(reply_sandbox, mode, createdDate=text)
    assert (account.created_date, account.extra) == (None, {"createdDate": text})
    assert account.to_dict(by_alias=True)["createdDate"] == text


def test_a_size_in_another_casing_is_the_documented_one(mode: str, reply_sandbox: Sandbox) -> None:
    assert answered(reply_sandbox, mode, companySize="selfemployed").company_size is CompanySize.SELF_EMPLOYED


def test_an_unknown_size_stays_the_text_it_is(mode: str, reply_sandbox: Sandbox) -> None:
    size = answered(reply_sandbox, mode, companySize="enormous").company_size
    assert (size, type(size)) == ("enormous", str)


def test_members_that_nobody_knows_are_kept(mode: str, reply_sandbox: Sandbox) -> None:
    unknown = {"score": 7.5, "tags": ["a", None], "nested": {"deep": [1]}, "Name": "x", "größe": True}
    stage = {"id": 1, "name": "Lead", "colorId": None, "probability": 0.5}
    account = answered(reply_sandbox, mode, **unknown, stage=stage)
    assert account.extra == unknown
    assert account.stage.extra == {"probability": 0.5}
    assert account.to_dict(by_alias=True) == {**PAGE_ANSWER, "emailProvider": None, **unknown, "stage": stage}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("linkedProspectsCount", "many"),
        ("lastActivityDate", 1_704_153_600),
        ("stage", {"id": "3", "name": "Lead"}),
        ("emailProvider", ["Gmail"]),
    ],
)
def test_a_member_that_no_update_needs_is_kept_as_it_came(
    mode: str, member: str, value: Any, reply_sandbox: Sandbox
) -> None:
    account = answered(reply_sandbox, mode, **{member: value})
    assert account.extra == {member: value}
    assert account.to_dict(by_alias=True)[member] == value


@pytest.mark.parametrize("member", ["description", "companySize", "stage", "city"])
def test_an_optional_member_may_be_null_or_missing(mode: str, member: str, reply_sandbox: Sandbox) -> None:
    for body in (PAGE_ANSWER | {member: None}, {name: PAGE_ANSWER[name] for name in PAGE_ANSWER if name != member}):
        reply_sandbox.clear_faults()
        reply_sandbox.add_fault(Fault(status=200, body=body))
        with reply_sandbox.client() as client:
            assert call(client, "get_contact_account", mode, 123).to_dict(by_alias=True)[member] is None


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("name", None, "name"),
        ("ownerUserId", None, "ownerUserId"),
        ("ownerUserId", "canary", "ownerUserId"),
        ("companySize", ["canary"], "companySize"),
        ("city", 7001, "city"),
    ],
)
def test_a_member_of_the_wrong_type_is_named_without_its_value(
    mode: str, member: str, value: Any, expected: str, reply_sandbox: Sandbox
) -> None:
    with pytest.raises(UnexpectedResponseError, match=expected) as caught:
        answered(reply_sandbox, mode, **{member: value})
    assert "canary" not in str(caught.value)
    assert "7001" not in str(caught.value)
    assert caught.value.status == 200
