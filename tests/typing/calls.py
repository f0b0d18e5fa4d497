"""Calls as users write them. Both type checkers must find nothing wrong."""

from __future__ import annotations

import datetime
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import attrs
import duckdb
import pydantic
from typing_extensions import assert_type

from replyio import (
    APIError,
    ApplyResult,
    CompanySize,
    ContactAccount,
    ContactAccountFields,
    ContactAccountStage,
    ContactAccountUpdate,
    FieldError,
    PlanTable,
    Quota,
    RateLimitError,
    ReplyClient,
    Status,
    TableLike,
    ValidationError,
)

if TYPE_CHECKING:
    import pandas
    import polars
    from sqlalchemy import Row


class NamedRow(NamedTuple):
    id: int
    city: str


@attrs.define
class AttrsRow:
    id: int


class ModelRow(pydantic.BaseModel):
    id: int


def clients() -> ReplyClient:
    ReplyClient()
    ReplyClient("key", base_url=None, auth="bearer", act_as="someone@acme.example", team_id=7, timeout=5)
    ReplyClient(quota=None)
    with ReplyClient(quota=Quota(per_minute=95, per_hour=2900)) as client:
        return assert_type(client.with_options(timeout=5), ReplyClient)


def updates(client: ReplyClient) -> None:
    account = client.update_contact_account(4711, name="Acme", owner_user_id=42, company_size="51-200", city=None)
    assert_type(account, ContactAccount)
    client.update_contact_account(4711, name="Acme", company_size=CompanySize.FROM_51_TO_200)
    client.patch_contact_account(4711, city="Oslo")
    client.patch_contact_account(4711, linked_in_url=None)
    fields: ContactAccountFields = {"name": "Acme", "city": None}
    client.patch_contact_account(4711, **fields)
    update: ContactAccountUpdate = {"name": "Acme", "city": None}
    client.update_contact_account(4711, **update)
    client.update_contact_account(4711, **account.update_fields())
    told: list[dict[str, Any]] = []
    result = client.patch_contact_accounts([{"id": 1}], progress=told.append)
    assert_type(result.rows[0], dict[str, Any])
    assert_type(result.rows[:10].filter("failed", "conflict"), PlanTable)
    client.update_contact_account(account.id, **account.update_fields())


def answers(client: ReplyClient) -> None:
    account = client.get_contact_account(4711)
    assert_type(account.id, int)
    assert_type(account.name, str)
    assert_type(account.city, str | None)
    assert_type(account.created_date, datetime.datetime | None)
    assert_type(account.stage, ContactAccountStage | None)
    if account.stage:
        assert_type(account.stage.name, str)
    for listed in client.list_contact_accounts(search="acme", page_size=100):
        assert_type(listed, ContactAccount)


def bulk(client: ReplyClient) -> None:
    with client.open_plan("acme.replyplan") as plan:
        assert_type(plan.export("changes.csv", "changes", for_spreadsheet=True), int)
        result = plan.apply()
        assert_type(result, ApplyResult)
        assert_type(result.export(Path("rows.parquet"), overwrite=True), int)


async def awaited(client: ReplyClient) -> None:
    async with client:
        assert_type(await client.get_contact_account_async(4711), ContactAccount)
        assert_type(await client.patch_contact_account_async(4711, city="Oslo"), ContactAccount)
        assert_type(await client.update_contact_account_async(4711, name="Acme"), ContactAccount)
        async for listed in client.list_contact_accounts_async():
            assert_type(listed, ContactAccount)


def errors(client: ReplyClient) -> None:
    try:
        client.get_contact_account(4711)
    except ValidationError as error:
        assert_type(error.errors, list[FieldError])
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
    except APIError as error:
        assert_type(error.status, int)
        assert_type(error.code, str | None)


def tables(client: ReplyClient, path: Path, frame: pandas.DataFrame, other: polars.DataFrame, query: Row[Any]) -> None:
    updates: list[ContactAccountUpdate] = [{"name": "Acme"}]
    accepted: tuple[TableLike, ...] = (
        [{"id": 4711, "city": "Oslo"}],
        ({"id": id, "city": None} for id in range(3)),
        updates,
        [client.get_contact_account(4711)],
        client.list_contact_accounts(),
        [NamedRow(4711, "Oslo")],
        [AttrsRow(4711)],
        [ModelRow(id=4711)],
        [query],
        sqlite3.connect(":memory:").execute("SELECT 1"),
        frame,
        other,
        duckdb.table("accounts"),
        client.open_plan("acme.replyplan").changes,
        "rows.csv",
        path,
    )
    for table in accepted:
        client.plan_contact_account_updates(table)
    status: Status = "failed"
    assert_type(client.open_plan("acme.replyplan").counts[status], int)
    assert_type(client.patch_contact_accounts("rows.csv").counts["not_found"], int)
