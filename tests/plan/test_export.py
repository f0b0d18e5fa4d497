"""A table of a plan as a file: every value as it is, in all forms, whole or not at all."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow.csv
import pyarrow.parquet
import pytest

import replyio
from replyio import Plan, PlanError
from replyio.sandbox import Sandbox
from support import environment, program

from .jobs import companies

HOSTILE = [
    "plain",
    "two\nlines",
    "two\r\nlines",
    "a lone\rreturn",
    'a "quote", and a comma',
    '"',
    "tab\tand;semicolon",
    " spaces around ",
    "Füße 👩‍🔬 日本 \u202e\u2028\x85",
    "NaN",
    "null",
    "0042",
    "=1+1",
    "+47 22 00 00 00",
    "-1",
    "@name",
    "'quoted",
    "\ufeffmark",
]
# Python's own reader of CSV takes it from 3.11 on.
NUL = "a\x00b"
KEY = "a-key-for-the-sandbox"
COLUMNS = {
    "rows": ["row", "id", "key", "status", "error", "repeated", "stored_otherwise", "done_at"],
    "changes": ["row", "id", "field", "before", "after", "status"],
    "failures": ["row", "id", "key", "status", "error", "repeated", "stored_otherwise", "done_at"],
}


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """A plan whose changes have hostile texts before and after, None and the empty text among them."""
    texts = [*HOSTILE, NUL]
    accounts = companies(len(texts) + 1)
    for account, text in zip(accounts, texts, strict=False):
        account["city"] = f"was {text}"
    accounts[-1]["city"] = None
    rows: list[dict[str, Any]] = [{"id": id, "city": text} for id, text in enumerate(texts, 1)]
    rows += [{"id": len(texts) + 1, "city": "x"}, {"id": 999, "city": "nowhere"}]
    accounts[0]["industry"] = ""
    rows[0] |= {"owner_user_id": 43, "industry": "Fish"}
    with Sandbox(accounts=accounts) as sandbox, sandbox.client() as client:
        path = tmp_path / "a.replyplan"
        yield client.plan_contact_account_updates(rows, save_as=path, nulls="clear", progress=False)


@pytest.mark.parametrize("for_spreadsheet", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_every_value_can_be_given_back(suffix: str, for_spreadsheet: bool, plan: Plan, tmp_path: Path) -> None:
    if for_spreadsheet and suffix == ".jsonl":
        return
    path = tmp_path / f"changes{suffix}"
    plan.export(path, "changes", for_spreadsheet=for_spreadsheet)
    rows = len({change["row"] for change in plan.changes})
    with pytest.raises(PlanError, match=rf"would change {rows} accounts"):
        plan.apply(rows=path, max_changes=0, progress=False)


def from_csv(path: Path) -> list[dict[str, str | None]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def as_read(rows: Any) -> list[dict[str, str]]:
    """What is left of rows in a file where everything is text, and None an empty one."""
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]


def lines(path: Path) -> list[dict[str, Any]]:
    # Not `splitlines`, which takes more for the end of a line than JSON Lines does.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.mark.parametrize("table", COLUMNS)
def test_every_table_comes_back_as_it_was(plan: Plan, table: Any, tmp_path: Path) -> None:
    rows = list(getattr(plan, table))
    assert rows
    assert list(rows[0]) == getattr(plan, table).columns == COLUMNS[table]
    for suffix in ("jsonl", "ndjson", "parquet"):
        path = tmp_path / f"{table}.{suffix}"
        assert plan.export(path, table) == len(rows)
        found = pyarrow.parquet.read_table(path).to_pylist() if suffix == "parquet" else lines(path)
        assert found == rows
        assert [list(row) for row in found[:1]] == [COLUMNS[table]]
        if table == "changes" and suffix != "parquet":
            assert "Füße 👩‍🔬 日本" in path.read_text(encoding="utf-8"), "readable, not escaped"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="its reader of CSV takes no NUL")
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("table", COLUMNS)
def test_separated_values_come_back_with_nothing_for_none(plan: Plan, table: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"{table}.{suffix}"
    assert plan.export(path, table) == len(getattr(plan, table))
    assert from_csv(path) == as_read(getattr(plan, table))


def test_readers_that_can_tell_none_from_an_empty_text_do(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "changes.csv"
    plan.export(path, "changes")
    path.write_bytes(path.read_bytes().replace(NUL.encode(), b"x"))
    expected = [
        {name: value.replace(NUL, "x") if isinstance(value, str) else value for name, value in row.items()}
        for row in plan.changes
    ]
    assert {row["before"] for row in expected} > {None, ""}
    text = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={"before": pyarrow.string(), "after": pyarrow.string()},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    found = text.select(["row", "before", "after"]).to_pylist()
    assert found == [{name: row[name] for name in ("row", "before", "after")} for row in expected]
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert frame["after"].tolist() == [row["after"] or "" for row in expected]
    assert pl.read_csv(path, infer_schema=False)["after"].to_list() == [row["after"] for row in expected]


def test_the_file_is_text_that_a_person_can_read(tmp_path: Path) -> None:
    with Sandbox(accounts=companies(2)) as sandbox, sandbox.client() as client:
        rows = [{"id": 1, "city": "Bergen", "industry": ""}, {"id": 2, "city": 'a "b"'}]
        result = client.patch_contact_accounts(rows, nulls="clear", progress=False)
    changes, outcome = tmp_path / "changes.csv", tmp_path / "rows.jsonl"
    assert (result.export(changes, "changes"), result.export(outcome)) == (3, 2)
    assert changes.read_bytes().decode() == (
        "row,id,field,before,after,status\n"
        "0,1,city,Oslo,Bergen,changed\n"
        "0,1,industry,Ships,,changed\n"
        '1,2,city,Oslo,"a ""b""",changed\n'
    )
    first = '{"row": 0, "id": 1, "key": null, "status": "changed", "error": null, "repeated": 0, '
    first += '"stored_otherwise": false, "done_at": "now"}\n'
    said = re.sub(r'"20[\d-]+T[\d:.]+Z"', '"now"', outcome.read_bytes().decode())
    assert said == first + first.replace('"row": 0, "id": 1', '"row": 1, "id": 2')


