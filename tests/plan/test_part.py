"""A run may take up some of a plan's rows only, and refuses to do more than it may."""

from __future__ import annotations

import contextlib
import csv
import sqlite3
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from replyio import ConfigurationError, PlanError, ValidationError
from replyio._replyio import Table
from replyio._selection import _lines
from replyio.sandbox import Fault, Sandbox

from .jobs import companies, do, id_of, moves, plan, puts, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from replyio import Plan, ReplyClient

MODES = ["sync", "async"]
ROWS = [{"id": id, "city": f"Bergen {id}", "industry": "Fish"} for id in range(1, 7)]


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(10)) as sandbox:
        yield sandbox


@pytest.fixture
def client(service: Sandbox) -> Iterator[ReplyClient]:
    with service.client(quota=None) as client:
        yield client


@pytest.fixture
def made(client: ReplyClient) -> Plan:
    return plan(client, "sync", ROWS)


@pytest.mark.parametrize("mode", MODES)
def test_rows_may_come_from_a_cursor_that_belongs_to_its_thread(mode: str, made: Plan) -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        cursor = database.execute("VALUES (0), (2)")
        assert do(made, "apply", mode, rows=(row for (row,) in cursor)).counts == {"changed": 2, "pending": 4}


def csv_without_row_two(made: Plan, tmp_path: Path, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """Exported changes from which somebody deleted the lines of row 2."""
    path = tmp_path / "changes.csv"
    lines = [{name: "" if value is None else value for name, value in each.items()} for each in made.changes]
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(line for line in lines if line["row"] != 2)
    return path


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "numbers": lambda *_: [0, 1, 3, 4, 5],
    "a generator": lambda *_: (row for row in (0, 1, 3, 4, 5, 5)),
    "a series": lambda *_: pd.Series([0, 1, 3, 4, 5]),
    "lines of the plan": lambda made, _: [line for line in made.changes if line["row"] != 2],
    "pandas": lambda made, _: made.changes.to_pandas().query("row != 2"),
    "floats of pandas": lambda *_: pd.DataFrame({"row": [0.0, 1.0, 3.0, 4.0, 5.0]}),
    "polars": lambda made, _: made.changes.to_polars().filter(pl.col("row") != 2),
    "pyarrow": lambda made, _: pa.table(made.changes.to_polars().filter(pl.col("row") != 2)),
    "rows": lambda made, _: made.rows.to_polars().filter(pl.col("row") != 2),
    "other spellings": lambda made, _: [
        {"Row ": line["row"], "ID": line["id"], "Field": line["field"]} for line in made.changes if line["row"] != 2
    ],
    "a column named like a method": lambda *_: pd.DataFrame({"row": [0, 1, 3, 4, 5], "collect": 0, "fetchall": 0}),
    "an index": lambda made, _: made.changes.to_pandas().query("row != 2").set_index(["row", "id"]),
    "duckdb": lambda *_: duckdb.sql("SELECT UNNEST([0, 1, 3, 4, 5]) AS row"),
    "a file": csv_without_row_two,
    "a file in UTF-16": lambda made, folder: csv_without_row_two(made, folder, "\t", "utf-16"),
    "a file with semicolons": lambda made, folder: csv_without_row_two(made, folder, ";", "utf-8-sig"),
    "the name of a file": lambda made, folder: str(csv_without_row_two(made, folder)),
}


@pytest.mark.parametrize("form", FORMS)
def test_only_the_rows_that_are_named_are_written(form: str, made: Plan, service: Sandbox, tmp_path: Path) -> None:
    result = do(made, "apply", rows=FORMS[form](made, tmp_path))
    assert statuses(result.rows) == ["changed", "changed", "pending", "changed", "changed", "changed"]
    assert {id_of(request) for request in puts(service)} == {1, 2, 4, 5, 6}
    assert do(made, "apply").counts == {"changed": 6}


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("table", ["changes", "rows"])
def test_every_export_can_be_given_back(suffix: str, table: Any, made: Plan, tmp_path: Path) -> None:
    path = tmp_path / f"export{suffix}"
    made.export(path, table)
    assert do(made, "apply", rows=path).counts == {"changed": 6}


