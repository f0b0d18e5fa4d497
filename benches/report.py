"""Writes `docs/benchmarks.md` from the raw results."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

from bars import Bar, Results, Spread, over_pydantic, over_requests, over_table, ratio, times, values
from contenders import CONCURRENCY, CONTENDERS, THREADS

INTRODUCTION = f"""\
<!-- Written by benches/compare.py: change that, not this page. -->
# Benchmarks

`make bench` measures replyio and other clients in one run on one machine, and writes this page. A *call* is one update
of a contact account with all sixteen fields, `PUT /v3/contact-accounts/{{id}}`. The server (`benches/server.rs`, Rust,
on 127.0.0.1) does almost nothing, so the client takes nearly all of the time. With the live service, the network and
the service take most of the time of a call, whichever client you use. What then matters is the processor time, and how
many calls can be in flight at once. [*Many accounts*](#many-accounts) measures tables of thousands of accounts.

**replyio does more in a call than the other clients.** It checks the fields, counts attempts and deadlines, checks the
answer, and returns a typed dataclass with aware datetimes. Its quota is off, except where the name says *quota on*. The
other clients serialize with their own `json=`, raise for an error status and return a dictionary. *native reqwest* is
the lower limit: the same update in Rust, with the version of reqwest that replyio uses, without retries, time limits or
Python. The benchmark checks the id of every answer.

How the benchmark measures:

- Every figure is the median of the repetitions, with the lowest and the highest in brackets.
- In each repetition, the clients run one after another, each in a new process. Their order changes from repetition to
  repetition. Warm-up calls do not count.
- A ratio is computed within each repetition; the table shows the median of these ratios.
- For *One call at a time*, client and server run on the same core, because on free cores the result depends on the
  scheduler. So the time of a call includes the time of the server.
- Processor time is that of the client only.
- *In flight* ({CONCURRENCY} coroutines on one client) and *threads* ({THREADS} threads) may use every core.
"""

THREADS_NOTE = (
    "With replyio, pyreqwest and httpx, all threads share one client. With pycurl, each thread has its own handle, and "
    "with requests, its own session. With *requests, one session*, all threads share a session with a pool of sixteen "
    "connections."
)


def write(results: Results, bars: list[Bar], plot: str | None) -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    if results["quick"]:
        parts.append("**This was a smoke run, with too few calls for meaningful figures.**")
    if plot:
        parts.append(f"![One call, 64 in flight and 16 threads]({plot})")
    parts += ["## Targets", _bars(bars)]
    for one in results.get("earlier", []):
        parts += [
            f"The last run on another processor ({one['processor']}, {one['date']}):",
            _bars([Bar(**bar) for bar in one["bars"]]),
        ]
    parts += ["## One call at a time", _sequential(results)]
    parts += [f"## {CONCURRENCY} in flight", _rates(results, "in-flight")]
    if "gather" in results["rounds"]:
        parts += [f"## `asyncio.gather` of all calls, {CONCURRENCY} at a time", _rates(results, "gather")]
    parts += [f"## {THREADS} threads", _rates(results, "threads"), THREADS_NOTE]
    parts += ["## Start", _starts(results)] if results["starts"] else []
    parts += ["## A list as a table", _reading(results)] if results.get("reading") else []
    parts += ["## Many accounts", _bulk(results)] if results.get("bulk") else []
    parts += ["## Remarks", _remarks(results)]
    parts += ["## Environment", _where(results)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _bars(bars: list[Bar]) -> str:
    rows = ((bar.what, bar.limit, bar.measured or "–", bar.verdict) for bar in bars)
    return _table(("bar", "limit", "measured", "verdict"), rows)


def _name(contender: str) -> str:
    label = CONTENDERS[contender].label
    return f"**{label}**" if contender.startswith("replyio") else label


def _show(numbers: list[float], form: Callable[[float], str]) -> str:
    return Spread.of(numbers).show(form)


def _times(above: list[float], below: list[float]) -> str:
    spread = ratio(above, below)
    return "–" if spread is None else times(spread)


def ordered(results: Results, mode: str, key: str, *, descending: bool = False) -> list[str]:
    """The contenders of a mode, the best first."""
    names = results["rounds"].get(mode, {})
    return sorted(names, key=lambda name: median(values(results, mode, name, key)), reverse=descending)


def _sequential(results: Results) -> str:
    def of(name: str, key: str) -> list[float]:
        return values(results, "sequential", name, key)

    head = ("client", "p50, µs", "× native", "p99, µs", "processor time of 10,000 calls, s", "× native")
    return _table(
        head,
        (
            (
                _name(name),
                _show(of(name, "p50_us"), lambda us: f"{us:.1f}"),
                _times(of(name, "p50_us"), of("native", "p50_us")),
                _show(of(name, "p99_us"), lambda us: f"{us:.0f}"),
                _show(of(name, "cpu_us"), lambda us: f"{us / 100:.2f}"),
                _times(of(name, "cpu_us"), of("native", "cpu_us")),
            )
            for name in ordered(results, "sequential", "p50_us")
        ),
    )


def _rates(results: Results, mode: str) -> str:
    def of(name: str, key: str) -> list[float]:
        return values(results, mode, name, key)

    return _table(
        ("client", "calls/s", "processor time of 10,000 calls, s"),
        (
            (
                _name(name),
                _show(of(name, "calls_per_s"), lambda rate: f"{rate:,.0f}"),
                _show(of(name, "cpu_us"), lambda us: f"{us / 100:.2f}"),
            )
            for name in ordered(results, mode, "calls_per_s", descending=True)
        ),
    )


def _starts(results: Results) -> str:
    rows = (
        (
            "bare Python" if code == "bare" else f"`{code}`",
            _show(numbers, lambda ms: f"{ms:.1f}"),
        )
        for code, numbers in results["starts"].items()
    )
    return _table(("`python -I -c …`", "start to end, ms"), rows)


def _reading(results: Results) -> str:
    """What it takes until a list is a table."""
    reading = results["reading"]

    def of(library: str, way: str, key: str, form: Callable[[float], str]) -> str:
        return _show([float(one[key]) for one in reading[library][way]], form)

    def line(library: str, way: str) -> tuple[str, ...]:
        faster = over_requests(results, library) if way == "replyio" else None
        memory = over_table(results, library, way)
        return (
            f"**replyio**, {library}" if way == "replyio" else f"requests, {library}",
            *(of(library, way, key, lambda seconds: f"{seconds:.2f}") for key in ("seconds", "cpu_s", "server_s")),
            times(faster) if faster else "1",
            of(library, way, "table_bytes", lambda count: f"{count / 1e6:.0f}"),
            times(memory) if memory else "–",
        )

    first = reading["pandas"]["replyio"][0]
    text = (
        f"The benchmark reads {first['accounts']:,} accounts in pages of 1,000 into a table. replyio uses "
        "`list_contact_accounts().to_pandas()` and the like, without a quota. requests reads the pages in a loop, and "
        "the constructor of the library makes the table. This loop does less: it parses no dates, leaves `stage` a "
        "dictionary, and does not check that the pages are the whole list. *processor time* is that of the client. "
        "*server* is the processor time of the server for the whole list; no client can be faster. *memory* is the "
        "largest amount that the process needed, divided by the size of the table."
    )
    head = ("way", "s", "processor time", "server", "faster", "MB of the table", "memory")
    return f"{text}\n\n{_table(head, [line(library, way) for library in reading for way in reading[library]])}"


def _bulk(results: Results) -> str:
    bulk = results["bulk"]
    return "\n\n".join([_under_quota(bulk["quota"][0]), _planned(results), _applied(bulk)])


def _under_quota(quota: Results) -> str:
    """What is sent for a table of which little changes, and what others would send."""
    rows, sent, changed = quota["rows"], quota["requests"], quota["changed"]
    ways = {
        "**replyio: plan and apply**": sent,
        "a PUT for every row, which clears the fields that the row leaves out": rows,
        "a GET and a PUT for every row": 2 * rows,
    }
    text = (
        f"A plan has {rows:,} rows, of which {changed:,} change an account. The sandbox has the quota of the service, "
        f"and its clock runs {quota['clock_scale']:g} times as fast as real time. By this clock, planning and applying "
        f"took {quota['seconds']:.0f} s. A plan may use nine tenths of {quota['per_minute']} requests a minute, and "
        f"{quota['per_hour']:,} an hour, so {sent:,} requests take at least {quota['bound_s']:.0f} s."
    )
    table = _table(("way", "requests"), ((way, f"{requests:,}") for way, requests in ways.items()))
    return f"{text}\n\n{table}"


def _planned(results: Results) -> str:
    bulk = results["bulk"]
    pydantic = bulk["pydantic"]

    def line(label: str, figures: list[Results], faster: str) -> tuple[str, ...]:
        def of(key: str, form: Callable[[float], str]) -> str:
            return _show([float(one[key]) for one in figures], form) if key in figures[0] else "–"

        keys = ("seconds", "table_s", "plan_s", "seal_s", "cpu_s")
        parts = (of(key, lambda seconds: f"{seconds:.2f}") for key in keys)
        return (label, *parts, faster, of("over_table_bytes", lambda count: f"{count / 1e6:.0f}"))

    labels = {"ordered": "**replyio**, rows in the order of the accounts", "shuffled": "**replyio**, rows in no order"}
    lines = [
        line(label, bulk["planned"][order], times(faster) if (faster := over_pydantic(results, order)) else "–")
        for order, label in labels.items()
    ]
    head = ("way", "s", "table", "plan", "file", "processor time", "faster", "MB over the table")
    rows = pydantic[0]["rows"]
    text = (
        f"replyio plans {rows:,} rows with an id and all sixteen fields, from Arrow in batches of 100,000. It compares "
        f"them with {rows:,} accounts, and writes the plan file to the disk. One row in twenty changes its account. "
        "The figures exclude the network and the decoding of answers. pydantic, whose core is in Rust, validates the "
        "same rows as one list of dictionaries, with a model of the same fields. It neither compares nor stores them. "
        "*table* is the time to check columns and cells. *plan* is the time to find and compare the account of each "
        "row, and to pass the row to the thread that writes the file. *file* is the time for the remaining writes and "
        "the sync. replyio reads the table once and keeps a hash of each row, so it reads the cells again only for "
        "rows that change."
    )
    return f"{text}\n\n{_table(head, [*lines, line('pydantic', pydantic, '1')])}"


def _applied(bulk: Results) -> str:
    applied, resumed = bulk["applied"], bulk["resumed"]
    rate = _show([one["rows"] / one["seconds"] for one in applied], lambda rate: f"{rate:,.0f}")
    cpu = _show([one["cpu_s"] / one["rows"] * 1e6 for one in applied], lambda us: f"{us:.0f}")
    sync = _show([one["sync_ms"] for one in applied], lambda ms: f"{ms:.2f}")
    seconds = _show([one["seconds"] for one in resumed], lambda seconds: f"{seconds:.2f}")
    count = sum(resumed[0]["counts"].values())
    return (
        f"replyio applies a plan of {applied[0]['rows']:,} rows, which all change their accounts, to a sandbox in "
        f"another process, without a quota: {rate} rows a second, with {cpu} µs of processor time for each. It writes "
        f"every row to the disk before it sends the update, and again before the update counts as done "
        f"(`synchronous=FULL`). The disk takes {sync} ms to store one page.\n\nreplyio opens a plan of {count:,} rows "
        f"in {seconds} s, and checks every row and every change."
        f"{_waiting(bulk)}"
    )


def _waiting(bulk: Results) -> str:
    """What people and event loops wait for."""
    if not bulk.get("shown"):
        return ""
    shown = _show([one["seconds"] * 1000 for one in bulk["shown"]], lambda ms: f"{ms:.1f}")
    names = bulk["waits"][0]["waits"]
    waits = ", ".join(
        f"{name}: {_show([one['waits'][name] * 1000 for one in bulk['waits']], lambda ms: f'{ms:.1f}')} ms"
        for name in names
    )
    return (
        f" It shows an open plan of {bulk['shown'][0]['changes']:,} changes in {shown} ms, as text and as HTML. The "
        f"event loop stays responsive: while replyio plans {bulk['waits'][0]['rows']:,} rows or reverts a plan of as "
        f"many, a task that wakes up every millisecond is late by at most: {waits}."
    )


def _remarks(results: Results) -> str:
    remarks = [_server_share(results)]
    ours, theirs, limit = (
        values(results, "in-flight", name, "calls_per_s")
        for name in ("replyio-async-uvloop", "pyreqwest-async-uvloop", "native")
    )
    if theirs and limit:
        remark = f"On uvloop, pyreqwest makes {_times(theirs, limit)} as many calls/s as native reqwest"
        if ours:
            remark += f"; replyio makes {_times(ours, theirs)} as many as pyreqwest"
        remarks.append(f"{remark}.")
    for name, count in sorted(results["exit_crashes"].items()):
        runs = sum(len(rounds.get(name, [])) for rounds in results["rounds"].values())
        remarks.append(
            f"{CONTENDERS[name].label} crashed at exit, after its last answer, in {count} of {runs} processes."
        )
    if results["scripts"]:
        remarks += [f"A short script ended with {text!r}." for text in results["scripts"]["failures"]]
    return "\n".join(f"- {remark}" for remark in remarks)


def _server_share(results: Results) -> str:
    shares = {}
    for mode in results["rounds"].keys() - {"sequential"}:
        for name in results["rounds"][mode]:
            cost, rate = (median(values(results, mode, name, key)) for key in ("server_us", "calls_per_s"))
            shares[f"{CONTENDERS[name].label}, {mode}"] = cost * rate / 1e6
    busiest = max(shares, key=lambda name: shares[name], default="no one")
    remark = f"The server was busiest with {busiest}: {shares.get(busiest, 0):.0%} of a core."
    if one_call := values(results, "sequential", "native", "server_us"):
        remark += f" Of one call with native reqwest, the server takes {median(one_call):.1f} µs."
    return remark


def _where(results: Results) -> str:
    settings = results["settings"]
    sizes = "; ".join(f"{mode}: {calls:,} calls after {warmup:,}" for mode, calls, warmup in settings["calls"])
    rows = [
        ("date", results["date"]),
        *((what, str(value)) for what, value in results["machine"].items()),
        ("versions", ", ".join(f"{name} {value}" for name, value in results["versions"].items())),
        ("repetitions", str(settings["repetitions"])),
        ("calls", f"{sizes}; slow clients make a fifth or a twentieth of them"),
    ]
    if results["wheel"]:
        rows.append(("wheel", results["wheel"]["file"]))
    return "| what | value |\n|---|---|\n" + "\n".join(f"| {what} | {value} |" for what, value in rows)
