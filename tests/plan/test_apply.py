"""A plan does what its table says and nothing else. The judge is the sandbox's own log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from replyio import ConfigurationError, PlanError, ReplyError
from replyio.sandbox import Fault, Sandbox
from support import MODES, sent

from .jobs import (
    assert_complete,
    assert_written,
    by_status,
    companies,
    do,
    moves,
    plan,
    puts,
    statuses,
    succeeded,
)


@pytest.fixture
def service() -> Any:
    with Sandbox(accounts=companies(40)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("mode", MODES)
def test_every_changed_row_is_one_update_with_the_whole_account(mode: str, service: Sandbox, tmp_path: Path) -> None:
    before = service.accounts
    rows = [*moves(range(1, 31)), {"id": 40, "city": "Oslo"}, {"id": 999, "city": "Nowhere"}]
    with service.client(quota=None) as client, plan(client, mode, rows, save_as=tmp_path / "a.replyplan") as made:
        assert_complete(made, 32)
        assert made.counts == {"pending": 30, "unchanged": 1, "not_found": 1}
        assert puts(service) == []
        result = do(made, "apply", mode)
        assert_complete(result, 32)
        assert result.counts == {"changed": 30, "unchanged": 1, "not_found": 1}
    assert_written(service, before, {id: {"city": f"Bergen {id}"} for id in range(1, 31)})
    assert result.requests <= len(service.requests)


def test_a_patch_keeps_what_it_does_not_name(service: Sandbox) -> None:
    service.set_account(
        {"id": 7, "name": "Full", "description": "d", "phone": "+47", "email": "a@b.example", "city": ""}
    )
    before = service.accounts
    with service.client(quota=None) as client:
        client.patch_contact_accounts([{"id": 7, "industry": "Fish"}], progress=False)
    assert_written(service, before, {7: {"industry": "Fish"}})


def test_fill_touches_only_what_is_empty(service: Sandbox) -> None:
    before = service.accounts
    rows = [{"id": 1, "city": "Bergen", "phone": "+47 1"}, {"id": 2, "city": "Bergen", "phone": None}]
    with service.client(quota=None) as client:
        result = client.patch_contact_accounts(rows, mode="fill", progress=False)
    assert statuses(result.rows) == ["changed", "unchanged"]
    assert_written(service, before, {1: {"phone": "+47 1"}})


def test_fill_overwrites_no_value_that_came_after_the_plan(service: Sandbox) -> None:
    with service.client(quota=None) as client:
        made = plan(client, "sync", [{"id": 1, "phone": "+47 1"}], mode="fill")
        client.patch_contact_account(1, phone="+47 2")
        assert do(made, "apply").counts == {"conflict": 1}
        assert made.apply(on_conflict="overwrite", progress=False).counts == {"conflict": 1}
        assert 'mode "fill" does not overwrite the new value' in next(iter(made.failures))["error"]
    assert service.accounts[1].phone == "+47 2"


def test_replace_clears_what_has_no_column_and_keeps_the_owner(service: Sandbox) -> None:
    before = service.accounts
    with service.client(quota=None) as client:
        do(plan(client, "sync", [{"id": 1, "name": "New", "city": "Bergen"}], mode="replace"), "apply")
    cleared = {"domain_name": None, "industry": None, "company_size": None}
    assert_written(service, before, {1: {"name": "New", "city": "Bergen", **cleared}})


def test_an_empty_cell_keeps_or_clears_as_it_is_asked_for(service: Sandbox) -> None:
    before = service.accounts
    rows = [{"id": 1, "city": None, "industry": "Fish"}]
    with service.client(quota=None) as client:
        client.patch_contact_accounts(rows, progress=False)
        assert_written(service, before, {1: {"industry": "Fish"}})
        before = service.accounts
        service.clear_requests()
        client.patch_contact_accounts(rows, nulls="clear", progress=False)
        assert_written(service, before, {1: {"city": None}})


def test_rows_that_are_right_already_send_no_update(service: Sandbox) -> None:
    with service.client(quota=None) as client:
        result = client.patch_contact_accounts([{"id": id, "city": "Oslo"} for id in range(1, 41)], progress=False)
    assert result.counts == {"unchanged": 40}
    assert sent(service) == ["GET"]


def test_rows_that_cannot_be_sent_stop_no_other(service: Sandbox) -> None:
    before = service.accounts
    rows: list[dict[str, Any]] = [
        {"id": 1, "city": "Bergen", "owner_user_id": 7},
        {"id": 2, "city": "Bergen", "owner_user_id": -1},
        {"id": 0, "city": "Bergen", "owner_user_id": 7},
        {"id": None, "city": "Bergen", "owner_user_id": 7},
        {"id": 3, "city": "Bergen", "owner_user_id": 7},
        {"id": 3, "city": "Trondheim", "owner_user_id": 7},
        {"id": 4, "city": "\ud800", "owner_user_id": 7},
        {"id": 77, "city": "Bergen", "owner_user_id": 7},
    ]
    with service.client(quota=None) as client:
        result = client.patch_contact_accounts(rows, progress=False)
        assert_complete(result, 8)
        expected = ["changed", "invalid", "invalid", "invalid", "ambiguous", "ambiguous", "invalid", "not_found"]
        assert statuses(result.rows) == expected
        failures = {row["row"]: row["error"] for row in result.failures}
        assert set(failures) == {1, 2, 3, 4, 5, 6, 7}
        assert all(f"row {row}" in error or "rows 4, 5" in error for row, error in failures.items()), failures
        with pytest.raises(ReplyError, match="7 of 8 rows not done"):
            result.raise_for_failures()
    assert_written(service, before, {1: {"city": "Bergen", "owner_user_id": 7}})


@pytest.mark.parametrize("by", ["domain_name", "name"])
def test_rows_find_their_account_by_another_field(by: str, service: Sandbox) -> None:
    service.set_account({"id": 50, "name": "Twin", "domainName": "twin.example", "city": "Oslo"})
    service.set_account({"id": 51, "name": "Twin", "domainName": "Twin.example", "city": "Oslo"})
    before = service.accounts
    names = {"domain_name": ["COMPANY3.example", "twin.EXAMPLE", "none.example"], "name": ["Company 3", "Twin", "None"]}
    rows = [{by: name, "city": "Bergen"} for name in names[by]]
    with service.client(quota=None) as client:
        result = client.patch_contact_accounts(rows, match_on=by, progress=False)  # type: ignore[arg-type]
        assert_complete(result, 3)
        assert statuses(result.rows) == ["changed", "ambiguous", "not_found"]
        assert [row["id"] for row in result.rows] == [3, None, None]
        assert "50" in list(result.rows)[1]["error"]
    assert_written(service, before, {3: {"city": "Bergen"}})


@pytest.mark.parametrize("many", [1, 30])
@pytest.mark.parametrize("on_conflict", ["skip", "overwrite"])
@pytest.mark.parametrize("by", ["domain_name", "name"])
def test_an_account_that_its_row_would_no_longer_find_is_left_alone(
    by: str, on_conflict: str, many: int, service: Sandbox, tmp_path: Path
) -> None:
    rows = [
        {by: {"domain_name": f"Company{id}.example", "name": f"Company {id}"}[by], "city": "Bergen"}
        for id in range(1, 31)
    ]
    with service.client(quota=None) as client:
        made = plan(client, "sync", rows[:many], save_as=tmp_path / "by.replyplan", match_on=by)
        for id, key in ((1, "Elsewhere.example"), (40, rows[0][by])):
            client.patch_contact_account(id, **{by: key})
        before, sent_before = service.accounts, len(puts(service))
        result = made.apply(on_conflict=on_conflict, progress=False)  # type: ignore[arg-type]
        assert statuses(result.rows) == ["conflict", *["changed"] * (many - 1)]
        assert next(iter(result.failures))["error"] == (
            f"row 0: the account no longer has the {by} that matched this row; plan this row again"
        )
        assert len(puts(service)) - sent_before == many - 1
        assert statuses(made.retry_failed(on_conflict="overwrite", progress=False).rows)[0] == "conflict"
        assert service.accounts[1] == before[1]
        assert service.accounts[40] == before[40]
        client.patch_contact_account(1, **{by: rows[0][by]})
        assert made.retry_failed(progress=False).counts == {"changed": many}
        client.patch_contact_account(1, **{by: "Elsewhere.example"})
        assert made.revert(progress=False).counts == {"changed": many}, (
            "an account that was changed is reverted, whatever its name"
        )


def test_two_rows_that_meet_at_one_account_are_both_ambiguous(service: Sandbox) -> None:
    rows = [{"domain_name": "company3.example", "city": "A"}, {"domain_name": "Company3.Example", "city": "B"}]
    with service.client(quota=None) as client:
        result = client.patch_contact_accounts(rows, match_on="domain_name", progress=False)
    assert statuses(result.rows) == ["ambiguous", "ambiguous"]
    assert puts(service) == []


@pytest.mark.parametrize("mode", MODES)
def test_what_was_applied_is_not_applied_again(mode: str, service: Sandbox, tmp_path: Path) -> None:
    before = service.accounts
    path = tmp_path / "again.replyplan"
    with service.client(quota=None) as client:
        with plan(client, mode, moves(range(1, 11)), save_as=path) as made:
            do(made, "apply", mode)
            seen = len(service.requests)
            assert do(made, "apply", mode).counts == {"changed": 10}
        with client.open_plan(path) as opened:
            assert do(opened, "apply", mode).counts == {"changed": 10}
        assert len(service.requests) == seen
        assert client.patch_contact_accounts(moves(range(1, 11)), progress=False).counts == {"unchanged": 10}
    assert_written(service, before, {id: {"city": f"Bergen {id}"} for id in range(1, 11)})


@pytest.mark.parametrize("mode", MODES)
def test_a_revert_restores_what_was(mode: str, service: Sandbox, tmp_path: Path) -> None:
    before = {id: account.to_dict() | {"last_activity_date": None} for id, account in service.accounts.items()}
    rows = [{"id": id, "city": f"Bergen {id}", "phone": "+47", "industry": None} for id in range(1, 21)]
    with service.client(quota=None) as client:
        made = plan(client, mode, rows, save_as=tmp_path / "back.replyplan", nulls="clear")
        assert do(made, "apply", mode).counts == {"changed": 20}
        result = do(made, "revert", mode)
        assert_complete(result, 20)
        assert result.counts == {"changed": 20}
        made.close()
    after = {id: account.to_dict() | {"last_activity_date": None} for id, account in service.accounts.items()}
    assert after == before
    assert set(succeeded(service).values()) == {2}


def test_a_revert_leaves_alone_what_somebody_changed_since(service: Sandbox, tmp_path: Path) -> None:
    with service.client(quota=None) as client:
        made = plan(client, "sync", moves([1, 2]), save_as=tmp_path / "back.replyplan")
        do(made, "apply")
        client.patch_contact_account(1, city="Tromsø")
        assert statuses(do(made, "revert").rows) == ["conflict", "changed"]
        made.close()
    assert (service.accounts[1].city, service.accounts[2].city) == ("Tromsø", "Oslo")


def test_a_second_revert_takes_back_what_was_applied_after_the_first(service: Sandbox, tmp_path: Path) -> None:
    before = {id: account.city for id, account in service.accounts.items()}
    with service.client(quota=None) as client:
        made = plan(client, "sync", moves([1, 2]), save_as=tmp_path / "back.replyplan")
        assert statuses(do(made, "apply", rows=[0]).rows) == ["changed", "pending"]
        assert do(made, "revert").counts == {"changed": 1}
        assert do(made, "apply", rows=[1]).counts == {"changed": 2}
        # The first revert has restored the other row.
        assert statuses(do(made, "revert").rows) == ["changed"]
        made.close()
    assert {id: account.city for id, account in service.accounts.items()} == before


@pytest.mark.parametrize("mode", MODES)
def test_rows_that_failed_are_tried_again_when_asked(mode: str, service: Sandbox) -> None:
    before = service.accounts
    service.add_fault(Fault(id=3, method="PUT", status=400, body={"title": "No", "status": 400}, times=1))
    with service.client(quota=None) as client, plan(client, mode, moves(range(1, 6))) as made:
        assert do(made, "apply", mode).counts == {"changed": 4, "failed": 1}
        assert do(made, "apply", mode).counts == {"changed": 4, "failed": 1}
        assert len(puts(service)) == 5
        assert do(made, "retry_failed", mode).counts == {"changed": 5}
    assert_written(service, before, {id: {"city": f"Bergen {id}"} for id in range(1, 6)})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("on_conflict", ["skip", "overwrite"])
def test_a_field_that_somebody_changed_meanwhile_is_a_conflict(on_conflict: str, mode: str, service: Sandbox) -> None:
    with service.client(quota=None) as client, plan(client, mode, moves([1, 2, 3])) as made:
        client.patch_contact_account(2, city="Tromsø", phone="+47 2")
        before = service.accounts
        service.clear_requests()
        result = do(made, "apply", mode, on_conflict=on_conflict)
        skips = on_conflict == "skip"
        assert statuses(result.rows) == ["changed", "conflict" if skips else "changed", "changed"]
        if skips:
            assert "city" in next(iter(result.failures))["error"]
    written_ids = [1, 3] if skips else [1, 2, 3]
    assert_written(service, before, {id: {"city": f"Bergen {id}"} for id in written_ids})
    assert service.accounts[2].phone == "+47 2"


def test_fields_outside_the_plan_keep_their_newest_value(service: Sandbox) -> None:
    with service.client(quota=None) as client, plan(client, "sync", moves(range(1, 21))) as made:
        for id in range(1, 21, 3):
            client.patch_contact_account(id, phone=f"+47 {id}", industry=None)
        before = service.accounts
        service.clear_requests()
        assert do(made, "apply").counts == {"changed": 20}
    assert_written(service, before, {id: {"city": f"Bergen {id}"} for id in range(1, 21)})


def test_an_account_that_is_already_as_meant_or_gone_is_not_written(service: Sandbox) -> None:
    with service.client(quota=None) as client, plan(client, "sync", moves([1, 2, 3])) as made:
        client.patch_contact_account(1, city="Bergen 1")
        service.remove_account(2)
        before = service.accounts
        service.clear_requests()
        assert statuses(do(made, "apply").rows) == ["unchanged", "not_found", "changed"]
    assert_written(service, before, {3: {"city": "Bergen 3"}})


@pytest.mark.parametrize("mode", MODES)
def test_planning_and_applying_in_one_leaves_nothing_in_the_temporary_directory(
    mode: str, service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with service.client(quota=None) as client:
        if mode == "sync":
            result = client.patch_contact_accounts(moves([1, 2]), progress=False)
        else:
            result = asyncio.run(client.patch_contact_accounts_async(moves([1, 2]), progress=False))
    assert result.counts == by_status(result) == {"changed": 2}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("action", ["apply", "revert", "retry_failed"])
def test_an_unknown_way_with_conflicts_is_refused(action: str, service: Sandbox) -> None:
    with service.client(quota=None) as client, plan(client, "sync", moves([1])) as made:
        with pytest.raises(ConfigurationError, match='"skip" or "overwrite"'):
            do(made, action, on_conflict="merge")
        if action != "revert":
            assert do(made, "apply").counts == {"changed": 1}


def test_planning_and_applying_in_one_refuses_an_unknown_way_with_conflicts_before_any_request(
    service: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "never.replyplan"
    with service.client(quota=None) as client, pytest.raises(ConfigurationError, match='"skip" or "overwrite"'):
        client.patch_contact_accounts(moves([1]), save_as=path, on_conflict="merge", progress=False)  # type: ignore[arg-type]
    assert service.requests == []
    assert not path.exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_file_that_is_there_is_not_written_over(mode: str, service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "there.replyplan"
    path.write_text("something else", encoding="utf-8")
    with service.client(quota=None) as client, pytest.raises(PlanError, match=r"already|exists"):
        plan(client, mode, moves([1]), save_as=path)
    assert path.read_text(encoding="utf-8") == "something else"
    assert service.requests == []
