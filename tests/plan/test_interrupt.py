"""A plan that is interrupted ends soon, leaves its file right, says how to go on, and another process does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from replyio import PlanError
from replyio.sandbox import Fault, Sandbox
from support import environment, program, run

from .jobs import KEY, assert_written, companies, do, fresh, moves, plan, puts, succeeded

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as POSIX has them")

ROWS = 40
IDS = range(1, ROWS + 1)
MEANT = {id: {"city": f"Bergen {id}"} for id in IDS}

APPLY = """
    import replyio
    client = replyio.ReplyClient(api_key={key!r}, quota={quota})
    with client, client.open_plan({path!r}) as plan:
        print(plan.apply(progress=False).counts)
"""
PLAN = """
    import replyio
    client = replyio.ReplyClient(quota=None)
    rows = [{{"id": id, "city": "Bergen"}} for id in range(1, 41)]
    client.plan_contact_account_updates(rows, save_as={path!r}, progress=False)
"""
READ = """
    import os, signal, threading, time
    from replyio import read_plan
    def interrupt():
        global sent
        sent = time.monotonic()
        os.kill(os.getpid(), signal.SIGINT)
    waits = []
    for _ in range(3):  # another program may delay one of them
        threading.Timer(0.1, interrupt).start()
        try:
            read_plan({path!r})
        except KeyboardInterrupt:
            waits.append(time.monotonic() - sent)
    print(min(waits))
"""
MANY_ROWS = """
    INSERT INTO rows SELECT number, NULL, NULL, 'not_found', NULL, NULL, 1, 0, 0, 0, 0, NULL, 0
    FROM (WITH RECURSIVE numbers(number) AS (SELECT 1000 UNION ALL SELECT number + 1 FROM numbers LIMIT 2000000)
          SELECT number FROM numbers)
