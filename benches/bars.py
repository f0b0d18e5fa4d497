"""Defines the performance limits of replyio, and compares each with the results of a run.

A ratio is taken within each repetition, where both sides ran within seconds of each other, and then its median over
the repetitions. A run that did not measure one of the sides leaves the bar open; a smoke run leaves all of them open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

Results = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """A median and what it lies between."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of the values of all repetitions."""
        return cls(median(values), min(values), max(values))

    def show(self, form: Callable[[float], str], unit: str = "") -> str:
        """As a table shows it."""
        middle, low, high = form(self.middle), form(self.low), form(self.high)
        return f"{middle}{unit}" if low == high else f"{middle}{unit} ({low}–{high})"


@dataclass(frozen=True)
class Bar:
    """One bar and what was measured."""

    what: str
    limit: str
    measured: str
    passed: bool | None
    """None where it was not measured, or not enough."""

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.passed is None:
            return "open"
        return "pass" if self.passed else "**fail**"


def values(results: Results, mode: str, contender: str, key: str) -> list[float]:
    """A figure of a contender, one for each repetition; empty where it was not measured."""
    figures = results["rounds"].get(mode, {}).get(contender, [])
    return [float(one[key]) for one in figures]


def ratio(above: list[float], below: list[float]) -> Spread | None:
    """The ratio of two figures, taken repetition by repetition."""
    if not above or not below:
        return None
    return Spread.of([left / right for left, right in zip(above, below, strict=True)])


def times(spread: Spread) -> str:
    """A ratio as text."""
    return spread.show(lambda value: f"{value:.2f}" if value < 10 else f"{value:.1f}", " ×")


def _at_most(what: str, limit: float, measured: Spread | None) -> Bar:
    if measured is None:
        return Bar(what, f"at most {limit:g} ×", "", None)
    return Bar(what, f"at most {limit:g} ×", times(measured), measured.middle <= limit)


def _at_least(what: str, limit: float, measured: Spread | None) -> Bar:
    if measured is None:
        return Bar(what, f"at least {limit:g} ×", "", None)
    return Bar(what, f"at least {limit:g} ×", times(measured), measured.middle >= limit)


def judge(results: Results) -> list[Bar]:
    """Every bar, in the order of the page."""

    def p50(contender: str) -> list[float]:
        return values(results, "sequential", contender, "p50_us")

    def cpu(contender: str) -> list[float]:
        return values(results, "sequential", contender, "cpu_us")

    def rate(mode: str, contender: str) -> list[float]:
        return values(results, mode, contender, "calls_per_s")

    ours = rate("in-flight", "replyio-async")
    candidates = [rate("threads", "requests"), rate("threads", "requests-shared")]
    best_requests = max((one for one in candidates if one), key=median, default=[])
    bars = [
        _at_most("one call, p50, over native reqwest", 1.35, ratio(p50("replyio"), p50("native"))),
        _at_least("one call, p50, faster than pyreqwest", 1.25, ratio(p50("pyreqwest"), p50("replyio"))),
        _at_least("one call, p50, faster than requests", 18, ratio(p50("requests"), p50("replyio"))),
        _at_most("processor time of 10,000 calls, over native reqwest", 1.5, ratio(cpu("replyio"), cpu("native"))),
        _at_least("64 in flight, over aiohttp on uvloop", 3.5, ratio(ours, rate("in-flight", "aiohttp-uvloop"))),
        _at_least(
            "64 in flight, over pyreqwest (both on asyncio)",
            3.5,
            ratio(ours, rate("in-flight", "pyreqwest-async")),
        ),
        _at_least(
            "16 threads on one client, over requests (the better of its two ways)",
            12,
            ratio(rate("threads", "replyio"), best_requests),
        ),
        *(_start(results, code) for code in ("import replyio", "from replyio import ReplyClient")),
        _wheel(results),
        *(_memory(results, name) for name in ("replyio", "replyio-async")),
        _scripts(results),
        *_reading(results),
        *_bulk(results),
        *_closer(results),
        *_limits(results),
    ]
    return [replace(bar, passed=None) for bar in bars] if results["quick"] else bars


