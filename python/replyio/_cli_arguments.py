"""The commands of the command line and their arguments."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Any, NoReturn

from replyio._cli_overview import COMMANDS, EPILOG, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

# The fields of an update and their descriptions. A test compares them with those of the package, which are slow to
# import.
FIELDS = {
    "name": "Contact account name",
    "description": "Optional description",
    "domain_name": "Primary domain name",
    "domain_secondary": "Secondary domain name",
    "industry": "Industry of the company",
    "company_size": "Company size range",
    "country": "Country of the company",
    "state": "State or province",
    "city": "City",
    "time_zone_id": "Time zone identifier",
    "linked_in_url": "LinkedIn profile URL",
    "phone": "Phone number",
    "twitter_url": "Twitter profile URL",
    "logo_url": "Company logo URL",
    "email": "Contact email address",
    "owner_user_id": "ID of the user who owns this contact account",
}
FORMATS = ("table", "json", "jsonl", "csv")
# Commands that send no request.
_WITHOUT_KEY = frozenset({"status", "plans"})
VIEWS = ("counts", "rows", "changes", "failures", "suspicious")


class _Once(argparse.Action):
    """Stores a value. It is unknown which of two values for one option was meant."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - the name of argparse
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if option_string and hasattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "is given twice")
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors. They are one line and never contain an argument, because it might be a key."""

    given: Sequence[str] = ()
    # The number of the first argument in messages.
    first = 2

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Reads the arguments.

        Raises:
            UsageError: If they cannot be used.
        """
        self.given = arguments
        found, left = self.parse_known_args(arguments)
        if left:
            self.error(_unknown(self, left))
        return found

    def error(self, message: str) -> NoReturn:
        """Raises the error."""
        # argparse quotes the argument, or the part after the "=".
        for argument in self.given:
            for text in (argument, argument.partition("=")[2]):
                message = message.replace(repr(text), "this value") if text else message
        raise UsageError(f"{message}; see {self.prog} --help")


def option(field: str) -> str:
    """Returns the option of a field: `--linked-in-url`."""
    return "--" + field.replace("_", "-")


def parser(command: str) -> Parser:
    """Returns the parser of one command."""
    made = Parser(
        prog=f"replyio {command}",
        description=f"{COMMANDS[command][0].upper()}{COMMANDS[command][1:]}.",
        epilog=None if command in _WITHOUT_KEY else EPILOG,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    made.register("action", None, _Once)
    _ADD[command](made)
    made.add_argument("--format", choices=FORMATS, help="output format (default: table on a terminal, json elsewhere)")
    if command in _WITHOUT_KEY:
        return made
    made.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="timeout of one call (default: 120)")
    made.add_argument("--key-file", metavar="FILE", help="a file that contains the key (default: REPLY_API_KEY)")
    text = "the user, by id or email address, that a master or organization key acts for"
    made.add_argument("--act-as", metavar="USER", help=text)
    made.add_argument(
        "--team-id", type=_number, metavar="ID", help="the team that a master or organization key acts in"
    )
    made.add_argument("-v", "--verbose", action="store_true", help="print a line for each request to stderr")
    return made


def parse(command: str, arguments: list[str]) -> dict[str, Any]:
    """Parses the arguments of a command. Arguments that are not given are missing.

    Raises:
        UsageError: If they cannot be used.
    """
    return vars(parser(command).read(arguments))


def _unknown(made: Parser, left: list[str]) -> str:
    """Returns what is wrong with unknown arguments, without showing them: an option may be a key."""
    unknown = next((argument for argument in left if argument.startswith("-")), None)
    known = [text for action in made._actions for text in action.option_strings]  # noqa: SLF001 - its only list
    if unknown is None:
        told = f"{len(left)} more argument{'s' if len(left) > 1 else ''} than expected"
        given = (option(argument.partition("=")[0]) for argument in left if "=" in argument)
        field = next((text for text in given if text in known), None)
        return told + (f"; write {field} TEXT" if field else "")
    import difflib

    # The dashes would make short names alike.
    near = difflib.get_close_matches(unknown.partition("=")[0].strip("-"), [text.strip("-") for text in known], 1)
    place = f"argument {made.given.index(unknown) + made.first} is an " if unknown in made.given else ""
    where = f"{place}unknown option"
    name = unknown.partition("=")[0]
    # A key has digits or capital letters, or is longer.
    shown = f" ({name})" if re.fullmatch(r"--[a-z]{1,12}(-[a-z]{1,12}){0,2}", name) else ""
    return where + shown + (f"; did you mean --{near[0]}?" if near else "")