TABLES_TO_READ = {
    "a line that names the separator": "sep=;\r\nrow;note\r\n0;a,b\r\n3;\r\n",
    "empty lines": "\n\nrow,note\n,\n0,x\n\n ,\n3,y\n,\n",
    "an index of pandas": ",row,note\n0,0,x\n1,3,y\n",
    "floats of pandas": "row,id\n0.0,1.0\n3.0,4.0\n",
    "one column": "row\n0\n3\n",
    "two columns of a name that replyio does not use": "note,note,Row\nx,y,0\nx,y,3\n",
    "quoted line ends and quotes": 'note,row\n"a ""b"", \nc",0\n"\r\n",3\n',
    "NUL and other separators": "row|note\r0|\0\r3|\u2028\x0b\r",
    "a long field": f'row,note\n0,{"x" * 400_000}\n3,"{"y" * 400_000}"\n',
}


@pytest.mark.parametrize("content", TABLES_TO_READ)
def test_the_file_of_a_spreadsheet_is_read(content: str, made: Plan, tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    path = tmp_path / "approved.csv"
    path.write_text(TABLES_TO_READ[content], encoding="utf-8", newline="")
    assert statuses(do(made, "apply", rows=path).rows) == [
        "changed", "pending", "pending", "changed", "pending", "pending",
    ]  # fmt: skip
    assert csv.field_size_limit() == limit


def test_a_long_value_is_given_back(client: ReplyClient, tmp_path: Path) -> None:
    made = plan(client, "sync", [{"id": 1, "description": "long, " * 40_000}])
    for suffix in (".csv", ".jsonl"):
        made.export(tmp_path / f"changes{suffix}", "changes")
        assert do(made, "apply", rows=tmp_path / f"changes{suffix}").counts == {"changed": 1}


FILES_TO_REFUSE = {
    "a space after a comma": ("a.csv", "row, id, field, before, after\n0,999,city,Oslo,Molde\n", "another id"),
    "other capitals": ("a.csv", "row,ID,Field,Before,After\n0,1,city,Oslo,Molde\n", "value in `after` differs"),
    "one column twice": ("a.csv", "row,row\n0,2\n", "the column `row` is there twice"),
    "one column in two spellings": ("a.csv", "row,id,ID\n0,1,2\n", "the column `id` is there twice"),
    "one member twice": ("a.jsonl", '{"row": 0, "row": 2}\n', "line 1: the column `row` is there twice"),
    "one member in two spellings": ("a.jsonl", '{"row": 0, "Row": 2}\n', "line 1: the column `row` is there twice"),
    "after without field": ("a.csv", "row,after\n0,Molde\n", "the column `after` but not `field`"),
    "before without field": ("a.jsonl", '{"row": 0, "before": "x"}\n', "line 1: .* column `before` but not `field`"),
    "an open quote": ("a.csv", 'row,id,note\n0,1,"abc\n1,2,x\n2,3,y\n', "line 2: the file is not CSV: .*never closed"),
    "a quote in a field": ("a.csv", 'row,note\n0,a "b\n', "line 2: the file is not CSV: .* twice"),
    "text after a quote": ("a.csv", 'note,row\n"a\nb" c,0\n', "line 3: the file is not CSV: .* twice"),
    "a space before a quote": ("a.csv", 'row,note\n0, "b"\n', "line 2: the file is not CSV: .* twice"),
    "a field too many": ("a.csv", "row,id\n0,1\n\n1,2,5\n", "line 4 has 3 fields, but the first line has 2"),
    "a field too few": ("a.csv", "row,id,note\n0,1\n", "line 2 has 2 fields, but the first line has 3"),
    "one field": ("a.csv", "row,id,note\n0\n", "line 2 has 1 field, but the first line has 3"),
    "two separators": ("a.csv", "row,a;row\n0,1;2\n", "separated by comma or semicolon"),
    "no number": ("a.csv", "row,id\n0,1\nx,2\n", "line 3: a row number must be a whole number"),
    "an empty number": ("a.csv", "row,id\n,2\n", "line 2: a row number must be a whole number"),
    "a number of many digits": ("a.csv", f"row\n{'1' * 5_000}\n", "line 2: a row number must be a whole number"),
    "nothing": ("a.csv", "", "no column `row`"),
    "no object": ("a.jsonl", '{"row": 0}\n\n[0]\n', "line 3 is not a JSON object"),
    "no JSON": ("a.jsonl", '{"row": 0}\n{"row": 0\n', "line 2 is not a JSON object"),
    "half a character": ("a.csv", b"\xff\xfer\0o\0w\0\n", "the file is not valid UTF-16"),
}


@pytest.mark.parametrize("file", FILES_TO_REFUSE)
def test_a_file_that_can_be_read_in_two_ways_is_refused(
    file: str, made: Plan, service: Sandbox, tmp_path: Path
) -> None:
    name, content, message = FILES_TO_REFUSE[file]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    service.clear_requests()
    with pytest.raises(ValidationError, match=message):
        do(made, "apply", rows=tmp_path / name)
    assert service.requests == []


def test_an_id_of_a_row_without_an_account_must_be_empty(client: ReplyClient) -> None:
    made = plan(client, "sync", [*moves([1]), {"id": "x", "city": "Bergen"}])
    with pytest.raises(ValidationError, match="row 1 of the plan has another id"):
        do(made, "apply", rows=[{"row": 1, "id": "y"}])
    assert do(made, "apply", rows=made.rows).counts == {"changed": 1, "invalid": 1}


def test_no_rows_are_none(made: Plan, service: Sandbox) -> None:
    for none in ([], pd.DataFrame({"row": []})):
        assert do(made, "apply", rows=none).counts == {"pending": 6}
    assert do(made, "apply", limit=0).counts == {"pending": 6}
    assert puts(service) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_limit_takes_the_first_rows_and_the_next_run_the_next(mode: str, made: Plan, service: Sandbox) -> None:
    assert statuses(do(made, "apply", mode, limit=2).rows) == ["changed"] * 2 + ["pending"] * 4
    assert statuses(do(made, "apply", mode, rows=[0, 3, 4, 5], limit=2).rows) == [
        "changed", "changed", "pending", "changed", "changed", "pending",
    ]  # fmt: skip
    assert do(made, "apply", mode, limit=100).counts == {"changed": 6}
    assert len(puts(service)) == 6


def test_a_limit_is_not_used_up_by_rows_that_no_run_can_end(made: Plan, service: Sandbox) -> None:
    service.add_fault(Fault(id=made.rows[0]["id"], method="PUT", status=504))
    for _ in range(6):
        do(made, "apply", limit=1)
    assert statuses(made.rows) == ["unknown"] + ["changed"] * 5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([99], "row 99 is not in the plan"),
        ([-1], "whole number, 0 or greater"),
        ([True], "whole number, 0 or greater"),
        ([1.5], "whole number, 0 or greater"),
        (["x"], "whole number, 0 or greater"),
        (pd.DataFrame({"id": [1]}), "no column `row`"),
        ([{"id": 1}], "no column `row`"),
        ([{"row": 0, "id": 2}], "row 0 of the plan has another id"),
        ([{"row": 0, "id": "none"}], "row 0 of the plan has another id"),
        (7, "must be row numbers or a table"),
        ("nowhere.csv", "cannot be read: No such file"),
        ("nowhere.txt", r"must end in \.csv, .* or \.parquet$"),
        ("nowhere.xlsx", r"must end in \.csv, .*; save the sheet as CSV first"),
        ("nowhere\0.csv", "contains a null character"),
        (pl.LazyFrame({"row": [0]}), r"not LazyFrame; collect\(\) it first"),
        ([{"row": 0, "Row": 1}], "the column `row` is there twice"),
        (pa.table([[0], [1]], names=["row", "row"]), "the column `row` is there twice"),
        (pd.DataFrame([[0, 1]], columns=["row", "Row"]), "the column `row` is there twice"),
        (pd.DataFrame({"row": [0], "after": ["Molde"]}), "the column `after` but not `field`"),
        ([{"row": 0, "after": "Bergen 1"}], "the column `after` but not `field`"),
        (pd.DataFrame({"row": [0]}, index=pd.Index([2], name="id")), "row 0 of the plan has another id"),
        ([{"row": 0, "field": "city"}, {"row": 0, "field": "industry"}, {"row": 1}], "row 1 has a line without"),
        ([{"row": 0, "field": "city"}], "row 0 also changes industry"),
        ([{"row": 0, "field": "phone"}], "does not change the field 'phone'"),
        (
            [{"row": 0, "field": "city", "after": "Molde"}, {"row": 0, "field": "industry", "after": "Fish"}],
            "row 0, city: the value in `after` differs from the plan",
        ),
        (
            [{"row": 0, "field": "city", "before": "Molde"}, {"row": 0, "field": "industry"}],
            "row 0, city: the value in `before` differs from the plan",
        ),
        (
            [{"row": 0, "field": "city", "after": "Bergen 1 "}, {"row": 0, "field": "industry"}],
            "row 0, city: the value in `after` differs from the plan",
        ),
    ],
)
def test_rows_that_are_not_the_plans_are_refused_before_anything_is_sent(
    rows: Any, message: str, made: Plan, service: Sandbox
) -> None:
    service.clear_requests()
    with pytest.raises(ValidationError, match=message):
        do(made, "apply", rows=rows)
    assert service.requests == []
    assert made.counts == {"pending": 6}


