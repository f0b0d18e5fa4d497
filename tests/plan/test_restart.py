"""Planning again resumes or replaces the plan that is there, and never mistakes one for another."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest

from replyio import AuthenticationError, ConfigurationError, PlanError, ValidationError, _replyio
from replyio.sandbox import Fault, Sandbox

from .jobs import companies, do, fresh, moves, plan, puts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio import ReplyClient

MODES = ["sync", "async"]


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(10)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("mode", MODES)
def test_the_same_job_twice_is_done_once(mode: str, service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "nightly.replyplan"
    with service.client(quota=None) as client:
        for _ in range(2):
            made = plan(client, mode, moves([1, 2, 3]), save_as=path, if_exists="resume")
            assert do(made, "apply", mode).counts == {"changed": 3}
    assert len(puts(service)) == 3


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_was_stopped_resumes_where_it_stopped(mode: str, service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "nightly.replyplan"
    with service.client(quota=None) as client:
        made = plan(client, mode, moves(range(1, 7)), save_as=path, if_exists="resume")
        assert do(made, "apply", mode, limit=4).counts == {"changed": 4, "pending": 2}
        service.clear_requests()
        again = plan(client, mode, moves(range(1, 7)), save_as=path, if_exists="resume")
        assert service.requests == []
        assert do(again, "apply", mode).counts == {"changed": 6}
    assert len(puts(service)) == 2


ROWS = [{"id": 1, "city": "Bergen"}, {"id": 2, "city": None}]


@pytest.mark.parametrize("same", [pd.DataFrame, pl.DataFrame, "csv"])
def test_the_same_rows_are_the_same_however_they_come(same: Any, service: Sandbox, tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("id,city\n1,Bergen\n2,\n", encoding="utf-8")
    with service.client(quota=None) as client:
        path = tmp_path / "a.replyplan"
        plan(client, "sync", ROWS, save_as=path)
        data = table if same == "csv" else same(ROWS)
        assert plan(client, "sync", data, save_as=path, if_exists="resume").counts == {"pending": 1, "unchanged": 1}


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        ([{"id": 1, "city": "Oslo"}, ROWS[1]], {}),
        ([ROWS[1], ROWS[0]], {}),
        ([*ROWS, {"id": 3, "city": None}], {}),
        (ROWS[:1], {}),
        ([{"id": 1, "country": "Bergen"}, {"id": 2, "country": None}], {}),
        ([{"id": 1, "city": "Bergen"}, {"id": 2, "city": "None"}], {}),
        (ROWS, {"nulls": "clear"}),
        (ROWS, {"mode": "fill"}),
        (ROWS, {"null_values": ["Bergen"]}),
        ([{"id": -1, "city": "Bergen"}, ROWS[1]], {}),
    ],
)
def test_a_plan_of_other_rows_or_options_is_not_resumed(
    rows: Any, options: dict[str, Any], service: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, "sync", ROWS, save_as=path)
        service.clear_requests()
        with pytest.raises(PlanError, match="created from other rows or options"):
            plan(client, "sync", rows, save_as=path, if_exists="resume", **options)
        assert service.requests == []
        assert client.open_plan(path).counts == {"pending": 1, "unchanged": 1}


def test_a_revert_is_not_resumed_as_the_plan_that_it_reverts(service: Sandbox, tmp_path: Path) -> None:
    with service.client(quota=None) as client:
        path = tmp_path / "a.replyplan"
        do(plan(client, "sync", moves([1]), save_as=path), "apply")
        reverted = do(client.open_plan(path), "revert")
        with pytest.raises(PlanError, match="is the revert of another plan"):
            plan(client, "sync", moves([1]), save_as=reverted.path, if_exists="resume")


def test_another_service_or_key_does_not_resume(service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None, api_key=fresh()) as client:
        plan(client, "sync", moves([1]), save_as=path)
    with service.client(quota=None, api_key=fresh()) as other, pytest.raises(PlanError, match="another API key"):
        plan(other, "sync", moves([1]), save_as=path, if_exists="resume")
    with Sandbox() as elsewhere, elsewhere.client() as foreign, pytest.raises(PlanError) as caught:
        plan(foreign, "sync", moves([1]), save_as=path, if_exists="resume")
    says = f"was created for {service.url}, but this client uses {elsewhere.url}; open it with base_url={service.url}"
    assert str(caught.value).endswith(says)


@pytest.mark.parametrize("if_exists", ["resume", "replace"])
def test_what_is_no_plan_is_never_replaced(if_exists: str, service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("something else", encoding="utf-8")
    with service.client(quota=None) as client, pytest.raises(PlanError, match="is not a plan file"):
        plan(client, "sync", moves([1]), save_as=path, if_exists=if_exists)
    assert path.read_text(encoding="utf-8") == "something else"


@pytest.mark.parametrize("mode", MODES)
def test_replacing_plans_anew(mode: str, service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, mode, moves([1, 2]), save_as=path, if_exists="replace")
        made = plan(client, mode, moves([2, 3]), save_as=path, if_exists="replace")
        assert [row["id"] for row in made.rows] == [2, 3]
        assert [each.name for each in tmp_path.iterdir()] == ["a.replyplan"]
        assert do(made, "apply", mode).counts == {"changed": 2}


@pytest.mark.parametrize("is_reverted", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_a_plan_that_has_the_previous_values_of_accounts_is_not_replaced(
    mode: str, is_reverted: bool, service: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        made = plan(client, mode, moves([1, 2, 3]), save_as=path)
        made.apply(rows=[0, 1], progress=False)
        if is_reverted:
            do(made, "revert")
        for if_exists, message in [
            (
                "replace",
                "it may have written 2 rows, and only this file can revert them; choose another name with save",
            ),
            ("resume", r"or options, .*; choose another name with save_as=, or look at .* with open_plan\(\)$"),
        ]:
            with pytest.raises(PlanError, match=message):
                plan(client, mode, moves([4]), save_as=path, if_exists=if_exists)
        assert do(client.open_plan(path), "revert").counts["changed"] == (0 if is_reverted else 2)


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_that_could_not_be_replaced_is_still_there(mode: str, service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, mode, moves([1]), save_as=path)
        service.add_fault(Fault(method="GET", status=401))
        with pytest.raises(AuthenticationError):
            plan(client, mode, moves([2]), save_as=path, if_exists="replace")
        service.clear_faults()
        assert [each.name for each in tmp_path.iterdir()] == ["a.replyplan"]
        assert do(client.open_plan(path), "apply").counts == {"changed": 1}


@pytest.mark.parametrize("works", [True, False])
def test_a_plan_whose_replacement_was_killed_is_kept_until_there_is_a_new_one(
    works: bool, service: Sandbox, tmp_path: Path
) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        path.rename(f"{path}.replaced")
        if not works:
            service.add_fault(Fault(method="GET", status=401))
            with pytest.raises(AuthenticationError):
                plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
            service.clear_faults()
            assert do(client.open_plan(path), "apply").counts == {"changed": 1}
        else:
            assert plan(client, "sync", moves([2]), save_as=path, if_exists="replace").counts == {"pending": 1}
        assert not path.with_name("a.replyplan.replaced").exists()


def test_the_plan_that_a_killed_replacement_has_set_aside_is_named_and_works_when_it_is_renamed(
    service: Sandbox, tmp_path: Path
) -> None:
    path, aside = tmp_path / "a.replyplan", tmp_path / "a.replyplan.replaced"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=aside)
        path.touch()
        with pytest.raises(PlanError, match=r"plan again\. .* is now .*\.replaced; to restore that plan, rename it"):
            client.open_plan(path)
        path.unlink()
        aside.rename(path)
        assert do(client.open_plan(path), "apply").counts == {"changed": 1}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_plan_that_was_applied_under_its_second_name_is_not_replaced(
    is_new: bool, mode: str, service: Sandbox, tmp_path: Path
) -> None:
    """A process was killed while it replaced the plan, and a message names the second name."""
    path, aside = tmp_path / "a.replyplan", tmp_path / "a.replyplan.replaced"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        path.rename(aside)
        do(client.open_plan(aside), "apply")
        if is_new:
            plan(client, "sync", moves([2]), save_as=path)
        sent = len(service.requests)
        with pytest.raises(PlanError, match=r"a\.replyplan\.replaced: cannot be replaced: it may have written 1 row"):
            plan(client, mode, moves([3]), save_as=path, if_exists="replace")
        assert len(service.requests) == sent
        assert path.exists() == is_new
        assert do(client.open_plan(aside), "revert").counts == {"changed": 1}


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("is_active", [True, False])
def test_a_plan_that_is_applied_while_it_is_replaced_keeps_its_file(
    is_active: bool,
    works: bool,
    service: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, aside = tmp_path / "a.replyplan", tmp_path / "a.replyplan.replaced"
    runs: list[threading.Thread] = []

    def apply() -> None:
        runs.append(threading.Thread(target=do, args=(client.open_plan(aside), "apply")))
        runs[0].start()
        while not puts(service):
            time.sleep(0.01)
        if not is_active:
            runs[0].join()
        if not works:
            service.add_fault(Fault(method="GET", status=401))

    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        service.add_fault(Fault(method="PUT", delay=1 if is_active else 0.01))
        before_the_file_is_created(monkeypatch, apply)
        if works:
            plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
            assert "a.replyplan.replaced: not deleted, because a run used the plan" in caplog.text
        else:
            with pytest.raises(AuthenticationError, match=r"the plan to be replaced is now .*a\.replyplan\.replaced$"):
                plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
        runs[0].join()
        service.clear_faults()
        assert client.open_plan(aside).counts == {"changed": 1}
        assert do(client.open_plan(aside), "revert").counts == {"changed": 1}


def before_the_file_is_created(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """What another process does after the old plan was moved aside, and before the new one is created."""
    real = _replyio.PlanFile

    class Interrupted:
        make_way = real.make_way

        @staticmethod
        def plan(*arguments: Any) -> Any:
            monkeypatch.setattr(_replyio, "PlanFile", real)
            act()
            return real.plan(*arguments)

    monkeypatch.setattr(_replyio, "PlanFile", Interrupted)


@pytest.mark.parametrize("mode", MODES)
def test_a_plan_that_another_process_has_made_meanwhile_is_never_replaced(
    mode: str, service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        before_the_file_is_created(monkeypatch, lambda: do(plan(client, "sync", moves([2]), save_as=path), "apply"))
        with pytest.raises(
            PlanError, match=r"already exists.*; the plan to be replaced is now .*a\.replyplan\.replaced"
        ):
            plan(client, mode, moves([3]), save_as=path, if_exists="replace")
        assert [(row["id"], row["status"]) for row in client.open_plan(path).rows] == [(2, "changed")]
        assert [row["id"] for row in client.open_plan(f"{path}.replaced").rows] == [1]


@pytest.mark.parametrize("works", [True, False])
def test_the_plan_that_another_process_replaces_meanwhile_is_left_to_it(
    works: bool, service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has moved the old plan aside, and creates the new one before this process does."""
    path, aside = tmp_path / "a.replyplan", tmp_path / "a.replyplan.replaced"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        if works:
            other = tmp_path / "b.replyplan"
            plan(client, "sync", moves([5]), save_as=other)
            before_the_file_is_created(monkeypatch, lambda: other.replace(aside))
            made = plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
            assert [row["id"] for row in made.rows] == [2]
            assert [row["id"] for row in client.open_plan(aside).rows] == [5]
        else:
            path.rename(aside)
            before_the_file_is_created(monkeypatch, lambda: plan(client, "sync", moves([2]), save_as=path))
            with pytest.raises(PlanError, match=r"already exists.*save_as=$"):
                plan(client, "sync", moves([3]), save_as=path, if_exists="replace")
            assert [row["id"] for row in client.open_plan(path).rows] == [2]
            assert [row["id"] for row in client.open_plan(aside).rows] == [1]


