"""What a plan shows is what its file has, although the counts of a file that no one writes are kept."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

import replyio
from replyio.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 40


def shown(plan: replyio.Plan) -> tuple[object, ...]:
    return plan.counts, plan.requests, repr(plan), plan._repr_html_()


@pytest.mark.parametrize("pause", [0.0, 0.06])
def test_every_view_shows_each_write_of_any_other(tmp_path: Path, pause: float) -> None:
    accounts = [{"id": number, "name": f"company {number}"} for number in range(1, ROWS + 1)]
    path = tmp_path / "a.replyplan"
    with Sandbox(accounts) as sandbox, sandbox.client(quota=None) as client:
        plan = client.plan_contact_account_updates(
            [{"id": number, "city": "Oslo"} for number in range(1, ROWS + 1)], save_as=path, progress=False
        )
        other = client.open_plan(path)
        for done in range(1, ROWS + 1):
            # Both views have counted before the write.
            assert shown(plan) == shown(other)
            time.sleep(pause)
            assert shown(plan) == shown(other)
            plan.apply(limit=1, progress=False)
            assert plan.counts["changed"] == other.counts["changed"] == done
            assert other.requests == client.open_plan(path).requests


def test_a_plan_that_another_one_has_replaced_is_not_shown(tmp_path: Path) -> None:
    path, second = tmp_path / "a.replyplan", tmp_path / "b.replyplan"
    with Sandbox([{"id": 1, "name": "one"}]) as sandbox, sandbox.client(quota=None) as client:
        plan = client.plan_contact_account_updates([{"id": 1, "city": "Oslo"}], save_as=path, progress=False)
        client.plan_contact_account_updates([{"id": 1, "city": "Bergen"}], save_as=second, progress=False)
        time.sleep(0.1)
        assert "1 to change" in repr(plan)
        assert "1 to change" in repr(plan)
        os.replace(second, path)  # noqa: PTH105 - as a program would
        assert "was replaced by another plan" in repr(plan)
        path.unlink()
        assert "1 to change" not in repr(plan)


def test_two_clients_with_other_quotas_estimate_by_their_own(tmp_path: Path) -> None:
    accounts = [{"id": number, "name": f"company {number}"} for number in range(1, 301)]
    table = [{"id": number, "city": "Oslo"} for number in range(1, 301)]
    with Sandbox(accounts) as sandbox, sandbox.client(quota=None) as client:
        path = tmp_path / "a.replyplan"
        client.plan_contact_account_updates(table, save_as=path, progress=False)
        time.sleep(0.1)
        few = sandbox.client(quota=replyio.Quota(3, 3000, shared=False)).open_plan(path)
        many = client.open_plan(path)
        for _ in range(2):
            assert few.requests is not None
            assert many.requests is not None
            assert few.requests > many.requests


def test_a_view_does_not_follow_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox([{"id": 1, "name": "one"}]) as sandbox, sandbox.client(quota=None) as client:
        for name, city in (("first", "Oslo"), ("second", "Bergen")):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            client.plan_contact_account_updates([{"id": 1, "city": city}], save_as="a.replyplan", progress=False)
        plan = client.open_plan("a.replyplan")
        time.sleep(0.1)
        assert plan.counts["pending"] == 1
        monkeypatch.chdir(tmp_path / "first")
        client.open_plan(tmp_path / "second" / "a.replyplan").apply(progress=False)
        assert plan.counts["changed"] == 1
