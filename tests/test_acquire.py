"""`Quota(acquire=...)` is asked once before each request, and nothing that it does stops more than its own call."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from replyio import ConfigurationError, DeadlineExceededError, Quota, RateLimitError, ReplyClient
from replyio.sandbox import Fault, Sandbox
from support import MODES, call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork")
KINDS = ("function", "coroutine function")


class Limiter:
    """Counts how often it is asked, and says when, in which thread, and whether two were in it at once."""

    def __init__(self, wait: float = 0, *, fails: BaseException | None = None) -> None:
        self.wait, self.fails = wait, fails
        self.calls = self.granted = self.inside = self.most_inside = 0
        self.threads: set[int] = set()
        self.loops: set[int] = set()

    def _enter(self) -> None:
        self.calls += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.threads.add(threading.get_ident())

    def _leave(self) -> None:
        self.inside -= 1
        if self.fails is not None:
            raise self.fails
        self.granted += 1

    def function(self) -> None:
        self._enter()
        time.sleep(self.wait)
        self._leave()

    async def coroutine(self) -> None:
        self._enter()
        self.loops.add(id(asyncio.get_running_loop()))
        await asyncio.sleep(self.wait)
        self._leave()

    def of(self, kind: str) -> Callable[[], object]:
        return self.function if kind == "function" else self.coroutine


def client_of(sandbox: Sandbox, acquire: Callable[[], object], **options: Any) -> ReplyClient:
    return sandbox.client(api_key=uuid.uuid4().hex, quota=Quota(acquire=acquire, shared=False), **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_it_is_called_once_for_each_request_that_is_sent(mode: str, kind: str, reply_sandbox: Sandbox) -> None:
    limiter = Limiter()
    with client_of(reply_sandbox, limiter.of(kind)) as client:
        call(client, "get_contact_account", mode, 4711)
        call(client, "patch_contact_account", mode, 4711, city="Tromsø")
        call(client, "patch_contact_account", mode, 4711, city="Tromsø")
    assert limiter.calls == len(reply_sandbox.requests) == 4
    assert threading.get_ident() not in limiter.threads
    assert len(limiter.loops) == (kind != "function")


@pytest.mark.parametrize("mode", MODES)
def test_a_retry_and_the_second_scheme_are_asked_for_too(mode: str) -> None:
    limiter = Limiter()
    faults = [Fault(status=503, times=2)]
    with Sandbox(faults=faults, auth="bearer") as sandbox, client_of(sandbox, limiter.function) as client:
        call(client, "get_contact_account", mode, 4711)
        assert limiter.calls == len(sandbox.requests) == 4


def test_what_is_refused_before_it_is_sent_is_not_asked_for(reply_sandbox: Sandbox) -> None:
    limiter = Limiter()
    quota = Quota(1, 100, acquire=limiter.function, shared=False)
    with reply_sandbox.client(api_key=uuid.uuid4().hex, quota=quota, timeout=5) as client:
        with pytest.raises(ValueError, match="positive"):
            client.get_contact_account(-1)
        client.get_contact_account(4711)
        with pytest.raises(RateLimitError, match="quota: 1 per minute"):
            client.get_contact_account(4711)
    assert limiter.calls == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_what_it_raises_ends_the_call_before_any_request(mode: str, kind: str, reply_sandbox: Sandbox) -> None:
    for fault in (ConnectionError("redis is away"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()):
        limiter = Limiter(fails=fault)
        with client_of(reply_sandbox, limiter.of(kind)) as client:
            with pytest.raises(RateLimitError) as caught:
                call(client, "update_contact_account", mode, 4711, name="Acme")
            assert caught.value.__cause__ is fault or isinstance(caught.value.__cause__, asyncio.CancelledError)
            assert (caught.value.status, caught.value.attempts, caught.value.may_have_been_applied) == (429, 0, False)
            assert (
                f"Quota(acquire=...) did not grant a request; nothing was sent: it raised {type(fault).__name__}"
                in str(caught.value)
            )
            pickle.loads(pickle.dumps(caught.value))
            limiter.fails = None
            call(client, "get_contact_account", mode, 4711)
    assert [request.method for request in reply_sandbox.requests] == ["GET"] * 4


class TextlessError(Exception):
    def __str__(self) -> str:
        raise ValueError


async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(1)


async def exit_in_a_task() -> None:
    async def exits() -> None:
        raise SystemExit

    await asyncio.create_task(exits())


def raise_textless() -> None:
    raise TextlessError


def raise_a_surrogate() -> None:
    raise ValueError("no file \udcff")


@pytest.mark.parametrize("acquire", [stop_the_loop, exit_in_a_task, raise_textless, raise_a_surrogate])
def test_its_thread_survives_what_it_does(acquire: Callable[[], Any], reply_sandbox: Sandbox) -> None:
    with client_of(reply_sandbox, acquire, timeout=5) as client:
        for _ in range(2):
            with pytest.raises(RateLimitError, match="did not grant a request; nothing was sent: it raised"):
                client.get_contact_account(4711)
    assert not reply_sandbox.requests


def test_a_failure_before_a_retry_says_that_the_first_attempt_may_have_been_applied() -> None:
    limiter = Limiter()

    def once() -> None:
        limiter.function()
        if limiter.calls == 2:
            raise TimeoutError

    with Sandbox(faults=[Fault(status=503)]) as sandbox, client_of(sandbox, once) as client:
        with pytest.raises(RateLimitError) as caught:
            client.update_contact_account(4711, name="Acme")
        assert (caught.value.attempts, caught.value.may_have_been_applied) == (1, True)
        assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("returned", "reason"),
    [(lambda: False, "returned False"), (lambda: asyncio.sleep(0), "define it with async def")],
)
def test_false_and_a_forgotten_await_are_no_leave(
    returned: Callable[[], object], reason: str, reply_sandbox: Sandbox
) -> None:
    with client_of(reply_sandbox, returned) as client, pytest.raises(RateLimitError, match=reason):
        client.get_contact_account(4711)
    assert not reply_sandbox.requests


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_its_time_counts_against_the_timeout(mode: str, kind: str, reply_sandbox: Sandbox) -> None:
    limiter = Limiter(2)
    with client_of(reply_sandbox, limiter.of(kind), timeout=0.3) as client:
        begin = time.monotonic()
        with pytest.raises(DeadlineExceededError, match=r"waited for Quota\(acquire=\.\.\.\)") as caught:
            call(client, "get_contact_account", mode, 4711)
        assert time.monotonic() - begin < 1
        assert caught.value.attempts == 0
    assert not reply_sandbox.requests


def test_leave_that_a_call_did_not_wait_for_serves_the_next_one(reply_sandbox: Sandbox) -> None:
    limiter = Limiter(0.5)
    with client_of(reply_sandbox, limiter.function) as client:
        with pytest.raises(DeadlineExceededError):
            client.with_options(timeout=0.1).get_contact_account(4711)
        client.get_contact_account(4711)
        assert (limiter.calls, len(reply_sandbox.requests)) == (1, 1)
        client.get_contact_account(4711)
        assert (limiter.calls, len(reply_sandbox.requests)) == (2, 2)
        with pytest.raises(DeadlineExceededError):
            client.with_options(timeout=0.1).get_contact_account(4711)
        time.sleep(1.7)
        client.get_contact_account(4711)
    assert (limiter.calls, len(reply_sandbox.requests)) == (4, 3), "leave grows old in a second"


def test_one_request_is_asked_for_at_a_time_whoever_sends_it(reply_sandbox: Sandbox) -> None:
    limiter = Limiter(0.01)
    with client_of(reply_sandbox, limiter.function) as client:
        threads = [threading.Thread(target=client.get_contact_account, args=(4711,)) for _ in range(8)]
        for thread in threads:
            thread.start()

        async def many() -> None:
            await asyncio.gather(*(client.get_contact_account_async(4711) for _ in range(8)))

        asyncio.run(many())
        for thread in threads:
            thread.join()
    assert limiter.calls == len(reply_sandbox.requests) == 16
    assert (limiter.most_inside, len(limiter.threads)) == (1, 1)


def test_an_event_loop_goes_on_while_it_blocks(reply_sandbox: Sandbox) -> None:
    limiter = Limiter(0.5)

    async def longest_pause() -> float:
        waiting = asyncio.ensure_future(client.get_contact_account_async(4711))
        longest, last = 0.0, time.monotonic()
        while not waiting.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await waiting
        return longest

    with client_of(reply_sandbox, limiter.function) as client:
        assert asyncio.run(longest_pause()) < 0.3


def test_a_cancelled_task_sends_nothing(reply_sandbox: Sandbox) -> None:
    limiter = Limiter(0.3)

    async def cancelled() -> None:
        task = asyncio.ensure_future(client.get_contact_account_async(4711))
        while not limiter.inside:  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with client_of(reply_sandbox, limiter.function) as client:
        asyncio.run(cancelled())
        time.sleep(0.4)
    assert (limiter.calls, len(reply_sandbox.requests)) == (1, 0)


@needs_posix
def test_ctrl_c_ends_a_call_while_it_blocks(reply_sandbox: Sandbox) -> None:
    limiter = Limiter(5)
    with client_of(reply_sandbox, limiter.function) as client:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.get_contact_account(4711)
        assert time.monotonic() - begin < 1
    assert not reply_sandbox.requests


def test_a_function_that_calls_its_own_client_is_refused(reply_sandbox: Sandbox) -> None:
    clients: list[ReplyClient] = []

    def within() -> None:
        clients[0].with_options(timeout=9).get_contact_account(4711)

    with client_of(reply_sandbox, within, timeout=10) as client:
        clients.append(client)
        with pytest.raises(RateLimitError, match="must not call a client of the same quota") as caught:
            client.get_contact_account(4711)
        assert isinstance(caught.value.__cause__, ConfigurationError)
    assert not reply_sandbox.requests


def _child(client: ReplyClient, limiter: Limiter, queue: Any) -> None:
    client.get_contact_account(4711)
    queue.put((limiter.calls, len(limiter.threads)))


@needs_posix
def test_a_forked_child_asks_in_a_thread_of_its_own(reply_sandbox: Sandbox) -> None:
    limiter = Limiter()
    with client_of(reply_sandbox, limiter.function) as client:
        client.get_contact_account(4711)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_child, args=(client, limiter, queue))
        child.start()
        assert queue.get(timeout=20)[0] == 2
        child.join(20)
        client.get_contact_account(4711)
    assert (child.exitcode, limiter.calls, len(reply_sandbox.requests)) == (0, 2, 3)


def test_a_plan_asks_for_each_request_and_stops_with_every_row_intact_when_that_fails(tmp_path: Path) -> None:
    limiter = Limiter()
    accounts: list[Any] = [{"id": number, "name": f"Account {number}"} for number in range(1, 9)]
    rows = [{"id": number, "city": "Oslo"} for number in range(1, 9)]

    def fails_after_five() -> None:
        limiter.fails = ConnectionError("redis is away") if limiter.granted == 5 and is_away else None
        limiter.function()

    is_away = False
    with Sandbox(accounts=accounts) as sandbox, client_of(sandbox, fails_after_five) as client:
        path = tmp_path / "a.replyplan"
        limiter.granted, is_away = 5, True
        with pytest.raises(RateLimitError, match="No row was lost") as caught:
            client.plan_contact_account_updates(rows, save_as=path)
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert (caught.value.status, len(sandbox.requests)) == (429, 0)
        limiter.granted = 0
        plan = client.plan_contact_account_updates(rows, save_as=path)
        with pytest.raises(RateLimitError, match="repeat the run"):
            plan.apply()
        assert {status for status, rows in plan.counts.items() if rows} <= {"changed", "pending"}
        assert plan.counts["pending"] > 0
        assert len(sandbox.requests) == limiter.granted == 5
        is_away = False
        result = plan.apply()
        assert result.counts["changed"] == 8
        # When the function returns and a run has nothing to send, the leave is unused.
        assert 0 <= limiter.granted - len(sandbox.requests) <= 1


@needs_posix
def test_ctrl_c_stops_a_run_while_it_blocks(tmp_path: Path) -> None:
    limiter = Limiter()
    with Sandbox() as sandbox, client_of(sandbox, limiter.function) as client:
        row = {"id": next(iter(sandbox.accounts)), "city": "Tromsø"}
        plan = client.plan_contact_account_updates([row], save_as=tmp_path / "a.replyplan")
        limiter.wait = 10
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            plan.apply()
        assert time.monotonic() - begin < 2
        assert plan.counts["pending"] == 1


def test_a_process_exits_while_it_blocks() -> None:
    code = """
        import threading, time
        from replyio import Quota
        from replyio.sandbox import Sandbox
        sandbox = Sandbox()
        inside = threading.Event()
        def block():
            inside.set()
            time.sleep(60)
        client = sandbox.client(quota=Quota(acquire=block, shared=False))
        threading.Thread(target=client.get_contact_account, args=(4711,), daemon=True).start()
        inside.wait()
        print("done")
    """
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
    assert time.monotonic() - begin < 10


def test_its_thread_ends_with_the_last_client_although_the_function_knows_it(reply_sandbox: Sandbox) -> None:
    class Knows:
        client: ReplyClient

        def __call__(self) -> None:
            threads.append(threading.current_thread())

    threads: list[threading.Thread] = []
    knows = Knows()
    knows.client = client_of(reply_sandbox, knows)
    knows.client.get_contact_account(4711)
    gone = weakref.ref(knows.client)
    knows.client.close()
    del knows
    for _ in range(100):
        gc.collect()
        if gone() is None and not threads[0].is_alive():
            break
        time.sleep(0.05)
    assert gone() is None
    assert not threads[0].is_alive()


def test_a_long_wait_for_it_is_logged(reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> None:
    limiter = Limiter(5.5)
    with caplog.at_level(logging.WARNING, "replyio"), client_of(reply_sandbox, limiter.function) as client:
        client.get_contact_account(4711)
    assert [record.getMessage() for record in caplog.records] == [
        "get of account 4711: waiting at most 115 s for Quota(acquire=...)"
    ]


def module_level() -> None:
    """For a pickle."""


def test_a_quota_with_it_is_compared_copied_and_pickled() -> None:
    quota = Quota(acquire=module_level)
    assert quota == pickle.loads(pickle.dumps(quota)) == copy.deepcopy(quota) != Quota()
    assert hash(quota) == hash(copy.copy(quota))
    assert "acquire=<function module_level" in repr(quota)
    with pytest.raises(ConfigurationError, match="acquire must be a function"):
        Quota(acquire=5)  # type: ignore[arg-type]
