"""What becomes of fields that no row names when the service stores them with other values."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from replyio import PlanError, ReplyError
from replyio.sandbox import Deviations, Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from replyio import Plan, ReplyClient

ROWS = [{"id": id, "city": "Bergen"} for id in (1, 2, 3)]
ACCOUNTS = [{"id": id, "name": f"Company {id}", "city": "Oslo", "phone": "0150", "ownerUserId": 42} for id in (1, 2, 3)]


@pytest.mark.parametrize("phone", [None, "+47 150"])
def test_a_revert_restores_them(phone: str | None, tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        answer = {**ACCOUNTS[0], "city": "Bergen", "phone": phone}
        service.add_fault(Fault(id=1, method="PUT", status=200, body=answer, times=1))
        if phone is None:
            with pytest.raises(
                PlanError, match=r"account 1 \(row 0\) emptied phone: the service did not keep what replyio sent"
            ):
                plan.apply(progress=False)
            assert plan.counts == {"changed": 1, "pending": 2}
        else:
            plan.apply(progress=False)
            assert plan.counts == {"changed": 3}
        service.set_account(answer)  # as the answer says
        assert plan.rows[0]["stored_otherwise"]
        assert {change["field"] for change in plan.changes} == {"city"}
        plan.revert(progress=False)
        account = service.accounts[1]
        assert (account.city, account.phone) == ("Oslo", "0150")


def test_a_revert_leaves_what_someone_wrote_since(tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        answer = {**ACCOUNTS[0], "city": "Bergen", "phone": "+47 150"}
        service.add_fault(Fault(id=1, method="PUT", status=200, body=answer, times=1))
        plan.apply(progress=False)
        service.set_account({**answer, "phone": "0160"})
        result = plan.revert(progress=False)
        assert result.counts == {"changed": 3}
        (failure,) = result.failures
        assert (failure["row"], failure["stored_otherwise"], result.stored_otherwise) == (0, True, 1)
        assert failure["error"].endswith("phone was not restored, because it has another value now")
        with pytest.raises(ReplyError, match="1 row whose account differs from the plan; the first is row 0: written"):
            result.raise_for_failures()
        account = service.accounts[1]
        assert (account.city, account.phone) == ("Oslo", "0160")


def without_an_answer(client: ReplyClient, service: Sandbox, path: Path) -> Plan:
    """A plan of which the first row was written, and no answer said so."""
    plan = client.plan_contact_account_updates(ROWS, save_as=path, progress=False)
    service.add_fault(Fault(id=1, method="PUT", status=504, applied=True, times=None))
    assert plan.apply(progress=False).counts == {"unknown": 1, "changed": 2}
    service.clear_faults()
    return plan


def values_kept(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT field, before FROM edits WHERE NOT planned"))


def test_what_an_update_without_an_answer_emptied_is_restored(tmp_path: Path) -> None:
    with (
        Sandbox(ACCOUNTS, deviations=Deviations(update_clears=["phone"])) as service,
        service.client(quota=None) as client,
    ):
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        service.add_fault(Fault(id=1, method="PUT", status=504, applied=True, times=1))
        with pytest.raises(PlanError, match=r"account 1 \(row 0\) emptied phone"):
            plan.apply(progress=False)
        (failure,) = plan.failures
        assert (failure["status"], failure["stored_otherwise"]) == ("changed", True)
        assert "now has another value in phone" in failure["error"]
        (failure,) = plan.revert(progress=False).failures
        assert "differs from what was sent in phone" in failure["error"], "this service keeps no phone"
        assert service.requests[-1].body["phone"] == "0150"


@pytest.mark.parametrize("phone", [None, "0160"])
def test_a_field_that_is_different_after_a_crash_is_told_and_left(tmp_path: Path, phone: str | None) -> None:
    """Someone may have emptied it since, so a revert does not restore it, but it tells."""
    with Sandbox(ACCOUNTS) as service, service.client(quota=None, max_attempts=1) as client:
        plan = without_an_answer(client, service, tmp_path / "a.replyplan")
        service.set_account({**ACCOUNTS[0], "city": "Bergen", "phone": phone})
        result = plan.revert(progress=False)
        assert result.counts == {"changed": 3}
        (failure,) = result.failures
        assert (failure["id"], failure["stored_otherwise"]) == (1, True)
        assert "now has another value in phone" in failure["error"]
        account = service.accounts[1]
        assert (account.city, account.phone) == ("Oslo", phone)


@pytest.mark.parametrize("phone", [None, "0160"])
def test_what_someone_wrote_between_two_runs_is_told_and_left_by_a_revert(tmp_path: Path, phone: str | None) -> None:
    with Sandbox(ACCOUNTS) as service, service.client(quota=None, max_attempts=1) as client:
        plan = without_an_answer(client, service, tmp_path / "a.replyplan")
        service.set_account({**ACCOUNTS[0], "city": "Bergen", "phone": phone})
        assert plan.apply(progress=False).counts == {"changed": 3}
        (failure,) = plan.failures
        assert failure["stored_otherwise"]
        assert "now has another value in phone" in failure["error"]
        assert values_kept(tmp_path / "a.replyplan") == {"phone": "0150"}
        assert plan.revert(progress=False).counts == {"changed": 3}
        account = service.accounts[1]
        assert (account.city, account.phone) == ("Oslo", phone)


def test_an_update_that_is_repeated_and_alters_nothing_leaves_no_trace(tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service, service.client(quota=None, max_attempts=1) as client:
        plan = without_an_answer(client, service, tmp_path / "a.replyplan")
        assert values_kept(tmp_path / "a.replyplan")["phone"] == "0150"
        assert [change["field"] for change in plan.changes] == ["city"] * 3
        assert plan.apply(progress=False).counts == {"changed": 3}
        assert (list(plan.failures), values_kept(tmp_path / "a.replyplan")) == ([], {})
        assert plan.revert(progress=False).counts == {"changed": 3}
        assert service.accounts[1].phone == "0150"


def test_a_service_that_empties_a_field_loses_one_value_even_if_no_answer_arrives(tmp_path: Path) -> None:
    with (
        Sandbox(ACCOUNTS, deviations=Deviations(update_clears=["phone"])) as service,
        service.client(quota=None) as client,
    ):
        for id in (1, 2, 3):
            service.add_fault(Fault(id=id, method="PUT", status=504, applied=True, times=1))
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        with pytest.raises(PlanError, match="emptied phone"):
            plan.apply(progress=False)
        assert [account.phone for account in service.accounts.values()].count(None) == 1


def test_a_service_that_sets_another_owner_stops_the_run_at_the_first_account(tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS, deviations=Deviations(update_owner=7)) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        with pytest.raises(PlanError, match=r"has another owner_user_id after its update"):
            plan.apply(progress=False)
        assert [account.owner_user_id for account in service.accounts.values()].count(7) == 1
        assert plan.apply(on_unknown_member="clear", progress=False).counts == {"changed": 3}


def test_a_value_that_comes_back_empty_stops_the_run_if_it_replaced_another(tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        service.add_fault(Fault(id=1, method="PUT", status=200, body={**ACCOUNTS[0], "city": None}, times=1))
        with pytest.raises(PlanError, match=r"account 1 \(row 0\) emptied city: the service did not keep"):
            plan.apply(progress=False)
        assert plan.counts == {"changed": 1, "pending": 2}
        assert plan.apply(progress=False).counts == {"changed": 3}


def test_a_stage_that_an_update_without_an_answer_cleared_is_told_in_its_row(tmp_path: Path) -> None:
    staged = [account | {"stage": {"id": 2, "name": "Won"}} for account in ACCOUNTS]
    with (
        Sandbox(staged, deviations=Deviations(update_clears=["stage"])) as service,
        service.client(quota=None) as client,
    ):
        service.add_fault(Fault(method="PUT", status=504, applied=True, times=1))
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        with pytest.raises(PlanError, match=r"account 1 \(row 0\) cleared stage"):
            plan.apply(progress=False)
        assert plan.apply(rows=[0], progress=False).counts == {"changed": 1, "pending": 2}
        (failure,) = plan.failures
        assert (failure["row"], failure["stored_otherwise"]) == (0, True)
        assert "the update cleared stage" in failure["error"]
        with closing(sqlite3.connect(tmp_path / "a.replyplan")) as connection:
            ((cleared,),) = connection.execute("SELECT value FROM state WHERE key = 'cleared'")
        assert "Won" in cleared
