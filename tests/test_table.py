"""A list is a table: to pandas, to polars and to whatever reads Arrow, with the same columns and values."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from replyio import ReplyError, ServerError
from replyio.sandbox import Fault, Sandbox
from support import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio import ReplyClient

COLUMNS = [
    "id", "owner_user_id", "name", "linked_prospects_count", "created_date", "last_activity_date", "description",
    "domain_name", "domain_secondary", "industry", "company_size", "country", "state", "city", "time_zone_id",
    "linked_in_url", "phone", "twitter_url", "logo_url", "email", "stage_id", "stage_name", "stage_color_id",
    "email_provider",
]  # fmt: skip
INTEGERS = {"id", "owner_user_id", "linked_prospects_count", "stage_id", "stage_color_id"}
DATES = {"created_date", "last_activity_date"}


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """The three accounts of the sandbox, and two that have little."""
    with Sandbox() as sandbox:
        sandbox.set_account({"id": 1, "name": "Ωμέγα 🜂\0"})
        sandbox.set_account({"id": 2, "name": "x", "city": "", "stage": {"id": 5, "name": "Lead"}})
        yield sandbox


@pytest.fixture
def client(service: Sandbox) -> Iterator[ReplyClient]:
    with service.client() as client:
        yield client


def expected(service: Sandbox) -> list[dict[str, Any]]:
    """The rows that the accounts make."""
    rows = []
    for account in service.accounts.values():
        row = account.to_dict() | {f"stage_{name}": None for name in ("id", "name", "color_id")}
        if account.stage is not None:
            row |= {f"stage_{name}": getattr(account.stage, name) for name in ("id", "name", "color_id")}
        # A list does not say the provider.
        row |= {"company_size": account.company_size and str(account.company_size), "email_provider": None}
        rows.append({name: row[name] for name in COLUMNS})
    return rows


def pandas_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in frame.to_dict("records")
    ]


FORMS: dict[str, Callable[[ReplyClient], list[dict[str, Any]]]] = {
    "pandas": lambda client: pandas_rows(client.list_contact_accounts(page_size=2).to_pandas()),
    "polars": lambda client: client.list_contact_accounts(page_size=2).to_polars().to_dicts(),
    "pyarrow": lambda client: pa.table(client.list_contact_accounts(page_size=2)).to_pylist(),
    "arrow in polars": lambda client: pl.DataFrame(client.list_contact_accounts(page_size=2)).to_dicts(),
    "async pandas": lambda client: pandas_rows(
        asyncio.run(client.list_contact_accounts_async(page_size=2).to_pandas())
    ),
    "async polars": lambda client: asyncio.run(client.list_contact_accounts_async(page_size=2).to_polars()).to_dicts(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_columns_and_values(form: str, client: ReplyClient, service: Sandbox) -> None:
    rows = FORMS[form](client)
    assert [list(row) for row in rows] == [COLUMNS] * 5
    assert sorted(rows, key=lambda row: row["id"]) == sorted(expected(service), key=lambda row: row["id"])
    assert [request.query["skip"] for request in service.requests] == ["0", "1", "3"]


def test_columns_have_their_types(client: ReplyClient) -> None:
    schema = pa.table(client.list_contact_accounts()).schema
    for name in COLUMNS:
        wanted = pa.int64() if name in INTEGERS else pa.timestamp("us", "UTC") if name in DATES else pa.string()
        assert schema.field(name).type == wanted, name
    frame = client.list_contact_accounts().to_pandas()
    assert str(frame["created_date"].dtype).endswith("UTC]")
    assert str(frame["id"].dtype) == "int64"
    polars = client.list_contact_accounts().to_polars()
    assert polars.schema["created_date"] == pl.Datetime("us", "UTC")


@pytest.mark.parametrize("form", FORMS)
def test_no_account_is_a_table_without_rows_and_with_all_columns(form: str) -> None:
    with Sandbox([]) as sandbox, sandbox.client() as client:
        assert FORMS[form](client) == []
        assert list(client.list_contact_accounts().to_pandas().columns) == COLUMNS
        assert client.list_contact_accounts().to_polars().columns == COLUMNS
        assert pa.table(client.list_contact_accounts()).column_names == COLUMNS


def test_no_account_keeps_the_types_of_the_columns() -> None:
    with Sandbox([]) as sandbox, sandbox.client() as client:
        frame = client.list_contact_accounts().to_pandas()
    assert str(frame["created_date"].dtype).endswith("UTC]")
    assert str(frame["id"].dtype) == "int64"


def test_a_repeated_account_is_one_row(client: ReplyClient, service: Sandbox) -> None:
    wire = service.accounts[4711].to_dict(by_alias=True)
    for number in (1, 2):
        service.add_fault(Fault(request=number, status=200, body={"items": [wire], "hasMore": number == 1}))
    assert client.list_contact_accounts().to_polars()["id"].to_list() == [4711]


def test_a_table_has_what_is_left(client: ReplyClient) -> None:
    accounts = client.list_contact_accounts(page_size=2)
    first = [next(accounts).id, next(accounts).id]
    rest = accounts.to_pandas()["id"].tolist()
    assert sorted(first + rest) == [1, 2, 4711, 4712, 4713]
    assert list(accounts) == []
    with pytest.raises(ReplyError, match="has already returned 5 accounts"):
        accounts.to_pandas()


@pytest.mark.parametrize("form", ["to_pandas", "to_polars"])
@pytest.mark.parametrize("is_async", [True, False])
def test_one_of_two_tables_at_once_has_all_accounts_and_the_other_is_refused(
    is_async: bool, form: str, client: ReplyClient, service: Sandbox
) -> None:
    async def both() -> list[Any]:
        accounts = client.list_contact_accounts_async(page_size=2)
        return await asyncio.gather(getattr(accounts, form)(), getattr(accounts, form)(), return_exceptions=True)

    def table(accounts: Any) -> Any:
        try:
            return getattr(accounts, form)()
        except ReplyError as error:
            return error

    service.add_fault(Fault(delay=0.05))
    if is_async:
        found = asyncio.run(both())
    else:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(table, [client.list_contact_accounts(page_size=2)] * 2))
    [refused] = [each for each in found if isinstance(each, ReplyError)]
    [whole] = [each for each in found if not isinstance(each, ReplyError)]
    assert sorted(whole["id"]) == [1, 2, 4711, 4712, 4713]
    assert "has already returned 5 accounts" in str(refused)


def test_a_table_taken_in_the_middle_of_a_page_loses_no_account(client: ReplyClient) -> None:
    for rest in (
        lambda accounts: accounts.to_pandas()["id"].tolist(),
        lambda accounts: accounts.to_polars()["id"].to_list(),
        lambda accounts: pa.table(accounts)["id"].to_pylist(),
    ):
        accounts = client.list_contact_accounts(page_size=2)
        first = next(accounts).id
        assert sorted([first, *rest(accounts)]) == [1, 2, 4711, 4712, 4713]
        assert list(accounts) == []


def test_an_async_table_taken_in_the_middle_of_a_page_loses_no_account(client: ReplyClient) -> None:
    async def main(form: str) -> list[int]:
        accounts = client.list_contact_accounts_async(page_size=2)
        first = await anext(accounts)
        table: Any = await getattr(accounts, form)()
        return [first.id, *table["id"]]

    for form in ("to_pandas", "to_polars"):
        assert sorted(asyncio.run(main(form))) == [1, 2, 4711, 4712, 4713]


@pytest.mark.parametrize("form", FORMS)
def test_a_page_that_fails_is_the_error_of_the_table(form: str, client: ReplyClient, service: Sandbox) -> None:
    service.add_fault(Fault(request=2, status=400, body={"title": "no"}))
    with pytest.raises(Exception, match="400"):
        FORMS[form](client)
    assert len(service.requests) == 2


def test_pages_read_before_one_that_failed_are_not_lost(service: Sandbox) -> None:
    service.add_fault(Fault(request=2, status=500))
    with service.client(max_attempts=1) as client:
        accounts = client.list_contact_accounts(page_size=2)
        with pytest.raises(ServerError):
            accounts.to_pandas()
        assert sorted(accounts.to_pandas()["id"]) == [1, 2, 4711, 4712, 4713]


@pytest.mark.parametrize(("form", "missing"), [("to_pandas", "pandas"), ("to_polars", "polars")])
def test_a_library_that_is_not_there_is_an_import_error(form: str, missing: str, service: Sandbox) -> None:
    code = f"""import sys; sys.modules[{missing!r}] = None
