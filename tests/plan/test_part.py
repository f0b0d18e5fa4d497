"""A run may take up some of a plan's rows only, and refuses to do more than it may."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from replyio import ConfigurationError, PlanError, ValidationError
from replyio.sandbox import Sandbox

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
    "a file": csv_without_row_two,
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
        (7, "must be row numbers or a table"),
        ("nowhere.csv", "cannot be read: No such file"),
        ("nowhere.txt", r"must end in \.csv, .* or \.parquet$"),
        ("nowhere.xlsx", r"must end in \.csv, .*; save the sheet as CSV first"),
        ("nowhere\0.csv", "contains a null character"),
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
    with pytest.raises(PlanError, match=r"max_changes=1 .* resume it with client\.open_plan"):
        client.patch_contact_accounts(ROWS, max_changes=1, progress=False)
    with pytest.raises(PlanError, match="max_cleared=0"):
        client.patch_contact_accounts([{"id": 1, "city": None}], nulls="clear", max_cleared=0, progress=False)
    assert puts(service) == []
    assert client.patch_contact_accounts(ROWS, max_changes=6, max_cleared=0, progress=False).counts == {"changed": 6}


@pytest.mark.parametrize("name", ["limit", "max_changes", "max_cleared"])
@pytest.mark.parametrize("value", [-1, 1.5, "3", True, 2**70])
def test_a_number_that_is_none_is_refused(name: str, value: Any, made: Plan) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be None or a whole number"):
        do(made, "apply", **{name: value})
    assert made.counts == {"pending": 6}


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
