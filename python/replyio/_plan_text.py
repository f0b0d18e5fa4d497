"""The texts of plans and results: in a line, in a table, in a notebook. Pure functions of plain values."""

from __future__ import annotations

import html
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from replyio._again import Opening, opened
from replyio._counts import Status
from replyio._replyio import exact_text, safe_text

# Every status of a row, in the order of display, with its words for one row and for several.
WORDS: dict[str, tuple[str, str]] = {
    "pending": ("to change", "to change"),
    "changed": ("changed", "changed"),
    "unchanged": ("already up to date", "already up to date"),
    "failed": ("failed", "failed"),
    "conflict": ("conflict", "conflicts"),
    "unknown": ("outcome unknown", "outcomes unknown"),
    "invalid": ("invalid", "invalid"),
    "ambiguous": ("ambiguous", "ambiguous"),
    "not_found": ("not found", "not found"),
}
DONE = frozenset({"changed", "unchanged"})
NOT_WRITTEN = frozenset({"failed", "conflict", "unknown", "invalid", "ambiguous", "not_found"})
SHOWN_ROWS = 10
SHOWN_FAILURES = 5
SHOWN_REASON = 500
SHOWN_CHARACTERS = 60

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400

# Independent of the theme: a tint over any background, and text in the page's own color.
_BLUE, _GREEN, _GREY, _RED, _AMBER = "56,132,244", "34,160,90", "128,128,128", "222,60,70", "222,146,20"
_TINTS = {
    "pending": _BLUE,
    "changed": _GREEN,
    "unchanged": _GREY,
    "failed": _RED,
    "conflict": _AMBER,
    "unknown": _AMBER,
    "invalid": _RED,
    "ambiguous": _AMBER,
    "not_found": _AMBER,
}
_CELL = "text-align:left;padding:2px 14px 2px 0;border:0;background:none;vertical-align:top"
_MONO = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:.92em"
# Less prominent, but easy to read even if the surrounding text is not black, as in Visual Studio Code.
_QUIET = "opacity:.72"
# A long text may break anywhere, so that it does not widen the cell; a short text stays in one piece.
_BREAKS = "overflow-wrap:anywhere"
_SHORT = 20


