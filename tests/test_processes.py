"""Processes that change the same accounts at the same time do not undo each other's changes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from replyio import DeadlineExceededError
from replyio.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio import ReplyClient

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process there does not know the turns of others")

FIELDS = ["city", "phone", "industry", "country"]
ACCOUNTS = range(1, 31)

# Sets one field of all accounts: call by call, or by a plan.
_CHANGER = """
import sys
from replyio import ReplyClient
url, how, field, last, *path = sys.argv[1:]
with ReplyClient("k", base_url=url, quota=None, timeout=60) as client:
    rows = [{"id": id, field: "new"} for id in range(1, int(last) + 1)]
    if how == "plan":
        plan = client.plan_contact_account_updates(rows, save_as=path[0])
    print("ready", flush=True)
    sys.stdin.readline()
    if how == "plan":
        print(plan.apply().counts, flush=True)
    else:
        for row in rows:
            client.patch_contact_account(row["id"], **{field: "new"})
"""


# Patches one field of random accounts, each time with the next number, and says what it tries and what succeeded.
_COUNTER = """
import random, sys
from replyio import ReplyClient
url, field, number, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with ReplyClient("k", base_url=url, quota=None, timeout=60) as client:
    while True:
        number, id = number + 1, random.randint(1, last)
        print("tries", id, number, flush=True)
        client.patch_contact_account(id, **{field: str(number)})
        print("wrote", id, number, flush=True)
"""

# Updates an account, then gives the descriptor of the shared file to a file of its own, and updates another account.
_DAEMON = """
import os
from replyio import ReplyClient

def inode(number):
    try:
        return os.fstat(number).st_ino
    except OSError:
        return None

with ReplyClient("k", base_url={url!r}, quota=None) as client:
    client.patch_contact_account(1, city="new")
    turns = os.stat({turns!r}).st_ino
    (number,) = [number for number in range(3, 100) if inode(number) == turns]
    os.dup2(os.open({mine!r}, os.O_RDWR | os.O_CREAT), number)
    client.patch_contact_account(2, city="new")
