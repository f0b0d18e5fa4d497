"""A plan is made from what is known: an account that its page hides is read by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replyio import UnexpectedResponseError
from replyio.sandbox import Fault, Sandbox

from .jobs import companies, id_of, moves, plan, puts

ROWS = range(10, 20)
Members = dict[str, Any]


@pytest.fixture
def thirty() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(30)) as sandbox:
        yield sandbox


def listing(sandbox: Sandbox, change: Callable[[Members], object], *, has_more: bool = False) -> Members:
    """The page of all accounts, each of them changed."""
    items = [account.to_dict(by_alias=True) for account in sandbox.accounts.values()]
    for item in items:
        change(item)
    return {"items": items, "hasMore": has_more}


def spoil(sandbox: Sandbox, account: int, **members: Any) -> None:
    """Has the list, and nothing else, show an account otherwise."""
    page = listing(sandbox, lambda item: item.update(members) if item["id"] == account else None)
    sandbox.add_fault(Fault(request=1, status=200, body=page))


def singly(sandbox: Sandbox) -> list[int | None]:
    """The accounts that were read by themselves."""
    return [id for request in sandbox.requests if (id := id_of(request)) is not None]


@pytest.mark.parametrize(
    "members",
    [
        {"lastActivityDate": None},
        {"createdDate": "2024-01-02"},
        {"ownerUserId": None},
        {"emailProvider": 5},
        {"name": ["x"]},
        {"id": "7"},
    ],
)
def test_an_account_that_cannot_be_read_holds_up_no_plan_about_others(members: Members, thirty: Sandbox) -> None:
    spoil(thirty, 7, **members)
    with thirty.client() as client, plan(client, "sync", moves(ROWS)) as made:
        assert made.counts == {"pending": 10}
    assert len(thirty.requests) == 1


def test_an_account_that_cannot_be_read_on_its_page_is_read_by_itself(thirty: Sandbox) -> None:
    spoil(thirty, 15, ownerUserId=None)
    with thirty.client() as client, plan(client, "sync", moves(ROWS)) as made:
        assert made.counts == {"pending": 10}
    assert singly(thirty) == [15]


def test_an_account_that_cannot_be_read_at_all_fails_its_row_and_no_other(thirty: Sandbox) -> None:
    spoil(thirty, 15, ownerUserId=None)
    whole = thirty.accounts[15].to_dict(by_alias=True)
    thirty.add_fault(Fault(id=15, status=200, body=whole | {"ownerUserId": None}))
    began = time.monotonic()
    with thirty.client() as client, plan(client, "sync", moves(ROWS)) as made:
        assert made.counts == {"pending": 9, "failed": 1}
        (failed,) = (row for row in made.rows if row["status"] == "failed")
    assert failed["id"] == 15
    assert "/ownerUserId must be an integer" in failed["error"]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("by", ["name", "domain_name"])
def test_a_name_is_not_matched_in_a_list_that_hides_an_account(by: str, thirty: Sandbox) -> None:
    spoil(thirty, 7, ownerUserId=None)
    value = {"name": "Company 12", "domain_name": "company12.example"}[by]
    with (
        thirty.client() as client,
        pytest.raises(
            UnexpectedResponseError, match=r"account 7.*/ownerUserId must be an integer.*match on id instead"
        ),
    ):
        plan(client, "sync", [{by: value, "city": "Bergen"}], match_on=by)


@pytest.mark.parametrize(
    ("status_body", "message"),
    [
        ("<html>Please sign in</html>", "the body is not valid JSON"),
        ({"items": None, "hasMore": False}, "/items must be a list"),
        ({"items": []}, "/hasMore must be true or false"),
    ],
)
def test_what_is_no_page_ends_the_planning_at_once(status_body: Any, message: str, thirty: Sandbox) -> None:
    thirty.add_fault(Fault(status=200, body=status_body))
    began = time.monotonic()
    with thirty.client(timeout=5) as client, pytest.raises(UnexpectedResponseError, match=message):
        plan(client, "sync", moves(ROWS))
    assert time.monotonic() - began < 5


def test_a_member_that_no_item_has_is_read_for_each_row(thirty: Sandbox) -> None:
    page = listing(thirty, lambda item: item.pop("city"))
    thirty.add_fault(Fault(request=1, status=200, body=page))
    rows = [{"id": id, "city": "Oslo" if id == 12 else "Bergen"} for id in ROWS]
    with thirty.client() as client, plan(client, "sync", rows) as made:
        assert made.counts == {"pending": 9, "unchanged": 1}
        assert {change["before"] for change in made.changes} == {"Oslo"}
    assert singly(thirty) == list(ROWS)


@pytest.mark.parametrize("by", ["id", "name", "domain_name"])
def test_a_list_that_does_not_end_refuses_a_name_and_leaves_an_id_to_single_reads(by: str, thirty: Sandbox) -> None:
    page = listing(thirty, lambda _: None, has_more=True)
    page["items"] = page["items"][:15]
    for number in range(1, 5):
        thirty.add_fault(Fault(request=number, status=200, body=page))
    values: dict[str, Callable[[int], Any]] = {
        "id": lambda id: id,
        "name": lambda id: f"Company {id}",
        "domain_name": lambda id: f"company{id}.example",
    }
    rows = [{by: values[by](id), "city": "Bergen"} for id in ROWS]
    with thirty.client() as client:
        if by == "id":
            with plan(client, "sync", rows) as made:
                assert made.counts == {"pending": 10}
            assert singly(thirty) == [16, 17, 18, 19]
        else:
            with pytest.raises(UnexpectedResponseError, match="the list does not end"):
                plan(client, "sync", rows, match_on=by)
            assert len(thirty.requests) == 4


@pytest.mark.parametrize("by", ["id", "name"])
def test_what_only_the_list_shows_is_not_cleared_although_the_plan_read_the_account_by_itself(
    by: str, thirty: Sandbox
) -> None:
    def show(item: Members) -> None:
        if item["id"] == 15:
            item["phone"] = "+47 22 33 44 55"
            del item["city"]

    rows = moves(range(14, 16)) if by == "id" else [{"name": f"Company {n}", "city": "Bergen"} for n in (14, 15)]
    thirty.add_fault(Fault(request=1, status=200, body=listing(thirty, show)))
    with thirty.client() as client, plan(client, "sync", rows, match_on=by) as made:
        assert 15 in singly(thirty)
        made.apply()
        assert made.counts == {"changed": 1, "conflict": 1}
        (conflict,) = (row for row in made.rows if row["status"] == "conflict")
    assert conflict["id"] == 15
    assert "the list showed a value of phone when the plan was made" in conflict["error"]
    assert [id_of(request) for request in puts(thirty)] == [14]