def counted(number: int, one: str, several: str | None = None) -> str:
    """Returns a number with its noun: `1 row`, `9,140 rows`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def duration(seconds: float) -> str:
    """A duration as a person says it: `42 s`, `17 min`, `6 h 20 min`, `13 d 21 h`."""
    if seconds < 1:
        return "less than a second"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    minutes = round(seconds / _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min"
    if minutes * _MINUTE < _DAY:
        return _two(minutes, 60, "h", "min")
    return _two(round(seconds / _HOUR), 24, "d", "h")


def _two(number: int, base: int, large: str, small: str) -> str:
    """A duration in two units, the smaller one only where it is not zero."""
    whole, rest = divmod(number, base)
    return f"{whole:,} {large} {rest} {small}" if rest else f"{whole:,} {large}"


def estimate(seconds: float) -> str:
    """A duration that is not known exactly: `about 17 min`."""
    return duration(seconds) if seconds < 1 else f"about {duration(seconds)}"


def known_counts(counts: Mapping[Any, int]) -> list[tuple[str, int, str]]:
    """Returns status, number and words of each status with rows, in order. An unknown status keeps its name."""
    ordered = [*WORDS, *(status for status in counts if status not in WORDS)]
    found: list[tuple[str, int, str]] = []
    for status in ordered:
        number = counts.get(status, 0)
        if number:
            one, several = WORDS.get(status, (cell(status.replace("_", " ")),) * 2)
            found.append((status, number, one if number == 1 else several))
    return found


def counts_text(counts: Mapping[Status, int]) -> str:
    """Returns the counts in a line: `812 to change, 9,140 already up to date, 3 invalid`."""
    return ", ".join(f"{number:,} {words}" for _, number, words in known_counts(counts)) or "no rows"


def not_done(counts: Mapping[Status, int]) -> int:
    """Returns how many rows are neither changed nor already up to date."""
    return sum(number for status, number in counts.items() if status not in DONE)


def cost_text(requests: int | None, seconds: float | None) -> str:
    """Returns the remaining cost: `817 requests, about 17 min`. Empty if there is none, or if it is unknown."""
    parts = [counted(requests, "request")] if requests else []
    if requests and seconds is not None:
        parts.append(estimate(seconds))
    return ", ".join(parts)


def spent_text(requests: int, seconds: float) -> str:
    """Returns the cost so far: `817 requests in 17 min`."""
    return f"{counted(requests, 'request')} in {duration(seconds)}"


def stored_otherwise_text(rows: int) -> str:
    """Returns the note about rows whose account differs from what was sent; empty if there are none."""
    whose = "row whose account differs", "rows whose accounts differ"
    return f"{counted(rows, *whose)} from the plan" if rows else ""


def cleared_text(fields: int) -> str:
    """Returns the note about fields that a plan empties: `clears 3 fields`; empty if there are none."""
    return f"clears {counted(fields, 'field')}" if fields else ""


def suspicious_text(cells: Sequence[tuple[str, int, int]]) -> str:
    """Returns the note about suspicious cells; empty if there are none.

    Args:
        cells: The columns, with the number of such cells and the first row.
    """
    if not cells:
        return ""
    columns = ", ".join(
        f"{number:,} in {safe_text(column, SHOWN_CHARACTERS)} ({'' if number == 1 else 'from '}row {row})"
        for column, number, row in cells
    )
    examples = "such as NULL, 4.9E+11, =A1 or a text with spaces around it"
    return f"{counted(sum(number for _, number, _ in cells), 'suspicious cell')}, {examples}: {columns}"


def can_be_overwritten(record: Mapping[str, Any]) -> bool:
    """Returns whether `on_conflict="overwrite"` writes a row in conflict.

    It does not if the plan fills only empty fields, or if the account no longer has the domain or name of the row. The
    error of a row that it writes names this option, and no other one.
    """
    error = str(record.get("error"))
    return record.get("status") == "conflict" and "on_conflict" in error and "on_unknown_member" not in error


def line(kind: str, name: str, counts: Mapping[Status, int], cost: str, notes: Sequence[str] = ()) -> str:
    """Returns the text of `repr`: first the notes, which people must know before anything else."""
    told = "; ".join(part for part in (*notes, counts_text(counts), cost) if part)
    return printable(f"<{kind} {cell(name)}: {told}>")


def printable(text: str) -> str:
    """Returns the text with escapes for characters that stdout cannot write."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def progress_text(state: Mapping[str, Any]) -> str:
    """Returns the part of the progress that a bar cannot show: requests, the time left, and the reason for a wait."""
    parts = [counted(state.get("requests", 0), "request")]
    left = state.get("seconds_left")
    if left is not None and not 0 < state.get("rows", 0) <= state.get("done", 0):
        parts.append(f"{estimate(max(left, state.get('waiting_until') or 0))} left")
    return ", ".join([*parts, *filter(None, [_wait_text(state)])])


def _wait_text(state: Mapping[str, Any]) -> str:
    """Returns how long a run waits, and why; empty if it does not wait."""
    waiting, wait = state.get("waiting"), state.get("waiting_until")
    if not waiting:
        return ""
    return f"waiting ({waiting})" if wait is None else f"waiting {duration(wait)} ({waiting})"


def progress_line(state: Mapping[str, Any]) -> str:
    """Returns the progress in a line: `writing: 412 of 812 rows, 430 requests, about 9 min left`."""
    wait = _wait_text(state)
    phase = wait or state.get("phase") or "working"
    rest = progress_text({**state, "waiting": None})
    return f"{phase}: {state.get('done', 0):,} of {counted(state.get('rows', 0), 'row')}, {rest}"


def progress_html(state: Mapping[str, Any]) -> str:
    """Returns the progress as a bar with its line, for a notebook."""
    rows, done = state.get("rows", 0), state.get("done", 0)
    bar = f'<progress style="width:12em;vertical-align:middle" max="{max(rows, 1)}" value="{done}"></progress>'
    style = f"color:inherit;line-height:1.55;{_BREAKS}"
    return f'<div style="{style}">{bar} {html.escape(progress_line(state))}</div>'