INTEGERS_IN_TEXT = [
    "1", "0001", " 1\xa0", "1.0", "12.00", "1.000", "2.000", "12.000", "1.000.000", "4.0000", "4711.000", "4711.",
    "4711,0", "1'000", "1 000", "4.7E+03", "+1", "True", "٤٢", "1_0", "9007199254740991.0", "9007199254740993.0",
    "1" * 19, "9" * 19, "1\u200b", "1.00000", "",
]  # fmt: skip


@pytest.mark.parametrize("text", INTEGERS_IN_TEXT, ids=repr)
def test_a_text_is_a_row_where_a_table_reads_it_as_an_id(text: str) -> None:
    table = Table([{"id": text}, {"id": 1}], {})
    expected = None if any(row == 0 for row, _, _ in table.faults) else table.row(0)["id"]
    if expected is None:
        with pytest.raises(ValidationError, match="a row number must be a whole number, 0 or greater"):
            list(_lines([text]))
    else:
        assert [row for row, _ in _lines([text])] == [expected]


@pytest.mark.parametrize("form", ["texts", "a file", "JSON Lines"])
def test_a_thousands_separator_names_no_row(form: str, made: Plan, service: Sandbox, tmp_path: Path) -> None:
    service.clear_requests()
    for text in ("1.000", "2.000", "1.000.000"):
        (tmp_path / "a.csv").write_text(f"row;ok\n{text};ja\n", encoding="utf-8")
        (tmp_path / "a.jsonl").write_text(f'{{"row": "{text}"}}\n', encoding="utf-8")
        rows: Any = {"texts": [text], "a file": tmp_path / "a.csv", "JSON Lines": tmp_path / "a.jsonl"}[form]
        with pytest.raises(ValidationError, match="a row number must be a whole number, 0 or greater"):
            do(made, "apply", rows=rows)
        with pytest.raises(ValidationError, match="row 1 of the plan has another id"):
            do(made, "apply", rows=[{"row": 1, "id": "2.000"}])
    assert service.requests == []


