"""Writes docs/reliability.md from the results in docs/reliability.json."""

from __future__ import annotations

from typing import Any

from reliability.experiments import EXPERIMENTS, SECTIONS, Experiment
from reliability.suites import COUNTED, SUITES
from reliability.trials import TRIALS, Trial

GUARDS = {
    "exit": "no thread is parked at exit",
    "signals": "a waiting call does not look for signals",
    "fork": "a child uses its parent's connections",
    "once": "what is looked up once is made in its cell",
    "cancellation": "a cancelled call is not ended",
    "panics": "a panic is left to pyo3",
    "redirects": "a redirect is followed",
    "bound": "a body is read to its end",
    "redaction": "what a server says is shown as it is",
    "reuse": "an idle connection is not looked at",
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
    return f"| {trial.what} | {told['tried']:,} | {told['short']:,} | {told['more']} | {fails} |"


def page(data: dict[str, Any]) -> str:
    """The whole page."""
    where = [data["date"], data["machine"], f"replyio {data['version']}", f"Python {', '.join(data['pythons'])}"]
    parts = [HEAD, " · ".join([*where, *filter(None, [data["note"]])])]
    for program, title in SECTIONS.items():
        rows = [line for one in EXPERIMENTS if one.program == program if (line := row(one, data))]
        if rows:
            head = ["| tried | how often | fell short | measured | control: fell short |", "|---|---|---|---|---|"]
            parts += [f"## {title}", "\n".join([*head, *rows])]
    plans = data.get("plans", {})
    lines = [trial_row(trial, plans) for trial in TRIALS if trial.name in plans]
    if lines:
        head = ["| tried | how often | fell short | more | control: fell short |", "|---|---|---|---|---|"]
        parts += ["## The plan file", "\n".join([*head, *lines])]
    told = {suite["path"]: suite for suite in data.get("suites", [])}
    for title, listed in (
        ("What was generated, and searched", COUNTED),
        ("Tests that are run with every change", SUITES),
    ):
        lines = [
            f"| {suite.section}: {suite.what} | {counts['tried']:,} | {counts['short']:,} | {counts['said']} |"
            for suite in listed
            if (counts := told.get(suite.path))
        ]
        if lines:
            head = ["| tried | how many | fell short | |", "|---|---|---|---|"]
            parts += [f"## {title}", "\n".join([*head, *lines])]
    parts += ["## How", HOW]
    return "\n\n".join(parts) + "\n"


HEAD = """<!-- Written by `make reliability`. Do not edit. -->

# Reliability

What was tried to make the package fail, how often, and how often it fell short of what it promises: the right exit
code, the right answer, nothing on stderr, nothing left behind, in time. `4 × 250` is 250 on each of four Pythons, 1,000
in all. A *control* runs the same with one guard taken away, in a build made for that and on the oldest Python, or
breaks the rule itself; it has to fall short, or the row would prove nothing."""

HOW = """- *Leaving the interpreter:* a program for each try, 1,000 of each state over all Pythons. Right is its exit
  code, an empty stderr, less than 3 s. Without the guard only the event loop in a thread ends a process (Python 3.10).
  Threads that wait in a synchronous call come to no harm without it either, since pyo3 parks them by itself; their rows
  have no control.
- *The wire:* a server of ours that does harm where one guard is missing. The other address must not even be connected
  to; an answer without end may cost 4 MiB; the key must be in no text, attribute or pickle of the error.
- *Ctrl-C:* SIGINT after 50 to 150 ms of waiting. The exception has to come within 0.2 s, and the next call has to get
  its answer. In `asyncio.run` the loop itself wakes up.
- *asyncio, threads, processes:* every answer has to be the caller's own; no socket of a call that is given up may stay.
- *Suspend:* SIGSTOP, a pause, SIGCONT, ten programs at once. That is a stopped process. While a machine sleeps the
  monotonic clock of Linux stands still as well, so time-outs go on where they were.
- *Panics:* injected where operations begin, wait, decide and are translated; each has to be an `InternalError` with its
  place, nothing on stderr, and the same client has to work afterwards.
- *The plan file:* the oracle of the kills is the log of the server, in another process: every row was written as meant,
  and at most eight rows were written twice for each kill. What survives a loss of power is modelled below SQLite; a cut
  or flipped file has to be refused, or to say exactly what it said before. The process that dies at every place writes
  down before and after each call what it asks for and what was answered; the control takes SQLite's log away.
- *Mutants:* raw answers that were good, cut, flipped, repeated and added to at random; what is accepted has to be what
  Python's own HTTP client and JSON parser read. *Generated tests:* each names in its docstring the fault by which it
  was seen to fail. *Fuzzing:* `make fuzz`, led by coverage, a minute for each of the four parsers.
- *Simulated jobs:* the client, the planner, the run and the plan file as they are, on virtual time, against a model of
  the service that loses answers, reorders pages, crashes the process and lets others write. An oracle that knows every
  write judges each row, each request and each revert.
- *Searched:* everything that these tests have written and said, the wheel and the source distribution, for the keys
  that the tests use, in every spelling; that the search finds them is shown by `tests/test_canary_scan.py`.
- *Memory:* after a warm-up of a fifth the process may grow by 4 MiB, and by no thread or file.

Again: `make reliability`, or `make reliability ARGS=--quick` for a look. `PYTHONS="python3.10 python3.13"` chooses."""
