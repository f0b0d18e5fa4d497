"""The call in Python and the command in a shell that use a plan again. Pure functions of plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from replyio._replyio import safe_text
from replyio._shell import argument

SHOWN_RANGES = 10
_DEFAULTS = {"on_conflict": "skip", "on_unknown_member": "stop"}
# Python and the command refuse this as rows, so a run that is repeated without its rows writes nothing.
HIDDEN = "..."
_WORDS = {"apply": "apply", "retry_failed": "apply", "revert": "revert", "status": "status"}


class Opening(NamedTuple):
    """How to open a plan.

    Attributes:
        path: Its file.
        settings: The options of the command line that it needs: `act_as`, `team_id`, `new_key`, `key_file`, `timeout`.
    """

    path: str
    settings: Mapping[str, Any] = {}


def opened(opening: Opening) -> str:
    """Returns the call that opens a plan: `client.open_plan('acme.replyplan')`."""
    new_key = ", new_key=True" if opening.settings.get("new_key") else ""
    return f"client.open_plan({safe_text(repr(opening.path))}{new_key})"


def call(opening: Opening, action: str, options: Mapping[str, Any]) -> str:
    """Returns the call of a plan's method in Python: `client.open_plan('acme.replyplan').apply(limit=3)`.

    Args:
        opening: How to open the plan.
        action: The method.
        options: The options by name. Those with their default are left out.

    Returns:
        The call. `rows=...` stands for row numbers that are too many to show; Python refuses it.
    """
    shown = {name: repr(value).replace("'", '"') for name, value in _given(options).items()}
    if "rows" in shown:
        shown["rows"] = _rows_in_python(options["rows"])
    arguments = ", ".join(f"{name}={value}" for name, value in shown.items())
    hidden = " with the same rows=" if shown.get("rows") == HIDDEN else ""
    return f"{opened(opening)}.{action}({arguments}){hidden}"


def command(opening: Opening, action: str, options: Mapping[str, Any] | None = None) -> tuple[str, str]:
    """Returns the command that does the same, and the words that follow it.

    Args:
        opening: How to open the plan.
        action: "apply", "retry_failed", "revert" or "status".
        options: The options by name. Those with their default are left out.

    Returns:
        The command, and words such as ` with the same --rows`, whose value the command does not show.
    """
    shown = {name: _setting(name, value) for name, value in _given(options or {}).items()}
    if "rows" in shown:
        shown["rows"] = _rows_in_command((options or {})["rows"])
    words = [f"replyio {_WORDS[action]} {argument(opening.path)}"]
    if action == "retry_failed":
        words.append("--retry-failed")
    if action != "status":  # it needs no key
        shown |= {name: _setting(name, value) for name, value in _given(opening.settings).items()}
    return _with_options(words, shown)


def _with_options(words: Sequence[str], shown: Mapping[str, str]) -> tuple[str, str]:
    """Returns a command with its options, and the words that follow it."""
    options = [f"--{name.replace('_', '-')} {value}".rstrip() for name, value in shown.items()]
    hidden = [f"--{name.replace('_', '-')}" for name, value in shown.items() if value == HIDDEN]
    return " ".join([*words, *options]), f" with the same {' and '.join(hidden)}" if hidden else ""


def single(words: str, settings: Mapping[str, Any]) -> str:
    """Returns a command that needs no plan, in backticks with the settings of the command that shows it.

    Args:
        words: The command and its arguments, such as `get 4711`.
        settings: The settings by name. `new_key` is only for plans.

    Returns:
        The command, and the words that follow it, as `quoted` returns them.
    """
    shown = {name: _setting(name, value) for name, value in _given(settings).items() if name != "new_key"}
    command_, hidden = _with_options([f"replyio {words}"], shown)
    return f"`{command_}`{hidden}"


def quoted(opening: Opening, action: str, options: Mapping[str, Any] | None = None) -> str:
    """Returns the command in backticks, and the words that follow it."""
    shown, hidden = command(opening, action, options)
    return f"`{shown}`{hidden}"


def _setting(name: str, value: Any) -> str:
    # A pipe, such as that of `<(pass key)`, cannot be read again.
    if name == "key_file" and str(value).startswith(("/dev/", "/proc/")):
        return HIDDEN
    if value is True:
        return ""
    return f"{value:g}" if isinstance(value, float) else argument(str(value))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not False and value != _DEFAULTS.get(name)}


def _rows_in_python(rows: Sequence[int]) -> str:
    ranges = _ranges(rows)
    if len(ranges) > SHOWN_RANGES:
        return HIDDEN
    if len(ranges) == 1 and len(rows) > 1:
        return f"range({ranges[0][0]}, {ranges[0][1] + 1})"
    shown: list[str] = []
    for first, last in ranges:
        is_long = last > first + 1
        shown += [f"*range({first}, {last + 1})"] if is_long else map(str, range(first, last + 1))
    return f"[{', '.join(shown)}]"


def _rows_in_command(rows: Sequence[int]) -> str:
    ranges = _ranges(rows)
    shown = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges[:SHOWN_RANGES])
    return shown if 0 < len(ranges) <= SHOWN_RANGES else HIDDEN


def without(action: str, opening: Opening, rows: Sequence[int], options: Mapping[str, Any], *, in_command: bool) -> str:
    """Returns how to write the other rows of a run that stopped at a row, and would stop there again.

    Args:
        action: What the run did: "apply" or "retry_failed". Only the former takes rows, so failed rows are left.
        opening: How to open the plan.
        rows: The other rows, of which a call shows only the first ranges.
        options: The options of the run by name.
        in_command: Whether the reader runs the command and not Python.

    Returns:
        The call or the command, and what it does; empty if there are no other rows.
    """
    if not rows:
        return ""
    shown = [row for first, last in _ranges(rows)[:SHOWN_RANGES] for row in range(first, last + 1)]
    which = "the other" if len(shown) == len(rows) else f"the first {len(shown):,} of the {len(rows):,} other"
    kind = "pending and unknown rows" if action == "retry_failed" else "rows"
    does = (quoted if in_command else call)(opening, "apply", {**options, "rows": shown})
    return f"{does} writes {which} {kind} without this account"


def limit_left(state: Mapping[str, Any]) -> int:
    """Returns what is left of the limit of a run."""
    # A limit prefers pending rows to unknown ones, which have used up their part of it.
    rows, done, unknown = (int(state.get(name, 0)) for name in ("rows", "done", "unknown"))
    return max(rows - done - unknown, 0)


def _ranges(rows: Sequence[int]) -> list[tuple[int, int]]:
    """Returns the first and the last number of each range of row numbers."""
    found: list[tuple[int, int]] = []
    for row in sorted(set(rows)):
        if found and row == found[-1][1] + 1:
            found[-1] = (found[-1][0], row)
        else:
            found.append((row, row))
    return found


def how_to_go_on(
    action: str,
    opening: Opening,
    state: Mapping[str, Any],
    options: Mapping[str, Any] | None = None,
    *,
    in_command: bool = False,
) -> str:
    """Returns the line after a stopped run: its progress, and how to resume it, in Python and on the command line.

    The call has the options of the run, so it writes no row that the run would not have written. It has what is left
    of a limit.

    Args:
        action: What the run did: "apply" or "retry_failed".
        opening: How to open the plan.
        state: The last state of the run, and the number of rows that it made `unknown` if it had a limit.
        options: The options of the run by name.
        in_command: Whether the reader runs the command and not Python.

    Returns:
        The line.
    """
    rows, done = state.get("rows", 0), state.get("done", 0)
    again = dict(options or {})
    if again.get("limit") is not None:
        again["limit"] = limit_left(state)
    stopped = f"replyio: stopped with {done:,} of {rows:,} row{'' if rows == 1 else 's'} done"
    is_over = 0 < rows <= done and not state.get("counts", {}).get("unknown")
    if is_over or again.get("limit") == 0:
        # Nothing would be left for the same call.
        shown = command(opening, "status")[0]
        if in_command:
            return f"{stopped}; `{shown}` shows the outcome"
        return (
            f"{stopped}; replyio.read_plan({safe_text(repr(opening.path))}).counts shows the outcome, or on the "
            f"command line: {shown}"
        )
    if in_command:
        return f"{stopped}; {quoted(opening, action, again)} resumes"
    shown, hidden = command(opening, action, again)
    return f"{stopped}; resume with {call(opening, action, again)}, or on the command line: {shown}{hidden}"
