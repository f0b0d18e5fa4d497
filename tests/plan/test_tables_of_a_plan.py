"""Tables of a plan: indexed, sliced, filtered, joined to the caller's own; and what is suspicious is shown."""

from __future__ import annotations

import csv
import datetime
import html
import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import replyio
from replyio import PlanTable, ReplyClient, ValidationError
from replyio._counts import Counts
from replyio.sandbox import Fault, Sandbox
from support import environment

from .jobs import companies, do, moves, plan, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from replyio import ApplyResult


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(20)) as sandbox:
        yield sandbox


@pytest.fixture
def client(service: Sandbox) -> Iterator[ReplyClient]:
    with service.client(quota=None, max_attempts=1) as client:
        yield client


@pytest.fixture
def result(service: Sandbox, client: ReplyClient) -> ApplyResult:
    service.add_fault(Fault(method="PUT", status=400, id=2))
    return client.patch_contact_accounts([*moves(range(1, 6)), {"id": 99, "city": "x"}], progress=False)


def test_a_table_can_be_indexed_and_sliced(result: ApplyResult) -> None:
    rows = result.rows
    records = list(rows)
    assert rows[0] == records[0]
    assert rows[-1] == records[5]
    assert list(rows[1:4]) == records[1:4]
    assert list(rows[::-2]) == records[::-2]
    assert list(rows[4:2]) == []
    assert isinstance(rows[:2], PlanTable)
    assert rows["id"] == [1, 2, 3, 4, 5, 99]
    assert rows[:2].to_polars().height == len(rows[:2].to_pandas()) == pa.table(rows[:2]).num_rows == 2
    with pytest.raises(IndexError, match="6 rows, and none at position 6"):
        rows[6]
    with pytest.raises(KeyError, match="no column 'state'"):
        rows["state"]


def test_a_table_can_be_filtered_by_status(result: ApplyResult, client: ReplyClient, service: Sandbox) -> None:
    assert result.rows.filter("changed")["id"] == [1, 3, 4, 5]
    assert result.rows.filter("failed", "not_found").to_polars()["row"].to_list() == [1, 5]
    assert {row["status"] for row in result.changes.filter("failed")} == {"failed"}
    with pytest.raises(ValidationError, match="status must be among pending, changed"):
        result.rows.filter("fail")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    made = plan(client, "sync", moves(range(6, 10), "Molde"))
    assert do(made, "apply", rows=made.changes[1:3]).counts == {"pending": 2, "changed": 2}
    assert do(made, "apply", rows=made.rows.filter("pending")[:1]).counts == {"pending": 1, "changed": 3}
    assert [service.accounts[id].city for id in range(6, 10)] == ["Molde 6", "Molde 7", "Molde 8", "Oslo"]


