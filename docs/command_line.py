"""Writes docs/command-line.md: what the installed command says of its commands and options."""

from __future__ import annotations

import argparse
from pathlib import Path

from replyio import _cli_arguments, _cli_overview
from replyio.sandbox import __main__ as sandbox

BEGINNING = """\
<!-- Written by `make docs`. Do not edit. -->

# The command line

The package installs the command `replyio`. `python -m replyio` runs the same command.

```console
export REPLY_API_KEY=…
replyio get 4711
replyio patch 4711 --city Oslo --null phone
replyio list --search Acme --format csv > accounts.csv
replyio get 4711 --writable > acme.json
replyio update 4711 --json acme.json
```

To try it without a key, run `replyio sandbox`. It starts a server with three accounts and prints the address and the
key to set.

## The key

The command reads the key from `REPLY_API_KEY`, or from the file that `--key-file` names, which takes precedence. It
never takes the key as an argument, because every user of the machine can see arguments, and the shell keeps them in its
history. It refuses an option whose name suggests a key, such as `--api-key`, and does not repeat its value. It reads
the address from `REPLY_BASE_URL`, and all other environment variables as `ReplyClient` does.

## A field that is absent, null or empty

- The command does not send a field that you do not name. So `update` clears it, except the owner, and `patch` keeps it.
- `--null city` sends `null`.
- `--city ''` sends the empty text. `--city null` sends the text `null`.
- In a file for `--json`, a member can be absent, `null` or `""`. Members have the Python names of the fields
  (`linked_in_url`) or their JSON names (`linkedInUrl`).
- To give a value that begins with a dash, write `--phone=-1`.

## Data

The command writes data to stdout and everything else to stderr. If it fails, it writes a message that begins with
`replyio:`. If the message lists several faults, each fault has its own indented line. The command announces a
wait of more than 5 s.

| `--format` | writes |
|---|---|
| `table` | aligned columns; the default on a terminal |
| `json` | an object, or a list with one object on each line; the default elsewhere |
| `jsonl` | an object on each line |
| `csv` | a header, and a line for each account or row |

- A table truncates long values. For a list, it shows only some fields of each account.
- JSON has every field. It keeps `null` and `""` apart. A field that the service left out is `null`, as if the service
  had sent `null`.
- If a list fails before its end, the JSON is incomplete and not valid. With `jsonl`, each complete line is valid.
- As JSON, `plan`, `apply` and `revert` print the rows by status as `counts`, with `requests` and `seconds`: for `plan`
  an estimate for `apply`, otherwise what the run sent and took. `status` prints only `counts`, because the estimate
  needs the quota of a key.
- In CSV the stage is three columns. `null` and the empty text are both an empty cell.

Fields have their Python names. You can give the output of `get --writable` to `--json`, and the output of `list
--format csv` or `jsonl` to `plan`. If the account has a value that an update cannot have, such as a company size that
is not one of the ten, `get --writable` fails and prints nothing. Data for programs is always UTF-8. On a terminal, the
command escapes characters that the terminal cannot show, and control characters in `table` and `csv`. If the reader
ends early, as in `replyio list | head`, the command succeeds.

`replyio check --format table` writes its report as text in lines of 80 characters, to read or to paste into an issue;
see [Check how the service behaves](how-to/check-the-service.md).

## Exit codes
"""


NOTES = """\
- `apply`, `revert`, `status` and `plan --exit-code` exit by the rows of the plan: with 3 if a row is `unknown`,
  otherwise with 1 if a row is `invalid`, `not_found`, `ambiguous`, `conflict` or `failed`. Pending rows are not
  failures. So `status` can exit with 1 although the command itself worked: the plan has rows that need your attention.
  If another error ends `apply`, it also exits with 3 if a row is `unknown`.
- `plan --exit-code` exits with 4 if a row is pending, whatever the other rows are. `plan` without it exits with 0 even
  if rows are `invalid`, `not_found` or `ambiguous`.
- `check` exits with 1 if the service differs from what replyio expects.
- `apply` and `revert` also exit with 1 if `stored_otherwise` of a row is true, or if another run uses the plan.
- `patch` and `update` exit with 1 if the service stored another value than the one sent, or if another warning
  occurred. The update was applied: the command prints the account as usual, and the warning on stderr.
- If the service refuses the key (401), a command exits with 1. It exits with 2 only if the key is missing or
  malformed."""


def exit_codes() -> str:
    """The table of the exit codes."""
    rows = [f"| {code} | {text} |" for code, text in _cli_overview.EXIT_CODES.items()]
    return "\n".join(["| code | means |", "|---|---|", *rows]) + f"\n\n{NOTES}"


def command(name: str) -> str:
    """The section of a command: what it does, and its arguments."""
    summary = _cli_overview.COMMANDS[name]
    parts = [f"### replyio {name}", f"{summary[0].upper()}{summary[1:]}."]
    if name == "sandbox":
        parts.append("Ctrl-C stops it.")
    if name == "patch":
        return "\n\n".join([*parts, "It takes the same arguments as `replyio update`."])
    parser = sandbox._parser("replyio sandbox") if name == "sandbox" else _cli_arguments.parser(name)  # noqa: SLF001
    rows = [row(action) for action in parser._actions if action.dest not in COMMON]  # noqa: SLF001
    if not rows:
        return "\n\n".join([*parts, "It takes no other arguments."])
    return "\n\n".join([*parts, "\n".join(["| argument | meaning |", "|---|---|", *rows])])


COMMON = ("help", "format", "timeout", "key_file", "act_as", "team_id", "verbose")


def row(action: argparse.Action) -> str:
    """The row of an argument."""
    name = action.metavar or action.dest.upper()
    value = name if action.choices is None else f"{{{','.join(map(str, action.choices))}}}"
    text = " ".join([", ".join(action.option_strings), str(value) if action.nargs != 0 else ""]).strip()
    return f"| `{text}` | {action.help} |"


def page() -> str:
    """The whole page."""
    common = [action for action in _cli_arguments.parser("get")._actions if action.dest in COMMON[1:]]  # noqa: SLF001
    without_key = [f"`{name}`" for name in _cli_overview.COMMANDS if name in _cli_arguments._WITHOUT_KEY]  # noqa: SLF001
    options = (
        "All commands except `sandbox` take these options, after the name of the command. "
        f"{' and '.join(without_key)} need no\nkey, and take only `--format`:"
    )
    parts = [
        BEGINNING.rstrip(),
        exit_codes(),
        "## Commands",
        options,
        "\n".join(["| option | meaning |", "|---|---|", *map(row, common)]),
        *map(command, _cli_overview.COMMANDS),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("command-line.md").write_text(page(), encoding="utf-8", newline="\n")
