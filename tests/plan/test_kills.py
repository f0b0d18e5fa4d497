"""A job that is killed with -9 at any moment loses nothing: what the file says is what the service's log says.

`REPLYIO_KILLS` is how many kills, for a run that is longer than the usual one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from replyio.sandbox import Fault, Sandbox, SandboxRequest
from support import environment, program

from .jobs import KEY, assert_written, companies, id_of, moves, plan, puts

TRIED = int(os.environ.get("REPLYIO_KILLS", "200"))
SEED = 20_261_124
ROWS = 150
CONCURRENCY = 8

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")

APPLY = """
    import replyio
    client = replyio.ReplyClient(quota=None)
    with client, client.open_plan({path!r}) as plan:
        plan.apply(progress=False)
"""


class Row(NamedTuple):
    """A row as the file has it."""

    status: str
    repeated: int


def kept(path: Path) -> dict[int, Row]:
    """The rows of a plan's file that nobody has open, by account; looked at in a copy, which changes nothing."""
    with contextlib.closing(sqlite3.connect(f"file:{copied(path, '.look')}", uri=True)) as connection:
        rows = connection.execute("SELECT account_id, status, repeated FROM rows")
        return {id: Row(status, repeated) for id, status, repeated in rows}


def copied(path: Path, suffix: str) -> Path:
    """A copy of a plan's file, with what SQLite has beside it."""
    copy = path.with_name(path.name + suffix)
    moved(path, copy)
    return copy


def moved(path: Path, to: Path) -> None:
    for beside in ("", "-wal"):
        target = to.with_name(to.name + beside)
        target.unlink(missing_ok=True)
        source = path.with_name(path.name + beside)
        if source.exists():
            shutil.copyfile(source, target)
    to.with_name(to.name + "-shm").unlink(missing_ok=True)


def shortcomings(rows: Mapping[int, Row], log: list[SandboxRequest], meant: set[int], kills: int) -> list[str]:
    """In what the file and the service's own log do not fit together."""
    found: list[str] = []
    arrived = Counter(id_of(request) for request in log if request.method == "PUT")
    good = {id_of(request) for request in log if request.method == "PUT" and request.status == 200}
    if set(rows) != meant:
        found.append(f"rows are lost: {sorted(meant - set(rows))}")
    changed = {id for id, row in rows.items() if row.status == "changed"}
    if not changed <= good:
        found.append(f"said to be changed, and were not: {sorted(changed - good)}")
    sending = {id for id, row in rows.items() if row.status == "unknown"}
    known = changed | sending
    if not set(arrived) <= known:
        found.append(f"arrived, and the file does not know it: {sorted(set(arrived) - known, key=str)}")
    if len(sending) > CONCURRENCY:
        found.append(f"{len(sending)} rows are in flight")
    if set(rows) - known - {id for id, row in rows.items() if row.status == "pending"}:
        found.append("a row has another status")
    repeats = sum(arrived.values()) - len(arrived)
    if repeats > CONCURRENCY * kills:
        found.append(f"{repeats} updates were sent again after {kills} kills")
    unreported = {id for id, count in arrived.items() if id in rows and count > 1 + rows[id].repeated}
    if unreported:
        found.append(f"sent again, and not said so: {sorted(unreported, key=str)}")
    return found


