"""Members that an update cannot carry: a run stops before it clears a second one, whatever the list shows."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from replyio import PlanError
from replyio.sandbox import Deviations, Fault, Sandbox
from support import MODES

from .jobs import companies, do, id_of, plan, puts

if TYPE_CHECKING:
    from replyio import ApplyResult, Plan, ReplyClient

ROWS = [{"id": id, "city": "Bergen"} for id in range(1, 31)]
MEMBER = "annualRevenue"


def those_without(sandbox: Sandbox) -> list[int]:
    """The accounts that have lost the member."""
    return [id for id, account in sandbox.accounts.items() if account.extra.get(MEMBER) is None]


def enter_again(sandbox: Sandbox, id: int) -> None:
    """Does what a newer program can: it sends the member."""
    body = sandbox.accounts[id].to_dict(by_alias=True)
    writable = {"name": body["name"], "city": body["city"], MEMBER: "3 million"}
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    headers = {"X-API-Key": "key", "Content-Type": "application/json"}
    connection.request("PUT", f"/v3/contact-accounts/{id}", json.dumps(writable), headers)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("lacks", [(), (MEMBER,)])
def test_every_further_run_stops_before_it_clears_another_member(lacks: tuple[str, ...], tmp_path: Path) -> None:
    deviations = Deviations(unknown_members={MEMBER: "12 million"}, list_lacks=lacks)
    with Sandbox(accounts=companies(30), deviations=deviations) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS, save_as=tmp_path / "a.replyplan")
        with pytest.raises(PlanError, match=rf"the update of account \d+ \(row \d+\) cleared {MEMBER}: "):
            made.apply(progress=False)
        assert len(puts(service)) == len(those_without(service)) == 1
        for again in (made, client.open_plan(tmp_path / "a.replyplan")):
            with pytest.raises(PlanError, match=f"would clear {MEMBER}, as an earlier update of this plan did"):
                again.apply(progress=False)
        assert len(puts(service)) == len(those_without(service)) == 1
        assert made.revert(progress=False).counts == {"changed": 1}, "the account has the member no more"
        assert made.apply(rows=range(30), on_unknown_member="clear", progress=False).counts["changed"] == 30
        assert len(those_without(service)) == 30


def test_a_revert_spares_the_members_that_its_plan_has_cleared(tmp_path: Path) -> None:
    deviations = Deviations(unknown_members={MEMBER: "12 million"})
    with Sandbox(accounts=companies(30), deviations=deviations) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS, save_as=tmp_path / "a.replyplan")
        assert made.apply(on_unknown_member="clear", progress=False).counts == {"changed": 30}
        enter_again(service, 7)
        with pytest.raises(PlanError, match=rf"account 7 \(row 6\), because it would clear {MEMBER}"):
            made.revert(progress=False)
        assert (service.accounts[7].city, service.accounts[7].extra[MEMBER]) == ("Bergen", "3 million")
        assert made.revert(on_unknown_member="clear", progress=False).counts == {"changed": 30}


def call_for_the_others(error: pytest.ExceptionInfo[PlanError]) -> str:
    (call,) = re.findall(r"; (client\.open_plan\(\S*\)\.apply\(.*\)) writes ", str(error.value))
    return str(call)


def follow(call: str, client: ReplyClient) -> ApplyResult:
    result: ApplyResult = eval(call.replace(".apply(", ".apply(progress=False, "), {"client": client})  # noqa: S307
    return result


@pytest.mark.parametrize("mode", MODES)
def test_accounts_that_would_lose_a_member_do_not_keep_a_revert_from_the_others(mode: str, tmp_path: Path) -> None:
    deviations = Deviations(unknown_members={MEMBER: "12 million"})
    with Sandbox(accounts=companies(30), deviations=deviations) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS, save_as=tmp_path / "a.replyplan")
        assert made.apply(on_unknown_member="clear", progress=False).counts == {"changed": 30}
        enter_again(service, 1)
        enter_again(service, 7)
        with pytest.raises(PlanError, match=rf"account 1 \(row 0\), because it would clear {MEMBER}") as caught:
            do(made, "revert", mode)
        first = call_for_the_others(caught)
        assert first.endswith("a.revert.replyplan').apply(rows=range(1, 30))")
        with pytest.raises(PlanError, match=rf"account 7 \(row 6\), because it would clear {MEMBER}") as caught:
            follow(first, client)
        second = call_for_the_others(caught)
        assert second.endswith("a.revert.replyplan').apply(rows=[*range(1, 6), *range(7, 30)])")
        assert follow(second, client).counts == {"changed": 28, "pending": 2}
        assert [account.id for account in service.accounts.values() if account.city == "Bergen"] == [1, 7]
        assert [service.accounts[id].extra[MEMBER] for id in (1, 7)] == ["3 million"] * 2


def test_a_run_of_a_part_that_an_account_stops_names_rows_of_that_part(tmp_path: Path) -> None:
    deviations = Deviations(unknown_members={MEMBER: "12 million"})
    with Sandbox(accounts=companies(30), deviations=deviations) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS, save_as=tmp_path / "a.replyplan")
        assert made.apply(rows=[0], on_unknown_member="clear", progress=False).counts == {"changed": 1, "pending": 29}
        others = plan(client, "sync", [{"id": id, "description": "x"} for id in range(4, 31)])
        others.apply(on_unknown_member="clear", progress=False)

        def stopped(**options: object) -> pytest.ExceptionInfo[PlanError]:
            with pytest.raises(PlanError, match=r"account 3 \(row 2\), because it would clear") as caught:
                made.apply(progress=False, **options)  # type: ignore[arg-type]
            return caught

        call = call_for_the_others(stopped(rows=range(2, 20), limit=4, max_changes=4, on_conflict="overwrite"))
        assert call.partition(".apply")[2] == '(on_conflict="overwrite", max_changes=4, rows=range(3, 7))'
        assert "without this account" not in str(stopped(rows=[2]).value)
        # A call shows at most ten ranges. The next run shows the others.
        told = stopped(rows=range(2, 29, 2))
        assert "writes the first 10 of the 13 other rows without this account" in str(told.value)
        assert follow(call_for_the_others(told), client).counts["changed"] == 11


def test_an_account_that_the_list_contradicts_does_not_keep_a_run_from_the_others(tmp_path: Path) -> None:
    with Sandbox(accounts=companies(12)) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS[:12], save_as=tmp_path / "a.replyplan")
        body = {"id": 1, "name": "Company 1", "ownerUserId": 42, "city": "Oslo"}
        service.add_fault(Fault(id=1, method="GET", status=200, body=body))
        for _ in range(2):
            with pytest.raises(PlanError, match=r"the list shows .* of account 1 \(row 0\)") as caught:
                made.apply(progress=False)
        assert follow(call_for_the_others(caught), client).counts == {"changed": 11, "pending": 1}
        assert service.accounts[1].industry == "Ships"


def test_an_update_without_an_answer_locks_neither_the_plan_nor_its_revert(tmp_path: Path) -> None:
    accounts = [one | {"stage": {"id": 1 + one["id"] % 3, "name": "Lead"}} for one in companies(30)]
    with Sandbox(accounts=accounts) as service, service.client(quota=None) as client:
        service.add_fault(Fault(method="PUT", reset=True, applied=True))
        made = plan(client, "sync", ROWS, save_as=tmp_path / "a.replyplan")
        with pytest.raises(PlanError, match=r"row 1 may have cleared stage.* and include row 1: the run then reads"):
            made.apply(progress=False)
        service.clear_faults()
        with pytest.raises(PlanError, match="row 1 may have cleared stage"):
            made.apply(rows=range(2, 30), progress=False)
        assert {id_of(request) for request in puts(service)} == {2}, "no other account is written"
        assert made.revert(progress=False).counts == {"changed": 1}
        assert service.accounts[2].city == "Oslo"
        assert made.apply(rows=range(30), progress=False).counts["changed"] == 30
        assert made.revert(progress=False).counts == {"changed": 30}


def test_a_stage_that_an_update_without_an_answer_cleared_stops_one_run_only(tmp_path: Path) -> None:
    accounts = [one | ({"stage": {"id": 3, "name": "Lead"}} if one["id"] <= 15 else {}) for one in companies(30)]
    with Sandbox(accounts=accounts, deviations=Deviations(update_clears=["stage"])) as service:
        service.add_fault(Fault(id=2, method="PUT", reset=True, applied=True))
        with service.client(quota=None) as client:
            made = plan(client, "sync", ROWS, save_as=tmp_path / "a.replyplan")
            with pytest.raises(PlanError, match=r"the update of account 2 \(row 1\) cleared stage"):
                made.apply(progress=False)
            service.clear_faults()
            written = [1, *range(15, 30)]
            assert made.apply(rows=written, progress=False).counts["changed"] == 16
            with pytest.raises(PlanError, match="would clear stage, as an earlier update of this plan did"):
                made.apply(progress=False)
            assert made.revert(progress=False).counts == {"changed": 16}
    assert sum(one.stage is None for one in service.accounts.values()) == 16


CLEARED = "the update cleared score, which an update cannot include"


def with_members(count: int) -> Sandbox:
    """A service with two members that this version does not know: the first account has one, the second the other."""
    members: dict[int, dict[str, Any]] = {1: {"score": 5, "tier": None}, 2: {"score": None, "tier": 7}}
    sandbox = Sandbox(accounts=companies(count), deviations=Deviations(unknown_members={"score": 5, "tier": 7}))
    for id, account in sandbox.accounts.items():
        sandbox.set_account(dataclasses.replace(account, extra=members.get(id, {"score": None, "tier": None})))
    return sandbox


def lose(service: Sandbox, made: Plan, id: int = 1) -> None:
    """Applies a plan whose update of an account clears a member and gets no answer."""
    service.add_fault(Fault(id=id, method="PUT", reset=True, applied=True, times=1))
    with pytest.raises(PlanError, match=r"the update of account 1 \(row 0\) cleared score"):
        made.apply(rows=[0], progress=False)
    service.clear_faults()
    assert (made.rows[0]["status"], made.rows[0]["error"]) == ("unknown", f"row 0: {CLEARED}")


def test_what_an_update_without_an_answer_cleared_stays_on_its_row_whatever_is_written_between(tmp_path: Path) -> None:
    with with_members(3) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS[:3], save_as=tmp_path / "a.replyplan")
        lose(service, made)
        with pytest.raises(PlanError, match=r"the update of account 2 \(row 1\) cleared tier"):
            made.apply(rows=[1], progress=False)
        made = client.open_plan(made.path)
        for _ in range(2):
            made.apply(limit=1, progress=False)
        assert made.counts == {"changed": 3}
        assert [row["stored_otherwise"] for row in made.rows] == [True, True, False]
        assert made.failures[0]["error"] == f"row 0: written, but {CLEARED}"


@pytest.mark.parametrize("is_found_by_the_revert", [False, True])
def test_the_revert_names_what_an_update_without_an_answer_cleared(
    is_found_by_the_revert: bool, tmp_path: Path
) -> None:
    with with_members(1) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS[:1], save_as=tmp_path / "a.replyplan")
        if is_found_by_the_revert:
            service.add_fault(Fault(method="PUT", reset=True, applied=True, times=1))
            service.add_fault(Fault(method="GET", delay=0.001, times=1))
            service.add_fault(Fault(method="GET", status=403))
            assert made.apply(progress=False).counts == {"unknown": 1}
            service.clear_faults()
            with pytest.raises(PlanError, match=r"the update of account 1 \(row 0\) cleared score"):
                made.revert(progress=False)
        else:
            lose(service, made)
        reverted = made.revert(progress=False)
        assert (reverted.counts, reverted.stored_otherwise) == ({"changed": 1}, 1)
        assert reverted.rows[0]["error"] == f"row 0: written, but {CLEARED}"


def test_every_outcome_of_a_row_names_what_its_update_without_an_answer_cleared(tmp_path: Path) -> None:
    with with_members(1) as service, service.client(quota=None) as client:
        made = plan(client, "sync", ROWS[:1], save_as=tmp_path / "a.replyplan")
        lose(service, made)
        client.patch_contact_account(1, city="Rome")
        assert made.apply(progress=False).counts == {"unknown": 1}
        error = str(made.rows[0]["error"])
        assert error.startswith(f"row 0: {CLEARED}; the value of city is neither")
        # The command replaces this hint, which it expects at the end.
        assert error.endswith('use apply(rows=[0], on_conflict="overwrite")')
        reverted = made.revert(progress=False)
        assert reverted.counts == {"conflict": 1}
        assert str(reverted.rows[0]["error"]).startswith(f"row 0: {CLEARED}; city changed after the update")
        client.patch_contact_account(1, city="Oslo")
        reverted = reverted.plan.apply(on_conflict="overwrite", progress=False)
        assert (reverted.counts, reverted.stored_otherwise) == ({"unchanged": 1}, 1)
        assert [row["error"] for row in reverted.failures] == [f"row 0: {CLEARED}"]


def lose_unread(service: Sandbox, made: Plan) -> None:
    """Applies a plan whose update of the first account clears a member and gets no answer, and cannot be read then."""
    service.add_fault(Fault(id=1, method="PUT", reset=True, applied=True, times=1))
    read = len(service.requests) + len(made.rows)
    for number in range(read + 2, read + 6):
        service.add_fault(Fault(id=1, method="GET", status=403, request=number))
    with contextlib.suppress(PlanError):
        made.apply(progress=False)
    service.clear_faults()
    assert (made.rows[0]["status"], service.accounts[1].extra["score"]) == ("unknown", None)
    assert CLEARED not in str(made.rows[0]["error"])


def test_a_doubt_about_a_member_outlives_the_updates_of_other_rows(tmp_path: Path) -> None:
    with with_members(2) as service, service.client(quota=None, max_attempts=1) as client:
        made = plan(client, "sync", ROWS[:2], save_as=tmp_path / "a.replyplan")
        lose_unread(service, made)
        service.add_fault(Fault(id=1, method="GET", status=403))
        with pytest.raises(PlanError, match=r"the update of account 2 \(row 1\) cleared tier"):
            made.apply(progress=False)
        service.clear_faults()
        with pytest.raises(PlanError, match=r"the update of account 1 \(row 0\) cleared score"):
            made.apply(progress=False)
        result = made.apply(progress=False)
        assert (result.counts, result.stored_otherwise) == ({"changed": 2}, 2)
        assert result.failures[0]["error"] == f"row 0: written, but {CLEARED}"


def test_a_run_that_may_clear_members_names_what_an_earlier_update_without_an_answer_cleared(tmp_path: Path) -> None:
    with with_members(1) as service, service.client(quota=None, max_attempts=1) as client:
        made = plan(client, "sync", ROWS[:1], save_as=tmp_path / "a.replyplan")
        lose_unread(service, made)
        result = made.apply(on_unknown_member="clear", progress=False)
        assert (result.counts, result.stored_otherwise) == ({"changed": 1}, 1)
        assert result.failures[0]["error"] == f"row 0: written, but {CLEARED}"


def altered_without_an_answer(service: Sandbox, client: ReplyClient, path: Path, *, city: str) -> ApplyResult:
    """Reverts an update without an answer, after someone else wrote a city and a phone number."""
    client.patch_contact_account(1, phone="123")
    made = plan(client, "sync", ROWS[:1], save_as=path)
    service.add_fault(Fault(method="PUT", reset=True, applied=True))
    assert made.apply(progress=False).counts == {"unknown": 1}
    service.clear_faults()
    client.patch_contact_account(1, city=city, phone="999")
    return made.revert(progress=False)


def test_a_revert_without_an_update_names_what_an_update_without_an_answer_may_have_altered(tmp_path: Path) -> None:
    with Sandbox(accounts=companies(1)) as service, service.client(quota=None, max_attempts=1) as client:
        reverted = altered_without_an_answer(service, client, tmp_path / "a.replyplan", city="Oslo")
        assert (reverted.counts, reverted.stored_otherwise) == ({"unchanged": 1}, 1)
        assert str(reverted.failures[0]["error"]).startswith("row 0: the account now has another value in phone: ")


def test_a_revert_in_conflict_does_not_forget_what_an_update_without_an_answer_may_have_altered(
    tmp_path: Path,
) -> None:
    with Sandbox(accounts=companies(1)) as service, service.client(quota=None, max_attempts=1) as client:
        reverted = altered_without_an_answer(service, client, tmp_path / "a.replyplan", city="Rome")
        assert reverted.counts == {"conflict": 1}
        written = reverted.plan.apply(on_conflict="overwrite", progress=False)
        assert (written.counts, written.stored_otherwise) == ({"changed": 1}, 1)
        assert "another value in phone" in str(written.rows[0]["error"])
