"""What each cell of a table means: every line of the section in docs/tables.md."""

from __future__ import annotations

import csv
import datetime
import enum
import io
import json
import numbers
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from replyio import ValidationError
from replyio._replyio import Table
from replyio.models import CompanySize
from support import TEXT_FIELDS
from table_support import TEXTS, from_file, page_lines, read, refusal, rows

if TYPE_CHECKING:
    from collections.abc import Callable


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
        duckdb.connect().read_csv(str(path), all_varchar=True),
        from_file(tmp_path, "a.jsonl", json.dumps(record)),
    ):
        expected = dict.fromkeys(record) | {"id": 1, "city": "Bergen"}
        assert read(data) == [expected]
        cleared = Table(data, {"nulls": "clear"})
        assert rows(cleared) == [expected]
        assert [column for _, column, _ in cleared.faults] == ["name", "owner_user_id"]


BOOLEANS: dict[str, Callable[[], Any]] = {
    "pandas, objects": lambda: pd.Series([7, True], dtype=object),
    "pandas, objects with a float": lambda: pd.Series([7.0, True], dtype=object),
    "pandas, objects with nothing": lambda: pd.Series([7, None, True], dtype=object),
    "numpy.True_": lambda: pd.Series([7, np.True_], dtype=object),
    "numpy integers": lambda: pd.Series([np.int64(7), True], dtype=object),
    "nothing but objects": lambda: pd.Series([True, True], dtype=object),
    "booleans": lambda: pd.Series([True, False]),
    "nullable booleans": lambda: pd.Series([True, None], dtype="boolean"),
    "booleans of Arrow": lambda: pd.Series([True, None], dtype=pd.ArrowDtype(pa.bool_())),
    "categories": lambda: pd.Series([7, True], dtype=object).astype(
        pd.CategoricalDtype(pd.Index([7, True], dtype=object))
    ),
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
        refused = [fault.field for fault in error.errors]
    else:
        refused = []
    if refused:
        assert refused == [column]
        return
    truths = {number for number, value in enumerate(values) if value is True or isinstance(value, np.bool_)}
    assert truths
    assert {row for row, name, _ in table.faults if name == column} >= truths
    assert all(row.get(column) in {7, None} for row in rows(table))


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
    if dtype in {"float32", "float64"}:
        values = pa.array(series.to_numpy())
        for kind in (values, values.dictionary_encode(), pc.run_end_encode(values)):
            column = pd.Series(pd.array(kind, dtype=pd.ArrowDtype(kind.type)))
            ways.append(pd.DataFrame({"id": column, "city": pd.Series(["a", 5], dtype=object)}))
        sparse = pd.arrays.SparseArray(series.to_numpy())
        ways.append(pd.DataFrame({"id": sparse, "city": pd.Series(["a", 5], dtype=object)}))
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


def test_what_is_suspicious_is_counted_and_kept() -> None:
    table = Table([{"id": 1, "city": "NULL", "phone": "4.91234E+11"}, {"id": 2, "city": "-"}], {})
    assert table.suspicions == [("city", 2, 0), ("phone", 1, 0)]
    assert table.row(0)["city"] == "NULL"
    assert Table([{"id": 1, "city": "NULL"}], {"null_values": ["NULL"]}).suspicions == []


@pytest.mark.parametrize(
    "date",
    [
        datetime.datetime(2026, 2, 10, tzinfo=datetime.timezone.utc),
        datetime.date(2026, 2, 10),
        pd.Timestamp("2026-02-10"),
        "2026-02-10 00:00:00",
    ],
)
def test_a_size_that_a_spreadsheet_made_a_date_is_told(date: object) -> None:
    hint = "may have made this date from a range such as 2-10; format the column as text"
    rows = [{"id": 1, "company_size": "11-50"}, {"id": 2, "company_size": date}]
    for data in (rows, pd.DataFrame(rows, dtype=object)):
        ((row, column, message),) = Table(data, {}).faults
        assert (row, column, hint in message) == (1, "company_size", True), message
    if not isinstance(date, str):
        for data in (rows[1:], pd.DataFrame(rows[1:])):
            with pytest.raises(ValidationError, match=hint):
                Table(data, {})


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
    '`""`, white space, invisible characters, from any source': (
        ["", " ", "\t\n", "\u2003", "\xa0", "\u200b", " \ufeff", Text(""), np.str_(" ")],
        None,
        None,
    ),
    'any Unicode text, including `"nan"` and NUL characters': ([text for text in TEXTS if text], str, FAULT),
    "text with a lone surrogate": (["a\ud800", "\udfff"], FAULT, FAULT),
    '`"42"`, `"0042"`, `" 42 "`, `"42.0"`': (["42", "0042", " 42 ", "42.0", "\t42.00"], str, 42),
    '`"+42"`, `"-1"`, `"4,711"`, `"4.711"`, `"4.2E1"`, `"True"`, other text': (
        ["+42", "-1", "4,711", "4.711", "4.000", "4 711", "4711,0", "4.2E1", "1e20", "True", "٤٢", "42\u200b", "x"],
        str,
        FAULT,
    ),
    "the error value of a spreadsheet, such as `#REF!`, `#N/A`, `Err:502` or `####`": (
        ["#REF!", "#N/A", "#DIV/0!", "Err:502", "####", "\t#REF!", "\xa0#NV", "#N/A N/A"],
        FAULT,
        FAULT,
    ),
    "text of more than 512 KiB": (["x" * 600_000], FAULT, FAULT),
    "a subclass of `str`, a member of an `Enum` that is text": ([Text("42"), TextEnum.ANSWER, np.str_("42")], "42", 42),
    "`42`, of Python or numpy": ([42, np.int64(42), np.uint8(42), np.int16(42)], FAULT, 42),
    "`42.0`, of Python or numpy": ([42.0, np.float64(42), np.float32(42), np.float16(42)], FAULT, 42),
    '`Decimal("42.00")`': ([Decimal("42.00"), Decimal(42)], FAULT, 42),
    "a whole float too large to be exact: 2¹¹ or more with 16 bits, 2²⁴ or more with 32, 2⁵³ or more with 64": (
        [2.0**53, 2.0**60, np.float64(2**53), np.float32(2**24), np.float16(2**11), np.longdouble(2**53 + 1)],
        FAULT,
        FAULT,
    ),
    "`42.5`, infinity": (
        [42.5, float("inf"), np.float32(0.5), Decimal("42.5"), Decimal("-Infinity"), Decimal("1e-999999999")],
        FAULT,
        FAULT,
    ),
    "`0`, `-1`": ([0, -1, -1.0, np.int64(0), Decimal(-1)], FAULT, FAULT),
    "`2**63` and more": ([2**63, 2**200, 1e19, np.uint64(2**63), Decimal(2**63), Decimal("1e999999999")], FAULT, FAULT),
    "`True`, `False`": ([True, False, np.bool_(True)], FAULT, FAULT),
    "a date, a time, bytes, a list, a dict, an array of any shape, any other object": (
        [
            datetime.date(2026, 1, 1),
            datetime.time(1),
            b"a",
            [1],
            {"a": 1},
            pd.Timestamp(0),
            np.datetime64(0, "s"),
            np.array(["Oslo"]),
            np.array("Oslo"),
            np.array(5),
            np.array([5]),
            np.array([float("nan")]),
            np.array([]),
            np.ma.masked,
            TrueOfAnotherLibrary(),
            Fraction(42),
        ],
        FAULT,
        FAULT,
    ),
}


