"""A process may fork, be interrupted, and end at any moment; calls notice at once and leave nothing behind.

Each program runs in a process of its own. `REPLYIO_EXITS=1000` ends each one a thousand times instead of a few.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import textwrap
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from replyio.sandbox import Fault, Sandbox
from support import environment, program, run

if TYPE_CHECKING:
    from collections.abc import Iterator

EXITS = int(os.environ.get("REPLYIO_EXITS", "20"))
# Longer than any test takes: an answer that never comes.
NEVER = 300.0


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """A sandbox in which account 4713 is never answered about."""
    with Sandbox(faults=[Fault(id=4713, delay=NEVER)]) as sandbox:
        yield sandbox


# Forks

FORK = """
import asyncio, os, sys, threading, time, warnings
import replyio
from replyio import ReplyClient
warnings.simplefilter("ignore", DeprecationWarning)  # of Python, about forks beside threads

client = ReplyClient(quota=None)

def use():
    assert client.get_contact_account(4711).id == 4711
    assert client.patch_contact_account(4712, city=str(os.getpid())).id == 4712
    assert asyncio.run(client.get_contact_account_async(4711)).id == 4711
    assert len(list(client.list_contact_accounts())) == 3

def spin():
    while True:
        client.get_contact_account(4711)
"""

BEFORE_THE_FORK = {
    "nothing was used": "",
    "a call was made": "client.get_contact_account(4711)",
    "a loop was run": "asyncio.run(client.get_contact_account_async(4711))",
    "everything was used": "use()",
    "a derived client was used": "client = client.with_options(timeout=60); use()",
    "a call is waiting in a thread": (
        "threading.Thread(target=client.get_contact_account, args=(4713,), daemon=True).start(); time.sleep(0.2)"
    ),
    "threads are calling": "[threading.Thread(target=spin, daemon=True).start() for _ in range(4)]; time.sleep(0.1)",
    "a loop is calling in a thread": (
        "threading.Thread(target=lambda: asyncio.run(client.get_contact_account_async(4713)), daemon=True).start(); "
        "time.sleep(0.2)"
    ),
    "a list is being read": "accounts = client.list_contact_accounts(page_size=1); next(accounts)",
}
FORK_AND_USE = """
begin = time.monotonic()
pid = os.fork()
if not pid:
    use()
    if "accounts" in globals():
        assert len(list(accounts)) == 2
    {end}
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), round(time.monotonic() - begin))
client.get_contact_account(4711)
if "accounts" in globals():
    assert len(list(accounts)) == 2
"""


@pytest.mark.parametrize("before", BEFORE_THE_FORK)
@pytest.mark.parametrize("end", ["sys.exit(7)", "client.close(); os._exit(7)"])
def test_a_forked_child_works_with_connections_of_its_own(before: str, end: str, service: Sandbox) -> None:
    done = run(FORK + BEFORE_THE_FORK[before] + FORK_AND_USE.format(end=end), service)
    assert (done.stdout, done.stderr, done.returncode) == ("7 0\n", "", 0)


def test_a_forked_child_leaves_the_connections_of_its_parent_alone(service: Sandbox) -> None:
    code = """
use()
for turn in range(3):
    if not (pid := os.fork()):
        use()
        sys.exit()
    os.waitpid(pid, 0)
    use()
"""
    done = run(FORK + code, service)
    assert (done.stderr, done.returncode) == ("", 0)
    by_process: dict[str, set[int]] = {}
    for request in service.requests:
        if request.method == "PUT":
            by_process.setdefault(request.body["city"], set()).add(request.connection)
    parent, *children = by_process.values()
    assert len(children) == 3
    assert [len(connections) for connections in by_process.values()] == [1] * 4
    assert len(set.union(*by_process.values())) == 4
    assert parent


def test_a_child_of_a_child_works(service: Sandbox) -> None:
    code = """
