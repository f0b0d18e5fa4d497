"""What a plan says and keeps: its tables, its file, and nothing that nobody asked for."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import replyio
from replyio.sandbox import Fault, Sandbox
from support import environment, program

from .jobs import KEY, plan, puts

if TYPE_CHECKING:
    from pathlib import Path

CITIES = ["Oslo", "Bergen", "Turku", "Aarhus", "Tallinn"]


def accounts(count: int) -> list[dict[str, Any]]:
    return [
        {"id": 100 + number, "name": f"Company {number}", "city": CITIES[number % 5], "phone": f"+{number}"}
        for number in range(count)
    ]


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


def test_a_column_that_cannot_be_used_is_refused_before_any_request() -> None:
    with Sandbox() as sandbox, sandbox.client() as client:
        with pytest.raises(replyio.ValidationError, match="did you mean city"):
            client.plan_contact_account_updates([{"id": 4711, "citty": "Oslo"}], progress=False)
        assert sandbox.requests == []


@pytest.mark.parametrize("source", ["frame", "csv", "mappings"])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_option_may_be_an_iterable_that_ends(tmp_path: Path, source: str, way: str) -> None:
    table = pd.DataFrame({"id": [1, 2], "city": ["Oslo", "N/A"], "notes": ["", ""]})
    table.to_csv(tmp_path / "a.csv", index=False)
    data = {"frame": table, "csv": tmp_path / "a.csv", "mappings": table.to_dict("records")}[source]
    with Sandbox(accounts=[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]) as sandbox, sandbox.client() as client:
        planned = plan(client, way, data, null_values=iter(["N/A"]), ignore=iter(["notes"]))
        assert planned.counts == {"pending": 1, "unchanged": 1}
        planned.close()


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
        result = await client.patch_contact_accounts_async(rows, progress=False)
        assert result.counts == {"changed": 30}
        check_rows(sandbox, result, 30)
        plan.close()


def test_a_plan_is_never_silently_made_anew(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(3)) as sandbox, sandbox.client() as client:
        path = tmp_path / "a.replyplan"
        rows = [{"id": 100, "city": "Paris"}]
        client.plan_contact_account_updates(rows, save_as=path, progress=False).close()
        kept = path.read_bytes()
        with pytest.raises(replyio.PlanError, match="already exists"):
            client.plan_contact_account_updates(rows, save_as=path, progress=False)
        assert path.read_bytes() == kept
        with pytest.raises(replyio.PlanError, match="no such file"):
            client.open_plan(tmp_path / "b.replyplan")
        with Sandbox() as other, other.client() as foreign, pytest.raises(replyio.PlanError, match="was created for"):
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
        with closing(sqlite3.connect(path)) as browser, browser:
            assert browser.execute("SELECT * FROM progress").fetchall() == [("changed", 3)]
            changes = browser.execute("SELECT id, field, before, after FROM changes").fetchall()
            assert changes[0] == (100, "city", "Oslo", "Paris")
            assert browser.execute("SELECT * FROM failures").fetchall() == []
            columns = [name for _, name, *_ in browser.execute("PRAGMA table_info(failures)")]
            assert columns == ["row", "id", "matched_by", "status", "error", "repeated", "stored_otherwise"]
        browser.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_a_row_that_was_sent_again_after_a_crash_says_so(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(40)) as sandbox, sandbox.client(quota=None, api_key=KEY) as client:
        path = tmp_path / "a.replyplan"
        rows = [{"id": 100 + number, "city": "Paris"} for number in range(40)]
        client.plan_contact_account_updates(rows, save_as=path, progress=False).close()
        sandbox.add_fault(Fault(method="PUT", delay=0.1, applied=True))
        child = subprocess.Popen(
            program(f"""
                import replyio
                with replyio.ReplyClient(quota=None) as client, client.open_plan({str(path)!r}) as plan:
                    plan.apply(progress=False)
            """),
            env=environment(sandbox, REPLY_API_KEY=KEY),
        )
        until = time.monotonic() + 20
        while len(puts(sandbox)) < 12 and time.monotonic() < until:
            time.sleep(0.005)
        child.kill()
        child.wait(10)
        with client.open_plan(path) as plan:
            in_flight = {row["row"] for row in plan.rows if row["status"] == "unknown"}
            assert 0 < len(in_flight) <= 8
            assert {row["row"] for row in plan.failures} == in_flight
            assert {row["repeated"] for row in plan.rows} == {0}
            result = plan.apply(progress=False)
            assert result.counts == {"changed": 40}
            assert {row["row"]: row["repeated"] for row in result.rows} == {
                row: int(row in in_flight) for row in range(40)
            }
            frame = result.rows.to_pandas()
            assert list(frame.columns) == result.rows.columns == result.rows.to_polars().columns
            assert frame["repeated"].tolist() == result.rows.to_polars()["repeated"].to_list()
            assert frame["repeated"].sum() == len(in_flight)


def test_no_rows_are_a_plan_of_nothing() -> None:
    with Sandbox() as sandbox, sandbox.client() as client:
        assert client.patch_contact_accounts([], progress=False).counts == {}
        assert sandbox.requests == []


def test_the_command_plans_applies_and_reverts(tmp_path: Path) -> None:
    with Sandbox(
        accounts=[{"id": 1 + number, "name": f"Company {number}", "city": "Oslo"} for number in range(5)]
    ) as sandbox:
        table = tmp_path / "companies.csv"
        table.write_text("id,city\n1,Bergen\n2,Oslo\n77,Rome\n", encoding="utf-8")
        environment = os.environ | {"REPLY_API_KEY": "key-of-the-sandbox", "REPLY_BASE_URL": sandbox.url}

        def replyio_(*arguments: str) -> tuple[int, str]:
            command = [sys.executable, "-m", "replyio", *arguments]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=30, text=True
            )
            return done.returncode, done.stdout + done.stderr

        code, output = replyio_("plan", "companies.csv", "--save-as", "a.replyplan", "--exit-code")
        assert code == 4, output
        assert replyio_("status", "a.replyplan")[0] in {0, 1}
        code, output = replyio_("apply", "a.replyplan")
        assert code == 1, output  # one row is for nobody
        assert sandbox.accounts[1].city == "Bergen"
        code, output = replyio_("revert", "a.replyplan")
        assert code == 0, output
        assert sandbox.accounts[1].city == "Oslo"
