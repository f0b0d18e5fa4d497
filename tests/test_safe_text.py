"""No text of somebody else commands a terminal, turns it or hides in it, wherever it comes from."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import replyio
from plan_forgery import checksum, forge
from replyio import _again, _plan_text, _replyio, _shell
from replyio._again import Opening
from replyio._export import Line
from replyio.sandbox import Fault, Sandbox

pty = pytest.importorskip("pty")

# Said here once more, so that the test does not believe what it tests: nothing of these is seen (Unicode's list of
# default ignorable code points).
IGNORABLE = {
    *(0xAD, 0x34F, 0x61C, 0x3164, 0xFEFF, 0xFFA0),
    *(*range(0x115F, 0x1161), *range(0x17B4, 0x17B6), *range(0x180B, 0x1810), *range(0x200B, 0x2010)),
    *(*range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9)),
    *(*range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)),
}
JOINING = "\u200c\u200d\ufe0e\ufe0f"


def is_dangerous(character: str) -> bool:
    """Whether a terminal obeys a character, or a person does not see it."""
    return ord(character) in IGNORABLE or unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Co", "Cs"}


EVERYTHING = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)
EVERY_DANGER = {each for each in EVERYTHING if is_dangerous(each)}
# A few of the planes of private use and of the ignorable ones stand for all; the test over all of Unicode has the rest.
DANGEROUS = [each for each in EVERYTHING if each in EVERY_DANGER and (ord(each) < 0xE000 or ord(each) % 0x3FF == 1)]
DANGEROUS += ["\ue000", "\uf8ff", "\ufeff", "\ufff9", "\U000e0001", "\U000e0041", "\U000e007f", "\U000e0100"]
# Short enough for every column of every table.
SAMPLES = ["a" + "b".join(DANGEROUS[begin : begin + 9]) + "z" for begin in range(0, len(DANGEROUS), 9)]


def assert_safe(text: str) -> None:
    """Nothing in a text is dangerous but line ends, and joiners behind what they join."""
    if not EVERY_DANGER & set(text):
        return
    before = ""
    for each in text.replace("\r\n", "\n"):
        joins = each in JOINING and before and (not before.isascii() or each in JOINING[2:])
        assert each == "\n" or joins or not is_dangerous(each), f"{each!r} behind {before!r}"
        before = each


def on_terminal(*arguments: str, **environment: str) -> str:
    """What the command shows on a terminal, stdout and stderr together."""
    ours, its = pty.openpty()
    words = [str(Path(sys.executable).with_name("replyio")), *arguments]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env=os.environ | {"LC_ALL": "C.UTF-8"} | environment
    )
    os.close(its)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    process.wait(30)
    return shown.decode()


def of(sandbox: Sandbox) -> dict[str, str]:
    return {"REPLY_BASE_URL": sandbox.url, "REPLY_API_KEY": "k"}


@pytest.fixture(scope="module")
def service() -> Iterator[Sandbox]:
    """A service whose accounts have every dangerous character."""
    accounts: list[dict[str, Any]] = [
        {"id": id, "name": text, "city": text, "extra": {text: text}} for id, text in enumerate(SAMPLES, 1)
    ]
    with Sandbox(accounts) as sandbox:
        yield sandbox


# One function


def test_of_all_of_unicode_nothing_dangerous_is_left() -> None:
    for begin in range(0, len(EVERYTHING), 1000):
        part = EVERYTHING[begin : begin + 1000]
        assert_safe(_replyio.safe_text(part))
        assert_safe(_replyio.safe_text("é".join(part)))
    for character in DANGEROUS:
        assert _replyio.safe_text(character).startswith("\\")


@example("\udc80 \ud800\udc00")
@given(st.text(st.characters(codec=None)))
@settings(deadline=None, derandomize=True, database=None)
def test_any_text_is_safe_and_what_is_safe_stays_as_it_is(text: str) -> None:
    safe = _replyio.safe_text(text)
    assert_safe(safe)
    assert _replyio.safe_text(safe) == safe
    assert_safe(_replyio.safe_text(text, 3))


def test_an_escape_reads_as_python_writes_it() -> None:
    assert _replyio.safe_text("\x1b\x9b\u202e\U000e0041\n\udcff") == r"\x1b\x9b\u202e\U000e0041\n\udcff"
    for name in [*DANGEROUS, "\u115f", "ordinary"]:
        assert eval(_replyio.safe_text(repr(name))) == name  # noqa: S307 - a literal


def test_names_in_every_script_are_shown_as_they_are() -> None:
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    for name in ["Øst & Søn", "株式会社日立", persian, "👩\u200d💻", "❤\ufe0f", "1\ufe0f\u20e3", "e\u0301", "שלום"]:
        assert _replyio.safe_text(name) == name


# The service


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
def test_a_list_on_a_terminal_is_safe(service: Sandbox, form: str) -> None:
    shown = on_terminal("list", "--format", form, **of(service))
    assert shown.count("\\") >= len(DANGEROUS)
    assert_safe(shown)


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
def test_all_of_unicode_in_one_account_is_safe_on_a_terminal(form: str) -> None:
    # Without the planes that hold nothing, it fits in the megabyte that an answer may have.
    value = "".join(each for each in EVERYTHING if ord(each) < 0x20000 and unicodedata.category(each) != "Cn")
    with Sandbox([{"id": 1, "name": "A", "description": value}]) as sandbox:
        shown = on_terminal("get", "1", "--format", form, **of(sandbox))
    assert_safe(shown)
    if form == "json":
        assert json.loads(shown)["description"] == value


def test_data_for_a_program_stays_exact(service: Sandbox) -> None:
    command = [str(Path(sys.executable).with_name("replyio")), "list", "--format"]
    environment = os.environ | of(service)
    for form in ("json", "jsonl", "csv"):
        out = subprocess.run([*command, form], env=environment, capture_output=True, check=True).stdout
        text = out.decode()
        if form == "csv":
            names = [row["name"] for row in csv.DictReader(io.StringIO(text, newline=""))]
        else:
            read = json.loads(text) if form == "json" else map(json.loads, text.split("\n")[:-1])
            names = [account["name"] for account in read]
        assert names == SAMPLES


def test_what_the_service_says_of_an_error_is_safe(service: Sandbox) -> None:
    client = service.client()
    for text in SAMPLES:
        problem = {"title": text, "detail": text, "code": text, "errors": [{"pointer": text, "detail": text}]}
        for body in (problem, text):
            service.add_fault(Fault(status=400, body=body, times=1))
            with pytest.raises(replyio.ReplyError) as caught:
                client.get_contact_account(1)
            error = caught.value
            assert_safe(str(error))
            assert_safe("".join(map(str, [*error.__dict__.values(), *getattr(error, "errors", ())])))
    service.add_fault(Fault(status=400, body={"title": SAMPLES[0], "detail": SAMPLES[1]}, times=1))
    assert_safe(on_terminal("get", "1", "--verbose", **of(service)))


# Tables, plans and their results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("safe")


def test_a_plan_and_its_result_are_safe_wherever_they_are_shown(folder: Path) -> None:
    accounts: list[dict[str, Any]] = [{"id": id, "name": "A", "city": text} for id, text in enumerate(SAMPLES, 1)]
    refusal = Fault(method="PUT", status=400, body={"title": SAMPLES[0], "detail": SAMPLES[3]})
    with Sandbox(accounts, faults=[refusal]) as sandbox:
        client = sandbox.client()
        rows = [{"id": id, "city": text[::-1], "phone": text} for id, text in enumerate(SAMPLES, 1)]
        path = str(folder / "of-samples.replyplan")
        with client.plan_contact_account_updates(rows, save_as=path, progress=False) as plan:
            result = plan.apply(progress=False)
            pages = [plan._repr_html_(), plan.changes._repr_html_(), plan.failures._repr_html_(), result._repr_html_()]
            assert_safe("".join(pages) + repr(plan) + repr(result))
            with pytest.raises(replyio.ReplyError) as caught:
                result.raise_for_failures()
            assert_safe(str(caught.value))
        for show in ("changes", "rows", "failures"):
            for form in ("table", "json", "csv"):
                assert_safe(on_terminal("status", path, "--show", show, "--format", form, **of(sandbox)))


def test_every_html_is_safe_for_every_value() -> None:
    for text in SAMPLES:
        change = {"row": 1, "id": text, "field": text, "before": text, "after": text}
        assert_safe(_plan_text.changes_html([change], 1) + _plan_text.table_html([change], [text], 1))
        hints = _plan_text.result_hints({"failed": 1}, _plan_text.Rest(0, 1), frame=text)
        assert_safe(_plan_text.box_html(text, "", {text: 1, "changed": 1}, "", hints))
        assert_safe(_plan_text.line("Plan", text, {text: 1}, "") + _again.how_to_go_on("apply", Opening(text), {}))


def test_an_account_in_a_notebook_is_safe(service: Sandbox) -> None:
    for account in service.client().list_contact_accounts():
        assert_safe(account._repr_html_())


def test_the_names_of_columns_are_safe(folder: Path, service: Sandbox) -> None:
    for number, text in enumerate(SAMPLES):
        name = text.replace("\r", "").replace("\n", "").replace("\0", "")
        table = folder / f"{number}.csv"
        table.write_text(f'id,"{name}"\n1,x\n', encoding="utf-8")
        with pytest.raises(replyio.ReplyError) as caught:
            service.client().plan_contact_account_updates(str(table), progress=False)
        assert_safe(str(caught.value))
    assert_safe(on_terminal("plan", str(folder / "3.csv"), **of(service)))


# File names and the environment


def test_the_names_of_files_are_safe(folder: Path, service: Sandbox) -> None:
    for text in SAMPLES:
        name = text.replace("\0", "").replace("/", "")
        missing = str(folder / f"{name}.replyplan")
        with pytest.raises(replyio.PlanError) as caught:
            service.client().open_plan(missing)
        assert_safe(str(caught.value))
    for arguments in (["status", missing], ["plan", missing], ["get", "1", "--key-file", missing],
                      ["update", "1", "--json", missing], ["sandbox", "--path", f"{missing}/x"]):  # fmt: skip
        shown = on_terminal(*arguments, **of(service))
        # The name of a key file might be the key itself, and is not said at all.
        assert ("\\" in shown) != ("--key-file" in arguments)
        assert_safe(shown)


def pieces_of(characters: str, longest: int) -> Iterator[str]:
    """Cuts a text into pieces of at most so many bytes."""
    piece, length = [], 0
    for each in characters:
        size = len(os.fsencode(each))
        if length + size > longest:
            yield "".join(piece)
            piece, length = [], 0
        piece.append(each)
        length += size
    yield "".join(piece)


# What a name of a file or a variable can hold: all of Unicode, and bytes that are not UTF-8.
NAMEABLE = EVERYTHING.replace("\0", "") + "".join(map(chr, range(0xDC80, 0xDD00)))


def test_all_of_unicode_in_the_name_of_a_file_is_safe(folder: Path, service: Sandbox) -> None:
    client, shown = service.client(), 0
    for name in pieces_of(NAMEABLE.replace("/", ""), 240):
        with pytest.raises(replyio.PlanError) as caught:
            client.open_plan(str(folder / f"{name}.replyplan"))
        message = str(caught.value)
        assert_safe(message)
        shown += message.count("\\")
    assert shown >= len(EVERY_DANGER)


def test_a_command_that_is_suggested_names_the_file_and_is_safe(folder: Path, service: Sandbox) -> None:
    table = folder / "suggested.csv"
    table.write_text("id,city\n1,Oslo\n", encoding="utf-8")
    for number, text in enumerate([*SAMPLES[:3], "a  b'c\\d", "-x", "\udcff\x1b"]):
        name = text.replace("\0", "").replace("/", "")
        here = folder / f"cwd{number}"
        here.mkdir()
        word = _shell.argument(name)
        assert_safe(word)
        created = subprocess.run(["/bin/bash", "-c", f"touch {word}"], cwd=here, check=False)
        assert created.returncode == 0
        assert os.listdir(os.fsencode(here)) == [os.fsencode(name)]
    plan = folder / f"n{SAMPLES[0].replace(chr(0), '')}"
    shown = on_terminal("plan", str(table), "--save-as", str(plan), **of(service))
    assert "replyio apply" in shown
    assert_safe(shown)


def test_the_environment_is_safe() -> None:
    for text in SAMPLES:
        value = text.replace("\0", "")
        for name in ("REPLY_BASE_URL", "REPLY_API_KEY", "HTTPS_PROXY", "SSL_CERT_FILE"):
            settings = {"REPLY_BASE_URL": "https://elsewhere.example/v3", "REPLY_API_KEY": "k", name: value}
            with pytest.MonkeyPatch.context() as patch:
                for key, given in settings.items():
                    patch.setenv(key, given)
                try:
                    replyio.ReplyClient()
                except replyio.ReplyError as error:
                    assert_safe(str(error))
    assert_safe(on_terminal("get", "1", REPLY_BASE_URL=SAMPLES[4], REPLY_API_KEY="k"))


@pytest.mark.parametrize("name", ["REPLY_BASE_URL", "REPLY_API_KEY", "HTTPS_PROXY", "SSL_CERT_FILE"])
def test_all_of_unicode_in_the_environment_is_safe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_BASE_URL", "https://elsewhere.example/v3")
    monkeypatch.setenv("REPLY_API_KEY", "k")
    refused = 0
    for value in pieces_of(NAMEABLE, 240):
        monkeypatch.setenv(name, value)
        message = ""
        try:
            replyio.ReplyClient()
        except replyio.ReplyError as error:
            refused += 1
            message = str(error)
        assert_safe(message)
        assert name != "REPLY_API_KEY" or value[:8] not in message
    assert refused > 10_000


def test_who_runs_a_plan_is_safe(folder: Path) -> None:
    path = str(folder / "held.replyplan")
    hostile = SAMPLES[0].replace("\0", "") + SAMPLES[4]
    with Sandbox(faults=[Fault(method="PUT", delay=20)]) as sandbox:
        rows = [{"id": 4711, "city": "Bergen"}]
        sandbox.client(api_key="k").plan_contact_account_updates(rows, save_as=path, progress=False).close()
        command = [str(Path(sys.executable).with_name("replyio")), "apply", path]
        environment = os.environ | of(sandbox) | {"HOSTNAME": hostile}
        first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 10
            while not any(request.method == "PUT" for request in sandbox.requests):
                assert time.monotonic() < end
                time.sleep(0.05)
            shown = on_terminal("apply", path, **of(sandbox))
            assert str(first.pid) in shown
            assert_safe(shown)
        finally:
            first.kill()
            first.wait()


# A plan file of somebody else


@pytest.fixture(scope="module")
def forged(folder: Path, service: Sandbox) -> Path:
    """A plan with foreign text in each of its texts but those that a client compares."""
    path = folder / "forged.replyplan"
    rows = [{"id": id, "city": "Oslo", "phone": "1"} for id, _ in enumerate(SAMPLES, 1)]
    service.client(api_key="k").plan_contact_account_updates(rows, save_as=str(path), progress=False).close()
    changes: list[tuple[str, tuple[Any, ...]]] = []
    statuses = ["failed", "conflict", "changed", "unknown", "invalid", "pending"]
    for number, text in enumerate(SAMPLES):
        status = statuses[number % len(statuses)]
        row = (status, text, text, 1_764_000_000_000, number)
        changes.append(("UPDATE rows SET status = ?, matched_by = ?, error = ?, finished_at_ms = ? WHERE row = ?", row))
        edit = (text[::-1], text, text[2:], number)
        changes.append(("UPDATE edits SET before = ?, after = ?, answered = ? WHERE row = ? AND field = 'phone'", edit))
    everything = "".join(DANGEROUS)
    head = "UPDATE plan SET value = ? WHERE key IN ('source', 'parent', 'parent_writes')"
    changes.append((head, (everything,)))
    changes.append(("UPDATE state SET value = ? WHERE key IN ('recovery', 'writer')", (everything,)))
    cleared = json.dumps({name: {} for name in SAMPLES})
    changes.append(("UPDATE state SET value = ? WHERE key = 'cleared'", (cleared,)))
    forge(path, *changes)
    return path


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
def test_a_plan_of_somebody_else_is_safe_on_a_terminal(forged: Path, service: Sandbox, form: str) -> None:
    for show in ("changes", "rows", "failures"):
        shown = on_terminal("status", str(forged), "--show", show, "--format", form, **of(service))
        assert shown.count("\\") >= 10, (show, shown[:300])
        assert_safe(shown)
    assert_safe(on_terminal("status", str(forged), "--format", "json", **of(service)))


def test_a_plan_of_somebody_else_is_safe_in_python_and_in_a_notebook(forged: Path, service: Sandbox) -> None:
    copy = forged.with_name("copy.replyplan")
    copy.write_bytes(forged.read_bytes())
    with service.client(api_key="k").open_plan(str(copy)) as plan:
        pages = [plan._repr_html_(), plan.changes._repr_html_(), plan.failures._repr_html_()]
        assert_safe("".join(pages) + repr(plan) + str(plan) + repr(plan.changes) + repr(plan.failures))
        result = plan.apply(progress=False)
        assert_safe(result._repr_html_() + repr(result) + str(result))
        with pytest.raises(replyio.ReplyError) as caught:
            result.raise_for_failures()
        assert_safe(str(caught.value))
        assert_safe("".join(map(str, getattr(caught.value, "errors", ()))))


@pytest.mark.parametrize("key", ["base_url", "act_as"])
def test_what_a_plan_of_somebody_else_was_made_for_is_safe_and_short(forged: Path, service: Sandbox, key: str) -> None:
    path = forged.with_name(f"for-{key}.replyplan")
    path.write_bytes(forged.read_bytes())
    value = (service.url if key == "base_url" else "") + "".join(DANGEROUS) + "x" * 500_000
    forge(path, ("UPDATE plan SET value = ? WHERE key = ?", (value, key)))
    with pytest.raises(replyio.PlanError) as caught:
        service.client(api_key="k").open_plan(str(path))
    assert_safe(str(caught.value) + repr(caught.value))
    assert len(str(caught.value)) < 4_000
    shown = on_terminal("status", str(path), **of(service))
    assert_safe(shown)
    assert len(shown) < 20_000
    assert_safe(on_terminal("apply", str(path), **of(service)))


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_an_owner_that_somebody_else_wrote_is_safe_and_short(forged: Path, service: Sandbox) -> None:
    everything = "".join(DANGEROUS) + "x" * 10_000
    pieces = [everything[begin : begin + 200] for begin in range(0, len(DANGEROUS), 200)]
    for number, host in enumerate(pieces):
        path = forged.with_name(f"owned-{number}.replyplan")
        path.write_bytes(forged.read_bytes())
        facts = {"run": "r", "what": "applied", "process": 7, "host": host + "x" * 10_000, "since_ms": 2**62}
        forge(path, *(("UPDATE state SET value = ? WHERE key = ?", (value, key)) for key, value in facts.items()))
        # As whoever makes a plan has it. Another process: locks do not hold against one's own.
        command = [sys.executable, "-c", HOLDER, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            owner = "is in use by process 7 on .* \\(applying since an unknown time\\)"
            with pytest.raises(replyio.PlanError, match=owner) as caught:
                service.client(api_key="k").open_plan(str(path))
            assert_safe(str(caught.value))
            assert len(str(caught.value)) < 4_000
            if number == 0:
                assert_safe(on_terminal("status", str(path), **of(service)))
            holder.stdin.close()


# It takes a new name of its machine from each line that it reads.
RENAMED_HOLDER = """
import json, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA synchronous = OFF")
for line in sys.stdin:
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("UPDATE state SET value = ?, checksum = ? WHERE key = 'host'", json.loads(line))
    connection.execute("COMMIT")
    connection.execute("BEGIN EXCLUSIVE")
    print("held", flush=True)
    sys.stdin.readline()
    connection.execute("ROLLBACK")
    print("free", flush=True)
