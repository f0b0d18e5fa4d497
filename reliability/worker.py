"""Runs the experiments under the current Python and writes the results as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from reliability.experiments import EXPERIMENTS, Experiment, Result
from replyio.sandbox import Fault, Sandbox

KEY = "canary-key-of-the-long-runs"


def service() -> Sandbox:
    """What the programs call: ordinary accounts, one that is silent, one that is busy, one that is slow."""
    accounts = [{"id": id, "name": f"account {id}"} for id in (1, 2, 3, 4, *range(1000, 1016))]
    faults = [Fault(id=2, delay=60.0), Fault(id=3, status=429, retry_after=3), Fault(id=4, delay=0.3)]
    return Sandbox(accounts=accounts, faults=faults, quota=None, keep_requests=100)


def environment_of(sandbox: Sandbox, extra: dict[str, str]) -> dict[str, str]:
    """What a program finds: the service and the key, and nothing of this machine's settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REPLY", "RELIABILITY", "PYTHON", "RUST"))
    }
    return {**kept, "REPLY_BASE_URL": sandbox.url, "REPLY_API_KEY": KEY, **extra}


def run_all(
    experiments: Iterable[tuple[Experiment, int]], extra: dict[str, str], sandbox: Sandbox
) -> dict[str, Result]:
    """Runs each experiment as often as is asked, in turns, so that a bad moment of the machine hits all alike."""
    left = {experiment.name: (experiment, count) for experiment, count in experiments}
    results = {name: Result() for name in left}
    while left:
        for name, (experiment, count) in list(left.items()):
            started = time.monotonic()
            now = min(count, experiment.turn)
            result = experiment.run(now, environment_of(sandbox, extra))
            results[name].add(result)
            if count > now and result.short < now:
                left[name] = (experiment, count - now)
            else:
                del left[name]
            note = f"  {result.notes}" if result.notes else ""
            print(
                f"{name}: {result.tried} tried, {result.short} short, {time.monotonic() - started:.1f} s{note}",
                file=sys.stderr,
                flush=True,
            )
    return results


def chosen(only: str, *, sabotaged: bool) -> list[Experiment]:
    """The experiments that can be run here."""
    return [
        one
        for one in EXPERIMENTS
        if only in one.name
        and one.sabotaged == sabotaged
        and (one.needs is None or importlib.util.find_spec(one.needs) is not None)
    ]


def main() -> None:
    """The command line, which only `__main__.py` writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--share", type=float, default=1.0, help="how much of the full counts")
    parser.add_argument("--sabotaged", action="store_true", help="the panics and the controls, on the build for them")
    options = parser.parse_args()
    results: dict[str, Result] = {}
    controls: dict[str, Result] = {}
    with service() as sandbox:
        wanted = chosen(options.only, sabotaged=options.sabotaged)
        counts = [
            (one, one.quick if options.quick else max(one.quick, int(one.count * options.share))) for one in wanted
        ]
        results = run_all(counts, {}, sandbox)
        if options.sabotaged:
            # One after the other: each has an environment of its own. A few runs would not show what grows slowly.
            for one in EXPERIMENTS:
                if one.control and options.only in one.name and not options.quick:
                    controls |= run_all([(one, one.control_count)], one.control, sandbox)
    told = {
        name: {key: dataclasses.asdict(value) for key, value in part.items()}
        for name, part in (("results", results), ("controls", controls))
    }
    options.out.write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
