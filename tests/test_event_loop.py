"""An event loop goes on while replyio reads a large table, looks through a large plan, or makes a DataFrame."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest

from replyio.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROWS = 200_000
# The longest that a loop may wait here, in seconds. `make bench` measures against 0.02 s, on a machine that does
# nothing else. Code that blocks the loop takes 0.13 s and more.
LONGEST = 0.08
# What takes long takes long each time. What another process takes away from this one does not.
TRIES = 4


def stolen() -> float:
    """Returns for how long the threads of this process were ready and had no processor, because others had them."""
    found = 0.0
    for each in Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            found += int(each.read_text().split()[1]) / 1e9
    return found


async def longest_wait(work: Callable[[], Awaitable[object]]) -> float:
    """Returns how late the loop called a task, at most, that asked for its turn every millisecond."""
    waits = [0.0]
    is_done = False

    async def beat() -> None:
        while not is_done:
            before, begun = stolen(), time.perf_counter()
            await asyncio.sleep(0.001)
            late = time.perf_counter() - begun - 0.001
            waits.append(late if late < LONGEST else late - (stolen() - before))

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    try:
        await work()
    finally:
        is_done = True
        await beating
    return max(waits)


def best_of(work: Callable[[], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(TRIES):
        best = min(best, asyncio.run(longest_wait(work)))
        if best < LONGEST:
            break
    return best


def rows() -> list[dict[str, Any]]:
    return [
        {"name": f"company {number}", "city": "Oslo", "phone": f"+47 {number}", "owner_user_id": number + 1}
        for number in range(ROWS)
    ]


def as_csv(folder: Path) -> Any:
    path = folder / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["name", "city", "phone", "owner_user_id"])
        writer.writeheader()
        writer.writerows(rows())
    return path


def as_json_lines(folder: Path) -> Any:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return path


def as_parquet(folder: Path) -> Any:
    path = folder / "rows.parquet"
    pl.DataFrame(rows()).write_parquet(path)
    return path


class Rows:
    """Rows that are made as they are read."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(ROWS):
            yield {"name": f"company {number}", "city": "Oslo"}


TABLES: dict[str, Callable[[Path], Any]] = {
    "a CSV file": as_csv,
    "a JSON Lines file": as_json_lines,
    "a Parquet file": as_parquet,
    "dictionaries": lambda _: rows(),
    "an iterable": lambda _: Rows(),
    "pandas": lambda _: pd.DataFrame(rows()),
    "pandas with objects": lambda _: pd.DataFrame(rows(), dtype=object),
    "pandas with mixed objects": lambda _: pd.DataFrame(rows(), dtype=object).assign(mixed=["a", 1] * (ROWS // 2)),
    "polars": lambda _: pl.DataFrame(rows()),
}


@pytest.mark.parametrize("kind", TABLES)
def test_reading_a_table_leaves_the_loop_its_turns(kind: str, tmp_path: Path) -> None:
    table = TABLES[kind](tmp_path)
    number = iter(range(TRIES))

    with Sandbox([]) as sandbox, sandbox.client(quota=None) as client:

        async def plan() -> None:
            path = tmp_path / f"{next(number)}.replyplan"
            planned = await client.plan_contact_account_updates_async(
                table, match_on="name", save_as=path, ignore="unknown", progress=False
            )
            assert planned.counts["not_found"] == ROWS

        gap = best_of(plan)
    assert gap < LONGEST, f"the loop waited for {gap * 1000:.0f} ms"


def test_reverting_and_resuming_a_large_plan_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    table = [{"name": "first", "city": "Oslo"}, *rows()]
    with Sandbox([{"id": 1, "name": "first"}]) as sandbox, sandbox.client(quota=None) as client:
        path = tmp_path / "a.replyplan"
        plan = client.plan_contact_account_updates(
            table, match_on="name", save_as=path, ignore="unknown", progress=False
        )
        assert plan.apply(progress=False).counts["changed"] == 1

        async def revert() -> None:
            assert (await plan.revert_async(progress=False)).counts["pending"] == 0

        async def retry() -> None:
            assert (await plan.retry_failed_async(progress=False)).counts["changed"] == 1

        async def resume() -> None:
            await client.patch_contact_accounts_async(
                table, match_on="name", save_as=path, if_exists="resume", ignore="unknown", progress=False
            )

        async def part() -> None:
            await plan.apply_async(rows=range(1, ROWS), progress=False)

        for work in (revert, retry, resume, part):
            gap = best_of(work)
            assert gap < LONGEST, f"{work.__name__}: the loop waited for {gap * 1000:.0f} ms"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_of_a_list_leaves_the_loop_its_turns(library: str) -> None:
    accounts = [{"id": number, "name": f"company {number}"} for number in range(1, 50_001)]
    with Sandbox(accounts) as sandbox, sandbox.client(quota=None) as client:

        async def read() -> None:
            listed = client.list_contact_accounts_async()
            assert len(await (listed.to_pandas() if library == "pandas" else listed.to_polars())) == 50_000

        gap = best_of(read)
    assert gap < LONGEST, f"the loop waited for {gap * 1000:.0f} ms"


def test_a_canceled_reading_changes_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "a.replyplan"
    with Sandbox([{"id": 1, "name": "first"}]) as sandbox, sandbox.client(quota=None) as client:
        client.plan_contact_account_updates([{"id": 1, "city": "Oslo"}], save_as=path, progress=False)

        async def replace() -> None:
            await client.plan_contact_account_updates_async(
                rows(), match_on="name", save_as=path, if_exists="replace", ignore="unknown", progress=False
            )

        async def main() -> None:
            canceled = 0
            for seconds in (0.0, 0.01, 0.05, 0.3, 0.6, 0.9):
                task = asyncio.create_task(replace())
                await asyncio.sleep(seconds)
                task.cancel()
                begun = time.perf_counter()
                try:
                    await task  # a fast machine is done before the last of these
                except asyncio.CancelledError:
                    canceled += 1
                assert time.perf_counter() - begun < 5
                if client.open_plan(path).counts["not_found"] != ROWS:
                    assert client.open_plan(path).counts["pending"] == 1
            assert canceled >= 3

        asyncio.run(main())
        assert [found.name for found in tmp_path.iterdir() if found.suffix == ".replaced"] == []


def test_rows_that_belong_to_a_thread_are_read_in_it(tmp_path: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(":memory:")  # refuses other threads
    connection.row_factory = sqlite3.Row
    rows = connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) SELECT 'n' || i AS name FROM n"
    )
    with Sandbox([]) as sandbox, sandbox.client(quota=None) as client:
        planning = client.plan_contact_account_updates_async(
            rows, match_on="name", save_as=tmp_path / "a.replyplan", progress=False
        )
        assert asyncio.run(planning).counts["not_found"] == 50_000
    connection.close()


def test_an_error_of_an_iterable_reaches_the_caller(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for number in range(10_000):
            yield {"name": f"company {number}", "city": "Oslo"}
        raise KeyError("the database is gone")

    with Sandbox([]) as sandbox, sandbox.client(quota=None) as client:
        planning = client.plan_contact_account_updates_async(
            rows(), match_on="name", save_as=tmp_path / "a.replyplan", progress=False
        )
        with pytest.raises(KeyError, match="the database is gone"):
            asyncio.run(planning)
    assert list(tmp_path.iterdir()) == []
