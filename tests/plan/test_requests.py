"""A plan costs few requests, however many accounts and rows there are, and a list that moves loses no row."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from replyio.sandbox import Sandbox

from .jobs import assert_complete, assert_written, companies, do, moves, plan, puts

PAGE = 1_000


@pytest.fixture(scope="module")
def crowd() -> Any:
    with Sandbox(accounts=companies(10_000)) as sandbox:
        yield sandbox


def test_five_hundred_changes_among_ten_thousand_accounts_cost_540_requests_at_most(crowd: Sandbox) -> None:
    crowd.clear_requests()
    before = crowd.accounts
    rows = [{"id": id, "city": f"Bergen {id}" if id % 20 == 7 else "Oslo"} for id in range(1, 10_001)]
    with crowd.client(quota=None) as client, plan(client, "sync", rows) as made:
        assert made.counts == {"pending": 500, "unchanged": 9_500}
        planned = len(crowd.requests)
        assert planned <= 10
        estimated = made.requests
        result = do(made, "apply")
        assert_complete(result, 10_000)
        assert result.counts == {"changed": 500, "unchanged": 9_500}
    assert estimated == result.requests == len(crowd.requests) - planned
    assert len(crowd.requests) <= 540
    assert_written(crowd, before, {id: {"city": f"Bergen {id}"} for id in range(7, 10_001, 20)})


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 7, 11, 19, 40])
def test_planning_costs_at_most_twice_the_better_of_list_and_single_reads(rows: int, crowd: Sandbox) -> None:
    crowd.clear_requests()
    # At the end of the list, where pages help last.
    with crowd.client(quota=None) as client, plan(client, "sync", moves(range(10_001 - rows, 10_001), "Elsewhere")):
        pass
    assert len(crowd.requests) <= 2 * min(rows, 10_000 // PAGE)


@pytest.mark.parametrize("accounts", [1, 1_000, 1_001, 2_500, 4_000])
def test_the_same_over_a_grid_of_sizes(accounts: int) -> None:
    pages = -(-accounts // PAGE)
    with Sandbox(accounts=companies(accounts)) as sandbox, sandbox.client(quota=None) as client:
        for rows in (1, 2, 3, 5, 9, 30):
            for first in (1, max(1, accounts - rows + 1)):
                sandbox.clear_requests()
                ids = range(first, min(first + rows, accounts + 1))
                with plan(client, "sync", moves(ids)) as made:
                    assert made.counts == {"pending": len(ids)}
                assert len(sandbox.requests) <= 2 * min(len(ids), pages), (rows, first)


def test_accounts_that_are_not_there_cost_one_read_each_at_most(crowd: Sandbox) -> None:
    crowd.clear_requests()
    with crowd.client(quota=None) as client, plan(client, "sync", moves(range(20_001, 20_031))) as made:
        assert made.counts == {"not_found": 30}
    assert len(crowd.requests) <= 10 + 30


class Mover:
    """Another program that removes an account and adds it again, in turn, and leaves none out at its end."""

    def __init__(self, sandbox: Sandbox, move: Callable[[int], None]) -> None:
        self._sandbox = sandbox
        self._move = move
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self.moves = 0

    def _work(self) -> None:
        while self.moves % 2 or (not self._ended.is_set() and self.moves < 2_000):
            self._move(self.moves)
            self.moves += 1
            time.sleep(0.001)

    def __enter__(self) -> Mover:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


ORDINARY = range(1_001, 5_001)


@pytest.mark.parametrize("by", ["id", "name", "domain_name"])
def test_a_list_that_moves_while_it_is_read_loses_no_row(by: str) -> None:
    with Sandbox(accounts=companies(5_000)) as sandbox:

        def move(step: int) -> None:
            # Out at the front, and in again: what is behind slips by one, to the left and to the right.
            id = 1 + step // 2 % 900
            if step % 2 == 0:
                sandbox.remove_account(id)
            else:
                sandbox.set_account({"id": id, "name": f"Company {id}"})

        names: dict[str, Callable[[int], Any]] = {
            "id": lambda id: id,
            "name": lambda id: f"Company {id}",
            "domain_name": lambda id: f"company{id}.example",
        }
        rows = [{by: names[by](id), "city": "Bergen"} for id in ORDINARY]
        with sandbox.client(quota=None) as client:
            for _ in range(3):
                with Mover(sandbox, move) as mover:
                    made = plan(client, "sync", rows, match_on=by)
                assert mover.moves > 0
                assert made.counts == {"pending": len(ORDINARY)}
                assert [row["id"] for row in made.rows] == list(ORDINARY)
                made.close()


def test_pages_that_slip_between_plan_and_apply_lose_no_row() -> None:
    with Sandbox(accounts=companies(2_200)) as sandbox, sandbox.client(quota=None) as client:
        ids = range(1_000, 2_200, 10)
        made = plan(client, "sync", moves(ids))
        for id in range(1, 60):
            sandbox.remove_account(id)
        before = sandbox.accounts
        result = do(made, "apply")
        assert result.counts == {"changed": len(ids)}
        assert_written(sandbox, before, {id: {"city": f"Bergen {id}"} for id in ids})
        assert len(puts(sandbox)) == len(ids)
        made.close()


def test_matching_by_name_reads_the_whole_list_with_one_account_of_overlap(crowd: Sandbox) -> None:
    crowd.clear_requests()
    with (
        crowd.client(quota=None) as client,
        plan(client, "sync", [{"name": "Company 1", "city": "X"}], match_on="name") as made,
    ):
        assert made.counts == {"pending": 1}
    assert [request.query["skip"] for request in crowd.requests][:3] == ["0", "999", "1998"]
    assert len(crowd.requests) == 11
