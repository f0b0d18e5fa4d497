"""Messages in the words of the command: its options and commands instead of the arguments and calls of Python."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from replyio._again import Opening, quoted, single
from replyio._replyio import safe_text
from replyio._shell import argument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from replyio import ReplyError

# Python names in messages, and their names on the command line.
_CALLED_HERE = (
    ("list_contact_accounts()", "`replyio list`"),
    ("plan_contact_account_updates()", "`replyio plan`"),
    ("patch_contact_account()", "`replyio patch`"),
    ("update_contact_account()", "`replyio update`"),
    (", for example with strip()", ""),
    ("; replyio.sandbox.Sandbox().client() needs none", "; `replyio sandbox` needs none"),
    ("get_contact_account()", "`replyio get`"),
    ("api_key=", "--key-file"),
    (" with attempt_timeout=", ""),
    ("timeout=", "--timeout"),
    ("base_url", "REPLY_BASE_URL"),
    ("ca_file or ", ""),
    ("act_as=", "--act-as"),
    ("team_id=", "--team-id"),
    ('if_exists="resume"', "--resume"),
    ('if_exists="replace"', "--replace"),
    ("save_as=", "--save-as"),
    ("new_key=True", "--new-key"),
    ('on_unknown_member="clear"', "--on-unknown-member clear"),
    ('on_conflict="overwrite"', "--on-conflict overwrite"),
    ("max_changes=", "--max-changes="),
    ("max_cleared=", "--max-cleared="),
    ("rows= or limit=", "--rows or --limit"),
    ("rows=", "--rows"),
    ("rows refused:", "--rows:"),
    ("proxy or HTTPS_PROXY", "HTTPS_PROXY"),
    ("columns=", "--column"),
    ("ignore=", "--ignore"),
    ("delimiter=", "--delimiter"),
    ("encoding=", "--encoding"),
    ("repeat the call", "repeat the command"),
    ("set --", "pass --"),
)
_RUNS = (
    ("read_plan()", "status"),
    ("open_plan()", "apply"),
    ("retry_failed()", "retry_failed"),
    ("apply()", "apply"),
    ("revert()", "revert"),
)
# No option of the command has its effect.
_ATTEMPTS = "allow each attempt more time with attempt_timeout="
_ON_REVERT = " on the plan of the revert"
_FILE = "plan file "


class Words:
    """The words of one command."""

    __slots__ = ("_command", "_is_reverted", "_kept", "_opening", "_settings")

    def __init__(
        self,
        command: str = "",
        opening: Opening | None = None,
        files: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        *,
        is_reverted: bool = False,
    ) -> None:
        """Takes what the messages of a command are about.

        Args:
            command: The command.
            opening: How it opens its plan. Default None: messages name no plan.
            files: The files in its arguments.
            settings: The options that each command for an account needs. Default None: none.
            is_reverted: Whether the plan was reverted, so that no run sends its rows again.
        """
        self._command = command
        self._opening = opening
        self._kept = [*files]
        self._settings = settings or {}
        self._is_reverted = is_reverted

    def of_plan(self, opening: Opening, *, is_reverted: bool) -> Words:
        """Returns the words for messages about another plan."""
        return Words(self._command, opening, self._kept, self._settings, is_reverted=is_reverted)

    def message(self, error: ReplyError) -> str:
        """Returns the message of an error.

        Its hint, or all of it if it is about a setting or a plan, uses the options of the command.
        """
        from replyio.errors import ConfigurationError, PlanError, ValidationError

        if isinstance(error, ValidationError):
            return self.of(error.message)
        said, separator, hint = error.message.rpartition("; hint: ")
        if hint == _ATTEMPTS:
            return said
        if not separator and not isinstance(error, (ConfigurationError, PlanError)):
            return error.message
        if separator or not hint.startswith(_FILE):
            return said + separator + self.of(hint)
        opening = self._opening or Opening("")
        begun = f"{_FILE}{safe_text(opening.path)}: "
        if hint.startswith(begun):
            return begun + self.of(hint.removeprefix(begun))
        # Another plan, such as a revert.
        path, _, what = hint.removeprefix(_FILE).partition(": ")
        return f"{_FILE}{path}: {self.of_plan(opening._replace(path=path), is_reverted=False).of(what)}"

    def of(self, text: str) -> str:
        """Returns a text in the words of the command, except for the names of its files."""
        # What must not be altered any more stands aside until the end.
        aside: list[str] = []
        text = text.replace("\0", "\\x00")

        def keep(text: str) -> str:
            aside.append(text)
            return f"\0{len(aside) - 1}\0"

        names = sorted(filter(_is_altered, _with_folders(self._kept)), key=len, reverse=True)
        if names:
            text = re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, names))})", lambda found: keep(found[0]), text)
        text = re.sub(r"`replyio [^`]*`", lambda found: keep(found[0]), text)
        text = self._translated(text, keep)
        for _ in range(3):  # a column may be called like a file, and a command may have both
            text = re.sub("\0(\\d+)\0", lambda found: aside[int(found[1])], text)
        return text

    def _translated(self, text: str, keep: Callable[[str], str]) -> str:
        def column(found: re.Match[str]) -> str:
            shown = _column(found)
            return found[0] if shown is None else f"--column {keep(shown)}"

        text = re.sub(r'columns=\{("(?:[^"\\]|\\.)*"): "(\w+)"\}', column, text)

        def patch(found: re.Match[str]) -> str:
            null = f" --null {found[2]}" if found[2] else ""
            return keep(single(f"patch {found[1]}{null}", self._settings))

        text = re.sub(r"patch_contact_account\((\d+), (?:(\w+)=None|\.\.\.)\)", patch, text)
        text = re.sub(r'encoding="([\w-]+)"', r"--encoding \1", text)
        text = re.sub(r'match_on="(\w+)"', r"--match-on \1", text)
        text = re.sub(
            r'\bact_as=(?:"([^"]+)"|(\d+))', lambda found: f"--act-as {keep(argument(found[1] or found[2]))}", text
        )
        text = re.sub(r"\bteam_id=(\d+)", r"--team-id \1", text)
        text = self._of_runs(text, keep)
        for name, here in _CALLED_HERE:
            text = text.replace(name, here)
        return text

    def _of_runs(self, text: str, keep: Callable[[str], str]) -> str:
        """Returns a text with the commands that run the plan."""
        new_key = "--new-key"
        if self._command == "plan" and self._opening is not None:
            settings = {**self._opening.settings, "new_key": True}
            new_key = keep(quoted(self._opening._replace(settings=settings), "apply"))
        text = text.replace("open_plan() and new_key=True", new_key)
        text = text.replace("open this file with recover=True", f"run {keep(self._run('status', recover=True))}")
        if self._is_reverted:
            text = text.replace('resume it with open_plan() or if_exists="resume", or ', "")
            text = re.sub(rf"; to send [\w ]+, use apply\([^)]*\)({_ON_REVERT})?$", "; the plan was reverted", text)
        text = re.sub(
            rf'apply\(rows=\[([^\]]+)\], on_conflict="overwrite"(, on_unknown_member="clear")?\)({_ON_REVERT})?',
            lambda found: keep(
                self._run(
                    "apply",
                    rows=_numbers(found[1]),
                    on_conflict="overwrite",
                    **({"on_unknown_member": "clear"} if found[2] else {}),
                )
            ),
            text,
        )
        text = text.replace(f"apply(){_ON_REVERT}", "apply()")
        for name, action in _RUNS:
            text = text.replace(name, keep(self._run(action)))
        return text

    def _run(self, action: str, **options: object) -> str:
        if self._opening is not None:
            return quoted(self._opening, action, options)
        shown = quoted(Opening("PLAN"), action, options)
        return shown.replace(" PLAN", "") + (" with this file" if action == "status" else "")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number.strip().isdigit()]


def _column(found: re.Match[str]) -> str | None:
    import ast

    try:
        name = ast.literal_eval(found[1])
    except (SyntaxError, ValueError):  # not one of the package's own hints
        return None
    return argument(f"{name}={found[2]}")


def _with_folders(files: Sequence[str]) -> set[str]:
    """Returns files, and the beginning of the names of other files in their folders."""
    folders = {os.path.join(folder, "") for file in files if (folder := os.path.dirname(file))}  # noqa: PTH118, PTH120
    real = {os.path.join(os.path.dirname(os.path.realpath(file)), "") for file in files}  # noqa: PTH118, PTH120
    return {safe_text(name) for name in (*files, *folders, *real)}


def _is_altered(name: str) -> bool:
    return Words().of(name) != name


def files_of(options: Mapping[str, Any]) -> list[str]:
    """Returns the files in the arguments of a command, and the folder of plans without a name."""
    names = ("plan", "file", "save_as", "export", "key_file", "json", "rows")
    files = [options[name] for name in names if isinstance(options.get(name), str)]
    folders = map(os.environ.get, ("REPLYIO_STATE_DIR", "XDG_STATE_HOME", "HOME"))
    return files + [os.path.join(folder, "") for folder in folders if folder]  # noqa: PTH118 - of a string
