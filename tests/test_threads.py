"""One client serves many threads and event loops at once, and everybody gets their own answer."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from replyio.sandbox import Sandbox
from support import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio import ReplyClient

THREADS = 64
ROUNDS = 15
FIRST = Path(__file__).parent.parent / "reliability" / "programs" / "first.py"


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox([{"id": id, "name": f"account {id}"} for id in range(1, THREADS + 1)]) as sandbox:
        yield sandbox


@pytest.fixture
def client(service: Sandbox) -> Iterator[ReplyClient]:
    with service.client(quota=None) as client:
        yield client


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Runs work in so many threads, begun together; raises what the first of them raised."""
    barrier = threading.Barrier(count)
    raised: list[BaseException] = []

    def begin(number: int) -> None:
        try:
            barrier.wait(30)
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    threads = [threading.Thread(target=begin, args=(number,), daemon=True) for number in range(1, count + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not [thread for thread in threads if thread.is_alive()], "a deadlock"
    if raised:
        raise raised[0]


@pytest.mark.skipif(sys.platform == "win32", reason="each try is a fork")
@pytest.mark.parametrize("first", ["import", "call", "sandbox", "plan"])
def test_the_first_use_may_be_in_a_thread_that_ends(first: str) -> None:
    with Sandbox([{"id": 1, "name": "Acme"}]) as sandbox:
        command = [sys.executable, str(FIRST), first, "50"]
        done = subprocess.run(
            command, env=environment(sandbox), capture_output=True, text=True, timeout=110, check=False
        )
    assert (done.stderr, done.returncode) == ("", 0)
    told = json.loads(done.stdout)
    assert (told["tried"], told["short"], told["notes"]) == (50, 0, [])


def test_sixty_four_threads_get_their_own_answers(client: ReplyClient, service: Sandbox) -> None:
    def work(number: int) -> None:
        for turn in range(ROUNDS):
            city = f"{number} {turn}"
            account = client.update_contact_account(number, name=f"account {number}", city=city)
            assert (account.id, account.city) == (number, city)
            account = client.get_contact_account(number)
            assert (account.id, account.city) == (number, city)

    at_once(THREADS, work)
    assert len(service.requests) == THREADS * ROUNDS * 2
    assert len({request.connection for request in service.requests}) <= THREADS


def test_sixteen_threads_with_several_loops_each_get_their_own_answers(client: ReplyClient, service: Sandbox) -> None:
    async def main(number: int) -> None:
        ids = [(number + step) % THREADS + 1 for step in range(8)]
        accounts = await asyncio.gather(*(client.get_contact_account_async(id) for id in ids))
        assert [account.id for account in accounts] == ids

    def work(number: int) -> None:
        for _ in range(4):
            asyncio.run(main(number))

    at_once(16, work)
    assert len(service.requests) == 16 * 4 * 8


@pytest.mark.filterwarnings("ignore:.*blocks the running event loop:replyio.ReplyWarning")
def test_threads_and_loops_share_a_client(client: ReplyClient) -> None:
    async def main(number: int) -> None:
        for _ in range(10):
            assert (await client.get_contact_account_async(number)).id == number
            assert client.get_contact_account(number).id == number

    def work(number: int) -> None:
        if number % 2:
            asyncio.run(main(number))
        else:
            for _ in range(20):
                assert client.get_contact_account(number).id == number

    at_once(16, work)


def test_a_client_may_be_closed_while_threads_use_it(client: ReplyClient) -> None:
    def work(number: int) -> None:
        for _ in range(ROUNDS):
            if number == 1:
                client.close()
            else:
                assert client.get_contact_account(number).id == number

    at_once(16, work)


def test_derived_clients_may_be_made_while_threads_use_them(client: ReplyClient) -> None:
    def work(number: int) -> None:
        for _ in range(5):
            assert client.with_options(act_as=number).get_contact_account(number).id == number

    at_once(16, work)


def test_threads_list_at_once(service: Sandbox, client: ReplyClient) -> None:
    found: list[int] = []

    def work(_number: int) -> None:
        found.extend(account.id for account in client.list_contact_accounts(page_size=10))

    at_once(8, work)
    assert sorted(found) == sorted(list(service.accounts) * 8)