def over_bare(results: Results, code: str) -> Spread | None:
    """Milliseconds that an import adds to a bare start, start by start."""
    if not results["starts"]:
        return None
    pairs = zip(results["starts"][code], results["starts"]["bare"], strict=True)
    return Spread.of([with_it - bare for with_it, bare in pairs])


def _start(results: Results, code: str) -> Bar:
    what, limit = f"`{code}` over bare Python", "at most 5 ms"
    added = over_bare(results, code)
    if added is None:
        return Bar(what, limit, "", None)
    return Bar(what, limit, added.show(lambda ms: f"{ms:.1f}", " ms"), added.middle <= 5)


def _wheel(results: Results) -> Bar:
    what, limit = "wheel", "at most 4 MB"
    if not results["wheel"]:
        return Bar(what, limit, "", None)
    size = results["wheel"]["bytes"]
    return Bar(what, limit, f"{size / 1e6:.2f} MB", size <= 4_000_000)


def _memory(results: Results, contender: str) -> Bar:
    how = "64 in flight" if contender.endswith("async") else "one after another"
    figures = results["memory"].get(contender)
    if not figures:
        return Bar(f"memory after 100,000 calls, {how}", "at most 1 MiB more than after 10,000", "", None)
    what = f"memory after {figures['calls']:,} calls, {how}"
    limit = f"at most 1 MiB more than after {figures['warmup']:,}"
    first, last = figures["rss"][0], figures["rss"][-1]
    measured = f"{(last - first) / 2**20:+.2f} MiB, {last / 2**20:.1f} MiB in all"
    return Bar(what, limit, measured, last - first <= 2**20)


def _scripts(results: Results) -> Bar:
    what, limit = "short `asyncio.run` scripts that end badly", "none of 1,000"
    figures = results["scripts"]
    if not figures:
        return Bar(what, limit, "", None)
    measured, failed = f"{figures['failed']} of {figures['runs']:,}", figures["failed"]
    crashes = sum(n for name, n in results["exit_crashes"].items() if name.startswith("replyio"))
    if crashes:
        measured += f"; and {crashes} of the benchmark's own processes"
    return Bar(what, limit, measured, failed + crashes == 0 if figures["runs"] >= 1_000 or failed + crashes else None)


LEAST_FASTER = {"pandas": 4, "polars": 6, "arrow": 6}
"""How much faster a list has to become a table than with requests and the library's own constructor."""


def over_requests(results: Results, library: str) -> Spread | None:
    """How much longer requests and the library take to read the list."""
    reading = results.get("reading")
    return ratio(_seconds(reading[library]["requests"]), _seconds(reading[library]["replyio"])) if reading else None


def over_table(results: Results, library: str, way: str) -> Spread | None:
    """The most memory while the list is read, over the memory of the table."""
    figures = results["reading"][library][way]
    return ratio([one["peak_bytes"] for one in figures], [one["table_bytes"] for one in figures])


def _reading(results: Results) -> list[Bar]:
    bars = []
    for library, least in LEAST_FASTER.items():
        what = f"a list of 100,000 accounts into {library}, faster than requests"
        bars.append(_at_least(what, least, over_requests(results, library)))
        memory = over_table(results, library, "replyio") if results.get("reading") else None
        bars.append(_at_most(f"the most memory meanwhile, over the {library} table", 1.5, memory))
    return bars


def over_pydantic(results: Results, order: str) -> Spread | None:
    """How much longer pydantic takes to validate the rows than to plan them takes."""
    bulk = results["bulk"]
    return ratio(_seconds(bulk["pydantic"]), _seconds(bulk["planned"][order]))


def _shown(bulk: Results) -> list[float]:
    return [one["seconds"] * 1000 for one in bulk.get("shown", ())]


def _waits(bulk: Results) -> list[float]:
    return [max(one["waits"].values()) * 1000 for one in bulk.get("waits", ())]


def _ms(values: list[float], limit: float) -> tuple[str, bool | None]:
    if not values:
        return "", None
    spread = Spread.of(values)
    return spread.show(lambda ms: f"{ms:.1f}", " ms"), spread.middle <= limit


