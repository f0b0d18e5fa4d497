"""What may be given as a table, and what each cell in it means: every line of docs/tables.md."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import enum
import io
import json
import re
import subprocess
import sys
import types
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from replyio import ReplyClient, ValidationError
from replyio._replyio import Table
from replyio.models import CompanySize
from support import TEXT_FIELDS, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio.sandbox import Sandbox

PAGE = Path(__file__).parent.parent / "docs" / "tables.md"
LONG = "more than the twelve bytes of a view: æ 🜂"
TEXTS = ["Ωμέγα 🜂\0", "e\u0301", "\u00e9", "\u202e\u05e9\u05dc", "nan", " a ", LONG, None]


def rows(table: Table) -> list[dict[str, Any]]:
    return [table.row(number) for number in range(len(table))]


def read(data: object, **options: Any) -> list[dict[str, Any]]:
    table = Table(data, options)
    assert table.faults == []
    return rows(table)


def refusal(data: object, **options: Any) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Table(data, options)
    assert "\n" not in caught.value.message
    return caught.value


def page_lines(heading: str) -> list[list[str]]:
    """The lines of a section's table, cell by cell."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


# --- sources ---------------------------------------------------------------------------------------------------------

RECORDS = [{"id": 4711, "city": "Oslo", "owner_user_id": 7}, {"id": 4712, "city": None, "owner_user_id": 8}]
NAMES = list(RECORDS[0])
COLUMNS = {name: [record[name] for record in RECORDS] for name in NAMES}


@dataclasses.dataclass
class Row:
    id: int
    city: str | None
    owner_user_id: int


