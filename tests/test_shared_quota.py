"""The quota is counted over all processes of a user on the machine, and no fault of the file for it stops a call."""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from replyio import Quota, RateLimitError
from replyio.sandbox import Deviations, Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, links and modes")

# Calls until it may not, or as often as it is told, and says when each call ended.
_WORKER = """
import sys, time
from replyio import Quota, RateLimitError, ReplyClient
url, key, calls, per_minute, per_hour, scale, timeout = sys.argv[1:]
quota = Quota(int(per_minute), int(per_hour), clock_scale=float(scale))
with ReplyClient(key, base_url=url, quota=quota, timeout=float(timeout), max_attempts=1) as client:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(calls)):
        try:
            client.get_contact_account(4711)
        except RateLimitError as error:
            print("refused", error.status, error.attempts, flush=True)
        else:
            print("done", time.time(), flush=True)
"""


def worker(
    sandbox: Sandbox,
    key: str,
    calls: int,
    quota: tuple[int, int],
    scale: float = 1,
    timeout: float = 5,
    state: Path | None = None,
) -> subprocess.Popen[str]:
    """Starts a process that calls when it is told to. With its own state directory it stands for another machine."""
    arguments = [sandbox.url, key, calls, *quota, scale, timeout]
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ if state is None else os.environ | {"REPLYIO_STATE_DIR": str(state)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def outcomes(*processes: subprocess.Popen[str]) -> list[str]:
    """Lets processes call, and gives the first word of each outcome."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    words = [line.split()[0] for process in processes for line in process.communicate(timeout=240)[0].splitlines()]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return words


def ledgers() -> list[Path]:
    """The files of this test."""
    return sorted(Path(os.environ["REPLYIO_STATE_DIR"], "quota").glob("*.ledger"))


def test_programs_of_one_user_count_together_and_the_next_one_goes_on_where_they_are(reply_sandbox: Sandbox) -> None:
    key = uuid.uuid4().hex
    with reply_sandbox.client(api_key=key, quota=Quota(10, 100), timeout=5) as client:
        client.get_contact_account(4711)
        found = outcomes(*(worker(reply_sandbox, key, 6, (10, 100)) for _ in range(3)))
        assert (found.count("done"), found.count("refused")) == (9, 9)
        with pytest.raises(RateLimitError) as caught:
            client.get_contact_account(4711)
        assert caught.value.attempts == 0
        assert outcomes(worker(reply_sandbox, key, 1, (10, 100))) == ["refused"]
    assert len(reply_sandbox.requests) == 10


@needs_posix
def test_a_fork_and_a_spawn_count_with_their_parent(reply_sandbox: Sandbox) -> None:
    key = uuid.uuid4().hex
    with reply_sandbox.client(api_key=key, quota=Quota(3, 100), timeout=5) as client:
        client.get_contact_account(4711)
        context = multiprocessing.get_context("fork")
        child = context.Process(target=client.get_contact_account, args=(4711,))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        client.get_contact_account(4711)
        with pytest.raises(RateLimitError):
            client.get_contact_account(4711)
        left = client.quota_left()
        assert left is not None
        assert (left.minute, left.hour, left.shared) == (0, 97, True)
        assert sorted(left.processes.values()) == [(1, 1), (2, 2)]
        assert os.getpid() in left.processes


def test_a_429_of_one_process_holds_all(reply_sandbox: Sandbox) -> None:
    reply_sandbox.add_fault(Fault(request=1, status=429, retry_after=3600))
    key = uuid.uuid4().hex
    assert outcomes(worker(reply_sandbox, key, 1, (10, 100))) == ["refused"]
    with reply_sandbox.client(api_key=key, quota=Quota(10, 100), timeout=5) as client:
        with pytest.raises(RateLimitError) as caught:
            client.get_contact_account(4711)
        left = client.quota_left()
    assert caught.value.attempts == 0
    assert 3500 < (caught.value.retry_after or 0) <= 3600
    assert left is not None
    assert 3500 < (left.retry_after or 0) <= 3600
    assert len(reply_sandbox.requests) == 1


def test_a_quota_that_is_not_shared_stays_in_its_process_and_makes_no_file(reply_sandbox: Sandbox) -> None:
    quota = Quota(1, 100, shared=False)
    with reply_sandbox.client(api_key="a-key-of-two", quota=quota, timeout=5) as client:
        client.get_contact_account(4711)
        left = client.quota_left()
    assert left is not None
    assert (left.minute, left.shared, left.processes) == (0, False, {})
    assert ledgers() == []
    assert outcomes(worker(reply_sandbox, "a-key-of-two", 1, (1, 100))) == ["done"]


def test_a_client_without_a_quota_has_none_left(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client(quota=None) as client:
        assert client.quota_left() is None


def test_a_sandbox_on_the_port_of_an_earlier_one_finds_no_bookings_and_holds_nobody() -> None:
    key = uuid.uuid4().hex
    with Sandbox(faults=[Fault(request=3, status=429, retry_after=3600)]) as first:
        port = first.port
        assert outcomes(worker(first, key, 3, (2, 100)), worker(first, key, 1, (100, 100))).count("done") == 2
    with Sandbox(port=port) as second:
        assert outcomes(worker(second, key, 3, (2, 100))) == ["done", "done", "refused"]
        assert len(second.requests) == 2


@pytest.mark.parametrize("form", ["x-rate-limit", "ratelimit", "structured"])
def test_headers_of_the_service_tell_of_another_machine(
    form: Literal["x-rate-limit", "ratelimit", "structured"], tmp_path: Path
) -> None:
    key = uuid.uuid4().hex
    with Sandbox(quota=(20, 3000), deviations=Deviations(rate_limit_headers=form)) as sandbox:
        assert outcomes(worker(sandbox, key, 12, (20, 3000), state=tmp_path)) == ["done"] * 12
        with sandbox.client(api_key=key, quota=Quota(20, 3000), timeout=5) as client:
            client.get_contact_account(4711)
            left = client.quota_left()
            assert left is not None
            assert left.minute == 7
            assert left.processes == {0: (12, 12), os.getpid(): (1, 1)}
            for _ in range(7):
                client.get_contact_account(4711)
            with pytest.raises(RateLimitError) as caught:
                client.get_contact_account(4711)
        assert caught.value.attempts == 0
        assert [request.status for request in sandbox.requests] == [200] * 20


def test_a_fixed_part_for_each_machine_stays_below_the_limit_of_the_service(tmp_path: Path) -> None:
    key = uuid.uuid4().hex
    with Sandbox(quota=(10, 3000)) as sandbox:
        machines = [worker(sandbox, key, 6, (3, 960), state=tmp_path / str(number)) for number in range(3)]
        found = outcomes(*machines)
        assert (found.count("done"), found.count("refused")) == (9, 9)
        assert {request.status for request in sandbox.requests} == {200}


def test_a_bulk_update_leaves_a_tenth_of_the_minute_to_single_calls(tmp_path: Path) -> None:
    rows = [{"id": id, "city": "Oslo"} for id in range(1, 41)]
    accounts = [{"id": id, "name": f"Company {id}"} for id in range(1, 41)]
    scale = 10.0
    with Sandbox(accounts=accounts, quota=(20, 3000), clock_scale=scale) as sandbox:
        key = uuid.uuid4().hex
        client = sandbox.client(api_key=key, quota=Quota(20, 3000, clock_scale=scale))
        call = threading.Thread(
            target=client.patch_contact_accounts,
            args=(rows,),
            kwargs={"save_as": tmp_path / "a.replyplan", "progress": False},
        )
        call.start()
        deadline = time.monotonic() + 10
        while len(sandbox.requests) < 18 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        assert len(sandbox.requests) == 18
        for _ in range(2):
            client.with_options(timeout=0.5).get_contact_account(1)
        call.join(60)
        assert not call.is_alive()
        assert {request.status for request in sandbox.requests} == {200}


@needs_posix
def test_the_file_is_private_and_holds_no_key(reply_sandbox: Sandbox) -> None:
    key = "a-very-secret-key-0123456789"
    with reply_sandbox.client(api_key=key, quota=Quota(1, 100), act_as=77) as client:
        client.get_contact_account(4711)
    (ledger,) = ledgers()
    assert (ledger.stat().st_mode & 0o777, ledger.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for path in ledger.parent.iterdir():
        assert key not in path.name
        assert key.encode() not in path.read_bytes()


_FAULTS: dict[str, Callable[[Path], object]] = {
    "truncated": lambda ledger: os.truncate(ledger, 70),
    "empty": lambda ledger: os.truncate(ledger, 0),
    "zeroed": lambda ledger: ledger.write_bytes(bytes(4096)),
    "random": lambda ledger: ledger.write_bytes(secrets.token_bytes(4096)),
    "somebody else's": lambda ledger: ledger.write_text("my diary"),
    "deleted": lambda ledger: ledger.unlink(),
    "a link": lambda ledger: (ledger.unlink(), ledger.symlink_to("/etc/hostname")),
    "a folder": lambda ledger: (ledger.unlink(), ledger.mkdir()),
    "huge": lambda ledger: os.truncate(ledger, 1 << 40),
    "the folder is gone": lambda ledger: ledger.parent.rename(ledger.parent.with_name("elsewhere")),
    "another user's": lambda ledger: os.chown(ledger, 12345, 12345),
    "open to all": lambda ledger: ledger.parent.chmod(0o777),
}


@needs_posix
@pytest.mark.parametrize("fault", _FAULTS)
def test_whatever_is_done_to_the_file_calls_go_on_with_at_most_one_warning(
    fault: str, reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    if fault == "another user's" and os.geteuid() != 0:
        pytest.skip("only root gives a file away")
    key = uuid.uuid4().hex
    with reply_sandbox.client(api_key=key, quota=Quota(50, 100), timeout=5) as client:
        client.get_contact_account(4711)
        (ledger,) = ledgers()
        _FAULTS[fault](ledger)
        begin = time.monotonic()
        for _ in range(3):
            client.get_contact_account(4711)
            time.sleep(0.12)
        assert outcomes(worker(reply_sandbox, key, 3, (50, 100))) == ["done"] * 3
        assert time.monotonic() - begin < 10
    records = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(records) <= 1
    assert all(key not in record for record in records)
    if fault == "huge":
        ledger.unlink(missing_ok=True)  # whoever searches what tests leave would read all of it
    if fault == "somebody else's":
        assert ledger.read_text() == "my diary"


@needs_posix
def test_a_lock_that_another_program_never_gives_back_delays_one_call_by_a_moment(reply_sandbox: Sandbox) -> None:
    import fcntl

    with reply_sandbox.client(api_key=uuid.uuid4().hex, quota=Quota(50, 100), timeout=5) as client:
        client.get_contact_account(4711)
        (ledger,) = ledgers()
        with ledger.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            took: list[float] = []
            for _ in range(20):
                begin = time.monotonic()
                client.get_contact_account(4711)
                took.append(time.monotonic() - begin)
        assert max(took) < 0.5
        assert sum(took) < 1
        client.get_contact_account(4711)
        left = client.quota_left()
    assert left is not None
    assert (left.minute, left.shared) == (28, True)


@needs_posix
def test_a_folder_that_cannot_be_made_costs_one_warning(
    reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLYIO_STATE_DIR", "/proc/replyio")
    with reply_sandbox.client(api_key=uuid.uuid4().hex, quota=Quota(2, 100), timeout=5) as client:
        client.get_contact_account(4711)
        client.get_contact_account(4711)
        with pytest.raises(RateLimitError):
            client.get_contact_account(4711)
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert record.getMessage().startswith("the quota counts only this process: /proc/replyio")


@needs_posix
def test_the_quota_that_is_left_says_once_why_other_processes_do_not_count(
    reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLYIO_STATE_DIR", "/proc/replyio")
    with reply_sandbox.client(api_key=uuid.uuid4().hex, quota=Quota(2, 100)) as client:
        for _ in range(2):
            left = client.quota_left()
            assert left is not None
            assert not left.shared
        client.get_contact_account(4711)
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert record.getMessage().startswith("the quota counts only this process: /proc/replyio")


@needs_posix
def test_a_file_that_is_no_quota_file_is_named(
    reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from replyio.cli import main

    monkeypatch.setenv("REPLY_API_KEY", uuid.uuid4().hex)
    monkeypatch.setenv("REPLY_BASE_URL", reply_sandbox.url)
    assert main(["quota", "--format", "json"]) == 0
    (file,) = ledgers()
    file.write_text("my diary of a year", encoding="utf-8")
    capsys.readouterr()
    command = [sys.executable, "-m", "replyio", "quota", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["shared"] is False
    told = f"the quota counts only this process: {file}: it is not a quota file; delete it"
    assert done.stderr == f"replyio: {told}\n"
    file.unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (json.loads(done.stdout)["shared"], done.stderr) == (True, "")


@needs_posix
def test_a_process_that_is_killed_stops_nobody(reply_sandbox: Sandbox, reliability: Callable[..., None]) -> None:
    key = uuid.uuid4().hex
    kills = int(os.environ.get("REPLYIO_KILLS", "20"))
    ended: list[float] = []
    # The same calls without the file: how long the machine itself makes a call wait.
    ended_alone: list[float] = []
    stop = threading.Event()

    def go_on(ends: list[float], shared: bool) -> None:
        quota = Quota(4000, 4000, clock_scale=1000, shared=shared)
        user = key if shared else uuid.uuid4().hex
        with reply_sandbox.client(api_key=user, quota=quota, timeout=20) as client:
            while not stop.is_set():
                client.get_contact_account(4711)
                ends.append(time.monotonic())
                time.sleep(0.005)

    survivors = [threading.Thread(target=go_on, args=of) for of in ((ended, True), (ended_alone, False))]
    for survivor in survivors:
        survivor.start()
    try:
        for _ in range(kills):
            victim = worker(reply_sandbox, key, 100, (4000, 4000), 1000)
            assert victim.stdin is not None
            victim.stdin.write("go\n")
            victim.stdin.flush()
            time.sleep(secrets.randbelow(100) / 1000)
            victim.send_signal(signal.SIGKILL)
            victim.communicate()
            before = len(ended)
            deadline = time.monotonic() + 2
            while len(ended) == before and time.monotonic() < deadline:
                time.sleep(0.002)
            assert len(ended) > before
    finally:
        stop.set()
        for survivor in survivors:
            survivor.join()
    longest, longest_alone = (
        round(1000 * max(later - earlier for earlier, later in itertools.pairwise(ends)))
        for ends in (ended, ended_alone)
    )
    print(f"{kills} kills, longest pause {longest} ms, without the file {longest_alone} ms")
    reliability("shared quota", kills=kills, longest_pause_ms=longest, longest_pause_without_file_ms=longest_alone)


@needs_posix
def test_several_processes_use_the_quota_and_meet_no_429(reliability: Callable[..., None]) -> None:
    processes, calls, scale = (int(os.environ.get(f"REPLYIO_{name}", default)) for name, default in
                               (("PROCESSES", "4"), ("CALLS", "60"), ("SCALE", "30")))  # fmt: skip
    with Sandbox(clock_scale=scale, quota=(95, 2900)) as sandbox:
        key = uuid.uuid4().hex
        workers = [worker(sandbox, key, calls, (95, 2900), scale, 200) for _ in range(processes)]
        begin = time.monotonic()
        assert outcomes(*workers) == ["done"] * processes * calls
        took = (time.monotonic() - begin) * scale
        statuses = [request.status for request in sandbox.requests]
        arrived = sorted(request.time.timestamp() * scale for request in sandbox.requests)
    assert statuses == [200] * processes * calls
    for limit, length in ((95, 60), (2900, 3600)):
        shortest = min((last - first for first, last in zip(arrived, arrived[limit:], strict=False)), default=length)
        # The sandbox reads the time of day, which the system may correct by a little meanwhile.
        assert shortest > length - 0.02 * scale, f"more than {limit} requests in {shortest} s"
    # What the windows allow in that time: as much as fits into a minute at once, then as much in every minute.
    total = processes * calls
    fastest = 60 * ((total - 1) // 95) if total <= 2900 else 3600 + 60 * ((total - 2901) // 95)
    reliability("shared quota", calls=total, sandbox_seconds=round(took), fastest=fastest)
    assert took < fastest * 1.03 + 20 * scale / 30


def test_the_command_line_says_what_is_left(
    reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from replyio.cli import main

    key = uuid.uuid4().hex
    monkeypatch.setenv("REPLY_API_KEY", key)
    monkeypatch.setenv("REPLY_BASE_URL", reply_sandbox.url)
    outcomes(worker(reply_sandbox, key, 5, (95, 2900)))
    assert main(["quota", "--format", "json"]) == 0
    left: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (left["minute"], left["hour"], left["shared"], left["retry_after"]) == (90, 2895, True, None)
    assert [(each["minute"], each["hour"]) for each in left["processes"]] == [(5, 5)]
    assert main(["quota", "--format", "csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert json.loads(row["processes"]) == left["processes"]
