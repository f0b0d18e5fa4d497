"""What the tests of plans share: companies, a table, and the oracle, which is the sandbox's own log."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replyio import ApplyResult, ContactAccount, Plan, PlanTable, ReplyClient
    from replyio.sandbox import Sandbox, SandboxRequest

KEY = "Zq7+xW/3vB=9%tR~5mN_kP2"

_ACCOUNT = re.compile(r"/contact-accounts/(\d+)$")


def fresh() -> str:
    """A key that no other test has used: the quota is remembered by key."""
    return uuid.uuid4().hex


def companies(count: int, first: int = 1) -> list[dict[str, Any]]:
    """Accounts with a name, a domain and a few fields each."""
    return [
        {
            "id": id,
            "name": f"Company {id}",
            "domainName": f"company{id}.example",
            "city": "Oslo",
            "industry": "Ships",
            "companySize": "51-200",
            "ownerUserId": 42,
        }
        for id in range(first, first + count)
    ]


def moves(ids: Iterable[int], city: str = "Bergen") -> list[dict[str, Any]]:
    """A table that moves companies to another city, each to its own part of it."""
    return [{"id": id, "city": f"{city} {id}"} for id in ids]


def id_of(request: SandboxRequest) -> int | None:
    """The account that a request is about."""
    found = _ACCOUNT.search(request.path)
    return int(found[1]) if found else None


def puts(sandbox: Sandbox) -> list[SandboxRequest]:
    """The updates that arrived."""
    return [request for request in sandbox.requests if request.method == "PUT"]


def succeeded(sandbox: Sandbox) -> Counter[int | None]:
    """How many updates of each account were answered with success."""
    return Counter(id_of(request) for request in puts(sandbox) if request.status == 200)


def statuses(table: Iterable[Mapping[str, Any]]) -> list[str]:
    """The status of each row, in order."""
    return [row["status"] for row in table]


def by_status(report: Plan | ApplyResult) -> Counter[str]:
    """The statuses as the rows tell them."""
    return Counter(statuses(report.rows))


def still(account: ContactAccount) -> ContactAccount:
    """An account without the date that every update moves."""
    return dataclasses.replace(account, last_activity_date=account.created_date)


def written(account: ContactAccount) -> dict[str, Any]:
    """The members of an update that makes an account what it is; those that are empty are left out."""
    wire = account.to_dict(by_alias=True)
    names = {
        "name",
        "ownerUserId",
        "description",
        "domainName",
        "domainSecondary",
        "industry",
        "companySize",
        "country",
    }
    names |= {"state", "city", "timeZoneId", "linkedInUrl", "phone", "twitterUrl", "logoUrl", "email"}
    return {name: wire[name] for name in names if wire[name] not in (None, "")}


def assert_written(
    sandbox: Sandbox,
    before: Mapping[int, ContactAccount],
    meant: Mapping[int, Mapping[str, Any]],
    *,
    once: bool = True,
) -> None:
    """The service has exactly what was meant, and its log shows how: one good update with the whole body for each
    account that was to change, and none for any other."""
    now = sandbox.accounts
    assert now.keys() == before.keys()
    for id, account in before.items():
        expected = dataclasses.replace(account, **meant.get(id, {}))
        assert still(now[id]) == still(expected), f"account {id}"
    good = succeeded(sandbox)
    assert set(good) == set(meant), set(good) ^ set(meant)
    if once:
        assert set(good.values()) <= {1}, good
    for request in puts(sandbox):
        id = id_of(request)
        assert id in meant, f"an update of account {id}"
        sent = {name: value for name, value in request.body.items() if value not in (None, "")}
        assert sent == written(dataclasses.replace(before[id], **meant[id])), f"the body for account {id}"


def assert_complete(report: Plan | ApplyResult, rows: int) -> None:
    """Every row has exactly one status, and the counts are those of the rows."""
    table: PlanTable = report.rows
    assert [row["row"] for row in table] == list(range(rows))
    assert report.counts == by_status(report)
    assert sum(report.counts.values()) == rows


def plan(client: ReplyClient, mode: str, data: object, /, **options: Any) -> Plan:
    """Plans, in either mode of calling."""
    options.setdefault("progress", False)
    if mode == "sync":
        return client.plan_contact_account_updates(data, **options)
    return asyncio.run(_awaited(client.plan_contact_account_updates_async(data, **options)))


def do(plan: Plan, action: str, mode: str = "sync", **options: Any) -> ApplyResult:
    """Applies, reverts or tries again, in either mode of calling."""
    options.setdefault("progress", False)
    if mode == "sync":
        result: ApplyResult = getattr(plan, action)(**options)
        return result
    return asyncio.run(_awaited(getattr(plan, f"{action}_async")(**options)))


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