def from_file(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


class OnlyArray:
    """Something that knows no streams."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.batch.__arrow_c_array__(requested_schema)


def parquet(tmp_path: Path) -> Path:
    pl.DataFrame(COLUMNS).write_parquet(tmp_path / "year=2026 [a].parquet")
    return tmp_path / "year=2026 [a].parquet"


SOURCES: dict[str, Callable[[Path], object]] = {
    "pandas": lambda _: pd.DataFrame(COLUMNS),
    "pandas, the ids as index": lambda _: pd.DataFrame(COLUMNS).set_index("id"),
    "pandas, two columns as index": lambda _: pd.DataFrame(COLUMNS).set_index(["owner_user_id", "id"]),
    "pandas, an index without a name": lambda _: pd.DataFrame(COLUMNS, index=["x", "y"]),
    "pandas, a part": lambda _: pd.DataFrame(COLUMNS | {"id": [4711, 4712]}).iloc[0:2],
    "pandas, objects": lambda _: pd.DataFrame(COLUMNS, dtype=object),
    "pandas, categories": lambda _: pd.DataFrame(COLUMNS).astype({"city": "category"}),
    "pandas, nullable": lambda _: pd.DataFrame(COLUMNS).convert_dtypes(),
    "polars": lambda _: pl.DataFrame(COLUMNS),
    "polars, categories": lambda _: pl.DataFrame(COLUMNS).with_columns(pl.col("city").cast(pl.Categorical)),
    "polars, enum": lambda _: pl.DataFrame(COLUMNS).with_columns(pl.col("city").cast(pl.Enum(["Oslo"]))),
    "polars, in pieces": lambda _: pl.concat([pl.DataFrame(COLUMNS)[:1], pl.DataFrame(COLUMNS)[1:]], rechunk=False),
    "pyarrow": lambda _: pa.table(COLUMNS),
    "pyarrow, a slice": lambda _: pa.table({name: [values[1], *values] for name, values in COLUMNS.items()}).slice(1),
    "pyarrow, a batch": lambda _: pa.RecordBatch.from_pydict(COLUMNS),
    "pyarrow, a reader": lambda _: pa.table(COLUMNS).to_reader(max_chunksize=1),
    "an array": lambda _: OnlyArray(pa.RecordBatch.from_pydict(COLUMNS)),
    "duckdb": lambda _: duckdb.connect().sql(
        "select * from (values (4711, 'Oslo', 7), (4712, null, 8)) as accounts(id, city, owner_user_id)"
    ),
    "mappings": lambda _: RECORDS,
    "a generator": lambda _: (record for record in RECORDS),
    "other mappings": lambda _: [types.MappingProxyType(record) for record in RECORDS],
    "dataclasses": lambda _: [Row(**record) for record in RECORDS],
    "csv": lambda folder: from_file(folder, "a.csv", "id,city,owner_user_id\n4711,Oslo,7\n4712,,8\n"),
    "csv as a text": lambda folder: str(
        from_file(folder, "a.CSV", '\ufeffid,city,owner_user_id\r\n4711,Oslo,7\r\n\r\n4712,"",8')
    ),
    "tsv": lambda folder: from_file(folder, "a.tsv", "id\tcity\towner_user_id\n4711\tOslo\t7\n4712\t\t8\n"),
    "json lines": lambda folder: from_file(folder, "a.jsonl", "\n\n".join(json.dumps(record) for record in RECORDS)),
    "ndjson": lambda folder: from_file(folder, "a.ndjson", "\ufeff" + "\r\n".join(map(json.dumps, RECORDS))),
    "parquet": parquet,
}  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_gives_the_same_table(source: str, tmp_path: Path) -> None:
    assert read(SOURCES[source](tmp_path)) == RECORDS


def test_the_page_names_every_source() -> None:
    assert len(page_lines("What is taken")) == 7


def test_a_list_of_accounts_is_a_table(configured: Sandbox) -> None:
    ignore = ["linked_prospects_count", "created_date", "last_activity_date", "stage", "stage_id", "stage_name",
              "stage_color_id", "email_provider"]  # fmt: skip
    with ReplyClient() as client:
        table = Table(client.list_contact_accounts(), {"ignore": ignore})
        accounts = list(client.list_contact_accounts())
    assert rows(table) == rows(Table(accounts, {}))
    assert [row["id"] for row in rows(table)] == list(configured.accounts)


@pytest.mark.usefixtures("configured")
def test_an_account_has_no_id_for_those_who_match_by_name() -> None:
    with ReplyClient() as client:
        account = client.get_contact_account(4711)
    assert "id" not in read([account], match_on="name")[0]


def test_what_a_generator_raises_is_passed_on() -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield {"id": 1}
        raise KeyError("half-way")

    with pytest.raises(KeyError, match="half-way"):
        Table(breaks(), {})


def test_what_a_query_raises_is_passed_on() -> None:
    with pytest.raises(duckdb.Error, match="on purpose"):
        Table(duckdb.connect().sql("select 1 as id, error('on purpose') as city"), {})


def test_a_stream_that_breaks_is_an_error_and_no_short_table() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"id": [1]})
        raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        Table(pa.RecordBatchReader.from_batches(pa.schema({"id": pa.int64()}), batches()), {})


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ({"id": [1]}, "not dict; give the columns of a dict to pandas.DataFrame"),
        (pl.LazyFrame({"id": [1]}), r"not LazyFrame; call its collect\(\) first"),
        (b"a.csv", "not bytes; give a path as text"),
        (5, "not int"),
        (None, "not NoneType"),
        (pl.Series([1]), "this Series is none: it is a single column"),
        (["a"], "row 0 must be a mapping or a dataclass instance, not str"),
        ([{"id": 1}, Row], "row 1 must be a mapping or a dataclass instance, not type"),
        ([{"id": 1}, {5: 1}], "row 1 has a column that is named by int, not by text"),
    ],
)
def test_what_is_no_table_is_a_type_error(data: object, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        Table(data, {})


@pytest.mark.parametrize("data", [[], iter(()), pd.DataFrame(), pl.DataFrame(), pa.table({})])
def test_no_rows_are_a_table_too(data: object) -> None:
    assert read(data, mode="replace") == []


@pytest.mark.parametrize("data", [[{}, {}], pd.DataFrame(index=range(2)), pl.DataFrame({"x": [1, 2]})])
def test_rows_without_a_column_to_match_on_are_refused(data: object) -> None:
    assert [fault.field for fault in refusal(data, ignore=["x"]).errors] == ["id"]


def test_a_row_that_is_null_as_a_whole_is_refused() -> None:
    structs = pa.array([{"id": 1}, None], pa.struct([("id", pa.int64())]))
    for data in (structs, pa.chunked_array([structs])):
        with pytest.raises(ValueError, match="a row is null as a whole"):
            Table(data, {})


def test_a_column_of_polars_that_is_ignored_may_be_anything() -> None:
    frame = pl.DataFrame({"id": [1], "a": [[None]], "b": pl.Series([1], dtype=pl.Int128)})
    assert read(frame, ignore=["a", "b"]) == [{"id": 1}]


def test_no_rows_with_columns_are_a_table_too() -> None:
    for frame in (pd.DataFrame({"id": [], "city": []}), pl.DataFrame({"id": [], "city": []})):
        assert read(frame) == []


def test_a_file_that_is_not_there_is_told_as_python_tells_it(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        with pytest.raises(FileNotFoundError) as caught:
            Table(tmp_path / name, {})
        assert caught.value.filename == str(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match=r"folder\.csv"):
        Table(tmp_path / "folder.csv", {})


def test_another_ending_is_refused(tmp_path: Path) -> None:
    assert "a.xlsx refused before any request: the name must end in .csv" in str(refusal(tmp_path / "a.xlsx"))


BEHIND = 'has text behind the closing quote of a field; write each quote inside a quoted field twice ("")'


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"id,city\n1,a\n2,b,c\n", "line 3 has 3 fields, not 2 as the first line"),
        ("a.csv", b'id,city\n1,"a\n2,b\n', "line 2 opens a quote that is never closed"),
        (
            "a.csv",
            "id,city\n1,é\n".encode("latin-1"),
            'line 2 is not UTF-8; windows-1252 fits: give encoding="windows-1252", or save the file as UTF-8',
        ),
        ("a.csv", b"\xff\xfei\0d", "the file is not UTF-16LE"),
        ("a.csv", b'id,city\n1,"Oslo\n2,Bergen\n3,"Voss"\n', f"line 4 {BEHIND.replace('field;', 'field that was opened in line 2;')}"),
        ("a.csv", b'id,city\r\n1,a\r\n\r\n2,"Acme" Ltd\r\n', f"line 4 {BEHIND}"),
        ("a.csv", b'id,city\r1,a\r2,"Bar "Baz" Qux"\r', f"line 3 {BEHIND}"),
        ("a.csv", b'id,city\n1,"the \\"best\\" firm"\n', f"line 2 {BEHIND}"),
        ("a.csv", b'id,city\n1, "Oslo"\n', "line 2 has white space before a quote; remove the white space"),
        (
            "a.tsv",
            b'id\tcity\n1\t5" pipes\n',
            "line 2 has a quote inside a field without quotes; put the whole field in quotes and write each quote inside a "
            'quoted field twice ("")',
        ),
        ("a.csv", b"id,city,\n1,a,\n2,b,c\n", "line 3 has a value in column 3, which has no name in the first line"),
        ("a.csv", b"id,x;id\n", "line 1 may be separated by comma or by semicolon; say by which with delimiter="),
        ("a.csv", b"id," * 20_000, "line 1 has more than 16384 fields"),
        ("a.jsonl", json.dumps(dict.fromkeys(map(str, range(20_000)))).encode(), "line 1 has more than 16384 members"),
        ("a.jsonl", b'{"id": 1, "notes": "' + b"x" * 2**24 + b'"}', "line 1 is longer than 16 MiB"),
        ("a.jsonl", b'{"id": 1, "city": ' + b"[" * 10_000, "line 1 is not JSON, at column 10018"),
        ("a.csv", b"", "the file is empty; its first line must name the columns"),
        ("a.jsonl", b'{"id": 1}\n[]', "line 2 is no JSON object"),
        ("a.jsonl", b'{"id": 1}\n\n{"id": 1,}', "line 3 is not JSON, at column 10"),
        ("a.jsonl", b'{"id": 1, "id": 2}', "line 1 names id twice"),
        ("a.jsonl", b'{"id": 1, "city": "\\ud800"}', "line 1 is not JSON, at column 26"),
        ("a.jsonl", b'{"id": 1, "city": "\xff"}', "line 1 is not UTF-8; save the file as UTF-8"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name)
    assert error.message == f"{name} refused before any request: {reason}"
    assert [fault.message for fault in error.errors] == [reason]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("semicolons", b"id;city;country\r\n4711;Oslo, Norway;NO\r\n", {}),
        ("tabs", b"id\tcity\tcountry\n4711\tOslo, Norway\tNO\n", {}),
        ("bars", b"id|city|country\n4711|Oslo, Norway|NO\n", {}),
        ("a line for Excel", b"sep=;\r\nid;city;country\r\n4711;Oslo, Norway;NO\r\n", {}),
        ("a delimiter that is given", b"id^city^country\n4711^Oslo, Norway^NO\n", {"delimiter": "^"}),
        ("UTF-16", '\ufeffid,city,country\n4711,"Oslo, Norway",NO\n'.encode("utf-16-le"), {}),
        ("UTF-16, the other way round", '\ufeffid\tcity\tcountry\n4711\tOslo, Norway\tNO'.encode("utf-16-be"), {}),
        ("UTF-8 with a mark", b'\xef\xbb\xbfid,city,country\r\n4711,"Oslo, Norway",NO\r\n', {}),
        ("empty columns and rows", b'id,city,country,,\n,,,,\n4711,"Oslo, Norway",NO,, \n\n,,,,\n', {}),
        ("an id from a spreadsheet", b'id,city,country\n 4711.0 ,"Oslo, Norway",NO\n', {}),
        ("headers of people", b'ID,CITY, Country \n4711,"Oslo, Norway",NO\n', {}),
        ("words for nothing", b'id,city,country,state\n4711,"Oslo, Norway",NO,N/A\n', {"null_values": ["N/A"]}),
        ("other columns", b'Account,Town,country,x\n4711,"Oslo, Norway",NO,y\n',
         {"columns": {"Account": "id", "Town": "city"}, "ignore": "unknown"}),
    ],
)  # fmt: skip
def test_csv_as_people_have_it_is_read(
    name: str, content: bytes, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / f"{name}.csv").write_bytes(content)
    found = [{field: value for field, value in row.items() if value} for row in read(tmp_path / f"{name}.csv", **options)]
    assert found == [{"id": 4711, "city": "Oslo, Norway", "country": "NO"}]


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,city\n1,Tromsø\n".encode("cp1252"))
    assert read(path, encoding="cp1252") == read(path, encoding="windows-1252") == [{"id": 1, "city": "Tromsø"}]
    path.write_bytes("id,city\n1,東京\n".encode("shift_jis"))
    assert read(path, encoding="shift_jis") == [{"id": 1, "city": "東京"}]
    path.write_bytes(b"id,city\n1,\xff\n")
    assert "the file is not Shift_JIS" in str(refusal(path, encoding="sjis"))
    path.write_bytes("id,city\n1,é\n".encode("utf-16"))
    assert "UTF-16LE, not UTF-8 as in encoding=" in str(refusal(path, encoding="utf-8"))


def test_an_empty_cell_means_the_same_from_every_source(tmp_path: Path) -> None:
    text = "id,city,phone,name,owner_user_id,company_size\n1,Bergen,, ,,\n"
    path = from_file(tmp_path, "a.csv", text)
    record = next(csv.DictReader(io.StringIO(text)))
    types = pa.csv.ConvertOptions(column_types=dict.fromkeys(record, pa.string()))
    for data in (
        path,
        [record],
        pd.read_csv(path, dtype=str),
        pd.read_csv(path, dtype=str, keep_default_na=False),
        pd.read_csv(path, dtype=str, keep_default_na=False).astype(object),
        pd.read_csv(path, dtype=str, keep_default_na=False).astype("category"),
        pd.read_csv(path, dtype=str).fillna(""),
        pl.read_csv(path, infer_schema=False).with_columns(pl.all().fill_null("")),
        pa.csv.read_csv(path, convert_options=types),
        duckdb.connect().sql(f"select * replace (coalesce(phone, '') as phone) from read_csv('{path}', all_varchar=true)"),
        from_file(tmp_path, "a.jsonl", json.dumps(record)),
    ):
        expected = {name: None for name in record} | {"id": 1, "city": "Bergen"}
        assert read(data) == [expected]
        cleared = Table(data, {"nulls": "clear"})
        assert rows(cleared) == [expected]
        assert [column for _, column, _ in cleared.faults] == ["name", "owner_user_id"]


class Repeating(Mapping[str, Any]):
    """A mapping that gives a key twice, as a multidict does."""

    def __init__(self, *pairs: tuple[str, Any]) -> None:
        self.pairs = pairs

    def __getitem__(self, key: str) -> Any:
        return dict(self.pairs)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self.pairs))

    def __len__(self) -> int:
        return len(dict(self.pairs))

    def items(self) -> Any:
        return list(self.pairs)


@pytest.mark.parametrize("second", ["b", None, "a"])
def test_a_mapping_that_repeats_a_key_is_refused(second: object) -> None:
    data = [{"id": 1, "city": "z"}, Repeating(("id", 2), ("city", "a"), ("city", second)), {"id": 3, "city": "c"}]
    assert refusal(data).message == "table refused before any request: row 1 names city twice"
    assert [fault.message for fault in refusal(data).errors] == ["row 1 names city twice"]


def test_an_index_and_a_column_of_one_name_are_refused() -> None:
    frame = pd.DataFrame({"id": [2, 1], "city": ["a", "b"]}, index=pd.Index([1, 2], name="id"))
    said = "is a level of the index and a column; drop one with reset_index(level=0, drop=True)"
    assert [tuple(fault) for fault in refusal(frame).errors] == [("id", said)]
    assert read(frame.reset_index(level=0, drop=True)) == [{"id": 2, "city": "a"}, {"id": 1, "city": "b"}]
    frame.index.name = "notes"
    frame["notes"] = "x"
    assert len(read(frame, ignore=["notes"])) == 2
    levels = pd.MultiIndex.from_arrays([[1], [2]], names=["id", "id"])
    assert len(refusal(pd.DataFrame({"city": ["a"]}, index=levels)).errors) == 1
    other_spelling = pd.DataFrame({"linkedInUrl": ["a"]}, index=pd.Index(["b"], name="linked_in_url")).assign(id=1)
    assert "is given twice" in str(refusal(other_spelling))


@pytest.mark.parametrize(
    "data",
    [
        [{"id": 1, "linked_in_url": "a", "linkedInUrl": "b"}],
        [{"id": 1, "linked_in_url": "a"}, {"id": 2, "LinkedIn URL": "b"}],
        pd.DataFrame([[1, "a", "b"]], columns=["id", "City", "city"]),
        pl.DataFrame({"id": [1], "City": ["a"], "city": ["b"]}),
        pa.table([pa.array([1]), pa.array(["a"]), pa.array(["b"])], names=["id", "city", "city"]),
    ],
)
def test_two_columns_for_one_field_are_refused(data: object) -> None:
    assert ["is given twice" in fault.message for fault in refusal(data).errors] == [True]


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    for text in ("id,city,city\n1,a,b\n", "id,id\n1,2\n", "id,City,CITY\n1,a,\n"):
        assert "is given twice" in refusal(from_file(tmp_path, "a.csv", text)).errors[0].message


BOOLEANS: dict[str, Callable[[], object]] = {
    "pandas, objects": lambda: pd.Series([7, True], dtype=object),
    "pandas, objects with a float": lambda: pd.Series([7.0, True], dtype=object),
    "pandas, objects with nothing": lambda: pd.Series([7, None, True], dtype=object),
    "numpy.True_": lambda: pd.Series([7, np.True_], dtype=object),
    "numpy integers": lambda: pd.Series([np.int64(7), True], dtype=object),
    "nothing but objects": lambda: pd.Series([True, True], dtype=object),
    "booleans": lambda: pd.Series([True, False]),
    "nullable booleans": lambda: pd.Series([True, None], dtype="boolean"),
    "booleans of Arrow": lambda: pd.Series([True, None], dtype=pd.ArrowDtype(pa.bool_())),
    "categories": lambda: pd.Series([7, True], dtype=object).astype(pd.CategoricalDtype(pd.Index([7, True], dtype=object))),
    "sparse": lambda: pd.arrays.SparseArray([True, False]),
}


@pytest.mark.parametrize("kind", BOOLEANS)
@pytest.mark.parametrize("column", ["id", "owner_user_id"])
def test_a_boolean_is_never_an_integer(kind: str, column: str) -> None:
    values = BOOLEANS[kind]()
    frame = pd.DataFrame({"id": range(1, len(values) + 1)} | {column: values} | {"city": "Bergen"})
    try:
        table = Table(frame, {})
    except ValidationError as error:
        assert [fault.field for fault in error.errors] == [column]
        return
    truths = {number for number, value in enumerate(values) if value is True or isinstance(value, np.bool_)}
    assert truths
    assert {row for row, name, _ in table.faults if name == column} >= truths
    assert all(row.get(column) in {7, None} for row in rows(table))


@pytest.mark.parametrize(
    "array",
    [
        pa.array([True, False]),
        pa.array([True, False]).dictionary_encode(),
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([7, 7]), pa.array([True, True])]),
        pa.UnionArray.from_dense(
            pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([7]), pa.array([True])]
        ),
        pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([True])),
    ],
    ids=lambda array: str(array.type).split("<")[0],
)
def test_a_boolean_of_arrow_is_never_an_integer(array: pa.Array) -> None:
    assert [fault.field for fault in refusal(pa.table({"id": array})).errors] == ["id"]


def test_a_boolean_of_a_file_is_never_an_integer(tmp_path: Path) -> None:
    for name, content in (("a.csv", "id\nTrue\ntrue\n"), ("a.jsonl", '{"id": true}\n{"id": "true"}\n{"id": 5}')):
        assert {row for row, _, _ in Table(from_file(tmp_path, name, content), {}).faults} == {0, 1}


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [("float16", 2**11), ("float32", 2**24), ("float64", 2**53), ("Float32", 2**24), ("Float64", 2**53)],
)
def test_a_float_is_an_id_only_where_it_is_no_other(dtype: str, limit: int) -> None:
    exact, inexact = limit - 1, limit
    series = pd.Series([exact, inexact], dtype=dtype)
    frame = pd.DataFrame({"id": series, "city": "a"})
    mixed = frame.assign(city=pd.Series(["a", 5], dtype=object))
    records = frame.to_dict("records")
    ways: list[object] = [frame, mixed, records]
    if dtype != "float16":
        ways.append(pd.DataFrame({"id": series.astype("category")}))
    if dtype.startswith("f"):
        ways.append([{"id": value} for value in series.to_numpy()])
    if dtype in {"float32", "float64"}:
        ways.append(pl.DataFrame({"id": pl.Series(series.to_numpy())}))
    for data in ways:
        table = Table(data, {})
        # A dict of pandas has floats of Python, in which its 32 bits cannot be seen any more.
        expected = [1] if data is not records or limit == 2**53 else []
        assert [row for row, column, _ in table.faults if column == "id"] == expected, data
        assert table.row(0)["id"] == exact


def test_an_integer_in_a_file_is_exact_or_a_fault(tmp_path: Path) -> None:
    lines = "\n".join(f'{{"id": {number}}}' for number in ("9007199254740993.0", "1e16", "9007199254740993", "4711.0"))
    table = Table(from_file(tmp_path, "a.jsonl", lines), {})
    assert [row for row, _, _ in table.faults] == [0, 1]
    assert [table.row(row)["id"] for row in (2, 3)] == [2**53 + 1, 4711]
    table = Table(from_file(tmp_path, "a.csv", "id\n9007199254740993.0\n1e16\n9007199254740993\n4711.0\n"), {})
    assert [row for row, _, _ in table.faults] == [0, 1]
    assert [table.row(row)["id"] for row in (2, 3)] == [2**53 + 1, 4711]


def test_a_message_has_a_handful_of_faults_and_the_rest_as_a_number(tmp_path: Path) -> None:
    for data in (
        from_file(tmp_path, "a.csv", "id," + ",".join(f"column{number}" for number in range(10_000)) + "\n"),
        [dict.fromkeys([f"column{number}" for number in range(9_999)], 1)],
    ):
        error = refusal(data)
        assert len(error.errors) == 10_000
        assert error.message.endswith("; and 9,990 more")
        assert len(error.message) < 2_000
    assert len(refusal(from_file(tmp_path, "a.csv", f"id,{'linked_in_url' * 100_000}\n")).message) < 500


def test_what_is_suspicious_is_counted_and_kept() -> None:
    table = Table([{"id": 1, "city": "NULL", "phone": "4.91234E+11"}, {"id": 2, "city": "-"}], {})
    assert table.suspicions == [("city", 2, 0), ("phone", 1, 0)]
    assert table.row(0)["city"] == "NULL"
    assert Table([{"id": 1, "city": "NULL"}], {"null_values": ["NULL"]}).suspicions == []


@given(
    data=st.lists(
        st.lists(st.text(st.sampled_from('a",;\r\n \t|é'), max_size=4), min_size=2, max_size=2), min_size=1, max_size=3
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_csv_file_is_read_as_it_was_written_or_refused(data: list[list[str]], end: str, tmp_path: Path) -> None:
    text = end.join(["id,city,state", *(f"{number},{','.join(fields)}" for number, fields in enumerate(data, 1))])
    try:
        table = Table(from_file(tmp_path, "a.csv", text), {"delimiter": ","})
    except ValidationError:
        return
    # What is not refused is what any other strict reader finds.
    expected = [
        {"id": int(record[0]), **{name: value if value.strip() else None for name, value in zip(("city", "state"), record[1:], strict=True)}}
        for record in list(csv.reader(io.StringIO(text, newline=""), strict=True))[1:]
        if any(field.strip() for field in record)
    ]
    assert rows(table) == expected


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ImportError(name + " is not installed")
sys.meta_path.insert(0, Missing())
from replyio._replyio import Table
"""


def without(missing: set[str], program: str, *arguments: str) -> str:
    """What a program prints where some libraries are not installed."""
    code = WITHOUT.format(missing=missing) + program
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("missing", [{"pyarrow"}, {"pyarrow", "polars"}, {"duckdb", "polars"}])
def test_parquet_is_read_with_whichever_library_there_is(missing: set[str], tmp_path: Path) -> None:
    program = "table = Table(sys.argv[1], {}); print([table.row(0), table.row(1)], table.description)"
    path = parquet(tmp_path)
    assert without(missing, program, str(path)) == f"{RECORDS} {path.name}"


def test_parquet_without_a_library_says_which_to_install(tmp_path: Path) -> None:
    program = "try:\n  Table(sys.argv[1], {})\nexcept ImportError as error:\n  print(error)"
    said = without({"pyarrow", "polars", "duckdb"}, program, str(parquet(tmp_path)))
    assert said == "to read a .parquet file, install pyarrow, polars or duckdb"


def test_pandas_does_without_pyarrow() -> None:
    program = f"""
import pandas
for dtype in (None, object):
    frame = pandas.DataFrame({COLUMNS!r}, dtype=dtype)
    for frame in (frame, frame.set_index("id"), frame.set_index(["owner_user_id", "id"])):
        table = Table(frame, {{}})
        assert [table.row(0), table.row(1)] == {RECORDS!r} and not table.faults, [table.row(0), table.row(1)]
    table = Table(frame.assign(city=frame.city.astype("category")), {{}})
    assert table.row(1)["city"] is None
print("the same")
"""
    assert without({"pyarrow"}, program) == "the same"


# --- columns ---------------------------------------------------------------------------------------------------------


def test_the_page_names_every_column() -> None:
    assert len(page_lines("Columns")) == 11


@pytest.mark.parametrize(
    "make", [pd.DataFrame, pl.DataFrame, pa.table, lambda columns: pl.DataFrame(columns).to_dicts()]
)
def test_all_faults_of_columns_are_told_at_once(make: Callable[[dict[str, list[Any]]], object]) -> None:
    columns = {
        "citty": ["a", "b"],
        "created_date": ["a", "b"],
        "linkedInUrl": ["a", "b"],
        "linked_in_url": ["a", "b"],
        "phone": [None, 5],
        "owner_user_id": [True, False],
        "notes": ["a", "b"],
    }
    error = refusal(make(columns), ignore=["notes"])
    assert [fault.field for fault in error.errors] == [
        "citty",
        "created_date",
        "linked_in_url",
        "id",
        "phone",
        "owner_user_id",
    ]
    assert [fault.message for fault in error.errors][:4] == [
        "is not a field of a contact account; did you mean city? Else name it in ignore=",
        "cannot be updated: the service sets it; name it in ignore=",
        "is given twice, as linkedInUrl and as linked_in_url",
        'is missing: rows find their accounts by it (match_on="id")',
    ]
    kinds = [re.sub(r" \(\w+\)", "", fault.message) for fault in error.errors][4:]
    assert kinds[0] in {"must be text, not numbers, first in row 1", "must be text, not int, first in row 1"}
    assert kinds[1] in {"must be integers, not booleans, first in row 0", "must be integers, not bool, first in row 0"}
    assert error.message.startswith(
        "table of 2 rows and 6 columns refused before any request: column citty is not a field"
    )


def test_pandas_can_name_a_column_twice() -> None:
    frame = pd.DataFrame([[1, "a", "b"]], columns=["id", "city", "city"])
    assert [tuple(fault) for fault in refusal(frame).errors] == [("city", "is given twice")]


def test_an_id_beside_another_match_must_be_ignored() -> None:
    data = [{"id": 1, "domain_name": "acme.com", "city": "a"}]
    assert refusal(data, match_on="domain_name").errors[0].field == "id"
    assert read(data, match_on="domain_name", ignore=["id"]) == [{"domain_name": "acme.com", "city": "a"}]


def test_replacing_needs_a_name() -> None:
    assert refusal([{"id": 1, "city": "a"}], mode="replace").errors[0].field == "name"
    assert read([{"id": 1, "name": "a"}], mode="replace") == [{"id": 1, "name": "a"}]
    assert read([{"name": "a"}], mode="replace", match_on="name") == [{"name": "a"}]
    assert refusal([{"domain_name": "a"}], mode="replace", match_on="domain_name").errors[0].field == "name"


@pytest.mark.parametrize("match_on", ["domain_name", "name"])
def test_a_blank_match_is_a_fault_of_its_row(match_on: str) -> None:
    table = Table([{match_on: value} for value in ("acme", "", " \t", None)], {"match_on": match_on})
    assert [(row, column) for row, column, _ in table.faults] == [(1, match_on), (2, match_on), (3, match_on)]
    assert rows(table)[0] == {match_on: "acme"}


def test_every_field_may_be_named_in_either_spelling() -> None:
    fields = dict.fromkeys(TEXT_FIELDS, "a") | {"name": "a", "company_size": "2-10", "owner_user_id": 1}
    wire = {re.sub(r"_(\w)", lambda match: match[1].upper(), name): value for name, value in fields.items()}
    assert read([{"id": 1} | wire]) == read([{"id": 1} | fields]) == [{"id": 1} | fields]


def test_settings_that_are_none_are_told_at_once() -> None:
    error = refusal([], mode="ptch", nulls=1, match_on="domain", ignore="city")
    assert [tuple(fault) for fault in error.errors] == [
        ("mode", "must be one of patch, fill, replace; did you mean patch?"),
        ("nulls", "must be one of keep, clear, not int"),
        ("match_on", "must be one of id, domain_name, name; did you mean domain_name?"),
        ("ignore", 'must be a list of the names of columns, or "unknown" for all others'),
    ]


# --- cells -----------------------------------------------------------------------------------------------------------


class Text(str):
    __slots__ = ()


class TrueOfAnotherLibrary:
    """As tensors are: a truth that is an index too, and not equal to anything."""

    def __index__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 0


class TextEnum(str, enum.Enum):
    ANSWER = "42"


FAULT = object()

# What is in a cell, as the page says it; then the values, what they are as text, and what they are as an integer.
CELLS: dict[str, tuple[list[Any], Any, Any]] = {
    "`None`, null": ([None], None, None),
    "NaN, of Python or numpy": ([float("nan"), np.float64("nan"), np.float32("nan"), np.float16("nan")], None, None),
    "`pandas.NA`": ([pd.NA], None, None),
    "`NaT`": ([pd.NaT, np.datetime64("NaT", "ns")], None, None),
    '`Decimal("NaN")`': ([Decimal("NaN"), Decimal("sNaN")], None, None),
    '`""`, white space, from any source': (["", " ", "\t\n", "\u2003", "\xa0", Text(""), np.str_(" ")], None, None),
    'any Unicode text, byte for byte, `"nan"` and NUL included': ([text for text in TEXTS if text], str, FAULT),
    "text with a lone surrogate": (["a\ud800", "\udfff"], FAULT, FAULT),
    '`"42"`, `"0042"`, `" 42 "`, `"42.0"`': (["42", "0042", " 42 ", "42.0", "\t42.00"], str, 42),
    '`"+42"`, `"-1"`, `"4,711"`, `"4.711"`, `"4.2E1"`, `"True"`, other text': (
        ["+42", "-1", "4,711", "4.711", "4.000", "4 711", "4711,0", "4.2E1", "1e20", "True", "٤٢", "42\u200b", "x"],
        str,
        FAULT,
    ),
    "the error of a spreadsheet, as `#REF!` or `#N/A`": (["#REF!", "#N/A", "#DIV/0!", "Err:502"], FAULT, FAULT),
    "text of more than 512 KiB": (["x" * 600_000], FAULT, FAULT),
    "a subclass of `str`, a member of an `Enum` that is text": ([Text("42"), TextEnum.ANSWER, np.str_("42")], "42", 42),
    "`42`, of Python or numpy": ([42, np.int64(42), np.uint8(42), np.int16(42)], FAULT, 42),
    "`42.0`, of Python or numpy": ([42.0, np.float64(42), np.float32(42), np.float16(42)], FAULT, 42),
    '`Decimal("42.00")`': ([Decimal("42.00"), Decimal(42)], FAULT, 42),
    "a whole float so large that it may be its neighbour: from 2¹¹ of 16 bits, 2²⁴ of 32 bits, 2⁵³ of 64 bits on": (
        [2.0**53, 2.0**60, np.float64(2**53), np.float32(2**24), np.float16(2**11), np.longdouble(2**53 + 1)],
        FAULT,
        FAULT,
    ),
    "`42.5`, infinity": ([42.5, float("inf"), np.float32(0.5), Decimal("42.5"), Decimal("-Infinity"), Decimal("1e-999999999")], FAULT, FAULT),
    "`0`, `-1`": ([0, -1, -1.0, np.int64(0), Decimal(-1)], FAULT, FAULT),
    "`2**63` and more": ([2**63, 2**200, 1e19, np.uint64(2**63), Decimal(2**63), Decimal("1e999999999")], FAULT, FAULT),
    "`True`, `False`": ([True, False, np.bool_(True)], FAULT, FAULT),
    "a date, a time, bytes, a list, a dict, an array of any shape, any other object": (
        [datetime.date(2026, 1, 1), datetime.time(1), b"a", [1], {"a": 1}, pd.Timestamp(0), np.datetime64(0, "s"),
         np.array(["Oslo"]), np.array("Oslo"), np.array(5), np.array([5]), np.array([float("nan")]), np.array([]),
         np.ma.masked, TrueOfAnotherLibrary(), Fraction(42)],
        FAULT,
        FAULT,
    ),
}


def test_the_page_says_what_each_cell_is() -> None:
    said = {cell: (text, integer) for cell, text, integer in page_lines("Cells")}
    assert said.pop("an empty field of a CSV file, quoted or not") == ("empty", "empty")
    words: dict[Any, set[str]] = {FAULT: {"a fault"}, None: {"empty"}, 42: {"the integer", "by its text"}}
    assert list(said) == list(CELLS)
    for cell, (_, text, integer) in CELLS.items():
        assert said[cell][0] in words.get(text, {"that text", "its text"}), cell
        assert said[cell][1] in words[integer], cell


@pytest.mark.parametrize("source", ["mappings", "pandas"])
@pytest.mark.parametrize("cell", CELLS)
def test_each_cell_is_what_the_page_says(cell: str, source: str) -> None:
    values, *expected = CELLS[cell]
    for column, good, wanted in zip(("city", "owner_user_id"), ("good", 7), expected, strict=True):
        for value in values:
            # A second kind of value in the column, so that it is no fault of the column.
            data = [{"id": 1, column: good}, {"id": 2, column: value}]
            # A first column that Arrow cannot have makes pandas give its values one by one.
            frame = pd.DataFrame({"id": ["1", 2], column: pd.Series([good, value], dtype=object)})
            table = Table(data if source == "mappings" else frame, {})
            assert table.row(0)[column] == good
            found = table.row(1)[column]
            as_it_is = value.value if isinstance(value, enum.Enum) else value
            assert wanted is FAULT or found == (as_it_is if wanted is str else wanted), repr(value)
            assert type(found) in {str, int, type(None)}
            assert [(row, name) for row, name, _ in table.faults] == ([(1, column)] if wanted is FAULT else []), repr(
                value
            )
            for _, _, message in table.faults:
                assert re.match(f"{column} in row 1 (must be|is the error of|is longer than) ", message), message


@pytest.mark.parametrize("cell", [cell for cell, (_, text, integer) in CELLS.items() if FAULT in {text, integer}])
def test_a_column_of_nothing_but_such_cells_is_refused_or_its_rows_are(cell: str) -> None:
    values, *expected = CELLS[cell]
    for column, wanted in zip(("city", "owner_user_id"), expected, strict=True):
        for value in values if wanted is FAULT else []:
            for data in (
                [{"id": 1, column: value}],
                pd.DataFrame({"id": [1], column: pd.Series([value], dtype=object)}),
            ):
                try:
                    faults = [(name, message) for _, name, message in Table(data, {}).faults]
                except ValidationError as error:
                    faults = [tuple(fault) for fault in error.errors]
                assert [name for name, _ in faults] == [column], repr(value)


def test_an_empty_field_of_a_csv_file_is_an_empty_cell(tmp_path: Path) -> None:
    path = from_file(tmp_path, "a.csv", 'id,city,owner_user_id\n1,,\n2,"",""\n3," ",4\n')
    assert [row["city"] for row in read(path)] == [None, None, None]
    assert [row["owner_user_id"] for row in read(path)] == [None, None, 4]


ARROW_TEXTS = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()), pa.dictionary(pa.int64(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("kind", ARROW_TEXTS, ids=str)
def test_every_text_of_arrow_is_kept_as_it_is(kind: pa.DataType) -> None:
    array = pa.array(TEXTS, pa.string())
    array = array.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else array.cast(kind)
    table = pa.table({"id": range(1, len(TEXTS) + 1), "city": array})
    assert [row["city"] for row in read(table)] == TEXTS
    assert [row["city"] for row in read(table.slice(2, 5))] == TEXTS[2:7]
    assert [row["city"] for row in read(pa.concat_tables([table, table.slice(3)]))] == TEXTS + TEXTS[3:]


INTEGERS = [
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.float16(),
    pa.float32(), pa.float64(), pa.decimal32(7, 2),
    pa.decimal64(7, 2), pa.decimal128(7, 2), pa.decimal256(50, 2), pa.string(), pa.large_string(), pa.string_view(),
]  # fmt: skip


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_every_number_of_arrow_may_be_an_id(kind: pa.DataType) -> None:
    array = pa.array([42, None, 1], pa.int8()).cast(kind)
    table = Table(pa.table({"id": array, "owner_user_id": array}), {})
    assert [(row["id"], row["owner_user_id"]) for row in rows(table)] == [(42, 42), (None, None), (1, 1)]
    assert table.faults == [(1, "id", "id in row 1 is missing: it must be a positive integer")]


WRONG = {
    "numbers": pa.array([5]), "booleans": pa.array([True]), "dates": pa.array([datetime.date(2026, 1, 1)]),
    "times": pa.array([datetime.time(1)]), "lists": pa.array([["a"]]), "structs": pa.array([{"a": "a"}]),
    "bytes": pa.array([b"a"]), "categories of numbers": pa.array([5]).dictionary_encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_column_of_another_type_is_refused_unless_it_is_empty(kind: str) -> None:
    array = WRONG[kind]
    nothing = pa.nulls(2, array.type)
    fault = refusal(pa.table({"id": [1, 2, 3], "phone": pa.concat_arrays([nothing, array])})).errors[0]
    assert re.fullmatch(rf"must be text, not {kind} \(\w+\), first in row 2", fault.message), fault.message
    assert read(pa.table({"id": [1, 2], "phone": nothing})) == [{"id": 1, "phone": None}, {"id": 2, "phone": None}]


def test_a_column_that_pandas_read_as_empty_is_empty() -> None:
    frame = pd.DataFrame({"id": [1], "phone": [float("nan")], "city": [pd.NaT]})
    assert read(frame) == [{"id": 1, "phone": None, "city": None}]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_bytes_that_are_not_utf_8_are_refused(kind: pa.DataType) -> None:
    for broken in (b"\xff", b"more than twelve bytes \xed\xa0\x80"):
        texts = pa.array([b"fine", None, "æ".encode(), broken], pa.binary())
        if kind == pa.string_view():
            texts = pa.Array.from_buffers(kind, 4, texts.cast(pa.binary_view()).buffers())
        else:
            texts = texts.cast(pa.large_binary()) if kind == pa.large_string() else texts
            texts = pa.Array.from_buffers(kind, 4, texts.buffers())
        fault = refusal(pa.table({"id": range(1, 5), "city": texts})).errors[0]
        assert tuple(fault) == ("city", "has bytes that are not UTF-8, first in row 3")


def test_text_that_is_cut_inside_a_character_is_refused() -> None:
    offsets = pa.array([0, 1, 3], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer("éa".encode())])
    assert refusal(pa.table({"id": [1, 2], "city": texts})).errors[0].message.endswith("first in row 0")


def test_a_category_that_is_not_there_is_refused() -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0, None, 5], pa.int8()), pa.array(["a"]), safe=False)
    assert refusal(pa.table({"id": [1, 2, 3], "city": texts})).errors[0].message.endswith("first in row 2")