def _number(text: str) -> int:
    """Parses a positive number. The package checks the upper limit."""
    if text.isascii() and text.isdigit() and len(text) < 64:  # noqa: PLR2004 - longer than any number, shorter than a text
        return int(text)
    raise argparse.ArgumentTypeError("must be a positive number")


def _count(text: str) -> int:
    """Parses a number of things, which may be 0."""
    try:
        return _number(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError("must be a whole number, 0 or greater") from None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be a number of seconds") from None


def _add_quota(_made: argparse.ArgumentParser) -> None:
    """Adds nothing: the command has no arguments of its own."""


def _add_get(made: argparse.ArgumentParser) -> None:
    made.add_argument("id", type=_number, metavar="ID", help="the account")
    text = "print only the fields that an update can change, for use with --json"
    made.add_argument("--writable", action="store_true", help=text)


def _add_fields(made: argparse.ArgumentParser) -> None:
    made.add_argument("id", type=_number, metavar="ID", help="the account")
    fields = made.add_argument_group(
        "fields",
        "replyio does not send a field that you leave out. To clear a field, use --null, or '' for a text field. You "
        "cannot clear the name and the owner.",
    )
    for field, text in FIELDS.items():
        if field == "owner_user_id":
            fields.add_argument(option(field), type=_number, metavar="ID", help=text)
        else:
            fields.add_argument(option(field), metavar="SIZE" if field == "company_size" else "TEXT", help=text)
    text = "send null for this field, which clears it (repeatable)"
    fields.add_argument("--null", action="append", metavar="FIELD", help=text)
    text = "read the fields from a JSON object in this file instead of from options; - is stdin"
    fields.add_argument("--json", metavar="FILE", help=text)


def _add_list(made: argparse.ArgumentParser) -> None:
    made.add_argument("--search", metavar="TEXT", help="print only accounts that match this text")
    made.add_argument("--sort-by", metavar="FIELD", help="the field to sort by (default: the service's own order)")
    made.add_argument("--descending", action="store_true", help="sort in descending order")
    made.add_argument("--limit", type=_number, metavar="N", help="print at most N accounts (default: all)")
    text = "print only the id and the fields that an update can change"
    made.add_argument("--writable", action="store_true", help=text)
    text = "with --format csv, mark the data as UTF-8 and prevent a spreadsheet from running formulas"
    made.add_argument("--for-spreadsheet", action="store_true", help=text)


def _add_plan(made: argparse.ArgumentParser) -> None:
    made.add_argument("file", metavar="FILE", help="the table: CSV, JSON Lines or Parquet; its columns are fields")
    made.add_argument("--save-as", metavar="PLAN", help="the file of the plan (default: a file in the state "
                      "directory, kept for 30 days; see `replyio plans`)")  # fmt: skip
    exists = made.add_mutually_exclusive_group()
    exists.add_argument("--resume", action="store_true", help="if PLAN exists and was created from the same rows "
                      "and options, resume it")  # fmt: skip
    exists.add_argument(
        "--replace", action="store_true", help="if PLAN exists and has written nothing, replace it with a new plan"
    )
    made.add_argument("--mode", choices=("patch", "fill", "replace"), help="patch (default): change the fields "
                      "that have a column; fill: fill empty fields; replace: also clear the other fields")  # fmt: skip
    made.add_argument(
        "--nulls", choices=("keep", "clear"), help="whether an empty cell keeps or clears its field (default: keep)"
    )
    text = "the field by which rows find accounts (default: id)"
    made.add_argument("--match-on", choices=("id", "domain_name", "name"), help=text)
    made.add_argument("--ignore", action="append", metavar="COLUMN", help="ignore this column, which is not a field "
                      "(repeatable); unknown ignores all such columns")  # fmt: skip
    made.add_argument("--column", action="append", metavar="COLUMN=FIELD", help="read a column as this field, such as "
                      "Website=domain_name (repeatable)")  # fmt: skip
    made.add_argument("--null-value", action="append", metavar="TEXT", help="treat this text as an empty cell, such "
                      "as N/A (repeatable)")  # fmt: skip
    made.add_argument("--delimiter", metavar="CHARACTER", help="the separator of a CSV file; tab means a tab "
                      "(default: detected from the first line)")  # fmt: skip
    made.add_argument("--encoding", metavar="NAME", help="the encoding of a CSV file, such as windows-1252 (default: "
                      "UTF-8, or the one that its byte order mark names)")  # fmt: skip
    made.add_argument("--exit-code", action="store_true", help="exit with 4 if the plan has changes")
    _add_view(made)


def _add_apply(made: argparse.ArgumentParser) -> None:
    _add_plan_file(made)
    _add_on_conflict(made)
    made.add_argument("--retry-failed", action="store_true", help="also retry failed rows and conflicts")
    made.add_argument("--rows", metavar="ROWS", help="update only these rows: numbers such as 0,3,7-9, or a file "
                      "with a column row, such as exported changes from which you removed lines")  # fmt: skip
    made.add_argument("--limit", type=_count, metavar="N", help="update at most N rows (default: all)")
    text = "send nothing if the run would change more accounts than this (default: no limit)"
    made.add_argument("--max-changes", type=_count, metavar="N", help=text)
    text = "send nothing if the run would empty more fields than this (default: no limit)"
    made.add_argument("--max-cleared", type=_count, metavar="N", help=text)
    _add_view(made)


def _add_status(made: argparse.ArgumentParser) -> None:
    _add_plan_file(made, is_opened=False)
    _add_view(made)
    made.add_argument("--export", metavar="FILE", help="write the table that --show names (default: rows) to a file "
                      "instead of stdout: .csv, .tsv, .jsonl, .ndjson or .parquet")  # fmt: skip
    made.add_argument("--overwrite", action="store_true", help="with --export, replace an existing file")
    text = "with --export, mark a .csv or .tsv as UTF-8 and prevent a spreadsheet from running formulas"
    made.add_argument("--for-spreadsheet", action="store_true", help=text)


def _add_revert(made: argparse.ArgumentParser) -> None:
    _add_plan_file(made)
    _add_on_conflict(made, "the plan wrote it")
    _add_view(made)


def _add_check(made: argparse.ArgumentParser) -> None:
    text = (
        "also write a text into the empty description of this account, check what the service keeps, and restore "
        "the account; use an account created for this that has only a name and a stage (default: send no update)"
    )
    made.add_argument("--write", type=_number, metavar="ID", help=text)


def _add_plans(made: argparse.ArgumentParser) -> None:
    text = (
        "delete these plans. Plans that may have changed an account, which only they can revert, and plans that are in "
        "use or cannot be read stay for at least 30 days after replyio last wrote them"
    )
    made.add_argument("--prune", action="store_true", help=text)


def _add_plan_file(made: argparse.ArgumentParser, *, is_opened: bool = True) -> None:
    made.add_argument("plan", metavar="PLAN", help="a file that `replyio plan` created")
    made.add_argument("--recover", action="store_true", help="open a plan whose log (-wal) is missing after a "
                      "crash: every row that may have been updated becomes unknown")  # fmt: skip
    if is_opened:
        made.add_argument(
            "--new-key", action="store_true", help="accept a plan that another API key of the same user created"
        )


def _add_on_conflict(made: argparse.ArgumentParser, since: str = "the plan was created") -> None:
    text = f"what to do if someone else changed a field after {since} (default: skip)"
    made.add_argument("--on-conflict", choices=("skip", "overwrite"), help=text)
    made.add_argument("--on-unknown-member", choices=("stop", "clear"), help="what to do if an update empties a field "
                      "that should have a value, or clears or resets a member such as the stage "
                      "(default: stop)")  # fmt: skip


def _add_view(made: argparse.ArgumentParser) -> None:
    text = "what to print (default: counts); suspicious: the changes whose new value may be a mistake"
    made.add_argument("--show", choices=VIEWS, help=text)


_ADD = {
    "get": _add_get,
    "update": _add_fields,
    "patch": _add_fields,
    "list": _add_list,
    "plan": _add_plan,
    "apply": _add_apply,
    "status": _add_status,
    "revert": _add_revert,
    "check": _add_check,
    "plans": _add_plans,
    "quota": _add_quota,
}