"""


def test_all_of_unicode_in_an_owner_is_safe(forged: Path, service: Sandbox) -> None:
    path = forged.with_name("renamed.replyplan")
    path.write_bytes(forged.read_bytes())
    facts = {"run": "r", "what": "applied", "process": 7, "host": "h", "since_ms": 2**62}
    forge(path, *(("UPDATE state SET value = ? WHERE key = ?", (value, key)) for key, value in facts.items()))
    client, shown = service.client(api_key="k"), 0
    # A refusal takes a fifth of a second: other tests have the harmless characters and all of thousands alike.
    characters = "".join(each for each in EVERYTHING if each in EVERY_DANGER and each != "\0")
    characters = characters[: characters.index("\ue000")] + "".join(map(chr, range(0xE0000, 0xE1000, 64)))
    command = [sys.executable, "-c", RENAMED_HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        for host in pieces_of(characters, 75):
            print(json.dumps([host, checksum("host", host)]), file=holder.stdin, flush=True)
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(replyio.PlanError, match="is in use by process 7 on ") as caught:
                client.open_plan(str(path))
            message = str(caught.value)
            assert_safe(message)
            shown += message.count("\\")
            print("next", file=holder.stdin, flush=True)
            assert holder.stdout.readline() == "free\n"
        holder.stdin.close()
    assert shown >= len(characters)


def test_all_of_unicode_in_a_table_and_its_plan_is_safe(folder: Path) -> None:
    cells = "".join(each for each in EVERYTHING if unicodedata.category(each) not in {"Cn", "Co"} and each != "\0")
    pieces = [cells[begin : begin + 5_000] for begin in range(0, len(cells), 5_000)]
    table, path = folder / "everything.jsonl", str(folder / "everything.replyplan")
    rows = [json.dumps({"id": id, "description": "x" + piece}) for id, piece in enumerate(pieces, 1)]
    table.write_text("\n".join(rows), encoding="utf-8")
    accounts: list[dict[str, Any]] = [{"id": id, "name": "A"} for id, _ in enumerate(pieces, 1)]
    with Sandbox(accounts) as sandbox:
        assert_safe(on_terminal("plan", str(table), "--save-as", path, **of(sandbox)))
        for form in ("table", "csv", "json", "jsonl"):
            arguments = ("status", path, "--show", "changes", "--format", form)
            assert_safe(on_terminal(*arguments, **of(sandbox)))
        with sandbox.client(api_key="k").open_plan(path) as plan:
            assert_safe(plan.changes._repr_html_() + plan._repr_html_())


# What is long


def test_a_long_value_is_shown_at_once() -> None:
    long = "é" * 450_000
    with Sandbox([{"id": 1, "name": long}]) as sandbox:
        began = time.monotonic()
        for arguments in (["get", "1"], ["list"]):
            assert_safe(on_terminal(*arguments, "--format", "table", **of(sandbox)))
        assert time.monotonic() - began < 5


# Spreadsheets


@given(st.text(st.sampled_from("=+-@\uff1d;,|\t\r\n\x0b\u2028 \u00a0\u200b\"'a1")), st.sampled_from(",\t"))
@settings(deadline=None, derandomize=True, database=None, max_examples=500)
def test_wherever_a_spreadsheet_splits_no_cell_begins_as_a_formula(value: str, delimiter: str) -> None:
    written = Line(delimiter, guards=True).of([1, value, "end"])
    for separator in ";\t|" + delimiter:
        for row in csv.reader(written.splitlines(keepends=True), delimiter=separator):
            for cell in row:
                bare = cell.strip(' \u00a0\u200b"')
                assert not bare.startswith(tuple("=+-@\uff1d")), (value, separator, cell)


def test_a_list_for_a_spreadsheet_is_guarded_and_says_that_it_is_utf_8() -> None:
    command = [str(Path(sys.executable).with_name("replyio")), "list", "--for-spreadsheet", "--format"]
    with Sandbox([{"id": 1, "name": "=1+1", "city": "x;=2", "phone": "+47 22"}]) as sandbox:
        environment = os.environ | of(sandbox)
        out = subprocess.run([*command, "csv"], env=environment, capture_output=True, check=True).stdout
        assert out.startswith(b"\xef\xbb\xbfid,")
        (row,) = csv.DictReader(io.StringIO(out.decode("utf-8-sig")))
        assert (row["name"], row["city"], row["phone"]) == ("'=1+1", "x;'=2", "'+47 22")
        refused = subprocess.run([*command, "json"], env=environment, capture_output=True, check=False)
        assert (refused.returncode, refused.stderr) == (2, b"replyio: --for-spreadsheet needs --format csv\n")
