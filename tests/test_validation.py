"""What the contract's page rules out is refused before any request, every fault at once, and nothing else is."""

from __future__ import annotations

import decimal
import enum
import math
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from replyio import CompanySize, FieldError, ValidationError
from support import FIELDS, MODES, NAMES, TEXT_FIELDS, call, has_a_line_for_each_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio import ReplyClient
    from replyio.sandbox import Sandbox

    Refused = Callable[..., ValidationError]


@pytest.fixture
def client(reply_sandbox: Sandbox) -> Iterator[ReplyClient]:
    with reply_sandbox.client() as client:
        yield client


@pytest.fixture
def refused(client: ReplyClient, reply_sandbox: Sandbox) -> Refused:
    """Calls an operation for its refusal, which is one line, survives a pickle, and comes before any request."""

    def refused(mode: str, operation: str, *arguments: Any, **keywords: Any) -> ValidationError:
        with pytest.raises(ValidationError) as caught:
            call(client, operation, mode, *arguments, **keywords)
        assert reply_sandbox.requests == []
        return checked(caught.value)

    return refused


def checked(error: ValidationError) -> ValidationError:
    assert has_a_line_for_each_fault(error)
    assert pickle.loads(pickle.dumps(error)).errors == error.errors
    return error


def fields_of(error: ValidationError) -> list[str]:
    return [fault.field for fault in error.errors]


@pytest.mark.parametrize("mode", MODES)
def test_every_fault_is_reported_at_once_in_the_order_of_the_fields(mode: str, refused: Refused) -> None:
    wrong: dict[str, Any] = {
        "owner_user_id": -1,
        "color": "red",
        "city": 5,
        "companySize": "huge",
        "linkedProspectsCount": 3,
        "name": " ",
        "linked_in_url": b"https://",
    }
    error = refused(mode, "update_contact_account", 0, **wrong)
    assert error.errors == [
        FieldError("id", "must be a positive integer"),
        FieldError("name", "must not be blank"),
        FieldError("company_size", f"must be one of {', '.join(CompanySize)}"),
        FieldError("city", "must be a string or None, not int"),
        FieldError("linked_in_url", "must be a string or None, not bytes"),
        FieldError("owner_user_id", "must be a positive integer"),
        FieldError("color", "is not a field of a contact account"),
        FieldError("linkedProspectsCount", "cannot be updated: the service sets it"),
    ]
    faults = "".join(f"\n  {field} {message}" for field, message in error.errors)
    assert str(error) == f"update of an account refused before any request:{faults}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", ["update_contact_account", "patch_contact_account"])
@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("linkedin_url", "linked_in_url"),
        ("linkedInURL", "linked_in_url"),
        ("company_sise", "company_size"),
        ("domain", "domain_name"),
        ("timezone_id", "time_zone_id"),
        ("Name", "name"),
        ("ownerId", "owner_user_id"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_right_one(
    mode: str, operation: str, misspelt: str, meant: str, refused: Refused
) -> None:
    (fault,) = refused(mode, operation, 4711, name="Acme", **{misspelt: "x"}).errors
    assert fault == (misspelt, f"is not a field of a contact account; did you mean {meant}?")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "member", ["linked_prospects_count", "createdDate", "last_activity_date", "stage", "emailProvider"]
)
def test_a_member_that_the_service_sets_is_refused(mode: str, member: str, refused: Refused) -> None:
    (fault,) = refused(mode, "patch_contact_account", 4711, **{member: "x"}).errors
    assert fault == (member, "cannot be updated: the service sets it")


NOT_IDS = [0, -1, -(2**63), 2**63, 2**200, -(2**200), True, False, 1.0, "4711", "1/../2", b"1", math.nan, None, [1], {}]
NOT_IDS += [np.float64(1), np.bool_(True), np.int64(-1), pd.NA, pd.NaT, decimal.Decimal(1), 1j]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", NOT_IDS, ids=repr)
def test_what_is_no_id_is_refused(mode: str, id: Any, refused: Refused) -> None:
    calls = [("update_contact_account", {"name": "Acme"}), ("patch_contact_account", {}), ("get_contact_account", {})]
    for operation, fields in calls:
        error = refused(mode, operation, id, **fields)
        assert fields_of(error) == ["id"]
        assert error.errors[0].message.startswith("must be a positive integer")
        assert "/../" not in str(error)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", [*NOT_IDS[:-7], np.float64(1), np.bool_(True), pd.NA, decimal.Decimal(1)], ids=repr)
def test_what_is_no_owner_is_refused(mode: str, id: Any, refused: Refused) -> None:
    assert fields_of(refused(mode, "patch_contact_account", 4711, owner_user_id=id)) == ["owner_user_id"]


class Number(enum.IntEnum):
    ACME = 4711