def test_what_is_behind_an_empty_cell_is_not_looked_at() -> None:
    bits = pa.array([True, False, True]).buffers()[1]
    offsets = pa.array([0, 2, 3, 5], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 3, [bits, offsets, pa.py_buffer("é".encode() + b"\xff" + "ø".encode())])
    assert [row["city"] for row in read(pa.table({"id": [1, 2, 3], "city": texts}))] == ["é", None, "ø"]


def test_polars_may_have_columns_of_nothing() -> None:
    frame = pl.DataFrame({"id": [1, 2], "city": [None, None], "owner_user_id": [None, None]})
    assert frame.schema["city"] == pl.Null
    assert read(frame) == [{"id": number, "city": None, "owner_user_id": None} for number in (1, 2)]


def test_a_number_of_polars_may_be_an_id() -> None:
    decimals = pl.Series([Decimal("42.00"), None, Decimal(1)], dtype=pl.Decimal(20, 2))
    for array in (decimals, pl.Series([42.0, float("nan"), 1.0]), pl.Series([42, None, 1], dtype=pl.UInt16)):
        assert [row["owner_user_id"] for row in read(pl.DataFrame({"id": [1, 2, 3], "owner_user_id": array}))] == [
            42,
            None,
            1,
        ]


def test_pandas_may_hold_a_lone_surrogate() -> None:
    frame = pd.DataFrame({"id": [1, 2], "city": pd.Series(["a", "\ud800"], dtype=object)})
    said = "city in row 1 must be real Unicode text: it has a lone surrogate"
    assert Table(frame, {}).faults == [(1, "city", said)]


