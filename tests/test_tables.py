"""What may be given as a table: every line of the section in docs/tables.md."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sqlite3
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pydantic
import pytest
import sqlalchemy

from replyio import ReplyClient
from replyio._replyio import Table
from table_support import from_file, page_lines, read, refusal, rows, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio.sandbox import Sandbox

RECORDS: list[dict[str, Any]] = [
    {"id": 4711, "city": "Oslo", "owner_user_id": 7},
    {"id": 4712, "city": None, "owner_user_id": 8},
]


NAMES = list(RECORDS[0])


COLUMNS = {name: [record[name] for record in RECORDS] for name in NAMES}


@dataclasses.dataclass
class Row:
    id: int
    city: str | None
    owner_user_id: int


class NamedRow(NamedTuple):
    id: int
    city: str | None
    owner_user_id: int


@attrs.define
class AttrsRow:
    id: int
    city: str | None
    owner_user_id: int


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    id: int
    city: str | None = None
    state: str | None = None
    owner_user_id: int


def query(text: str, *, values: str = "values (4711, 'Oslo', 7), (4712, null, 8)") -> sqlalchemy.CursorResult[Any]:
    connection = sqlalchemy.create_engine("sqlite://").connect()
    return connection.execute(sqlalchemy.text(f"with a(id, city, owner_user_id) as ({values}) {text}"))


def sqlite_rows() -> list[sqlite3.Row]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        text = "with a(id, city, owner_user_id) as (values (4711, 'Oslo', 7), (4712, null, 8)) select * from a"
        return connection.execute(text).fetchall()


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
    "named tuples": lambda _: [NamedRow(**record) for record in RECORDS],
    "attrs objects": lambda _: [AttrsRow(**record) for record in RECORDS],
    "pydantic models": lambda _: [Model(**record) for record in RECORDS],
    "SQLAlchemy rows": lambda _: query("select * from a"),
    "SQLAlchemy mappings": lambda _: query("select * from a").mappings(),
    "sqlite3 rows": lambda _: sqlite_rows(),
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


def test_a_row_of_a_query_with_two_columns_of_one_name_is_refused() -> None:
    error = refusal(query("select id, city, owner_user_id as city from a"))
    assert error.message == "table refused before any request: row 0 names city twice"


def test_a_model_says_nothing_about_fields_that_it_was_made_without() -> None:
    data = [
        Model(id=1, owner_user_id=2),
        Model.model_validate({"id": 2, "city": None, "owner_user_id": 2, "phone": "5"}),
    ]
    assert read(data, nulls="clear", ignore=["owner_user_id"]) == [{"id": 1}, {"id": 2, "city": None, "phone": "5"}]


def test_a_listing_goes_in_as_it_came_out(configured: Sandbox, tmp_path: Path) -> None:
    with ReplyClient() as client:
        accounts = [{name: row[name] for name in row} for row in read(list(client.list_contact_accounts()))]
        sizes = [row["company_size"] for row in accounts]
        frame = client.list_contact_accounts().to_pandas()
        frame.to_csv(tmp_path / "a.csv", index=False)
        for data in (
            client.list_contact_accounts(),
            frame,
            client.list_contact_accounts().to_polars(),
            tmp_path / "a.csv",
        ):
            assert read(data) == accounts
        assert sizes
        plan = client.plan_contact_account_updates(frame, progress=False)
        assert plan.counts == {"unchanged": len(configured.accounts)}
        said = refusal(frame.drop(columns="email_provider")).errors[0].message
        assert said == "cannot be updated: the service sets it; list it in ignore="


def test_the_page_names_every_source() -> None:
    assert len(page_lines("Accepted data")) == 8


def test_a_list_of_accounts_is_a_table(configured: Sandbox) -> None:
    with ReplyClient() as client:
        table = Table(client.list_contact_accounts(), {})
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
        ({"id": [1]}, r"not dict; for one row, pass a list: \[row\]; pass a dict of columns to pandas.DataFrame"),
        (pl.LazyFrame({"id": [1]}), r"not LazyFrame; call its collect\(\) first"),
        (b"a.csv", "not bytes; pass the path as a str"),
        (5, "not int"),
        (None, "not NoneType"),
        (pl.Series([1]), "this Series is not one: it is a single column"),
        (pd.Series([1]), "not Series; a Series is one column, or one row"),
        (pd.DataFrame({"id": [1], "city": ["a"]}).iloc[0], "not Series; a Series is one column, or one row"),
        (io.StringIO("id"), "not StringIO; pass the path of the file"),
        (np.array([1]), r"not ndarray; pass the array and its column names to pandas.DataFrame\(\)"),
        (["a"], "row 0 must be a mapping, a named tuple, or an instance of a dataclass, .* not str"),
        ([{"id": 1}, Row], "row 1 must be a mapping, .* not type"),
        (
            [(1, "a")],
            "row 0 must be .* not tuple; make a DataFrame of the rows and their column names first, or have sqlite3",
        ),
        ([pd.Series({"id": 1})], "row 0 must be .* not Series; pass the DataFrame itself"),
        ([{"id": 1}, {5: 1}], "row 1 has a column whose name is int, not text"),
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
        with pytest.raises(ValueError, match="a whole row is null"):
            Table(data, {})


def test_a_column_of_polars_that_is_ignored_may_be_anything() -> None:
    frame = pl.DataFrame({"id": [1], "a": [[None]], "b": pl.Series([1], dtype=pl.Int128)})
    assert read(frame, ignore=["a", "b"]) == [{"id": 1}]


def test_no_rows_with_columns_are_a_table_too() -> None:
    for frame in (pd.DataFrame({"id": [], "city": []}), pl.DataFrame({"id": [], "city": []})):
        assert read(frame) == []


@pytest.mark.parametrize("missing", [{"pyarrow"}, {"pyarrow", "polars"}, {"duckdb", "polars"}])
def test_parquet_is_read_with_whichever_library_there_is(missing: set[str], tmp_path: Path) -> None:
    program = "table = Table(sys.argv[1], {}); print([table.row(0), table.row(1)], table.description)"
    path = parquet(tmp_path)
    assert without(missing, program, str(path)) == f"{RECORDS} {path.name}"


@pytest.mark.parametrize("missing", [set[str](), {"pyarrow"}, {"pyarrow", "polars"}])
@pytest.mark.parametrize("name", ["a[1].parquet", "a*.parquet", "a?.parquet"])
def test_the_parquet_file_of_exactly_this_name_is_read(name: str, missing: set[str], tmp_path: Path) -> None:
    for file, id in ((name, 4711), ("a1.parquet", 4712)):
        pl.DataFrame({"id": [id], "city": ["Oslo"]}).write_parquet(tmp_path / file)
    program = "table = Table(sys.argv[1], {}); print(table.row(0)['id'], table.description)"
    assert without(missing, program, str(tmp_path / name)) == f"4711 {name}"


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


def test_a_table_says_what_it_is(tmp_path: Path) -> None:
    assert (
        Table(pd.DataFrame({"id": range(1, 10001), "city": "a"}), {}).description
        == "a table of 10,000 rows and 2 columns"
    )
    assert Table(pd.DataFrame({"id": [1]}, index=["a"]), {}).description == "a table of 1 row and 1 column"
    assert Table(SOURCES["csv"](tmp_path), {}).description == "a.csv"
    with pytest.raises(IndexError):
        Table([], {}).row(0)
