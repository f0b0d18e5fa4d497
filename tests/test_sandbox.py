"""The sandbox answers as the contract says. It is asked over a plain socket, without the client that it tests."""

from __future__ import annotations

import gc
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import replyio
from replyio import CompanySize, ConfigurationError, ContactAccount
from replyio.sandbox import Fault, Sandbox

KEY = "a-key-that-nobody-may-see"
TEXT_FIELDS = [
    "description", "domainName", "domainSecondary", "industry", "country", "state", "city", "timeZoneId",
    "linkedInUrl", "phone", "twitterUrl", "logoUrl", "email",
]  # fmt: skip
ALWAYS = ["id", "ownerUserId", "name", "linkedProspectsCount", "createdDate", "lastActivityDate"]


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Talks to a sandbox over one connection."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent = {"X-API-Key": KEY} if not {"Authorization", "X_API_Key"} & set(headers) else {}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= {name.replace("_", "-"): value for name, value in headers.items() if value}
        content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        self.connection.request(method, "/v3" + path, content, sent)
        response = self.connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def put(self, id: int = 4711, /, **body: Any) -> Answer:
        return self("PUT", f"/contact-accounts/{id}", {"name": "Acme"} | body)

    def get(self, id: int = 4711) -> Answer:
        return self("GET", f"/contact-accounts/{id}")


Start = Callable[..., tuple[Sandbox, Caller]]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[tuple[Sandbox, Caller]] = []

    def start(*arguments: Any, **options: Any) -> tuple[Sandbox, Caller]:
        sandbox = Sandbox(*arguments, **options)
        running.append((sandbox, Caller(sandbox)))
        return running[-1]

    yield start
    for sandbox, caller in running:
        caller.connection.close()
        sandbox.stop()


@pytest.fixture
def call(start: Start) -> Caller:
    return start()[1]