def cell(value: object) -> str:
    """Returns a value for a line of a table: truncated if it is long, quoted or escaped if it would not be seen."""
    if value is None:
        return ""
    text = str(value)
    return exact_text(text, SHOWN_CHARACTERS if len(text) <= SHOWN_CHARACTERS else SHOWN_CHARACTERS - 1)


def distinct(change: Mapping[str, Any], limit: int = SHOWN_CHARACTERS) -> Mapping[str, Any]:
    """Returns a change whose values differ even if they are truncated: they begin shortly before their difference.

    Args:
        change: The change.
        limit: The number of characters that a table shows.
    """
    before, after = change.get("before"), change.get("after")
    if not isinstance(before, str) or not isinstance(after, str) or max(len(before), len(after)) <= limit:
        return change
    differ = (place for place, (one, other) in enumerate(zip(before, after, strict=False)) if one != other)
    same = next(differ, min(len(before), len(after)))
    if same < limit // 2:
        return change
    begin = same - limit // 4
    return {**change, "before": f"…{before[begin:]}", "after": f"…{after[begin:]}"}


# HTML


def _tinted(text: str, tint: str, strength: float, more: str = "") -> str:
    """Returns text on a tint."""
    style = f"background:rgba({tint},{strength});border-radius:4px;padding:0 5px;box-decoration-break:clone;{more}"
    return f'<span style="{style}">{text}</span>'


def _value_html(value: object, tint: str, more: str = "") -> str:
    """Returns a value before or after a change."""
    if value is None or value == "":
        return f'<span style="{_QUIET};font-style:italic">empty</span>'
    return _tinted(_isolated(cell(value)), tint, 0.16, more)


def _isolated(text: str) -> str:
    """Returns foreign text. `bdi` prevents right-to-left text from reordering its neighbors, and all spaces count."""
    return f'<bdi style="white-space:pre-wrap">{html.escape(text)}</bdi>'


def counts_html(counts: Mapping[Status, int], notes: Sequence[str] = ()) -> str:
    """Returns the notes in amber, then the counts, each in its color."""
    chips = [_chip(_AMBER, f"<b>{html.escape(note)}</b>") for note in notes if note]
    for status, number, words in known_counts(counts):
        chips.append(_chip(_TINTS.get(status, _GREY), f"<b>{number:,}</b> {html.escape(words)}"))
    return "".join(chips) or f'<span style="{_QUIET}">no rows</span>'


def _chip(tint: str, inner: str) -> str:
    style = (
        f"display:inline-block;background:rgba({tint},.17);box-shadow:inset 3px 0 0 rgb({tint});"
        "border-radius:4px;padding:1px 9px 1px 11px;margin:0 6px 4px 0;white-space:nowrap"
    )
    return f'<span style="{style}">{inner}</span>'


def reason(record: Mapping[str, Any]) -> str:
    """Returns why a row is not done, without the numbers of the row and the account, which have their own columns."""
    otherwise = "the account differs from the plan" if record.get("stored_otherwise") else ""
    told = str(record.get("error") or otherwise or str(record.get("status", "")).replace("_", " "))
    told = told.removeprefix(f"row {record.get('row')}: ").replace(f" in row {record.get('row')} ", " ", 1)
    return safe_text(told.replace(f" of account {record.get('id')} ", " ", 1), SHOWN_REASON)


def failures_html(records: Sequence[Mapping[str, Any]], total: int) -> str:
    """Returns the first rows that are not done: the complete reason first, then row, account and status."""
    if not records:
        return ""
    rows: list[str] = []
    for record in records:
        account = f"account {record['id']}" if record.get("id") is not None else record.get("key")
        place = ", ".join(part for part in (f"row {record.get('row')}", account) if part)
        status = str(record.get("status", ""))
        one = WORDS.get(status, (status.replace("_", " "),))[0]
        cells = (
            (f"{_CELL};{_BREAKS}", _isolated(reason(record))),
            (f"{_CELL};{_QUIET}", _isolated(cell(place))),
            (_CELL, _tinted(html.escape(cell(one)), _TINTS.get(status, _GREY), 0.17)),
        )
        rows.append(_row(cells, "none" if not rows else "1px solid rgba(128,128,128,.25)"))
    return _table(rows) + _more(total - len(records), "row not done", "rows not done")