"""


class Child:
    """A program that is sent signals."""

    def __init__(self, code: str, sandbox: Sandbox) -> None:
        self._process = subprocess.Popen(
            program(code),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(sandbox, REPLY_API_KEY=KEY),
        )
        self.err = ""
        self.out = ""

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def until(self, happened: Callable[[], bool]) -> None:
        """Waits for something to happen while it runs."""
        given_up = time.monotonic() + 20
        while not happened():
            assert self._process.poll() is None, self._process.communicate()
            assert time.monotonic() < given_up
            time.sleep(0.005)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> float:
        """Waits for its end. Gives how long that took."""
        began = time.monotonic()
        self.out, self.err = self._process.communicate(timeout=20)
        return time.monotonic() - began

    @property
    def code(self) -> int:
        code: int = self._process.returncode
        return code

    def assert_interrupted(self) -> None:
        """It ended as Python does at Ctrl-C."""
        assert self.err.rstrip().endswith("KeyboardInterrupt"), self.err
        assert self.code == -signal.SIGINT

    @property
    def summary(self) -> list[str]:
        """What the package itself said."""
        return [line for line in self.err.splitlines() if line.startswith("replyio:")]


def saved(sandbox: Sandbox, path: str) -> None:
    """Plans to move every company."""
    with sandbox.client(quota=None, api_key=KEY) as client:
        plan(client, "sync", moves(IDS), save_as=path).close()
    sandbox.clear_requests()


def go_on(sandbox: Sandbox, path: str) -> dict[str, int]:
    """What another process makes of the plan."""
    sandbox.clear_faults()
    done = run(APPLY.format(key=KEY, quota=None, path=path), sandbox)
    counts: dict[str, int] = json.loads(done.stdout.replace("'", '"') or "{}")
    assert counts, done.stderr
    return counts


def test_ctrl_c_while_planning_ends_at_once_and_leaves_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "never.replyplan"
    with Sandbox(accounts=companies(ROWS), faults=[Fault(delay=30)]) as sandbox:
        with Child(PLAN.format(path=str(path)), sandbox) as child:
            child.until(lambda: bool(sandbox.requests))
            child.signal(signal.SIGINT)
            assert child.end() < 2
        child.assert_interrupted()
        assert len(child.summary) == 1
        assert "no account was changed" in child.summary[0]
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_applying_finishes_what_is_in_flight(times: int, tmp_path: Path) -> None:
    path = str(tmp_path / "stop.replyplan")
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        before = sandbox.accounts
        saved(sandbox, path)
        sandbox.add_fault(Fault(method="PUT", delay=0.15, applied=True))
        with Child(APPLY.format(key=KEY, quota=None, path=path), sandbox) as child:
            child.until(lambda: len(puts(sandbox)) > 10)
            for _ in range(times):
                child.signal(signal.SIGINT)
                time.sleep(0.01)
            assert child.end() < 2
        assert child.err.rstrip().endswith("KeyboardInterrupt"), child.err
        assert len(child.summary) == 1
        assert f"open_plan({path!r}).apply()" in child.summary[0]
        assert f"replyio apply {path}" in child.summary[0]
        assert 0 < len(puts(sandbox)) < ROWS
        if times == 1:
            assert f"stopped with {len(puts(sandbox))} of {ROWS} rows done" in child.summary[0]
        assert go_on(sandbox, path) == {"changed": ROWS}
        assert_written(sandbox, before, MEANT, once=times == 1)
        assert sum(succeeded(sandbox).values()) <= ROWS + 8


def test_ctrl_c_abandons_what_does_not_end(tmp_path: Path) -> None:
    path = str(tmp_path / "stop.replyplan")
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        before = sandbox.accounts
        saved(sandbox, path)
        sandbox.add_fault(Fault(method="PUT", delay=60, applied=True))
        with Child(APPLY.format(key=KEY, quota=None, path=path), sandbox) as child:
            child.until(lambda: bool(puts(sandbox)))
            child.signal(signal.SIGINT)
            assert child.end() < 5
        child.assert_interrupted()
        with sandbox.client(quota=None, api_key=KEY) as client, client.open_plan(path) as opened:
            counts = opened.counts
        assert counts == {"unknown": 1, "pending": ROWS - 1}
        assert go_on(sandbox, path) == {"changed": ROWS}
        assert_written(sandbox, before, MEANT, once=False)


def test_ctrl_c_ends_a_wait_for_the_quota(tmp_path: Path) -> None:
    path, quota = str(tmp_path / "stop.replyplan"), "replyio.Quota(20, 1000, bulk_share=1)"
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        before = sandbox.accounts
        saved(sandbox, path)
        with Child(APPLY.format(key=KEY, quota=quota, path=path), sandbox) as child:
            # The list was read once to plan and once to look again.
            child.until(lambda: len(sandbox.requests) >= 19)
            time.sleep(0.3)
            child.signal(signal.SIGINT)
            assert child.end() < 1
        child.assert_interrupted()
        seen = len(puts(sandbox))
        assert f"stopped with {seen} of {ROWS} rows done" in child.summary[0]
        assert go_on(sandbox, path) == {"changed": ROWS}
        assert_written(sandbox, before, MEANT)


def test_the_end_of_the_process_by_sigterm_leaves_the_file_right(tmp_path: Path) -> None:
    path = str(tmp_path / "stop.replyplan")
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        before = sandbox.accounts
        saved(sandbox, path)
        sandbox.add_fault(Fault(method="PUT", delay=0.05, applied=True))
        with Child(APPLY.format(key=KEY, quota=None, path=path), sandbox) as child:
            child.until(lambda: len(puts(sandbox)) > 5)
            child.signal(signal.SIGTERM)
            assert child.end() < 1
        assert child.code == -signal.SIGTERM
        assert go_on(sandbox, path) == {"changed": ROWS}
        assert_written(sandbox, before, MEANT, once=False)
        assert sum(succeeded(sandbox).values()) <= ROWS + 8


def test_a_second_run_is_refused_at_once_and_told_who_has_the_plan_and_looking_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "mine.replyplan")
    code = """
        import time, replyio
        client = replyio.ReplyClient(api_key={key!r}, quota=None)
        plan = client.open_plan({path!r})
        assert sum(plan.counts.values()) == len(plan.rows)
        began = time.monotonic()
        try:
            plan.apply(progress=False)
        except replyio.PlanError as error:
            print(time.monotonic() - began, error)
    """
    with Sandbox(accounts=companies(ROWS)) as sandbox, sandbox.client(quota=None, api_key=KEY) as client:
        made = plan(client, "sync", moves(IDS), save_as=path)
        sandbox.add_fault(Fault(method="PUT", delay=0.6))
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(made.apply, progress=False)
            until = time.monotonic() + 10
            while not puts(sandbox) and time.monotonic() < until:
                time.sleep(0.005)
            done = run(code.format(key=KEY, path=path), sandbox)
            with pytest.raises(PlanError, match="is in use by this process"):
                client.open_plan(path).apply(progress=False)
            assert running.result(30).counts == {"changed": ROWS}
        took, _, message = done.stdout.partition(" ")
        assert float(took or 99) < 1, done.stderr
        assert f"is in use by process {os.getpid()}" in message
        assert " since " in message
        assert len(puts(sandbox)) == ROWS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_forked_during_a_run_cannot_use_plans_and_the_parent_still_can(tmp_path: Path) -> None:
    path = str(tmp_path / "forked.replyplan")
    # A program of its own: a fork of the process of all tests would warn about its threads.
    code = """
        import os, threading, time, replyio
        client = replyio.ReplyClient(api_key={key!r}, quota=None)
        plan = client.open_plan({path!r})
        results = []
        thread = threading.Thread(target=lambda: results.append(plan.apply(progress=False)))
        thread.start()
        time.sleep(0.3)
        child = os.fork()
        if child == 0:
            told = 0
            for use in (lambda: plan.counts, lambda: len(plan.rows), lambda: plan.apply(progress=False), plan.revert,
                        plan.retry_failed, lambda: client.open_plan({path!r}), lambda: client.open_plan({other!r}),
                        lambda: client.plan_contact_account_updates([{{"id": 1}}], save_as={other!r} + "2")):
                try:
                    use()
                except replyio.PlanError:
                    told += 1
            del plan
            os._exit(told)
        _, status = os.waitpid(child, 0)
        thread.join()
        print(os.waitstatus_to_exitcode(status), results[0].counts["changed"])
    """
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        before = sandbox.accounts
        saved(sandbox, path)
        # Another plan too: SQLite's own locks may have been copied as held.
        other = str(tmp_path / "other.replyplan")
        saved(sandbox, other)
        sandbox.add_fault(Fault(method="PUT", delay=0.2))
        done = run(code.format(key=KEY, path=path, other=other), sandbox)
        assert done.stdout.split() == ["8", str(ROWS)], (done.stdout, done.stderr)
        assert_written(sandbox, before, MEANT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_forked_beside_an_open_plan_can_use_it(tmp_path: Path) -> None:
    path = str(tmp_path / "forked.replyplan")
    code = """
        import os, replyio
        client = replyio.ReplyClient(api_key={key!r}, quota=None)
        plan = client.open_plan({path!r})
        child = os.fork()
        if child == 0:
            os._exit(plan.apply(progress=False).counts["changed"])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), plan.counts["changed"])
    """
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        saved(sandbox, path)
        assert run(code.format(key=KEY, path=path), sandbox).stdout.split() == [str(ROWS), str(ROWS)]


def test_the_process_exits_with_a_plan_running_in_a_thread(tmp_path: Path) -> None:
    code = """
        import sys, threading, time, replyio
        client = replyio.ReplyClient(api_key={key!r}, quota=None)
        plan = client.open_plan({path!r})
        thread = threading.Thread(target=plan.apply, kwargs={{"progress": False}}, daemon=True)
        thread.start()
        time.sleep({pause})
        sys.exit(7)
    """
    runs, slowest = 20, 0.0
    for number in range(runs):
        path = str(tmp_path / f"exit{number}.replyplan")
        with Sandbox(accounts=companies(ROWS)) as sandbox:
            before = sandbox.accounts
            saved(sandbox, path)
            sandbox.add_fault(Fault(method="PUT", delay=0.02, applied=True))
            began = time.monotonic()
            done = run(code.format(key=KEY, path=path, pause=0.02 + 0.01 * number), sandbox, timeout=20)
            slowest = max(slowest, time.monotonic() - began)
            assert done.returncode == 7, done.stderr
            assert done.stderr == ""
            with sandbox.client(quota=None, api_key=KEY) as client, client.open_plan(path) as opened:
                sandbox.clear_faults()
                assert do(opened, "apply").counts == {"changed": ROWS}
            assert_written(sandbox, before, MEANT, once=False)
            assert sum(succeeded(sandbox).values()) <= ROWS + 8
    assert slowest < 3


def test_a_plan_that_was_closed_is_still_usable(tmp_path: Path) -> None:
    with Sandbox(accounts=companies(ROWS)) as sandbox, sandbox.client(quota=None, api_key=fresh()) as client:
        made = plan(client, "sync", moves(IDS), save_as=tmp_path / "closed.replyplan")
        made.close()
        assert made.counts == {"pending": ROWS}
        assert do(made, "apply").counts == {"changed": ROWS}
        assert do(made, "revert").counts == {"changed": ROWS}


def test_planning_that_needs_no_request_stops_too(tmp_path: Path, reply_sandbox: Sandbox) -> None:
    path = tmp_path / "a.replyplan"
    rows = [{"id": 4711, "city": "Bergen"}] * 100_000

    async def cancelled() -> None:
        planning = client.plan_contact_account_updates_async(rows, save_as=path, progress=False)
        task = asyncio.ensure_future(planning)
        while not path.exists():  # noqa: ASYNC110 - the core makes it
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with reply_sandbox.client() as client:
        asyncio.run(cancelled())
    assert not path.exists()


def test_ctrl_c_ends_the_read_of_a_large_plan(tmp_path: Path, reply_sandbox: Sandbox) -> None:
    path = tmp_path / "large.replyplan"
    saved(reply_sandbox, str(path))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(MANY_ROWS)
    ended = run(READ.format(path=str(path)), reply_sandbox)
    assert float(ended.stdout) < 0.2, ended.stderr
