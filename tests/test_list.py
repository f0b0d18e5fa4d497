"""`list_contact_accounts` reads page after page, as they are needed, and gives each account once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from replyio import ServerError, ValidationError
from replyio.sandbox import Fault, Sandbox
from support import MODES, call, listed, sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replyio import ContactAccount


@pytest.fixture
def seven() -> Iterator[Sandbox]:
    """A sandbox with seven accounts."""
    with Sandbox([{"id": number, "name": f"account {number}", "city": "Oslo"} for number in range(1, 8)]) as sandbox:
        yield sandbox


def ids(accounts: list[ContactAccount]) -> list[int]:
    return [account.id for account in accounts]


def queries(sandbox: Sandbox) -> list[dict[str, str]]:
    return [request.query for request in sandbox.requests]


@pytest.mark.parametrize("mode", MODES)
def test_all_pages_are_read(mode: str, seven: Sandbox) -> None:
    with seven.client() as client:
        assert sorted(ids(listed(client, mode, page_size=3))) == [1, 2, 3, 4, 5, 6, 7]
    assert [(query["top"], query["skip"]) for query in queries(seven)] == [("3", "0"), ("3", "3"), ("3", "6")]


@pytest.mark.parametrize("mode", MODES)
def test_one_request_reads_a_thousand_accounts_by_default(mode: str, seven: Sandbox) -> None:
    with seven.client() as client:
        listed(client, mode)
    assert queries(seven) == [{"top": "1000", "skip": "0"}]


def test_nothing_is_requested_before_the_first_account_is_asked_for(seven: Sandbox) -> None:
    with seven.client() as client:
        accounts = client.list_contact_accounts(page_size=3)
        assert iter(accounts) is accounts
        assert seven.requests == []
        for number, expected in [(1, 1), (2, 1), (3, 1), (4, 2)]:
            next(accounts)
            assert (number, len(seven.requests)) == (number, expected)


def test_nothing_is_requested_before_the_first_account_is_awaited(seven: Sandbox) -> None:
    async def main() -> None:
        async with seven.client() as client:
            accounts = client.list_contact_accounts_async(page_size=3)
            assert seven.requests == []
            for expected in [1, 1, 1, 2]:
                await accounts.__anext__()
                assert len(seven.requests) == expected

    asyncio.run(main())


@pytest.mark.parametrize("mode", MODES)
def test_search_and_order_are_asked_of_the_service(mode: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        found = listed(client, mode, search="o", sort_by="name", descending=True)
        assert [account.name for account in found] == ["Globex"]
        assert ids(listed(client, mode, sort_by="owner_user_id"))[-1] == 4713
    assert queries(reply_sandbox) == [
        {"top": "1000", "skip": "0", "search": "o", "sort_by": "name", "sort_direction": "desc"},
        {"top": "1000", "skip": "0", "sort_by": "ownerUserId", "sort_direction": "asc"},
    ]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("search", ["a&b=c", "München 🜂", "100 %", "#?/+", ""])
def test_a_search_arrives_as_it_is(mode: str, search: str, reply_sandbox: Sandbox) -> None:
    with reply_sandbox.client() as client:
        listed(client, mode, search=search)
    assert queries(reply_sandbox)[0]["search"] == search


@pytest.mark.parametrize("mode", MODES)
def test_an_account_that_two_pages_have_is_given_once(mode: str, seven: Sandbox) -> None:
    wire = [seven.accounts[number].to_dict(by_alias=True) for number in range(1, 8)]
    pages: list[dict[str, Any]] = [
        {"items": wire[:3], "hasMore": True},
        {"items": wire[2:5], "hasMore": True},
        {"items": wire[3:5], "hasMore": True},
        {"items": wire[6:], "hasMore": False},
    ]
    for number, page in enumerate(pages, 1):
        seven.add_fault(Fault(request=number, status=200, body=page))
    with seven.client() as client:
        assert ids(listed(client, mode, page_size=3)) == [1, 2, 3, 4, 5, 7]
    assert [query["skip"] for query in queries(seven)] == ["0", "3", "6", "8"]


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_page_ends_the_list_whatever_it_says(mode: str, seven: Sandbox) -> None:
    seven.add_fault(Fault(request=1, status=200, body={"items": [], "hasMore": True}))
    with seven.client() as client:
        assert listed(client, mode) == []
    assert sent(seven) == ["GET"]


def test_a_list_that_is_exhausted_stays_so(seven: Sandbox) -> None:
    with seven.client() as client:
        accounts = client.list_contact_accounts()
        assert len(list(accounts)) == 7
        assert list(accounts) == []
    assert len(seven.requests) == 1


def test_a_page_that_failed_is_tried_again_by_the_next_call(seven: Sandbox) -> None:
    seven.add_fault(Fault(request=2, status=500))
    with seven.client(max_attempts=1) as client:
        accounts = client.list_contact_accounts(page_size=4)
        read = [next(accounts) for _ in range(4)]
        with pytest.raises(ServerError, match="list of accounts failed: 500"):
            next(accounts)
        assert sorted(ids(read + list(accounts))) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("page_size", 0),
        ("page_size", 1001),
        ("page_size", True),
        ("page_size", 2.0),
        ("page_size", 2**70),
        ("search", 5),
        ("search", "\ud800"),
        ("sort_by", 5),
    ],
)
def test_arguments_are_checked_before_any_request(mode: str, field: str, value: Any, seven: Sandbox) -> None:
    with seven.client() as client:
        with pytest.raises(ValidationError, match="list of accounts refused before any request") as caught:
            listed(client, mode, **{field: value})
        assert [error.field for error in caught.value.errors] == [field]
        assert call(client, "get_contact_account", mode, 1).id == 1
    assert sent(seven) == ["GET"]


def test_a_list_outlives_the_name_of_its_client(seven: Sandbox) -> None:
    assert len(list(seven.client().list_contact_accounts(page_size=2))) == 7
