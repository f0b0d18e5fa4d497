"""Makes one measurement of a bulk run and prints it as a line of JSON. `bulk.py` starts it.

What a million rows cost without a network is in `bulk.rs`, but for what they are compared with.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contenders import KEYWORDS

Figures = dict[str, Any]

BASE_URL = "http://127.0.0.1:9/v3"
"""What the plan of `bulk.rs` is for. No one listens there."""
CHANGES_ONE_IN = 20
SERVICE_QUOTA = (100, 3000)
SHARED = ("industry", "company_size", "country", "state", "city", "time_zone_id", "owner_user_id")
"""Fields that are the same in every account, as in `bulk.rs`."""


class WrongOutcomeError(Exception):
    """A job did something else than what was to be measured."""


def account(id: int) -> dict[str, Any]:
    """An account with all sixteen fields."""
    own = {name: f"{value} {id}" for name, value in KEYWORDS.items() if name not in SHARED}
    return {"id": id, **KEYWORDS, **own}


def row(id: int) -> dict[str, Any]:
    """A row of the table: the account as it is, but for the city of one in twenty."""
    return account(id) | ({"city": "Oslo"} if id % CHANGES_ONE_IN == 0 else {})


def bound(requests: int, per_minute: int, per_hour: int) -> float:
    """Seconds until a client that sends as soon as both windows allow has sent so many requests."""
    minute: deque[float] = deque(maxlen=per_minute)
    hour: deque[float] = deque(maxlen=per_hour)
    moment = 0.0
    for _ in range(requests):
        if len(minute) == per_minute:
            moment = max(moment, minute[0] + 60)
        if len(hour) == per_hour:
            moment = max(moment, hour[0] + 3600)
        minute.append(moment)
        hour.append(moment)
    return moment


def quota(rows: int, clock_scale: float) -> Figures:
    """A table, planned and applied under the service's quota on a faster clock: what it sends and how long it takes."""
    import replyio
    from replyio.sandbox import Sandbox

    accounts, table = [account(id) for id in range(1, rows + 1)], [row(id) for id in range(1, rows + 1)]
    sandboxed = Sandbox(accounts, quota=SERVICE_QUOTA, clock_scale=clock_scale)
    with tempfile.TemporaryDirectory() as folder, sandboxed as sandbox:
        allowed = replyio.Quota(clock_scale=clock_scale, shared=False)
        client = sandbox.client(quota=allowed)
        begin = time.perf_counter()
        result = client.patch_contact_accounts(table, save_as=f"{folder}/a.replyplan", progress=False)
        seconds = time.perf_counter() - begin
        statuses = [request.status for request in sandbox.requests]
    changed = rows // CHANGES_ONE_IN
    if result.counts != {"unchanged": rows - changed, "changed": changed}:
        raise WrongOutcomeError(str(result.counts))
    return {
        "rows": rows,
        "changed": changed,
        "requests": len(statuses),
        "refused": statuses.count(429),
        "clock_scale": clock_scale,
        "per_minute": allowed.per_minute,
        "per_hour": allowed.per_hour,
        "seconds": seconds * clock_scale,
        "bound_s": bound(len(statuses), int(allowed.per_minute * allowed.bulk_share), allowed.per_hour),
    }


def pydantic(rows: int) -> Figures:
    """What pydantic takes to validate the rows that `bulk.rs` plans. To make the dictionaries is not in the time."""
    from typing import Literal

    from pydantic import BaseModel, PositiveInt, TypeAdapter, create_model

    from replyio import CompanySize

    sizes = Literal[tuple(str(size) for size in CompanySize)]  # type: ignore[valid-type]
    kinds: dict[str, Any] = {
        "id": PositiveInt,
        "name": str,
        "company_size": sizes | None,
        "owner_user_id": PositiveInt,
    }
    fields: dict[str, Any] = {name: (kinds.get(name, str | None), ...) for name in ("id", *KEYWORDS)}
    model: type[BaseModel] = create_model("Row", **fields)
    adapter = TypeAdapter(list[model])  # type: ignore[valid-type]
    table = [row(id) for id in range(1, rows + 1)]
    begin = time.perf_counter()
    validated = adapter.validate_python(table)
    seconds = time.perf_counter() - begin
    if len(validated) != rows:
        raise WrongOutcomeError("rows are missing")
    return {"rows": rows, "seconds": seconds}


def resume(path: Path) -> Figures:
    """How long it takes to open a plan: all of it is checked, and the rest is estimated."""
    import replyio

    client = replyio.ReplyClient(api_key="k", base_url=BASE_URL, quota=None)
    begin = time.perf_counter()
    plan = client.open_plan(path)
    seconds = time.perf_counter() - begin
    counts = plan.counts
    plan.close()
    return {"seconds": seconds, "counts": counts}


