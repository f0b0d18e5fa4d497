"""`patch_contact_account` reads, merges and writes: what is not named is kept, and what went otherwise is said."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import threading
import time
import warnings
from typing import Any

import pytest

from replyio import NotFoundError, ReplyWarning, UnexpectedResponseError, ValidationError
from replyio.sandbox import Deviations, Fault, Sandbox
from support import FIELDS, MODES, NAMES, TEXT_FIELDS, body, call, sent


def wire_form(sandbox: Sandbox, id: int = 4711) -> dict[str, Any]:
    return sandbox.accounts[id].to_dict(by_alias=True)


@pytest.mark.parametrize("mode", MODES)
def test_a_patch_keeps_everything_that_is_not_named(mode: str, reply_sandbox: Sandbox) -> None:
    before = reply_sandbox.accounts[4711]
    with reply_sandbox.client() as client:
        account = call(client, "patch_contact_account", mode, 4711, city="Bergen")
    assert sent(reply_sandbox) == ["GET", "PUT"]
    assert body(reply_sandbox) == {
        wire: "Bergen" if name == "city" else getattr(before, name) for wire, name in NAMES.items()
    }
    assert {name: getattr(account, name) for name in FIELDS} == before.update_fields() | {"city": "Bergen"}
    assert account.stage == before.stage


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "changes", [{}, {"city": "Oslo"}, {"linkedInUrl": "https://www.linkedin.com/company/acme", "owner_user_id": 42}]
)
def test_nothing_is_written_when_nothing_changes(mode: str, changes: dict[str, Any], reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        account = call(client, "patch_contact_account", mode, 4711, **changes)
    assert sent(reply_sandbox) == ["GET"]
    assert (account.id, account.city) == (4711, "Oslo")


RESPELLED = [("city", "City"), ("linkedInUrl", "linkedinUrl"), ("linkedInUrl", "linked_in_url"), ("phone", "PHONE")]


def respelled(sandbox: Sandbox, wire: str, name: str) -> dict[str, Any]:
    """The account, with a field in another spelling."""
    members = wire_form(sandbox)
    return {(name if member == wire else member): value for member, value in members.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("wire", "name"), RESPELLED)
def test_an_account_with_a_field_in_another_spelling_is_not_updated(
    mode: str, wire: str, name: str, reply_sandbox: Sandbox
) -> None:
    reply_sandbox.add_fault(Fault(method="GET", status=200, body=respelled(reply_sandbox, wire, name)))
    says = f"/{name} looks like the field {wire}, which is missing, and an update would clear it; .*newer version"
    with reply_sandbox.client() as client:
        with pytest.raises(UnexpectedResponseError, match=says) as caught:
            call(client, "patch_contact_account", mode, 4711, country="Denmark")
        assert not caught.value.may_have_been_applied
        rows = [{"id": 4711, NAMES[wire]: "x"}]
        assert client.patch_contact_accounts(rows, mode="fill", progress=False).counts == {"failed": 1}
    assert set(sent(reply_sandbox)) == {"GET"}


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_with_a_field_in_another_spelling_leaves_open_what_was_applied(
    mode: str, reply_sandbox: Sandbox
) -> None:
    body = respelled(reply_sandbox, "city", "City")
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=body, applied=True))
    with reply_sandbox.client() as client, pytest.raises(UnexpectedResponseError, match="/City looks like") as caught:
        call(client, "patch_contact_account", mode, 4711, country="Denmark")
    assert caught.value.may_have_been_applied
    assert (reply_sandbox.accounts[4711].country, reply_sandbox.accounts[4711].city) == ("Denmark", "Oslo")


@pytest.mark.parametrize("size", ["", "  "])
def test_a_blank_company_size_is_no_size(size: str, reply_sandbox: Sandbox) -> None:
    body = wire_form(reply_sandbox) | {"companySize": size}
    reply_sandbox.add_fault(Fault(method="GET", status=200, body=body, times=1))
    with reply_sandbox.client() as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client.patch_contact_account(4711, city="Bergen").company_size is None
    assert reply_sandbox.accounts[4711].city == "Bergen"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stored", [None, ""])
@pytest.mark.parametrize("given", [None, ""])
def test_none_and_empty_text_are_the_same_emptiness(
    mode: str, stored: str | None, given: str | None, reply_sandbox: Sandbox
) -> None:
    reply_sandbox.set_account({"id": 1, "name": "Acme", "city": stored})
    with reply_sandbox.client() as client:
        call(client, "patch_contact_account", mode, 1, city=given)
    assert sent(reply_sandbox) == ["GET"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("empty", [None, ""])
def test_a_field_is_cleared_by_none_and_by_empty_text(
    mode: str, field: str, empty: str | None, reply_sandbox: Sandbox
) -> None:
    wire = next(wire for wire, name in NAMES.items() if name == field)
    with reply_sandbox.client() as client:
        account = call(client, "patch_contact_account", mode, 4711, **{field: empty})
    assert body(reply_sandbox)[wire] == empty
    assert not getattr(account, field)
    assert len(body(reply_sandbox)) == 16


@pytest.mark.parametrize("mode", MODES)
def test_a_kept_value_that_the_contract_does_not_know_is_sent_back_as_it_was(mode: str, reply_sandbox: Sandbox) -> None:
    answer = wire_form(reply_sandbox) | {"companySize": "enormous"}
    reply_sandbox.add_fault(Fault(status=200, body=answer))
    with reply_sandbox.client() as client, pytest.warns(ReplyWarning):
        account = call(client, "patch_contact_account", mode, 4711, city="Bergen")
    assert body(reply_sandbox)["companySize"] == "enormous"
    assert account.company_size == "enormous"


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_deviates_is_a_warning_that_names_the_fields(mode: str, reply_sandbox: Sandbox) -> None:
    answer = wire_form(reply_sandbox) | {"city": "Oslo", "industry": None}
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=answer))
    with reply_sandbox.client() as client, pytest.warns(ReplyWarning) as caught:
        account = call(client, "patch_contact_account", mode, 4711, city="canary")
    (warning,) = caught
    assert str(warning.message).startswith(
        "patch of account 4711 was written, but the answer of the service differs from what was sent in industry, city"
    )
    assert "canary" not in str(warning.message)
    assert account.city == "Oslo"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("empty", [None, ""])
def test_a_service_that_stores_nothing_its_own_way_is_no_deviation(
    mode: str, empty: str | None, reply_sandbox: Sandbox
) -> None:
    answer = wire_form(reply_sandbox) | {"city": "" if empty is None else None}
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=answer))
    with reply_sandbox.client() as client:
        call(client, "patch_contact_account", mode, 4711, city=empty)
    assert sent(reply_sandbox) == ["GET", "PUT"]


UNKNOWN = {"parentId": 12, "esc\x1b[31m": 1, "kept": 2, "nothing": None}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [{"kept": 2}, {"parentId": None, "kept": 3, "nothing": 1}])
def test_a_member_that_an_update_cleared_since_this_version_does_not_know_it_is_a_warning_that_names_it(
    mode: str, after: dict[str, Any], reply_sandbox: Sandbox
) -> None:
    account = wire_form(reply_sandbox)
    reply_sandbox.add_fault(Fault(method="GET", status=200, body=account | UNKNOWN))
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=account | {"city": "Bergen"} | after))
    with reply_sandbox.client() as client, pytest.warns(ReplyWarning) as caught:
        call(client, "patch_contact_account", mode, 4711, city="Bergen")
    (warning,) = caught
    said = str(warning.message)
    assert said.startswith("patch of account 4711 cleared ")
    assert sorted(said.removeprefix("patch of account 4711 cleared ").partition(":")[0].split(", ")) == [
        "esc\\x1b[31m",
        "parentId",
    ]
    assert said.endswith("look for a newer version of replyio before the next patch")
    assert "12" not in said


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("after", [{"stage": None}, {}])
def test_a_stage_that_an_update_cleared_is_a_warning(mode: str, after: dict[str, Any], reply_sandbox: Sandbox) -> None:
    account = wire_form(reply_sandbox)
    account.pop("stage", None)
    reply_sandbox.add_fault(Fault(method="GET", status=200, body=account | {"stage": {"id": 3, "name": "Lead"}}))
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=account | {"city": "Bergen"} | after))
    with reply_sandbox.client() as client, pytest.warns(ReplyWarning, match="patch of account 4711 cleared stage: "):
        call(client, "patch_contact_account", mode, 4711, city="Bergen")


@pytest.mark.parametrize("mode", MODES)
def test_another_stage_after_an_update_is_a_warning_that_does_not_call_it_cleared(
    mode: str, reply_sandbox: Sandbox
) -> None:
    account = wire_form(reply_sandbox)
    stages = [{"stage": {"id": id, "name": "Lead"}} for id in (3, 9)]
    reply_sandbox.add_fault(Fault(method="GET", status=200, body=account | stages[0]))
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=account | {"city": "Bergen"} | stages[1]))
    with reply_sandbox.client() as client, pytest.warns(ReplyWarning) as caught:
        call(client, "patch_contact_account", mode, 4711, city="Bergen")
    (warning,) = caught
    assert str(warning.message) == (
        "account 4711 has another stage after its patch: the update reset it, or someone changed it meanwhile; look at "
        "the account before the next patch"
    )


@pytest.mark.parametrize(
    ("member", "value", "warned"),
    [("stage", {"id": 3, "name": "Lead"}, "cleared stage"), ("timeZoneId", "Europe/Oslo", "time_zone_id of account 1")],
)
def test_what_an_unanswered_attempt_cleared_is_a_warning_although_a_later_look_lacks_it(
    member: str, value: Any, warned: str
) -> None:
    lost = Fault(method="PUT", times=1, status=503, retry_after=2, applied=True)
    deviations = Deviations(update_clears=[member], stored="trimmed")
    accounts: list[Any] = [{"id": 1, "name": "Acme", member: value}]
    with Sandbox(accounts=accounts, faults=[lost], deviations=deviations) as sandbox, sandbox.client() as client:
        with pytest.warns(ReplyWarning, match=warned):
            client.patch_contact_account(1, city=" Oslo ")
        # The last read shows that the service did not keep the stage.
        last = ["GET"] if member == "stage" else []
        assert [request.method for request in sandbox.requests] == ["GET", "PUT", "GET", "PUT", *last]


@pytest.mark.parametrize("mode", MODES)
def test_a_stage_that_only_the_answer_to_an_update_lacks_is_no_warning(mode: str) -> None:
    accounts: list[Any] = [{"id": 1, "name": "Acme", "stage": {"id": 3, "name": "Lead"}}]
    body = {"id": 1, "name": "Acme", "ownerUserId": 42, "city": "Oslo", "stage": None}
    answer = Fault(method="PUT", status=200, body=body, applied=True)
    with Sandbox(accounts=accounts, faults=[answer]) as sandbox, sandbox.client() as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            account = call(client, "patch_contact_account", mode, 1, city="Oslo")
        assert account.stage.id == 3
        assert [request.method for request in sandbox.requests] == ["GET", "PUT", "GET"]


def test_what_someone_changed_between_two_attempts_is_not_called_a_difference_from_what_was_sent() -> None:
    lost = Fault(method="PUT", times=1, status=503, retry_after=2)
    with Sandbox(accounts=[{"id": 1, "name": "Acme", "phone": "1"}], faults=[lost]) as sandbox:
        with sandbox.client() as client:
            timer = threading.Timer(0.5, sandbox.set_account, [{"id": 1, "name": "Acme", "phone": "2"}])
            timer.start()
            with pytest.warns(ReplyWarning, match="phone of account 1 changed during the patch") as caught:
                assert client.patch_contact_account(1, city="Oslo").phone == "2"
            timer.join()
        assert "differs from what was sent" not in str(caught[0].message)


def test_a_company_size_of_empty_is_no_size() -> None:
    accounts: list[Any] = [{"id": id, "name": "Acme", "company_size": size} for id, size in ((1, "Empty"), (2, None))]
    with Sandbox(accounts=accounts) as sandbox, sandbox.client() as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        client.patch_contact_account(1, company_size=None)
        client.patch_contact_account(2, company_size="Empty")
        assert [request.method for request in sandbox.requests] == ["GET", "GET"]
        assert client.patch_contact_account(1, company_size="2-10").company_size == "2-10"
        assert client.patch_contact_account(1, company_size="Empty").company_size == "Empty"


@pytest.mark.parametrize("mode", MODES)
def test_a_member_that_this_version_does_not_know_and_that_is_kept_is_no_warning(
    mode: str, reply_sandbox: Sandbox
) -> None:
    account = wire_form(reply_sandbox)
    reply_sandbox.add_fault(Fault(method="GET", status=200, body=account | UNKNOWN))
    reply_sandbox.add_fault(Fault(method="PUT", status=200, body=account | {"city": "Bergen"} | UNKNOWN))
    with reply_sandbox.client() as client, warnings.catch_warnings():
        warnings.simplefilter("error")
        call(client, "patch_contact_account", mode, 4711, city="Bergen")


def deviate(sandbox: Sandbox) -> None:
    sandbox.add_fault(Fault(method="PUT", status=200, body=wire_form(sandbox)))


def test_a_warning_points_at_the_line_of_the_caller(reply_sandbox: Sandbox) -> None:
    deviate(reply_sandbox)
    with reply_sandbox.client() as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        client.patch_contact_account(4711, city="Bergen")
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


def test_a_warning_points_at_the_line_that_awaits(reply_sandbox: Sandbox) -> None:
    deviate(reply_sandbox)

    async def inner() -> int:
        line = sys._getframe().f_lineno + 1
        await client.patch_contact_account_async(4711, city="Bergen")
        return line

    async def main() -> int:
        await asyncio.sleep(0)
        return await inner()

    with reply_sandbox.client() as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = asyncio.run(main())
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


@pytest.mark.parametrize("mode", MODES)
def test_a_warning_made_an_error_is_raised_after_the_account_was_written(mode: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(method="PUT", status=200, applied=True, body=wire_form(reply_sandbox)))
    with reply_sandbox.client() as client:
        with pytest.raises(ReplyWarning):
            call(client, "patch_contact_account", mode, 4711, city="Bergen")
        assert reply_sandbox.accounts[4711].city == "Bergen"
        assert call(client, "get_contact_account", mode, 4711).city == "Bergen"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_answer_about_another_account_is_an_error(mode: str, method: str, reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(method=method, status=200, body=wire_form(reply_sandbox, 4712)))
    with reply_sandbox.client() as client, pytest.raises(UnexpectedResponseError, match="patch of account 4711"):
        call(client, "patch_contact_account", mode, 4711, city="Bergen")
    assert sent(reply_sandbox)[-1] == method


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_written_to_an_account_that_cannot_be_read(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, pytest.raises(NotFoundError, match="patch of account 1 failed"):
        call(client, "patch_contact_account", mode, 1, city="Bergen")
    assert sent(reply_sandbox) == ["GET"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("changes", [{"name": None}, {"name": " "}, {"owner_user_id": None}, {"owner_user_id": 0}])
def test_what_cannot_be_cleared_is_refused(mode: str, changes: dict[str, Any], reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client, pytest.raises(ValidationError) as caught:
        call(client, "patch_contact_account", mode, 4711, **changes)
    assert [error.field for error in caught.value.errors] == list(changes)
    assert reply_sandbox.requests == []


def test_a_bulk_update_that_waited_for_another_call_looks_again(reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(request=1, delay=2.5))
    with reply_sandbox.client() as client:
        # It changes nothing, and keeps the account's turn while its answer is on its way.
        patching = threading.Thread(target=client.patch_contact_account, args=(4711,))
        patching.start()
        while len(reply_sandbox.requests) < 1:
            time.sleep(0.01)

        def edit() -> None:
            while len(reply_sandbox.requests) < 3:  # its own look, the plan, and the look of the run
                time.sleep(0.01)
            time.sleep(0.5)
            account = reply_sandbox.accounts[4711]
            reply_sandbox.set_account(dataclasses.replace(account, phone="+47 99"))

        colleague = threading.Thread(target=edit)
        colleague.start()
        result = client.patch_contact_accounts([{"id": 4711, "city": "Bergen"}], progress=False)
        patching.join()
        colleague.join()
    assert result.counts["changed"] == 1
    account = reply_sandbox.accounts[4711]
    assert (account.city, account.phone) == ("Bergen", "+47 99")
