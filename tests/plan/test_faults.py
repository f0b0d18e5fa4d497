"""Plans on a bad day: the quota, refused keys, outages, Ctrl-C, other processes, kill -9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import replyio
from replyio.sandbox import Fault, Sandbox

KILLS = int(os.environ.get("REPLYIO_KILLS", "20"))
IN_FLIGHT = 8


def accounts(count: int) -> list[dict[str, Any]]:
    return [{"id": 1 + number, "name": f"Company {number}", "city": "Oslo"} for number in range(count)]


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": 1 + number, "city": "Bergen"} for number in range(count)]


def writes(sandbox: Sandbox) -> Counter[int]:
    return Counter(int(each.path.rsplit("/", 1)[1]) for each in sandbox.requests if each.method == "PUT")


def program(sandbox: Sandbox, source: str, **options: Any) -> subprocess.Popen[bytes]:
    """A program in a process of its own, with `client`."""
    head = f"""
        import os, sys, threading, time, signal, replyio
        from replyio import Quota
        client = replyio.ReplyClient("key-of-the-sandbox", base_url={sandbox.url!r}, quota=None)
    """
    text = textwrap.dedent(head) + textwrap.dedent(source)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_ten_thousand_rows_take_few_requests_all_of_the_quota_and_no_429() -> None:
    scale = 40.0
    with Sandbox(accounts=accounts(10_000), quota=(100, 3000), clock_scale=scale) as sandbox:
        client = sandbox.client()
        table = [{"id": 1 + number, "city": "Bergen" if number % 20 == 0 else "Oslo"} for number in range(10_000)]
        result = client.update_contact_accounts(table, progress=False)
        assert result.counts == {"changed": 500, "unchanged": 9_500}
        requests = sandbox.requests
    assert {request.status for request in requests} == {200}
    assert len(requests) <= 540
    minutes = (requests[-1].time - requests[0].time).total_seconds() * scale / 60
    full_windows = (len(requests) - 1) // 95
    # 97 % of the rate, and half a second of this machine for each window.
    assert minutes <= full_windows / 0.97 + full_windows * 0.5 * scale / 60


def test_few_rows_of_many_accounts_are_read_one_by_one() -> None:
    with Sandbox(accounts=accounts(5_000)) as sandbox, sandbox.client(quota=None) as client:
        for wanted in (1, 2, 3, 10):
            sandbox.clear_requests()
            picked = [{"id": 5_000 - number * 7, "city": "Oslo"} for number in range(wanted)]
            with client.plan_contact_account_updates(picked, progress=False) as plan:
                assert plan.counts == {"unchanged": wanted}
            assert len(sandbox.requests) <= 2 * min(wanted, 5)


def test_retry_after_holds_every_row_back_even_without_a_quota(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(60)) as sandbox, sandbox.client(quota=None) as client:
        path = tmp_path / "a.replyplan"
        plan = client.plan_contact_account_updates(rows(60), save_as=path, progress=False)
        sandbox.add_fault(Fault(method="PUT", id=20, status=429, retry_after=2, times=1))
        result = plan.apply(progress=False)
        assert result.counts == {"changed": 60}
        refused = next(request for request in sandbox.requests if request.status == 429)
        later = [(each.time - refused.time).total_seconds() for each in sandbox.requests if each.time > refused.time]
        # What was in flight with it may still arrive.
        assert not [seconds for seconds in later if 0.5 < seconds < 1.9]
        assert max(later) > 1.9
        plan.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(method="PUT", status=401), replyio.AuthenticationError),
        (Fault(method="PUT", status=403, body={"title": "Forbidden", "status": 403}), replyio.PermissionDeniedError),
        (Fault(method="PUT", status=429, retry_after=10_000), replyio.RateLimitError),
    ],
)
def test_what_stops_the_job_leaves_every_row_as_it_was(fault: Fault, error: type[Exception], tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(40)) as sandbox, sandbox.client(quota=None) as client:
        path = tmp_path / "a.replyplan"
        plan = client.plan_contact_account_updates(rows(40), save_as=path, progress=False)
        sandbox.add_fault(fault)
        with pytest.raises(error):
            plan.apply(progress=False)
        assert plan.counts == {"pending": 40}
        assert sum(writes(sandbox).values()) <= 2 * IN_FLIGHT  # a refused key is tried in both headers
        sandbox.clear_faults()
        assert plan.apply(progress=False).counts == {"changed": 40}
        plan.close()


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(method="PUT", id=7, status=400), "failed"),
        (Fault(method="PUT", id=7, status=404), "not_found"),
        (
            Fault(
                method="PUT",
                id=7,
                status=403,
                body={"title": "Forbidden", "status": 403, "code": "contactAccount.forbidden"},
            ),
            "failed",
        ),
        (Fault(method="PUT", id=7, status=500), "unknown"),
        (Fault(method="PUT", id=7, reset=True), "unknown"),
    ],
)
def test_a_row_that_fails_stops_no_other(fault: Fault, status: str) -> None:
    with Sandbox(accounts=accounts(40)) as sandbox, sandbox.client(quota=None, max_attempts=1) as client:
        sandbox.add_fault(fault)
        result = client.update_contact_accounts(rows(40), progress=False)
        assert result.counts == {"changed": 39, status: 1}
        (failure,) = result.failures
        assert (failure["row"], failure["id"]) == (6, 7)
        assert failure["error"].startswith("row 6: ")


def test_an_outage_is_waited_for(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(60)) as sandbox, sandbox.client(quota=None, max_attempts=1) as client:
        path = tmp_path / "a.replyplan"
        plan = client.plan_contact_account_updates(rows(60), save_as=path, progress=False)
        sandbox.add_fault(Fault(status=503, times=4))
        result = plan.apply(progress=False)
        assert result.counts == {"changed": 60}
        plan.close()


def test_no_account_is_in_flight_twice(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(80)) as sandbox, sandbox.client(quota=None, attempt_timeout=0.3) as client:
        sandbox.add_fault(Fault(method="PUT", delay=0.5, applied="late", times=10))
        path = tmp_path / "a.replyplan"
        plan = client.plan_contact_account_updates(rows(80), save_as=path, progress=False)
        result = plan.apply(progress=False)
        assert result.counts == {"changed": 80}
        for id in range(1, 81):
            bodies = {request.raw_body for request in sandbox.requests if request.path.endswith(f"/{id}")} - {b""}
            assert len(bodies) == 1
        plan.close()


@pytest.mark.parametrize("moment", ["writing", "waiting"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_good_order_and_another_process_goes_on(
    moment: str, number: signal.Signals, tmp_path: Path
) -> None:
    with Sandbox(accounts=accounts(150)) as sandbox:
        path = tmp_path / "a.replyplan"
        quota = "None" if moment == "writing" else "Quota(per_minute=20)"
        sandbox.add_fault(Fault(method="PUT", delay=0.05))
        source = f"""
            def stop(*_):
                raise SystemExit(143)
            signal.signal(signal.SIGTERM, stop)
            client = client.with_options(quota={quota})
            rows = [{{"id": 1 + number, "city": "Bergen"}} for number in range(150)]
            plan = client.plan_contact_account_updates(rows, save_as={str(path)!r}, progress=False)
            print("planned", flush=True)
            plan.apply(progress=False)
        """
        process = program(sandbox, source)
        assert process.stdout is not None
        assert process.stdout.readline() == b"planned\n"
        time.sleep(0.4)
        process.send_signal(number)
        sent = time.monotonic()
        _, stderr = process.communicate(timeout=20)
        assert time.monotonic() - sent < 6
        assert process.returncode == (-signal.SIGINT if number == signal.SIGINT else 143)
        assert b"replyio: stopped with" in stderr
        assert b"go on with client.open_plan(" in stderr
        with sandbox.client(quota=None) as client, client.open_plan(path) as plan:
            assert 0 < plan.counts["changed"] < 150
            assert set(plan.counts) == {"changed", "pending"}
            sandbox.clear_faults()
            assert plan.apply(progress=False).counts == {"changed": 150}
        assert set(writes(sandbox).values()) == {1}


def test_a_second_process_and_a_forked_child_are_told(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(3)) as sandbox, sandbox.client() as client:
        path = tmp_path / "a.replyplan"
        plan = client.plan_contact_account_updates(rows(3), save_as=path, progress=False)
        began = time.monotonic()
        process = program(sandbox, f"client.open_plan({str(path)!r})")
        _, stderr = process.communicate(timeout=20)
        assert time.monotonic() - began < 3
        assert f"is in use by process {os.getpid()}".encode() in stderr
        source = f"""
            plan = client.plan_contact_account_updates([{{"id": 1, "city": "Rome"}}], save_as={str(path)!r} + "2",
                                                       progress=False)
            child = os.fork()
            if child == 0:
                try:
                    plan.counts
                except replyio.PlanError as error:
                    print(error, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            print(plan.apply(progress=False).counts)
        """
        stdout, stderr = program(sandbox, source).communicate(timeout=20)
        assert b"forked" in stdout
        assert stdout.endswith(b"{'changed': 1}\n"), stderr
        plan.close()


def test_exit_with_a_plan_running_in_a_daemon_thread(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(100)) as sandbox:
        sandbox.add_fault(Fault(method="PUT", delay=0.2))
        for run in range(10):
            source = f"""
                rows = [{{"id": 1 + number, "city": "Rome {run}"}} for number in range(100)]
                plan = client.plan_contact_account_updates(rows, save_as={str(tmp_path / str(run))!r}, progress=False)
                threading.Thread(target=plan.apply, kwargs=dict(progress=False), daemon=True).start()
                time.sleep(0.1)
                sys.exit(7)
            """
            process = program(sandbox, source)
            began = time.monotonic()
            _, stderr = process.communicate(timeout=20)
            assert (process.returncode, stderr) == (7, b"")
            assert time.monotonic() - began < 3


def test_killed_at_random_points_nothing_is_lost_and_little_is_repeated(tmp_path: Path) -> None:
    """The oracle is the server's own log, which the killed process cannot touch."""
    count = 120
    chance = random.Random(4711)  # noqa: S311 - the same points in every run
    short: list[str] = []
    repeats = 0
    kills = 0
    while kills < KILLS:
        with Sandbox(accounts=accounts(count)) as sandbox:
            path = tmp_path / f"{kills}.replyplan"
            with sandbox.client(quota=None) as client:
                client.plan_contact_account_updates(rows(count), save_as=path, progress=False).close()
            sandbox.add_fault(Fault(method="PUT", delay=0.005))
            killed = 0
            while True:
                sandbox_before = sum(writes(sandbox).values())
                source = f"print(client.open_plan({str(path)!r}).apply(progress=False).counts, flush=True)"
                process = program(sandbox, source)
                goal = sandbox_before + chance.randrange(1, 60)
                while process.poll() is None and sum(writes(sandbox).values()) < goal:
                    time.sleep(0.001)
                if process.poll() is None and kills < KILLS:
                    process.send_signal(signal.SIGKILL)
                    process.communicate(timeout=20)
                    kills += 1
                    killed += 1
                    continue
                stdout, stderr = process.communicate(timeout=60)
                break
            if stdout != b"{'changed': %d}\n" % count:
                short.append(f"{stdout!r} {stderr!r}")
            done = writes(sandbox)
            again = sum(done.values()) - count
            repeats += again
            if set(done) != set(range(1, count + 1)) or again > IN_FLIGHT * killed:
                short.append(f"{again} repeats after {killed} kills")
            if {account.city for account in sandbox.accounts.values()} != {"Bergen"}:
                short.append("an account is not as it was meant")
    print(f"reliability: kill -9 tried {kills} short {len(short)} repeats {repeats}")
    assert short == []


def test_the_command_plans_applies_and_reverts(tmp_path: Path) -> None:
    with Sandbox(accounts=accounts(5)) as sandbox:
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