def changes_html(changes: Sequence[Mapping[str, Any]], total: int) -> str:
    """Returns the first changes, before and after. Names an account with several changes once."""
    if not changes:
        return ""
    rows: list[str] = []
    last: object = None
    for change in map(distinct, changes):
        same, last = change.get("row") == last, change.get("row")
        account = "" if same else f"{html.escape(cell(change.get('id')))}"
        before = _value_html(change.get("before"), _RED, f"text-decoration:line-through 1px rgba({_RED},.8)")
        # A value that was not written must not look as if it were.
        is_refused = change.get("status") in NOT_WRITTEN
        after = _value_html(change.get("after"), _GREY if is_refused else _GREEN)
        if is_refused:
            status = str(change.get("status"))
            after += f" {_tinted(html.escape(WORDS[status][0]), _TINTS[status], 0.17)}"
        cells = (
            (f"{_CELL};{_MONO};{_QUIET}", account),
            (f"{_CELL};{_MONO}", html.escape(cell(change.get("field")))),
            (f"{_CELL};{_BREAKS}", f'{before} <span style="{_QUIET}">→</span> {after}'),
        )
        rows.append(_row(cells, "none" if same or not rows else "1px solid rgba(128,128,128,.25)"))
    return _table(rows) + _more(total - len(changes), "change")


def table_html(records: Sequence[Mapping[str, Any]], columns: Sequence[str], total: int) -> str:
    """Returns the first rows of a table."""
    head = "".join(f'<th style="{_CELL};{_QUIET};font-weight:600">{html.escape(cell(name))}</th>' for name in columns)
    rows = [f'<tr style="background:none">{head}</tr>']
    for record in map(distinct, records):
        texts = [cell(record.get(name)) for name in columns]
        values = [(_CELL if len(text) <= _SHORT else f"{_CELL};{_BREAKS}", _isolated(text)) for text in texts]
        rows.append(_row(values, "1px solid rgba(128,128,128,.25)"))
    return f"<div>{_table(rows)}{_more(total - len(records), 'row')}</div>"


def _row(cells: Sequence[tuple[str, str]], border: str) -> str:
    """Returns a row of cells, each with its style, without the notebook's own stripes."""
    inner = "".join(f'<td style="{style};border-top:{border}">{text}</td>' for style, text in cells)
    return f'<tr style="background:none">{inner}</tr>'


def _table(rows: Sequence[str]) -> str:
    style = "border-collapse:collapse;margin:4px 0;border:0;font-size:inherit;color:inherit"
    return f'<table style="{style}"><tbody>{"".join(rows)}</tbody></table>'


def _more(number: int, noun: str, nouns: str | None = None) -> str:
    """Returns how many are not shown."""
    more = counted(number, f"more {noun}", None if nouns is None else f"more {nouns}")
    return f'<div style="{_QUIET};margin:2px 0">… and {more}</div>' if number > 0 else ""


def box_html(
    name: str,
    cost: str,
    counts: Mapping[Status, int],
    inner: str,
    hints: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
) -> str:
    """Returns a plan or a result for a notebook: name and cost, notes and counts, changes, and next steps."""
    said = f'<span style="{_QUIET}"> · {html.escape(cost)}</span>' if cost else ""
    head = f'<div style="margin-bottom:5px;{_BREAKS}"><b>{_isolated(cell(name))}</b>{said}</div>'
    next_steps = "".join(
        '<span style="display:inline-block;margin:0 18px 2px 0">'
        f'<code style="{_MONO};background:rgba(128,128,128,.16);color:inherit;border-radius:4px;padding:1px 5px">'
        f"{html.escape(safe_text(code))}</code> {html.escape(text)}</span>"
        for code, text in hints
    )
    foot = f'<div style="margin-top:6px;{_BREAKS}">{next_steps}</div>' if hints else ""
    style = "border-left:3px solid rgba(128,128,128,.35);padding:4px 0 4px 12px;line-height:1.55;color:inherit"
    return f'<div style="{style}">{head}<div>{counts_html(counts, notes)}</div>{inner}{foot}</div>'