def descend(depth):
    use()
    if depth and not (pid := os.fork()):
        descend(depth - 1)
        sys.exit(depth)
    if depth:
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == depth

descend(3)
"""
    done = run(FORK + code, service)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("used", [True, False])
def test_worker_processes_can_use_a_client(method: str, used: bool, service: Sandbox) -> None:
    code = f"""
        import multiprocessing, sys, warnings
        from concurrent.futures import ProcessPoolExecutor
        from replyio import ReplyClient
        warnings.simplefilter("ignore", DeprecationWarning)

        def main():
            client = ReplyClient(quota=None)
            if {used}:
                client.get_contact_account(4711)
            context = multiprocessing.get_context({method!r})
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                names = [account.name for account in pool.map(client.get_contact_account, [4711, 4712] * 3)]
            print(names == ["Acme", "Globex"] * 3)
            worker = context.Process(target=client.patch_contact_account, args=(4712,), kwargs={{"city": "Bergen"}})
            worker.start()
            worker.join(30)
            print(worker.exitcode, client.get_contact_account(4712).city)

        if __name__ == "__main__":
            main()
    """
    script = run_file(code, service)
    assert (script.stdout, script.stderr, script.returncode) == ("True\n0 Bergen\n", "", 0)


def run_file(code: str, sandbox: Sandbox) -> subprocess.CompletedProcess[str]:
    """Runs a program from a file, as spawned processes need it."""
    import sys
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "program.py")
        path.write_text(textwrap.dedent(code))
        return subprocess.run(
            [sys.executable, path],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(sandbox),
        )


JOB_BEFORE_THE_FORK = """
from replyio import plan
plan_of_one = client.plan_contact_account_updates([{"id": 4713, "city": "Oslo"}], progress=False)
job = plan_of_one._file.start("apply", plan.Options("skip", "stop"))
def watch():
    while True:
        job.progress()
threading.Thread(target=watch, daemon=True).start()
pending = None
accounts = client.list_contact_accounts_async(page_size=1)
async def begin():
    global pending
    pending = client._core.get(4713, asyncio.get_running_loop())
    await asyncio.sleep(0.05)
asyncio.run(begin())
children = []
for _ in range(30):
    if not (pid := os.fork()):
        for call in (job.progress, job.stop, job.abandon, job.result, lambda: job.wait(0.0)):
            try:
                call()
            except replyio.PlanError as error:
                assert "parent process" in str(error)
            else:
                os._exit(8)
        pending.close()
        del job
        os._exit(7)
    children.append(pid)
print({os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children})
os._exit(0)
"""


def test_what_runs_in_the_parent_is_refused_or_left_alone_in_a_forked_child(service: Sandbox) -> None:
    service.clear_faults()
    service.add_fault(Fault(id=4713, method="PUT", delay=NEVER))
    done = run(FORK + JOB_BEFORE_THE_FORK, service, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("{7}\n", "", 0)


# Signals

INTERRUPT = """
import asyncio, os, signal, sys, threading, time
import replyio
from replyio import Quota, ReplyClient

def interrupt():
    global sent
    time.sleep(0.3)
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)

client = ReplyClient(quota={quota})
{before}
threading.Thread(target=interrupt).start()
try:
    {call}
except KeyboardInterrupt:
    print(time.monotonic() - sent < 0.2)
