"""What notebooks show of plans, results and accounts, as a browser makes of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from replyio import _plan_text
from replyio.sandbox import Fault, Sandbox

from .programs import Chromium

# Background, text, and every second row of a table. The notebooks of Visual Studio Code have no pure black or white.
THEMES = {
    "JupyterLab, light": ("#fff", "rgba(0, 0, 0, 0.87)", "#f5f5f5"),
    "JupyterLab, dark": ("#111", "#fff", "#212121"),
    "Visual Studio Code, light": ("#fff", "#3b3b3b", "#fff"),
    "Visual Studio Code, dark": ("#1f1f1f", "#ccc", "#1f1f1f"),
}
MEASURE = Path(__file__).with_name("measure.js").read_text(encoding="utf-8")
# Text that is no title has this contrast at least, as WCAG 2 has it (AA).
READABLE = 4.5
HOSTILE = [
    "<script>document.title += 0</script>",
    '<img src=x onerror="document.title += 1">',
    '"><svg onload="document.title += 2">',
    "'--></td><script>document.title += 3</script>",
]
TAGS = {"div", "span", "b", "bdi", "code", "table", "caption", "tbody", "tr", "th", "td"}
WIDE = "W" * 90


def look(chromium: Chromium, shown: Mapping[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """The title of a page with outputs 600 pixels wide, in each theme, and what the page has measured of them."""
    body = ""
    for theme, (background, text, stripe) in THEMES.items():
        style = f"width: 600px; padding: 9px; background: {background}; color: {text}; --stripe: {stripe}"
        outputs = (f'<div class="output" data-name="{name}" data-theme="{theme}">{shown[name]}</div>' for name in shown)
        body += f'<div style="{style}">{"".join(outputs)}</div>'
    page = f"""<!doctype html><meta charset="utf-8"><title>ran: </title>
        <style>body {{ font: 14px sans-serif }} tbody tr:nth-child(odd) {{ background: var(--stripe) }}</style>
        <body>{body}<script>addEventListener("load", () => {{ {MEASURE} }})</script>"""
    read = chromium.read(page)
    found = re.search(r'<pre id="measured">(.*?)</pre>', read, re.DOTALL)
    assert found, read[-2000:]
    title = re.search(r"<title>(.*?)</title>", read)
    return title[1].strip() if title else "", json.loads(html.unescape(found[1]))


def plan_and_result(path: Path, texts: list[str]) -> dict[str, str]:
    """A plan that writes texts over each other, what it did, its tables and an account, as notebooks get them."""
    path.parent.mkdir(exist_ok=True)
    accounts = [{"id": id, "name": text, "city": text} for id, text in enumerate(texts, 1)]
    table = [{"id": id, "description": text, "city": text[::-1]} for id, text in enumerate(texts, 1)]
    table += [{"id": 999, "description": "nobody", "city": ""}]
    with (
        Sandbox(accounts=accounts, faults=[Fault(method="PUT", id=1, status=422)]) as sandbox,
        sandbox.client(quota=None) as client,
        client.plan_contact_account_updates(table, save_as=path, progress=False) as plan,
    ):
        shown = {"plan": plan, "changes": plan.changes, "rows": plan.rows, "account": client.get_contact_account(2)}
        kept = {name: each._repr_html_() for name, each in shown.items()}
        result = plan.apply(progress=False)
        return kept | {"result": result._repr_html_(), "failures": result.failures._repr_html_()}


def test_a_browser_shows_the_counts_and_runs_nothing_that_a_value_says(chromium: Chromium, tmp_path: Path) -> None:
    shown = plan_and_result(tmp_path / HOSTILE[1], HOSTILE)
    title, outputs = look(chromium, shown)
    assert title == "ran:"
    told = {"plan": ["4 to change", "1 not found"], "result": ["3 changed", "1 failed", "1 not found"]}
    for output in outputs:
        assert set(output["tags"]) <= TAGS, output["name"]
        for text in told.get(output["name"], []):
            assert text in output["text"]
        if output["name"] in {"plan", "changes", "result"}:
            assert all(value in output["text"] for value in HOSTILE), output["text"]
    assert HOSTILE[1] in next(output["text"] for output in outputs if output["name"] == "account")


def test_each_hostile_value_would_run_if_it_could(chromium: Chromium) -> None:
    rows = "".join(f"<tr><td>{value}</td></tr>" for value in HOSTILE)
    title, _ = look(chromium, {"unguarded": f"<table>{rows}</table>"})
    assert set(title) >= set("0123")


def test_every_text_can_be_read_in_every_theme(chromium: Chromium, tmp_path: Path) -> None:
    shown = plan_and_result(tmp_path / "moves.replyplan", ["Oslo", "Bergen", "Ships"])
    shown["every status"] = _plan_text.box_html("all", "3 requests", dict.fromkeys(_plan_text.WORDS, 2), "", [])
    # Known figures: a grey on white, and black that is half transparent.
    shown["control"] = '<div style="background: #fff; color: #777">4.48</div>'
    shown["control"] += '<div style="background: #fff"><p style="opacity: 0.5; color: #000">3.98</p></div>'
    _, outputs = look(chromium, shown)
    assert {output["theme"] for output in outputs} == set(THEMES)
    for output in outputs:
        for text in output["texts"]:
            if output["name"] == "control":
                assert text["contrast"] == pytest.approx(float(text["text"]), abs=0.01)
            else:
                assert text["contrast"] >= READABLE, (output["theme"], output["name"], text)


def test_what_is_long_does_not_stick_out_of_a_narrow_cell(chromium: Chromium, tmp_path: Path) -> None:
    shown = plan_and_result(tmp_path / WIDE / WIDE, [WIDE, f"https://{WIDE.lower()}.example", f"{WIDE} {WIDE}"])
    shown["control"] = f"<div>{WIDE}</div>"
    for output in look(chromium, shown)[1]:
        assert (output["sticksOut"] > 1) == (output["name"] == "control"), output