def test_the_page_says_what_each_cell_is() -> None:
    said = {cell: (text, integer) for cell, text, integer in page_lines("Cells")}
    assert said.pop("an empty field of a CSV file, quoted or not") == ("empty", "empty")
    words: dict[Any, set[str]] = {FAULT: {"a fault"}, None: {"empty"}, 42: {"the integer", "read like that text"}}
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
                assert re.match(
                    rf"{column} in row 1 (must be|is (a spreadsheet error,|longer than|a float too large)) ", message
                ), message


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


def test_a_sparse_column_is_read_like_another() -> None:
    for values in ([42.0, float("nan")], [42, 0], [42.5, 1.0]):
        sparse = pd.DataFrame({"id": [1, 2], "owner_user_id": pd.arrays.SparseArray(values)})
        dense = pd.DataFrame({"id": [1, 2], "owner_user_id": values})
        found, expected = Table(sparse, {}), Table(dense, {})
        assert (rows(found), found.faults) == (rows(expected), expected.faults)


def test_reading_a_cell_may_change_its_row() -> None:
    class Number:
        def __index__(self) -> int:
            row["city"] = "Oslo"
            return 42

    numbers.Integral.register(Number)
    row: dict[str, Any] = {"id": 1, "owner_user_id": Number()}
    assert read([row]) == [{"id": 1, "owner_user_id": 42}]


def test_pandas_may_hold_a_lone_surrogate() -> None:
    frame = pd.DataFrame({"id": [1, 2], "city": pd.Series(["a", "\ud800"], dtype=object)})
    said = "city in row 1 must be valid Unicode: it contains a lone surrogate"
    assert Table(frame, {}).faults == [(1, "city", said)]


def test_a_size_is_one_of_the_ten_exactly() -> None:
    sizes = [*CompanySize, *map(str, CompanySize), None]
    data = [{"id": 1, "company_size": size} for size in sizes]
    expected = [*map(str, CompanySize), *map(str, CompanySize), None]
    assert [row["company_size"] for row in read(data)] == expected
    table = Table([{"id": 1, "companySize": size} for size in ("51 to 200", "empty", "unheard of")], {})
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


# What Unicode calls white space; Python's `str.strip` has four separators more.
SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
# Fonts show nothing for these: Unicode's default ignorable characters.
INVISIBLE = "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u3164\ufeff\uffa0" + "".join(
    chr(code)
    for first, last in [
        (0x180B, 0x180F),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0xFE00, 0xFE0F),
        (0xFFF0, 0xFFF8),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0000, 0xE0FFF),
    ]
    for code in range(first, last + 1)
)


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
@example(texts=["\u200b", " \u3164 ", "\u200ba", "\u2062\xad"], column="city")
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives_in_any_column(way: str, texts: list[str], column: str, tmp_path: Path) -> None:
    data: list[dict[str, Any]] = [{"id": number, column: text} for number, text in enumerate(texts, 1)]
    expected = [row if row[column].strip(SPACES + INVISIBLE) else {**row, column: None} for row in data]
    if way == "json lines":
        source: object = from_file(tmp_path, "a.jsonl", "\n".join(json.dumps(row) for row in data))
    elif way == "csv":
        # By hand, since the writer of Python 3.10 takes no NUL.
        quoted = [(row["id"], row[column].replace('"', '""')) for row in data]
        source = from_file(tmp_path, "a.csv", f"id,{column}\n" + "".join(f'{id},"{text}"\n' for id, text in quoted))
    else:
        source = WAYS[way](data)
    assert read(source) == expected