NUMBERS = [1.0, np.float32(1), np.int8(1), Decimal(1), Decimal("1.00")]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_a_whole_number_of_any_type_names_a_row(number: Any, made: Plan) -> None:
    assert do(made, "apply", rows=[{"row": number, "id": type(number)(2)}]).counts == {"pending": 5, "changed": 1}


@pytest.mark.parametrize(
    "number", [2.0**53, Decimal("1.5"), Decimal("NaN"), Decimal("Infinity"), Decimal("1e999999999")]
)
def test_a_number_that_is_not_exactly_a_row_names_none(number: Any, made: Plan) -> None:
    with pytest.raises(ValidationError, match="a row number must be a whole number, 0 or greater"):
        do(made, "apply", rows=[number])


@pytest.mark.parametrize("number", ["0.99999999999999999999", "1.0000000000000000000001"])
def test_a_number_of_json_is_not_rounded_to_a_row(number: str, made: Plan, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"row": {number}}}\n', encoding="utf-8")
    with pytest.raises(ValidationError, match="line 1: a row number must be a whole number, 0 or greater"):
        do(made, "apply", rows=path)
    path.write_text(f'{{"row": 1, "id": {number}}}\n', encoding="utf-8")
    with pytest.raises(ValidationError, match="another id"):
        do(made, "apply", rows=path)
    path.write_text('{"row": 1.0, "id": 2.0}\n', encoding="utf-8")
    assert do(made, "apply", rows=path).counts == {"pending": 5, "changed": 1}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_would_change_more_than_it_may_sends_nothing(mode: str, made: Plan, service: Sandbox) -> None:
    service.clear_requests()
    with pytest.raises(PlanError, match="would change 6 accounts, but max_changes=5 allows 5"):
        do(made, "apply", mode, max_changes=5)
    assert service.requests == []
    assert made.counts == {"pending": 6}
    assert do(made, "apply", mode, max_changes=2, limit=2).counts == {"changed": 2, "pending": 4}
    assert do(made, "apply", mode, max_changes=4).counts == {"changed": 6}


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_would_empty_more_than_it_may_sends_nothing(
    mode: str, client: ReplyClient, service: Sandbox
) -> None:
    rows = [{"id": 1, "city": None, "industry": None}, {"id": 2, "city": "Bergen", "industry": None}]
    made = plan(client, mode, rows, nulls="clear")
    service.clear_requests()
    with pytest.raises(PlanError, match="would empty 3 fields, but max_cleared=2 allows 2"):
        do(made, "apply", mode, max_cleared=2)
    with pytest.raises(PlanError, match="would empty 1 field, but max_cleared=0 allows 0"):
        do(made, "apply", mode, max_cleared=0, rows=[1])
    assert service.requests == []
    assert do(made, "apply", mode, max_cleared=1, rows=[1]).counts == {"pending": 1, "changed": 1}
    assert do(made, "apply", mode, max_cleared=2).counts == {"changed": 2}


