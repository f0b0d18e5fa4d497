"""An account is a value: immutable, hashable, and at home wherever Python's data go."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import pickle
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from replyio import CompanySize, ContactAccount, ContactAccountStage, Quota
from replyio.sandbox import Fault
from support import FIELDS, NAMES, PAGE_ANSWER

if TYPE_CHECKING:
    from replyio.sandbox import Sandbox

UTC = datetime.timezone.utc


def answered(sandbox: Sandbox, **members: Any) -> ContactAccount:
    """An account as it comes from the service."""
    sandbox.add_fault(Fault(times=1, status=200, body=PAGE_ANSWER | members))
    with sandbox.client() as client:
        return client.get_contact_account(123)


@pytest.fixture
def account(reply_sandbox: Sandbox) -> ContactAccount:
    return answered(
        reply_sandbox,
        companySize="51-200",
        city=None,
        stage={"id": 1, "name": "Lead", "colorId": 2, "odds": [1]},
        emailProvider="Gmail",
        tags=["a", {"b": 1}],
    )


@pytest.mark.parametrize("name", ["name", "id", "stage", "extra", "new_attribute"])
def test_an_account_is_frozen(account: ContactAccount, name: str) -> None:
    # A slotted dataclass of Python before 3.12 says TypeError for a name that it does not have.
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        setattr(account, name, None)
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        delattr(account, name)
    assert not hasattr(account, "__dict__")
    assert not hasattr(account.stage, "__dict__")


def test_an_account_is_compared_and_hashed_by_value(reply_sandbox: Sandbox) -> None:
    one, same, other = (answered(reply_sandbox, **members) for members in ({}, {}, {"city": "Oslo"}))
    assert one is not same
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert len({one, same, other}) == 2
    assert one != one.to_dict()


def test_unknown_members_count_in_comparison(reply_sandbox: Sandbox) -> None:
    one, other = answered(reply_sandbox, tags=["a"]), answered(reply_sandbox, tags=["b"])
    assert one != other
    assert len({one, other}) == 2


def test_what_rust_fills_is_what_python_would_make(account: ContactAccount) -> None:
    made = ContactAccount(**{field.name: getattr(account, field.name) for field in dataclasses.fields(account)})
    assert made == account
    assert repr(made) == repr(account)
    for field in dataclasses.fields(account):
        assert type(getattr(made, field.name)) is type(getattr(account, field.name))


def test_every_account_has_an_extra_of_its_own(reply_sandbox: Sandbox) -> None:
    one, other = answered(reply_sandbox), answered(reply_sandbox)
    one.extra["mark"] = 1
    assert other.extra == {}


def test_the_dictionary_has_python_names_and_values(account: ContactAccount) -> None:
    members = account.to_dict()
    assert list(members) == [field.name for field in dataclasses.fields(ContactAccount)]
    assert members["created_date"] == datetime.datetime(2023, 11, 7, 5, 31, 56, tzinfo=UTC)
    assert members["company_size"] is CompanySize.FROM_51_TO_200
    assert members["stage"] == {"id": 1, "name": "Lead", "color_id": 2, "extra": {"odds": [1]}}
    assert members["extra"] == {"tags": ["a", {"b": 1}]}
    members["extra"]["tags"].append("c")
    assert account.extra == {"tags": ["a", {"b": 1}]}


def test_the_dictionary_by_alias_is_what_came(reply_sandbox: Sandbox) -> None:
    members: dict[str, Any] = {
        "emailProvider": "Gmail",
        "lastActivityDate": "2026-09-08T12:08:22.580000Z",
        "tags": ["a", {"b": 1}],
        "stage": {"id": 1, "name": "Lead", "colorId": None, "odds": 0.5},
    }
    wire = answered(reply_sandbox, **members).to_dict(by_alias=True)
    assert wire == PAGE_ANSWER | members
    assert json.loads(json.dumps(wire)) == wire
    assert type(wire["companySize"]) is str


def test_the_dictionary_by_alias_shares_nothing_with_the_account(account: ContactAccount) -> None:
    wire = account.to_dict(by_alias=True)
    wire["tags"].append("c")
    wire["stage"]["odds"].append(2)
    assert account.extra == {"tags": ["a", {"b": 1}]}
    assert account.stage is not None
    assert account.stage.extra == {"odds": [1]}


def test_what_an_update_may_carry_round_trips(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        before = client.get_contact_account(4711)
        after = client.update_contact_account(before.id, **before.update_fields())
    body = reply_sandbox.requests[-1].body
    assert list(before.update_fields()) == FIELDS
    assert body == {wire: getattr(before, name) for wire, name in NAMES.items()}
    assert after == dataclasses.replace(
        before, last_activity_date=after.last_activity_date, email_provider=after.email_provider
    )


def test_what_has_no_value_is_not_in_an_update(account: ContactAccount) -> None:
    assert "city" not in account.update_fields()
    assert set(account.update_fields()) == set(FIELDS) - {"city"}


def test_replace_makes_another_account(account: ContactAccount) -> None:
    other = dataclasses.replace(account, city="Bergen", company_size=None)
    assert (other.city, other.company_size, account.city) == ("Bergen", None, None)
    assert dataclasses.replace(other, city=None, company_size=CompanySize("51-200")) == account


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_account_survives_a_pickle(account: ContactAccount, protocol: int) -> None:
    back = pickle.loads(pickle.dumps(account, protocol))
    assert back == account
    assert hash(back) == hash(account)
    assert back.created_date.tzinfo is not None
    assert back.company_size is CompanySize.FROM_51_TO_200


def test_a_quota_and_a_size_survive_a_pickle_and_a_copy() -> None:
    for value in (Quota(1, 2), CompanySize.EMPTY, ContactAccountStage(1, "Lead")):
        assert pickle.loads(pickle.dumps(value)) == copy.copy(value) == copy.deepcopy(value) == value


def test_an_account_can_be_copied(account: ContactAccount) -> None:
    assert copy.copy(account) == account
    deep = copy.deepcopy(account)
    assert deep == account
    deep.extra["tags"].append("c")
    assert account.extra == {"tags": ["a", {"b": 1}]}


def test_accounts_make_a_frame(account: ContactAccount, reply_sandbox: Sandbox) -> None:
    frame = pd.DataFrame([account, *reply_sandbox.accounts.values()])
    assert list(frame.columns) == [field.name for field in dataclasses.fields(ContactAccount)]
    assert frame["id"].tolist() == [123, 4711, 4712, 4713]
    assert str(frame["created_date"].dtype).endswith("UTC]")


def test_a_notebook_shows_a_table_and_no_html_of_the_service(reply_sandbox: Sandbox) -> None:
    account = answered(
        reply_sandbox,
        name="<script>alert(1)</script>",
        city="\"&'",
        industry=None,
        stage={"id": 1, "name": "<b>Lead</b>", "colorId": 2},
        tags=["<i>"],
    )
    html = account._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    for raw in ("<script", "<b>", "<i>", "\"&'", "None", "industry"):
        assert raw not in html
    for shown in ("&lt;b&gt;Lead&lt;/b&gt; (1)", "2023-11-07 05:31:56 UTC", "&lt;i&gt;", ">Empty<", "city"):
        assert shown in html
    assert html.startswith("<table>")


def test_a_size_is_a_string_in_every_way() -> None:
    size = CompanySize("51-200")
    assert size == "51-200"
    assert hash(size) == hash("51-200")
    assert {"51-200": 1}[size] == 1
    assert (str(size), f"{size}", f"{size:>8}", "%s" % size) == ("51-200", "51-200", "  51-200", "51-200")  # noqa: UP031
    assert json.dumps({"size": size}) == '{"size": "51-200"}'
    assert [member.value for member in CompanySize] == [
        "Empty", "SelfEmployed", "2-10", "11-50", "51-200", "201-500", "501-1000", "1001-5000", "5001-10000", "10001+",
    ]  # fmt: skip


def test_the_repr_of_an_account_makes_it_again(account: ContactAccount) -> None:
    sizes = {f"<CompanySize.{size.name}: {size.value!r}>": f"CompanySize.{size.name}" for size in CompanySize}
    text = repr(account)
    for shown, name in sizes.items():
        text = text.replace(shown, name)
    assert eval(text) == account  # noqa: S307
