"""The command `replyio`, as it is installed, against a sandbox of each test's own."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio import _cli_arguments, _cli_output, _cli_overview, _replyio, cli
from replyio.sandbox import Fault, Sandbox
from support import FIELDS, NAMES, PAGE_ANSWER, body, environment, program, refusing_port, sent

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = str(Path(sysconfig.get_path("scripts"), "replyio.exe" if sys.platform == "win32" else "replyio"))
KEY = "canary-key-0123456789"
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
needs_terminals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """A sandbox that knows one key."""
    with Sandbox(api_keys=[KEY]) as sandbox:
        yield sandbox


def start(service: Sandbox | None, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    # Buffered, as output is for whoever has not asked for anything else.
    variables = {"REPLY_API_KEY": KEY, "PYTHONUNBUFFERED": ""} | options.pop("variables", {})
    settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    settings |= {"env": environment(service, **variables)}
    return subprocess.Popen([COMMAND, *arguments], **settings | options)


def replyio_(
    service: Sandbox | None, *arguments: str, stdin: bytes | None = None, **options: Any
) -> tuple[int, str, str]:
    """Runs the command: exit code, stdout, stderr. Neither of the two ever has the key."""
    if stdin is not None:
        options["stdin"] = subprocess.PIPE
    with start(service, *arguments, **options) as process:
        try:
            out, err = process.communicate(stdin, timeout=60)
        except BaseException:
            process.kill()
            raise
    assert KEY.encode() not in (out or b"") + (err or b"")
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def refused(code: int, service: Sandbox | None, *arguments: str, **options: Any) -> str:
    """The one line of a command that fails with this code, and gives no data."""
    found, out, err = replyio_(service, *arguments, **options)
    assert (found, out) == (code, ""), err
    assert err.startswith("replyio: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.removeprefix("replyio: ").rstrip("\n")


# Start


def test_the_version_is_that_of_the_package_by_either_way_to_start() -> None:
    for arguments in ([COMMAND, "--version"], [sys.executable, "-m", "replyio", "--version"]):
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
        assert (done.stdout, done.stderr) == (f"replyio {replyio.__version__}\n", "")


def test_the_version_loads_nothing_costly() -> None:
    costly = ["argparse", "asyncio", "dataclasses", "inspect", "json", "logging", "pathlib", "replyio.client", "typing"]
    paths = [path for path in sys.path if path]
    code = f"""
        import sys; sys.path[:] = {paths!r}
        from replyio.cli import main
        main(["--version"]); print(*sorted(set({costly!r}) & set(sys.modules)))"""
    command = [sys.executable, "-I", "-S", *program(code)[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[1:] == [""]


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_cannot_be_said_is_a_line(option: str) -> None:
    code = f"import sys; sys.stdout = None; from replyio.cli import main; sys.exit(main([{option!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, "replyio: stdout is closed; nothing was done\n")


def test_the_help_names_every_command_and_exit_code() -> None:
    code, out, err = replyio_(None, "--help")
    assert (code, err) == (0, "")
    for name in (*_cli_overview.COMMANDS, *map(str, _cli_overview.EXIT_CODES)):
        assert f"\n  {name} " in out
    for name in _cli_overview.COMMANDS:
        code, out, err = replyio_(None, name, "--help")
        assert (code, err) == (0, "")
        assert out.startswith(f"usage: replyio {name} ")


def test_the_fields_are_those_of_the_package() -> None:
    assert list(_cli_arguments.FIELDS) == FIELDS
    docs = {row[0]: row[5] for row in _replyio.MEMBERS}
    assert {name: docs[name] for name in FIELDS} == _cli_arguments.FIELDS


# Forms


@pytest.mark.parametrize("form", [None, "json", "jsonl"])
def test_an_account_is_json_unless_a_person_looks(form: str | None, service: Sandbox) -> None:
    arguments = [] if form is None else ["--format", form]
    code, out, err = replyio_(service, "get", "4712", *arguments)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(_cli_output.json_text(service.accounts[4712].to_dict()))
    assert "München" in out
    assert out.count("\n") == (1 if form == "jsonl" else len(out.splitlines()))
    assert (len(out.splitlines()) == 1) == (form == "jsonl")


def test_an_account_is_a_row_of_csv(service: Sandbox) -> None:
    service.set_account(
        service.accounts[4712].to_dict() | {"city": 'a "b",\nc', "state": "d\re", "phone": "", "email": None}
    )
    _, out, _ = replyio_(service, "get", "4712", "--format", "csv")
    [row] = csv.DictReader(io.StringIO(out, newline=""))
    assert list(row) == list(service.client().list_contact_accounts().to_pandas().columns)
    assert (row["id"], row["city"], row["state"]) == ("4712", 'a "b",\nc', "d\re")
    assert (row["phone"], row["email"]) == ("", "")
    assert (row["stage_name"], row["created_date"]) == ("Opportunity", "2024-02-19T14:02:11.400000Z")


def test_an_account_is_a_table_of_names_and_values(service: Sandbox) -> None:
    _, out, _ = replyio_(service, "get", "4712", "--format", "table")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if " " in line)
    assert (lines["field"], lines["city"], lines["stage_name"]) == ("value", "München", "Opportunity")


def test_many_accounts_come_in_every_form(service: Sandbox) -> None:
    ids = [4711, 4712, 4713]
    _, out, _ = replyio_(service, "list")
    assert [account["id"] for account in json.loads(out)] == ids
    assert len(out.splitlines()) == 5
    _, out, _ = replyio_(service, "list", "--format", "jsonl")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ids
    _, out, _ = replyio_(service, "list", "--format", "csv")
    assert [int(row["id"]) for row in csv.DictReader(io.StringIO(out))] == ids
    _, out, _ = replyio_(service, "list", "--format", "table")
    head, *rows = out.splitlines()
    assert head.split() == list(_cli_output.ACCOUNT_COLUMNS)
    assert [int(row.split()[0]) for row in rows] == ids
    assert {row.index(".example") > head.index("domain_name") for row in rows} == {True}


@pytest.mark.parametrize(("form", "text"), [("json", "[]\n"), ("jsonl", ""), ("csv", "id,"), ("table", "id  name")])
def test_no_account_is_no_row(form: str, text: str) -> None:
    with Sandbox([]) as empty:
        code, out, err = replyio_(empty, "list", "--format", form)
    assert (code, err) == (0, "")
    assert out == text or (form in {"csv", "table"} and out.startswith(text) and out.count("\n") == 1)


def test_a_list_is_searched_sorted_and_cut(service: Sandbox) -> None:
    arguments = ["--search", "i", "--sort-by", "name", "--descending", "--limit", "1", "--format", "jsonl"]
    code, out, _ = replyio_(service, "list", *arguments)
    assert (code, json.loads(out)["name"]) == (0, "Initech")
    [request] = service.requests
    assert request.query["top"] == "1"


def test_a_limit_may_be_larger_than_any_list(service: Sandbox) -> None:
    code, out, _ = replyio_(service, "list", "--limit", "9" * 30)
    assert (code, len(json.loads(out))) == (0, len(service.accounts))


def test_a_list_that_breaks_off_is_no_whole_json() -> None:
    accounts = [{"id": number, "name": "x"} for number in range(1, 1502)]
    with Sandbox(accounts, faults=[Fault(request=2, status=400)]) as many:
        code, out, err = replyio_(many, "list")
    assert (code, out.count('{"id"')) == (1, 1000)
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)
    assert "400" in err


def test_data_is_utf_8_for_a_program_whatever_the_locale_says(service: Sandbox) -> None:
    for variables in ({"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        for form in ("json", "csv", "table"):
            code, out, err = replyio_(service, "get", "4712", "--format", form, variables=variables)
            assert (code, err) == (0, "")
            assert "München" in out


# Terminals


def on_a_terminal(service: Sandbox, *arguments: str, **variables: str) -> tuple[int, str]:
    """Runs the command on a terminal: exit code, and what is seen."""
    import pty

    here, there = pty.openpty()
    try:
        with start(service, *arguments, stdout=there, stderr=there, variables=variables) as process:
            os.close(there)
            seen = b""
            while True:
                try:
                    part = os.read(here, 65_536)
                except OSError:
                    break
                if not part:
                    break
                seen += part
    finally:
        os.close(here)
    return process.returncode, seen.decode().replace("\r\n", "\n")


@needs_terminals
def test_a_person_sees_a_table(service: Sandbox) -> None:
    code, seen = on_a_terminal(service, "list", PYTHONIOENCODING="utf-8")
    assert code == 0
    assert seen.startswith("id    name ")
    assert "München" in seen


@needs_terminals
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_name_cannot_command_a_terminal(form: str, service: Sandbox) -> None:
    service.set_account({"id": 1, "name": "a\x1b[31m\x9b\nb\u202e", "city": "c\r\nd"})
    _, seen = on_a_terminal(service, "get", "1", "--format", form, PYTHONIOENCODING="utf-8")
    assert "\x1b" not in seen
    if form != "json":
        assert not {"\x9b", "\u202e", "\r"} & set(seen)


@needs_terminals
def test_a_terminal_without_the_letters_gets_them_escaped(service: Sandbox) -> None:
    code, seen = on_a_terminal(service, "get", "4712", PYTHONIOENCODING="ascii")
    assert code == 0
    assert "M\\xfcnchen" in seen


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    assert [_cli_output.width(text) for text in ("ab", "ü", "日本", "e\u0301", "a\u200b")] == [2, 1, 4, 1, 1]


# Writing


def test_an_update_sends_what_is_named_and_nothing_else(service: Sandbox) -> None:
    arguments = ["--name", "Acme", "--linked-in-url", "", "--null", "city", "--null", "time-zone-id"]
    code, out, err = replyio_(service, "update", "4711", *arguments, "--owner-user-id", "42")
    assert (code, err) == (0, "")
    wanted = {"name": "Acme", "linkedInUrl": "", "city": None, "timeZoneId": None, "ownerUserId": 42}
    assert (sent(service), body(service)) == (["PUT"], wanted)
    assert json.loads(out)["industry"] is None


def test_every_field_has_its_option(service: Sandbox) -> None:
    values = {field: {"company_size": "2-10", "owner_user_id": "7"}.get(field, field) for field in FIELDS}
    arguments = [f"{_cli_arguments.option(field)}={value}" for field, value in values.items()]
    code, out, err = replyio_(service, "update", "4711", *arguments)
    assert (code, err) == (0, "")
    assert len(body(service)) == 16
    assert {field: str(json.loads(out)[field]) for field in FIELDS} == values


def test_a_patch_keeps_what_is_not_named(service: Sandbox) -> None:
    code, out, err = replyio_(service, "patch", "4711", "--city", "Bergen", "--null", "phone", "--state=")
    assert (code, err, sent(service)) == (0, "", ["GET", "PUT"])
    account = json.loads(out)
    assert (account["city"], account["phone"], account["country"]) == ("Bergen", None, "Norway")
    assert "phone" not in body(service) or body(service)["phone"] is None


def test_a_value_may_begin_with_a_dash(service: Sandbox) -> None:
    assert replyio_(service, "patch", "4711", "--description=--api-key")[0] == 0
    assert service.accounts[4711].description == "--api-key"


def test_fields_come_from_a_file_or_from_stdin_with_null_apart_from_absent(service: Sandbox, tmp_path: Path) -> None:
    text = '\ufeff{"name": "Füße", "city": null, "linkedInUrl": ""}'.encode()
    (tmp_path / "fields.json").write_bytes(text)
    for source, stdin in ((str(tmp_path / "fields.json"), None), ("-", text)):
        code, _, err = replyio_(service, "update", "4711", "--json", source, stdin=stdin)
        assert (code, err) == (0, "")
        assert body(service) == {"name": "Füße", "city": None, "linkedInUrl": ""}


def test_what_get_gives_can_be_given_to_update(service: Sandbox) -> None:
    before = service.accounts[4711].update_fields()
    _, out, _ = replyio_(service, "get", "4711", "--writable")
    assert replyio_(service, "update", "4711", "--json", "-", stdin=out.encode())[0] == 0
    assert service.accounts[4711].update_fields() == before


@pytest.mark.parametrize(
    ("members", "faults"),
    [
        ({"company_size": "20001+"}, ["company_size must be one of Empty, "]),
        ({"name": " ", "owner_user_id": 0}, ["name must not be blank", "owner_user_id must be a positive integer"]),
    ],
)
def test_get_refuses_to_give_what_update_would_refuse(
    members: dict[str, Any], faults: list[str], service: Sandbox
) -> None:
    answer = {"id": 4711, "name": "Acme", "ownerUserId": 42}
    answer |= {wire: members[name] for wire, name in NAMES.items() if name in members}
    service.add_fault(Fault(method="GET", status=200, body=answer))
    code, out, err = replyio_(service, "get", "4711", "--writable")
    assert (code, out) == (1, "")
    assert err.startswith("replyio: account 4711 has a value that `replyio update` refuses")
    assert all(fault in err for fault in faults), err
    assert replyio_(service, "get", "4711")[0] == 0
    replyio_(service, "patch", "4711", "--city", "Bergen")
    assert {"id": 4711, **body(service)} == answer | {"city": "Bergen"}


def test_get_gives_nothing_for_a_blank_company_size(service: Sandbox) -> None:
    answer = {"id": 4711, "name": "Acme", "ownerUserId": 42, "companySize": " "}
    service.add_fault(Fault(status=200, body=answer, times=1))
    assert json.loads(replyio_(service, "get", "4711", "--writable")[1]) == {"name": "Acme", "owner_user_id": 42}


BAD_JSON = {
    "{": "not valid JSON at line 1, column 2",
    "": "not valid JSON at line 1, column 1",
    "[]": "must be one object",
    '{"city": "a", "city": "b"}': "a member occurs twice",
    '{"owner_user_id": NaN}': "NaN and Infinity are not valid JSON",
    '{"a":' * 100_000: "nested too deep",
    f'{{"owner_user_id": {"1" * 5_000}}}': "a number has too many digits",
    '{"__class__": "x", "self": 1, "city": "x"}': "self is not a field of an update; leave it out",
    '{"id": 5, "city": "x"}': "id is not a field of an update; leave it out",
}


@pytest.mark.parametrize("text", BAD_JSON, ids=list(BAD_JSON.values()))
def test_json_that_cannot_be_meant_is_refused(text: str, service: Sandbox) -> None:
    assert refused(2, service, "patch", "4711", "--json", "-", stdin=text.encode()).startswith(
        f"--json -: {BAD_JSON[text]}"
    )
    assert service.requests == []


def test_json_that_cannot_be_read_is_refused(service: Sandbox, tmp_path: Path) -> None:
    assert refused(2, service, "patch", "1", "--json", str(tmp_path / "no")).endswith("No such file or directory")
    assert (
        refused(2, service, "patch", "1", "--json", "-", stdin=b'{"city": "\xff"}')
        == "--json -: not valid UTF-8 at byte 10"
    )
    assert "city must be valid Unicode" in refused(
        2, service, "patch", "1", "--json", "-", stdin=b'{"city": "\\ud800"}'
    )


# Usage

USAGE = {
    "no command given": [],
    "no such command; did you mean get?": ["gett", "1"],
    "no such command; see": ["canary-value"],
    "put the command first": ["--format", "json", "get", "1"],
    "required: ID": ["get"],
    "argument ID: must be a positive number": ["get", "x"],
    "1 more argument than expected": ["get", "1", "canary-value"],
    "argument 3 is an unknown option (--citty); did you mean --city?": ["patch", "1", "--citty=canary-value"],
    "argument 3 is an unknown option (--forma); did you mean --format?": ["get", "1", "--forma", "json"],
    "argument 3 is an unknown option; see": ["get", "1", "--canary-value-4711"],
    "argument 3 is an unknown option; see replyio get": ["get", "1", "--canarywithoutdigits"],
    "argument 3 is an unknown option (--town); see replyio patch": ["patch", "1", "--town", "canary-value"],
    "1 more argument than expected; write --city TEXT; see": ["patch", "1", "city=canary-value"],
    "1 more argument than expected; see": ["patch", "1", "canary=canary-value"],
    "argument --max-changes: must be a whole number, 0 or greater": ["apply", "a", "--max-changes=canary-value"],
    "argument --limit: must be a whole number, 0 or greater": ["apply", "a", "--limit", "canary-value"],
    "argument --format: invalid choice: this value": ["get", "1", "--format", "canary-value"],
    "argument -v/--verbose: ignored explicit argument this value": ["get", "1", "--verbose=canary-value"],
    "patch needs a field to change": ["patch", "1"],
    "update needs --name": ["update", "1", "--city", "canary-value"],
    "--city and --null city contradict each other": ["patch", "1", "--city", "canary-value", "--null", "city"],
    "--json cannot be combined with field options": ["patch", "1", "--city", "x", "--json", "-"],
    "name must not be null": ["patch", "1", "--null", "name"],
    "--null id: id is not a field of an update": ["patch", "1", "--null", "id"],
    "--null self: self is not a field of an update": ["update", "1", "--name", "x", "--null", "self"],
    "citty is not a field of a contact account; did you mean city?": ["patch", "1", "--null", "citty"],
    "company_size must be one of": ["patch", "1", "--company-size", "50-200"],
    "--limit must be at least 1": ["list", "--limit", "0"],
    "timeout must be": ["get", "1", "--timeout", "-1"],
    "argument --format": ["get", "1", "--format", "xml"],
    "argument --timeout: must be a number": ["get", "1", "--timeout", "soon"],
    "id must be": ["get", "0"],
    "act_as must be": ["get", "1", "--act-as", "nobody"],
}  # fmt: skip


@pytest.mark.parametrize("message", USAGE)
def test_what_cannot_be_meant_is_a_line_of_usage_and_no_request(message: str, service: Sandbox) -> None:
    line = refused(2, service, *USAGE[message])
    assert message in line
    assert "canary" not in line
    assert service.requests == []


# The key


@pytest.mark.parametrize(
    "words",
    [
        ["--api-key", KEY],
        [f"--api-key={KEY}"],
        [f"--API_KEY={KEY}"],
        ["--token", KEY],
        ["--x-api-key", KEY],
        [f"--secret={KEY}"],
        [f"--new-key={KEY}"],
        ["--authorization", f"Bearer {KEY}"],
    ],
)
@pytest.mark.parametrize("place", [0, 2])
def test_a_key_as_an_argument_is_refused_and_not_repeated(words: list[str], place: int, service: Sandbox) -> None:
    arguments = ["get", "4711"]
    arguments[place:place] = words
    line = refused(2, service, *arguments)
    assert "replyio accepts no key as an argument" in line
    assert "--key-file FILE" in line
    assert service.requests == []


@pytest.mark.parametrize(
    "words",
    [
        ["--port", KEY],
        [f"--port={KEY}"],
        ["--quota", KEY],
        ["--clock-scale", KEY],
        [KEY],
        [f"--{KEY}"],
        [f"--por={KEY}"],
        ["--api-key", KEY],
    ],
)
def test_the_sandbox_repeats_no_argument_that_may_be_a_key(words: list[str]) -> None:
    for command in (["-m", "replyio", "sandbox"], ["-m", "replyio.sandbox"]):
        ended = subprocess.run(
            [sys.executable, *command, *words], capture_output=True, text=True, check=False, timeout=30
        )
        assert (ended.returncode, ended.stdout) == (2, ""), ended
        assert ended.stderr.startswith("replyio: ")
        assert ended.stderr.count("\n") == 1
        assert KEY not in ended.stderr


def test_a_key_comes_from_a_file_before_the_environment(service: Sandbox, tmp_path: Path) -> None:
    for text in (KEY, f"{KEY}\r\n", f"\ufeff{KEY}\n"):
        (tmp_path / "key").write_text(text, encoding="utf-8")
        arguments = ["get", "4711", "--key-file", str(tmp_path / "key")]
        for variables in ({"REPLY_API_KEY": ""}, {"REPLY_API_KEY": "another"}):
            assert replyio_(service, *arguments, variables=variables)[0] == 0
    # Here the key is in a file because it is to be; what is left by a run is searched for it.
    (tmp_path / "key").unlink()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file contains no key"),
        (" \n", "the file contains no key"),
        ("canary key", "the key contains a character that no key has"),
        ("canary" * 1000, "the key is longer than 4096 characters"),
        (None, "No such file or directory"),
    ],
)
def test_a_key_file_without_a_key_is_told_without_its_name(
    content: str | None, message: str, service: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content, encoding="utf-8")
        file.chmod(0o600)
    line = refused(2, service, "get", "4711", "--key-file", str(file))
    assert line.startswith("--key-file: the ") or message.startswith("there")
    assert message in line
    assert str(file) not in line
    assert "canary" not in line


@pytest.mark.parametrize("words", [["--key-file", KEY], [f"--key-file={KEY}"], ["--key-file", f"{KEY}/x"]])
def test_a_key_in_the_place_of_its_file_is_not_repeated(words: list[str], service: Sandbox) -> None:
    line = refused(2, service, "get", "4711", *words)
    assert line.startswith("--key-file: the file cannot be read: ")
    assert KEY not in line
    assert service.requests == []


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such modes there")
@pytest.mark.parametrize(("mode", "warns"), [(0o600, False), (0o400, False), (0o644, True), (0o640, True)])
def test_a_key_file_that_others_can_read_gives_a_warning(
    mode: int, warns: bool, service: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY, encoding="utf-8")
    file.chmod(mode)
    code, _, err = replyio_(service, "get", "4711", "--key-file", str(file), variables={"REPLY_API_KEY": ""})
    file.unlink()
    assert code == 0
    assert ("other users of this machine can read the key" in err) == warns
    assert KEY not in err


@pytest.mark.skipif(sys.platform == "win32", reason="the line is for a shell of POSIX")
@pytest.mark.parametrize("name", ["my plan.replyplan", "-sync.replyplan", "it's.replyplan", "--format.replyplan"])
def test_the_commands_that_are_suggested_can_be_run(name: str, service: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,city\n4711,Bergen\n", encoding="utf-8")

    def command(*words: str) -> str:
        code, _, err = replyio_(service, *words, cwd=tmp_path)
        assert code == 0, err
        return err

    suggested = re.findall(r"`replyio ([^`]*)`", command("plan", "rows.csv", f"--save-as={name}"))
    assert len(suggested) == 2
    for words in suggested:
        command(*shlex.split(words))
    assert service.accounts[4711].city == "Bergen"


def test_no_key_is_told_in_the_words_of_the_command(service: Sandbox) -> None:
    line = refused(2, service, "get", "4711", variables={"REPLY_API_KEY": ""})
    assert line == "no API key: set REPLY_API_KEY or pass --key-file FILE; `replyio sandbox` needs none"


@pytest.mark.parametrize("command", [["get", "4711"], ["patch", "4711", "--city", "x"], ["list"]])
def test_a_key_that_the_service_says_back_is_shown_nowhere(command: list[str], service: Sandbox) -> None:
    for status in (200, 302, 400, 401, 500):
        service.clear_faults()
        service.add_fault(Fault(status=status, body={"title": KEY, "detail": f"<{KEY}>", "code": KEY}))
        assert replyio_(service, *command, "--verbose", "--timeout", "1")[0] in {1, 3}


# Exit codes


def test_a_failure_is_1_with_the_message_of_the_package(service: Sandbox) -> None:
    line = refused(1, service, "get", "99")
    assert line.startswith("get of account 99 failed: 404 Not Found (contactAccount.notFound) after 1 attempt")
    assert line.endswith("hint: `replyio list` shows the accounts of this key")
    assert "401" in refused(1, service, "patch", "4711", "--city", "x", variables={"REPLY_API_KEY": "another"})


def test_an_update_that_could_not_be_sent_is_1() -> None:
    with refusing_port() as port:
        variables = {"REPLY_BASE_URL": f"http://127.0.0.1:{port}/v3", "REPLY_API_KEY": KEY}
        line = refused(1, None, "update", "4711", "--name", "x", "--timeout", "2", variables=variables)
    assert "could not connect" in line
    assert "REPLY_BASE_URL" in line


UNKNOWN = {
    "no answer in time": Fault(method="PUT", delay=30, applied=True),
    "the connection closes": Fault(method="PUT", close=True, applied=True),
    "the answer is cut": Fault(method="PUT", cut=5),
    "a server error": Fault(method="PUT", status=503, applied=True),
    "no json": Fault(method="PUT", status=200, body="oops", applied=True),
}


@pytest.mark.parametrize("command", ["update", "patch"])
@pytest.mark.parametrize("fault", UNKNOWN)
def test_an_update_that_may_have_been_applied_is_3(command: str, fault: str, service: Sandbox) -> None:
    service.add_fault(UNKNOWN[fault])
    line = refused(3, service, command, "4711", "--name", "Acme", "--city", "Bergen", "--timeout", "0.8")
    assert "it may have been applied; sending it again is safe" in line
    assert service.accounts[4711].city == "Bergen"


@pytest.mark.parametrize("command", [["get", "4711"], ["list"]])
def test_reading_that_fails_leaves_nothing_unknown(command: list[str], service: Sandbox) -> None:
    service.add_fault(Fault(method="GET", delay=30))
    refused(1, service, *command, "--timeout", "0.5")
    assert "PUT" not in sent(service)


def test_an_account_that_is_not_as_meant_is_given_told_and_1(service: Sandbox) -> None:
    service.add_fault(Fault(method="PUT", status=200, body=PAGE_ANSWER | {"id": 4711, "city": "elsewhere"}))
    code, out, err = replyio_(service, "patch", "4711", "--city", "Bergen")
    assert (code, json.loads(out)["city"]) == (1, "elsewhere")
    assert err.startswith("replyio: ")
    assert "city" in err
    assert err.count("\n") == 1


@needs_signals
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["get", "4711"], ""),
        (["list"], ""),
        (
            ["update", "4711", "--name", "x"],
            "replyio: interrupted; if the update was in progress, it may have been applied\n",
        ),
    ],
)
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_command_at_once(command: list[str], told: str, name: str, code: int, service: Sandbox) -> None:
    service.add_fault(Fault(delay=60))
    with start(service, *command) as process:
        wait_for(lambda: service.requests)
        began = time.monotonic()
        process.send_signal(getattr(signal, name))
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.decode()) == (code, b"", told)
    assert time.monotonic() - began < 2


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_error_that_nobody_expected_is_a_line_without_its_text() -> None:
    code = f"""
        import sys
        from replyio import cli
        def fail(options): raise ZeroDivisionError({KEY!r})
        cli._COMMANDS["get"] = fail
        sys.exit(cli.main(["get", "1"]))"""
    done = subprocess.run(program(code), capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == "replyio: internal error in replyio (ZeroDivisionError, line 4 of __main__); please report it\n"
    )


@pytest.mark.parametrize("command", ["apply", "revert"])
def test_a_plan_is_used_with_another_key_of_its_user(command: str, tmp_path: Path) -> None:
    plan = str(tmp_path / "a.replyplan")
    with Sandbox() as service, service.client(api_key="the-key-of-before") as client:
        made = client.plan_contact_account_updates([{"id": 4711, "city": "Bergen"}], save_as=plan, progress=False)
        if command == "revert":
            made.apply(progress=False)
        assert "--new-key" in refused(1, service, command, plan)
        assert replyio_(service, command, plan, "--new-key")[0] == 0
        assert service.accounts[4711].city == ("Bergen" if command == "apply" else "Oslo")


def test_the_counts_of_a_plan_have_their_exit_codes() -> None:
    assert [cli._code_of(counts) for counts in (
        {}, {"changed": 3, "unchanged": 1, "pending": 2}, {"changed": 3, "invalid": 1}, {"failed": 1, "unknown": 1},
        {"failed": 0, "unknown": 0},
    )] == [0, 0, 1, 3, 0]  # fmt: skip


# Streams


def test_a_reader_that_has_gone_is_no_error() -> None:
    accounts = [{"id": number, "name": "x" * 100} for number in range(1, 3001)]
    with Sandbox(accounts) as many, start(many, "list", "--format", "jsonl") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize(("account", "code"), [("4711", 0), ("99", 1)])
def test_a_reader_that_never_was_changes_no_exit_code(account: str, code: int, service: Sandbox) -> None:
    here, there = os.pipe()
    os.close(here)
    try:
        found, _, err = replyio_(service, "get", account, stdout=there)
    finally:
        os.close(there)
    assert (found, err.count("\n")) == (code, code)


@pytest.mark.skipif(sys.platform == "win32", reason="a closed descriptor is not inherited")
def test_a_closed_stdout_is_told_before_anything_is_done(service: Sandbox) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" update 4711 --name x >&-', COMMAND],
        env=environment(service, REPLY_API_KEY=KEY), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "replyio: stdout is closed; nothing was done\n")
    assert service.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told(service: Sandbox) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = replyio_(service, "get", "4711", stdout=full)
    assert (code, err) == (1, "replyio: the output: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["patch", "4711", "--city", "Full"], ["update", "4711", "--name", "Full"]])
def test_an_update_whose_account_cannot_be_printed_is_told(arguments: list[str], service: Sandbox) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = replyio_(service, *arguments, stdout=full)
    told = "the account was updated, and `replyio get 4711` shows it"
    assert (code, err) == (1, f"replyio: the output: No space left on device; {told}\n")
    assert sent(service)[-1] == "PUT"


def test_stderr_that_nobody_reads_changes_nothing(service: Sandbox) -> None:
    here, there = os.pipe()
    os.close(here)
    try:
        assert replyio_(service, "get", "99", stderr=there)[0] == 1
    finally:
        os.close(there)


def test_a_line_for_each_request_is_on_stderr_when_asked_for(service: Sandbox) -> None:
    service.add_fault(Fault(request=1, status=503))
    code, out, err = replyio_(service, "get", "4711", "--verbose")
    assert (code, json.loads(out)["id"]) == (0, 4711)
    assert all(line.startswith("replyio: ") for line in err.splitlines())
    assert "GET /v3/contact-accounts/4711 503" in err
    assert "GET /v3/contact-accounts/4711 200" in err


def test_a_master_key_acts_for_somebody(service: Sandbox) -> None:
    assert replyio_(service, "get", "4711", "--act-as", "7", "--team-id", "8")[0] == 0
    headers = service.requests[-1].headers
    assert (headers["x-user-id"], headers["x-team-id"]) == ("7", "8")
    assert replyio_(service, "get", "4711", "--act-as", "a@acme.example")[0] == 0
    assert service.requests[-1].headers["x-user-email"] == "a@acme.example"


@needs_signals
def test_the_sandbox_is_a_command_too() -> None:
    with start(None, "sandbox", "--port", "0") as process:
        assert process.stdout
        url = process.stdout.readline().decode().split()[2]
        variables = {"REPLY_BASE_URL": url, "REPLY_API_KEY": "any"}
        assert json.loads(replyio_(None, "get", "4711", variables=variables)[1])["name"] == "Acme"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


# Pages

ROOT = Path(__file__).parent.parent


def test_the_page_is_what_make_docs_writes() -> None:
    location = importlib.util.spec_from_file_location("command_line", ROOT / "docs" / "command_line.py")
    assert location
    assert location.loader
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    assert (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8") == module.page(), "run `make docs`"


def shown_commands() -> list[str]:
    """The lines of the pages that call the command."""
    pages = [ROOT / "README.md", ROOT / "docs" / "command-line.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return [
        line
        for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def test_the_commands_that_the_pages_show_run_in_their_order(service: Sandbox, tmp_path: Path) -> None:
    lines = [line for line in shown_commands() if line.startswith("replyio ")]
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line, comments=True)
        target = words.pop() if ">" in words else None
        with start(service, *(word for word in words[1:] if word != ">"), cwd=tmp_path) as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b""), line
        if target is not None:
            (tmp_path / target).write_bytes(out)