def test_a_size_is_one_of_the_ten_exactly() -> None:
    sizes = [*CompanySize, *map(str, CompanySize), None]
    data = [{"id": 1, "company_size": size} for size in sizes]
    expected = [*map(str, CompanySize), *map(str, CompanySize), None]
    assert [row["company_size"] for row in read(data)] == expected
    table = Table([{"id": 1, "companySize": size} for size in ("51-20", "empty", "unheard of")], {})
    assert [(row, column) for row, column, _ in table.faults] == [(number, "companySize") for number in range(3)]
    assert table.faults[0][2].endswith("5001-10000, 10001+; did you mean 51-200?")
    assert "unheard" not in table.faults[2][2]


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize(
    ("mode", "nulls", "refused"),
    [
        ("patch", "keep", []),
        ("patch", "clear", ["name", "owner_user_id"]),
        ("fill", "keep", []),
        ("fill", "clear", []),
        ("replace", "keep", ["name"]),
        ("replace", "clear", ["name", "owner_user_id"]),
    ],
)
def test_what_cannot_be_cleared_is_a_fault(
    mode: str, nulls: str, refused: list[str], make: Callable[[Any], object]
) -> None:
    data = [{"id": 1, "name": "a", "owner_user_id": 1}, {"id": 2, "name": None, "owner_user_id": None}]
    table = Table(make(data), {"mode": mode, "nulls": nulls})
    assert [(row, column) for row, column, _ in table.faults] == [(1, column) for column in refused]
    assert len(page_lines("Empty cells")) == 2


