"""Measures bulk runs: starts `bulk.rs` or `bulk_worker.py` in a separate process for each figure."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from measure import HERE, ROOT, Binaries, Figures, Log, environment

DIRECTORY = ROOT / "target" / "bulk"
"""On a disk: `/tmp` may be memory, where nothing has to be waited for."""
PATIENCE = 900.0
"""Seconds that one process may take."""


@dataclass(frozen=True)
class BulkSizes:
    """How much is measured."""

    repetitions: int = 3
    quota_rows: int = 10_000
    clock_scale: float = 10.0
    """Not more: what takes a fixed time, such as the network, counts so many times over."""
    planned_rows: int = 1_000_000
    fewer_changed_rows: int = 100_000
    """The rows of a second, shorter plan in which all rows change: it shows whether the costs are linear."""
    applied_rows: int = 20_000
    waiting_rows: int = 200_000


QUICK = BulkSizes(
    repetitions=1,
    quota_rows=4_000,
    clock_scale=60.0,
    planned_rows=10_000,
    fewer_changed_rows=1_000,
    applied_rows=500,
    waiting_rows=2_000,
)
ORDERS = ("ordered", "shuffled")
"""How the rows lie to the accounts: in the same order, or in none."""
KEYS = ("domain_name", "name")
"""What rows are matched by, besides the id."""


def take(binaries: Binaries, sizes: BulkSizes, log: Log) -> Figures:
    """Everything about bulk jobs, what is compared within the same repetition."""
    log(f"many accounts: {sizes.quota_rows:,} rows under the quota, its clock {sizes.clock_scale:g} times as fast")
    worker = (sys.executable, HERE / "bulk_worker.py")
    results: Figures = {
        "quota": [_run(*worker, "quota", sizes.quota_rows, sizes.clock_scale)],
        "planned": {order: [] for order in ORDERS},
        "pydantic": [],
        "resumed": [],
        "applied": [],
        "shown": [],
        "waits": [],
    }
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    try:
        for repetition in range(sizes.repetitions):
            log(f"many accounts: repetition {repetition + 1} of {sizes.repetitions}")
            for order in ORDERS:
                path = DIRECTORY / f"{order}.replyplan"
                results["planned"][order].append(_plan(binaries, sizes.planned_rows, path, order=order))
                if order == ORDERS[0]:
                    results["resumed"].append(_run(*worker, "resume", path))
                path.unlink()
            results["waits"].append(_run(*worker, "wait", sizes.waiting_rows, DIRECTORY))
            results["pydantic"].append(_run(*worker, "pydantic", sizes.planned_rows))
            results["applied"].append(_run(*worker, "apply", sizes.applied_rows, DIRECTORY))
            _take_others(results, binaries, sizes, worker)
    finally:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
    return results


def _take_others(results: Figures, binaries: Binaries, sizes: BulkSizes, worker: tuple[object, ...]) -> None:
    """Plans matched by other things than the id, and plans in which all rows change; the longest one is shown."""
    path = DIRECTORY / "other.replyplan"
    for by in KEYS:
        figures = _plan(binaries, sizes.planned_rows, path, order=ORDERS[0], by=by)
        results.setdefault("matched", {}).setdefault(by, []).append(figures)
        path.unlink()
    for rows in (sizes.fewer_changed_rows, sizes.planned_rows):
        figures = _plan(binaries, rows, path, order=ORDERS[0], changes_one_in=1)
        results.setdefault("changed", {}).setdefault(str(rows), []).append(figures)
        if rows == sizes.planned_rows:
            results["shown"].append(_run(*worker, "show", path))
        path.unlink()


def _plan(
    binaries: Binaries, rows: int, path: Path, *, order: str, by: str = "id", changes_one_in: int = 20
) -> Figures:
    return _run(binaries.bulk, rows, order, by, changes_one_in, path)


def _run(*command: object) -> Figures:
    texts = [str(part) for part in command]
    done = subprocess.run(texts, capture_output=True, text=True, env=environment(), timeout=PATIENCE, check=False)
    if done.returncode:
        name = " ".join([Path(texts[0]).name, *texts[1:]])
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return figures
