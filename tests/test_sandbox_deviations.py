"""The sandbox deviates from the contract's page where it is told to, and the client finds it out or gets along."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

import replyio
from replyio.sandbox import Deviations, Sandbox

ACCOUNT: dict[str, Any] = {"id": 1, "name": "Acme Industries", "city": "Oslo", "phone": None, "description": ""}


def ask(sandbox: Sandbox, method: str, path: str, body: Any = None) -> tuple[http.client.HTTPResponse, Any]:
    """What the sandbox answers, without the client between."""
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    headers = {"X-API-Key": "k", "Content-Type": "application/json"}
    connection.request(method, f"/v3/contact-accounts{path}", None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response, content


def get(**deviations: Any) -> dict[str, Any]:
    with Sandbox([ACCOUNT], deviations=Deviations(**deviations)) as sandbox:
        found: dict[str, Any] = ask(sandbox, "GET", "/1")[1]
        return found


def item(**deviations: Any) -> dict[str, Any]:
    with Sandbox([ACCOUNT], deviations=Deviations(**deviations)) as sandbox:
        found: dict[str, Any] = ask(sandbox, "GET", "")[1]["items"][0]
        return found


def put(body: dict[str, Any], **deviations: Any) -> dict[str, Any]:
    with Sandbox([ACCOUNT], deviations=Deviations(**deviations)) as sandbox:
        response, answered = ask(sandbox, "PUT", "/1", {"name": "A"} | body)
        assert response.status == 200, answered
        assert ask(sandbox, "GET", "/1")[1] | answered == ask(sandbox, "GET", "/1")[1]
        return answered  # type: ignore[no-any-return]


def test_without_deviations_nothing_deviates() -> None:
    with Sandbox([ACCOUNT]) as sandbox:
        whole = ask(sandbox, "GET", "/1")[1]
    assert get() == whole
    assert item() == {name: value for name, value in whole.items() if name != "emailProvider"}


def test_the_items_of_a_list_lack_or_cut_members() -> None:
    lacking = item(list_lacks=["city", "created_date", "linkedInUrl"])
    assert set(item()) - set(lacking) == {"city", "createdDate", "linkedInUrl"}
    assert get(list_lacks="city")["city"] == "Oslo"
    assert (item(list_cut=4)["name"], item(list_cut=4)["city"], item(list_cut=2)["city"]) == ("Acme", "Oslo", "Os")
    assert get(list_cut=4)["name"] == "Acme Industries"


@pytest.mark.parametrize(
    ("form", "date"),
    [
        ("utc", "2025-01-15T09:30:00Z"),
        ("offset", "2025-01-15T09:30:00+00:00"),
        ("local", "2025-01-15T09:30:00"),
        ("date_only", "2025-01-15"),
        ("null", None),
    ],
)
def test_dates_have_other_forms(form: str, date: str | None) -> None:
    assert get(dates=form)["createdDate"] == item(dates=form)["lastActivityDate"] == date


def test_an_empty_text_is_null_or_a_text() -> None:
    shown = [(get(empty=form)["phone"], get(empty=form)["description"]) for form in ("as_sent", "null", "text")]
    assert shown == [(None, ""), (None, None), ("", "")]


def test_a_member_that_the_package_does_not_know_is_writable_and_wiped_when_it_is_left_out() -> None:
    unknown = {"annualRevenue": "12 million"}
    assert get(unknown_members=unknown)["annualRevenue"] == "12 million"
    assert put({"annualRevenue": "13 million"}, unknown_members=unknown)["annualRevenue"] == "13 million"
    assert put({}, unknown_members=unknown)["annualRevenue"] is None
    with Sandbox([ACCOUNT], deviations=Deviations(unknown_members=unknown)) as sandbox:
        assert ask(sandbox, "PUT", "/1", {"name": "A", "other": 1})[0].status == 400
        sandbox.set_account({"id": 2, "name": "B"})
        assert sandbox.accounts[2].extra == unknown


def test_texts_are_stored_otherwise() -> None:
    sent = {"name": " A  & B ", "phone": "+47 (22) 33-44", "domainName": "Acme.Example"}

    def stored(form: str) -> tuple[str, ...]:
        answered = put(sent, stored=form)
        return answered["name"], answered["phone"], answered["domainName"]

    assert stored("as_sent") == tuple(sent.values())
    assert stored("trimmed") == ("A  & B", "+47 (22) 33-44", "Acme.Example")
    assert stored("reformatted") == ("A & B", "+47223344", "acme.example")
    assert stored("escaped") == (" A  &amp; B ", "+47 (22) 33-44", "Acme.Example")


def test_an_update_is_ignored_with_200() -> None:
    assert put({"city": "Bergen", "phone": "1"}, ignored_fields=["city"])["city"] == "Oslo"
    everything = put({"city": "Bergen", "phone": "1"}, ignored_fields="all")
    assert (everything["name"], everything["city"], everything["phone"]) == ("Acme Industries", "Oslo", None)
    with Sandbox([ACCOUNT], deviations=Deviations(ignored_fields="all")) as sandbox:
        ask(sandbox, "PUT", "/1", {"name": "A"})
        assert not sandbox.requests[0].applied


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("x-rate-limit", {"X-Rate-Limit-Limit": "2", "X-Rate-Limit-Remaining": "1"}),
        ("ratelimit", {"RateLimit-Limit": "2", "RateLimit-Remaining": "1"}),
        ("structured", {"RateLimit-Policy": '"minute";q=2;w=60, "hour";q=50;w=3600'}),
    ],
)
def test_headers_tell_what_is_left_of_the_quota(form: Any, expected: dict[str, str]) -> None:
    with Sandbox([ACCOUNT], quota=(2, 50), deviations=Deviations(rate_limit_headers=form)) as sandbox:
        answers = [ask(sandbox, "GET", "/1")[0] for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert {name: answers[0].getheader(name) for name in expected} == expected
    if form == "structured":
        assert answers[0].getheader("RateLimit") == '"minute";r=1;t=60, "hour";r=49;t=3600'
    else:
        remaining = [name for name in expected if name.endswith("Remaining")]
        assert [answer.getheader(remaining[0]) for answer in answers] == ["1", "0", "0"]


@pytest.mark.parametrize(
    "deviations",
    [
        {"list_lacks": ["id"]},
        {"list_lacks": ["nothing"]},
        {"ignored_fields": ["stage"]},
        {"unknown_members": {"city": 1}},
        {"unknown_members": {"x": object()}},
        {"dates": "iso"},
        {"empty": "never"},
        {"stored": "rot13"},
        {"rate_limit_headers": "ratelimit"},
        {"rate_limit_headers": "other"},
    ],
)
def test_a_deviation_that_cannot_be_is_refused(deviations: Any) -> None:
    with pytest.raises(replyio.ConfigurationError, match=r"^deviations "):
        Sandbox([ACCOUNT], deviations=Deviations(**deviations))


@pytest.mark.parametrize("auth", ["x-api-key", "bearer"])
@pytest.mark.parametrize("dates", ["utc", "offset", "local"])
def test_the_client_gets_along_with_a_key_in_one_header_and_any_date(auth: Any, dates: Any) -> None:
    with Sandbox([ACCOUNT], auth=auth, deviations=Deviations(dates=dates)) as sandbox:
        account = sandbox.client().patch_contact_account(1, city="Bergen")
        assert account.city == "Bergen"
        assert account.created_date == sandbox.accounts[1].created_date


def test_an_update_loses_the_stage_a_field_and_the_owner() -> None:
    answered = put({"city": "Bergen", "ownerUserId": 42}, update_clears=["stage", "city"], update_owner=7)
    assert (answered["city"], answered["stage"], answered["ownerUserId"]) == (None, None, 7)
    for name in ("name", "createdDate", "nothing"):
        with pytest.raises(replyio.ConfigurationError, match="cannot clear"):
            Sandbox([ACCOUNT], deviations=Deviations(update_clears=name))