def problem(answer: Answer, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem details of an answer, checked for what all of them have."""
    assert answer.status == status, answer
    assert answer.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["extensions"] == {}
    assert body.get("code") == code
    return body


def faults(answer: Answer) -> dict[str, str]:
    return {fault["pointer"]: fault["detail"] for fault in problem(answer, 400)["errors"]}


# The update


def test_update_answers_the_whole_account(call: Caller) -> None:
    answer = call.put(city="Bergen", companySize="11-50", ownerUserId=43)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert set(ALWAYS) < set(answer.json)
    assert (answer.json["city"], answer.json["companySize"], answer.json["ownerUserId"]) == ("Bergen", "11-50", 43)
    assert "emailProvider" not in answer.json


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "companySize"])
def test_an_optional_field_left_out_is_cleared(call: Caller, field: str) -> None:
    assert call.get().json[field] is not None
    assert call.put().json[field] is None
    assert call.get().json[field] is None


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "companySize"])
def test_null_clears_a_field(call: Caller, field: str) -> None:
    assert call.put(**{field: None}).json[field] is None


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_text_is_stored_as_it_is(call: Caller, field: str) -> None:
    for text in ["", " ", "Ωμέγα 🜂 \0 e\u0301"]:
        assert call.put(**{field: text}).json[field] == text
        assert call.get().json[field] == text


@pytest.mark.parametrize("size", [size.value for size in CompanySize])
def test_the_ten_company_sizes_are_taken(call: Caller, size: str) -> None:
    assert call.put(companySize=size).json["companySize"] == size


def test_update_keeps_what_cannot_be_sent(call: Caller) -> None:
    before = call.get().json
    after = call.put().json
    for member in ["id", "linkedProspectsCount", "createdDate", "stage"]:
        assert after[member] == before[member]
    assert after["lastActivityDate"] > before["lastActivityDate"]


def test_update_without_an_owner_keeps_the_owner(call: Caller) -> None:
    assert call.put(4713).json["ownerUserId"] == 43


def test_unknown_members_of_an_account_are_answered_and_kept(start: Start) -> None:
    _, call = start([{"id": 1, "name": "A", "extra": {"score": {"value": 9}}}])
    assert call.put(1).json["score"] == {"value": 9}


# 400


def test_every_fault_of_a_body_is_told_at_once(call: Caller) -> None:
    answer = call("PUT", "/contact-accounts/4711", {"companySize": "12", "city": 3, "zip": "0150", "ownerUserId": "42"})
    assert set(faults(answer)) == {"/name", "/companySize", "/city", "/ownerUserId", "/zip"}
    assert faults(answer)["/name"] == "Name is required."


@pytest.mark.parametrize("name", [None, "", " \t\n\u00a0", 1, ["Acme"]])
def test_name_must_be_text_and_not_blank(call: Caller, name: Any) -> None:
    assert set(faults(call.put(name=name))) == {"/name"}


@pytest.mark.parametrize("owner", [None, 0, -1, 1.5, True, "42", 2**63, 2**200])
def test_owner_must_be_a_positive_integer(call: Caller, owner: Any) -> None:
    assert set(faults(call.put(ownerUserId=owner))) == {"/ownerUserId"}


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "companySize"])
def test_wrong_types_are_refused(call: Caller, field: str) -> None:
    for value in [1, True, [], {}]:
        assert set(faults(call.put(**{field: value}))) == {f"/{field}"}


@pytest.mark.parametrize("size", ["empty", "51 - 200", "1-10", ""])
def test_another_company_size_is_refused(call: Caller, size: str) -> None:
    assert set(faults(call.put(companySize=size))) == {"/companySize"}


@pytest.mark.parametrize("member", ["id", "stage", "createdDate", "emailProvider", "linked_in_url", "a/b"])
def test_no_other_member_is_allowed(call: Caller, member: str) -> None:
    assert set(faults(call.put(**{member: None}))) == {"/" + member.replace("/", "~1")}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"name"', b'{"name": "\xff"}', b"[" * 1000])
def test_a_body_that_is_no_object_is_refused(call: Caller, body: bytes) -> None:
    assert set(faults(call("PUT", "/contact-accounts/4711", body))) == {""}


def test_a_body_that_is_not_announced_as_json_is_refused(call: Caller) -> None:
    answer = call("PUT", "/contact-accounts/4711", {"name": "A"}, Content_Type="application/x-www-form-urlencoded")
    assert set(faults(answer)) == {""}


@pytest.mark.parametrize("id", ["abc", "1.0", "1%2F2", "9223372036854775808", "+1"])
def test_an_id_that_is_none_is_refused(call: Caller, id: str) -> None:
    assert set(faults(call("GET", f"/contact-accounts/{id}"))) == {"id"}


def test_an_owner_outside_the_team_is_refused(start: Start) -> None:
    sandbox, call = start(owners=[42])
    problem(call.put(ownerUserId=43), 400, "contactAccount.invalidInput")
    assert call.put(ownerUserId=42).status == 200
    assert [request.applied for request in sandbox.requests] == [False, True]


def test_a_refused_update_changes_nothing(start: Start) -> None:
    sandbox, call = start()
    before = sandbox.accounts
    call.put(zip="0150")
    assert sandbox.accounts == before


# 401


@pytest.mark.parametrize(
    "headers",
    [
        {"X_API_Key": ""},
        {"X_API_Key": "another"},
        {"Authorization": KEY},
        {"Authorization": "Bearer another"},
        {"Authorization": f"Basic {KEY}"},
    ],
)
@pytest.mark.parametrize("path", ["/contact-accounts", "/contact-accounts/4711", "/contact-accounts/1"])
def test_a_missing_or_wrong_key_is_an_empty_401(start: Start, headers: dict[str, str], path: str) -> None:
    _, call = start(api_keys=[KEY])
    answer = call("GET", path, **headers)
    assert (answer.status, answer.body) == (401, b"")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_any_key_is_known_unless_said_otherwise(call: Caller) -> None:
    assert call("GET", "/contact-accounts", X_API_Key="whatever").status == 200
    assert call("GET", "/contact-accounts", X_API_Key="").status == 401


@pytest.mark.parametrize(
    ("auth", "plain", "bearer"), [("both", 200, 200), ("x-api-key", 200, 401), ("bearer", 401, 200)]
)
def test_the_header_of_the_key_can_be_chosen(start: Start, auth: Any, plain: int, bearer: int) -> None:
    _, call = start(auth=auth, api_keys=[KEY])
    assert call("GET", "/contact-accounts", X_API_Key=KEY).status == plain
    assert call("GET", "/contact-accounts", Authorization=f"Bearer {KEY}").status == bearer


# 403, 404, 405, 413


def test_a_key_without_the_scope_is_refused(start: Start) -> None:
    _, call = start(scopes={"reader": ["contacts:read"], "writer": ["contacts:write"]}, api_keys=[KEY])
    problem(call("PUT", "/contact-accounts/4711", {"name": "A"}, X_API_Key="reader"), 403)
    problem(call("GET", "/contact-accounts/4711", X_API_Key="writer"), 403)
    problem(call("GET", "/contact-accounts", X_API_Key="writer"), 403)
    assert call("GET", "/contact-accounts/4711", X_API_Key="reader").status == 200
    assert call("PUT", "/contact-accounts/4711", {"name": "A"}, X_API_Key="writer").status == 200
    assert call.put().status == 200


def test_an_account_without_the_right_to_it_is_forbidden_and_not_listed(start: Start) -> None:
    _, call = start(forbidden=[4712])
    problem(call.get(4712), 403, "contactAccount.forbidden")
    problem(call.put(4712), 403, "contactAccount.forbidden")
    assert [item["id"] for item in call("GET", "/contact-accounts").json["items"]] == [4711, 4713]


@pytest.mark.parametrize("id", [1, 0, -1, 2**63 - 1])
def test_an_account_that_is_not_there_is_not_found(call: Caller, id: int) -> None:
    problem(call.get(id), 404, "contactAccount.notFound")
    problem(call.put(id), 404, "contactAccount.notFound")


@pytest.mark.parametrize("path", ["/", "/contacts", "/contact-accounts/", "/contact-accounts/1/stage", "/../v2"])
def test_a_wrong_route_is_not_found_without_a_code(call: Caller, path: str) -> None:
    problem(call("GET", path), 404)


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/contact-accounts/4711", "PATCH", "GET, PUT"),
        ("/contact-accounts/4711", "DELETE", "GET, PUT"),
        ("/contact-accounts", "POST", "GET"),
        ("/contact-accounts", "PUT", "GET"),
    ],
)
def test_another_method_is_not_allowed(call: Caller, path: str, method: str, allowed: str) -> None:
    answer = call(method, path)
    problem(answer, 405)
    assert answer.headers["allow"] == allowed


def test_a_body_over_the_bound_is_too_large(start: Start) -> None:
    _, call = start(max_body=1000)
    problem(call.put(description="x" * 1000), 413)
    assert call.put(description="x" * 900).status == 200
    _, call = start()
    problem(call.put(description="x" * 5_000_000), 413)


# 429


def test_a_full_minute_is_429_with_retry_after(start: Start) -> None:
    _, call = start(quota=(2, 100))
    assert [call.get().status, call.put().status] == [200, 200]
    answer = call.get()
    problem(answer, 429)
    assert 58 <= int(answer.headers["retry-after"]) <= 60


def test_a_full_hour_waits_for_most_of_an_hour(start: Start) -> None:
    _, call = start(quota=(100, 2))
    assert [call.get(1).status, call("GET", "/contact-accounts").status] == [404, 200]
    assert 3598 <= int(call.get().headers["retry-after"]) <= 3600


def test_the_quota_is_counted_per_user(start: Start) -> None:
    _, call = start(quota=(1, 100))
    users: list[dict[str, str]] = [
        {"X_API_Key": "one"},
        {"X_API_Key": "two"},
        {"X_API_Key": "one", "X_User_Id": "7"},
        {"X_API_Key": "one", "X_User_Email": "a@b.example"},
        {"X_API_Key": "one", "X_Team_Id": "7"},
        {"Authorization": "Bearer three"},
    ]
    for status in [200, 429]:
        assert [call("GET", "/contact-accounts", **user).status for user in users] == [status] * len(users)
    assert call("GET", "/contact-accounts", Authorization="Bearer one").status == 429


def test_a_401_costs_no_quota(start: Start) -> None:
    _, call = start(quota=(1, 1), api_keys=[KEY])
    assert call("GET", "/contact-accounts", X_API_Key="another").status == 401
    assert call.get().status == 200


def test_waiting_as_long_as_retry_after_says_is_right_on_a_scaled_clock(start: Start) -> None:
    _, call = start(quota=(1, 100), clock_scale=60.0)
    assert call.get().status == 200
    answer = call.get()
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    time.sleep(1)
    assert call.get().status == 200


# Lists


@pytest.fixture
def many(start: Start) -> Caller:
    return start({"id": id, "name": f"Account {id:04}", "city": None if id % 3 else "Oslo"} for id in range(1, 1102))[1]


def test_a_page_has_25_accounts_and_at_most_1000(many: Caller) -> None:
    page = many("GET", "/contact-accounts").json
    assert (len(page["items"]), page["hasMore"]) == (25, True)
    page = many("GET", "/contact-accounts?top=1000").json
    assert (len(page["items"]), page["hasMore"]) == (1000, True)
    assert set(page) == {"items", "hasMore"}
    assert "emailProvider" not in page["items"][0]


def test_skip_reaches_every_account_once(many: Caller) -> None:
    seen: list[int] = []
    for skip in range(0, 1200, 300):
        page = many("GET", f"/contact-accounts?top=300&skip={skip}").json
        seen += [item["id"] for item in page["items"]]
        assert page["hasMore"] is (skip < 900)
    assert seen == list(range(1, 1102))
    assert many("GET", "/contact-accounts?skip=5000").json == {"items": [], "hasMore": False}


@pytest.mark.parametrize("query", ["top=1001", "top=0", "top=-1", "skip=-1"])
def test_a_page_that_cannot_be_is_refused(call: Caller, query: str) -> None:
    problem(call("GET", f"/contact-accounts?{query}"), 400, "contactAccount.invalidPagination")


@pytest.mark.parametrize("query", ["top=ten", "skip=", "sort_by=color", "sort_direction=down"])
def test_a_parameter_of_the_wrong_type_is_refused(call: Caller, query: str) -> None:
    assert set(faults(call("GET", f"/contact-accounts?{query}"))) == {query.partition("=")[0]}


def test_search_and_sorting(many: Caller) -> None:
    def ids(query: str) -> list[int]:
        return [item["id"] for item in many("GET", f"/contact-accounts?{query}").json["items"]]

    assert ids("search=ACCOUNT+11") == [1100, 1101]
    assert ids("search=nothing") == []
    assert ids("sort_by=name&sort_direction=desc&top=2") == [1101, 1100]
    assert ids("sort_by=city&sort_direction=desc&top=2") == [3, 6]
    assert ids("sort_by=city&top=2") == [1, 2]


# What it remembers


def test_requests_are_recorded_without_the_key(start: Start) -> None:
    sandbox, call = start()
    call.put(city="Oslo")
    call("GET", "/contact-accounts?top=2&search=a+b", Authorization=f"Bearer {KEY}", X_User_Id="7", X_Team_Id="8")
    call("PUT", "/contact-accounts/4711", b"{")
    first, second, third = sandbox.requests
    assert (first.number, first.method, first.path, first.status) == (1, "PUT", "/v3/contact-accounts/4711", 200)
    assert (first.body, first.applied) == ({"name": "Acme", "city": "Oslo"}, True)
    assert first.headers["x-api-key"] == "[key]"
    assert abs(time.time() - first.time.timestamp()) < 60
    assert second.query == {"top": "2", "search": "a b"}
    assert second.headers["authorization"] == "Bearer [key]"
    assert (second.headers["x-user-id"], second.headers["x-team-id"], second.applied) == ("7", "8", False)
    assert (third.body, third.raw_body, third.status) == (None, b"{", 400)
    assert first.connection == second.connection == third.connection
    assert KEY not in repr((sandbox, sandbox.requests))


def test_only_the_newest_requests_are_kept(start: Start) -> None:
    sandbox, call = start(keep_requests=2)
    for _ in range(4):
        call.get()
    assert [request.number for request in sandbox.requests] == [3, 4]
    sandbox.clear_requests()
    call.get()
    assert [request.number for request in sandbox.requests] == [5]


def test_accounts_come_back_as_dataclasses(start: Start) -> None:
    sandbox, call = start()
    account = sandbox.accounts[4711]
    assert isinstance(account, ContactAccount)
    assert account.company_size is CompanySize.FROM_51_TO_200
    assert account.stage is not None
    assert account.stage.name == "Customer"
    assert account.created_date.isoformat() == "2023-11-07T05:31:56+00:00"
    assert account.last_activity_date.microsecond == 580_000
    assert account.email_provider == "Gmail"
    call.put(city="Bergen")
    assert sandbox.accounts[4711].city == "Bergen"


def test_accounts_can_be_given_in_any_form(start: Start) -> None:
    template = Sandbox()
    template.stop()
    account = template.accounts[4711]
    sandbox, call = start(
        [account, {"id": 2, "name": "B", "linkedInUrl": "x"}, {"id": 3, "name": "C", "linked_in_url": "x"}]
    )
    assert sandbox.accounts[4711] == account
    assert (sandbox.accounts[2].linked_in_url, sandbox.accounts[3].linked_in_url) == ("x", "x")
    assert (sandbox.accounts[2].owner_user_id, sandbox.accounts[2].linked_prospects_count) == (42, 0)
    assert set(ALWAYS) <= set(call.get(2).json)
    copy, _ = start(sandbox.accounts)
    assert copy.accounts == sandbox.accounts
    with pytest.raises(TypeError, match="not int"):
        Sandbox([1])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        ([{"id": 1}], "name"),
        ([{"name": "A"}], "id"),
        ([{"id": 0, "name": "A"}], "positive"),
        ([{"id": 1, "name": " "}], "blank"),
        ([{"id": 1, "name": "A", "linkdin_url": ""}], "did you mean linked_in_url"),
        ([{"id": 1, "name": "A"}, {"id": 1, "name": "B"}], "given twice"),
        ([{"id": 1, "name": "A", "city": "a", "ownerUserId": 1, "owner_user_id": 1}], "given twice"),
    ],
)
def test_accounts_that_cannot_be_are_refused(accounts: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Sandbox(accounts)


def test_another_program_can_change_the_accounts(start: Start) -> None:
    sandbox, call = start()
    sandbox.set_account({"id": 4711, "name": "Changed"})
    sandbox.set_account({"id": 1, "name": "New"})
    assert (sandbox.remove_account(4712), sandbox.remove_account(4712)) == (True, False)
    assert (call.get().json["name"], call.get(1).json["name"], call.get(4712).status) == ("Changed", "New", 404)


# Faults


def test_a_status_in_place_of_the_answer(start: Start) -> None:
    sandbox, call = start(faults=[Fault(status=503, times=2, retry_after=7), Fault(request=3, status=401)])
    answer = call.put(city="Bergen")
    problem(answer, 503)
    assert answer.headers["retry-after"] == "7"
    assert call.put().status == 503
    answer = call.put()
    assert (answer.status, answer.body, answer.headers["www-authenticate"]) == (401, b"", "Bearer")
    assert sandbox.accounts[4711].city == "Oslo"
    assert call.put().status == 200
    assert [request.status for request in sandbox.requests] == [503, 503, 401, 200]
    assert [request.applied for request in sandbox.requests] == [False, False, False, True]


def test_a_fault_hits_what_it_names(start: Start) -> None:
    _, call = start(faults=[Fault(id=4712, method="put", status=500), Fault(id=4713, status=502)])
    assert [call.put(4711).status, call.put(4712).status, call.get(4712).status] == [200, 500, 200]
    assert [call.get(4713).status, call.put(4713).status, call("GET", "/contact-accounts").status] == [502, 502, 200]


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        ("<html>", "text/plain; charset=utf-8", b"<html>"),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        ({"title": "Down"}, "application/problem+json", b'{"title":"Down"}'),
    ],
)
def test_the_body_of_a_fault_can_be_anything(start: Start, body: Any, content_type: str, sent: bytes) -> None:
    _, call = start(
        faults=[
            Fault(status=500, body=body, times=1),
            Fault(status=500, body=body, headers={"Content-Type": "x/y", "X-Request-Id": "1"}),
        ]
    )
    answer = call.get()
    assert (answer.body, answer.headers["content-type"]) == (sent, content_type)
    answer = call.get()
    assert (answer.headers["content-type"], answer.headers["X-Request-Id".lower()]) == ("x/y", "1")


def test_a_redirect_and_an_empty_answer(start: Start) -> None:
    _, call = start(
        faults=[Fault(request=1, status=302, headers={"Location": "http://127.0.0.1:1/"}), Fault(request=2, status=204)]
    )
    answer = call.get()
    assert (answer.status, answer.headers["location"]) == (302, "http://127.0.0.1:1/")
    assert call.get()[::2] == (204, b"")
    assert call.get().status == 200


def test_a_write_can_be_applied_although_the_answer_says_otherwise(start: Start) -> None:
    sandbox, call = start(faults=[Fault(status=500, applied=True, times=1), Fault(delay=0.01, applied=False)])
    assert call.put(city="Bergen").status == 500
    assert sandbox.accounts[4711].city == "Bergen"
    assert call.put(city="Tromsø").json["city"] == "Tromsø"
    assert sandbox.accounts[4711].city == "Bergen"
    assert [request.applied for request in sandbox.requests] == [True, False]


def test_what_a_fault_keeps_from_the_service_costs_no_quota(start: Start) -> None:
    sandbox, call = start(quota=(1, 1), faults=[Fault(status=503, times=3), Fault(request=4, reset=True)])
    assert [call.put().status for _ in range(3)] == [503] * 3
    assert raw(sandbox) == (b"", True)
    assert [call.put().status, call.put().status] == [200, 429]


def test_a_delay_holds_back_the_answer_alone(start: Start) -> None:
    sandbox, call = start(faults=[Fault(delay=0.3, times=1)])
    began = time.monotonic()
    slow = threading.Thread(target=call.put)
    slow.start()
    while not sandbox.requests:
        time.sleep(0.001)
    assert sandbox.requests[0].applied
    with Caller(sandbox) as other:
        assert other.get().status == 200
    assert time.monotonic() - began < 0.25
    slow.join()
    assert time.monotonic() - began >= 0.3


def test_delay_goes_with_a_status(start: Start) -> None:
    _, call = start(faults=[Fault(delay=0.2, status=503)])
    began = time.monotonic()
    assert call.get().status == 503
    assert time.monotonic() - began >= 0.2


def test_a_late_write_is_applied_after_the_client_has_gone(start: Start) -> None:
    sandbox, call = start(faults=[Fault(delay=0.2, applied="late", times=1)])
    call.connection.timeout = 0.05
    with pytest.raises(TimeoutError):
        call.put(city="Late")
    call.connection.close()
    assert sandbox.accounts[4711].city == "Oslo"
    time.sleep(0.4)
    assert sandbox.accounts[4711].city == "Late"
    assert sandbox.requests[0].applied


def raw(sandbox: Sandbox, method: str = "GET") -> tuple[bytes, bool]:
    """What came, and whether the connection was reset."""
    body = b'{"name":"Raw"}' if method == "PUT" else b""
    received = b""
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=10) as connection:
        head = f"{method} /v3/contact-accounts/4711 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: k\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            return received, True
    return received, False


def test_a_reset_is_a_reset(start: Start) -> None:
    sandbox, _ = start(faults=[Fault(reset=True)])
    assert raw(sandbox, "PUT") == (b"", True)
    assert sandbox.accounts[4711].name == "Acme"
    assert [(request.status, request.applied) for request in sandbox.requests] == [(None, False)]


def test_a_close_comes_before_any_byte_and_is_no_reset(start: Start) -> None:
    sandbox, _ = start(faults=[Fault(close=True, applied=True)])
    assert raw(sandbox, "PUT") == (b"", False)
    assert sandbox.accounts[4711].name == "Raw"


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 200, 10_000])
def test_a_body_is_cut_short_of_its_length(start: Start, cut: int, reset: bool) -> None:
    sandbox, _ = start(faults=[Fault(cut=cut, reset=reset)])
    received, was_reset = raw(sandbox, "PUT")
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert len(body) < length
    # A reset may take with it what the client has not read yet.
    assert len(body) == cut or reset or (len(body) < cut and body.endswith(b"}"))
    assert was_reset is reset
    assert sandbox.accounts[4711].name == "Raw"


def test_a_long_body_is_cut_where_it_should_be(start: Start) -> None:
    sandbox, _ = start(faults=[Fault(status=200, body=b"x" * 5_000_000, cut=4_000_000)])
    received, _ = raw(sandbox)
    assert len(received.partition(b"\r\n\r\n")[2]) == 4_000_000


def test_faults_can_be_added_and_ended(start: Start) -> None:
    sandbox, call = start()
    assert call.get().status == 200
    sandbox.add_fault(Fault(status=500))
    assert call.get().status == 500
    sandbox.clear_faults()
    assert call.get().status == 200


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"times": 3},
        {"retry_after": 3},
        {"body": "x"},
        {"headers": {}},
        {"close": True, "reset": True},
        {"close": True, "cut": 1},
        {"close": True, "status": 500},
        {"reset": True, "status": 500},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=r"does nothing|belong to an answer|without an answer"):
        Fault(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"status": 199},
        {"status": 1000},
        {"delay": -1.0},
        {"delay": float("nan")},
        {"status": 500, "headers": {"a b": "c"}},
        {"status": 500, "headers": {"a": "b\r\nc: d"}},
        {"delay": 1.0, "applied": "never"},
    ],
)
def test_a_fault_that_cannot_be_is_refused_when_it_is_handed_over(start: Start, options: Any) -> None:
    with pytest.raises(ValueError, match="the sandbox cannot use this fault"):
        Sandbox(faults=[Fault(**options)])
    sandbox, _ = start()
    with pytest.raises(ValueError, match="the sandbox cannot use this fault"):
        sandbox.add_fault(Fault(**options))


# Its life


def test_it_stops_at_once_with_connections_open(start: Start) -> None:
    sandbox, call = start(faults=[Fault(id=4712, delay=60)])
    assert call.get().status == 200
    with Caller(sandbox) as waiting:
        waiting.connection.request("GET", "/v3/contact-accounts/4712", headers={"X-API-Key": "k"})
        while len(sandbox.requests) < 2:
            time.sleep(0.001)
        began = time.monotonic()
        sandbox.stop()
        assert time.monotonic() - began < 0.2
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            waiting.connection.getresponse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", sandbox.port))
    sandbox.stop()
    assert len(sandbox.requests) == 2
    assert len(sandbox.accounts) == 3


def test_it_starts_again_on_the_same_port(start: Start) -> None:
    sandbox, call = start()
    assert call.get().status == 200
    sandbox.stop()
    again, call = start(port=sandbox.port)
    assert again.url == sandbox.url
    assert call.get().status == 200
    with pytest.raises(OSError, match=str(again.port)):
        Sandbox(port=again.port)


def test_nothing_is_left_behind() -> None:
    before = set(Path("/proc/self/fd").iterdir()), len(list(Path("/proc/self/task").iterdir()))
    for _ in range(20):
        with Sandbox() as sandbox, Caller(sandbox) as call:
            assert call.get().status == 200
        del sandbox, call
    assert (set(Path("/proc/self/fd").iterdir()), len(list(Path("/proc/self/task").iterdir()))) == before


def test_dropping_it_stops_it() -> None:
    sandbox = Sandbox()
    port = sandbox.port
    del sandbox
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_connections_are_kept_and_can_be_closed(start: Start) -> None:
    sandbox, call = start()
    call.get()
    call.get()
    sandbox.close_connections()
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        call.get()
    call.connection.close()
    assert call.get().status == 200
    assert [request.connection for request in sandbox.requests][:2] == [1, 1]
    assert sandbox.requests[-1].connection == 2


def test_many_threads_at_once(start: Start) -> None:
    sandbox, _ = start({"id": id, "name": "x"} for id in range(1, 17))

    def work(id: int) -> None:
        with Caller(sandbox) as call:
            for count in range(50):
                assert call.put(id, city=str(count)).json["city"] == str(count)

    threads = [threading.Thread(target=work, args=(id,)) for id in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [account.city for account in sandbox.accounts.values()] == ["49"] * 16
    assert [request.number for request in sandbox.requests] == list(range(1, 801))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_drops_its_copy_and_starts_its_own(start: Start) -> None:
    sandbox, call = start()
    assert call.get().status == 200
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            with Sandbox([{"id": 1, "name": "Child"}]) as own, Caller(own) as other:
                assert other.get(1).json["name"] == "Child"
            with pytest.raises(RuntimeError, match="another one"):
                sandbox.requests  # noqa: B018
            sandbox.stop()
            del sandbox
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert call.get().status == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_port_open(start: Start) -> None:
    sandbox, call = start()
    assert call.get().status == 200
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done)
        os.read(ready, 1)
        os._exit(0)
    try:
        sandbox.stop()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", sandbox.port))
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            call.get()
    finally:
        os.close(done)
        os.waitpid(child, 0)


# Its file


def test_accounts_are_kept_over_restarts(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    sandbox, call = start([{"id": 1, "name": "A"}, {"id": 2, "name": "B"}], path=path)
    assert call.put(1, city="Oslo ✓").status == 200
    sandbox.remove_account(2)
    kept = sandbox.accounts
    sandbox.stop()
    again, _ = start([{"id": 9, "name": "Not used"}], path=path)
    assert again.accounts == kept


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    command = [sys.executable, "-m", "replyio.sandbox", "--path", str(path)]
    last = None
    for _ in range(5):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[2]
            connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
            killer = threading.Timer(0.05, process.kill)
            try:
                connection.request("GET", "/v3/contact-accounts/4711", headers={"X-API-Key": "k"})
                if last is not None:
                    stored = int(json.load(connection.getresponse())["name"])
                    # The last one sent may have been stored without its answer having arrived.
                    assert last <= stored <= last + 1
                else:
                    connection.getresponse().read()
                count = (last or 0) + 1
                killer.start()
                while True:
                    body = json.dumps({"name": str(count)})
                    connection.request(
                        "PUT", "/v3/contact-accounts/4711", body, {"X-API-Key": "k", "Content-Type": "application/json"}
                    )
                    assert connection.getresponse().read()
                    last = count
                    count += 1
            except (http.client.HTTPException, OSError):
                pass
            finally:
                killer.cancel()
                connection.close()
    assert last is not None
    assert last > 5


def test_a_torn_last_line_is_dropped(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    sandbox, call = start(path=path)
    call.put(name="First")
    call.put(name="Second")
    sandbox.stop()
    path.write_bytes(path.read_bytes()[:-10])
    assert start(path=path)[0].accounts[4711].name == "First"


@pytest.mark.parametrize("damage", ["foreign", "changed", "cut in the middle", "newer"])
def test_any_other_damage_is_refused_and_left_as_it_is(start: Start, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "accounts.db"
    start(path=path)[0].stop()
    whole = path.read_bytes()
    damaged = {
        "foreign": b"SQLite format 3\0" + whole,
        "changed": whole.replace(b"Oslo", b"Ohio"),
        "cut in the middle": whole[:100] + whole[150:],
        "newer": whole.replace(b'"version":1', b'"version":2'),
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(ConfigurationError, match="damaged in line"):
        Sandbox(path=path)
    assert path.read_bytes() == damaged


def test_a_file_that_cannot_be_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Sandbox(path=tmp_path / "missing" / "accounts.db")
    with pytest.raises(IsADirectoryError):
        Sandbox(path=tmp_path)


def test_its_file_is_private_and_nothing_is_written_or_read_through_a_link(tmp_path: Path) -> None:
    path, precious = tmp_path / "accounts.db", tmp_path / "precious"
    precious.write_text("keep me", encoding="utf-8")
    for name in ("accounts.db.new", "accounts.db.tmp"):
        (tmp_path / name).symlink_to(precious)
    before = os.umask(0)
    try:
        with Sandbox(path=path), Sandbox(path=tmp_path / "other.db"):
            assert (path.stat().st_mode & 0o777, (tmp_path / "other.db").stat().st_mode & 0o777) == (0o600, 0o600)
    finally:
        os.umask(before)
    assert precious.read_text(encoding="utf-8") == "keep me"
    assert not path.is_symlink()
    (tmp_path / "link.db").symlink_to(path)
    (tmp_path / "dangling.db").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "fifo.db")
    for name in ("link.db", "dangling.db", "fifo.db"):
        with pytest.raises(OSError, match=r"symbolic link|not a regular file"):
            Sandbox(path=tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_one_file_has_one_sandbox_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    first = Sandbox([{"id": 1, "name": "A"}], path=path)
    program = "import sys; from replyio.sandbox import Sandbox; Sandbox(path=sys.argv[1])"
    for _ in range(2):
        with pytest.raises(OSError, match="another sandbox uses it; stop that one, or choose another path"):
            Sandbox(path=path)
        other = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
        assert other.returncode == 1
        assert "another sandbox uses it" in other.stderr
    client = first.client()
    client.update_contact_account(1, name="B")
    assert [file.name for file in tmp_path.iterdir()] == ["accounts.db"]
    # A process that was forked from it does not keep the file.
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    first.stop()
    try:
        with Sandbox(path=path) as second:
            assert second.accounts[1].name == "B"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_of_many_sandboxes_that_start_on_one_new_file_one_starts(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    started: list[Sandbox] = []
    refused: list[str] = []

    def start() -> None:
        try:
            started.append(Sandbox(path=path))
        except OSError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(started), len(refused)) == (1, 15)
    started[0].stop()


def test_a_million_accounts_need_no_time_for_a_page() -> None:
    few, many = ([{"id": id, "name": f"Company {id}"} for id in range(1, count + 1)] for count in (2_000, 200_000))

    def best(accounts: list[dict[str, Any]], query: str) -> float:
        with Sandbox(accounts) as sandbox, Caller(sandbox) as call:
            times: list[float] = []
            for _ in range(15):
                began = time.perf_counter()
                assert (
                    len(call("GET", f"/contact-accounts?top=1000&skip={len(accounts) - 1000}{query}").json["items"])
                    == 1000
                )
                times.append(time.perf_counter() - began)
        return min(times)

    for query in ("", "&sort_by=name", "&search=company"):
        assert best(many, query) < 4 * best(few, query) + 0.005


# Its options


@pytest.mark.parametrize(
    "options", [{"clock_scale": 0.0}, {"clock_scale": float("nan")}, {"auth": "basic"}, {"scopes": {"k": ["read"]}}]
)
def test_an_option_that_cannot_be_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        Sandbox(**options)


def test_its_client_knows_where_it_is_and_a_key(start: Start) -> None:
    for options in ({}, {"api_keys": {KEY}}):
        sandbox, _ = start(**options)
        assert sandbox.client(timeout=5.0).get_contact_account(4711).name == "Acme"
        with pytest.raises(replyio.ConfigurationError):
            sandbox.client(api_key="")
    with pytest.raises(replyio.AuthenticationError):
        sandbox.client(api_key="another").get_contact_account(4711)


def test_its_client_has_a_quota_where_it_has_one(start: Start) -> None:
    unlimited, _ = start()
    client = unlimited.client(timeout=10.0)
    for _ in range(120):  # more than the client's own quota lets through in a minute
        client.get_contact_account(4711)
    limited, _ = start(quota=(100, 3000))
    client = limited.client(timeout=1.0)
    for _ in range(95):  # as many as its own quota lets through
        client.get_contact_account(4711)
    with pytest.raises(replyio.RateLimitError):
        client.get_contact_account(4711)
    assert {request.status for request in limited.requests} == {200}


def test_its_client_keeps_it_running() -> None:
    client = Sandbox().client()
    derived = client.with_options(timeout=5.0)
    gc.collect()
    assert client.get_contact_account(4711).name == "Acme"
    del client
    gc.collect()
    assert derived.get_contact_account(4711).name == "Acme"
    port = int(derived._core.base_url.rsplit(":", 1)[1].split("/")[0])
    del derived
    gc.collect()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_list_and_a_plan_keep_it_running() -> None:
    rows = [{"id": 4711, "city": "Bergen"}]
    listed = Sandbox().client().list_contact_accounts()
    plan = Sandbox().client().plan_contact_account_updates(rows, progress=False)
    gc.collect()
    assert [account.id for account in listed] == [4711, 4712, 4713]
    assert plan.apply(progress=False).counts == {"changed": 1}


class Owner(Sandbox):
    """A sandbox that refers to its client."""


def test_a_sandbox_that_refers_to_its_client_ends_with_it() -> None:
    owner = Owner()
    owner.made = owner.client()  # type: ignore[attr-defined]
    ended = weakref.ref(owner)
    del owner
    gc.collect()
    assert ended() is None


def test_code_that_makes_its_own_client_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "of before")
    monkeypatch.delenv("REPLY_BASE_URL", raising=False)
    with Sandbox(api_keys=[KEY]) as sandbox, sandbox.environment() as same:
        assert same is sandbox
        assert replyio.ReplyClient().get_contact_account(4711).name == "Acme"
    assert os.environ["REPLY_API_KEY"] == "of before"
    assert "REPLY_BASE_URL" not in os.environ


def test_the_module_is_found_after_the_package_was_imported() -> None:
    code = "import replyio, sys; assert 'replyio.sandbox' not in sys.modules; replyio.sandbox.Sandbox().stop()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "sandbox" in dir(replyio)


def test_its_client_reaches_it(start: Start) -> None:
    sandbox, _ = start(api_keys=[KEY], faults=[Fault(status=503, times=1)])
    with sandbox.client(timeout=10.0) as client:
        account = client.update_contact_account(4711, name="Acme", city="Bergen")
    assert account.city == "Bergen"
    assert sandbox.accounts[4711].city == "Bergen"
    assert [(request.method, request.status) for request in sandbox.requests] == [("PUT", 503), ("PUT", 200)]


# Its command


def command(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "replyio.sandbox", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_tells_where_it_is_and_stops_at_once(tmp_path: Path, number: int, code: int) -> None:
    accounts = tmp_path / "accounts.json"
    accounts.write_text('[{"id": 1, "name": "From a file"}]', encoding="utf-8")
    with command("--accounts", str(accounts), "--quota", "2,100") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        url = line.split()[2]
        assert f"REPLY_BASE_URL={url} REPLY_API_KEY=sandbox" in line
        connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
        statuses = []
        for _ in range(3):
            connection.request("GET", "/v3/contact-accounts/1", headers={"X-API-Key": "sandbox"})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()
        assert statuses == [200, 200, 429]
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == code
        assert time.monotonic() - began < 0.2
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_the_command_says_in_one_line_why_it_cannot_start(start: Start) -> None:
    sandbox, _ = start()
    with command("--port", str(sandbox.port)) as process:
        assert process.stderr is not None
        assert process.wait(10) == 1
        assert process.stderr.read().count("\n") == 1


@pytest.mark.parametrize("accounts", ["[" * 100_000, '[{"id": ' + "1" * 5_000 + "}]", "\x00", "[1]", "{}"])
def test_the_command_refuses_accounts_that_are_none_in_one_line(accounts: str, tmp_path: Path) -> None:
    file = tmp_path / "accounts.json"
    file.write_text(accounts, encoding="utf-8")
    command = [sys.executable, "-m", "replyio.sandbox", "--accounts", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr[:300]


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"status": "503"}, TypeError, "status must be an int, not str"),
        ({"id": "4711", "delay": 1}, TypeError, "id must be an int, not str"),
        ({"times": "2", "delay": 1}, TypeError, "times must be an int, not str"),
        ({"times": True, "delay": 1}, TypeError, "times must be an int, not bool"),
        ({"delay": "1"}, TypeError, "delay must be a number of seconds, not str"),
        ({"cut": -1}, ValueError, "cut must be 0 or more"),
        ({"times": 0, "delay": 1}, ValueError, "times must be 1 or more"),
        ({"request": 0, "delay": 1}, ValueError, "request must be 1 or more"),
        ({"method": "PATCH", "delay": 1}, ValueError, "method must be GET or PUT"),
    ],
)
def test_a_fault_that_would_match_nothing_is_refused_where_it_is_made(
    options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=f"^{reason}"):
        Fault(**options)


@pytest.mark.parametrize("quota", [100, (100,), "95"])
def test_a_quota_is_two_numbers(quota: Any) -> None:
    with pytest.raises(replyio.ConfigurationError, match=r"^quota must be .*, such as \(100, 3000\)$"):
        Sandbox(quota=quota)


# Its pytest fixture


def test_the_fixture_is_a_running_sandbox(reply_sandbox: Sandbox) -> None:
    with Caller(reply_sandbox) as call:
        assert call.get().status == 200


def test_a_client_of_a_test_never_reaches_the_service(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "a-key-of-the-developer")
    monkeypatch.setenv("REPLY_BASE_URL", "http://127.0.0.1:1/v3")
    sandbox = request.getfixturevalue("reply_sandbox")
    assert replyio.ReplyClient().get_contact_account(4711).name == "Acme"
    assert len(sandbox.requests) == 1
    assert "a-key-of-the-developer" not in os.environ.values()


def test_a_plan_of_a_test_is_not_among_those_of_the_user(request: pytest.FixtureRequest) -> None:
    usual = os.environ.get("REPLYIO_STATE_DIR")
    sandbox = request.getfixturevalue("reply_sandbox")
    assert os.environ["REPLYIO_STATE_DIR"] != usual
    for client in (replyio.ReplyClient(), sandbox.client()):
        plan = client.plan_contact_account_updates([{"id": 4711, "city": "Molde"}])
        assert plan.path in [found.path for found in replyio.plans()]


@pytest.mark.reply_sandbox(accounts=[{"id": 1, "name": "Marked"}])
def test_the_marker_gives_the_fixture_its_options(reply_sandbox: Sandbox) -> None:
    with Caller(reply_sandbox) as call:
        assert call.get(1).json["name"] == "Marked"


@pytest.mark.reply_sandbox([{"id": 1, "name": "Far"}], quota=(5, 5))
class TestMarkers:
    @pytest.mark.reply_sandbox([{"id": 1, "name": "Near"}])
    def test_the_nearest_has_precedence_and_accounts_need_no_name(self, reply_sandbox: Sandbox) -> None:
        assert reply_sandbox.accounts[1].name == "Near"
        assert reply_sandbox.client()._core.quota_left() is not None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("[], 8080", "too many positional arguments"),
        ("account=[]", "got an unexpected keyword argument 'account'"),
        ("[], accounts=[]", "multiple values for argument 'accounts'"),
    ],
)
def test_a_marker_that_cannot_be_used_is_refused(options: str, reason: str, tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(f"import pytest\n@pytest.mark.reply_sandbox({options})\ndef test_it(reply_sandbox): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(test)], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, reason in done.stdout) == (1, True), done.stdout


def test_the_plugin_imports_nothing_of_the_package_before_it_is_used(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(
        "import sys\ndef test_it(): assert not {'replyio._replyio', 'replyio.sandbox'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-m", "pytest", "-q", str(test)], check=True, cwd=tmp_path, capture_output=True)


def test_the_sandbox_needs_no_pytest() -> None:
    code = "import sys, replyio.sandbox; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
