"""What a person did wrong on the command line is told as that: in a list, with exit code 2, and never as a fault of
the package. Rows that are not done are told with the reason first and with what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from replyio.sandbox import Fault, Sandbox
from support import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = "The owner of this account has left the team, and nobody has taken it over since"


@pytest.fixture
def service() -> Iterator[Sandbox]:
    accounts = [{"id": id, "name": f"Company {id}", "domain_name": f"company{id}.example"} for id in range(1, 8)]
    with Sandbox(accounts=accounts) as sandbox:
        yield sandbox


class Shell:
    """Runs commands in a folder."""

    def __init__(self, service: Sandbox, folder: Path) -> None:
        self.service = service
        self.folder = folder
        table = "id,city\n1,Bergen\n2,Bergen\n-5,Bergen\n4711,Bergen\n3,Bergen\n"
        (folder / "rows.csv").write_text(table, encoding="utf-8")

    def __call__(self, *words: str, **variables: str) -> tuple[int, str, list[str]]:
        """Exit code, data, and the lines that were told."""
        done = subprocess.run(
            [sys.executable, "-m", "replyio", *words],
            env=environment(self.service, **variables), cwd=self.folder, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.fixture
def shell(service: Sandbox, tmp_path: Path) -> Shell:
    return Shell(service, tmp_path)


WRONG_INPUT = {
    "plan missing.csv": "replyio: missing.csv: No such file or directory",
    "plan missing.parquet": "replyio: missing.parquet: No such file or directory",
    "plan broken.parquet": "replyio: broken.parquet refused before any request: it cannot be read as Parquet",
    "plan cut.parquet": "replyio: cut.parquet refused before any request: it cannot be read as Parquet",
    "plan rows.csv --save-as missing/a.replyplan":
        "replyio: --save-as missing/a.replyplan: there is no folder missing",
    "plan rows.csv --save-as made.replyplan":
        "replyio: plan file made.replyplan: already exists; resume it with `replyio apply made.replyplan` "
        "or --resume, or choose another name with --save-as",
    "plan made.replyplan":
        "replyio: made.replyplan is a plan already: `replyio status made.replyplan` shows it, `replyio apply "
        "made.replyplan` applies it",
    "status missing.replyplan": "replyio: missing.replyplan: No such file or directory",
    "apply missing.replyplan": "replyio: missing.replyplan: No such file or directory",
    "revert missing.replyplan": "replyio: missing.replyplan: No such file or directory",
    "apply rows.csv": "replyio: rows.csv is not a plan file; `replyio plan rows.csv` makes a plan of a table",
    "status broken.parquet":
        "replyio: broken.parquet is not a plan file; `replyio plan broken.parquet` makes a plan of a table",
    "status .": "replyio: . is not a plan file",
    "apply made.replyplan --rows missing.csv": "replyio: --rows: the file cannot be read: No such file or directory",
    "apply made.replyplan --rows broken.parquet": "replyio: --rows: the file cannot be read as Parquet",
    "apply made.replyplan --rows deep.jsonl": "replyio: --rows: line 1 is not a JSON object",
    "apply made.replyplan --rows open.csv":
        "replyio: --rows: line 2: the file is not CSV: a quote is opened and never closed",
    "apply made.replyplan --rows 0-999999999": "replyio: --rows: a range has at most 10,000,000 rows",
    "update 1 --json missing.json": "replyio: --json missing.json: No such file or directory",
    "get 1 --key-file missing.key": "replyio: --key-file: the file cannot be read: No such file or directory",
    "sandbox --accounts missing.json": "replyio: --accounts missing.json: No such file or directory",
    "sandbox --accounts rows.csv": "replyio: --accounts rows.csv: not valid JSON at line 1, column 1",
    "sandbox --port 99999":
        "replyio: argument --port: must be a number from 0 to 65535; see replyio sandbox --help",
    "sandbox --quota 100":
        "replyio: argument --quota: must be two numbers, such as 100,3000; see replyio sandbox --help",
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG_INPUT)
def test_input_that_cannot_be_used_is_2_in_a_line(words: str, shell: Shell) -> None:
    (shell.folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    whole = shell.folder / "whole.parquet"
    pq.write_table(pa.table({"id": [1], "city": ["Oslo"]}), whole)
    (shell.folder / "cut.parquet").write_bytes(whole.read_bytes()[:40] + whole.read_bytes()[-12:])
    (shell.folder / "deep.jsonl").write_text("[" * 100_000, encoding="utf-8")
    (shell.folder / "open.csv").write_text('row,note\n0,"x\n1,y\n', encoding="utf-8")
    assert shell("plan", "rows.csv", "--save-as", "made.replyplan")[0] == 0
    shell.service.clear_requests()
    code, out, told = shell(*words.split())
    assert (code, out, told) == (2, "", [WRONG_INPUT[words]])
    assert shell.service.requests == []


def test_a_library_that_is_missing_is_no_fault_of_the_package(shell: Shell) -> None:
    (shell.folder / "rows.parquet").write_bytes(b"PAR1")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['pyarrow', 'pyarrow.parquet', 'polars', 'duckdb']));"
        "from replyio.cli import main; sys.exit(main(['plan', 'rows.parquet']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(shell.service), cwd=shell.folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    told = "replyio: rows.parquet: to read a .parquet file, install pyarrow, polars or duckdb\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_several_faults_are_a_list_with_one_on_each_line(shell: Shell) -> None:
    (shell.folder / "crm.csv").write_text("id,Citty,Notes,Website\n1,a,b,c\n", encoding="utf-8")
    code, _, told = shell("plan", "crm.csv")
    assert code == 2
    website = "if it is the domain_name, pass --column Website=domain_name; otherwise list it in --ignore"
    assert told == [
        "replyio: crm.csv refused before any request:",
        '  column "Citty" is not a field of a contact account; did you mean city? Otherwise, list it in --ignore',
        '  column "Notes" is not a field of a contact account; to leave it out, list it in --ignore',
        f'  column "Website" is not a field of a contact account; {website}',
    ]
    code, _, told = shell("update", "1", "--name", " ", "--company-size", "50-200")
    assert (code, told[0]) == (2, "replyio: update of account 1 refused before any request:")
    assert told[1] == "  name must not be blank"
    assert told[2].startswith("  company_size must be one of")
    (shell.folder / "wide.csv").write_text("id," + ",".join(f"x{n}" for n in range(30)) + "\n", encoding="utf-8")
    told = shell("plan", "wide.csv")[2]
    assert (len(told), told[-1]) == (12, "  and 20 more")


def applied(shell: Shell) -> tuple[int, str, list[str]]:
    assert shell("plan", "rows.csv", "--save-as", "made.replyplan")[0] == 0
    shell.service.add_fault(Fault(method="PUT", id=1, status=400, body={"status": 400, "detail": LONG}, times=1))
    return shell("apply", "made.replyplan", "--limit", "2", "--format", "table")


def test_apply_ends_with_what_to_do_about_every_row_that_is_not_done(shell: Shell) -> None:
    code, out, told = applied(shell)
    assert code == 1
    show = "`replyio status made.replyplan --show failures` shows why"
    assert told == [
        f"replyio: 1 row failed; {show}, `replyio apply made.replyplan --retry-failed` retries them",
        f"replyio: 2 rows cannot be written; {show}; correct the table, then plan again with another --save-as",
        "replyio: 1 row left; `replyio apply made.replyplan` writes every row that is left",
    ]
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["pending", "1"], ["changed", "1"], ["failed", "1"], ["invalid", "1"], ["not_found", "1"],
    ]  # fmt: skip


def test_plan_says_which_rows_cannot_be_written(shell: Shell) -> None:
    told = shell("plan", "rows.csv", "--save-as", "made.replyplan")[2]
    assert told[0] == (
        "replyio: 2 rows cannot be written; `replyio status made.replyplan --show failures` shows why; correct the "
        "table, then plan again with --replace"
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_failures_give_the_reason_first_and_whole(columns: int, shell: Shell) -> None:
    applied(shell)
    _, out, _ = shell("status", "made.replyplan", "--show", "failures", "--format", "table", COLUMNS=str(columns))
    lines = out.splitlines()
    assert lines[0].split() == ["error", "row", "id", "status"]
    assert all(len(line) <= columns for line in lines), out
    assert "…" not in out
    assert LONG in " ".join(line[: lines[0].index("  row")].strip() for line in lines[1:])
    # Row and id have columns of their own.
    assert re.search(r"^update failed: 400 Bad Request .* 0 +1 +failed$", lines[1]), out
    assert re.search(r"^id must be a positive integer without a sign +2 +invalid$", out, re.MULTILINE), out
    by_domain = shell.folder / "domains.csv"
    by_domain.write_text("domain_name,city\n" + "x" * 60 + ".example,Oslo\n", encoding="utf-8")
    shell("plan", "domains.csv", "--match-on", "domain_name", "--save-as", "domains.replyplan")
    _, out, _ = shell("status", "domains.replyplan", "--show", "failures", "--format", "table", COLUMNS=str(columns))
    assert out.splitlines()[0].split() == ["error", "row", "key", "status"]
    assert all(len(line) <= columns for line in out.splitlines()), out


def test_a_program_gets_the_failures_as_before(shell: Shell) -> None:
    applied(shell)
    _, out, _ = shell("status", "made.replyplan", "--show", "failures", "--format", "csv")
    assert out.startswith("row,id,key,status,error,")


@pytest.mark.skipif(os.name == "nt", reason="a name that is no text")
def test_a_name_that_is_no_text_is_a_missing_file(shell: Shell) -> None:
    assert shell("plan", os.fsdecode(b"\xff.csv"))[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("patch", "1", "--city", "Oslo", "--city", "Bergen"),
        ("update", "1", "--json", "a.json", "--json", "b.json"),
        ("apply", "made.replyplan", "--act-as", "7", "--act-as=8"),
    ],
)
def test_an_option_with_two_values_is_refused(arguments: tuple[str, ...], shell: Shell) -> None:
    code, _, told = shell(*arguments)
    assert (code, shell.service.requests) == (2, [])
    assert f"argument {arguments[2]}: is given twice" in told[0]
