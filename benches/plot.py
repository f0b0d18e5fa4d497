"""Draws the plot of `docs/benchmarks.md`: the time of one call, and the two throughputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from bars import Results, Spread, values
from contenders import CONCURRENCY, CONTENDERS, THREADS
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from report import ordered

# Blue, dark grey and light grey stay apart for every kind of color vision, and in print.
OURS, LIMIT, PEER = "#0072B2", "#4D4D4D", "#BDBDBD"
INK, FAINT = "#222222", "#DDDDDD"

STYLE: Any = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "svg.hashsalt": "replyio",
}


def draw(results: Results, path: Path) -> None:
    """Draws the plot into a file, in the format of its ending."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12, 7), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1), facecolor="white")
        grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1))
        _latency(figure.add_subplot(grid[:, 0]), results)
        _throughput(figure.add_subplot(grid[0, 1]), results, "in-flight", f"{CONCURRENCY} calls in flight")
        _throughput(figure.add_subplot(grid[1, 1]), results, "threads", f"{THREADS} threads")
        figure.suptitle("Updating a contact account, on loopback", x=0.01, ha="left", fontsize=14)
        machine = results["machine"]
        figure.supxlabel(
            f"Median of {results['settings']['repetitions']} repetitions, lines from lowest to highest. "
            f"{machine['processor']}, {machine['cores']} cores, {results['date'].split()[0]}.",
            x=0.01,
            ha="left",
            fontsize=8,
            color="#666666",
        )
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)


def _latency(axes: Axes, results: Results) -> None:
    names = ordered(results, "sequential", "p50_us")
    native = values(results, "sequential", "native", "p50_us")
    unit = native or [1.0] * results["settings"]["repetitions"]
    spreads = [
        Spread.of([own / one for own, one in zip(values(results, "sequential", name, "p50_us"), unit, strict=True)])
        for name in names
    ]
    axes.set_xscale("log")
    microseconds = [Spread.of(values(results, "sequential", name, "p50_us")).middle for name in names]
    texts = [
        f"{spread.middle:.{2 if spread.middle < 10 else 1}f} ×  ·  {us:,.0f} µs" if native else f"{us:,.0f} µs"
        for spread, us in zip(spreads, microseconds, strict=True)
    ]
    _bars(axes, names, spreads, texts)
    left = 0.8 if native else min(spread.low for spread in spreads) / 1.5
    axes.set_xlim(left, max(spread.high for spread in spreads) * 5)
    if native:
        axes.axvline(1, color=LIMIT, linewidth=0.8, linestyle=(0, (4, 3)), zorder=3)
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if tick <= axes.get_xlim()[1] / 2]
        axes.set_xticks(ticks, [f"{tick} ×" for tick in ticks])
        axes.minorticks_off()
    what = "p50 as a multiple of native reqwest, log scale" if native else "p50, µs, log scale"
    _title(axes, "One call at a time", f"{what}; shorter is better")


def _throughput(axes: Axes, results: Results, mode: str, title: str) -> None:
    names = ordered(results, mode, "calls_per_s", descending=True)
    spreads = [Spread.of(values(results, mode, name, "calls_per_s")) for name in names]
    _bars(axes, names, spreads, [f"{spread.middle:,.0f}" for spread in spreads])
    if spreads:
        axes.set_xlim(0, max(spread.high for spread in spreads) * 1.2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _title(axes, title, "calls per second; longer is better")


def _title(axes: Axes, title: str, subtitle: str) -> None:
    axes.set_title(title, pad=22)
    axes.annotate(
        subtitle,
        (0, 1),
        xytext=(0, 8),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color="#666666",
    )


def _bars(axes: Axes, names: list[str], spreads: list[Spread], texts: list[str]) -> None:
    for place, (name, spread, text) in enumerate(zip(names, spreads, texts, strict=True)):
        ours = name.startswith("replyio")
        color = OURS if ours else LIMIT if name == "native" else PEER
        axes.barh(place, spread.middle, color=color, height=0.72, zorder=2)
        if spread.low != spread.high:
            axes.plot((spread.low, spread.high), (place, place), color="black", linewidth=1.1, zorder=4)
        axes.annotate(
            text,
            (max(spread.middle, spread.high), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            fontweight="bold" if ours else "normal",
            zorder=5,
        )
    axes.set_yticks(range(len(names)), [CONTENDERS[name].label for name in names])
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith("replyio") else "normal")
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