def _seconds(figures: list[Results]) -> list[float]:
    return [float(one["seconds"]) for one in figures]


def _bulk(results: Results) -> list[Bar]:
    bulk = results.get("bulk")
    few, many = "10,000 rows of which 500 change", "1,000,000 rows"
    if bulk:
        few = f"{bulk['quota'][0]['rows']:,} rows of which {bulk['quota'][0]['changed']:,} change"
        many = f"{bulk['pydantic'][0]['rows']:,} rows"
    whats = (
        f"{few}: requests in all",
        f"{few}: refused by the quota",
        f"{few}: time, over the quota's own bound",
        f"{many} planned, faster than pydantic validates them",
        f"{many} in no order planned, faster than pydantic validates them",
        f"{many} planned: memory over the table",
        "rows applied in a second, without a quota",
        f"a plan of {many} opened again",
        f"a plan of {many} that all change, shown",
        "the longest that an event loop waits while tables are read and a plan is reverted",
    )
    limits = (
        "at most 540",
        "none",
        "at most 1.03 ×",
        "at least 5 ×",
        "at least 5 ×",
        "at most 400 MB",
        "at least 3,000",
        "under 3 s",
        "at most 50 ms",
        "at most 20 ms",
    )
    if not bulk:
        return [Bar(what, limit, "", None) for what, limit in zip(whats, limits, strict=True)]
    quota = bulk["quota"][0]
    planned = [one for figures in bulk["planned"].values() for one in figures]
    # So few that they fit into one minute have no bound.
    over_bound = quota["seconds"] / (quota["bound_s"] or 1)
    faster, in_no_order = over_pydantic(results, "ordered"), over_pydantic(results, "shuffled")
    memory = max(one["over_table_bytes"] for one in planned)
    applied = Spread.of([one["rows"] / one["seconds"] for one in bulk["applied"]])
    resumed = Spread.of(_seconds(bulk["resumed"]))
    measured = (
        (f"{quota['requests']:,}", quota["requests"] <= 540),
        (f"{quota['refused']:,}", quota["refused"] == 0),
        (f"{over_bound:.3f} ×", over_bound <= 1.03),
        (times(faster) if faster else "", faster.middle >= 5 if faster else None),
        (times(in_no_order) if in_no_order else "", in_no_order.middle >= 5 if in_no_order else None),
        (f"{memory / 1e6:.0f} MB", memory <= 400_000_000),
        (applied.show(lambda rate: f"{rate:,.0f}"), applied.middle >= 3_000),
        (resumed.show(lambda seconds: f"{seconds:.2f}", " s"), resumed.middle < 3),
        *(_ms(values, limit) for values, limit in ((_shown(bulk), 50), (_waits(bulk), 20))),
    )
    return [Bar(what, limit, *one) for what, limit, one in zip(whats, limits, measured, strict=True)]