"""


@pytest.fixture
def service() -> Iterator[Sandbox]:
    accounts = [{"id": id, "name": f"account {id}", **dict.fromkeys(FIELDS, "old")} for id in ACCOUNTS]
    # Long enough for every reader to read before the first update.
    with Sandbox(accounts, faults=[Fault(delay=0.02, times=None)]) as sandbox:
        yield sandbox


@pytest.fixture
def client(service: Sandbox) -> Iterator[ReplyClient]:
    with service.client(quota=None, timeout=1) as client:
        yield client


def begin(
    service: Sandbox, how: str, field: str, folder: Path, state: Path | None = None, first: str = ""
) -> subprocess.Popen[str]:
    """Starts a process that changes a field as soon as it is told to."""
    arguments = [service.url, how, field, str(ACCOUNTS[-1]), str(folder / f"{field}.replyplan")]
    environment = os.environ if state is None else {**os.environ, "REPLYIO_STATE_DIR": str(state)}
    process = subprocess.Popen(
        [sys.executable, "-c", first + _CHANGER, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def undone(service: Sandbox, fields: list[str]) -> int:
    """Returns how many changes another process has undone."""
    return sum(getattr(account, field) != "new" for account in service.accounts.values() for field in fields)


@pytest.mark.parametrize(
    "ways", [("patch",) * 4, ("plan", "plan"), ("plan", "patch"), ("plan", "patch", "plan", "patch")], ids="+".join
)
def test_nothing_is_undone(service: Sandbox, tmp_path: Path, ways: tuple[str, ...]) -> None:
    fields = FIELDS[: len(ways)]
    processes = [begin(service, how, field, tmp_path) for how, field in zip(ways, fields, strict=True)]
    for process in processes:
        tell(process)
    said = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(ways)
    assert undone(service, fields) == 0
    for how, text in zip(ways, said, strict=True):
        assert how == "patch" or f"'changed': {len(ACCOUNTS)}" in text


def test_without_a_common_state_directory_changes_are_undone(service: Sandbox, tmp_path: Path) -> None:
    """The control: the processes of two machines do not know of each other."""
    processes = [begin(service, "plan", field, tmp_path, tmp_path / field) for field in FIELDS[:2]]
    for process in processes:
        tell(process)
    for process in processes:
        process.communicate(timeout=100)
    assert undone(service, FIELDS[:2]) > len(ACCOUNTS) // 2


def test_killed_processes_undo_nothing(tmp_path: Path, reliability: Callable[..., None]) -> None:
    """Each account has the last number of each process, or the one that was in flight when the process was killed."""
    kills, last = 20, 3
    files: dict[str, list[Path]] = {field: [] for field in FIELDS}

    def count(url: str, field: str) -> subprocess.Popen[bytes]:
        rounds = len(files[field])
        files[field].append(tmp_path / f"{field}.{rounds}")
        arguments = [url, field, str(rounds * 100_000), str(last)]
        with files[field][-1].open("wb") as told:
            return subprocess.Popen([sys.executable, "-c", _COUNTER, *arguments], stdout=told)

    accounts = [{"id": id, "name": f"account {id}"} for id in range(1, last + 1)]
    with Sandbox(accounts, faults=[Fault(delay=0.01, method="GET", times=None)]) as service:
        processes = {field: count(service.url, field) for field in FIELDS}
        for kill in range(kills):
            time.sleep(0.1 + kill * 7 % 11 / 25)
            field = FIELDS[kill % len(FIELDS)]
            processes[field].kill()
            processes[field].wait()
            processes[field] = count(service.url, field)
        for process in processes.values():
            process.kill()
            process.wait()
        time.sleep(0.2)
        kept = service.accounts
    written = undone = 0
    for field in FIELDS:
        possible: dict[int, set[str | None]] = {id: {None} for id in kept}
        lines = [line for file in files[field] for line in file.read_text().splitlines(keepends=True)]
        for line in lines:
            if not line.endswith("\n"):  # it was killed while it wrote this
                continue
            what, id, number = line.split()
            possible[int(id)] = {number} if what == "wrote" else {*possible[int(id)], number}
            written += what == "wrote"
        undone += sum(getattr(account, field) not in possible[id] for id, account in kept.items())
    reliability("processes that are killed", kills=kills, patches=written, undone=undone)
    assert written > 50
    assert undone == 0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_an_update(service: Sandbox) -> int:
    """Returns the account of an update that is in flight."""
    wait_until(lambda: any(request.method == "PUT" for request in service.requests))
    put = next(request for request in service.requests if request.method == "PUT")
    return int(put.path.rsplit("/", 1)[1])


def test_a_call_says_which_process_it_waited_for(tmp_path: Path) -> None:
    accounts = [{"id": id, "name": f"account {id}"} for id in ACCOUNTS]
    with Sandbox(accounts, faults=[Fault(delay=3, method="PUT", times=None)]) as service:
        process = begin(service, "patch", "city", tmp_path)
        tell(process)
        try:
            id = wait_for_an_update(service)
            process.send_signal(signal.SIGSTOP)
            with service.client(quota=None, timeout=1) as client:
                with pytest.raises(
                    DeadlineExceededError, match=f"waited for another update of this account by process {process.pid}"
                ) as raised:
                    client.patch_contact_account(id, phone="new")
                assert (raised.value.attempts, raised.value.may_have_been_applied) == (0, False)
                with pytest.raises(DeadlineExceededError):
                    client.update_contact_account(id, name="new")
                assert client.get_contact_account(id).id == id, "reading needs no turn"
        finally:
            process.kill()
            process.communicate()
        # The lock ended with its process.
        with service.client(quota=None, timeout=10) as client:
            client.patch_contact_account(id, phone="new")


def test_a_run_that_read_during_the_update_of_a_killed_process_reads_again(tmp_path: Path) -> None:
    """The update arrives after the run's read and before the kill, so only its process knows of it."""
    late = Fault(delay=1, method="PUT", times=1, applied="late")
    with Sandbox([{"id": 1, "name": "account 1"}], faults=[late]) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates([{"id": 1, "phone": "new"}], save_as=tmp_path / "plan.replyplan")
        process = begin(service, "patch", "city", tmp_path)
        try:
            tell(process)
            wait_for_an_update(service)
            process.send_signal(signal.SIGSTOP)
            reads = [request.method for request in service.requests].count("GET")
            with ThreadPoolExecutor() as threads:
                applied = threads.submit(plan.apply)
                wait_until(lambda: [request.method for request in service.requests].count("GET") > reads)
                assert service.accounts[1].city is None, "the run reads before the update arrives"
                wait_until(lambda: service.accounts[1].city == "new")
                process.kill()
                assert applied.result(60).counts["changed"] == 1
        finally:
            process.kill()
            process.communicate()
        assert (service.accounts[1].city, service.accounts[1].phone) == ("new", "new")


