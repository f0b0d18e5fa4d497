"""Writes docs/command-line.md: what the installed command says of its commands and options."""

from __future__ import annotations

import argparse
from pathlib import Path

from replyio import _cli_arguments, _cli_overview

BEGINNING = """\
<!-- Written by `make docs`. Do not edit. -->

# The command line

`pip install replyio` brings the command `replyio`; `python -m replyio` is the same.

```console
export REPLY_API_KEY=…
replyio get 4711
replyio patch 4711 --city Oslo --null phone
replyio list --search Acme --format csv > accounts.csv
replyio get 4711 --writable > acme.json
replyio update 4711 --json acme.json
```

Without a key: `replyio sandbox` prints an address and a key to set, and serves three accounts.

## The key

The key comes from `REPLY_API_KEY` or from the file that `--key-file` names, which wins. It is never an argument:
arguments are seen by every user of the machine and kept in the shell's history. An attempt is refused, and the key
not repeated. The address comes from `REPLY_BASE_URL`; everything else that the environment decides is as for
`ReplyClient`.

## A field that is absent, null or empty

A field that is not named is not sent: `update` thereby clears it, `patch` keeps it. `--null city` sends `null`.
`--city ''` sends the empty text. `--city Oslo` sends `Oslo`, and `--city null` the text `null`. In a file for
`--json` the three are apart as JSON has them; its names are those of the fields or those on the wire. A value that
begins with a dash is given as `--phone=-1`.

## Data

Data goes to stdout, everything else to stderr: what went wrong is one line there that begins with `replyio:`, and a
wait longer than 5 s is announced.

| `--format` | gives |
|---|---|
| `table` | aligned columns for people; the default on a terminal |
| `json` | an object, or a list with one on each line; the default elsewhere |
| `jsonl` | an object on each line |
| `csv` | a header, and a row for each |

The default depends on who reads: a person wants columns, a program wants everything. A table cuts long values, and
of a list shows a few fields only. JSON cuts nothing and keeps null, empty and absent apart; a list that breaks off
is no valid JSON. In CSV the stage is three columns, and null and the empty text are both an empty cell.

Names are those of the fields in Python, so that what comes out can go in again. Data for a program is UTF-8,
whatever the locale says. On a terminal what it cannot show is escaped, and control characters are taken out of
`table` and `csv`. When the reader goes away, as in `replyio list | head`, that is no error.

## Exit codes
"""


def exit_codes() -> str:
    """The table of the exit codes."""
    rows = [f"| {code} | {text} |" for code, text in _cli_overview.EXIT_CODES.items()]
    return "\n".join(["| code | means |", "|---|---|", *rows])


def command(name: str) -> str:
    """The section of a command: what it does, and its arguments."""
    summary = _cli_overview.COMMANDS[name]
    parts = [f"### replyio {name}", f"{summary[0].upper()}{summary[1:]}."]
    if name == "sandbox":
        return "\n\n".join([*parts, "`replyio sandbox --help` lists its options. Ctrl-C stops it."])
    if name == "patch":
        return "\n\n".join([*parts, "It takes the arguments of `replyio update`."])
    rows = [row(action) for action in _cli_arguments.parser(name)._actions if action.dest not in COMMON]  # noqa: SLF001
    return "\n\n".join([*parts, "\n".join(["| argument | |", "|---|---|", *rows])])


COMMON = ("help", "format", "timeout", "key_file", "act_as", "team_id", "verbose")


def row(action: argparse.Action) -> str:
    """The row of an argument."""
    value = action.metavar if action.choices is None else f"{{{','.join(map(str, action.choices))}}}"
    text = " ".join([", ".join(action.option_strings), str(value) if action.nargs != 0 and value else ""]).strip()
    return f"| `{text}` | {action.help} |"


def page() -> str:
    """The whole page."""
    common = [action for action in _cli_arguments.parser("get")._actions if action.dest in COMMON[1:]]  # noqa: SLF001
    parts = [
        BEGINNING.rstrip(),
        exit_codes(),
        "## Commands",
        "All of them but `sandbox` take these options, behind the command:",
        "\n".join(["| option | |", "|---|---|", *map(row, common)]),
        *map(command, _cli_overview.COMMANDS),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("command-line.md").write_text(page(), encoding="utf-8", newline="\n")
