"""Plans: what they say, what they write, what they leave alone, and how they are taken back."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import replyio
from replyio.sandbox import Fault, Sandbox

CITIES = ["Oslo", "Bergen", "Turku", "Aarhus", "Tallinn"]


def accounts(count: int) -> list[dict[str, Any]]:
    return [
        {"id": 100 + number, "name": f"Company {number}", "city": CITIES[number % 5], "phone": f"+{number}"}
        for number in range(count)
    ]


def puts(sandbox: Sandbox) -> Counter[int]:
    found = [int(request.path.rsplit("/", 1)[1]) for request in sandbox.requests if request.method == "PUT"]
    return Counter(found)


def check_rows(sandbox: Sandbox, report: Any, total: int) -> None:
    """Every row has one status, and `changed` means that the server's own log has a success for that account."""
    rows = list(report.rows)
    assert [row["row"] for row in rows] == list(range(total))
    assert sum(report.counts.values()) == total
    assert Counter(row["status"] for row in rows) == report.counts
    succeeded = {
        int(request.path.rsplit("/", 1)[1])
        for request in sandbox.requests
        if request.method == "PUT" and request.status == 200
    }
    assert {row["id"] for row in rows if row["status"] == "changed"} <= succeeded


def test_a_plan_reads_only_and_says_what_would_change(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(50)) as sandbox, sandbox.client() as client:
        rows = [{"id": 100 + number, "city": "Oslo"} for number in range(50)]
        plan = client.plan_contact_account_updates(rows, save_as=tmp_path / "a.replyplan", progress=False)
        assert plan.counts == {"unchanged": 10, "pending": 40}
        assert {request.method for request in sandbox.requests} == {"GET"}
        assert len(sandbox.requests) == 1
        first = next(iter(plan.changes))
        assert first == {"row": 1, "id": 101, "field": "city", "before": "Bergen", "after": "Oslo", "status": "pending"}
        check_rows(sandbox, plan, 50)
        plan.close()


def test_apply_changes_just_what_is_meant_and_revert_gives_it_back(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(50)) as sandbox, sandbox.client() as client:
        before = sandbox.accounts
        rows = [{"id": 100 + number, "city": "Oslo", "country": "Norway"} for number in range(40)]
        plan = client.plan_contact_account_updates(rows, save_as=tmp_path / "a.replyplan", progress=False)
        result = plan.apply(progress=False)
        assert result.counts == {"changed": 40}
        check_rows(sandbox, result, 40)
        assert set(puts(sandbox).values()) == {1}
        for id, account in sandbox.accounts.items():
            meant = {"city": "Oslo", "country": "Norway"} if id < 140 else {}
            kept = {"last_activity_date": account.last_activity_date}
            assert account == dataclasses.replace(before[id], **meant, **kept)
        sent = len(sandbox.requests)
        assert plan.apply(progress=False).counts == {"changed": 40}
        assert len(sandbox.requests) == sent, "what is done is done"
        assert plan.revert(progress=False).counts == {"changed": 40}
        assert {id: account.update_fields() for id, account in sandbox.accounts.items()} == {
            id: account.update_fields() for id, account in before.items()
        }
        plan.close()


@pytest.mark.parametrize(
    ("options", "row", "after"),
    [
        ({}, {"city": "Bergen", "phone": None}, {"city": "Bergen", "phone": "+1"}),
        ({"nulls": "clear"}, {"city": "Bergen", "phone": None}, {"city": "Bergen", "phone": None}),
        ({}, {"phone": ""}, {"city": "Oslo", "phone": None}),
        ({"mode": "fill"}, {"city": "Bergen", "country": "Norway"}, {"city": "Oslo", "country": "Norway"}),
        ({"mode": "replace"}, {"name": "B", "city": "Bergen"}, {"name": "B", "city": "Bergen", "phone": None}),
    ],
)
def test_mode_and_nulls_decide_what_a_cell_does(
    options: dict[str, Any], row: dict[str, Any], after: dict[str, Any]
) -> None:
    stored = {"id": 7, "name": "A", "city": "Oslo", "phone": "+1", "owner_user_id": 3}
    with Sandbox(accounts=[stored]) as sandbox, sandbox.client() as client:
        result = client.update_contact_accounts([{"id": 7, **row}], progress=False, **options)
        assert result.counts == {"changed": 1}
        account = sandbox.accounts[7]
        assert {name: getattr(account, name) or None for name in after} == after
        assert account.owner_user_id == 3


