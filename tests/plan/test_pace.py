"""A plan is as fast as the quota allows and never faster, waits as long as it is told to, and says for what."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import itertools
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from replyio import Plan, Quota, RateLimitError, ReplyClient
from replyio._counts import Counts
from replyio.plan import Options
from replyio.sandbox import Fault, Sandbox
from support import run

from .jobs import assert_complete, assert_written, companies, do, fresh, moves, plan, statuses, succeeded

# Of the 95 of a minute a bulk run leaves a tenth to single calls.
PER_MINUTE, PER_HOUR = 85, 2_900
ENOUGH = 0.97


def seconds(sandbox: Sandbox, scale: float) -> list[float]:
    """When the requests arrived, on the quota's clock."""
    times = [request.time for request in sandbox.requests]
    return [(moment - times[0]).total_seconds() * scale for moment in times]


def limited(sandbox: Sandbox) -> int:
    return sum(request.status == 429 for request in sandbox.requests)


class Watch:
    """Keeps what a job says of itself while it runs."""

    def __init__(self, made: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
        from replyio import _progress

        self.states: list[dict[str, Any]] = []

        class Show(_progress.Show):
            def update(show, state: dict[str, Any]) -> None:  # noqa: N805
                self.states.append(state)

        monkeypatch.setattr("replyio.plan.show_for", lambda _: Show())

    @property
    def waits(self) -> list[dict[str, Any]]:
        return [state for state in self.states if state["waiting"]]


def test_a_plan_takes_all_of_the_minutes_and_no_429() -> None:
    scale, rows = 60.0, 560
    with Sandbox(accounts=companies(rows), quota=(100, 3_000), clock_scale=scale) as sandbox:
        before = sandbox.accounts
        with sandbox.client(api_key=fresh()) as client, plan(client, "sync", moves(range(1, rows + 1))) as made:
            expected = made.seconds
            started = time.monotonic()
            result = do(made, "apply")
            took = time.monotonic() - started
        assert result.counts == {"changed": rows}
        assert_written(sandbox, before, {id: {"city": f"Bergen {id}"} for id in range(1, rows + 1)})
        assert limited(sandbox) == 0
        # Full minutes only: the last one is not used up.
        moments = seconds(sandbox, scale)
        minutes = (len(moments) - 1) // PER_MINUTE
        assert minutes >= 5
        assert moments[minutes * PER_MINUTE] <= minutes * 60 / ENOUGH, moments[minutes * PER_MINUTE]
        assert expected is not None
        assert abs(expected - took) < 1.0, (expected, took)


def test_a_plan_takes_all_of_the_hours_and_no_429() -> None:
    # A small hour: what is allowed in it is used up within its first minutes.
    scale, hourly, rows = 2_000.0, 190, 560
    with Sandbox(accounts=companies(rows), quota=(100, 200), clock_scale=scale) as sandbox:
        quota = Quota(95, hourly, clock_scale=scale, shared=False)
        with (
            sandbox.client(api_key=fresh(), quota=quota) as client,
            plan(client, "sync", moves(range(1, rows + 1))) as made,
        ):
            assert do(made, "apply").counts == {"changed": rows}
        assert limited(sandbox) == 0
        moments = seconds(sandbox, scale)
        hours = (len(moments) - 1) // hourly
        assert hours >= 2
        assert moments[hours * hourly] <= hours * 3_600 / ENOUGH, moments[hours * hourly]


@contextlib.contextmanager
def a_way_to(sandbox: Sandbox, delays: Iterator[float]) -> Iterator[str]:
    """Another address of a sandbox, on the way to which each request takes as long as it is told to."""
    target = urllib.parse.urlsplit(sandbox.url)
    connections: list[asyncio.Task[None] | None] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delays: Iterator[float]) -> None:
        while data := await reader.read(1 << 16):
            await asyncio.sleep(next(delays))
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        there, back = await asyncio.open_connection(target.hostname, target.port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(carry(reader, back, delays), carry(there, writer, itertools.repeat(0.0)))

    async def serve() -> None:
        stop = asyncio.Event()
        async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            serving.set_result((port, asyncio.get_running_loop(), stop))
            await stop.wait()
        # The client has closed its own by now.
        await asyncio.wait_for(asyncio.gather(*filter(None, connections)), 5)

    serving: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    port, loop, stop = serving.result(5)
    try:
        yield f"http://127.0.0.1:{port}{target.path}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def gathered(client: ReplyClient, rows: int) -> None:
    async with client:
        await asyncio.gather(*[client.get_contact_account_async(id) for id in range(1, rows + 1)])


@pytest.mark.parametrize("how", ["a plan", "gathered"])
def test_no_429_however_long_a_request_is_on_its_way(how: str) -> None:
    # Those of the first minute take long, the others arrive at once, and the service allows as many as are sent.
    scale, rows = 100.0, 280
    delays = itertools.chain(itertools.repeat(0.045, PER_MINUTE), itertools.repeat(0.0))
    with (
        Sandbox(accounts=companies(rows), quota=(PER_MINUTE, 3_000), clock_scale=scale) as sandbox,
        a_way_to(sandbox, delays) as base_url,
        sandbox.client(
            api_key=fresh(), base_url=base_url, quota=Quota(PER_MINUTE, clock_scale=scale, bulk_share=1)
        ) as client,
    ):
        if how == "gathered":
            asyncio.run(gathered(client, rows))
        else:
            with plan(client, "sync", moves(range(1, rows + 1))) as made:
                assert do(made, "apply").counts == {"changed": rows}
        assert limited(sandbox) == 0
        moments = seconds(sandbox, scale)
        # And nobody waits for longer than that: what the slow ones take is a few seconds on this clock.
        assert 120 <= moments[PER_MINUTE * 2] <= 180


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(60)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("status", [429, 503])
def test_what_the_service_asks_for_holds_back_every_worker_in_full(
    status: int, service: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = service.accounts
    with service.client(quota=None) as client, plan(client, "sync", moves(range(1, 61))) as made:
        # An update in the middle is refused, with all workers busy.
        service.add_fault(Fault(id=30, method="PUT", status=status, retry_after=2, times=1))
        # While its answer is on the way, no other worker comes round a second time.
        service.add_fault(Fault(method="PUT", delay=0.05))
        watch = Watch(made, monkeypatch)
        result = do(made, "apply")
        assert_complete(result, 60)
    assert result.counts == {"changed": 60}
    assert_written(service, before, {id: {"city": f"Bergen {id}"} for id in range(1, 61)})
    refused = next(request for request in service.requests if request.status == status)
    opens = refused.time + datetime.timedelta(seconds=2)
    # Those that were on their way when the answer came are nobody's fault: fewer than the workers, and at once.
    early = [request for request in service.requests if refused.time < request.time < opens]
    assert len(early) < 8
    assert all(request.time < refused.time + datetime.timedelta(seconds=0.25) for request in early)
    assert [state for state in watch.waits if "Retry-After" in state["waiting"] or "asked" in state["waiting"]]
    assert max(state["waiting_until"] for state in watch.waits) > 1.5


def test_planning_is_held_back_too(service: Sandbox) -> None:
    service.add_fault(Fault(request=1, status=429, retry_after=1))
    with service.client(quota=None) as client, plan(client, "sync", moves(range(1, 61))) as made:
        assert made.counts == {"pending": 60}
    first, second = service.requests
    assert (second.time - first.time).total_seconds() >= 1.0


def test_a_wait_of_more_than_two_hours_stops_with_every_row_intact(service: Sandbox) -> None:
    before = service.accounts
    with service.client(quota=None) as client, plan(client, "sync", moves(range(1, 21))) as made:
        service.add_fault(Fault(method="PUT", status=429, retry_after=7_201))
        with pytest.raises(RateLimitError) as caught:
            do(made, "apply")
        assert caught.value.retry_after == 7_201
        assert made.counts == {"pending": 20}
        assert not succeeded(service)
        service.clear_faults()
        service.clear_requests()
        assert do(made, "apply").counts == {"changed": 20}
    assert_written(service, before, {id: {"city": f"Bergen {id}"} for id in range(1, 21)})


def test_planning_stops_at_such_a_wait_too(service: Sandbox, tmp_path: Path) -> None:
    service.add_fault(Fault(status=429, retry_after=7_201))
    path = tmp_path / "never.replyplan"
    with service.client(quota=None) as client, pytest.raises(RateLimitError):
        plan(client, "sync", moves(range(1, 21)), save_as=path)
    assert not path.exists()


def test_a_wait_for_the_quota_is_shown_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(accounts=companies(150), quota=(100, 3_000), clock_scale=30) as sandbox:
        with sandbox.client(api_key=fresh()) as client, plan(client, "sync", moves(range(1, 151))) as made:
            watch = Watch(made, monkeypatch)
            do(made, "apply")
        assert {state["waiting"] for state in watch.waits} == {"quota: 85 per minute"}
        assert all(state["phase"] == "waiting" for state in watch.waits)
        assert all(0 <= state["waiting_until"] <= 2.1 for state in watch.waits)
        assert limited(sandbox) == 0


GO_ON = """
    import json, sys
    import replyio

    client = replyio.ReplyClient(api_key={key!r}, quota=replyio.Quota(clock_scale={scale}))
    with client, client.open_plan({path!r}) as plan:
        result = plan.apply(progress=False)
        print(json.dumps(result.counts))
"""


def test_another_process_counts_what_the_file_says_was_sent(tmp_path: Path) -> None:
    scale, path, key = 20.0, str(tmp_path / "on.replyplan"), fresh()
    with Sandbox(accounts=companies(150), quota=(100, 3_000), clock_scale=scale) as sandbox:
        before = sandbox.accounts
        with sandbox.client(api_key=key) as client:
            made = plan(client, "sync", moves(range(1, 151)), save_as=path)
            worker = threading.Thread(target=stopped, args=(made,))
            worker.start()
            worker.join()
            made.close()
        sent = len(sandbox.requests)
        assert sent == PER_MINUTE
        done = run(GO_ON.format(key=key, scale=scale, path=path), sandbox)
        assert Counts(json.loads(done.stdout)) == {"changed": 150}, done.stderr
        assert limited(sandbox) == 0
        gap = sandbox.requests[sent].time - sandbox.requests[0].time
        assert gap.total_seconds() * scale >= 60
        assert_written(sandbox, before, {id: {"city": f"Bergen {id}"} for id in range(1, 151)})


def stopped(made: Plan) -> None:
    """Applies a plan until it waits for the quota, and stops it there."""
    job = made._file.start("apply", Options("skip", "stop"))
    until = time.monotonic() + 20
    while not (job.progress()["waiting"] and job.progress()["done"]) and time.monotonic() < until:
        job.wait(0.01)
    time.sleep(0.3)
    job.stop()
    assert job.wait(5)
    assert "pending" in statuses(made.rows)


def test_a_process_does_not_count_its_own_requests_twice(tmp_path: Path) -> None:
    # Planning, stopping and resuming in one process: 92 requests fit into the minute, as they would in one go.
    path = str(tmp_path / "once.replyplan")
    with (
        Sandbox(accounts=companies(80)) as sandbox,
        sandbox.client(api_key=fresh(), quota=Quota(bulk_share=1)) as client,
    ):
        started = time.monotonic()
        for first in (1, 41):
            file = path + str(first)
            with plan(client, "sync", moves(range(first, first + 35)), save_as=file) as made:
                assert do(made, "apply").counts == {"changed": 35}
            with client.open_plan(file) as made:
                do(made, "apply")
        assert time.monotonic() - started < 20
        assert len(sandbox.requests) <= 95
