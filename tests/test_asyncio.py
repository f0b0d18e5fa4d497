"""Calls behave as asyncio's own do: cancelled at once, silent, and on every kind of loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import random
import socket
import sys
import threading
import time
import types
import warnings
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import uvloop

import replyio
from replyio import NotFoundError, Quota, ReplyClient, TransportError, ValidationError
from replyio.sandbox import Fault, Sandbox
from support import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator


class Blind(asyncio.SelectorEventLoop):
    """A loop that cannot watch a file descriptor, as asyncio's default on Windows."""

    def add_reader(self, *_arguments: Any) -> None:  # type: ignore[override]
        raise NotImplementedError


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
    "blind": Blind,
}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of each kind. Nothing may be told to its exception handler, and no task be left on it."""
    loop = LOOPS[request.param]()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(asyncio.sleep(0))
        assert asyncio.all_tasks(loop) == set()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    gc.collect()
    assert told == []


class Silent:
    """A server that reads requests and never answers. It sees when its clients go."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/v3"
        self.arrived = threading.Semaphore(0)
        self.gone = threading.Semaphore(0)
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self) -> None:
        threads = []
        while True:
            connection, _ = self.listener.accept()
            if not connection.recv(1, socket.MSG_PEEK):
                connection.close()
                break
            threads.append(threading.Thread(target=self.serve, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65536)
            self.arrived.release()
            try:
                while connection.recv(65536):
                    pass
            except ConnectionResetError:
                pass
            self.gone.release()

    def stop(self) -> None:
        socket.create_connection(self.listener.getsockname()).close()
        self.thread.join(30)
        self.listener.close()
        assert not self.thread.is_alive(), "a connection was left open"


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.stop()


async def until(semaphore: threading.Semaphore, count: int = 1) -> None:
    """Waits for something that another thread sees."""
    for _ in range(count):
        begin = time.monotonic()
        while not semaphore.acquire(blocking=False):
            assert time.monotonic() - begin < 10, "it did not come"
            await asyncio.sleep(0.005)


def test_many_calls_at_once_get_their_own_answers(loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox) -> None:
    async def main() -> list[int]:
        async with reply_sandbox.client(quota=None) as client:
            accounts = await asyncio.gather(*(client.get_contact_account_async(id) for id in ids))
        return [account.id for account in accounts]

    ids = [4711, 4712, 4713] * 40
    assert loop.run_until_complete(main()) == ids


def test_errors_reach_their_own_callers(loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox) -> None:
    async def main() -> list[Any]:
        async with reply_sandbox.client() as client:
            calls = (client.get_contact_account_async(id) for id in (1, 4711, 2))
            return await asyncio.gather(*calls, return_exceptions=True)

    first, account, second = loop.run_until_complete(main())
    assert account.id == 4711
    for id, error in ((1, first), (2, second)):
        assert isinstance(error, NotFoundError)
        assert f"account {id} failed" in str(error)


CALLS: dict[str, Callable[[ReplyClient], Coroutine[Any, Any, Any]]] = {
    "get": lambda client: client.get_contact_account_async(4711),
    "update": lambda client: client.update_contact_account_async(4711, name="Acme"),
    "patch": lambda client: client.patch_contact_account_async(4711, city="Oslo"),
    "list": lambda client: client.list_contact_accounts_async().to_polars(),
}


@pytest.mark.parametrize("operation", CALLS)
def test_a_cancelled_call_closes_its_connection(
    loop: asyncio.AbstractEventLoop, operation: str, silent: Silent
) -> None:
    async def main() -> None:
        client = ReplyClient("key", base_url=silent.url)
        task = asyncio.ensure_future(CALLS[operation](client))
        await until(silent.arrived)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(silent.gone)
        client.close()

    loop.run_until_complete(main())


def test_a_call_that_wait_for_ends_closes_its_connection(loop: asyncio.AbstractEventLoop, silent: Silent) -> None:
    async def main() -> None:
        client = ReplyClient("key", base_url=silent.url)
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(client.get_contact_account_async(4711), 0.1)
        await until(silent.gone)
        client.close()

    loop.run_until_complete(main())


def test_a_cancelled_gather_closes_all_its_connections(loop: asyncio.AbstractEventLoop, silent: Silent) -> None:
    async def main() -> None:
        client = ReplyClient("key", base_url=silent.url)
        calls = asyncio.gather(*(client.get_contact_account_async(id) for id in range(1, 9)))
        await until(silent.arrived, 8)
        calls.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls
        await until(silent.gone, 8)
        client.close()

    loop.run_until_complete(main())


if sys.version_info >= (3, 11):

    def test_a_group_whose_member_fails_closes_the_connections_of_the_others(
        loop: asyncio.AbstractEventLoop, silent: Silent
    ) -> None:
        async def calls_of(client: ReplyClient) -> None:
            async with asyncio.TaskGroup() as group:
                for id in (1, 2, 3):
                    group.create_task(client.get_contact_account_async(id))
                await until(silent.arrived, 3)
                group.create_task(client.get_contact_account_async(0))

        async def main() -> None:
            client = ReplyClient("key", base_url=silent.url)
            with pytest.RaisesGroup(ValidationError):
                await calls_of(client)
            await until(silent.gone, 3)
            client.close()

        loop.run_until_complete(main())

    def test_a_timeout_of_asyncio_closes_the_connection(loop: asyncio.AbstractEventLoop, silent: Silent) -> None:
        async def main() -> None:
            client = ReplyClient("key", base_url=silent.url)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.get_contact_account_async(4711)
            await until(silent.gone)
            client.close()

        loop.run_until_complete(main())


def test_a_call_can_be_cancelled_while_it_waits(loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox) -> None:
    async def cancelled(call: Awaitable[Any]) -> None:
        begin = time.monotonic()
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(call, 0.1)
        assert time.monotonic() - begin < 1

    async def main() -> None:
        async with reply_sandbox.client(api_key=f"key-{id(loop)}", quota=Quota(1, 100)) as client:
            await client.get_contact_account_async(4711)
            await cancelled(client.get_contact_account_async(4711))
        reply_sandbox.add_fault(Fault(status=429, retry_after=60))
        async with reply_sandbox.client(quota=None) as client:
            await cancelled(client.get_contact_account_async(4711))

    loop.run_until_complete(main())


def test_cancelling_at_any_moment_is_silent_and_leaves_the_client_whole(
    loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox
) -> None:
    async def main() -> None:
        async with reply_sandbox.client(quota=None) as client:
            for _ in range(30):
                tasks = [asyncio.ensure_future(client.get_contact_account_async(id)) for id in [4711, 1] * 5]
                await asyncio.sleep(chance.random() * 0.004)
                for task in tasks:
                    if chance.random() < 0.7:
                        task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(result, BaseException):
                        assert isinstance(result, (asyncio.CancelledError, NotFoundError))
                    else:
                        assert result.id == 4711
                assert (await client.get_contact_account_async(4712)).id == 4712

    chance = random.Random(7)  # noqa: S311
    loop.run_until_complete(main())


def test_a_call_keeps_its_context(loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox) -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def one(number: int) -> int:
        variable.set(number)
        await client.get_contact_account_async(4711)
        return variable.get()

    async def main() -> list[int]:
        return list(await asyncio.gather(*(one(number) for number in range(8))))

    with reply_sandbox.client() as client:
        assert loop.run_until_complete(main()) == list(range(8))


def test_a_handler_of_the_log_that_fails_takes_no_answer_away(
    loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError(f"no {record.name}")

    async def main() -> list[int]:
        calls = (client.get_contact_account_async(id) for id in (4711, 4712, 4713))
        return [account.id for account in await asyncio.wait_for(asyncio.gather(*calls), 10)]

    told: list[str] = []
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    caplog.set_level(logging.INFO, "replyio")
    handler = Broken()
    logging.getLogger("replyio").addHandler(handler)
    try:
        with reply_sandbox.client() as client:
            for _ in range(2):
                assert loop.run_until_complete(main()) == [4711, 4712, 4713]
    finally:
        logging.getLogger("replyio").removeHandler(handler)
    assert set(told) == {"no replyio"}


def test_a_list_left_in_the_middle_leaves_nothing(loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox) -> None:
    async def main() -> None:
        async with reply_sandbox.client() as client:
            async for account in client.list_contact_accounts_async(page_size=1):
                assert account.id
                break

    loop.run_until_complete(main())
    assert len(reply_sandbox.requests) == 1


@pytest.mark.filterwarnings("ignore:.*blocks the running event loop:replyio.ReplyWarning")
def test_a_blocking_call_works_on_a_running_loop(loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox) -> None:
    async def main() -> tuple[int, int]:
        pending = asyncio.ensure_future(client.get_contact_account_async(4712))
        return client.get_contact_account(4711).id, (await pending).id

    with reply_sandbox.client() as client:
        assert loop.run_until_complete(main()) == (4711, 4712)


@pytest.mark.parametrize("operation", ["get", "update", "patch"])
def test_closing_the_client_fails_the_calls_of_other_tasks(
    operation: str, loop: asyncio.AbstractEventLoop, silent: Silent
) -> None:
    async def main() -> None:
        client = ReplyClient("key", base_url=silent.url)
        fields = {} if operation == "get" else {"name": "Acme"}
        call = getattr(client, f"{operation}_contact_account_async")
        task = asyncio.ensure_future(call(4711, **fields))
        await until(silent.arrived)
        await client.aclose()
        with pytest.raises(TransportError) as closed:
            await task
        told = "the client was closed during the call"
        if operation == "update":
            told += "; the update may have been applied; sending it again is safe"
        assert (str(closed.value), closed.value.may_have_been_applied) == (told, operation == "update")
        await until(silent.gone)

    loop.run_until_complete(main())


@pytest.mark.parametrize(("status", "may_have_been_applied"), [(429, False), (503, True)])
def test_a_client_that_is_closed_before_a_retry_tells_what_the_first_attempt_may_have_done(
    status: int, may_have_been_applied: bool, loop: asyncio.AbstractEventLoop, reply_sandbox: Sandbox
) -> None:
    waiting = threading.Semaphore(0)
    handler = logging.Handler()
    handler.emit = lambda _: waiting.release()  # type: ignore[method-assign]

    async def main() -> None:
        reply_sandbox.add_fault(Fault(method="PUT", status=status, retry_after=10))
        client = reply_sandbox.client()
        task = asyncio.ensure_future(client.patch_contact_account_async(4711, city="Bergen"))
        await until(waiting)
        await client.aclose()
        with pytest.raises(TransportError, match="closed during the call") as closed:
            await task
        assert closed.value.may_have_been_applied is may_have_been_applied

    logging.getLogger("replyio").addHandler(handler)
    try:
        loop.run_until_complete(main())
    finally:
        logging.getLogger("replyio").removeHandler(handler)


@pytest.mark.parametrize("how", ["close", "another_loop", "resume"])
def test_a_loop_that_stops_in_the_step_of_an_answer_is_left(how: str, reply_sandbox: Sandbox) -> None:
    """Such a loop may never run its next step, and nobody may close it."""

    async def main() -> None:
        await client.get_contact_account_async(4711)
        loop.stop()

    client = reply_sandbox.client()
    loop = asyncio.SelectorEventLoop()
    task = loop.create_task(main())
    loop.run_forever()
    watched = set(loop._selector.get_map())
    if how == "close":
        client.close()
    elif how == "another_loop":
        asyncio.run(client.get_contact_account_async(4711))
    else:
        loop.run_until_complete(asyncio.sleep(0))
    assert len(watched - set(loop._selector.get_map())) == 1
    assert task.done()
    client.close()
    loop.close()


def test_canceling_all_tasks_ends_no_later_call(reply_sandbox: Sandbox) -> None:
    async def main() -> None:
        with reply_sandbox.client(quota=None) as client:
            waiting = asyncio.ensure_future(client.get_contact_account_async(4711))
            while not reply_sandbox.requests:  # noqa: ASYNC110 - the sandbox has no event
                await asyncio.sleep(0.01)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            # In the same step, so that the client still watches this loop for the first call.
            assert (await client.get_contact_account_async(4712)).id == 4712
            await asyncio.wait([waiting])

    reply_sandbox.add_fault(Fault(id=4711, delay=5))
    loop = Blind()
    loop.call_later(10, loop.stop)  # otherwise the test would wait for ever
    loop.run_until_complete(main())
    loop.run_until_complete(asyncio.sleep(0))
    assert asyncio.all_tasks(loop) == set()
    loop.close()


def test_each_socket_is_received_from_by_one_loop_only(reply_sandbox: Sandbox) -> None:
    """Windows binds a socket to the first one, also through its duplicates."""

    class Windows(Blind):
        async def sock_recv(self, sock: socket.socket, count: int) -> bytes:
            inode = os.fstat(sock.fileno()).st_ino
            if bound.setdefault(inode, sock) is not sock:
                raise OSError(22, "The parameter is incorrect")
            return await super().sock_recv(sock, count)

    bound: dict[int, socket.socket] = {}
    with reply_sandbox.client() as client:
        for _ in range(2):
            loop = Windows()
            for _ in range(2):
                call = asyncio.wait_for(client.get_contact_account_async(4711), 10)
                assert loop.run_until_complete(call).id == 4711
            loop.close()


def test_one_client_serves_one_loop_after_the_other(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        for make in list(LOOPS.values()) * 3:
            loop = make()
            assert loop.run_until_complete(client.get_contact_account_async(4711)).id == 4711
            loop.close()
        for _ in range(3):
            assert asyncio.run(client.get_contact_account_async(4711)).id == 4711
    assert len({request.connection for request in reply_sandbox.requests}) == 1


@pytest.mark.parametrize("base", [asyncio.SelectorEventLoop, uvloop.Loop])
def test_a_loop_is_watched_from_the_first_of_several_calls_to_the_last(
    base: type[asyncio.AbstractEventLoop], reply_sandbox: Sandbox
) -> None:
    class Watched(base):  # type: ignore[misc, valid-type]
        def add_reader(self, *arguments: Any) -> None:
            seen.append("add")
            super().add_reader(*arguments)

        def remove_reader(self, descriptor: Any) -> Any:
            seen.append("remove")
            return super().remove_reader(descriptor)

    async def main() -> None:
        seen.clear()  # the loop's own
        for _ in range(20):
            await client.get_contact_account_async(4711)
        assert seen == ["add"]
        await asyncio.sleep(0)
        assert seen == ["add", "remove"]
        with pytest.raises(NotFoundError):
            await client.get_contact_account_async(1)

    seen: list[str] = []
    with reply_sandbox.client(quota=None) as client:
        loop = Watched()
        loop.run_until_complete(main())
        assert seen == ["add", "remove", "add", "remove"]
        loop.close()


def test_loops_of_all_kinds_share_a_client_at_once(reply_sandbox: Sandbox) -> None:
    async def main() -> None:
        for _ in range(20):
            accounts = await asyncio.gather(*(client.get_contact_account_async(id) for id in (4711, 4712)))
            assert [account.id for account in accounts] == [4711, 4712]

    def work(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
        loop = make()
        loop.run_until_complete(main())
        loop.close()
        done.append(make)

    done: list[object] = []
    with reply_sandbox.client(quota=None) as client:
        threads = [threading.Thread(target=work, args=(make,)) for make in LOOPS.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(done) == len(LOOPS)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_loop_closed_while_calls_are_pending_harms_nobody(kind: str, silent: Silent, reply_sandbox: Sandbox) -> None:
    client = ReplyClient("key", base_url=silent.url)
    for turn in range(3):
        loop = LOOPS[kind]()
        loop.set_exception_handler(lambda _loop, _context: None)  # asyncio's own: a task was destroyed
        task = loop.create_task(client.get_contact_account_async(4711))
        loop.run_until_complete(until(silent.arrived))
        if turn:  # the call on the loop before
            loop.run_until_complete(until(silent.gone))
        loop.close()
        del task
    client.close()
    asyncio.run(until(silent.gone))
    with reply_sandbox.client() as other:
        assert asyncio.run(other.get_contact_account_async(4711)).id == 4711


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_the_debug_mode_has_nothing_to_say(kind: str, reply_sandbox: Sandbox) -> None:
    code = f"""
        import asyncio, gc, replyio, uvloop
        client = replyio.ReplyClient(quota=None)

        async def main():
            calls = [client.get_contact_account_async(id) for id in (4711, 1, 0)]
            await asyncio.gather(*calls, return_exceptions=True)
            tasks = [asyncio.ensure_future(client.patch_contact_account_async(4711, city=str(n))) for n in range(9)]
            await asyncio.sleep(0.001)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            async for account in client.list_contact_accounts_async(page_size=1):
                break

        for turn in range(3):
            if {kind!r} == "uvloop":
                uvloop.install() if not hasattr(uvloop, "run") else None
                uvloop.run(main(), debug=True)
            else:
                asyncio.run(main(), debug=True)
        gc.collect()
        print("done")
    """
    done = run(code, reply_sandbox, variables={"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_coroutine_that_is_not_awaited_sends_nothing(reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        coroutine = client.get_contact_account_async(4711)
        coroutine.close()
    assert reply_sandbox.requests == []


# Jobs


class Slow:
    """A plan of many rows, each of which is answered after a while."""

    ROWS = 30

    def __init__(self, delay: float) -> None:
        accounts = [{"id": id, "name": f"account {id}"} for id in range(1, self.ROWS + 1)]
        self.sandbox = Sandbox(accounts, faults=[Fault(method="PUT", delay=delay)])
        self.client = self.sandbox.client(quota=None)
        rows = [{"id": id, "city": "Oslo"} for id in range(1, self.ROWS + 1)]
        self.plan = self.client.plan_contact_account_updates(rows, progress=False)

    async def has_sent(self) -> None:
        """Waits until an update is in flight."""
        while not any(request.method == "PUT" for request in self.sandbox.requests):  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.005)

    async def has_ended(self) -> None:
        """Waits until none is."""
        while self.plan.counts["unknown"]:  # noqa: ASYNC110 - no event says it
            await asyncio.sleep(0.005)

    def written(self) -> int:
        return sum(account.city == "Oslo" for account in self.sandbox.accounts.values())

    def close(self) -> None:
        self.plan.close()
        self.client.close()
        self.sandbox.stop()


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow(delay=1.0)
    yield slow
    slow.close()


async def by_a_cancel(slow: Slow) -> None:
    task = asyncio.ensure_future(slow.plan.apply_async(progress=False))
    await slow.has_sent()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_wait_for(slow: Slow) -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(slow.plan.apply_async(progress=False), 0.3)


async def by_a_scope_of_anyio(slow: Slow) -> None:
    with anyio.move_on_after(0.3) as scope:
        await slow.plan.apply_async(progress=False)
    assert scope.cancelled_caught


async def by_a_task_group_of_anyio(slow: Slow) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(slow.plan.apply_async, "skip", False)
        await slow.has_sent()
        group.cancel_scope.cancel()


async def by_a_future_of_another_thread(slow: Slow) -> None:
    loop = asyncio.get_running_loop()
    future = asyncio.run_coroutine_threadsafe(slow.plan.apply_async(progress=False), loop)
    await slow.has_sent()
    future.cancel()
    await asyncio.sleep(0.1)
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)


async def by_closing_the_coroutine(slow: Slow) -> None:
    coroutine = slow.plan.apply_async(progress=False)
    waited_for = coroutine.send(None)
    await slow.has_sent()
    coroutine.close()
    assert waited_for is not None
    # Nobody waits for it: it ends by itself.
    await slow.has_ended()


@pytest.mark.parametrize(
    "stop",
    [
        by_a_cancel,
        by_wait_for,
        by_a_scope_of_anyio,
        by_a_task_group_of_anyio,
        by_a_future_of_another_thread,
        by_closing_the_coroutine,
    ],
)
def test_a_job_that_is_stopped_finishes_what_is_in_flight(stop: Callable[[Slow], Any], slow: Slow) -> None:
    began = time.monotonic()
    asyncio.run(stop(slow))
    assert time.monotonic() - began < 3
    counts = slow.plan.counts
    assert counts["changed"] >= 1
    assert counts["changed"] + counts["pending"] == slow.ROWS
    assert slow.written() == counts["changed"]


def test_a_job_whose_task_is_cancelled_twice_ends_at_once(slow: Slow) -> None:
    async def main() -> float:
        task = asyncio.ensure_future(slow.plan.apply_async(progress=False))
        await slow.has_sent()
        task.cancel()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(main()) < 0.3


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_bulk_calls_end_while_the_clock_of_python_stands_still(mode: str) -> None:
    code = f"""
        import asyncio
        from freezegun import freeze_time
        from replyio import ReplyClient
        client = ReplyClient(quota=None)
        rows = [{{"id": 4711, "city": "Bergen"}}]
        with freeze_time("2026-01-01"):
            if {mode == "sync"}:
                result = client.patch_contact_accounts(rows)
            else:
                result = asyncio.run(client.patch_contact_accounts_async(rows))
        print(result.counts, 0 < result.seconds < 10)
    """
    with Sandbox() as sandbox:
        done = run(code, sandbox, timeout=20)
    assert (done.stdout, done.stderr, done.returncode) == ("{'changed': 1} True\n", "", 0)


@pytest.mark.parametrize("again", [False, True])
def test_a_job_is_stopped_while_the_clock_of_python_stands_still(again: bool) -> None:
    code = f"""
        import asyncio
        from freezegun import freeze_time
        from replyio import ReplyClient
        client = ReplyClient(quota=None)
        plan = client.plan_contact_account_updates([{{"id": 4713, "city": "Bergen"}}], progress=False)

        async def main():
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(plan.apply_async(progress=False))
            await asyncio.to_thread(sleep, 0.3)
            task.cancel()
            if {again}:
                await asyncio.to_thread(sleep, 0.1)
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                print("cancelled")

        from time import sleep
        with freeze_time("2026-01-01"):
            asyncio.run(main())
    """
    with Sandbox(faults=[Fault(method="PUT", delay=0.8 if not again else 60)]) as sandbox:
        done = run(code, sandbox, timeout=20)
    assert (done.stdout, done.returncode) == ("cancelled\n", 0), done.stderr


@pytest.mark.parametrize(
    "call", ["get", "update", "patch", "list", "check", "plan", "apply", "revert", "result.revert"]
)
def test_a_synchronous_call_in_a_running_loop_is_a_warning_once(
    call: str, reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replyio._blocking._has_warned", False)
    with reply_sandbox.client() as client:
        plan = client.plan_contact_account_updates([{"id": 4711, "city": "Oslo"}], progress=False)
        result = plan.apply(progress=False)
        act: dict[str, Any] = {
            "get": lambda: client.get_contact_account(4711),
            "update": lambda: client.update_contact_account(4711, name="Acme"),
            "patch": lambda: client.patch_contact_account(4711, city="Oslo"),
            "list": lambda: list(client.list_contact_accounts()),
            "plan": lambda: client.plan_contact_account_updates([{"id": 4711}], progress=False),
            "apply": lambda: plan.apply(progress=False),
            "check": client.check,
            "revert": lambda: plan.revert(progress=False),
            "result.revert": lambda: result.revert(progress=False),
        }

        async def twice() -> None:
            act[call]()
            act[call]()

        with pytest.warns(replyio.ReplyWarning, match=r"blocks the running event loop .* hint: .*_async\(\)") as caught:
            asyncio.run(twice())
        assert len(caught) == 1
        assert caught[0].filename == __file__
        names = {"list": "list_contact_accounts", "plan": "plan_contact_account_updates"}
        said = names.get(call, call.rpartition(".")[2])
        assert f"await {said}" in str(caught[0].message) or f"{said}_" in str(caught[0].message)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            monkeypatch.setattr("replyio._blocking._has_warned", False)
            act[call]()
            monkeypatch.setattr("IPython.get_ipython", lambda: types.SimpleNamespace(kernel=None))
            asyncio.run(twice())