def test_a_replacement_that_is_cancelled_twice_leaves_the_old_plan(
    service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.replyplan"

    real = _replyio.PlanFile

    async def cancelled_twice(client: ReplyClient) -> None:
        loop, has_begun = asyncio.get_running_loop(), asyncio.Event()

        class Slow:
            plan = real.plan

            @staticmethod
            def make_way(path: str) -> bool:
                monkeypatch.setattr(_replyio, "PlanFile", real)
                loop.call_soon_threadsafe(has_begun.set)
                time.sleep(0.3)  # the call is cancelled before the old plan is moved aside
                return real.make_way(path)

        monkeypatch.setattr(_replyio, "PlanFile", Slow)
        data = moves([3])
        making = client.plan_contact_account_updates_async(data, save_as=path, if_exists="replace", progress=False)
        task = asyncio.ensure_future(making)
        await has_begun.wait()
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task

    with service.client(quota=None) as client:
        do(plan(client, "sync", moves([1]), save_as=path), "apply")
        asyncio.run(cancelled_twice(client))
        assert [each.name for each in tmp_path.iterdir()] == ["a.replyplan"]
        assert [(row["id"], row["status"]) for row in client.open_plan(path).rows] == [(1, "changed")]


@pytest.mark.parametrize("fault", [Fault(method="GET", status=401), None])
def test_a_plan_whose_name_cannot_be_given_back_is_named(
    fault: Fault | None,
    service: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        monkeypatch.setattr(os, "link", no_links)
        monkeypatch.setattr(os, "rename", no_links)
        told = r"the plan to be replaced is now .*a\.replyplan\.replaced$"
        if fault:
            service.add_fault(fault)
            with pytest.raises(AuthenticationError, match=told):
                plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
        else:
            before_the_file_is_created(monkeypatch, lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
            assert re.search(told, caplog.text.strip())
        assert [row["id"] for row in client.open_plan(f"{path}.replaced").rows] == [1]
        service.clear_faults()
        plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
        assert [each.name for each in tmp_path.iterdir()] == ["a.replyplan"]


@pytest.mark.skipif(os.name == "nt", reason="Windows renames in one step")
def test_a_plan_that_has_both_names_is_replaced(service: Sandbox, tmp_path: Path) -> None:
    """A process was killed while it gave the plan its name back."""
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        os.link(path, f"{path}.replaced")
        plan(client, "sync", moves([2]), save_as=path, if_exists="replace")
        assert [each.name for each in tmp_path.iterdir()] == ["a.replyplan"]


def test_a_closed_coroutine_gives_the_plan_its_name_back(service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        service.add_fault(Fault(method="GET", delay=2))

        async def main() -> None:
            planning = client.plan_contact_account_updates_async(
                moves([2]), save_as=path, if_exists="replace", progress=False
            )
            task = asyncio.ensure_future(planning)
            await asyncio.sleep(0.3)  # the request is on its way
            assert service.requests
            planning.close()
            task.cancel()

        service.clear_requests()
        asyncio.run(main())
        until = time.monotonic() + 10
        while Path(f"{path}.replaced").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert [row["id"] for row in client.open_plan(path).rows] == [1]


@pytest.mark.parametrize("if_exists", ["resume", "replace"])
def test_a_plan_whose_planning_was_killed_is_planned_anew(if_exists: str, service: Sandbox, tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "a.replyplan"
    with service.client(quota=None) as client:
        plan(client, "sync", moves([1]), save_as=path)
        with sqlite3.connect(path) as connection:
            connection.execute("DELETE FROM plan WHERE key = 'sealed'")
        connection.close()
        for do_again in (lambda: client.open_plan(path), lambda: plan(client, "sync", moves([1]), save_as=path)):
            with pytest.raises(PlanError, match=r'planning was interrupted; .* if_exists="resume" does both'):
                do_again()
        assert plan(client, "sync", moves([1]), save_as=path, if_exists=if_exists).counts == {"pending": 1}


def test_a_choice_without_a_file_or_a_word_that_is_none_is_refused(service: Sandbox, tmp_path: Path) -> None:
    with service.client(quota=None) as client:
        with pytest.raises(ConfigurationError, match=r'if_exists="resume" needs save_as='):
            plan(client, "sync", moves([1]), if_exists="resume")
        with pytest.raises(ConfigurationError, match='if_exists must be "error", "resume" or "replace"'):
            plan(client, "sync", moves([1]), save_as=tmp_path / "a", if_exists="append")


def test_accounts_are_replaced_only_through_a_plan(service: Sandbox) -> None:
    with service.client(quota=None) as client:
        with pytest.raises(ValidationError, match=r'plan_contact_account_updates\(\.\.\., mode="replace"\)'):
            client.patch_contact_accounts(moves([1]), mode="replace", progress=False)  # type: ignore[arg-type]
        assert service.requests == []
        assert not hasattr(client, "update_contact_accounts")