@pytest.mark.parametrize("blank", ["", " ", "\u2003\n"])
def test_a_blank_name_is_an_empty_cell(blank: str) -> None:
    assert read([{"id": 1, "name": blank}]) == [{"id": 1, "name": None}]
    said = "name in row 0 cannot be cleared: every account has a name"
    assert Table([{"id": 1, "name": blank}], {"nulls": "clear"}).faults == [(0, "name", said)]


def test_a_row_may_leave_a_column_out(tmp_path: Path) -> None:
    data = [{"id": 1, "city": None}, {"id": 2}, {"city": "a", "id": 3}, {"id": 4, "state": "b"}]
    expected = [{"id": 1, "city": None}, {"id": 2}, {"id": 3, "city": "a"}, {"id": 4, "state": "b"}]
    assert read(data, nulls="clear") == expected
    path = from_file(tmp_path, "a.jsonl", "\n".join(map(json.dumps, data)))
    assert read(path, nulls="clear") == expected


def test_a_message_never_has_the_value_in_it() -> None:
    secret = 31337
    table = Table([{"id": -secret, "city": "a"}, {"id": f"x{secret}", "city": secret}], {})
    assert len(table.faults) == 3
    assert str(secret) not in str(table.faults)
    assert str(secret) not in str(refusal([{"id": 1, "phone": secret}]))