def test_an_update_whose_mark_the_disk_refuses_is_not_undone(tmp_path: Path) -> None:
    """The disk has room only for the first block of the shared file."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    accounts = [{"id": id, "name": f"account {id}"} for id in ACCOUNTS]
    with Sandbox(accounts) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates([{"id": 1, "phone": "new"}], save_as=tmp_path / "plan.replyplan")
        process = begin(service, "patch", "city", tmp_path, first=limit)
        service.clear_requests()
        service.add_fault(Fault(delay=1, method="GET", times=1))
        with ThreadPoolExecutor() as threads:
            applied = threads.submit(plan.apply)
            wait_until(lambda: bool(service.requests))
            tell(process)
            process.communicate(timeout=20)
            assert not applied.done(), "the update comes between the run's read and its turn"
            assert applied.result(60).counts["changed"] == 1
        assert process.returncode == 0
        assert (service.accounts[1].city, service.accounts[1].phone) == ("new", "new")


# Patches one account without a pause, until it is ended.
_BUSY = """
import itertools, sys
from replyio import ReplyClient
with ReplyClient("k", base_url=sys.argv[1], quota=None, timeout=60) as client:
    for number in itertools.count():
        client.patch_contact_account(1, city=str(number))
"""


def test_a_process_that_changes_an_account_without_a_pause_leaves_others_their_turn(
    service: Sandbox, tmp_path: Path
) -> None:
    with service.client(quota=None, timeout=20) as client:
        rows = [{"id": id, "phone": "new"} for id in (1, 2)]
        plan = client.plan_contact_account_updates(rows, save_as=tmp_path / "plan.replyplan")
        process = subprocess.Popen([sys.executable, "-c", _BUSY, service.url])
        try:
            wait_for_an_update(service)
            client.patch_contact_account(1, industry="new")
            began = time.monotonic()
            assert plan.apply().counts["changed"] == len(rows)
            assert time.monotonic() - began < 30
        finally:
            process.kill()
            process.wait()
    assert (service.accounts[1].industry, service.accounts[1].phone) == ("new", "new")


def test_a_row_has_its_turn_beside_a_process_whose_calls_are_slow(tmp_path: Path) -> None:
    """Between its calls, the turn is free for a moment only."""
    slow = Fault(delay=1, id=1, times=None)
    with Sandbox([{"id": 1, "name": "account 1"}], faults=[slow]) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates([{"id": 1, "phone": "new"}], save_as=tmp_path / "plan.replyplan")
        process = subprocess.Popen([sys.executable, "-c", _BUSY, service.url])
        try:
            for _ in range(3):
                service.clear_requests()
                wait_for_an_update(service)
            began = time.monotonic()
            assert plan.apply().counts["changed"] == 1
            # Its first read, the other's call, and its own two requests.
            assert time.monotonic() - began < 8
        finally:
            process.kill()
            process.wait()


def test_a_row_has_its_turn_beside_many_threads_of_its_process(tmp_path: Path) -> None:
    """Their queue for the turn is longer than a second."""
    slow = Fault(delay=0.1, times=None)
    with Sandbox([{"id": 1, "name": "account 1"}], faults=[slow]) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates([{"id": 1, "phone": "new"}], save_as=tmp_path / "plan.replyplan")
        ended = threading.Event()

        def patch() -> None:
            for number in itertools.count():
                if ended.is_set():
                    return
                client.patch_contact_account(1, city=f"{threading.get_ident()} {number}")

        with ThreadPoolExecutor(9) as threads:
            patching = [threads.submit(patch) for _ in range(8)]
            wait_for_an_update(service)
            applied = threads.submit(plan.apply)
            try:
                assert applied.result(15).counts["changed"] == 1
            finally:
                ended.set()
            for thread in patching:
                thread.result(20)


def test_a_process_that_was_suspended_while_it_waits_delays_others_once_a_second() -> None:
    accounts = [{"id": 1, "name": "account 1"}]
    with Sandbox(accounts, faults=[Fault(delay=1, method="PUT", times=1)]) as service:
        waiter = subprocess.Popen([sys.executable, "-c", _BUSY, service.url])
        try:
            with service.client(quota=None) as client, ThreadPoolExecutor() as threads:
                waiter.send_signal(signal.SIGSTOP)
                patched = threads.submit(client.patch_contact_account, 1, phone="0")
                wait_for_an_update(service)
                waiter.send_signal(signal.SIGCONT)
                time.sleep(0.7)
                waiter.send_signal(signal.SIGSTOP)
                patched.result(10)
                began = time.monotonic()
                for number in range(1, 31):
                    client.patch_contact_account(1, phone=str(number))
                assert time.monotonic() - began < 30 * 0.03
                time.sleep(1)
                hasty = client.with_options(timeout=0.06)
                with pytest.raises(DeadlineExceededError, match=f"update of this account by process {waiter.pid}"):
                    hasty.patch_contact_account(1, phone="31")
                hasty.patch_contact_account(1, phone="32")
        finally:
            waiter.kill()
            waiter.wait()


def test_a_forked_child_does_not_have_the_turns_of_its_parent(client: ReplyClient, service: Sandbox) -> None:
    client.patch_contact_account(1, city="parent")
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_patch_all, args=(service.url, field), daemon=True) for field in FIELDS[:3]]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * len(children)
    assert undone(service, FIELDS[:3]) == 0


def _patch_all(url: str, field: str) -> None:
    from replyio import ReplyClient

    with ReplyClient("k", base_url=url, quota=None, timeout=60) as client:
        for id in ACCOUNTS:
            client.patch_contact_account(id, **{field: "new"})  # type: ignore[arg-type]


class TestTheFile:
    """No fault of the file stops or delays a call, and nothing that is not ours is written."""

    @pytest.fixture
    def state(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        monkeypatch.setenv("REPLYIO_STATE_DIR", str(state))
        return state

    def test_it_is_private_and_small(self, state: Path, service: Sandbox) -> None:
        with service.client(quota=None) as client:
            for id in ACCOUNTS:
                client.patch_contact_account(id, city="new")
        (found,) = (state / "turns").iterdir()
        assert found.stat().st_mode & 0o777 == 0o600
        assert found.parent.stat().st_mode & 0o777 == 0o700
        assert found.stat().st_size <= 8 << 20
        assert found.stat().st_blocks * 512 <= 64 << 10

    @pytest.mark.parametrize("fault", ["folder is a file", "link", "second name", "too long", "no folder"])
    def test_a_file_that_is_not_ours_is_left_alone(
        self, state: Path, service: Sandbox, tmp_path: Path, fault: str
    ) -> None:
        other = tmp_path / "other"
        other.write_bytes(b"x" * (9 << 20 if fault == "too long" else 100))
        other.chmod(0o600)
        place = state / "turns"
        if fault == "folder is a file":
            place.write_bytes(b"mine")
        elif fault != "no folder":
            place.mkdir(mode=0o700)
            if fault == "link":
                (place / "accounts").symlink_to(other)
            elif fault == "second name":
                (place / "accounts").hardlink_to(other)
            else:
                other.rename(place / "accounts")
                other = place / "accounts"
        else:
            state.rmdir()
            state.write_bytes(b"mine")
        before = other.read_bytes()
        with service.client(quota=None) as client:
            began = time.monotonic()
            client.patch_contact_account(1, city="new")
            assert time.monotonic() - began < 1
        assert other.read_bytes() == before

    def test_a_file_that_was_deleted_is_made_again(self, state: Path, service: Sandbox) -> None:
        with service.client(quota=None) as client:
            client.patch_contact_account(1, city="new")
            (state / "turns" / "accounts").unlink()
            client.patch_contact_account(2, city="new")
            assert (state / "turns" / "accounts").exists()

    def test_closed_descriptors_are_not_used_again(self, state: Path, service: Sandbox, tmp_path: Path) -> None:
        """A daemon closes every descriptor, and the next file that it opens has one of them."""
        program = _DAEMON.format(url=service.url, turns=str(state / "turns" / "accounts"), mine=str(tmp_path / "mine"))
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
        assert (tmp_path / "mine").read_bytes() == b""
        assert {service.accounts[id].city for id in (1, 2)} == {"new"}

    def test_idle_files_are_closed(self, service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A test suite with a state directory for each test keeps no descriptor of the earlier ones."""
        folder = Path("/proc/self/fd")
        if not folder.exists():
            pytest.skip("the system does not list descriptors")
        for number in range(20):
            monkeypatch.setenv("REPLYIO_STATE_DIR", str(tmp_path / str(number)))
            with service.client(quota=None) as client:
                client.patch_contact_account(1, city=str(number))
        open_files = [str(entry.readlink()) for entry in folder.iterdir() if entry.exists()]
        assert sum(str(tmp_path) in name for name in open_files) <= 2
