"""`list_contact_accounts` reads page after page, as they are needed, and gives each account once."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from replyio import ServerError, UnexpectedResponseError, ValidationError
from replyio.sandbox import Fault, Sandbox
from support import MODES, call, listed, sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replyio import ContactAccount, ReplyClient


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
    assert [(query["top"], query["skip"]) for query in queries(seven)] == [("3", "0"), ("4", "2"), ("4", "5")]


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


def scripted(sandbox: Sandbox, pages: list[list[int]], *, has_more: list[bool] | None = None) -> None:
    """Has the first requests answered with these accounts, all but the last with more behind them."""
    more = has_more or [True] * (len(pages) - 1) + [False]
    for number, ids in enumerate(pages, 1):
        items = [sandbox.accounts[id].to_dict(by_alias=True) for id in ids]
        sandbox.add_fault(Fault(request=number, status=200, body={"items": items, "hasMore": more[number - 1]}))


@pytest.mark.parametrize("mode", MODES)
def test_an_account_that_two_pages_have_is_given_once(mode: str, seven: Sandbox) -> None:
    scripted(seven, [[1, 2, 3], [3, 4, 5], [4, 5], [5, 6, 7]])
    with seven.client() as client:
        assert ids(listed(client, mode, page_size=3)) == [1, 2, 3, 4, 5, 6, 7]
    assert [(query["top"], query["skip"]) for query in queries(seven)] == [
        ("3", "0"),
        ("4", "2"),
        ("4", "4"),
        ("4", "5"),
    ]


@pytest.mark.parametrize("mode", MODES)
def test_an_account_that_slips_between_two_pages_is_not_left_out(mode: str, seven: Sandbox) -> None:
    # Account 4 is before the second page, since others were removed from the first one meanwhile.
    scripted(seven, [[1, 2, 3], [5, 6, 7], [3, 4, 5, 6], [6, 7]])
    with seven.client() as client:
        assert ids(listed(client, mode, page_size=3)) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("mode", MODES)
def test_a_list_that_cannot_be_read_whole_is_an_error_and_no_short_list(mode: str) -> None:
    with Sandbox([{"id": number, "name": f"account {number}"} for number in range(1, 31)]) as many:
        read = [[1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9], [9, 10, 11, 12]]
        scripted(many, [*read, [20], [21], [22], [23]], has_more=[True] * 8)
        message = (
            r"the list changes faster than replyio can read it after 1 attempt in .*: accounts are missing before the "
            r"page at skip=2; hint: try again when fewer accounts are created and deleted$"
        )
        with many.client() as client, pytest.raises(UnexpectedResponseError, match=message):
            listed(client, mode, page_size=3)
        assert [query["skip"] for query in queries(many)] == ["0", "2", "5", "8", "11", "8", "5", "2"]


def read_whole(client: ReplyClient, read: str, mode: str) -> None:
    """Reads a list to its end, in one of the ways that there are."""

    async def frame() -> object:
        accounts = client.list_contact_accounts_async()
        return await (accounts.to_pandas() if read == "to_pandas" else accounts.to_polars())

    if read == "iterate":
        listed(client, mode)
    elif read == "arrow":
        client.list_contact_accounts().__arrow_c_stream__()
    elif mode == "sync":
        getattr(client.list_contact_accounts(), read)()
    else:
        asyncio.run(frame())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("items", [[], [1, 2, 3]])
@pytest.mark.parametrize("read", ["iterate", "to_pandas", "to_polars", "arrow"])
def test_a_page_that_comes_again_and_again_is_an_error_after_a_few(
    read: str, items: list[int], mode: str, seven: Sandbox
) -> None:
    page = {"items": [seven.accounts[id].to_dict(by_alias=True) for id in items], "hasMore": True}
    seven.add_fault(Fault(status=200, body=page))

    with seven.client() as client, pytest.raises(UnexpectedResponseError, match="the list does not end") as caught:
        read_whole(client, read, mode)
    assert caught.value.status == 200
    assert len(seven.requests) <= 4


@pytest.mark.parametrize("mode", MODES)
def test_an_empty_page_that_has_more_is_read_again(mode: str, seven: Sandbox) -> None:
    seven.add_fault(Fault(request=1, status=200, body={"items": [], "hasMore": True}))
    with seven.client() as client:
        assert len(listed(client, mode)) == 7
    assert sent(seven) == ["GET", "GET"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ownerUserId": None}, r"/items/2/ownerUserId must be an integer \(account 3, skip=0\)"),
        ({"city": ["canary"]}, r"/items/2/city must be a string or null \(account 3, "),
        ({"id": "canary"}, r"/items/2/id must be an integer \(skip=0\)"),
    ],
)
def test_an_account_that_cannot_be_read_is_an_error_that_names_it(
    mode: str, members: dict[str, Any], message: str, seven: Sandbox
) -> None:
    items = [account.to_dict(by_alias=True) for account in seven.accounts.values()]
    items[2] |= members
    seven.add_fault(Fault(request=1, status=200, body={"items": items, "hasMore": False}))
    with seven.client() as client, pytest.raises(UnexpectedResponseError, match=message) as caught:
        listed(client, mode)
    assert "canary" not in str(caught.value)


def test_after_an_account_that_cannot_be_read_the_same_page_is_asked_for(seven: Sandbox) -> None:
    items = [account.to_dict(by_alias=True) | {"name": 5} for account in seven.accounts.values()]
    seven.add_fault(Fault(request=1, status=200, body={"items": items, "hasMore": False}))
    with seven.client() as client:
        accounts = client.list_contact_accounts()
        with pytest.raises(UnexpectedResponseError):
            next(accounts)
        assert len(list(accounts)) == 7


ODD: dict[str, Any] = {
    "createdDate": "2024-01-02",
    "lastActivityDate": None,
    "linkedProspectsCount": "12",
    "stage": "Lead",
    "emailProvider": 5,
}


@pytest.mark.parametrize("mode", MODES)
def test_what_no_update_needs_fails_no_list_and_is_kept_as_it_came(mode: str, seven: Sandbox) -> None:
    items = [account.to_dict(by_alias=True) for account in seven.accounts.values()]
    items[2] |= ODD
    seven.add_fault(Fault(status=200, body={"items": items, "hasMore": False}))
    with seven.client() as client:
        odd = listed(client, mode)[2]
        assert (odd.created_date, odd.last_activity_date, odd.linked_prospects_count) == (None, None, None)
        assert (odd.stage, odd.email_provider) == (None, None)
        assert odd.extra == {name: value for name, value in ODD.items() if value is not None}
        assert {name: odd.to_dict(by_alias=True)[name] for name in ODD} == ODD
        assert pickle.loads(pickle.dumps(odd)) == odd


def test_a_table_has_nothing_where_a_value_cannot_be_read(seven: Sandbox) -> None:
    items = [account.to_dict(by_alias=True) for account in seven.accounts.values()]
    items[2] |= ODD
    seven.add_fault(Fault(status=200, body={"items": items, "hasMore": False}))
    names = ["created_date", "last_activity_date", "linked_prospects_count", "stage_name", "email_provider"]
    with seven.client() as client:
        frame = client.list_contact_accounts().to_pandas()
        assert frame.loc[2, names].isna().all()
        assert frame.loc[[0, 1], ["created_date", "linked_prospects_count"]].notna().all(axis=None)
        assert client.list_contact_accounts().to_polars().select(names).row(2) == (None,) * 5


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
        ("descending", 1),
        ("descending", None),
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


def test_tasks_that_share_an_iterator_lose_no_account() -> None:
    accounts = [{"id": number, "name": f"account {number}"} for number in range(1, 301)]

    async def main(sandbox: Sandbox, page_size: int) -> list[int]:
        found: list[int] = []

        async def take(shared: Any) -> None:
            async for account in shared:
                found.append(account.id)
                await asyncio.sleep(0)

        async with sandbox.client() as client:
            shared = client.list_contact_accounts_async(page_size=page_size)
            await asyncio.gather(*(take(shared) for _ in range(4)))
        return found

    for page_size in (1000, 40):
        with Sandbox(accounts, faults=[Fault(delay=0.01, times=3)]) as sandbox:
            assert sorted(asyncio.run(main(sandbox, page_size))) == list(range(1, 301))


def test_threads_that_share_an_iterator_lose_no_account() -> None:
    accounts = [{"id": number, "name": f"account {number}"} for number in range(1, 2001)]
    found: list[int] = []

    def take(shared: Any) -> None:
        for account in shared:
            found.append(account.id)  # noqa: PERF401 - the other threads get their turns

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for page_size in (1000, 40):
            found.clear()
            with Sandbox(accounts) as sandbox, sandbox.client(quota=None) as client:
                shared = client.list_contact_accounts(page_size=page_size)
                threads = [threading.Thread(target=take, args=(shared,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
            assert sorted(found) == list(range(1, 2001))
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("page_size", [1, 3])
def test_those_that_share_an_iterator_request_each_page_once(mode: str, page_size: int) -> None:
    accounts = [{"id": number, "name": f"account {number}"} for number in range(1, 8)]
    found: list[int] = []

    def take(shared: Any) -> None:
        found.extend(account.id for account in shared)

    async def take_async(shared: Any) -> None:
        async for account in shared:
            found.append(account.id)  # noqa: PERF401 - the other tasks get their turns

    async def together(shared: Any) -> None:
        await asyncio.gather(*(take_async(shared) for _ in range(20)))

    with Sandbox(accounts, faults=[Fault(delay=0.01)]) as sandbox, sandbox.client(quota=None) as client:
        if mode == "sync":
            shared = client.list_contact_accounts(page_size=page_size)
            with ThreadPoolExecutor(20) as pool:
                list(pool.map(take, [shared] * 20))
        else:
            asyncio.run(together(client.list_contact_accounts_async(page_size=page_size)))
    assert sorted(found) == list(range(1, 8))
    assert len(queries(sandbox)) == len({tuple(query.items()) for query in queries(sandbox)})


@pytest.mark.parametrize("how", ["error", "cancelled"])
def test_a_task_reads_the_page_that_the_task_before_it_could_not(how: str, seven: Sandbox) -> None:
    async def main() -> tuple[list[BaseException | ContactAccount], list[ContactAccount]]:
        async with seven.client(max_attempts=1) as client:
            shared = client.list_contact_accounts_async(page_size=3)
            first, second = asyncio.ensure_future(anext(shared)), asyncio.ensure_future(anext(shared))
            await asyncio.sleep(0.1)
            assert len(seven.requests) == 1
            if how == "cancelled":
                first.cancel()
            outcomes = await asyncio.gather(first, second, return_exceptions=True)
            return outcomes, [account async for account in shared]

    seven.add_fault(Fault(delay=0.6, times=1, status=503 if how == "error" else None))
    (first, second), others = asyncio.run(main())
    assert isinstance(first, ServerError if how == "error" else asyncio.CancelledError)
    assert not isinstance(second, BaseException)
    assert sorted(ids([second, *others])) == [1, 2, 3, 4, 5, 6, 7]


def test_event_loops_that_share_an_iterator_get_each_account_once() -> None:
    accounts = [{"id": number, "name": f"account {number}"} for number in range(1, 8)]

    async def take(shared: Any) -> list[int]:
        return [account.id async for account in shared]

    with Sandbox(accounts, faults=[Fault(delay=0.01)]) as sandbox, sandbox.client(quota=None) as client:
        for _ in range(5):
            shared = client.list_contact_accounts_async(page_size=1)
            with ThreadPoolExecutor(6) as pool:
                found = list(pool.map(lambda shared: asyncio.run(take(shared)), [shared] * 6))
            assert sorted(id for each in found for id in each) == list(range(1, 8))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_the_page_that_its_parent_reads(seven: Sandbox) -> None:
    seven.add_fault(Fault(delay=0.5, times=1))
    with seven.client() as client:
        shared = client.list_contact_accounts(page_size=3)
        reading = threading.Thread(target=lambda: list(shared))
        reading.start()
        while not seven.requests:
            time.sleep(0.01)
        child = os.fork()
        if not child:
            signal.alarm(20)
            os._exit(0 if len(list(shared)) == 7 else 1)
        assert os.waitpid(child, 0)[1] == 0
        reading.join()