def _closer(results: Results) -> list[Bar]:
    """The bars of `docs/design/2026-11-29-closer-to-the-limit.md`, each against its own limit or the best peer."""

    def rate(mode: str, contender: str) -> list[float]:
        return values(results, mode, contender, "calls_per_s")

    def p50(contender: str) -> list[float]:
        return values(results, "sequential", contender, "p50_us")

    def best(mode: str, key: str, *, on_uvloop: bool) -> list[float]:
        """The best asynchronous peer on a loop; `p50_us` is best when it is small."""
        names = results["rounds"].get(mode, {})
        peers = [
            values(results, mode, name, key)
            for name in names
            if not name.startswith("replyio") and name in PEERS and name.endswith("-uvloop") == on_uvloop
        ]
        pick = min if key == "p50_us" else max
        return pick(peers, key=median) if peers else []

    native = p50("native")
    asyncio, uvloop = "replyio-async-quota", "replyio-async-quota-uvloop"
    one_call = 1.15 if "AMD" in results["machine"]["processor"] else 1.20
    bars = [
        _at_most(
            "one call, quota on and shared, p50, over native reqwest", one_call, ratio(p50("replyio-quota"), native)
        ),
    ]
    for name, loop, limit, peers in ((asyncio, "asyncio", 1.9, 2.0), (uvloop, "uvloop", 1.7, 1.5)):
        on_uvloop = loop == "uvloop"
        one, many = (
            best("sequential", "p50_us", on_uvloop=on_uvloop),
            best("in-flight", "calls_per_s", on_uvloop=on_uvloop),
        )
        ours = rate("in-flight", name)
        bars += [
            _at_most(
                f"one call after another on {loop}, quota on, p50, over native reqwest", limit, ratio(p50(name), native)
            ),
            _at_least(
                f"one call after another on {loop}, quota on, faster than the best peer", 1, ratio(one, p50(name))
            ),
            _at_least(
                f"64 in flight on {loop}, quota on, over native reqwest", 0.85, ratio(ours, rate("in-flight", "native"))
            ),
            _at_least(f"64 in flight on {loop}, quota on, over the best peer", peers, ratio(ours, many)),
        ]
    gathered = rate("gather", uvloop)
    bars += [
        _at_least(
            "gather behind a semaphore on uvloop, over aiohttp", 3, ratio(gathered, rate("gather", "aiohttp-uvloop"))
        ),
        _at_least(
            "gather behind a semaphore on uvloop, over pyreqwest",
            2,
            ratio(gathered, rate("gather", "pyreqwest-async-uvloop")),
        ),
        _at_least("16 threads, over pycurl", 2, ratio(rate("threads", "replyio"), rate("threads", "pycurl"))),
    ]
    return bars


PEERS = (
    "pyreqwest-async",
    "pyreqwest-async-uvloop",
    "aiohttp",
    "aiohttp-uvloop",
    "httpx-async",
    "httpx2-async",
    "niquests-async",
)
"""The asynchronous clients that replyio is compared with."""


def _limits(results: Results) -> list[Bar]:
    """What more than one row in twenty, another key than the id, and a new process take."""
    bulk, limits = results.get("bulk") or {}, results.get("limits")
    by_id = _seconds(bulk["planned"]["ordered"]) if bulk else []
    matched, changed = bulk.get("matched", {}), bulk.get("changed", {})
    bars = [
        _at_most(f"rows matched by {by}, over by id", 1.5, ratio(_seconds(matched.get(by, [])), by_id))
        for by in ("domain_name", "name")
    ]
    few, many = (changed[key] for key in sorted(changed, key=int)) if len(changed) > 1 else ([], [])

    def growth(key: str) -> Spread | None:
        """How much more of something each row takes in the long plan."""
        per_row = [[float(one[key]) / one["rows"] for one in figures] for figures in (many, few)]
        return ratio(*per_row)

    for key, what in (("seconds", "time"), ("file_bytes", "file size"), ("over_table_bytes", "memory")):
        bars.append(
            _at_most(f"all rows change: {what} of a row in the long plan, over the short one", 1.3, growth(key))
        )
    size = Spread.of([one["file_bytes"] / one["rows"] for one in many]) if many else None
    whats = (
        "all rows change: bytes of a row in the file, its values included",
        "first call of a process over https, handshake aside",
        "a client for https",
        "a sandbox of 1,000,000 accounts: start",
        "a sandbox of 1,000,000 accounts: a page",
    )
    bounds = (400.0, 10.0, 0.02, 2.0, 3.0)
    units = (" bytes", " ms", " ms", " s", " ms")
    measured = [size, *([None] * 4)]
    if limits:
        measured[1:] = [
            Spread.of([one["ms"] for one in limits["first"]]),
            Spread.of([one["ms"] for one in limits["clients"]]),
            Spread.of([limits["sandbox"]["start_s"]]),
            Spread.of([limits["sandbox"]["page_ms"]]),
        ]
    for what, bound, unit, spread in zip(whats, bounds, units, measured, strict=True):
        limit = f"at most {bound:g}{unit}"
        if spread is None:
            bars.append(Bar(what, limit, "", None))
        else:
            bars.append(Bar(what, limit, spread.show(lambda value: f"{value:.3g}", unit), spread.middle <= bound))
    return bars
