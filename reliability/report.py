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
    fails = f"{trial.control}: {control['short']} of {control['tried']}" if control else ""
    more = re.sub(r"\brepeats (\d+)", lambda found: f"{int(found[1]):,} updates were sent again", str(told["more"]))
    return f"| {trial.what} | {told['tried']:,} | {told['short']:,} | {more} | {fails} |"


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
            f"| {suite.label} | {counts['tried']:,} | {counts['short']:,} | {counts['said']} |"
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

This page lists how we tried to make the package fail, how often, and how often it failed. To pass, a try needs the
right exit code, the right answer, an empty stderr, no file or thread left, and an end in time. `4 × 250` means 250
tries on each of four Pythons, 1,000 in all. A *control* runs the same experiment with one guard removed, in a separate
build and on the oldest Python. A control must fail at least once. A row without a control shows only that no failure
was seen."""

HOW = """- *Leaving the interpreter:* each try starts a program, 1,000 for each state over all Pythons. It must have its
  exit code, an empty stderr, and end in less than 3 s. Without the guard, only an event loop in a thread crashes
  the process (Python 3.10). Threads that wait in a synchronous call are safe without the guard, because pyo3 parks
  them; their rows have no control.
- *The wire:* a test server attacks one guard at a time. The client must not even connect to the other address. An
  answer without an end may take 4 MiB of memory. No text, attribute or pickle of the error may contain the key.
- *Ctrl-C:* SIGINT after 50 to 150 ms of waiting. The exception must come within 0.2 s, and the next call must get its
  answer. In `asyncio.run` the event loop wakes up by itself.
- *asyncio, threads, processes:* each answer must belong to its call. No socket of an abandoned call may stay open.
- *Suspend:* SIGSTOP, a pause, SIGCONT, ten programs at once. This stops a process. While a machine sleeps, the
  monotonic clock of Linux stops too, so timeouts continue where they were.
- *Panics:* injected where operations begin, wait and decide, and where results become Python objects. Each must become
  an `InternalError` that names its place, with nothing on stderr, and the same client must work afterwards.
- *The plan file:* after a kill, the log of the server, which runs in another process, must show that every row was
  written as planned, and that at most eight rows were written twice. A model below SQLite decides what survives a loss
  of power. A file that was cut or changed must be refused, or contain exactly what it contained before. One test ends
  the process at every place. It records each call and its answer, and its control removes SQLite's log.
- *Mutants:* valid raw answers that were cut, changed, repeated and extended at random. What the client accepts must be
  what Python's own HTTP client and JSON parser read. *Generated tests:* the docstring of each names the fault that made
  it fail once. *Fuzzing:* `make fuzz`, guided by coverage, one minute for each of the four parsers.
- *Simulated jobs:* the real client, planner, run and plan file on virtual time, against a model of the service that
  loses answers, reorders pages, crashes the process and lets others write. An oracle that knows every write judges each
  row, each request and each revert. The [design note](design/2026-11-28-simulation.md) says what the model and
  the oracle cannot tell.
- *Searched:* all output of these tests, the wheel and the source distribution are searched for the keys of the tests,
  in every spelling. `tests/test_canary_scan.py` shows that the search finds them.
- *Memory:* after a warm-up of a fifth of the calls, the process may grow by 4 MiB, and by no thread or file.

To repeat it, run `make reliability`, or `make reliability ARGS=--quick` to try it. `PYTHONS="python3.10 python3.13"`
chooses the Pythons."""