def as_frame() -> str:
    """Returns the method that converts a table with an installed library; empty if there is none."""
    for library in ("pandas", "polars"):
        if find_spec(library) is not None:
            return f".to_{library}()"
    return ""


class Rest(NamedTuple):
    """What the runs of a plan may still do.

    Attributes:
        left: The number of rows that the next run sends.
        failed: The number of rows that only a retry sends again.
    """

    left: int
    failed: int


def rest_of(counts: Mapping[Status, int], *, is_reverted: bool) -> Rest:
    """Returns what the runs of a plan may still do: a plan that was reverted sends only rows that the caller names."""
    if is_reverted:
        return Rest(0, 0)
    left = counts.get("pending", 0) + counts.get("unknown", 0)
    return Rest(left, counts.get("failed", 0) + counts.get("conflict", 0))


def _retry_hints(
    plan: str, retry: str, counts: Mapping[Status, int], rest: Rest, conflicts: Sequence[int]
) -> list[tuple[str, str]]:
    """Returns what to do about failed rows and conflicts: a retry of conflicts alone would leave them as they are."""
    if rest.failed and counts.get("failed", 0):
        return [(f"{retry}.retry_failed()", "retries failed rows and conflicts")]
    if rest.failed and conflicts:
        over = f'{plan}.apply(rows={list(conflicts)}, on_conflict="overwrite")'
        return [(over, "overwrites what someone else has written")]
    return []


def plan_hints(
    counts: Mapping[Status, int],
    rest: Rest,
    read_only: Opening | None = None,
    frame: str = "",
    conflicts: Sequence[int] = (),
) -> list[tuple[str, str]]:
    """Returns the next steps for a plan: code, and what it does.

    Args:
        counts: The number of rows by status.
        rest: What its runs may still do.
        read_only: How to open a read-only plan; None for one that can be applied.
        frame: The method that converts a table to a DataFrame.
        conflicts: Rows in conflict that can be overwritten.
    """
    changed = counts.get("changed", 0)
    plan = "plan" if read_only is None else opened(read_only)
    hints: list[tuple[str, str]] = []
    if counts.get("pending", 0) + counts.get("unknown", 0):
        hints.append((f"plan.changes{frame}", "shows every change"))
    if rest.left:
        hints.append((f"{plan}.apply()", "resumes it" if changed else "sends the changes"))
    refused = not_done(counts) - counts.get("pending", 0)
    if refused:
        hints.append((f"plan.failures{frame}", f"shows why {counted(refused, 'row is', 'rows are')} not done"))
    hints += _retry_hints(plan, plan, counts, rest, conflicts)
    if changed:
        hints.append((f"{plan}.revert()", "restores the previous values"))
    return hints


def result_hints(
    counts: Mapping[Status, int],
    rest: Rest,
    stored_otherwise: int = 0,
    frame: str = "",
    conflicts: Sequence[int] = (),
) -> list[tuple[str, str]]:
    """Returns the next steps for a result: code, and what it does.

    Args:
        counts: The number of rows by status.
        rest: What the runs of its plan may still do.
        stored_otherwise: The number of rows whose account differs from the plan.
        frame: The method that converts a table to a DataFrame.
        conflicts: Rows in conflict that can be overwritten.
    """
    missing = not_done(counts) - counts.get("pending", 0)
    hints: list[tuple[str, str]] = []
    if missing or stored_otherwise:
        reason = f"{counted(missing, 'row was', 'rows were')} not done" if missing else "accounts differ from the plan"
        hints.append((f"result.failures{frame}", f"shows why {reason}"))
    if rest.left:
        hints.append(("result.plan.apply()", f"resumes it: {counted(rest.left, 'row is', 'rows are')} left"))
    hints += _retry_hints("result.plan", "result", counts, rest, conflicts)
    if counts.get("changed", 0) or counts.get("unknown", 0):
        hints.append(("result.revert()", "restores the previous values"))
    return hints
