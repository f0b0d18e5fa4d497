"""Columns of Arrow, whoever made them."""

from __future__ import annotations

import datetime
import re
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest

from replyio._replyio import Table
from replyio.sandbox import Sandbox
from table_support import TEXTS, read, refusal, rows


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
    cure = "; read the source again as text: .*" if "numbers" in kind else ""
    assert re.fullmatch(rf"must be text, not {kind} \(\w+\), first in row 2{cure}", fault.message), fault.message
    assert read(pa.table({"id": [1, 2], "phone": nothing})) == [{"id": 1, "phone": None}, {"id": 2, "phone": None}]


@pytest.mark.parametrize("column", ["id", "owner_user_id"])
def test_an_extension_type_is_not_read_as_its_storage(column: str) -> None:
    periods = pd.DataFrame({"id": [1, 2], column: pd.PeriodIndex(["2026", "2027"], freq="Y")})
    (fault,) = refusal(periods).errors
    assert tuple(fault) == (column, "must be integers, not pandas.period, first in row 0")
    booleans = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None], pa.int8()))
    table = pa.table({"id": [1, 2]} | {column: booleans})
    (fault,) = refusal(table).errors
    assert tuple(fault) == (column, "must be integers, not arrow.bool8, first in row 0")
    assert refusal(table.set_column(table.column_names.index(column), "city", booleans)).errors[-1].field == "city"


@pytest.mark.parametrize(
    "kind", [pa.json_(), pa.opaque(pa.string(), "geometry", "PostGIS")], ids=lambda kind: type(kind).__name__
)
def test_a_text_with_an_extension_type_is_not_read_as_text(kind: pa.DataType) -> None:
    table = pa.table({"id": [1, 2], "city": pa.ExtensionArray.from_storage(kind, pa.array([None, '"Oslo"']))})
    (fault,) = refusal(table).errors
    assert tuple(fault) == ("city", f"must be text, not {kind.extension_name}, first in row 1")
    assert read(table.slice(0, 1)) == [{"id": 1, "city": None}]


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
        assert tuple(fault) == ("city", "has bytes that are not valid UTF-8, first in row 3")


def test_text_that_is_cut_inside_a_character_is_refused() -> None:
    offsets = pa.array([0, 1, 3], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer("éa".encode())])
    assert refusal(pa.table({"id": [1, 2], "city": texts})).errors[0].message.endswith("first in row 0")


@pytest.mark.parametrize("key", [5, 1, -1])
@pytest.mark.parametrize(("column", "value"), [("city", "a"), ("city", None), ("owner_user_id", 7)])
def test_a_key_that_its_dictionary_does_not_have_is_refused(key: int, column: str, value: object) -> None:
    cells = pa.DictionaryArray.from_arrays(pa.array([0, None, key], pa.int8()), pa.array([value]), safe=False)
    (fault,) = refusal(pa.table({"id": [1, 2, 3], column: cells}), nulls="clear").errors
    assert tuple(fault) == (column, "has keys without a value in its dictionary, first in row 2")


def test_what_is_behind_an_empty_cell_is_not_looked_at() -> None:
    bits = pa.array([True, False, True]).buffers()[1]
    offsets = pa.array([0, 2, 3, 5], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 3, [bits, offsets, pa.py_buffer("é".encode() + b"\xff" + "ø".encode())])
    assert [row["city"] for row in read(pa.table({"id": [1, 2, 3], "city": texts}))] == ["é", None, "ø"]


def test_polars_may_have_columns_of_nothing() -> None:
    frame = pl.DataFrame({"id": [1, 2], "city": [None, None], "owner_user_id": [None, None]})
    assert frame.schema["city"] == pl.Null
    assert read(frame) == [{"id": number, "city": None, "owner_user_id": None} for number in (1, 2)]


def test_polars_ignores_columns_by_their_names_and_not_by_a_pattern() -> None:
    frame = pl.DataFrame({"id": [1], "city": ["Oslo"], "state": ["Viken"], "^c.*$": ["x"]})
    assert read(frame, ignore=["^c.*$"]) == [{"id": 1, "city": "Oslo", "state": "Viken"}]
    faults = refusal(frame.drop("city"), ignore=["^s.*$"]).errors
    assert [fault.field for fault in faults] == ["^c.*$"]


def test_a_column_of_polars_that_is_not_used_need_not_convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unused = {"tags": [[]], "large": [2**70], "object": pl.Series([object()], dtype=pl.Object)}
    frame = pl.DataFrame({"id": [1], "city": ["Oslo"], **unused})
    assert read(frame, ignore="unknown") == read(frame, ignore=[*map(str.title, unused)]) == [{"id": 1, "city": "Oslo"}]
    pl.DataFrame({"id": [1], "city": ["Oslo"], "z": [None]}).write_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert read(tmp_path / "a.parquet", ignore=["z"]) == [{"id": 1, "city": "Oslo"}]


def test_a_column_of_polars_that_does_not_convert_is_named() -> None:
    for column, kind in (([[]], "List(Null)"), (pl.Series([object()], dtype=pl.Object), "Object")):
        (fault,) = refusal(pl.DataFrame({"id": [1], "city": column})).errors
        assert tuple(fault) == ("city", f"has the type {kind}, which does not convert to Arrow")
    names = pl.Series(["Nullarbor"], dtype=pl.Enum(["Nullarbor", "Null"]))
    assert read(pl.DataFrame({"id": [1], "city": names})) == [{"id": 1, "city": "Nullarbor"}]
    large = pl.Series([42, None, 2**70], dtype=pl.Int128)
    table = Table(pl.DataFrame({"id": [1, 2, 3], "owner_user_id": large}), {})
    assert [row["owner_user_id"] for row in rows(table)] == [42, None, None]
    assert [(row, column) for row, column, _ in table.faults] == [(2, "owner_user_id")]


def test_a_listing_in_polars_may_ignore_a_column_that_is_only_read() -> None:
    with Sandbox(accounts=[{"id": 1, "name": "Acme"}]) as service, service.client() as client:
        listed = client.list_contact_accounts()
        assert read(listed.to_polars(), ignore=["email_provider"]) == read(client.list_contact_accounts().to_pandas())


def test_a_number_of_polars_may_be_an_id() -> None:
    decimals = pl.Series([Decimal("42.00"), None, Decimal(1)], dtype=pl.Decimal(20, 2))
    for array in (decimals, pl.Series([42.0, float("nan"), 1.0]), pl.Series([42, None, 1], dtype=pl.UInt16)):
        assert [row["owner_user_id"] for row in read(pl.DataFrame({"id": [1, 2, 3], "owner_user_id": array}))] == [
            42,
            None,
            1,
        ]