client = client.with_options(quota=None, act_as=1)  # another user, who is not held back
print(client.get_contact_account(4711).id, asyncio.run(client.get_contact_account_async(4712)).id)
"""
INTERRUPTED = {
    "get": "client.get_contact_account(4713)",
    "update": "client.update_contact_account(4713, name='Acme')",
    "patch": "client.patch_contact_account(4713, city='Oslo')",
    "table": "client.list_contact_accounts(search='never').to_polars()",
    "get in a loop": "asyncio.run(client.get_contact_account_async(4713))",
    "patch in a loop": "asyncio.run(client.patch_contact_account_async(4713, city='Oslo'))",
}


@pytest.mark.parametrize("call", INTERRUPTED)
def test_ctrl_c_ends_a_call_at_once_and_leaves_the_client_whole(call: str, service: Sandbox) -> None:
    before = ""
    if call == "table":
        service.add_fault(Fault(request=1, delay=NEVER))
        before = "import polars"  # the call would, and then it might be the import that is interrupted
    done = run(INTERRUPT.format(quota=None, before=before, call=INTERRUPTED[call]), service)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n4711 4712\n", "", 0)


@pytest.mark.parametrize("call", ["get", "get in a loop"])
def test_ctrl_c_ends_a_wait_for_the_quota(call: str, service: Sandbox) -> None:
    before = "client.get_contact_account(4711)"
    done = run(INTERRUPT.format(quota="Quota(1, 100)", before=before, call=INTERRUPTED[call]), service)
    assert (done.stdout, done.returncode) == ("True\n4711 4712\n", 0)
    assert done.stderr == "get of account 4713: waiting 60 s (quota: 1 per minute)\n"


@pytest.mark.parametrize("call", ["get", "get in a loop"])
def test_ctrl_c_ends_a_pause_between_attempts(call: str) -> None:
    with Sandbox(faults=[Fault(id=4713, status=503, retry_after=60)]) as sandbox:
        done = run(INTERRUPT.format(quota=None, before="", call=INTERRUPTED[call]), sandbox)
    assert (done.stdout, done.returncode) == ("True\n4711 4712\n", 0)
    assert done.stderr == "get of account 4713: waiting 60 s (Retry-After of the service)\n"


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_second_signal_ends_a_job_at_once(mode: str, second: str) -> None:
    code = f"""
        import asyncio, os, signal, sys, threading, time
        from replyio import ReplyClient
        client = ReplyClient(quota=None)
        plan = client.plan_contact_account_updates([{{"id": 4713, "city": "Oslo"}}], progress=False)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))

        def interrupt():
            global sent
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
            sent = time.monotonic()
            os.kill(os.getpid(), signal.{second})

        async def main():
            await plan.apply_async(progress=False)

        threading.Thread(target=interrupt).start()
        try:
            plan.apply(progress=False) if {mode == "sync"} else asyncio.run(main())
        except (KeyboardInterrupt, SystemExit):
            statuses = {{status for status, rows in plan.counts.items() if rows}}
            print(time.monotonic() - sent < 0.3, statuses <= {{"unknown", "pending"}})
    """
    with Sandbox(faults=[Fault(method="PUT", delay=NEVER)]) as sandbox:
        done = run(code, sandbox)
    assert (done.stdout, done.returncode) == ("True True\n", 0), done.stderr


def test_a_signal_whose_handler_returns_does_not_disturb_a_call(service: Sandbox) -> None:
    code = """
        import signal
        from replyio import ReplyClient

        def handle(*_):
            seen.append(client.get_contact_account(4712).id)

        seen = []
        client = ReplyClient(quota=None)
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        client.get_contact_account(4711)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(len(seen) > 2, set(seen))
    """
    service.add_fault(Fault(id=4711, times=1, delay=0.5))
    done = run(code, service)
    assert (done.stdout, done.stderr, done.returncode) == ("True {4712}\n", "", 0)


TERMINATE = """
import asyncio, signal, sys
from replyio import ReplyClient
client = ReplyClient(quota=None)
{handler}
print("ready", flush=True)
{call}
"""


@pytest.mark.parametrize("call", ["get", "get in a loop"])
@pytest.mark.parametrize(
    ("handler", "code"),
    [("", -signal.SIGTERM), ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))", 3)],
    ids=["default", "handler"],
)
def test_sigterm_ends_a_program_in_a_call(call: str, handler: str, code: int, service: Sandbox) -> None:
    command = program(TERMINATE.format(handler=handler, call=INTERRUPTED[call]))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(service)
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        process.terminate()
        begin = time.monotonic()
        _, stderr = process.communicate(timeout=30)
        assert time.monotonic() - begin < 3
    assert (process.returncode, stderr) == (code, "")


# Nothing left

EXHAUSTED = """
import asyncio, os, resource, sys
import replyio
from replyio import ReplyClient
{before}
client = ReplyClient(quota=None)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
async def main(call):
    return await call()
