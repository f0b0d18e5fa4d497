"""A plan that was given no name is kept in the state directory, so that it can be resumed and reverted."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio import PlanError, _state
from replyio.sandbox import Fault, Sandbox

from .jobs import companies, do, moves, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = 86_400
posix = pytest.mark.skipif(os.name != "posix", reason="files have no such modes there")


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(10)) as sandbox:
        yield sandbox


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def kept_files() -> list[Path]:
    return sorted(_state.folder().iterdir())


def one_shot(client: replyio.ReplyClient, mode: str, data: object, **options: Any) -> replyio.ApplyResult:
    if mode == "sync":
        return client.patch_contact_accounts(data, progress=False, **options)
    return asyncio.run(client.patch_contact_accounts_async(data, progress=False, **options))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_one_shot_call_keeps_its_plan_and_can_be_reverted_later(mode: str, service: Sandbox, temporary: Path) -> None:
    with service.client(quota=None) as client:
        result = one_shot(client, mode, moves([1, 2]))
        assert [Path(result.path)] == kept_files()
        assert list(temporary.iterdir()) == []
        assert do(client.open_plan(result.path), "revert").counts == {"changed": 2}
    assert service.accounts[1].city == "Oslo"


def test_a_result_is_all_there_after_its_plan_and_its_client_are_gone(service: Sandbox) -> None:
    with service.client(quota=None) as client:
        with plan(client, "sync", [*moves([1]), {"id": 99, "city": "x"}]) as made:
            result = do(made, "apply")
        made.close()
        del made
    assert result.counts == {"changed": 1, "not_found": 1}
    assert [row["status"] for row in result.rows] == ["changed", "not_found"]
    assert [row["row"] for row in result.failures] == [1]
    assert [change["after"] for change in result.changes] == ["Bergen 1"]
    assert "Bergen 1" in result._repr_html_()
    with pytest.raises(replyio.ReplyError, match="1 of 2 rows not done"):
        result.raise_for_failures()
    assert result.plan.counts == result.counts
    reverted = result.revert(progress=False)
    assert reverted.counts == {"changed": 1}
    assert reverted.plan.path == result.path.replace(".replyplan", ".revert.replyplan")
    assert service.accounts[1].city == "Oslo"


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_error_that_stops_a_one_shot_call_says_where_its_plan_is_and_what_it_says_runs(
    mode: str, service: Sandbox
) -> None:
    service.add_fault(Fault(method="PUT", status=401))
    with service.client(quota=None) as client:
        with pytest.raises(replyio.AuthenticationError) as caught:
            one_shot(client, mode, moves([1, 2]))
        assert str(caught.value) == caught.value.message
        assert "\n" not in caught.value.message
        call = re.search(r"resume it with (client\.open_plan\(.*\)\.apply\(\))$", caught.value.message)
        assert call, caught.value.message
        service.clear_faults()
        result = eval(call[1].replace("apply()", "apply(progress=False)"), {"client": client})  # noqa: S307 - our own hint
        assert result.counts == {"changed": 2}


@posix
def test_the_state_directory_is_its_owners_only(service: Sandbox) -> None:
    folder = _state.folder()
    folder.mkdir(parents=True, mode=0o755)
    folder.chmod(0o755)
    with service.client(quota=None) as client:
        path = Path(plan(client, "sync", moves([1])).path)
    assert (path.parent, path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (folder, 0o700, 0o600)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"REPLYIO_STATE_DIR": "/elsewhere"}, "/elsewhere/plans"),
        ({"XDG_STATE_HOME": "/state"}, "/state/replyio/plans"),
    ],
)
@posix
def test_the_state_directory_can_be_moved(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REPLYIO_STATE_DIR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(_state.folder()) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it has another path")
def test_a_process_without_home_has_the_state_directory_of_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    for name in ("REPLYIO_STATE_DIR", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert str(_state.folder()) == f"{pwd.getpwuid(os.getuid()).pw_dir}/.local/state/replyio/plans"


def test_where_nothing_can_be_written_plans_are_temporary_and_one_notice_says_so(
    service: Sandbox, temporary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("REPLYIO_STATE_DIR", str(blocked))
    monkeypatch.setattr(_state, "_has_told", False)
    with caplog.at_level(logging.WARNING, "replyio"), service.client(quota=None) as client:
        result = client.patch_contact_accounts(moves([1, 2]), progress=False)
        made = plan(client, "sync", moves([3]))
        assert [Path(each.path).is_file() for each in (result, made)] == [True, True]
        assert Path(made.path).is_relative_to(temporary)
        assert result.revert(progress=False).counts == {"changed": 2}
        assert len(caplog.messages) == 1
        assert "is not writable" in caplog.messages[0]
        assert "REPLYIO_STATE_DIR" in caplog.messages[0]
        assert replyio.plans() == []
        del result, made
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("temporary")
def test_a_temporary_plan_whose_name_was_told_stays(
    service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("REPLYIO_STATE_DIR", str(tmp_path / "file"))
    monkeypatch.setattr(_state, "_has_told", True)
    with service.client(quota=None) as client:
        with pytest.raises(PlanError, match=r"max_changes=1 .*apply it with client\.open_plan") as caught:
            client.patch_contact_accounts(moves([1, 2]), max_changes=1, progress=False)
        path = re.search(r"open_plan\('(.*?)'\)", str(caught.value))
        del caught
        assert path
        assert client.open_plan(path[1]).counts == {"pending": 2}


def test_the_plans_are_listed_with_counts_and_age_the_newest_first(service: Sandbox, tmp_path: Path) -> None:
    assert replyio.plans() == []
    with service.client(quota=None) as client:
        first = plan(client, "sync", moves([1]))
        result = client.patch_contact_accounts(moves([2, 3]), progress=False)
        result.revert(progress=False)
        plan(client, "sync", moves([4]), save_as=tmp_path / "named.replyplan")
    found = replyio.plans()
    assert [(kept.counts, kept.is_revert) for kept in found] == [
        ({"changed": 2}, True), ({"changed": 2}, False), ({"pending": 1}, False),
    ]  # fmt: skip
    assert found[-1].path == first.path
    assert found[-1].source == "a table of 1 row and 2 columns"
    assert all(datetime.timedelta(0) <= kept.age < datetime.timedelta(minutes=5) for kept in found)
    (_state.folder() / "other.replyplan").write_text("no plan", encoding="utf-8")
    assert [kept.error for kept in replyio.plans() if kept.error] == [
        f"plan file {_state.folder() / 'other.replyplan'}: is not a plan file"
    ]


def age(path: Path, days: float) -> None:
    """Moves the time of a file into the past."""
    moment = path.stat().st_mtime - days * DAY
    os.utime(path, (moment, moment))


def mark_of(path: Path) -> Path:
    """The file that says since when replyio sees a plan as old."""
    return Path(f"{path}.old")


def test_a_plan_goes_when_it_is_thirty_days_old_and_was_seen_so_a_week_ago(
    service: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    with service.client(quota=None) as client:
        old, young = (Path(plan(client, "sync", moves([id])).path) for id in (1, 2))
        age(old, 31)
        age(young, 29)
        new = Path(plan(client, "sync", moves([3])).path)
        assert kept_files() == sorted([old, mark_of(old), young, new])
        age(mark_of(old), 6)
        plan(client, "sync", moves([3]))
        assert old.exists()
        age(mark_of(old), 2)
        with caplog.at_level(logging.INFO, "replyio"):
            plan(client, "sync", moves([3]))
    assert not old.exists()
    assert not mark_of(old).exists()
    assert young.exists()
    assert [message for message in caplog.messages if "deleted" in message] == [
        f"{old}: deleted, because replyio last wrote this plan more than 30 days ago"
    ]


@pytest.mark.parametrize("moment", [0.0, 1_893_456_000.0])
def test_a_clock_that_a_test_replaced_does_not_delete_a_plan(moment: float, service: Sandbox) -> None:
    with service.client(quota=None) as client:
        made = client.patch_contact_accounts(moves([1]), progress=False)
        age(Path(made.path), 8)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: moment)
            others = [plan(client, "sync", moves([id])) for id in (2, 3, 4)]
            assert kept_files() == sorted([Path(made.path), *(Path(other.path) for other in others)])
        assert do(others[0], "apply").counts == {"changed": 1}
        assert made.revert(progress=False).counts == {"changed": 1}


def test_a_system_clock_that_was_wrong_for_a_while_does_not_delete_a_plan(service: Sandbox) -> None:
    def is_kept_by_the_next_plan(kept: Path) -> bool:
        plan(client, "sync", moves([2]))
        return kept.exists()

    with service.client(quota=None) as client:
        made = Path(client.patch_contact_accounts(moves([1]), progress=False).path)
        age(made, 400)
        assert is_kept_by_the_next_plan(made)
        assert is_kept_by_the_next_plan(made)
        seen_in = mark_of(made).stat().st_mtime
        age(mark_of(made), -400)
        assert is_kept_by_the_next_plan(made)
        assert mark_of(made).stat().st_mtime == pytest.approx(seen_in, abs=60)
        age(made, -400)
        age(mark_of(made), 8)
        assert is_kept_by_the_next_plan(made)
        assert not mark_of(made).exists()


def test_a_plan_in_use_stays_whatever_the_clock_says(service: Sandbox) -> None:
    with service.client(quota=None) as client:
        made = plan(client, "sync", moves([1, 2, 3]))
        service.add_fault(Fault(method="PUT", delay=1, times=1))
        running = threading.Thread(target=lambda: do(made, "apply"))
        running.start()
        while not any(request.method == "PUT" for request in service.requests):
            time.sleep(0.01)
        mark_of(Path(made.path)).touch()
        for file in _state.folder().iterdir():
            os.utime(file, (0, 0))
        new = plan(client, "sync", moves([3]))
        running.join()
        assert kept_files() == sorted([Path(made.path), mark_of(Path(made.path)), Path(new.path)])
        assert made.counts == {"changed": 3}


def test_pruning_removes_plans_but_not_those_whose_rows_may_have_been_written(service: Sandbox) -> None:
    with service.client(quota=None, max_attempts=1, attempt_timeout=0.3) as client:
        plan(client, "sync", moves([1]))
        changed = client.patch_contact_accounts(moves([2]), progress=False)
        service.add_fault(Fault(method="PUT", close=True, applied=True))
        unknown = client.patch_contact_accounts(moves([3]), progress=False)
    assert unknown.counts == {"unknown": 1}
    for file in kept_files():
        age(file, 31)
    removed, stay = _state.prune()
    assert (removed, {kept.path for kept in stay}) == (1, {changed.path, unknown.path})
    for path in (changed.path, unknown.path):
        assert mark_of(Path(path)) in kept_files()
        age(mark_of(Path(path)), 8)
    assert _state.prune() == (0, [])
    assert kept_files() == []


def test_a_plan_that_was_applied_can_be_reverted_after_pruning(service: Sandbox) -> None:
    with service.client(quota=None) as client:
        result = client.patch_contact_accounts(moves([1]), progress=False)
        assert _state.prune()[0] == 0
        assert do(client.open_plan(result.path), "revert").counts == {"changed": 1}
        assert _state.prune()[0] == 0, "the plan and its revert can be reverted too"
    assert service.accounts[1].city == "Oslo"


def test_a_plan_can_be_read_without_a_key_and_says_how_to_apply_it(
    service: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REPLY_API_KEY", raising=False)
    with service.client(quota=None) as client:
        path = plan(client, "sync", moves([1, 2])).path
        seen = replyio.read_plan(path)
        assert (seen.counts, seen.requests, len(seen.changes)) == ({"pending": 2}, None, 2)
        for action in ("apply", "revert", "retry_failed"):
            with pytest.raises(PlanError, match=r"read_plan\(\) only reads") as caught:
                do(seen, action)
        call = re.search(r"client\.open_plan\(.*?\)", str(caught.value))
        assert call
        assert do(eval(call[0], {"client": client}), "apply").counts == {"changed": 2}  # noqa: S307 - our own hint
        assert seen.counts == {"changed": 2}


@pytest.mark.parametrize("way", ["prune", "time"])
def test_a_plan_and_its_revert_stay_together(way: str, service: Sandbox) -> None:
    """Without its revert, a plan could be applied again."""
    with service.client(quota=None, max_attempts=1, attempt_timeout=0.3) as client:
        service.add_fault(Fault(method="PUT", close=True, applied=True, id=1))
        result = client.patch_contact_accounts(moves([1, 2]), progress=False)
        service.clear_faults()
        revert = do(result.plan, "revert")
        assert (result.counts, revert.counts) == ({"unknown": 1, "changed": 1}, {"changed": 2})
        if way == "prune":
            assert (_state.prune()[0], len(kept_files())) == (0, 2)
        else:
            for file in kept_files():
                age(file, 31)
            result.plan.counts  # noqa: B018 - reading writes nothing
            os.utime(result.path)
            for _ in range(2):
                plan(client, "sync", moves([3]))
                for file in kept_files():
                    if file.name.endswith(".old"):
                        age(file, 8)
            assert {Path(result.path), Path(revert.path)} <= set(kept_files())
        with pytest.raises(PlanError, match="was reverted"):
            do(client.open_plan(result.path), "apply")


def test_many_kept_plans_are_looked_at_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    core = _state._replyio
    plan_file = SimpleNamespace(origin=lambda file: (looks.append(file), core.PlanFile.origin(file))[1])
    monkeypatch.setattr(_state, "_replyio", SimpleNamespace(**{**vars(core), "PlanFile": plan_file}))
    for number in range(100):
        (_state._prepared() / f"{number}.replyplan").touch()
    _state.remove_expired(time.time())
    assert len(looks) == 100