def killed(path: Path, sandbox: Sandbox, moment: random.Random) -> bool:
    """Applies a plan in a process that is killed. Gives whether it was, and had not come to its end."""
    already = len(sandbox.requests)
    # In the first tries the file is opened and looked at; in the others a number of updates is out.
    by_time = moment.random() < 0.25
    patience = moment.uniform(0.05, 0.5) if by_time else 20.0
    requests = 10**9 if by_time else already + 1 + int(40 * moment.random() ** 2)
    child = subprocess.Popen(
        program(APPLY.format(path=str(path))), env=environment(sandbox, REPLY_API_KEY=KEY), stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + patience
        while child.poll() is None and time.monotonic() < until and sandbox_count(sandbox) < requests:
            time.sleep(0.002)
        time.sleep(moment.uniform(0, 0.004))
    finally:
        child.kill()
        child.wait(10)
    return child.returncode < 0


def sandbox_count(sandbox: Sandbox) -> int:
    return len(sandbox._sandbox.requests())


def settled(sandbox: Sandbox) -> list[SandboxRequest]:
    """The log, when what had arrived has been dealt with. Who was killed is not answered any more."""
    time.sleep(0.05)
    return sandbox.requests


def saved(sandbox: Sandbox, path: Path) -> None:
    with sandbox.client(quota=None, api_key=KEY) as client:
        plan(client, "sync", moves(range(1, ROWS + 1)), save_as=path).close()
    sandbox.clear_requests()


def job_after_job(folder: Path, seed: int, tries: int) -> tuple[int, int, list[str]]:
    """Kills jobs that often, each until it comes to its end. Gives kills, what was sent again, and what fell short."""
    folder.mkdir()
    moment = random.Random(seed)  # noqa: S311 - it is to come the same way again
    meant = {id: {"city": f"Bergen {id}"} for id in range(1, ROWS + 1)}
    kills = repeats = plans = 0
    short: list[str] = []
    while kills < tries:
        plans += 1
        assert plans <= tries + 10, "the plans end before they are killed"
        path = folder / f"{plans}.replyplan"
        with Sandbox(accounts=companies(ROWS)) as sandbox:
            before = sandbox.accounts
            saved(sandbox, path)
            # The answer takes a moment, so that some are on their way at any time.
            sandbox.add_fault(Fault(method="PUT", delay=0.004, applied=True))
            mine = 0
            for _ in range(100):
                if kills + mine < tries:
                    was_killed = killed(path, sandbox, moment)
                else:
                    subprocess.run(
                        program(APPLY.format(path=str(path))),
                        env=environment(sandbox, REPLY_API_KEY=KEY),
                        check=True,
                        timeout=30,
                    )
                    was_killed = False
                mine += was_killed
                rows = kept(path)
                short += shortcomings(rows, settled(sandbox), set(meant), mine)
                if not was_killed:
                    break
            kills += mine
            if Counter(row.status for row in rows.values()) != {"changed": ROWS}:
                short.append("the plan did not come to its end")
            assert_written(sandbox, before, meant, once=False)
            repeats += len(puts(sandbox)) - ROWS
    return kills, repeats, short


@pytest.mark.timeout(120 + 4 * TRIED)
def test_nothing_is_lost_by_kill_9_and_what_is_sent_again_is_bounded(
    tmp_path: Path, reliability: Callable[..., None]
) -> None:
    # A process that starts waits, and so does the judge: two jobs at a time take little more than one.
    with ThreadPoolExecutor(2) as pool:
        done = list(
            pool.map(job_after_job, (tmp_path / "a", tmp_path / "b"), (SEED, SEED + 1), ((TRIED + 1) // 2, TRIED // 2))
        )
    short = [complaint for _, _, complaints in done for complaint in complaints]
    kills, repeats = (sum(each[index] for each in done) for index in (0, 1))
    reliability("kill -9", tried=kills, short=len(short), repeats=repeats)
    assert kills == TRIED
    assert not short, short[:5]


def test_the_judge_sees_a_file_that_forgets_what_was_sent(tmp_path: Path) -> None:
    # The file as it was before: as if nothing had been committed before it was sent.
    path = tmp_path / "forgets.replyplan"
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        saved(sandbox, path)
        earlier = copied(path, ".earlier")
        sandbox.add_fault(Fault(method="PUT", delay=0.004, applied=True))
        child = subprocess.Popen(
            program(APPLY.format(path=str(path))),
            env=environment(sandbox, REPLY_API_KEY=KEY),
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while len(puts(sandbox)) < 20 and time.monotonic() < until:
            time.sleep(0.002)
        child.kill()
        child.wait(10)
        meant = set(range(1, ROWS + 1))
        assert shortcomings(kept(path), settled(sandbox), meant, 1) == []
        moved(earlier, path)
        [complaint] = shortcomings(kept(path), settled(sandbox), meant, 1)
        assert complaint.startswith("arrived, and the file does not know it")


def test_the_judge_sees_lost_rows_false_reports_and_unsaid_repeats() -> None:
    with Sandbox(accounts=companies(3)) as sandbox, sandbox.client(quota=None) as client:
        for id in (1, 2, 2):
            client.update_contact_account(id, name="New")
        log = sandbox.requests
    right = {1: Row("changed", 0), 2: Row("changed", 1), 3: Row("pending", 0)}
    meant = {1, 2, 3}
    assert shortcomings(right, log, meant, 1) == []
    for wrong, says in [
        ({1: Row("changed", 0), 2: Row("changed", 1)}, "lost"),
        (right | {3: Row("changed", 0)}, "were not"),
        (right | {1: Row("pending", 0)}, "does not know"),
        (right | {2: Row("changed", 0)}, "not said so"),
        (right | {3: Row("failed", 0)}, "another status"),
    ]:
        [complaint] = shortcomings(wrong, log, meant, 1)
        assert says in complaint
    assert "sent again" in shortcomings(right, log, meant, 0)[0]
