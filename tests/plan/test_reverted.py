"""A plan after its revert: what a run says, and which revert is resumed."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

import pytest

from replyio import AuthenticationError
from replyio.sandbox import Fault, Sandbox

from .jobs import companies, moves

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
        assert said.startswith(f"nothing was sent: {path} was reverted by {tmp_path / 'a.revert.replyplan'}, and")
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
