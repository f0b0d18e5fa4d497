"""What each column of a table is: every line of the section in docs/tables.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest

from replyio import ValidationError
from replyio._replyio import Table
from support import TEXT_FIELDS
from table_support import from_file, page_lines, read, refusal, rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


TWICE = "is given twice; rename or remove one of them in the table, because ignore= would ignore both"


def test_the_page_names_every_column() -> None:
    assert len(page_lines("Columns")) == 16


@pytest.mark.parametrize(
    "make", [pd.DataFrame, pl.DataFrame, pa.table, lambda columns: pl.DataFrame(columns).to_dicts()]
)
def test_all_faults_of_columns_are_told_at_once(make: Callable[[dict[str, list[Any]]], object]) -> None:
    columns: dict[str, list[Any]] = {
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
        "id",
        "citty",
        "created_date",
        "linked_in_url",
        "phone",
        "owner_user_id",
    ]
    assert [fault.message for fault in error.errors][:4] == [
        'is missing: rows find their accounts by it (match_on="id")',
        "is not a field of a contact account; did you mean city? Otherwise, list it in ignore=",
        "cannot be updated: the service sets it; list it in ignore=",
        TWICE.replace("twice;", 'twice, as "linkedInUrl" and as "linked_in_url";'),
    ]
    kinds = [re.sub(r" \(\w+\)", "", fault.message) for fault in error.errors][4:]
    cure = (
        "; read the source again as text: a CSV file with dtype=str, because astype(str) keeps the damage; in an Excel "
        "file, correct the cells"
    )
    assert kinds[0] in {f"must be text, not {kind}, first in row 1{cure}" for kind in ("numbers", "int")}
    assert kinds[1] in {"must be integers, not booleans, first in row 0", "must be integers, not bool, first in row 0"}
    assert error.message.startswith(
        'table of 2 rows and 7 columns refused before any request:\n  column "id" is missing'
    )


def test_a_title_above_the_header_is_told_once_and_first(tmp_path: Path) -> None:
    cells = [["Reply ID", "City", *[None] * 5], [4711, "Oslo", *[None] * 5]]
    title = "Customers of 2026"
    frame = pd.DataFrame(cells, columns=[title, *[None] * 6], dtype=object)
    (tmp_path / "a.csv").write_text(f"{title}\n\nid;city\n4711;Oslo\n", encoding="utf-8")
    for table, others in ((frame, 1), (str(tmp_path / "a.csv"), 0)):
        with pytest.raises(ValidationError) as caught:
            Table(table, {})
        _, first, second, *more = str(caught.value).split("\n")
        assert first.strip() == (
            'column "id" is missing, and no column is a field of a contact account; if the first line is a title, '
            "remove it"
        )
        assert second.strip().startswith(f'column "{title}" is not a field')
        assert [line.split(" how ")[0].strip() for line in more] == ['column "nan" (6 times) is'] * others
    with pytest.raises(ValidationError, match='"Reply ID": "id"') as caught:
        Table(pd.DataFrame(cells[1:], columns=cells[0], dtype=object), {})
    assert "title" not in str(caught.value)


def test_pandas_can_name_a_column_twice() -> None:
    frame = pd.DataFrame([[1, "a", "b"]], columns=["id", "city", "city"])
    assert [tuple(fault) for fault in refusal(frame).errors] == [("city", TWICE)]


def test_an_id_beside_another_match_must_be_ignored() -> None:
    data = [{"id": 1, "domain_name": "acme.com", "city": "a"}]
    assert refusal(data, match_on="domain_name").errors[0].field == "id"
    assert read(data, match_on="domain_name", ignore=["id"]) == [{"domain_name": "acme.com", "city": "a"}]


def test_replacing_needs_a_name() -> None:
    assert refusal([{"id": 1, "city": "a"}], mode="replace").errors[0].field == "name"
    assert read([{"id": 1, "name": "a"}], mode="replace") == [{"id": 1, "name": "a"}]
    assert read([{"name": "a"}], mode="replace", match_on="name") == [{"name": "a"}]
    assert refusal([{"domain_name": "a"}], mode="replace", match_on="domain_name").errors[0].field == "name"


@pytest.mark.parametrize("table", [list, pd.DataFrame])
@pytest.mark.parametrize("ignored", ["phone", "Phone"])
def test_replacing_refuses_to_ignore_a_field_that_it_would_clear(table: type, ignored: str) -> None:
    data = [{"id": 1, "name": "a", "phone": "+47 22 00 00 00"}]
    (fault,) = refusal(table(data), mode="replace", ignore=[ignored]).errors
    assert fault.message.startswith('is a field that mode "replace" clears')
    assert read(table(data), mode="patch", ignore=[ignored]) == [{"id": 1, "name": "a"}]


@pytest.mark.parametrize("make", [list, pd.DataFrame, pl.DataFrame, pa.Table.from_pylist])
def test_replacing_ignores_no_unknown_column_while_it_would_clear_a_field(
    make: Callable[[list[dict[str, object]]], object],
) -> None:
    data = make([{"id": 1, "name": "a", "Phone Number": "+47 22 00 00 00", "Ort": "b"}])
    phone, place = refusal(data, mode="replace", ignore="unknown").errors
    assert (phone.field, 'columns={"Phone Number": "phone"}' in phone.message) == ("Phone Number", True)
    assert place.field == "Ort"
    assert place.message.endswith('instead of "unknown"; map it to its field with columns=, or list it in ignore=')
    columns = {"Phone Number": "phone", "Ort": "city"}
    found = read(data, mode="replace", ignore="unknown", columns=columns)
    assert found == [{"id": 1, "name": "a", "phone": "+47 22 00 00 00", "city": "b"}]
    assert read(data, mode="replace", ignore=["Phone Number", "Ort"]) == [{"id": 1, "name": "a"}]
    assert read(data, mode="patch", ignore="unknown") == [{"id": 1, "name": "a"}]


@pytest.mark.parametrize("city", ["a", pd.Series(["a", 5], dtype=object)])
@pytest.mark.parametrize("index", [pd.RangeIndex(2, name="Ort"), pd.Index(["b", "c"], name="Ort")])
def test_replacing_does_not_ignore_an_index_with_the_name_of_an_unknown_column(city: object, index: pd.Index) -> None:
    frame = pd.DataFrame({"id": [1, 2], "name": "a"}).assign(city=city).set_index(index)
    assert [fault.field for fault in refusal(frame, mode="replace", ignore="unknown").errors] == ["Ort"]
    assert len(rows(Table(frame, {"mode": "replace", "ignore": ["Ort"]}))) == 2


def test_nested_records_of_pandas_lose_no_field() -> None:
    records = [{"id": 1, "name": "a", "properties": {"phone": "+47 1", "city": "Oslo"}}]
    said = refusal(pd.json_normalize(records), mode="replace", ignore="unknown").errors
    assert [fault.field for fault in said] == ["properties.phone", "properties.city"]


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
        ("ignore", 'must be a list of column names, which are text, such as "0", or "unknown" for all other columns'),
    ]


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


def test_a_message_has_a_handful_of_faults_and_the_rest_as_a_number(tmp_path: Path) -> None:
    for data in (
        from_file(tmp_path, "a.csv", "id," + ",".join(f"column{number}" for number in range(10_000)) + "\n"),
        [dict.fromkeys([f"column{number}" for number in range(9_999)], 1)],
    ):
        error = refusal(data)
        assert len(error.errors) == 10_000
        assert error.message.endswith("\n  and 9,990 more")
        assert len(error.message) < 2_000
    assert len(refusal(from_file(tmp_path, "a.csv", f"id,{'linked_in_url' * 100_000}\n")).message) < 500


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, lambda data: pl.DataFrame(data).to_dicts()])
def test_a_column_is_not_ignored_along_with_another(make: Callable[[dict[str, list[Any]]], object]) -> None:
    data = {"id": [1], "E-mail": ["a@b.example"], "Email": ["c@d.example"]}
    said = str(refusal(make(data), ignore=["E-mail"]))
    assert '"Email" would be ignored too, because its name differs from "E-mail" only in case' in said
    assert read(make(data), ignore=["E-mail", "Email"]) == [{"id": 1}]
    assert read(make(data | {"E-mail": ["x"]}), ignore=["email", "E-mail", "Email"]) == [{"id": 1}]


@pytest.mark.parametrize("name", ["", "nan", "Unnamed: 2", "Created Date", "stage_id", "stage_name", "email_provider"])
def test_replacing_ignores_what_has_no_values_of_a_field(name: str) -> None:
    data = [{"id": 1, "name": "A", name: "x"}]
    assert read(data, mode="replace", ignore="unknown") == [{"id": 1, "name": "A"}]


def test_replacing_ignores_what_is_unknown_where_every_field_has_a_column() -> None:
    row = dict.fromkeys(TEXT_FIELDS, "a") | {"id": 1, "name": "a", "company_size": "2-10"}
    assert read([{**row, "Notes": "x"}], mode="replace", ignore="unknown") == [row]
    del row["phone"]
    assert len(refusal([{**row, "Notes": "x"}], mode="replace", ignore="unknown").errors) == 1


@pytest.mark.parametrize("name", ["Email?", "City %", "Phone+", "State = ok", "Country #"])
def test_a_sign_behind_a_letter_makes_another_name(name: str, tmp_path: Path) -> None:
    table = from_file(tmp_path, "a.csv", f"id;{name}\n1;yes\n")
    (fault,) = refusal(table).errors
    assert fault.field == name
    assert fault.message.startswith("is not a field of a contact account")
    assert read(table, columns={name: "description"}) == [{"id": 1, "description": "yes"}]