def attempt(call):
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        call()
        outcome = "no error"
    except Exception as error:
        outcome = error
    finally:
        for descriptor in held:
            os.close(descriptor)
    print(type(outcome).__name__, "hint" in str(outcome))
loop = asyncio.new_event_loop()
{call}
print(client.get_contact_account(4711).id)
"""
WITHOUT_DESCRIPTORS = {
    "get": ("attempt(lambda: client.get_contact_account(4711))", "TransportError True"),
    "get in a loop": (
        "attempt(lambda: loop.run_until_complete(main(lambda: client.get_contact_account_async(4711))))",
        "TransportError True",
    ),
    "list": ("attempt(lambda: next(client.list_contact_accounts()))", "TransportError True"),
    "bulk": (
        "attempt(lambda: client.patch_contact_accounts([{'id': 4711, 'city': 'x'}], progress=False))",
        "TransportError True",
    ),
    "open a plan": ("attempt(lambda: client.open_plan('no.replyplan'))", "TransportError True"),
    "refused fields": ("attempt(lambda: client.update_contact_account(0))", "ValidationError False"),
}


@pytest.mark.parametrize("call", WITHOUT_DESCRIPTORS)
@pytest.mark.parametrize("before", ["", "from replyio import ReplyError, plans, _bulk"], ids=["first", "later"])
def test_without_file_descriptors_a_declared_error_is_raised(before: str, call: str, service: Sandbox) -> None:
    code, expected = WITHOUT_DESCRIPTORS[call]
    if before and call in {"bulk", "open a plan"}:
        expected = f"PlanError {call == 'bulk'}"
    done = run(EXHAUSTED.format(before=before, call=code), service)
    assert (done.stdout, done.stderr, done.returncode) == (f"{expected}\n4711\n", "", 0)


# The end

END = """
import asyncio, atexit, logging, os, signal, sys, threading, time
import replyio
from replyio import ReplyClient

client = ReplyClient(quota=None)

def spin():
    while True:
        client.get_contact_account(4711)

async def spin_async():
    while True:
        await asyncio.gather(*(client.get_contact_account_async(4711) for _ in range(4)))

def daemons(work, count=4):
    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.05)

def in_use():
    assert client.get_contact_account(4711).id == 4711
    assert asyncio.run(client.get_contact_account_async(4712)).id == 4712