def test_a_one_shot_call_that_would_do_more_than_it_may_keeps_its_plan(client: ReplyClient, service: Sandbox) -> None:
    with pytest.raises(PlanError, match=r"max_changes=1 .* apply it with client\.open_plan"):
        client.patch_contact_accounts(ROWS, max_changes=1, progress=False)
    with pytest.raises(PlanError, match="max_cleared=0"):
        client.patch_contact_accounts([{"id": 1, "city": None}], nulls="clear", max_cleared=0, progress=False)
    assert puts(service) == []
    assert client.patch_contact_accounts(ROWS, max_changes=6, max_cleared=0, progress=False).counts == {"changed": 6}


@pytest.mark.parametrize("name", ["limit", "max_changes", "max_cleared"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", True, 2**70])
def test_a_number_that_is_none_is_refused(name: str, value: Any, made: Plan) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be None or a whole number from 0 to {2**63 - 1}$"):
        do(made, "apply", **{name: value})
    assert made.counts == {"pending": 6}


@pytest.mark.parametrize("missing", [None, pd.NA, pd.NaT, float("nan"), np.float32("nan"), Decimal("NaN")], ids=repr)
def test_a_missing_value_of_any_library_is_empty(missing: object, client: ReplyClient) -> None:
    made = plan(client, "sync", [{"id": 1, "state": "Viken"}])
    (change,) = made.changes
    assert change["before"] is None
    assert made.apply(rows=[{**change, "before": missing}], progress=False).counts == {"changed": 1}


@pytest.mark.parametrize("backend", ["string", "numpy_nullable", "pyarrow"])
def test_changes_in_nullable_types_are_given_back(backend: Any, client: ReplyClient, tmp_path: Path) -> None:
    path = tmp_path / "changes.csv"
    made = plan(client, "sync", [{"id": 1, "state": "Viken"}, {"id": 2, "city": "Molde"}])
    made.export(path, "changes", for_spreadsheet=True)
    options: Any = {"dtype": "string"} if backend == "string" else {"dtype_backend": backend}
    assert made.apply(rows=pd.read_csv(path, **options), progress=False).counts == {"changed": 2}


@pytest.mark.parametrize("text", ["NaT", "<NA>", "nan", "None"])
@pytest.mark.parametrize("approved", [None, pd.NA, pd.NaT, float("nan"), ""], ids=repr)
def test_an_emptied_value_is_not_the_name_of_a_missing_one(text: str, approved: object, client: ReplyClient) -> None:
    made = plan(client, "sync", [{"id": 1, "city": text}])
    (change,) = made.changes
    with pytest.raises(ValidationError, match="the value in `after` differs"):
        made.apply(rows=[{**change, "after": approved}], progress=False)
    assert made.apply(rows=[change], progress=False).counts == {"changed": 1}


@pytest.mark.parametrize("mode", MODES)
def test_overwriting_takes_up_rows_that_already_are_conflicts(mode: str, client: ReplyClient, service: Sandbox) -> None:
    made = plan(client, mode, moves([1, 2]))
    client.patch_contact_account(1, city="Molde")
    assert do(made, "apply", mode).counts == {"conflict": 1, "changed": 1}
    assert do(made, "apply", mode).counts == {"conflict": 1, "changed": 1}
    assert service.accounts[1].city == "Molde"
    assert do(made, "apply", mode, on_conflict="overwrite").counts == {"changed": 2}
    assert service.accounts[1].city == "Bergen 1"
    assert do(made, "revert", mode).counts == {"changed": 2}
    assert service.accounts[1].city == "Molde"
