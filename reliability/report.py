"""Writes docs/reliability.md from the results in docs/reliability.json."""

from __future__ import annotations

import re
from typing import Any

from reliability.experiments import EXPERIMENTS, SECTIONS, Experiment
from reliability.suites import COUNTED, SUITES
from reliability.trials import TRIALS, Trial

GUARDS = {
    "exit": "no thread is parked at exit",
    "signals": "a waiting call does not look for signals",
    "fork": "a child uses its parent's connections",
    "once": "without the guard `once`, a fork can interrupt the creation of a shared value",
    "cancellation": "a cancelled call is not ended",
    "panics": "a panic is left to pyo3",
    "redirects": "a redirect is followed",
    "bound": "a body is read to its end",
    "redaction": "server text is shown without removing the key",
    "reuse": "an idle connection is not checked before use",
}

CONTROLS = {"dying at a place, and what was committed lost": "the process dies, and SQLite's log is removed"}


def quantile(values: list[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figures(name: str, values: list[float]) -> str:
    """What was measured, in words."""
    if name == "latency":
        half, most, longest = (quantile(values, share) * 1000 for share in (0.5, 0.99, 1.0))
        return f"signal to exception: median {half:.0f} ms, 99 % {most:.0f} ms, longest {longest:.0f} ms"
    if name == "peak":
        return f"at most {max(values) / 1e6:.1f} MB more"
    if name == "growth":
        return f"grown by {max(values) / 1e6:.1f} MB at most"
    return f"longest program {max(values):.1f} s"


def control(experiment: Experiment, controls: dict[str, Any]) -> str:
    """What shows that the experiment can fail."""
    if experiment.name not in controls or experiment.control is None:
        return ""
    told = controls[experiment.name]
    (variable, value), *_ = experiment.control.items()
    what = GUARDS[value] if variable == "REPLYIO_WITHOUT" else "every result is kept"
    # Where all tries are judged together the count says little, and the fault itself more.
    if told["short"] == 1 and told["notes"]:
        return f"{what}: {told['notes'][0]}"
    return f"{what}: {told['short']:,} of {told['tried']:,}"


def row(experiment: Experiment, data: dict[str, Any]) -> str | None:
    """An experiment over all Pythons."""
    parts = data.get("broken", {}) if experiment.sabotaged else data["pythons"]
    results = {version: part[experiment.name] for version, part in parts.items() if experiment.name in part}
    if not results:
        return None
    tried = [result["tried"] for result in results.values()]
    short = {version: result["short"] for version, result in results.items() if result["short"]}
    told = [f"{count:,} on {version}" for version, count in short.items()]
    merged: dict[str, list[float]] = {}
    for result in results.values():
        for name, values in result["figures"].items():
            merged.setdefault(name, []).extend(values)
    count = f"{min(tried):,}" if min(tried) == max(tried) else f"{min(tried):,} to {max(tried):,}"
    notes = "; ".join(figures(name, values) for name, values in merged.items())
    times = f"{len(results)} × {count}"
    cells = [experiment.what, times, ", ".join(told) or "0", notes, control(experiment, data.get("controls", {}))]
    return f"| {' | '.join(cells)} |"


def trial_row(trial: Trial, plans: dict[str, Any]) -> str:
    """A trial of the plan file, with its control."""
    told, control = plans[trial.name], plans.get(trial.control or "")
    name = CONTROLS.get(trial.control or "", trial.control)
    fails = f"{name}: {control['short']} of {control['tried']}" if control else ""
    more = re.sub(r"\brepeats (\d+)", r"\1 updates were sent again", str(told["more"]))
    more = re.sub(r"\brefused (\d+)", r"\1 refused", more)
    more = re.sub(r"\d+", lambda found: f"{int(found[0]):,}", more)
    return f"| {trial.what} | {told['tried']:,} | {told['short']:,} | {more} | {fails} |"


def words(said: str) -> str:
    """What a suite said of itself, without the counts that have a column of their own."""
    counts = {name: int(count) for name, count in re.findall(r"\b(\w+)=(\d+)", said)}
    if not counts:
        return said
    listed = ", ".join(
        f"{count:,} {f'`{name}`' if name.endswith('Error') else name}"
        for name, count in counts.items()
        if name not in {"tried", "short"}
    )
    return f"{listed}; {said.rpartition(', ')[2]}"


def page(data: dict[str, Any]) -> str:
    """The whole page."""
    where = [data["date"], data["machine"], f"replyio {data['version']}", f"Python {', '.join(data['pythons'])}"]
    parts = [HEAD, " · ".join([*where, *filter(None, [data["note"]])])]
    for program, title in SECTIONS.items():
        rows = [line for one in EXPERIMENTS if one.program == program if (line := row(one, data))]
        if rows:
            head = ["| tried | how often | failed | measured | control: failed |", "|---|---|---|---|---|"]
            parts += [f"## {title}", "\n".join([*head, *rows])]
    plans = data.get("plans", {})
    lines = [trial_row(trial, plans) for trial in TRIALS if trial.name in plans]
    if lines:
        head = ["| tried | how often | failed | more | control: failed |", "|---|---|---|---|---|"]
        parts += ["## The plan file", "\n".join([*head, *lines])]
    told = {suite["path"]: suite for suite in data.get("suites", [])}
    for title, listed in (
        ("Generated tests, and the search for keys", COUNTED),
        ("Tests that are run with every change", SUITES),
    ):
        lines = [
            f"| {suite.label} | {counts['tried']:,} | {counts['short']:,} | {words(counts['said'])} |"
            for suite in listed
            if (counts := told.get(suite.path))
        ]
        if lines:
            head = ["| tried | how many | failed | |", "|---|---|---|---|"]
            parts += [f"## {title}", "\n".join([*head, *lines])]
    parts += ["## How", HOW]
    return "\n\n".join(parts) + "\n"


HEAD = """<!-- Written by `make reliability`. Do not edit. -->

# Reliability

This page lists the experiments that try to make replyio fail, how often each one ran, and how often it failed. A try
passes if the program has the right exit code and the right answer, writes nothing to stderr, leaves no file or thread
behind, and ends in time. `4 × 100 to 1,000` means that the experiment ran on four Python versions, with 100 to 1,000
tries on each.

A *control* runs the same experiment without one guard, which is code that prevents the failure. It uses a separate
build on the oldest Python. A control must fail at least once. A row without a control shows only that we saw no
failure."""

HOW = """\
- *Leaving the interpreter:* Each try starts a program. It must end with the right exit code and an empty stderr in less
  than 3 s. Without the guard, the process crashes only if a thread runs an event loop (Python 3.10). Threads that wait
  in a synchronous call do not need the guard, because pyo3 suspends them. So their rows have no control.
- *The wire:* A test server attacks one guard at a time. After a redirect, the client must not even connect to the other
  address. An endless answer may use at most 4 MiB of memory. No text, attribute or pickle of the error may contain the
  key.
- *Ctrl-C:* The program receives SIGINT after it has waited for 50 to 150 ms. The exception must come within 0.2 s, and
  the next call must get its answer. In `asyncio.run`, no guard is necessary: the event loop itself handles the signal.
- *asyncio, threads, processes:* Each answer must belong to its call. No socket of an abandoned call may stay open.
- *Suspend and resume:* Ten programs at once receive SIGSTOP and, after a pause, SIGCONT. This stops a process, not the
  machine. While a Linux machine sleeps, its monotonic clock stops, so timeouts end later by the length of the sleep.
- *A panic in the core:* The test build panics where operations begin, wait and decide, and where it makes Python
  objects of the results. Each panic must become an `InternalError` that names its place, with nothing on stderr. After
  that, the same client must work.
- *The plan file:* After a kill, the log of the server, which runs in another process, must show that every row was
  written as planned, and that at most eight rows were written twice. For a power loss, a layer below SQLite decides
  which writes survive. replyio must refuse a file that was cut or changed, or read exactly what the file contained
  before. One test ends the process at every place. It records each call and its answer. Its control removes SQLite's
  log.
- *Mutants:* The tests cut, change, repeat and extend valid raw answers at random. If the client accepts such an answer,
  it must have read the same values as Python's own HTTP client and JSON parser.
- *Generated tests:* The docstring of each test names the fault that the test once found.
- *Fuzzing:* `make fuzz` runs for one minute for each of the four parsers, guided by coverage.
- *Simulated jobs:* The real client, planner, run and plan file work on virtual time. A model of the service loses
  answers, reorders pages, crashes the process and lets others write. An oracle, which knows every write, judges each
  row, each request and each revert. The [design note](design/2026-11-28-simulation.md) says what the model and the
  oracle cannot find.
- *Searched for keys:* A program searches all output of these tests, the wheel and the source distribution for the keys
  of the tests, in every spelling. `tests/test_canary_scan.py` shows that the search finds them.
- *Memory:* The first fifth of the calls is a warm-up. After it, the process may grow by at most 4 MiB, and by no thread
  or file.

To repeat the experiments, run `make reliability`. `make reliability ARGS=--quick` only checks that they run.
`PYTHONS="python3.10 python3.13"` selects the Python versions."""
