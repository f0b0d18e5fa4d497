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
    applied_rows: int = 20_000
    waiting_rows: int = 200_000


QUICK = BulkSizes(
    repetitions=1, quota_rows=4_000, clock_scale=60.0, planned_rows=10_000, applied_rows=500, waiting_rows=2_000
)
ORDERS = ("ordered", "shuffled")
"""How the rows lie to the accounts: in the same order, or in none."""


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
                results["planned"][order].append(_run(binaries.bulk, sizes.planned_rows, order, path))
                if order == ORDERS[0]:
                    results["resumed"].append(_run(*worker, "resume", path))
                path.unlink()
            path = DIRECTORY / "changed.replyplan"
            _run(binaries.bulk, sizes.planned_rows, "changed", path)
            results["shown"].append(_run(*worker, "show", path))
            path.unlink()
            results["waits"].append(_run(*worker, "wait", sizes.waiting_rows, DIRECTORY))
            results["pydantic"].append(_run(*worker, "pydantic", sizes.planned_rows))
            results["applied"].append(_run(*worker, "apply", sizes.applied_rows, DIRECTORY))
    finally:
        shutil.rmtree(DIRECTORY, ignore_errors=True)
    return results


def _run(*command: object) -> Figures:
    texts = [str(part) for part in command]
    done = subprocess.run(texts, capture_output=True, text=True, env=environment(), timeout=PATIENCE, check=False)
    if done.returncode:
        name = " ".join([Path(texts[0]).name, *texts[1:]])
        raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return figures