class Index:
    def __index__(self) -> int:
        return 4711


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "id", [np.int64(4711), np.uint16(4711), np.int32(4711), Number.ACME, Index()], ids=lambda id: type(id).__name__
)
def test_whatever_python_takes_for_an_index_is_an_integer(
    mode: str, id: Any, client: ReplyClient, reply_sandbox: Sandbox
) -> None:
    assert call(client, "get_contact_account", mode, id).id == 4711
    call(client, "update_contact_account", mode, id, name="Acme", owner_user_id=id)
    assert reply_sandbox.requests[-1].raw_body == b'{"name":"Acme","ownerUserId":4711}'


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [None, "", " ", "\t\r\n", "\u00a0\u2003", 5, b"Acme", True])
def test_what_is_no_name_is_refused(mode: str, name: Any, refused: Refused) -> None:
    for operation in ("update_contact_account", "patch_contact_account"):
        assert fields_of(refused(mode, operation, 4711, name=name)) == ["name"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "value", [5, 1.5, math.nan, True, b"x", ["x"], pd.NA, pd.NaT, np.nan, object(), enum.Enum("Size", "A")]
)
def test_text_is_a_string_or_none(mode: str, value: Any, refused: Refused) -> None:
    given = dict.fromkeys(TEXT_FIELDS, value)
    error = refused(mode, "patch_contact_account", 4711, **given)
    assert error.errors == [(field, f"must be a string or None, not {type(value).__name__}") for field in TEXT_FIELDS]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("field", [field for field in FIELDS if field != "owner_user_id"])
def test_a_lone_surrogate_is_refused_in_every_field(mode: str, field: str, refused: Refused) -> None:
    error = refused(mode, "update_contact_account", 4711, **{"name": "Acme", field: "canary\udc80"})
    assert error.errors == [(field, "must be valid Unicode: it contains a lone surrogate")]
    assert "canary" not in str(error)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("size", "hint"),
    [
        ("selfemployed", "; did you mean SelfEmployed?"),
        ("51-201", "; use one of these ranges"),
        ("500-1000", "; use one of these ranges"),
        ("51 - 200", "; did you mean 51-200?"),
        ("", ""),
        ("canary", ""),
    ],
)
def test_a_size_is_one_of_the_ten(mode: str, size: str, hint: str, refused: Refused) -> None:
    error = refused(mode, "update_contact_account", 4711, name="Acme", company_size=size)
    assert error.errors == [("company_size", f"must be one of {', '.join(CompanySize)}{hint}")]
    assert "canary" not in str(error)


@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_never_has_the_value(mode: str, refused: Refused) -> None:
    values: list[Any] = ["canary-7001\udc80", b"canary-7001", 7001.5, ["canary-7001"], {"canary": 7001}]
    for value in values:
        error = refused(mode, "update_contact_account", value, **dict.fromkeys(FIELDS, value))
        assert len(error.errors) == 17
        for text in (str(error), repr(error), repr(error.args), repr(error.errors)):
            assert "canary" not in text
            assert "7001" not in text


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines", r"two\nlines"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("x" * 100_000, "x" * 100 + "…"),
        ("", '""'),
        (" \n", r'" \n"'),
    ],
)
def test_a_name_that_is_no_name_keeps_the_message_one_short_line(
    mode: str, name: str, shown: str, refused: Refused
) -> None:
    error = refused(mode, "update_contact_account", 4711, **{"name": "Acme", name: "x"})
    assert len(str(error)) < 300
    assert f"request: {shown} is not a field" in str(error)


@pytest.mark.parametrize("mode", MODES)
def test_a_name_with_a_lone_surrogate_is_refused(mode: str, refused: Refused) -> None:
    error = refused(mode, "update_contact_account", 4711, **{"name": "Acme", "city\ud800": "x"})
    assert error.errors == [("fields", "must have names that are strings")]


@pytest.mark.parametrize("mode", MODES)
def test_what_the_page_does_not_rule_out_is_sent(mode: str, client: ReplyClient, reply_sandbox: Sandbox) -> None:
    odd = {
        "linked_in_url": "not an address",
        "email": "nobody",
        "phone": "☎",
        "time_zone_id": "Mars/Olympus",
        "country": " ",
        "description": "x" * 200_000,
        "logo_url": "nan",
        "city": np.str_("Oslo"),
    }
    account = call(client, "update_contact_account", mode, 4711, name="Acme", **odd)
    wires = {name: wire for wire, name in NAMES.items()}
    assert reply_sandbox.requests[-1].body == {"name": "Acme"} | {wires[name]: value for name, value in odd.items()}
    assert account.description == odd["description"]


def test_a_field_error_is_a_pair_with_names() -> None:
    fault = FieldError("city", "must be a string")
    assert (fault.field, fault.message) == tuple(fault) == ("city", "must be a string")
    assert str(fault) == "city: must be a string"
    assert str(FieldError("", "the body is empty")) == "the body is empty"