def test_a_table_without_rows_is_its_header(tmp_path: Path) -> None:
    with Sandbox() as sandbox, sandbox.client() as client:
        result = client.patch_contact_accounts([], progress=False)
    for suffix, content in (("csv", "row,id,key,status,error,repeated,stored_otherwise,done_at\n"), ("jsonl", "")):
        path = tmp_path / f"rows.{suffix}"
        assert result.export(path) == 0
        assert path.read_text() == content
    assert result.export(tmp_path / "rows.parquet", "changes") == 0
    assert pyarrow.parquet.read_schema(tmp_path / "rows.parquet").names == COLUMNS["changes"]


def test_a_spreadsheet_gets_no_formula_when_it_is_asked_for(plan: Plan, tmp_path: Path) -> None:
    exact, guarded = tmp_path / "exact.tsv", tmp_path / "guarded.tsv"
    plan.export(exact, "changes")
    plan.export(guarded, "changes", for_spreadsheet=True)
    assert guarded.read_bytes().startswith(b"\xef\xbb\xbfrow\t")
    texts = guarded.read_bytes().decode("utf-8-sig").replace(NUL, "x")
    cells = [cell for line in csv.reader(texts.splitlines(keepends=True), delimiter="\t") for cell in line]
    assert [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n"))] == []
    assert {"'=1+1", "'+47 22 00 00 00", "'-1", "'@name", "'quoted", "plain"} <= set(cells)
    assert "\t+47 22 00 00 00\t" in exact.read_text(encoding="utf-8")


# What is there already


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("a.replyplan"))