"""
ENDS = {
    "after a call": ("client.get_contact_account(4711)", 0),
    "after a loop": ("asyncio.run(client.get_contact_account_async(4711))", 0),
    "with a task in flight": (
        """
        async def main():
            task = asyncio.ensure_future(client.get_contact_account_async(4713))
            await asyncio.sleep(0.02)
        asyncio.run(main())
        """,
        0,
    ),
    "with a task in flight and an error": (
        """
        async def main():
            task = asyncio.ensure_future(client.get_contact_account_async(4713))
            await asyncio.sleep(0.02)
            sys.exit(5)
        asyncio.run(main())
        """,
        5,
    ),
    "with threads inside calls": ("daemons(spin)", 0),
    "with threads that wait": ("daemons(lambda: client.get_contact_account(4713))", 0),
    "with threads that log": (
        """
        logging.basicConfig(stream=open(os.devnull, "w"), level=logging.INFO)
        daemons(spin, 8)
        """,
        0,
    ),
    "with loops in threads": ("daemons(lambda: asyncio.run(spin_async()))", 0),
    "with loops in threads that log": (
        """
        logging.basicConfig(stream=open(os.devnull, "w"), level=logging.INFO)
        daemons(lambda: asyncio.run(spin_async()))
        """,
        0,
    ),
    "with an exit code and threads inside calls": ("daemons(spin); sys.exit(7)", 7),
    "with a handler that uses the client": ("client.get_contact_account(4711); atexit.register(in_use)", 0),
    "with a handler that uses a client for the first time": ("atexit.register(in_use)", 0),
    "with a handler, its threads and threads inside calls": (
        """
        def handler():
            thread = threading.Thread(target=in_use)
            thread.start()
            thread.join()
        atexit.register(in_use if sys.version_info >= (3, 12) else handler)
        daemons(spin)
        """,
        0,
    ),
    "by sys.exit in a thread": (
        """
        def work():
            client.get_contact_account(4711)
            sys.exit(9)
        threads = [threading.Thread(target=work) for _ in range(4)]
        [thread.start() for thread in threads]
        """,
        0,
    ),
    "by a signal handler during a call": (
        """
        signal.signal(signal.SIGALRM, lambda *_: sys.exit(4))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        client.get_contact_account(4713)
        """,
        4,
    ),
    "with a thread that is waited for": (
        "threading.Thread(target=client.get_contact_account, args=(4711,)).start()",
        0,
    ),
    "with a list half read": (
        """
        accounts = client.list_contact_accounts(page_size=1)
        next(accounts)
        async def main():
            async for account in client.list_contact_accounts_async(page_size=1):
                break
        asyncio.run(main())
        """,
        0,
    ),
    "with a job in a thread": (
        """
        plan = client.plan_contact_account_updates([{"id": 4711, "city": "Oslo"}], progress=False)
        daemons(lambda: plan.apply(progress=False), 1)
        """,
        0,
    ),
    "with a sandbox of its own and threads inside calls": (
        """
        from replyio.sandbox import Sandbox
        sandbox = Sandbox()
        own = sandbox.client(quota=None)
        def work():
            while True:
                own.get_contact_account(4711)
                sandbox.requests
        daemons(work)
        """,
        0,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_it_should(end: str, service: Sandbox) -> None:
    code, expected = ENDS[end]

    def once(_turn: int) -> tuple[int, str]:
        begin = time.monotonic()
        done = run(END + textwrap.dedent(code), service, timeout=30)
        slow = "" if time.monotonic() - begin < 3 else "took longer than 3 s"
        service.clear_requests()
        return done.returncode, done.stderr + slow

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        ends = Counter(pool.map(once, range(EXITS)))
    assert ends == {(expected, ""): EXITS}


# Interpreters

INTERPRETERS = """
try:
    import _interpreters
    create, run = lambda: _interpreters.create("legacy"), _interpreters.exec
except ImportError:
    import _xxsubinterpreters as _interpreters
    create, run = lambda: _interpreters.create(isolated=False), _interpreters.run_string

def use():
    import replyio
    try:
        replyio.ReplyClient(quota=None).get_contact_account(1)
    except replyio.ReplyError as error:
        print(type(error).__name__, flush=True)

IN_ANOTHER = '''
try:
    import replyio
    replyio.ReplyClient
except ImportError as error:
    print(error, flush=True)
'''
"""


@pytest.mark.parametrize("is_first", [True, False])
def test_a_second_interpreter_of_a_process_is_refused(is_first: bool, service: Sandbox) -> None:
    before, after = ("use()", "use()") if is_first else ("", "")
    code = f"{INTERPRETERS}\n{before}\nfor _ in range(2):\n    other = create()\n    run(other, IN_ANOTHER)\n    "
    done = run(f"{code}_interpreters.destroy(other)\n{after}", service)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    refused = [line for line in lines if line.startswith("replyio works in one interpreter of a process")]
    assert len(refused) == (2 if is_first else 1)
    assert [line for line in lines if line not in refused] == (["NotFoundError"] * 2 if is_first else [])