def test_every_row_says_when_it_was_done(result: ApplyResult, client: ReplyClient, tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    done = [row["done_at"] for row in result.rows]
    assert [moment is None for moment in done] == [False, False, False, False, False, True]
    assert all(abs(now - moment) < datetime.timedelta(minutes=1) for moment in done if moment)
    assert str(result.rows.to_pandas()["done_at"].dtype) == "datetime64[us, UTC]"
    assert result.rows.to_polars()["done_at"][0] == done[0]
    result.export(tmp_path / "rows.jsonl")
    line = json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert datetime.datetime.fromisoformat(line["done_at"].replace("Z", "+00:00")) == done[0]
    assert plan(client, "sync", moves([9])).rows["done_at"] == [None]


def test_the_types_of_a_frame_do_not_depend_on_what_is_in_it(result: ApplyResult, client: ReplyClient) -> None:
    empty = plan(client, "sync", [])
    for table in ("rows", "changes", "failures"):
        assert dict(getattr(result, table).to_pandas().dtypes) == dict(getattr(empty, table).to_pandas().dtypes), table


def test_showing_a_plan_reads_ten_changes(client: ReplyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan(client, "sync", moves(range(1, 21)))

    def refuse(*_: object) -> None:
        raise AssertionError("all changes were read")

    monkeypatch.setattr(made._file, "changes", refuse)
    shown = made._repr_html_()
    assert shown.count("→") == 10
    assert "and 10 more changes" in shown


FRAMES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "pandas with an index": lambda columns: pd.DataFrame(columns, index=list("fedcba")[: len(columns["id"])]),
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_result_is_joined_to_the_callers_own_table(kind: str, service: Sandbox, client: ReplyClient) -> None:
    service.add_fault(Fault(method="PUT", status=400, id=2))
    table = FRAMES[kind]({"id": [1, 2, 99], "city": ["Bergen", "Bergen", "Bergen"]})
    result = client.patch_contact_accounts(table, progress=False)
    joined = result.join(table)
    assert type(joined) is type(table)
    as_list = (lambda name: joined[name].to_pylist()) if kind == "pyarrow" else (lambda name: joined[name].to_list())
    assert as_list("status") == ["changed", "failed", "not_found"]
    reasons = as_list("reason")
    assert pd.isna(reasons[0])
    assert "400" in reasons[1]
    assert "99" in reasons[2]
    assert as_list("city") == ["Bergen"] * 3
    assert list(getattr(table, "column_names", None) or table.columns) == ["id", "city"]
    if kind.startswith("pandas"):
        assert joined.index.equals(table.index)
    with pytest.raises(ValidationError, match="has a column status already; pass prefix="):
        result.join(joined)
    again = result.join(joined, prefix="reply_")
    assert list(getattr(again, "column_names", None) or again.columns)[-2:] == ["reply_status", "reply_reason"]
    assert result.plan.join(table) is not None


def test_a_result_without_rows_is_joined_to_a_table_without_columns(client: ReplyClient) -> None:
    table = pd.DataFrame()
    result = client.patch_contact_accounts(table, progress=False)
    assert list(result.join(table).columns) == ["status", "reason"]


COLUMNS = {"id": [1, 2, 99], "name": ["Company 1", "Company 2", "Company 99"], "city": ["Bergen"] * 3}
UNUSUAL: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "an index": (lambda: pd.DataFrame(COLUMNS).drop(columns="name").set_index("id"), {}),
    "an index of names": (lambda: pd.DataFrame(COLUMNS).drop(columns="id").set_index("name"), {"match_on": "name"}),
    "an index of two": (lambda: pd.DataFrame(COLUMNS).set_index(["city", "id"]), {"match_on": "id"}),
    "labels that are numbers": (
        lambda: pd.DataFrame(list(zip(*COLUMNS.values(), strict=True))),
        {"columns": {"0": "id", "1": "name", "2": "city"}},
    ),
    "a label that is a date": (
        lambda: pd.DataFrame({**COLUMNS, datetime.date(2026, 1, 1): 7}).drop(columns="name"),
        {"ignore": "unknown"},
    ),
    "two labels": (
        lambda: pd.DataFrame(COLUMNS).set_axis(pd.MultiIndex.from_product([COLUMNS, [""]]), axis=1),
        {"columns": {"('id', '')": "id", "('name', '')": "name", "('city', '')": "city"}},
    ),
    "one label twice": (
        lambda: pd.DataFrame([[id, "Bergen", 7, 7] for id in (1, 2, 99)], columns=["id", "city", "x", "x"]),
        {"ignore": "unknown"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", UNUSUAL)
def test_what_a_plan_accepts_can_be_joined(form: str, client: ReplyClient) -> None:
    make, options = UNUSUAL[form]
    table = make()
    result = client.patch_contact_accounts(table, progress=False, **options)
    joined = result.join(table)
    assert joined["status"].to_list() == [row["status"] for row in result.rows]
    assert joined["status"].to_list()[2] == "not_found"
    with pytest.raises(ValidationError, match="has a column status already; pass prefix="):
        result.join(joined)
    assert joined.index.equals(table.index)
    assert joined.iloc[:, : table.shape[1]].equals(table)
    with pytest.raises(ValidationError, match="has another account in row 0 than the plan"):
        result.join(table.iloc[::-1])


def test_an_index_named_like_a_new_column_is_refused(client: ReplyClient) -> None:
    table = pd.DataFrame({"id": [1], "city": ["Bergen"]}, index=pd.Index(["x"], name="status"))
    result = client.patch_contact_accounts(table, ignore="unknown", progress=False)
    with pytest.raises(ValidationError, match="has a column status already; pass prefix="):
        result.join(table)
    assert list(result.join(table, prefix="reply_").columns)[-2:] == ["reply_status", "reply_reason"]


@pytest.mark.parametrize("kind", FRAMES)
def test_another_table_is_not_joined(kind: str, client: ReplyClient) -> None:
    """A status beside the wrong account would be believed."""
    result = client.patch_contact_accounts(FRAMES[kind]({"id": [1, 2, 3], "city": ["a", "b", "c"]}), progress=False)
    with pytest.raises(ValidationError, match="has another account in row 1 than the plan"):
        result.join(FRAMES[kind]({"id": [1, 3, 2], "city": ["a", "c", "b"]}))
    with pytest.raises(ValidationError, match="has 2 rows, but the plan has 3"):
        result.join(FRAMES[kind]({"id": [1, 2], "city": ["a", "b"]}))


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize(
    ("match_on", "column", "values"),
    [("name", "Company", ["Company 1", "Company 99", "Company 3"]), ("id", "Nr", ["1.0", " 99 ", "3"])],
)
def test_a_table_is_joined_by_the_column_that_its_rows_were_matched_on(
    kind: str, match_on: Any, column: str, values: list[str], client: ReplyClient
) -> None:
    table = FRAMES[kind]({column: values, "city": ["a", "b", "c"]})
    result = client.patch_contact_accounts(table, match_on=match_on, columns={column: match_on}, progress=False)
    joined = result.join(table)["status"]
    statuses = joined.to_pylist() if kind == "pyarrow" else joined.to_list()
    assert statuses == ["changed", "not_found", "changed"]
    with pytest.raises(ValidationError, match="has another account in row 0 than the plan"):
        result.join(FRAMES[kind]({column: ["Company 3", *values[1:]], "city": ["a", "b", "c"]}))
    with pytest.raises(ValidationError, match=r"has another account in row \d than the plan"):
        result.join(FRAMES[kind]({column: values[1:] + values[:1], "city": ["a", "b", "c"]}))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([{"id": 1}], "not list"),
        (pd.Series([1]), "not Series"),
        (pl.LazyFrame({"id": [1]}), r"not LazyFrame; collect\(\) it first"),
    ],
    ids=["list", "series", "lazy"],
)
def test_only_frames_are_joined(table: object, message: str, result: ApplyResult) -> None:
    with pytest.raises(ValidationError, match=f"must be a pandas or polars DataFrame or a pyarrow Table, {message}"):
        result.join(table)


SUSPICIOUS = [
    {"id": 1, "city": "NULL", "phone": "4.91E+11"},
    {"id": 2, "city": "-", "phone": "+47 22 00 00 00"},
    {"id": 3, "city": "Bergen", "phone": "22"},
]


def test_suspicious_cells_are_counted_and_shown_wherever_a_plan_is(client: ReplyClient, tmp_path: Path) -> None:
    made = plan(client, "sync", SUSPICIOUS, save_as=tmp_path / "a.replyplan")
    told = (
        "3 suspicious cells, such as NULL, 4.9E+11, =A1 or a text with spaces around it: 2 in city (from row 0), 1 in "
        "phone (row 0)"
    )
    for each in (made, client.open_plan(made.path), replyio.read_plan(made.path)):
        assert each.suspicious == {"city": 2, "phone": 1}
        assert [(row["row"], row["field"], row["after"]) for row in each.suspicious_changes] == [
            (0, "city", "NULL"), (0, "phone", "4.91E+11"), (1, "city", "-"),
        ]  # fmt: skip
        assert told in repr(each)
        assert told in each._repr_html_()
    again = plan(client, "sync", SUSPICIOUS, save_as=made.path, if_exists="resume")
    assert again.suspicious == made.suspicious
    assert plan(client, "sync", SUSPICIOUS, null_values=["NULL", "-", "4.91E+11"]).suspicious == {}
    assert "suspicious" not in repr(plan(client, "sync", moves([1])))
    assert do(do(made, "apply").plan, "revert").plan.suspicious == {}


def test_the_command_lists_suspicious_cells_with_their_rows(service: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,phone\n1,4721000001.0\n2,22\n3,4721000002.0\n", encoding="utf-8")
    told = command(service, tmp_path, "plan", "a.csv", "--save-as", "a.replyplan")[2]
    assert "the plan writes 4721000001.0 in row 0, 4721000002.0 in row 2; `replyio status" in told
    assert "--null-value" not in told, "a number is no text for an empty value"
    words = ("status", "a.replyplan", "--show", "suspicious")
    _, out, _ = command(service, tmp_path, *words, "--format", "csv")
    assert [(row["row"], row["after"]) for row in csv.DictReader(out.splitlines())] == [
        ("0", "4721000001.0"), ("2", "4721000002.0"),
    ]  # fmt: skip
    assert command(service, tmp_path, *words, "--export", "s.csv")[2] == "replyio: 2 rows written to s.csv\n"
    command(service, tmp_path, "apply", "a.replyplan")
    (tmp_path / "b.csv").write_text("id,phone\n1,4721000001.0\n", encoding="utf-8")
    assert "none of them changes an account" in command(service, tmp_path, "plan", "b.csv")[2]


# Texts that differ only in what people do not see, and what a table shows of them.
UNSEEN = {
    "Oslo ": '"Oslo "',
    "  Oslo": '"  Oslo"',
    "Oslo\xa0": r"Oslo\xa0",
    "\u3000Oslo": r"\u3000Oslo",
    "Oslo\n": r"Oslo\n",
    "Oslo\u200b": r"Oslo\u200b",
    "\ufeffOslo": r"\ufeffOslo",
    "Os\xa0lo": r"Os\xa0lo",
    '"Oslo "': '""Oslo ""',
}


@pytest.mark.parametrize("text", UNSEEN)
def test_a_change_of_what_people_do_not_see_is_shown_and_its_data_stays_exact(
    text: str, service: Sandbox, client: ReplyClient, tmp_path: Path
) -> None:
    made = plan(client, "sync", [{"id": 1, "city": text}], save_as=tmp_path / "a.replyplan")
    for page in (made, made.changes, service.accounts[1]):
        assert "white-space:pre-wrap" in page._repr_html_()
    for page in (made, made.changes):
        assert UNSEEN[text] in text_of(page._repr_html_())
    _, out, told = command(service, tmp_path, "status", "a.replyplan", "--show", "changes", "--format", "table")
    assert f"  {UNSEEN[text]}  pending" in out
    is_counted = text != "Os\xa0lo"
    assert made.suspicious == ({"city": 1} if is_counted else {})
    assert ("1 suspicious cell" in told) == is_counted
    assert made.changes["after"] == made.changes.to_pandas()["after"].tolist() == [text]
    assert made.changes.to_polars()["after"].to_list() == [text]
    made.export(tmp_path / "a.jsonl", "changes")
    assert json.loads((tmp_path / "a.jsonl").read_text(encoding="utf-8"))["after"] == text
    made.export(tmp_path / "a.csv", "changes")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert [row["after"] for row in csv.DictReader(file)] == [text]
    made.apply(progress=False)
    assert service.accounts[1].city == text
    assert UNSEEN[text] in text_of(service.accounts[1]._repr_html_())
    assert UNSEEN[text] in command(service, tmp_path, "get", "1", "--format", "table")[1]


@pytest.mark.parametrize("end", [" ", "\xa0", "日本"])
@pytest.mark.parametrize("length", [35, 40, 60, 61, 500])
def test_a_change_at_the_end_of_a_long_text_is_shown(
    length: int, end: str, service: Sandbox, client: ReplyClient, tmp_path: Path
) -> None:
    before = ("abcdefghij" * length)[:length]
    service.set_account({"id": 1, "name": "Company 1", "description": before})
    made = plan(client, "sync", [{"id": 1, "description": before + end}], save_as=tmp_path / "a.replyplan")
    for page in (made._repr_html_(), made.changes._repr_html_()):
        first, second = re.findall(r"<bdi[^>]*>([^<]*[a-j]{5}[^<]*)</bdi>", page)[-2:]
        assert first != second
    _, out, _ = command(service, tmp_path, "status", "a.replyplan", "--show", "changes", "--format", "table")
    assert len(set(re.split("  +", out.splitlines()[1])[3:5])) == 2, out


def command(service: Sandbox, folder: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "replyio", *words],
        env=environment(service), cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_command_reads_columns_encodings_and_words_for_nothing(service: Sandbox, tmp_path: Path) -> None:
    table = "id|Website|Town|Notes\n1|new.example|Malmö|x\n2|-|Malmö|y\n"
    (tmp_path / "crm.csv").write_text(table, encoding="windows-1252")
    words = [
        "plan",
        "crm.csv",
        "--save-as",
        "crm.replyplan",
        "--column",
        "Website=domain_name",
        "--column",
        "Town=city",
    ]
    code, _, told = command(service, tmp_path, *words)
    assert (code, "--encoding" in told) == (2, True), told
    words += ["--encoding", "windows-1252"]
    code, _, told = command(service, tmp_path, *words)
    assert code == 2
    assert '"Notes" is not a field of a contact account; to leave it out, list it in --ignore' in told
    words += ["--ignore", "unknown", "--delimiter", "|"]
    code, out, told = command(service, tmp_path, *words)
    assert code == 0, told
    assert Counts(json.loads(out)["counts"]) == {"pending": 2}
    shown = (
        r"1 suspicious cell, such as NULL, .*: 1 in Website \(row 1\); the plan writes - in row 1; `replyio status "
        r"crm.replyplan --show suspicious` lists them; `replyio plan` with --null-value=- reads such a text as an "
        r"empty cell\n"
    )
    for printed in (told, command(service, tmp_path, "status", "crm.replyplan")[2]):
        assert re.search(shown, printed), printed
    code, _, told = command(service, tmp_path, *words, "--replace", "--null-value", "-")
    assert (code, "suspicious" in told) == (0, False)
    assert command(service, tmp_path, "apply", "crm.replyplan")[0] == 0
    assert [(service.accounts[id].domain_name, service.accounts[id].city) for id in (1, 2)] == [
        ("new.example", "Malmö"), ("company2.example", "Malmö"),
    ]  # fmt: skip


def test_the_command_names_its_own_options_in_what_it_tells_of_columns(service: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,Website,linked_prospects_count\n1,new.example,3\n", encoding="utf-8")
    code, _, told = command(service, tmp_path, "plan", "a.csv")
    assert code == 2
    assert "pass --column Website=domain_name" in told
    assert "--ignore" in told
    assert not [word for word in ("columns=", "ignore=", "match_on=", "null_values=") if word in told], told
    for pair in ("Website", "=city", "Website="):
        code, _, told = command(service, tmp_path, "plan", "a.csv", "--column", pair)
        assert (code, "COLUMN=FIELD" in told) == (2, True)
    assert command(service, tmp_path, "plan", "a.csv", "--ignore", "unknown", "--ignore", "Website")[0] == 2


def test_a_list_on_the_command_line_goes_in_again(service: Sandbox, tmp_path: Path) -> None:
    for more in ((), ("--writable",)):
        code, out, _ = command(service, tmp_path, "list", "--format", "csv", *more)
        assert code == 0
        (tmp_path / "all.csv").write_text(out, encoding="utf-8")
        code, out, told = command(service, tmp_path, "plan", "all.csv")
        assert (code, Counts(json.loads(out)["counts"])) == (0, {"unchanged": 20}), told
    head = (tmp_path / "all.csv").read_text(encoding="utf-8").partition("\n")[0].split(",")
    assert head == ["id", *replyio.ContactAccountFields.__annotations__]


def test_a_listing_is_read_into_one_table_and_says_so(client: ReplyClient) -> None:
    for read in ("to_pandas", "to_polars", "__arrow_c_stream__"):
        accounts = client.list_contact_accounts()
        assert ".to_pandas()" in repr(accounts)
        getattr(accounts, read)()
        assert "all 20 accounts returned" in repr(accounts)
        with pytest.raises(replyio.ReplyError, match=r"already returned 20 accounts.*list_contact_accounts\(\)"):
            getattr(accounts, read)()
        with pytest.raises(replyio.ReplyError, match="already returned"):
            plan(client, "sync", accounts)
    accounts = client.list_contact_accounts(page_size=8)
    first = next(accounts)
    assert "1 account returned so far; iterate over it, or call .to_pandas() or .to_polars()" in repr(accounts)
    assert [first.id, *accounts.to_pandas()["id"]] == list(range(1, 21))
    with Sandbox(accounts=[]) as nobody, nobody.client() as lonely:
        accounts = lonely.list_contact_accounts()
        assert len(accounts.to_pandas()) == len(accounts.to_pandas()) == 0


def test_the_types_of_a_listing_do_not_depend_on_what_is_in_it(client: ReplyClient) -> None:
    with Sandbox(accounts=[]) as nobody, nobody.client() as lonely:
        empty = lonely.list_contact_accounts().to_pandas()
    full = client.list_contact_accounts().to_pandas()
    assert dict(full.dtypes) == dict(empty.dtypes)
    assert str(full["linked_prospects_count"].dtype) == "Int64"
    assert len(set(statuses(plan(client, "sync", full).rows))) == 1


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


def test_the_reasons_of_failures_come_first_and_whole(service: Sandbox, client: ReplyClient) -> None:
    detail = "The account belongs to a team that this user may read and may not write, as its owner has decided"
    body = {"title": "Bad Request", "status": 400, "detail": detail, "code": "contactAccount.refused"}
    service.add_fault(Fault(method="PUT", status=400, id=2, body=body))
    result = client.patch_contact_accounts([*moves([1, 2]), {"id": 3, "company_size": "huge"}], progress=False)
    for markup in (result._repr_html_(), result.plan._repr_html_()):
        shown = text_of(markup)
        assert detail.strip() in shown
        assert shown.index(detail[:40]) < shown.index("Bergen 1")
        assert "row 1: row 1" not in shown
        # The value that was refused is not drawn as one that was written.
        refused = markup[markup.index("Bergen 2") - 300 :]
        assert re.search(r"failed", text_of(refused))
        assert "34,160,90" not in refused[: refused.index("Bergen 2")].rpartition("→")[2]
    failures = text_of(result.failures._repr_html_())
    assert detail.strip() in failures
    assert failures.index(detail[:40]) < failures.index("row 1")
