"""Compares the speed of replyio with other HTTP clients and checks the limits in `bars.py`.

    python benches/compare.py                       # all of it, about a quarter of an hour; writes docs/benchmarks.*
    python benches/compare.py --quick               # a smoke run that writes nothing
    python benches/compare.py --only native,replyio,pyreqwest
    python benches/compare.py --render              # the page and the plot again, from docs/benchmarks.json

Needs Linux, cargo, and `pip install -r requirements/bench.txt`. Exit status 1 means that a bar was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import bulk
import limits
import machine
import measure
import reading
import report
from bars import Results, judge
from contenders import CONTENDERS, Contender

ROOT = Path(__file__).parent.parent


def log(text: str) -> None:
    """Says on stderr what is going on."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of few calls, judges nothing")
    parser.add_argument("--repetitions", type=int, help="default 7")
    parser.add_argument("--scripts", type=int, help="short asyncio.run scripts, default 1,000")
    parser.add_argument("--only", help=f"contenders, separated by commas, out of {', '.join(CONTENDERS)}")
    parser.add_argument("--skip-missing", action="store_true", help="leave out what is not installed")
    parser.add_argument("--wheel", type=Path, help="default: the newest in dist/ or target/wheels/")
    parser.add_argument("--out", type=Path, help="where to write, default docs/; with --quick nowhere")
    parser.add_argument("--render", action="store_true", help="write again what was measured before")
    return parser.parse_args()


def choose(only: str | None, *, skip_missing: bool) -> list[Contender]:
    """The contenders that take part; one that is not installed is an error unless it may be skipped."""
    names = only.split(",") if only else list(CONTENDERS)
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise SystemExit(f"no contender {', '.join(unknown)}\nhint: there are {', '.join(CONTENDERS)}")
    chosen = [CONTENDERS[name] for name in names]
    missing = sorted({module for one in chosen for module in one.missing()})
    if missing and not skip_missing:
        hint = "pip install -r requirements/bench.txt, and maturin develop --release for replyio"
        raise SystemExit(f"not installed: {', '.join(missing)}\nhint: {hint}; or --skip-missing")
    if missing:
        log(f"left out, not installed: {', '.join(missing)}")
    return [one for one in chosen if not one.missing()]


def take(options: argparse.Namespace) -> Results:
    """Measures everything."""
    sizes = measure.QUICK if options.quick else measure.Sizes()
    sizes = replace(
        sizes,
        repetitions=options.repetitions or sizes.repetitions,
        scripts=sizes.scripts if options.scripts is None else options.scripts,
    )
    contenders = choose(options.only, skip_missing=options.skip_missing)
    ours = [one for one in contenders if one.name in ("replyio", "replyio-async")]
    binaries = measure.build()
    results: Results = {
        **machine.describe(contenders),
        "quick": options.quick,
        "settings": asdict(sizes),
        "exit_crashes": {},
    }
    if os.getloadavg()[0] > 0.5 and not options.quick:
        log(f"something else is running (load {os.getloadavg()[0]:.1f}): expect noise")
    bench = measure.Bench(binaries, results["exit_crashes"])
    results["rounds"] = bench.rounds(contenders, sizes, log)
    log("memory, start and short scripts")
    results["memory"] = bench.memory(ours, sizes)
    results["starts"] = measure.starts(sizes.starts) if ours else {}
    results["wheel"] = measure.wheel(options.wheel) if ours else None
    results["scripts"] = measure.scripts(binaries, sizes.scripts, log) if ours else None
    results["reading"] = reading.take(binaries, sizes.repetitions, log) if ours else None
    results["bulk"] = bulk.take(binaries, bulk.QUICK if options.quick else bulk.BulkSizes(), log) if ours else None
    results["limits"] = limits.take(limits.QUICK if options.quick else limits.LimitSizes(), log) if ours else None
    return results


def earlier(path: Path, processor: str) -> list[dict[str, Any]]:
    """Returns the bars of the last run on each other processor."""
    if not path.exists():
        return []
    last = json.loads(path.read_text())
    others = last.get("earlier", [])
    others.append(
        {
            "processor": last["machine"]["processor"],
            "date": last["date"],
            "bars": [asdict(bar) for bar in judge(last)],
        }
    )
    return [one for one in others if one["processor"] != processor]


def main() -> int:
    """Runs the comparison and says which bars were missed."""
    options = arguments()
    out = options.out or (None if options.quick else ROOT / "docs")
    if options.render:
        out = options.out or ROOT / "docs"
        results = json.loads((out / "benchmarks.json").read_text())
    else:
        results = take(options)
    bars = judge(results)
    if out and not options.render:
        results["earlier"] = earlier(out / "benchmarks.json", results["machine"]["processor"])
    if out:
        import plot  # matplotlib is slow to import, and a smoke run does not need it

        out.mkdir(parents=True, exist_ok=True)
        (out / "benchmarks.json").write_text(json.dumps(results, indent=1) + "\n")
        plot.draw(results, out / "benchmarks.svg")
        (out / "benchmarks.md").write_text(report.write(results, bars, "benchmarks.svg"))
        log(f"written: {out / 'benchmarks.md'}")
    else:
        print(report.write(results, bars, None))
    if results["quick"]:
        return 0
    for bar in bars:
        if bar.passed is None:
            log(f"open: {bar.what} {bar.measured}")
        elif not bar.passed:
            log(f"missed on {results['machine']['processor']}: {bar.what}: {bar.measured}, {bar.limit}")
    return 1 if any(bar.passed is False for bar in bars) else 0


if __name__ == "__main__":
    sys.exit(main())