import replyio
try: replyio.ReplyClient().list_contact_accounts().{form}()
except ImportError as error: print(type(error).__name__)"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(service), capture_output=True, text=True, check=True
    )
    assert done.stdout == "ModuleNotFoundError\n"
    assert service.requests == []


def test_ctrl_c_just_before_a_page_arrives_loses_no_account(service: Sandbox) -> None:
    """A waiting call looks for signals every 50 ms, so that one can be raised after the page has arrived."""
    ids = [1, 2, 4711, 4712, 4713]
    interrupted = 0
    for early in range(5, 45, 4):
        service.clear_faults()
        service.add_fault(Fault(delay=0.08))
        with service.client() as client:
            accounts = client.list_contact_accounts(page_size=1)
            got = [next(accounts).id]
            timer = threading.Timer(0.08 - early / 1000, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            try:
                got.append(next(accounts).id)
                timer.join()
                time.sleep(0.01)
            except KeyboardInterrupt:
                interrupted += 1
            service.clear_faults()
            got += accounts.to_pandas()["id"].tolist()
        assert sorted(got) == ids
    assert interrupted


def test_a_cancelled_task_loses_no_page_that_has_arrived(service: Sandbox) -> None:
    async def main(early: float) -> list[int]:
        async with service.client() as client:
            accounts = client.list_contact_accounts_async(page_size=1)
            got = [(await anext(accounts)).id]
            task = asyncio.ensure_future(anext(accounts))
            await asyncio.sleep(early)
            time.sleep(0.1)  # noqa: ASYNC251 - the page arrives while the event loop is busy
            await asyncio.sleep(0)
            task.cancel()
            done = await asyncio.gather(task, return_exceptions=True)
            got += [account.id for account in done if not isinstance(account, BaseException)]
            got += [account.id async for account in accounts]
            return got

    for early in (0.0, 0.001, 0.01):
        assert sorted(asyncio.run(main(early))) == [1, 2, 4711, 4712, 4713]
