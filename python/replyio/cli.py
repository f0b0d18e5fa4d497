"""The command `replyio`.

Data goes to stdout, everything else to stderr. An error is one line on stderr, and the exit code shows its kind. The
key comes from the environment or a file, never from an argument.
"""

from __future__ import annotations

import os
import sys

from replyio._cli_overview import COMMANDS, UsageError, overview, refuse_keys, unknown_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any, NoReturn, TextIO

    from replyio import ContactAccount, ReplyClient, ReplyError, Status
    from replyio._again import Opening
    from replyio._cli_words import Words
    from replyio.plan import ApplyResult, Plan


__all__ = ["main"]

_DONE, _FAILED, _USAGE, _UNKNOWN, _CHANGES, _INTERRUPTED, _KILLED = 0, 1, 2, 3, 4, 130, 128
_LONGEST_KEY_FILE = 65_536


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The arguments without the name of the command. Default None: those of the process.

    Returns:
        The exit code: 0 done, 1 something failed, 2 usage error, 3 outcome unknown, 4 the plan has changes, 129 SIGHUP,
        130 Ctrl-C, 143 SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(words)
    except UsageError as error:
        code = _tell(str(error), _USAGE)
    except (KeyboardInterrupt, SystemExit) as ended:  # the second one after --help, and on SIGTERM and SIGHUP
        number: object = _INTERRUPTED if isinstance(ended, KeyboardInterrupt) else ended.code
        code = number if isinstance(number, int) else _DONE
        if code > _KILLED and words[:1] in (["update"], ["patch"]):
            _tell("interrupted; if the update was in progress, it may have been applied")
    except Exception as error:  # noqa: BLE001 - the last place that can report it in one line
        code = _told(error)
    return _flushed(code)


def _flushed(code: int) -> int:
    """Flushes stdout. A closed pipe is not an error: the reader has seen enough."""
    try:
        if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]
            sys.stdout.flush()
    except BrokenPipeError:
        _forget(sys.stdout)
    except (OSError, ValueError) as error:
        return _told(error)
    return code


def _told(error: Exception) -> int:
    """Reports an error, and returns the exit code."""
    from replyio.errors import ReplyError  # many of them are an OSError too

    if isinstance(error, ReplyError):
        return _tell(_words().message(error), _exit_code(error))
    if isinstance(error, OSError):
        _forget(sys.stdout)
        return _tell(f"{error.filename or 'the output'}: {error.strerror or error}")
    return _tell(_fault(error))


def _dispatch(words: list[str]) -> int:
    """Finds the command and runs it."""
    refuse_keys(words)
    first = words[0] if words else ""
    if first in {"--version", "-V"}:
        from replyio import __version__

        return _say(f"replyio {__version__}\n")
    if first in {"--help", "-h", "help"}:
        return _say(overview())
    if not first:
        raise UsageError("no command given; see replyio --help")
    if first not in COMMANDS:
        raise UsageError(unknown_command(first))
    if first == "sandbox":
        from replyio.sandbox.__main__ import main as sandbox

        return sandbox(words[1:], "replyio sandbox")
    from replyio import _cli_output
    from replyio._cli_arguments import parse

    global _given  # noqa: PLW0603 - the whole process is the command
    options = parse(first, words[1:])
    _given = (first, dict(options))
    _require_stdout()
    _cli_output.prepare(sys.stdout)
    return _watched(_COMMANDS[first], options)


# The command that runs, and its options as they were given.
_given: tuple[str, Mapping[str, Any]] = ("", {})
# Those that each command for a plan needs.
_SETTINGS = ("key_file", "act_as", "team_id", "timeout", "new_key")


def _settings() -> dict[str, Any]:
    """Returns the options with which this command opens its plan."""
    return {name: _given[1][name] for name in _SETTINGS if name in _given[1]}


def _words(*, is_reverted: bool = False) -> Words:
    """Returns the words in which this command says what Python says otherwise."""
    from replyio._again import Opening
    from replyio._cli_words import Words, files_of

    command, options = _given
    path = options.get("save_as", options.get("plan"))
    opening = Opening(path, _settings()) if isinstance(path, str) else None
    return Words(command, opening, files_of(options), _settings(), is_reverted=is_reverted)


def _say(text: str) -> int:
    _require_stdout()
    sys.stdout.write(text)
    return _DONE


def _require_stdout() -> None:
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise UsageError("stdout is closed; nothing was done")