def test_rows_that_cannot_be_sent_stop_no_other() -> None:
    with Sandbox(accounts=[*accounts(5), {"id": 200, "name": "Company 1"}]) as sandbox, sandbox.client() as client:
        rows: list[dict[str, Any]] = [
            {"id": 100, "city": "Aarhus"},
            {"id": -1, "city": "Aarhus"},
            {"id": 999, "city": "Aarhus"},
            {"id": 101, "city": "Turku"},
            {"id": 101, "city": "Aarhus"},
        ]
        result = client.update_contact_accounts(rows, progress=False)
        assert result.counts == {"changed": 1, "invalid": 1, "not_found": 1, "ambiguous": 2}
        check_rows(sandbox, result, 5)
        errors = {row["row"]: row["error"] for row in result.failures}
        assert "id in row 1 must be a positive integer" in errors[1]
        assert "999" in errors[2]
        assert "rows 3, 4" in errors[3]
        with pytest.raises(replyio.ReplyError, match="4 of 5 rows not done"):
            result.raise_for_failures()


def test_a_column_that_cannot_be_used_is_refused_before_any_request() -> None:
    with Sandbox() as sandbox, sandbox.client() as client:
        with pytest.raises(replyio.ValidationError, match="did you mean city"):
            client.plan_contact_account_updates([{"id": 4711, "citty": "Oslo"}], progress=False)
        assert sandbox.requests == []


def test_rows_find_their_account_by_domain_or_name_and_never_guess() -> None:
    stored = [
        {"id": 1, "name": "A", "domain_name": "a.example"},
        {"id": 2, "name": "B", "domain_name": "B.example"},
        {"id": 3, "name": "A"},
    ]
    with Sandbox(accounts=stored) as sandbox, sandbox.client() as client:
        by_domain = [{"domain_name": domain, "city": "Oslo"} for domain in ("A.EXAMPLE", "b.example", "c.example")]
        result = client.update_contact_accounts(by_domain, match_on="domain_name", progress=False)
        assert result.counts == {"changed": 2, "not_found": 1}
        by_name = [{"name": name, "city": "Turku"} for name in ("A", "B", "b")]
        result = client.update_contact_accounts(by_name, match_on="name", progress=False)
        assert result.counts == {"changed": 1, "ambiguous": 1, "not_found": 1}
        assert [sandbox.accounts[id].city for id in (1, 2, 3)] == ["Oslo", "Turku", None]


def test_what_somebody_else_changed_meanwhile_is_a_conflict_or_kept(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(3)) as sandbox, sandbox.client() as client:
        rows = [{"id": 100 + number, "city": "Paris"} for number in range(3)]
        plan = client.plan_contact_account_updates(rows, save_as=tmp_path / "a.replyplan", progress=False)
        client.patch_contact_account(100, city="Rome")
        client.patch_contact_account(101, phone="+99")
        client.patch_contact_account(102, city="Paris")
        result = plan.apply(progress=False)
        assert result.counts == {"conflict": 1, "changed": 1, "unchanged": 1}
        assert next(iter(result.failures))["error"] == "row 0: city changed since the plan was made"
        assert (sandbox.accounts[100].city, sandbox.accounts[101].phone) == ("Rome", "+99")
        assert sandbox.accounts[101].city == "Paris"
        again = plan.retry_failed(on_conflict="overwrite", progress=False)
        assert again.counts == {"changed": 2, "unchanged": 1}
        assert sandbox.accounts[100].city == "Paris"
        with pytest.raises(replyio.ConfigurationError, match="on_conflict"):
            plan.apply(on_conflict="ask", progress=False)  # type: ignore[arg-type]
        plan.close()