def show(path: Path) -> Figures:
    """How long it takes to show an open plan, as text and as HTML: the longest of ten times."""
    import replyio

    client = replyio.ReplyClient(api_key="k", base_url=BASE_URL)
    plan = client.open_plan(path)
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        shown = repr(plan), plan._repr_html_()
        times.append(time.perf_counter() - begin)
    pending = plan.counts["pending"]
    if f"{pending:,}" not in shown[0]:
        raise WrongOutcomeError(shown[0])
    return {"changes": pending, "seconds": max(times)}


async def longest_wait(work: Awaitable[object]) -> float:
    """How late the loop called a task, at most, that asked for its turn every millisecond."""
    waits, is_done = [0.0], False

    async def beat() -> None:
        while not is_done:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - begin - 0.001)

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    try:
        await work
    finally:
        is_done = True
        await beating
    return max(waits)


def wait(rows: int, directory: Path) -> Figures:
    """For how long an event loop waits, at most, while tables are read and a plan is reverted."""
    import pandas

    from replyio.sandbox import Sandbox

    table = [row(id) for id in range(1, rows + 1)]
    for each in table:
        del each["id"]
    frame, path = pandas.DataFrame(table), directory / "rows.csv"
    frame.to_csv(path, index=False)
    tables = {"a CSV file": path, "pandas": frame, "dictionaries": table}
    waits = {}
    with Sandbox([account(1)]) as sandbox, sandbox.client(quota=None) as client:
        for name, data in tables.items():
            target = directory / f"{name}.replyplan"
            planning = client.plan_contact_account_updates_async(
                data, match_on="name", mode="fill", save_as=target, progress=False
            )
            waits[name] = asyncio.run(longest_wait(planning))
            target.unlink()
        target = directory / "reverted.replyplan"
        table[0]["city"] = "Oslo"
        result = client.patch_contact_accounts(table, match_on="name", save_as=target, progress=False)
        if result.counts["changed"] != 1:
            raise WrongOutcomeError(str(result.counts))
        waits["revert_async"] = asyncio.run(longest_wait(result.revert_async(progress=False)))
    for found in directory.glob("reverted*"):
        found.unlink()
    path.unlink()
    return {"rows": rows, "waits": waits}


@contextmanager
def sandbox_elsewhere(accounts: Path) -> Iterator[str]:
    """The address of a sandbox in another process."""
    command = [sys.executable, "-m", "replyio.sandbox", "--accounts", str(accounts)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("sandbox on "):
                raise SystemExit(f"the sandbox said {line!r}")
            yield line.split()[2]
        finally:
            process.terminate()


def apply(rows: int, directory: Path) -> Figures:
    """Applies a plan in which every row changes something, with no quota."""
    import replyio

    accounts, path = directory / "accounts.json", directory / "apply.replyplan"
    path.unlink(missing_ok=True)
    accounts.write_text(json.dumps([account(id) for id in range(1, rows + 1)]))
    try:
        with sandbox_elsewhere(accounts) as url:
            client = replyio.ReplyClient(api_key="k", base_url=url, quota=None)
            table = [{"id": id, "city": "Oslo"} for id in range(1, rows + 1)]
            plan = client.plan_contact_account_updates(table, save_as=path, progress=False)
            cpu, begin = time.process_time(), time.perf_counter()
            result = plan.apply(progress=False)
            seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
            plan.close()
        if result.counts != {"changed": rows}:
            raise WrongOutcomeError(str(result.counts))
        return {"rows": rows, "seconds": seconds, "cpu_s": cpu, "sync_ms": _sync_ms(directory)}
    finally:
        path.unlink(missing_ok=True)
        accounts.unlink()


def _sync_ms(directory: Path) -> float:
    """What the disk takes to keep one page, the middle one of fifty."""
    path, times = directory / "sync", []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    path.unlink()
    return sorted(times)[len(times) // 2] * 1000


def main() -> int:
    """Measures what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("quota")
    mode.add_argument("rows", type=int)
    mode.add_argument("clock_scale", type=float)
    modes.add_parser("pydantic").add_argument("rows", type=int)
    modes.add_parser("resume").add_argument("path", type=Path)
    modes.add_parser("show").add_argument("path", type=Path)
    mode = modes.add_parser("wait")
    mode.add_argument("rows", type=int)
    mode.add_argument("directory", type=Path)
    mode = modes.add_parser("apply")
    mode.add_argument("rows", type=int)
    mode.add_argument("directory", type=Path)
    arguments = vars(parser.parse_args())
    measures = {"quota": quota, "pydantic": pydantic, "resume": resume, "show": show, "wait": wait, "apply": apply}
    print(json.dumps(measures[arguments.pop("mode")](**arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