def _tell(message: str, code: int = _FAILED) -> int:
    """Writes a message to stderr without characters that control a terminal. A closed stderr is not an error."""
    from replyio._replyio import safe_text

    lines = "\n  ".join(safe_text(line.strip()) for line in message.strip().split("\n"))
    try:
        sys.stderr.write(f"replyio: {lines}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        _forget(sys.stderr)
    return code


def _forget(stream: TextIO | None) -> None:
    """Prevents an error message about unwritten output at the end of the process."""
    from contextlib import suppress

    with suppress(OSError, ValueError):
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _ignoring_a_closed_pipe:  # noqa: N801 - reads like a statement
    """Ends the output, but not the command, when the reader closes the pipe: the exit code still shows the outcome."""

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        """Ignores a closed pipe."""
        if isinstance(error, BrokenPipeError):
            _forget(sys.stdout)
            return True
        return False


def _exit_code(error: ReplyError) -> int:
    """Returns the exit code of an error."""
    from replyio import ConfigurationError, ValidationError

    if isinstance(error, (ConfigurationError, ValidationError)):
        return _USAGE
    return _UNKNOWN if error.may_have_been_applied else _FAILED


def _fault(error: Exception) -> str:
    """Returns the message for an unexpected error, without its text, which might contain anything."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f", line {trace.tb_lineno} of {trace.tb_frame.f_globals.get('__name__')}" if trace else ""
    return f"internal error in replyio ({type(error).__name__}{place}); please report it"


def _watched(command: Callable[[dict[str, Any]], int], options: dict[str, Any]) -> int:
    """Runs a command. Its log goes to stderr, and SIGTERM and SIGHUP stop it cleanly."""
    import logging
    import signal
    import threading
    import warnings

    from replyio._check import RESTORE_BY_HAND

    class ToStderr(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            _tell(message if message.startswith(RESTORE_BY_HAND) else _words().of(message))

    def terminate(number: int, _frame: object) -> None:
        # A terminal that closes sends SIGHUP twice. Only Ctrl-C ends what a command does after the first signal.
        if not isinstance(sys.exc_info()[1], (KeyboardInterrupt, SystemExit)):
            raise SystemExit(_KILLED + number)

    handler, logger = ToStderr(), logging.getLogger("replyio")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if options.pop("verbose", False) else logging.WARNING)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminate)
        # nohup has it ignored. Windows does not have it.
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, terminate)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return command(options)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _client(options: dict[str, Any]) -> ReplyClient:
    """Returns a client for the options, and removes them."""
    from replyio import ConfigurationError, ReplyClient

    settings: dict[str, Any] = {name: options.pop(name) for name in ("timeout", "team_id") if name in options}
    act_as: str | None = options.pop("act_as", None)
    if act_as is not None:
        settings["act_as"] = int(act_as) if act_as.isascii() and act_as.isdigit() else act_as
    file: str | None = options.pop("key_file", None)
    if file is None and not os.environ.get("REPLY_API_KEY"):
        raise ConfigurationError("no API key: set REPLY_API_KEY or pass --key-file FILE; `replyio sandbox` needs none")
    try:
        return ReplyClient(None if file is None else _key_of(file), **settings)
    except ConfigurationError as error:
        if file is None or not error.message.startswith("api_key "):
            raise
        raise ConfigurationError(f"--key-file: the key {error.message.removeprefix('api_key ')}") from None


def _key_of(file: str) -> str:
    """Returns the key in a file, without the line end.

    Errors never contain the file name, because it might be the key.
    """
    import stat
    from pathlib import Path

    try:
        with Path(file).open("rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(_LONGEST_KEY_FILE)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "the file name is not valid"
        raise UsageError(f"--key-file: the file cannot be read: {reason}") from None
    key = content.decode("utf-8-sig", "replace").strip()
    if not key:
        raise UsageError("--key-file: the file contains no key")
    if os.name == "posix" and stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        _tell("--key-file: other users of this machine can read the key; run `chmod 600` on the file to prevent that")
    return key


# The methods have parameters with these names, so the package cannot refuse them as fields.
_PARAMETERS = ("self", "id")


def _fields(options: dict[str, Any], command: str) -> dict[str, Any]:
    """Returns the fields of the options. A field that is not given is missing, and --null is None."""
    from replyio._cli_arguments import FIELDS, option

    given = {field: options[field] for field in FIELDS if field in options}
    nulls = [name.replace("-", "_") for name in options.get("null", ())]
    if foreign := next((name for name in nulls if name in _PARAMETERS), None):
        raise UsageError(f"--null {foreign}: {foreign} is not a field of an update")
    both = [name for name in nulls if name in given]
    if both:
        raise UsageError(f"{option(both[0])} and --null {both[0]} contradict each other")
    fields = given | dict.fromkeys(nulls)
    if "json" in options:
        if fields:
            raise UsageError("--json cannot be combined with field options; put all fields into the JSON object")
        fields = _json_object(options["json"])
        if foreign := next((name for name in _PARAMETERS if name in fields), None):
            raise UsageError(f"--json {options['json']}: {foreign} is not a field of an update; leave it out")
    if command == "update" and "name" not in fields:
        raise UsageError(
            "update needs --name, because it replaces the account in full; `replyio patch` changes single fields"
        )
    if not fields:
        raise UsageError("patch needs a field to change; see replyio patch --help")
    return fields


def _bytes_of(file: str) -> bytes:
    """Returns the content of the file that --json names."""
    from pathlib import Path

    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"--json {file}: {error.strerror}") from None
    except AttributeError:
        raise UsageError("--json -: stdin is closed") from None


def _json_object(file: str) -> dict[str, Any]:
    """Returns the object in a JSON file. Refuses duplicate members."""
    import json

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise UsageError(f"--json {file}: a member occurs twice")
        return found

    def no_number(_text: str) -> NoReturn:
        raise UsageError(f"--json {file}: NaN and Infinity are not valid JSON")

    try:
        text = _bytes_of(file).decode("utf-8-sig")
        found: object = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except json.JSONDecodeError as error:
        raise UsageError(f"--json {file}: not valid JSON at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--json {file}: not valid UTF-8 at byte {error.start}") from None
    except ValueError:  # Python refuses to read an integer with that many digits
        raise UsageError(f"--json {file}: a number has too many digits") from None
    except RecursionError:
        raise UsageError(f"--json {file}: nested too deep") from None
    if not isinstance(found, dict):
        raise UsageError(f'--json {file}: must be one object, such as {{"city": "Oslo"}}')
    return found  # pyright: ignore[reportUnknownVariableType]


# Single accounts


def _get(options: dict[str, Any]) -> int:
    with _client(options) as client:
        account = client.get_contact_account(options["id"])
    _give(_sendable(account) if options.get("writable") else account.to_dict(), options)
    return _DONE


def _sendable(account: ContactAccount) -> dict[str, Any]:
    """Returns the fields of an update that changes nothing. Refuses an account with a value that an update refuses."""
    from replyio import ReplyError
    from replyio._replyio import field_faults

    fields: dict[str, Any] = {**account.update_fields()}
    if faults := field_faults(fields):
        said = "; ".join(f"{field} {message}" for field, message in faults)
        raise ReplyError(
            f"account {account.id} has a value that `replyio update` refuses, and an update without that value would "
            f"clear it: {said}; `replyio patch` sends such values unchanged, and `replyio get` without --writable "
            "shows them"
        )
    return fields


def _quota(options: dict[str, Any]) -> int:
    with _client(options) as client:
        left = client.quota_left()
    if left is not None:
        processes = [
            {"process": process, "minute": minute, "hour": hour}
            for process, (minute, hour) in sorted(left.processes.items())
        ]
        members = {"minute": left.minute, "hour": left.hour, "retry_after": left.retry_after, "shared": left.shared}
        _give({**members, "processes": processes}, options)
    return _DONE


def _update(options: dict[str, Any]) -> int:
    fields = _fields(options, "update")
    return _written(options, lambda client: client.update_contact_account(options["id"], **fields))


def _patch(options: dict[str, Any]) -> int:
    fields = _fields(options, "patch")
    return _written(options, lambda client: client.patch_contact_account(options["id"], **fields))


def _written(options: dict[str, Any], write: Callable[[ReplyClient], ContactAccount]) -> int:
    """Updates the account, prints it, and reports warnings. A warning makes the command fail."""
    import warnings

    from replyio import ReplyWarning
    from replyio._again import single

    with _client(options) as client, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ReplyWarning)
        account = write(client)
    for warning in caught:
        _tell(str(warning.message))
    get = single(f"get {account.id}", _settings())
    told = f"the account was updated, and {get} shows it"
    return _printed(lambda: _give(account.to_dict(), options), told) or (_FAILED if caught else _DONE)


def _give(members: Mapping[str, Any], options: dict[str, Any]) -> None:
    """Prints one object in the selected format."""
    from replyio._cli_output import chosen, write_one

    with _ignoring_a_closed_pipe():
        write_one(members, chosen(options.get("format")))


def _printed(write: Callable[[], None], done: str) -> int:
    """Prints what a command did, and returns the exit code. If that fails, the message says what the command did."""
    from replyio import ReplyError

    try:
        with _ignoring_a_closed_pipe():
            write()
            sys.stdout.flush()
    except OSError as error:
        if isinstance(error, ReplyError):
            raise
        _forget(sys.stdout)
        return _tell(f"the output: {error.strerror or error}; {done}")
    return _DONE


def _check(options: dict[str, Any]) -> int:
    from replyio._cli_output import chosen, write_many

    write: int | None = options.get("write")
    with _client(options) as client:
        report = client.check(write=write)
    for name, value in report.to_restore.items():
        _tell(f"account {write}: {name} was {value!r}; restore it by hand if it differs and no one else changed it")

    def give() -> None:
        form, members = chosen(options.get("format")), report.to_dict()
        if form == "table":
            sys.stdout.write(f"{_words().of(str(report))}\n")
        elif form == "json":
            _give(members, options)
        else:
            write_many(members["findings"], form, ("topic", "found", "follows", "verdict"))

    restored = [f"{each.found} {each.follows}" for each in report.findings if each.topic == "restored"]
    return _printed(give, ". ".join(["the check has ended", *restored])) or (_DONE if report.as_expected else _FAILED)


def _list(options: dict[str, Any]) -> int:
    from itertools import islice

    from replyio import ContactAccount
    from replyio._cli_output import ACCOUNT_COLUMNS, account_columns, chosen, write_many
    from replyio.models import ContactAccountFields

    limit: int | None = options.get("limit")
    if limit == 0:
        raise UsageError("--limit must be at least 1")
    form, for_spreadsheet = chosen(options.get("format")), bool(options.get("for_spreadsheet"))
    if for_spreadsheet and form != "csv":
        raise UsageError("--for-spreadsheet needs --format csv")
    wanted = {name: options[name] for name in ("search", "sort_by", "descending") if name in options}
    with _client(options) as client:
        accounts = client.list_contact_accounts(**wanted, page_size=min(limit or 1000, 1000))
        rows = (account.to_dict() for account in islice(accounts, min(limit or sys.maxsize, sys.maxsize)))
        columns = account_columns(ContactAccount.__dataclass_fields__)
        if options.get("writable"):
            columns = ["id", *ContactAccountFields.__annotations__]
            rows = ({name: row[name] for name in columns} for row in rows)
        with _ignoring_a_closed_pipe():
            write_many(rows, form, columns, ACCOUNT_COLUMNS, for_spreadsheet=for_spreadsheet)
    return _DONE


# Many accounts


def _planned(client: ReplyClient, file: str, wanted: dict[str, Any]) -> Plan:
    """Plans. An unreadable file, a missing folder and a name that is taken are faults of the arguments."""
    from pathlib import Path

    from replyio import PlanError, ReplyError

    saved = Path(wanted.get("save_as", file))
    if "save_as" in wanted and not saved.parent.is_dir():
        raise UsageError(f"--save-as {saved}: there is no folder {saved.parent}")
    is_taken = "save_as" in wanted and "if_exists" not in wanted and os.path.exists(saved)  # noqa: PTH110 - no error
    try:
        return client.plan_contact_account_updates(file, **wanted)
    except PlanError as error:
        if is_taken:
            raise UsageError(_words(is_reverted=_was_reverted(saved)).message(error)) from None
        raise
    except ImportError as error:
        raise UsageError(f"{file}: {error}") from None
    except OSError as error:
        if isinstance(error, ReplyError) or error.filename != file:
            raise
        raise UsageError(f"{file}: {error.strerror}") from None


def _was_reverted(file: Path) -> bool:
    """Returns whether a file is a plan that was reverted."""
    from replyio import ReplyError
    from replyio.plan import blocked_by, read_plan

    try:
        return blocked_by(read_plan(file)) is not None
    except ReplyError:  # it is not a plan, or cannot be read
        return False


def _plan(options: dict[str, Any]) -> int:
    from replyio._progress import speak_to_a_command
    from replyio._state import is_kept
    from replyio.plan import blocked_by, opening_of, rest_of

    names = ("save_as", "mode", "nulls", "match_on", "encoding")
    wanted: dict[str, Any] = {name: options[name] for name in names if name in options} | _reading(options)
    for choice in ("resume", "replace"):
        if options.get(choice):
            wanted["if_exists"] = choice
    if "if_exists" in wanted and "save_as" not in wanted:
        raise UsageError(f"--{wanted['if_exists']} needs --save-as PLAN")
    if options["file"].endswith(".replyplan"):
        from replyio._again import Opening, quoted

        opening = Opening(options["file"], _settings())
        shown = f"{quoted(opening, 'status')} shows it, {quoted(opening, 'apply')} applies it"
        raise UsageError(f"{options['file']} is a plan already: {shown}")
    speak_to_a_command(_settings())
    with _client(options) as client:
        plan = _planned(client, options["file"], wanted)
        _show(plan, options)
        counts = plan.counts
    _tell_notes(plan)
    is_saved = "save_as" in wanted
    if is_saved or is_kept(plan.path):
        for line in _refused_rows(plan, counts):
            _tell(line)
    if rest_of(plan, counts).left:
        _tell(_next_step(opening_of(plan), counts, is_saved=is_saved))
    elif (counts.get("pending") or counts.get("unknown")) and (revert := blocked_by(plan)):
        _tell(_after_a_revert(plan, revert))
    if options.get("exit_code"):
        return _CHANGES if counts.get("pending") else _code_of(counts)
    return _DONE


def _next_step(opening: Opening, counts: Mapping[Status, int], *, is_saved: bool) -> str:
    """Returns what to do with a plan."""
    from replyio._again import quoted
    from replyio._state import KEPT, is_kept

    if not is_saved and not is_kept(opening.path):
        return "no account was changed yet; pass --save-as PLAN to keep the plan and apply it"
    begun = (
        "an earlier run started this plan"
        if counts.get("changed") or counts.get("unknown")
        else "no account was changed yet"
    )
    for_days = "" if is_saved else f" (the plan is kept for {KEPT} days)"
    review, apply = quoted(opening, "status", {"show": "changes"}), quoted(opening, "apply")
    return f"{begun}; review the plan with {review}, apply it with {apply}{for_days}"


def _after_a_revert(report: Plan | ApplyResult, revert: str) -> str:
    """Returns what to do with a plan that was reverted, and that has rows left."""
    from replyio._again import quoted
    from replyio.plan import is_revert, opening_of

    then = "so no run sends its rows unless --rows names them; to write them, "
    if is_revert(report):
        again = quoted(opening_of(report)._replace(path=revert), "revert")
        return f"{revert} is newer and undoes this revert, {then}first revert {revert} with {again}"
    return f"the plan was reverted by {revert}, {then}plan the table again with another --save-as"


def _reverted(plan: Plan) -> str:
    """Returns whether a plan was reverted, for a person who looks at it; empty if it was not."""
    from replyio._again import Opening, quoted
    from replyio.plan import blocked_by, is_revert

    revert = blocked_by(plan)
    if revert is None:
        return ""
    if any(plan.counts.get(status) for status in ("pending", "unknown", "failed", "conflict")):
        return _after_a_revert(plan, revert)
    show = f"{quoted(Opening(revert), 'status')} shows that revert"
    if is_revert(plan):
        return f"{revert} is newer and undoes this revert, or is being applied; {show}"
    return f"the plan was reverted by {revert}, or is being reverted; {show}"


def _status(options: dict[str, Any]) -> int:
    alone = [name for name in ("overwrite", "for_spreadsheet") if name in options and "export" not in options]
    if alone:
        raise UsageError(f"--{alone[0].replace('_', '-')} needs --export FILE")
    from replyio.plan import read_plan

    _refuse_what_is_no_plan(options["plan"])
    plan = read_plan(options["plan"], recover=options.get("recover", False))
    if "export" in options:
        _export(plan, options)
    else:
        _show(plan, options)
        _tell_notes(plan)
        if told := _reverted(plan):
            _tell(told)
    return _code_of(plan.counts)


def _reading(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options for reading the table."""
    found: dict[str, Any] = {}
    ignored: list[str] = options.get("ignore", [])
    if "unknown" in ignored and len(ignored) > 1:
        raise UsageError("--ignore unknown ignores every column that is not a field; remove the other --ignore options")
    found["ignore"] = "unknown" if ignored == ["unknown"] else ignored
    columns: dict[str, str] = {}
    for pair in options.get("column", ()):
        # A column name may contain this sign, but a field name does not.
        column, separator, field = pair.rpartition("=")
        if not separator or not column or not field:
            raise UsageError("--column needs COLUMN=FIELD, such as Website=domain_name")
        if columns.setdefault(column, field) != field:
            raise UsageError(f"--column maps {column!r} to two fields")
    if columns:
        found["columns"] = columns
    if "null_value" in options:
        found["null_values"] = options["null_value"]
    if "delimiter" in options:
        given: str = options["delimiter"]
        found["delimiter"] = "\t" if given in {"tab", "\\t"} else given
    return found


def _tell_notes(plan: Plan) -> None:
    """Reports what people must know before they apply the plan."""
    from replyio._plan_text import cleared_text, suspicious_text
    from replyio.plan import suspicions_of

    if plan.cleared:
        _tell(f"the plan {cleared_text(plan.cleared)}")
    if plan.suspicious:
        _tell(suspicious_text(suspicions_of(plan)) + _suspicious_changes(plan))


# How many of them a message shows, and how much of each.
_SUSPICIOUS, _LONGEST_SUSPICIOUS = 3, 20


def _suspicious_changes(plan: Plan) -> str:
    """Returns the first suspicious cells that the plan writes, how to see all, and how to make them empty cells."""
    from replyio._again import quoted
    from replyio._cli_output import exact_value
    from replyio._replyio import means_nothing
    from replyio._shell import argument
    from replyio._state import is_kept
    from replyio.plan import opening_of

    found = plan.suspicious_changes
    first = [(change["row"], change["after"]) for change in found[:_SUSPICIOUS]]
    if not first:
        return "; none of them changes an account"
    texts = ", ".join(f"{exact_value(text, _LONGEST_SUSPICIOUS)} in row {row}" for row, text in first)
    told = f"; the plan writes {texts}{', and others' if len(found) > len(first) else ''}"
    if "save_as" in _given[1] or _given[0] != "plan" or is_kept(plan.path):
        told += f"; {quoted(opening_of(plan), 'status', {'show': 'suspicious'})} lists them"
    empty = next((text for _, text in first if means_nothing(text)), None)
    if empty is not None:
        text = argument(empty.strip(), is_file=False)
        told += f"; `replyio plan` with --null-value={text} reads such a text as an empty cell"
    return told


def _plans(options: dict[str, Any]) -> int:
    from replyio import _state
    from replyio._cli_output import chosen, write_many
    from replyio._plan_text import counts_text, duration

    if options.get("prune"):
        removed, stay = _state.prune()
        why = (
            f"; plans that may have changed an account, are in use or cannot be read stay for {_state.KEPT} days"
            if stay
            else ""
        )
        _tell(f"{removed:,} plan{'' if removed == 1 else 's'} removed{why}")
    found = [
        {
            "age": duration(kept.age.total_seconds()),
            "created_at": kept.created_at.isoformat(timespec="seconds"),
            "source": kept.source,
            "rows": kept.error or counts_text(kept.counts),
            "path": kept.path,
        }
        for kept in _state.plans()
    ]
    form = chosen(options.get("format"))
    with _ignoring_a_closed_pipe():
        write_many(found, form, ("age", "created_at", "source", "rows", "path"), ("age", "source", "rows", "path"))
    return _DONE


def _table_of(view: str) -> Any:
    """Returns the name in Python of a table that --show names."""
    return "suspicious_changes" if view == "suspicious" else view


def _export(plan: Plan, options: dict[str, Any]) -> None:
    """Writes one of the tables to a file."""
    file, view = options["export"], options.get("show", "counts")
    settings = {name: options[name] for name in ("overwrite", "for_spreadsheet") if name in options}
    try:
        rows = plan.export(file, "rows" if view == "counts" else _table_of(view), **settings)
    except FileExistsError:
        raise UsageError(f"--export {file}: already exists; --overwrite replaces it") from None
    except ImportError as error:
        raise UsageError(f"--export {file}: {error}") from None
    _tell(f"{rows:,} row{'' if rows == 1 else 's'} written to {file}")


def _apply(options: dict[str, Any]) -> int:
    parts = [name for name in _PARTS if name in options]
    if not options.pop("retry_failed", False):
        return _run(options, "apply")
    if parts:
        raise UsageError(f"--retry-failed and --{parts[0].replace('_', '-')} contradict each other")
    return _run(options, "retry_failed")


def _revert(options: dict[str, Any]) -> int:
    return _run(options, "revert")


def _run(options: dict[str, Any], name: str) -> int:
    """Runs a method of a plan, and prints the outcome."""
    from replyio import ReplyError
    from replyio._again import quoted
    from replyio._cli_output import chosen
    from replyio._progress import speak_to_a_command
    from replyio.plan import opening_of, reverse

    wanted = {name: options[name] for name in ("on_conflict", "on_unknown_member", *_PARTS) if name in options}
    if "rows" in wanted:
        wanted["rows"] = _rows(wanted["rows"])
    speak_to_a_command(_settings())
    with _client(options) as client:
        plan = _open(client, options)
        is_revert, has_written = name == "revert", bool(plan.counts.get("changed") or plan.counts.get("unknown"))
        if is_revert:  # it is a plan of its own, whose unknown rows count
            plan, name = reverse(plan), "apply"
        unknown = plan.counts.get("unknown", 0)
        try:
            result: ApplyResult = getattr(plan, name)(**wanted)
        except ReplyError as error:
            return max(_told(error), _code_of_unknown(plan, unknown, error))
        told = f"the run has ended, and {quoted(opening_of(result), 'status')} shows the outcome"
        shown = _printed(lambda: _show(result, options), told)
    if is_revert and not sum(result.counts.values()) and chosen(options.get("format")) == "table":
        why = "no value that the plan wrote is left" if has_written else "the plan has changed no account"
        _tell(f"nothing to revert: {why}")
    for line in _left(result, wanted):
        _tell(line)
    code = _code_of(result.counts)
    return max(code, shown, _FAILED if result.stored_otherwise else _DONE)


def _code_of_unknown(plan: Plan, before: int, error: ReplyError) -> int:
    """Returns the exit code for the unknown rows of a run that failed."""
    from replyio import PlanError, ReplyError

    try:
        unknown = plan.counts.get("unknown", 0)
    except ReplyError:  # the plan cannot be read, and the error says why
        return _DONE
    # A plan that another run uses has the unknown rows of that run.
    return _UNKNOWN if unknown > (before if isinstance(error, PlanError) else 0) else _DONE


_PARTS = ("rows", "limit", "max_changes", "max_cleared")


def _rows(text: str) -> object:
    """Parses row numbers such as `0,3,7-9`; returns any other text as a file name."""
    import re

    if not re.fullmatch(r"\s*\d{1,9}(-\d{1,9})?(\s*,\s*\d{1,9}(-\d{1,9})?)*\s*", text, re.ASCII):
        return text
    numbers: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        found = range(int(first), int(last or first) + 1)
        if not found:
            raise UsageError(f"--rows: {part.strip()} is empty, because a range begins with its lower number")
        if len(found) > _LONGEST_RANGE:
            raise UsageError(f"--rows: a range has at most {_LONGEST_RANGE:,} rows")
        numbers.update(found)
    return sorted(numbers)


_LONGEST_RANGE = 10_000_000


def _left(result: ApplyResult, wanted: Mapping[str, Any]) -> list[str]:
    """Returns what to do about the rows that are not done, one line each. A part of the plan may have been run."""
    from replyio._again import quoted
    from replyio._plan_text import counted, stored_otherwise_text
    from replyio.plan import blocked_by, opening_of, rest_of

    opening, counts, rest = opening_of(result), result.counts, rest_of(result, result.counts)
    left = counts.get("pending", 0) + counts.get("unknown", 0)
    failed, conflicts = counts.get("failed", 0), counts.get("conflict", 0)
    # What was wanted for some rows may not be wanted for the others.
    kept = () if "rows" in wanted else ("on_conflict", "on_unknown_member")
    again = {name: wanted[name] for name in kept if name in wanted}
    show = quoted(opening, "status", {"show": "failures"})
    lines: list[str] = []
    if result.stored_otherwise:
        lines.append(f"{stored_otherwise_text(result.stored_otherwise)}; {show} shows them")
    if failed:
        retry = f", {quoted(opening, 'retry_failed', again)} retries them" if rest.failed else ""
        lines.append(f"{counted(failed, 'row')} failed; {show} shows why{retry}")
    if conflicts:
        over = _overwriting(result) if rest.failed else ""
        lines.append(f"{counted(conflicts, 'row')} in conflict, not written; {show} shows why{over}")
    lines += _refused_rows(result, counts)
    if left:
        why = f"; {show} shows why rows are unknown" if counts.get("unknown") else ""
        if rest.left:
            is_part = "rows" in wanted or "limit" in wanted
            limits = () if is_part else ("max_changes", "max_cleared")
            whole = again | {name: wanted[name] for name in limits if name in wanted}
            resumes = "writes every row that is left" if is_part else "resumes"
            lines.append(f"{counted(left, 'row')} left; {quoted(opening, 'apply', whole)} {resumes}{why}")
        else:
            lines.append(f"{counted(left, 'row')} left{why}")
    if (left or failed or conflicts) and not any(rest) and (revert := blocked_by(result)):
        lines.append(_after_a_revert(result, revert))
    return lines


# How many rows in conflict a message names.
_CONFLICTS = 10


def _overwriting(result: ApplyResult) -> str:
    """Returns how to look at the accounts of rows in conflict, and how to write the values of the rows all the same."""
    from itertools import islice

    from replyio._again import quoted, single
    from replyio._plan_text import can_be_overwritten
    from replyio.plan import is_revert, opening_of

    first = list(islice(filter(can_be_overwritten, result.failures.filter("conflict")), _CONFLICTS))
    if not first:
        return ""
    rows = [each["row"] for each in first]
    write = quoted(opening_of(result), "apply", {"rows": rows, "on_conflict": "overwrite"})
    get = single(f"get {first[0]['id']}", _settings())
    does = "restores the previous value" if is_revert(result) else "writes the value of the plan"
    return f"; {get} shows the account of row {rows[0]}; {write} {does} instead"


def _refused_rows(report: Plan | ApplyResult, counts: Mapping[Status, int]) -> list[str]:
    """What to do about the rows that no run will write."""
    from replyio._again import quoted
    from replyio._plan_text import counted
    from replyio._state import is_kept
    from replyio.plan import is_revert, opening_of

    rows = sum(counts.get(status, 0) for status in ("invalid", "ambiguous", "not_found"))
    if not rows:
        return []
    show = f"{quoted(opening_of(report), 'status', {'show': 'failures'})} shows why"
    if is_revert(report):  # of accounts, and not of a table
        whose = "its account was" if rows == 1 else "their accounts were"
        return [f"{counted(rows, 'row')} cannot be restored, because {whose} not found; {show}"]
    name = ""
    if not is_kept(report.path):
        # The plan of this name would be in the way.
        has_written = counts.get("changed") or counts.get("unknown")
        name = " with another --save-as" if has_written else " with --replace"
    return [f"{counted(rows, 'row')} cannot be written; {show}; correct the table, then plan again{name}"]


def _refuse_what_is_no_plan(file: str) -> None:
    """Refuses a file that is missing or something else. The table that the plan was made from is given most often."""
    from pathlib import Path

    from replyio._again import single
    from replyio._rows_file import TABLES
    from replyio._shell import argument

    path = Path(file)
    try:
        path.stat()
        begun = b""
        if path.is_file():  # nothing is read from a FIFO
            with path.open("rb") as opened:
                begun = opened.read(len(_SQLITE))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except ValueError:  # a NUL in the name
        raise UsageError("no file has such a name") from None
    if path.is_file() and begun in {b"", _SQLITE}:
        return
    is_table = path.suffix.lower() in TABLES
    plan = single(f"plan {argument(file)}", _settings())
    hint = f"; {plan} makes a plan of a table" if is_table else ""
    raise UsageError(f"{file} is not a plan file{hint}")


_SQLITE = b"SQLite format 3\0"


def _open(client: ReplyClient, options: dict[str, Any]) -> Plan:
    """Opens the plan that the options name."""
    _refuse_what_is_no_plan(options["plan"])
    return client.open_plan(
        options["plan"], recover=options.get("recover", False), new_key=options.get("new_key", False)
    )


def _show(report: Plan | ApplyResult, options: dict[str, Any]) -> None:
    """Prints the counts, or one of the tables."""
    from replyio._cli_output import chosen, write_failures, write_many
    from replyio.plan import blocked_by, opening_of

    form, view = chosen(options.get("format")), options.get("show", "counts")
    if view != "counts" and form == "table" and not len(getattr(report, _table_of(view))):
        _tell(f"no {'suspicious changes' if view == 'suspicious' else view}")
    elif view != "counts":
        table = getattr(report, _table_of(view))
        words = _words().of_plan(opening_of(report), is_reverted=blocked_by(report) is not None)
        in_words = ({**row, "error": words.of(row["error"])} if row.get("error") else row for row in table)
        with _ignoring_a_closed_pipe():
            if view == "failures" and form == "table":
                write_failures(table, words.of)
            else:
                write_many(in_words, form, table.columns)
    elif form == "json":
        costs = {"requests": report.requests, "seconds": report.seconds}
        # Without a client, which `status` has not, both are unknown.
        known = {name: value for name, value in costs.items() if value is not None}
        _give({"counts": report.counts, **known}, options)
    else:
        # A person reads about the statuses that have rows, a program about every status.
        counts = report.counts.items()
        rows = [{"status": status, "rows": number} for status, number in counts if number or form != "table"]
        if not rows:
            return
        with _ignoring_a_closed_pipe():
            write_many(rows, form, ("status", "rows"))


def _code_of(counts: Mapping[Status, int]) -> int:
    """Returns the exit code for the counts of a plan. Pending rows are not a failure."""
    if counts.get("unknown"):
        return _UNKNOWN
    good = ("changed", "unchanged", "pending")
    return _FAILED if any(number for status, number in counts.items() if status not in good) else _DONE


_COMMANDS: dict[str, Callable[[dict[str, Any]], int]] = {
    "get": _get,
    "update": _update,
    "patch": _patch,
    "list": _list,
    "plan": _plan,
    "apply": _apply,
    "status": _status,
    "revert": _revert,
    "check": _check,
    "plans": _plans,
    "quota": _quota,
}
