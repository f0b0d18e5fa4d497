"""A plan after its revert: what a run says, and which revert is resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from replyio import AuthenticationError, PlanError
from replyio.sandbox import Fault, Sandbox
from support import MODES

from .jobs import companies, do, fresh, moves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(6)) as sandbox:
        yield sandbox


def test_a_run_of_a_plan_that_was_reverted_says_why_it_writes_nothing(
    service: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "replyio")
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=path, progress=False)
        plan.apply(progress=False)
        plan.apply(progress=False)
        assert caplog.messages == []
        revert = plan.revert(progress=False)
        resumed = client.plan_contact_account_updates(
            moves(range(1, 7)), save_as=path, if_exists="resume", progress=False
        )
        assert resumed.apply(progress=False).requests == 0
        (said,) = caplog.messages
        assert said.startswith(f"nothing was sent: {path} was reverted by {tmp_path / 'a.revert.replyplan'}, or is")
        # The accounts have the values of the plan again.
        revert.revert(progress=False)
        assert resumed.apply(progress=False).requests == 0
        assert len(caplog.messages) == 1


def test_a_revert_of_the_state_before_a_backup_was_restored_is_not_resumed(service: Sandbox, tmp_path: Path) -> None:
    path, backup = tmp_path / "a.replyplan", tmp_path / "backup"
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=path, progress=False)
        shutil.copy(path, backup)
        plan.apply(rows=[0, 1, 2], progress=False)
        service.add_fault(Fault(method="PUT", status=401))
        with pytest.raises(AuthenticationError):
            plan.revert(progress=False)
        service.clear_faults()
        shutil.copy(backup, path)
        plan = client.open_plan(path)
        plan.apply(rows=[3, 4, 5], progress=False)
        assert plan.revert(progress=False).path.endswith("a.revert2.replyplan")
        assert {service.accounts[id].city for id in (4, 5, 6)} == {"Oslo"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action", ["apply", "retry_failed"])
def test_a_run_does_not_write_again_what_a_revert_has_restored(
    mode: str, action: str, service: Sandbox, tmp_path: Path
) -> None:
    """A scheduler starts a job again that someone has stopped and reverted."""
    path = tmp_path / "a.replyplan"
    service.add_fault(Fault(method="PUT", close=True, applied=True, id=1))
    service.add_fault(Fault(method="PUT", status=400, id=2))
    with service.client(quota=None, max_attempts=1) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=path, progress=False)
        assert plan.apply(limit=4, progress=False).counts == {"unknown": 1, "failed": 1, "changed": 2, "pending": 2}
        service.clear_faults()
        revert = do(plan, "revert", mode)
        assert revert.counts == {"changed": 3}
        sent = len(service.requests)
        for _ in range(2):
            with pytest.raises(PlanError, match=r"reverted by .*a\.revert\.replyplan, or is being reverted\. Nothing"):
                do(client.open_plan(path), action, mode)
            # A second revert finds every account restored. The first one still counts.
            do(plan, "revert", mode)
        assert {account.city for account in service.accounts.values()} == {"Oslo"}
        assert not [request for request in service.requests[sent:] if request.method == "PUT"]
        assert do(plan, "apply", mode, rows=[4]).counts["changed"] == 3
        # The revert of the revert writes the values of the plan again, so the plan may be resumed.
        do(revert, "revert", mode)
        do(revert, "revert", mode)
        assert do(plan, action, mode).counts["pending"] == 0
    assert [service.accounts[id].city for id in (1, 3, 4, 5, 6)] == [f"Bergen {id}" for id in (1, 3, 4, 5, 6)]


def test_a_revert_is_beside_its_plan_whatever_the_path_is(
    service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(there)
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves([1]), save_as="a.replyplan", progress=False)
        plan.apply(progress=False)
        monkeypatch.chdir(elsewhere)
        assert plan.revert(progress=False).counts == {"changed": 1}
        assert [file.name for file in elsewhere.iterdir()] == []
        link = elsewhere / "current.replyplan"
        link.symlink_to(there / "a.replyplan")
        assert client.open_plan(link).revert(progress=False).counts == {}
    assert sorted(file.name for file in there.glob("*.replyplan")) == [
        "a.replyplan",
        "a.revert.replyplan",
        "a.revert2.replyplan",
    ]


def test_a_row_that_no_run_can_end_does_not_keep_a_revert_from_being_made_again(
    service: Sandbox, tmp_path: Path
) -> None:
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves([1, 2]), save_as=tmp_path / "a.replyplan", progress=False)
        plan.apply(progress=False)
        service.add_fault(Fault(method="PUT", close=True, id=1))
        assert plan.revert(progress=False).counts == {"unknown": 1, "changed": 1}
        service.clear_faults()
        client.patch_contact_account(1, city="Molde")
        client.patch_contact_account(2, city="Bergen 2")
        again = plan.revert(progress=False)
        assert (again.path, again.counts) == (str(tmp_path / "a.revert2.replyplan"), {"conflict": 1})
    # The first revert has restored the other account, so what someone wrote there since is left.
    assert (service.accounts[1].city, service.accounts[2].city) == ("Molde", "Bergen 2")


def test_a_revert_that_has_not_written_yet_holds_up_every_run_of_its_plan(service: Sandbox, tmp_path: Path) -> None:
    """It may wait for the quota, or a refused key may have ended it."""
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=tmp_path / "a.replyplan", progress=False)
        plan.apply(limit=3, progress=False)
        service.add_fault(Fault(method="GET", status=401))
        with pytest.raises(AuthenticationError):
            plan.revert(progress=False)
        service.clear_faults()
        with pytest.raises(PlanError, match=r"is being reverted\. Nothing was sent"):
            plan.apply(progress=False)
        assert plan.revert(progress=False).counts == {"changed": 3}


@pytest.mark.parametrize("mode", MODES)
def test_a_revert_of_a_revert_that_was_stopped_does_not_set_the_plan_free(
    mode: str, service: Sandbox, tmp_path: Path
) -> None:
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=tmp_path / "a.replyplan", progress=False)
        plan.apply(limit=3, progress=False)
        revert = plan.revert(progress=False)
        service.add_fault(Fault(method="GET", status=401))
        with pytest.raises(AuthenticationError):
            do(revert, "revert", mode)
        service.clear_faults()
        for action in ("apply", "retry_failed"):
            with pytest.raises(PlanError, match=r"was reverted by .*a\.revert\.replyplan"):
                do(plan, action, mode)
        assert {account.city for account in service.accounts.values()} == {"Oslo"}
        assert do(revert, "revert", mode).counts == {"changed": 3}
        assert do(plan, "apply", mode).counts == {"changed": 6}


@pytest.mark.parametrize("mode", MODES)
def test_a_revert_that_was_stopped_before_its_first_update_does_not_hold_its_plan_for_ever(
    mode: str, service: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=tmp_path / "a.replyplan", progress=False)
        service.add_fault(Fault(method="PUT", id=1, status=400))
        assert plan.apply(limit=4, progress=False).counts == {"failed": 1, "changed": 3, "pending": 2}
        service.clear_faults()
        service.add_fault(Fault(method="GET", status=401))
        with pytest.raises(AuthenticationError):
            plan.revert(progress=False)
        service.clear_faults()
        with pytest.raises(PlanError, match=r"revert that revert, then use apply") as refused:
            do(plan, "apply", mode)
        assert str(tmp_path / "a.revert.replyplan") in str(refused.value)
        # The way out that the error names sends nothing.
        undone = do(client.open_plan(tmp_path / "a.revert.replyplan"), "revert", mode)
        assert (undone.counts, undone.requests) == ({}, 0)
        assert do(plan, "apply", mode).counts == {"failed": 1, "changed": 5}
        assert do(plan, "retry_failed", mode).counts == {"changed": 6}
        assert plan.apply(progress=False).requests == 0
        assert caplog.messages == []


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("what", ["name", "filled"])
def test_a_row_that_overwriting_cannot_write_does_not_hold_its_plan(
    what: str, lost: bool, service: Sandbox, tmp_path: Path
) -> None:
    for account in service.accounts.values():
        service.set_account(dataclasses.replace(account, city=None if what == "filled" else "Oslo"))
    table = [{"name": account.name, "city": f"Bergen {id}"} for id, account in service.accounts.items()]
    with service.client(quota=None, max_attempts=1) as client:
        plan = client.plan_contact_account_updates(
            table,
            match_on="name",
            mode="fill" if what == "filled" else "patch",
            save_as=tmp_path / "a.replyplan",
            progress=False,
        )
        revert = plan.apply(limit=2, progress=False).revert(progress=False).plan
        if lost:
            service.add_fault(Fault(method="PUT", id=1, close=True))
            assert revert.revert(progress=False).counts == {"changed": 1, "unknown": 1}
            service.clear_faults()
        changed = {"name": "Another"} if what == "name" else {"city": "Rome"}
        service.set_account(dataclasses.replace(service.accounts[1], **changed))
        if lost:
            with pytest.raises(PlanError, match="has rows that are pending, unknown, failed or a conflict"):
                plan.apply(progress=False)
        # What the error names: overwriting has no effect on such a row.
        undone = revert.revert(on_conflict="overwrite", progress=False)
        assert undone.counts == {"conflict": 1} | ({} if lost else {"changed": 1})
        assert plan.apply(progress=False).counts == {"changed": 6}
    assert service.accounts[1].city == ("Oslo" if what == "name" else "Rome")
    assert {service.accounts[id].city for id in (3, 6)} == {"Bergen 3", "Bergen 6"}


def test_the_rows_that_are_left_can_be_named_if_a_revert_of_a_revert_stays_incomplete(
    service: Sandbox, tmp_path: Path
) -> None:
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=tmp_path / "a.replyplan", progress=False)
        revert = plan.apply(limit=2, progress=False).revert(progress=False).plan
        service.add_fault(Fault(method="PUT", id=1, status=400))
        for _ in range(2):
            assert revert.revert(progress=False).counts["failed"] == 1
            with pytest.raises(PlanError, match="name them with rows="):
                plan.apply(progress=False)
        assert plan.apply(rows=plan.rows.filter("pending"), progress=False).counts == {"changed": 6}
    assert service.accounts[6].city == "Bergen 6"


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_damaged_revert_does_not_hide_a_later_one(is_moved: bool, service: Sandbox, tmp_path: Path) -> None:
    first = tmp_path / "a.revert.replyplan"
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=tmp_path / "a.replyplan", progress=False)
        plan.apply(limit=2, progress=False)
        plan.revert(progress=False)
        plan.apply(rows=[2, 3], progress=False)
        assert plan.revert(progress=False).path == str(tmp_path / "a.revert2.replyplan")
        content = bytearray(first.read_bytes())
        content[len(content) // 2 :] = b"\xff" * (len(content) - len(content) // 2)
        first.write_bytes(content)
        with pytest.raises(PlanError, match="move it away, then revert again before you apply the plan"):
            plan.revert(progress=False)
        if is_moved:
            first.rename(tmp_path / "away")
        with pytest.raises(PlanError, match=r"was reverted by .*a\.revert2\.replyplan"):
            plan.apply(progress=False)
        assert {account.city for account in service.accounts.values()} == {"Oslo"}


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_revert_is_not_resumed_after_a_newer_revert_was_reverted(
    mode: str, service: Sandbox, tmp_path: Path
) -> None:
    with service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(moves(range(1, 7)), save_as=tmp_path / "a.replyplan", progress=False)
        plan.apply(limit=2, progress=False)
        service.add_fault(Fault(method="PUT", id=2, status=401))
        with pytest.raises(AuthenticationError):
            plan.revert(progress=False)
        service.clear_faults()
        plan.apply(rows=[2], progress=False)
        plan.revert(progress=False).revert(progress=False)  # the table's values are to stay
        cities = [service.accounts[id].city for id in (1, 2, 3)]
        older = client.open_plan(tmp_path / "a.revert.replyplan")
        newer = tmp_path / "a.revert2.revert.replyplan"
        with pytest.raises(PlanError, match=r"is older than .*, which may have written the opposite") as refused:
            do(older, "apply", mode)
        assert f"To continue this plan, revert {newer}, then use apply()" in str(refused.value)
        assert [service.accounts[id].city for id in (1, 2, 3)] == cities
        # The way out that the error names.
        do(client.open_plan(newer), "revert", mode)
        counts = do(older, "apply", mode).counts
        assert counts["changed"] + counts["unchanged"] == sum(counts.values()) == 2
    assert {account.city for account in service.accounts.values()} == {"Oslo"}


def test_an_unknown_row_keeps_the_time_at_which_it_was_sent(service: Sandbox, tmp_path: Path) -> None:
    def time_of() -> int:
        with contextlib.closing(sqlite3.connect(tmp_path / "a.replyplan")) as file:
            ((status, finished_at_ms),) = file.execute("SELECT status, finished_at_ms FROM rows")
        assert status == "unknown"
        return int(finished_at_ms)

    with service.client(quota=None, max_attempts=1) as client:
        plan = client.plan_contact_account_updates(moves([1]), save_as=tmp_path / "a.replyplan", progress=False)
        service.add_fault(Fault(method="PUT", close=True, applied=False))
        plan.apply(progress=False)
        service.clear_faults()
        sent_at_ms = time_of()
        client.patch_contact_account(1, city="Rome")
        assert plan.apply(progress=False).requests == 1
        assert time_of() == sent_at_ms


def test_a_revert_belongs_to_the_key_that_made_it(service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None, api_key=fresh()) as old:
        old.plan_contact_account_updates(moves([1, 2]), save_as=path, progress=False).apply(progress=False)
    with service.client(quota=None, api_key=fresh()) as new:
        service.add_fault(Fault(method="PUT", close=True))
        new.open_plan(path, new_key=True).revert(progress=False)
        service.clear_faults()
        assert new.open_plan(tmp_path / "a.revert.replyplan").apply(progress=False).counts == {"changed": 2}