async def test_the_async_twins_do_the_same(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(30)) as sandbox, sandbox.client() as client:
        rows = [{"id": 100 + number, "city": "Paris"} for number in range(30)]
        plan = await client.plan_contact_account_updates_async(rows, save_as=tmp_path / "a.replyplan", progress=False)
        applying = asyncio.create_task(plan.apply_async(progress=False))
        ticks = 0
        while not applying.done():
            ticks += 1
            await asyncio.sleep(0.005)
        assert ticks > 1, "the loop was not held up"
        assert (await applying).counts == {"changed": 30}
        assert (await plan.revert_async(progress=False)).counts == {"changed": 30}
        result = await client.update_contact_accounts_async(rows, progress=False)
        assert result.counts == {"changed": 30}
        check_rows(sandbox, result, 30)
        plan.close()


def test_a_plan_is_never_silently_made_anew(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(3)) as sandbox, sandbox.client() as client:
        path = tmp_path / "a.replyplan"
        rows = [{"id": 100, "city": "Paris"}]
        client.plan_contact_account_updates(rows, save_as=path, progress=False).close()
        kept = path.read_bytes()
        with pytest.raises(replyio.PlanError, match="exists already"):
            client.plan_contact_account_updates(rows, save_as=path, progress=False)
        assert path.read_bytes() == kept
        with pytest.raises(replyio.PlanError, match="no such file"):
            client.open_plan(tmp_path / "b.replyplan")
        with Sandbox() as other, other.client() as foreign, pytest.raises(replyio.PlanError, match="was made for"):
            foreign.open_plan(path)
        with pytest.raises(replyio.PlanError, match="another user or team"):
            sandbox.client(act_as=5).open_plan(path)


def test_the_file_reads_well_and_is_its_owners_only(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(3), api_keys=["canary-key"]) as sandbox, sandbox.client() as client:
        path = tmp_path / "a.replyplan"
        rows = [{"id": 100 + number, "city": "Paris"} for number in range(3)]
        plan = client.plan_contact_account_updates(rows, save_as=path, progress=False)
        plan.apply(progress=False)
        for file in tmp_path.iterdir():
            assert file.stat().st_mode & 0o777 == 0o600, file.name
            assert b"canary-key" not in file.read_bytes()
        plan.close()
        with sqlite3.connect(path) as browser:
            assert browser.execute("SELECT * FROM progress").fetchall() == [("changed", 3)]
            changes = browser.execute("SELECT id, field, before, after FROM changes").fetchall()
            assert changes[0] == (100, "city", "Oslo", "Paris")
        browser.close()


def test_a_plan_that_is_not_saved_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with Sandbox(accounts=accounts(3)) as sandbox, sandbox.client() as client:
        result = client.update_contact_accounts([{"id": 100, "city": "Paris"}], progress=False)
        assert list(tmp_path.iterdir()) == []
        assert [row["status"] for row in result.rows] == ["changed"]
        plan = client.plan_contact_account_updates([{"id": 100, "city": "Rome"}], progress=False)
        assert list(tmp_path.iterdir()) != []
        plan.close()
        assert list(tmp_path.iterdir()) == []


def test_no_rows_are_a_plan_of_nothing() -> None:
    with Sandbox() as sandbox, sandbox.client() as client:
        assert client.update_contact_accounts([], progress=False).counts == {}
        assert sandbox.requests == []


def test_a_lost_answer_is_found_out(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(5)) as sandbox, sandbox.client(max_attempts=1) as client:
        rows = [{"id": 100 + number, "city": "Paris"} for number in range(5)]
        plan = client.plan_contact_account_updates(rows, save_as=tmp_path / "a.replyplan", progress=False)
        sandbox.add_fault(Fault(method="PUT", id=102, reset=True, applied=True, times=1))
        result = plan.apply(progress=False)
        assert result.counts == {"changed": 5}
        assert puts(sandbox)[102] == 2
        bodies = {str(request.body) for request in sandbox.requests if request.path.endswith("/102") and request.body}
        assert len(bodies) == 1
        check_rows(sandbox, result, 5)
        plan.close()