def test_a_file_that_is_there_stays_unless_it_is_to_be_replaced(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="already exists; overwrite=True replaces it") as caught:
        plan.export(path)
    assert caught.value.filename == str(path)
    assert (path.read_text(), names(tmp_path)) == ("mine", ["rows.csv"])
    assert plan.export(path, overwrite=True) == len(plan.rows)
    assert path.read_text().startswith("row,id,")
    assert names(tmp_path) == ["rows.csv"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_comes_meanwhile_stays(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    path = tmp_path / "rows.csv"
    link = os.link

    def late(source: str, target: Path) -> None:
        path.write_text("somebody else's")
        if not links:
            raise OSError(errno.EPERM, "Operation not permitted")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(FileExistsError, match="already exists"):
        plan.export(path)
    assert (path.read_text(), names(tmp_path)) == ("somebody else's", ["rows.csv"])
    path.unlink()
    monkeypatch.setattr(os, "link", link if links else lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    assert plan.export(path) == len(plan.rows)
    assert names(tmp_path) == ["rows.csv"]


def test_a_plan_is_never_replaced_by_its_own_export(tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    with (
        Sandbox(accounts=companies(1)) as sandbox,
        sandbox.client() as client,
        client.plan_contact_account_updates([{"id": 1, "city": "x"}], save_as=path, progress=False) as plan,
    ):
        (tmp_path / "other.csv").symlink_to(path)
        kept = path.read_bytes()
        for target in (path, tmp_path / "other.csv"):
            with pytest.raises(replyio.PlanError, match="is the plan itself; export to another file"):
                plan.export(target, overwrite=True)
        assert path.read_bytes() == kept


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_its_owner_only_can_read_it(plan: Plan, tmp_path: Path) -> None:
    open_to_all = tmp_path / "replaced.csv"
    open_to_all.write_text("x")
    open_to_all.chmod(0o666)
    plan.export(open_to_all, overwrite=True)
    for suffix in ("csv", "jsonl", "parquet"):
        plan.export(tmp_path / f"rows.{suffix}")
    for name in names(tmp_path):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name


# What goes wrong


FULL = """
    import resource, signal, sys
    import replyio
    plan = replyio.read_plan({plan!r})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
    try:
        plan.export({path!r}, overwrite={overwrite})
    except OSError as error:
        print(error.errno, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_that_finds_no_room_leaves_nothing_under_its_name(suffix: str, tmp_path: Path) -> None:
    saved, folder = tmp_path / "a.replyplan", tmp_path / "exports"
    folder.mkdir()
    there, new = folder / f"there.{suffix}", folder / f"new.{suffix}"
    there.write_text("before")
    with Sandbox(accounts=companies(50)) as sandbox, sandbox.client(api_key=KEY) as client:
        rows = [{"id": id, "city": "x"} for id in range(1, 51)]
        client.plan_contact_account_updates(rows, save_as=saved, progress=False).close()
        for path, overwrite in ((new, False), (there, True)):
            code = FULL.format(plan=str(saved), path=str(path), overwrite=overwrite)
            done = subprocess.run(
                program(code), env=environment(), capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            said = f"[Errno {errno.EFBIG}] File too large; replyio kept no part of the export: {str(path)!r}"
            assert done.stdout == f"{errno.EFBIG} {said}\n"
    assert [path.name for path in folder.iterdir()] == [there.name]
    assert there.read_text() == "before"


def test_ctrl_c_leaves_nothing(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plan.export(tmp_path / "rows.csv")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rows.xlsx", {}, "path must end in .csv, .tsv, .jsonl, .ndjson or .parquet, not in '.xlsx'"),
        ("rows", {}, "path must end in .csv, .tsv, .jsonl, .ndjson or .parquet, not in ''"),
        ("rows.csv", {"table": "counts"}, "table must be one of rows, changes, failures, suspicious_changes"),
        ("rows.jsonl", {"for_spreadsheet": True}, "for_spreadsheet is for .csv and .tsv, not for .jsonl"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    plan: Plan, name: str, options: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(replyio.ValidationError) as caught:
        plan.export(tmp_path / name, **options)
    assert str(caught.value) == f"export refused: {message}"
    assert [f"{each.field} {each.message}" for each in caught.value.errors] == [message]
    assert names(tmp_path) == []


def test_a_folder_that_is_not_there_is_told_by_the_name_that_was_given(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "rows.csv"
    with pytest.raises(FileNotFoundError) as caught:
        plan.export(path)
    assert caught.value.filename == str(path)


def test_a_plan_that_was_closed_exports_all_the_same(plan: Plan, tmp_path: Path) -> None:
    plan.close()
    assert plan.export(tmp_path / "rows.csv") == sum(plan.counts.values())
    assert names(tmp_path) == ["rows.csv"]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Takes libraries away."""

    def take(*libraries: str) -> None:
        for library in [*sys.modules]:
            if library.partition(".")[0] in libraries:
                monkeypatch.setitem(sys.modules, library, None)

    return take


def test_parquet_is_written_by_whichever_library_there_is(
    plan: Plan, tmp_path: Path, without: Callable[..., None]
) -> None:
    expected = list(plan.changes)
    without("pyarrow")
    plan.export(tmp_path / "changes.parquet", "changes")
    assert pl.read_parquet(tmp_path / "changes.parquet").to_dicts() == expected
    without("pyarrow", "polars")
    with pytest.raises(ImportError, match=r"to write a \.parquet file, install pyarrow or polars"):
        plan.export(tmp_path / "rows.parquet")
    assert names(tmp_path) == ["changes.parquet"]


def test_many_rows_are_taken_in_steps(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replyio._export._STEP", 8)
    plan.export(tmp_path / "changes.jsonl", "changes")
    assert lines(tmp_path / "changes.jsonl") == list(plan.changes)
    assert len(plan.changes) % 8


def test_the_command_exports_what_it_would_show(plan: Plan, tmp_path: Path) -> None:
    expected, saved = list(plan.failures), tmp_path / "a.replyplan"
    made_for = str(plan._file.header()["base_url"])
    plan.close()

    def status(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "replyio", "status", str(saved), *arguments]
        variables = environment(REPLY_BASE_URL=made_for, REPLY_API_KEY=KEY)
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert status("--export", "f.jsonl", "--show", "failures") == (1, "", "replyio: 1 row written to f.jsonl\n")
    assert lines(tmp_path / "f.jsonl") == expected
    told = "replyio: --export f.jsonl: already exists; --overwrite replaces it\n"
    assert status("--export", "f.jsonl") == (2, "", told)
    assert status("--export", "f.jsonl", "--overwrite") == (1, "", "replyio: 21 rows written to f.jsonl\n")
    assert status("--export", "f.csv", "--for-spreadsheet")[0] == 1
    assert (tmp_path / "f.csv").read_bytes().startswith(b"\xef\xbb\xbfrow,id,")
    told = "replyio: export refused: path must end in .csv, .tsv, .jsonl, .ndjson or .parquet, not in '.txt'\n"
    assert status("--export", "f.txt") == (2, "", told)
    assert status("--overwrite") == (2, "", "replyio: --overwrite needs --export FILE\n")