def test_a_table_says_what_it_is(tmp_path: Path) -> None:
    assert (
        Table(pd.DataFrame({"id": range(1, 10001), "city": "a"}), {}).description
        == "a table of 10,000 rows and 2 columns"
    )
    assert Table(pd.DataFrame({"id": [1]}, index=["a"]), {}).description == "a table of 1 row and 1 column"
    assert Table(SOURCES["csv"](tmp_path), {}).description == "a.csv"
    with pytest.raises(IndexError):
        Table([], {}).row(0)


# --- any text --------------------------------------------------------------------------------------------------------

# What Unicode calls white space; Python's `str.strip` has four separators more.
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

WAYS: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "mappings": list,
    "pandas": lambda data: pd.DataFrame(data, dtype=object),
    "polars": pl.DataFrame,
    "pyarrow": pa.Table.from_pylist,
}


@pytest.mark.parametrize("way", [*WAYS, "json lines", "csv"])
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4),
    column=st.sampled_from(TEXT_FIELDS),
)
@example(texts=["\x1e end of the file \x1e", "nan", "\ufeff", '"', "\r", "\n"], column="city")
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_in_any_column(way: str, texts: list[str], column: str, tmp_path: Path) -> None:
    data: list[dict[str, Any]] = [{"id": number, column: text} for number, text in enumerate(texts, 1)]
    expected = [{"id": row["id"], column: row[column] if row[column].strip(SPACES) else None} for row in data]
    if way == "json lines":
        source: object = from_file(tmp_path, "a.jsonl", "\n".join(json.dumps(row) for row in data))
    elif way == "csv":
        # By hand, since the writer of Python 3.10 takes no NUL.
        quoted = [(row["id"], row[column].replace('"', '""')) for row in data]
        source = from_file(tmp_path, "a.csv", f"id,{column}\n" + "".join(f'{id},"{text}"\n' for id, text in quoted))
    else:
        source = WAYS[way](data)
    assert read(source) == expected


def test_a_million_rows_take_no_memory_of_their_own() -> None:
    before = pa.total_allocated_bytes()
    table = pa.table({"id": np.arange(1, 1_000_001), "city": pa.array(["Oslo"] * 1_000_000)})
    made = Table(table, {})
    assert len(made) == 1_000_000
    held = pa.total_allocated_bytes() - before
    del table
    assert pa.total_allocated_bytes() - before == held, "the table is a copy"
    assert made.row(999_999) == {"id": 1_000_000, "city": "Oslo"}


def test_ctrl_c_ends_the_reading_of_rows() -> None:
    program = """
import itertools, os, signal, threading
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    Table(map(dict, itertools.repeat({"id": 1})), {})
except KeyboardInterrupt:
    print("interrupted")
"""
    assert without(set(), program) == "interrupted"


def test_the_extension_imports_no_library_of_tables() -> None:
    program = "Table([{'id': 1}], {}); print([name for name in ('pandas', 'polars', 'pyarrow') if name in sys.modules])"
    assert without(set(), program) == "[]"
