"""`check` says in five requests what the service does and what differs, and restores the account that it writes."""

from __future__ import annotations

import asyncio
import dataclasses
import html
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import replyio
from replyio.sandbox import Deviations, Fault, Sandbox
from support import MODES, call, environment

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary7Zq"
KEY = "key-canary-9f3a71"
PLAIN: dict[str, Any] = {"id": 9000001, "name": "Plain", "stage": {"id": 3, "name": "Lead", "color_id": 1}}
OTHER: dict[str, Any] = {"id": 9000002, "name": "Other Company", "description": "a long text about it", "city": ""}
LISTED = 3  # a list, one account, and the list in the other header
LATE = 3.0


def verdicts(report: replyio.CheckReport) -> dict[str, bool]:
    return {finding.topic: finding.differs for finding in report.findings}


def differing(report: replyio.CheckReport) -> set[str]:
    return {finding.topic for finding in report.findings if finding.differs}


def said(report: replyio.CheckReport, topic: str) -> str:
    return " ".join(f"{finding.found} {finding.follows}" for finding in report.findings if finding.topic == topic)


def checked(sandbox: Sandbox, mode: str = "sync", write: int | None = None, **options: Any) -> replyio.CheckReport:
    with sandbox.client(**options) as client:
        report: replyio.CheckReport = call(client, "check", mode, write=write)
        return report


def state(sandbox: Sandbox, id: int = PLAIN["id"]) -> replyio.ContactAccount:
    """An account without the date that every update changes."""
    return dataclasses.replace(sandbox.accounts[id], last_activity_date=None)


def changed(before: replyio.ContactAccount, after: replyio.ContactAccount) -> set[str]:
    """The members that changed. The service takes all empty texts as the same."""
    one, other = before.to_dict(), after.to_dict()
    return {name for name in one if (one[name] or None) != (other[name] or None)}


def forms(report: replyio.CheckReport) -> str:
    """Everything that somebody might paste."""
    page = report._repr_html_()
    return "\n".join([str(report), repr(report), json.dumps(report.to_dict()), page, html.unescape(page)])


# Reading


@pytest.mark.parametrize("mode", MODES)
def test_the_service_as_expected_has_no_difference(mode: str) -> None:
    with Sandbox() as sandbox:
        report = checked(sandbox, mode)
        assert report.as_expected, str(report)
        assert [request.method for request in sandbox.requests] == ["GET"] * report.requests
    assert report.requests == 4
    topics = ["key", "reading", "list_items", "dates", "empty_values", "members", "rate_limit_headers"]
    assert list(verdicts(report)) == topics
    assert "in X-API-Key and in Authorization: Bearer" in said(report, "key")


CASES: dict[str, tuple[dict[str, Any], set[str], str]] = {
    "lacks": ({"list_lacks": ["city", "stage"]}, {"list_items"}, "List items lack city, stage."),
    "cut": ({"list_cut": 5}, {"list_items"}, "cut the text of"),
    "offset": ({"dates": "offset"}, set(), "with a numeric offset"),
    "local": ({"dates": "local"}, set(), "without an offset as UTC"),
    "date_only": ({"dates": "date_only"}, {"dates"}, "without a time"),
    "null_dates": ({"dates": "null"}, {"dates"}, "10 null"),
    "null": ({"empty": "null"}, set(), "null. This version"),
    "text": ({"empty": "text"}, set(), '"". This version'),
    "unknown": (
        {"unknown_members": {"segment": "x", "a1": 2}},
        {"members"},
        "segment, and 1 whose name is not shown",
    ),
    "x-rate-limit": ({"rate_limit_headers": "x-rate-limit"}, {"rate_limit_headers"}, "x-rate-limit-remaining"),
    "ratelimit": ({"rate_limit_headers": "ratelimit"}, {"rate_limit_headers"}, "ratelimit-remaining"),
    "structured": ({"rate_limit_headers": "structured"}, {"rate_limit_headers"}, "ratelimit, ratelimit-policy"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_deviation_is_found_and_only_where_it_is(case: str) -> None:
    deviations, expected, words = CASES[case]
    with Sandbox([PLAIN, OTHER, OTHER | {"id": 9000003}], quota=(100, 3000), deviations=Deviations(**deviations)) as s:
        report = checked(s)
        assert len(s.requests) == report.requests <= 5
    assert differing(report) == expected, str(report)
    assert words in " ".join(said(report, topic) for topic in verdicts(report)), str(report)


@pytest.mark.parametrize(
    ("header", "auth", "requests", "differs", "words"),
    [
        ("bearer", "auto", 4, True, "refuses the key in X-API-Key and accepts it in Authorization: Bearer"),
        ("x-api-key", "auto", 4, False, "refuses it in Authorization: Bearer"),
        ("both", "bearer", 3, False, "accepts the key in Authorization: Bearer. The auth= setting allows no other"),
        ("both", "x-api-key", 3, False, "accepts the key in X-API-Key. The auth= setting allows no other"),
        ("bearer", "x-api-key", 1, True, "refuses the key (401)"),
    ],
)
def test_the_header_that_the_key_needs_is_found(
    header: Any, auth: str, requests: int, differs: bool, words: str
) -> None:
    with Sandbox(auth=header) as sandbox:
        report = checked(sandbox, auth=auth)
        assert len(sandbox.requests) == report.requests == requests
    assert (verdicts(report)["key"], words in said(report, "key")) == (differs, True), str(report)


def test_a_check_does_not_change_how_its_client_sends_the_key() -> None:
    with Sandbox() as sandbox, sandbox.client() as client:
        client.check()
        client.get_contact_account(4711)
        assert "x-api-key" in sandbox.requests[-1].headers


def test_a_key_that_is_refused_is_a_finding() -> None:
    with Sandbox(api_keys=["another"]) as sandbox:
        report = checked(sandbox, api_key=KEY)
        assert len(sandbox.requests) == report.requests == 2
    assert differing(report) == {"key", "reading"}
    assert "(401)" in said(report, "key")
    assert "Reading failed: the service answered 401" in said(report, "reading")


def test_no_account_is_no_difference() -> None:
    with Sandbox([]) as sandbox:
        report = checked(sandbox)
    assert report.as_expected
    assert "no account" in said(report, "reading")
    assert [finding.verdict for finding in report.findings if finding.topic == "reading"] == ["not known"]


def test_what_the_check_cannot_tell_is_not_known() -> None:
    with Sandbox() as sandbox:
        report = checked(sandbox)
    assert report.as_expected
    assert "\nempty values: not known\n" in str(report)
    assert [finding["topic"] for finding in report.to_dict()["findings"] if finding["verdict"] == "not known"] == [
        "empty_values"
    ]
    assert "\nmembers: as expected\n" in str(report)
    assert "not known" in report._repr_html_()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=429, retry_after=0),
        Fault(reset=True),
        Fault(close=True),
        Fault(cut=20),
        Fault(status=200, body="<html>Sign in</html>"),
        Fault(status=200, body={"items": [{"id": 1, "name": CANARY, "ownerUserId": None}], "hasMore": False}),
        Fault(status=403, body={"title": CANARY, "code": CANARY, "detail": CANARY}),
        Fault(status=302, headers={"Location": f"https://{CANARY}"}),
    ],
)
@pytest.mark.parametrize("from_request", [1, 2, 3])
def test_whatever_fails_at_most_five_requests_are_sent(fault: Fault, from_request: int) -> None:
    with Sandbox() as sandbox:
        for number in range(from_request, 20):
            sandbox.add_fault(dataclasses.replace(fault, request=number))
        report = checked(sandbox)
        assert 1 <= len(sandbox.requests) == report.requests <= 5
    assert CANARY not in forms(report)
    if from_request < 3:
        assert verdicts(report)["reading"], str(report)


def test_no_answer_is_a_finding() -> None:
    with Sandbox() as sandbox:
        client = sandbox.client()
    sandbox.stop()
    report = client.check()
    assert differing(report) == {"key", "reading"}
    assert "could not connect" in said(report, "reading")


def canary_account(id: int) -> dict[str, Any]:
    fields = [name for name, _, kind, writable, _, _ in replyio._replyio.MEMBERS if kind == "Text" and writable]
    account = {name: f"{CANARY} {name} {id}" for name in fields}
    account |= {"id": id, "owner_user_id": id + 5, "company_size": f"{CANARY}", "email_provider": CANARY}
    return account | {"stage": {"id": id + 9, "name": CANARY}, "extra": {f"m-{CANARY}-{id}": CANARY, "tags": [CANARY]}}


def test_no_report_holds_the_key_or_a_value() -> None:
    choices: dict[str, list[Any]] = {
        "list_lacks": [(), ["city"], ["name", "createdDate"]],
        "list_cut": [None, 1, 12],
        "dates": ["utc", "offset", "local", "date_only", "null"],
        "empty": ["as_sent", "null", "text"],
        "unknown_members": [{}, {"future": CANARY}, {KEY: KEY, CANARY: 1}],
    }
    dice = random.Random(4711)  # noqa: S311 - the same cases each time
    ids = [7654321, 7654322, 7654323]
    for case in range(40):
        deviations = {name: dice.choice(values) for name, values in choices.items()}
        write = dice.choice([None, ids[0]])
        with Sandbox(map(canary_account, ids), api_keys=[KEY], deviations=Deviations(**deviations)) as sandbox:
            if case % 3 == 0:
                echo = {"title": f"{KEY} {CANARY}", "code": f"{CANARY}.{KEY}", "detail": f"{CANARY} {ids}"}
                sandbox.add_fault(Fault(request=dice.randint(1, 4), status=dice.choice([400, 404, 500]), body=echo))
            report = checked(sandbox, write=write)
            assert all(request.method == "GET" for request in sandbox.requests), "such an account is never written"
            text = forms(report)
        for secret in [KEY, CANARY, *(str(number + more) for number in ids for more in (0, 5, 9))]:
            assert secret not in text.replace(f"account {write}", ""), f"{secret} in {text} ({deviations})"


def test_the_report_fits_80_columns_and_every_form_says_the_same() -> None:
    deviations = Deviations(list_cut=3, unknown_members={f"member{'abcdefghijklmnop'[i]}" * 4: i for i in range(16)})
    with Sandbox(deviations=deviations) as sandbox:
        report = checked(sandbox)
    assert max(map(len, str(report).splitlines())) <= 80
    for finding in report.findings:
        assert " ".join(finding.found.split()) in " ".join(str(report).split())
        assert finding.found in html.unescape(report._repr_html_())
    assert report.to_dict()["as_expected"] is False


@pytest.mark.parametrize("id", [0, -1, "1", 1.5, True, None])
def test_an_id_that_cannot_be_one_is_refused_before_any_request(id: Any) -> None:
    with Sandbox() as sandbox, sandbox.client() as client:
        if id is None:
            assert client.check(write=id).as_expected
            return
        with pytest.raises(replyio.ValidationError, match="id"):
            client.check(write=id)
        assert sandbox.requests == []


# Writing


def written(sandbox: Sandbox, mode: str = "sync", **options: Any) -> replyio.CheckReport:
    return checked(sandbox, mode, PLAIN["id"], **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("description", [None, ""])
def test_an_account_is_written_and_restored(mode: str, description: str | None) -> None:
    with Sandbox([PLAIN | {"description": description}, OTHER]) as sandbox:
        before, other = state(sandbox), sandbox.accounts[OTHER["id"]]
        report = written(sandbox, mode)
        assert (state(sandbox), sandbox.accounts[OTHER["id"]]) == (before, other)
        assert len(sandbox.requests) == report.requests == 4 + 5
        puts = [request for request in sandbox.requests if request.method == "PUT"]
    assert report.as_expected, str(report)
    assert len(puts) == 2
    assert puts[0].body["description"].startswith("Written by replyio check; delete this.")
    assert {name: value for name, value in puts[0].body.items() if name != "description"} == {
        "name": "Plain",
        "ownerUserId": 42,
    }
    assert "keeps the stage" in said(report, "stage")
    assert report.to_restore == {}


WRITTEN: dict[str, tuple[dict[str, Any], set[str], dict[str, Any]]] = {
    "stage": ({"update_clears": "stage"}, {"stage", "restored"}, {"stage": "Lead"}),
    "trimmed": ({"stored": "trimmed"}, {"stored_text"}, {}),
    "reformatted": ({"stored": "reformatted"}, {"stored_text"}, {}),
    "escaped": ({"stored": "escaped"}, {"stored_text"}, {}),
    "ignored": ({"ignored_fields": ["description"]}, {"stored_text", "restored"}, {}),
    "ignores all": ({"ignored_fields": "all"}, {"stored_text", "restored"}, {}),
    "empty": ({"empty": "text"}, set(), {}),
    "owner": ({"update_owner": 7}, {"owner", "restored"}, {"owner_user_id": 42}),
    "clears": ({"update_clears": ["city"]}, {"other_fields", "restored"}, {"city": "Oslo"}),
    "dates": ({"dates": "date_only"}, {"dates"}, {}),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_what_an_update_loses_is_found_and_told_with_its_value_only_outside_the_report(case: str) -> None:
    deviations, expected, to_restore = WRITTEN[case]
    with Sandbox([PLAIN | {"city": "Oslo"}], deviations=Deviations(**deviations)) as sandbox:
        before = state(sandbox)
        report = written(sandbox)
        after = state(sandbox)
    assert (differing(report), dict(report.to_restore)) == (expected, to_restore), str(report)
    assert changed(before, after) == set(to_restore)
    assert "Lead" not in forms(report)
    assert "Oslo" not in forms(report)


def test_what_the_service_lost_once_is_put_back_by_the_second_update() -> None:
    with Sandbox([PLAIN | {"city": "Oslo"}]) as sandbox:
        before = state(sandbox)
        wire = {"id": 9000001, "name": "Plain", "ownerUserId": 42, "stage": {"id": 3, "name": "Lead", "colorId": 1}}
        lost = wire | {"description": "Written by replyio check; delete this. a", "linkedProspectsCount": 0}
        lost |= {"createdDate": "2025-01-15T09:30:00Z", "lastActivityDate": "2025-01-15T09:30:00Z"}
        sandbox.add_fault(Fault(request=LISTED + 2, status=200, body=lost, applied=True))
        sandbox.add_fault(Fault(request=LISTED + 3, status=200, body=lost))
        report = written(sandbox)
        assert state(sandbox) == before
    assert {"stored_text", "other_fields"} == differing(report), str(report)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"description": f"{CANARY}"}, "its description is not empty"),
        ({"extra": {"future": CANARY}}, "members that this version does not know"),
        ({"extra": {"future": False}}, "members that this version does not know"),
        ({"name": f"{CANARY} & Sons"}, "store name in another form"),
        ({"city": f"{CANARY} ", "phone": "+47 21 00"}, "store city, phone in another form"),
    ],
)
def test_an_account_that_could_not_be_restored_is_not_written(members: dict[str, Any], words: str) -> None:
    with Sandbox([PLAIN | members]) as sandbox:
        report = written(sandbox)
        assert {request.method for request in sandbox.requests} == {"GET"}
    assert words in said(report, "update"), str(report)
    assert CANARY not in forms(report)
    assert verdicts(report)["update"]


def test_an_account_whose_list_item_has_more_than_its_get_is_not_written() -> None:
    with Sandbox([PLAIN | {"city": "Oslo"}]) as sandbox:
        lacking = {"id": 9000001, "name": "Plain", "ownerUserId": 42}
        sandbox.add_fault(Fault(request=2, status=200, body=lacking))
        report = written(sandbox)
        assert {request.method for request in sandbox.requests} == {"GET"}
    assert "values that GET lacks (city)" in said(report, "update")


PHONE: dict[str, Any] = {"id": 9000001, "name": "Plain", "phone": "4721"}


@pytest.mark.parametrize("hidden", [{}, {"phone": None}, {"phone": ""}, {"phone": "47"}])
@pytest.mark.parametrize("others", [0, 1001])
@pytest.mark.parametrize("failing", [0, 2])
def test_an_account_whose_get_hides_a_value_of_its_list_item_is_not_written(
    hidden: dict[str, Any], others: int, failing: int
) -> None:
    accounts = [{"id": number, "name": f"Other {number}"} for number in range(1, others + 1)]
    with Sandbox([*accounts, PHONE]) as sandbox:
        for number in range(1, failing + 1):
            sandbox.add_fault(Fault(request=number, status=500))
        shown = {"id": 9000001, "name": "Plain", "ownerUserId": 42, **hidden}
        sandbox.add_fault(Fault(method="GET", id=9000001, status=200, body=shown))
        report = written(sandbox)
        assert {request.method for request in sandbox.requests} == {"GET"}
        assert len(sandbox.requests) == report.requests <= 5
        assert sandbox.accounts[9000001].phone == "4721"
    assert "(phone)" in said(report, "update"), str(report)
    assert "4721" not in forms(report)


def test_an_account_beyond_the_first_page_is_written_when_a_search_shows_the_same() -> None:
    accounts = [{"id": number, "name": f"Other {number}"} for number in range(1, 1002)]
    with Sandbox([*accounts, PHONE]) as sandbox:
        before = state(sandbox)
        report = written(sandbox)
        assert state(sandbox) == before
        assert len(sandbox.requests) == report.requests == 5 + 5
    assert report.as_expected, str(report)


def test_an_account_that_the_list_does_not_show_is_not_written() -> None:
    with Sandbox([PLAIN]) as sandbox:
        sandbox.add_fault(Fault(method="GET", id=None, status=200, body={"items": [], "hasMore": False}, request=1))
        sandbox.add_fault(Fault(status=200, body={"items": [], "hasMore": False}, request=3))
        report = written(sandbox)
        assert {request.method for request in sandbox.requests} == {"GET"}
    assert "the list does not show it" in said(report, "update")
    with Sandbox([PLAIN]) as sandbox:
        for number in (1, 2, 4, 5):
            sandbox.add_fault(Fault(request=number, status=503))
        report = written(sandbox)
        assert {request.method for request in sandbox.requests} == {"GET"}
        assert len(sandbox.requests) == report.requests == 5
    assert "its list item could not be read (the service answered 503)" in said(report, "update")


@pytest.mark.parametrize("mode", MODES)
def test_an_account_that_is_not_there_is_a_finding(mode: str) -> None:
    with Sandbox([OTHER]) as sandbox:
        report = written(sandbox, mode)
        assert {request.method for request in sandbox.requests} == {"GET"}
    assert "404 (contactAccount.notFound)" in said(report, "update")
    assert differing(report) == {"update"}
    assert "Every read call works" in said(report, "reading")


FAULTS = {
    "500": Fault(status=500),
    "500 applied": Fault(status=500, applied=True),
    "502 applied": Fault(status=502, applied=True),
    "429": Fault(status=429, retry_after=0),
    "400": Fault(status=400, body={"title": "x", "code": "contactAccount.invalidInput"}),
    "403": Fault(status=403),
    "404": Fault(status=404),
    "reset": Fault(reset=True),
    "reset applied": Fault(reset=True, applied=True),
    "closed applied": Fault(close=True, applied=True),
    "cut": Fault(cut=30),
    "cut reset": Fault(cut=30, reset=True),
    "not json": Fault(status=200, body="<html>", applied=True),
    "another account": Fault(status=200, body={"id": 5, "name": "x", "ownerUserId": 1}, applied=True),
    "204": Fault(status=204, applied=True),
    "late": Fault(delay=1.5, reset=True, applied="late"),
    "time-out": Fault(delay=1.5),
}


STEPS = ["look", "write", "look again", "restore", "look last"]


@pytest.mark.parametrize(("name", "step"), [*itertools.product(FAULTS, STEPS)])
def test_one_fault_at_any_step_leaves_the_account_as_it_was(name: str, step: str) -> None:
    fault = dataclasses.replace(FAULTS[name], request=LISTED + 1 + STEPS.index(step))
    with Sandbox([PLAIN | {"city": "Oslo"}], faults=[fault]) as sandbox:
        before = state(sandbox)
        report = written(sandbox, attempt_timeout=0.7)
        is_told = "may not have restored" in said(report, "restored")
        # Only a definite refusal stops the second update, and the account that stays is told with what to do.
        if state(sandbox) != before:
            assert is_told, str(report)
            assert state(sandbox).description.startswith("Written by replyio check; delete this.")
            assert "patch_contact_account(9000001, description=None)" in said(report, "restored")
            assert dataclasses.replace(state(sandbox), description=None) == before
    if not is_told and step != "look":
        assert "restored" in verdicts(report), str(report)
    refused_for_good = {"400", "403", "404", "not json", "another account", "204"}
    if not (step in {"restore", "look again"} and name in refused_for_good):
        assert not is_told, str(report)
    if step == "write" and name.endswith(("applied", "late", "time-out", "cut", "reset", "json", "account", "204")):
        assert "no answer confirmed it" in said(report, "update"), str(report)
        puts = [request for request in sandbox.requests if request.method == "PUT"]
        is_taken_back = len(puts) == 2 and puts[1].status == 200
        assert ("may still apply the update" in said(report, "restored")) is not is_taken_back
        assert ("restored" in differing(report)) is not is_taken_back


def test_an_update_that_the_account_does_not_show_may_come_late_and_is_told() -> None:
    with Sandbox([PLAIN]) as sandbox:
        before = state(sandbox)
        shown = {
            "id": 9000001,
            "name": "Plain",
            "ownerUserId": 42,
            "description": "Written by replyio check; delete this.",
            "stage": {"id": 3, "name": "Lead", "colorId": 1},
        }
        sandbox.add_fault(Fault(request=LISTED + 2, status=200, body=shown, applied=False))
        report = written(sandbox)
        assert state(sandbox) == before
        assert sum(request.method == "PUT" for request in sandbox.requests) == 1
    assert "The answer to the update contains the text" in said(report, "update")
    assert "or show it later" in said(report, "restored")
    assert differing(report) == {"update", "stored_text", "restored"}, str(report)


@pytest.mark.parametrize("text", ['Written by replyio check; delete this. a & b  d "e"  f ', "", None])
def test_what_a_read_shows_decides_how_the_service_stored_the_text(text: str | None) -> None:
    with Sandbox([PLAIN]) as sandbox:
        shown = {"id": 9000001, "name": "Plain", "ownerUserId": 42, "description": text}
        shown |= {"stage": {"id": 3, "name": "Lead", "colorId": 1}}
        for request in range(LISTED + 3, LISTED + 6):
            sandbox.add_fault(Fault(request=request, status=200, body=shown))
        report = written(sandbox)
    stored = said(report, "stored_text")
    assert "as it was sent" not in stored
    assert ("in another form" if text else "does not show the text") in stored
    assert "stored_text" in differing(report)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_text_that_the_service_wraps_is_taken_back_and_told(is_answered: bool) -> None:
    with Sandbox([PLAIN]) as sandbox:
        before = state(sandbox)
        if not is_answered:
            sandbox.add_fault(Fault(method="PUT", request=LISTED + 2, reset=True, applied=True))
        text = '<p>Written by replyio check; delete this. a &amp; b &lt; c &gt; d "e"  f </p>'
        wrapped = {"id": 9000001, "name": "Plain", "ownerUserId": 42, "description": text}
        wrapped |= {"stage": {"id": 3, "name": "Lead", "colorId": 1}}
        sandbox.add_fault(Fault(request=LISTED + 3, status=200, body=wrapped))
        report = written(sandbox)
        assert state(sandbox) == before
    assert "Somebody else" not in str(report)
    assert differing(report) == ({"stored_text"} if is_answered else {"update"}), str(report)
    if is_answered:
        assert "escaped" in said(report, "stored_text")


def test_an_update_that_is_told_to_wait_says_nothing_about_the_key() -> None:
    for fault in (Fault(method="PUT", status=429, times=1), Fault(method="PUT", status=429, retry_after=1, times=1)):
        with Sandbox([PLAIN], faults=[fault]) as sandbox:
            report = written(sandbox)
        assert "The update was not applied: the service answered 429." in said(report, "update")
        assert "Run the check again later" in said(report, "update")
        assert "do not work" not in said(report, "update")


def test_no_part_of_the_key_of_eight_characters_is_in_a_report() -> None:
    key = "abcdefghijklmnopqrst"
    for code in (key, key[:16], key[4:12], f"key-{key[:9].upper()}"):
        with Sandbox([PLAIN], faults=[Fault(status=422, body={"title": "x", "code": code})]) as sandbox:
            report = checked(sandbox, api_key=key)
        assert code not in forms(report)
        assert "the service answered 422" in said(report, "reading")


def test_an_account_that_another_call_of_this_process_changes_is_not_written() -> None:
    with Sandbox([PLAIN], faults=[Fault(method="PUT", delay=4)]) as sandbox, sandbox.client() as client:
        patching = threading.Thread(target=lambda: client.patch_contact_account(9000001, city="Oslo"))
        patching.start()
        while len(sandbox.requests) < 2:
            time.sleep(0.01)
        report = client.with_options(timeout=1.0).check(write=9000001)
        patching.join()
        assert sum(request.method == "PUT" for request in sandbox.requests) == 1
    assert "another update of the account, by this process, did not finish in time" in said(report, "update")


def test_an_update_for_which_the_quota_has_no_slot_says_so_and_what_helps() -> None:
    quota = replyio.Quota(per_minute=LISTED + 1, per_hour=1000, shared=False)
    with Sandbox([PLAIN]) as sandbox:
        report = written(sandbox, quota=quota, timeout=2)
        assert {request.method for request in sandbox.requests} == {"GET"}
    told = said(report, "update")
    assert "quota: 4 per minute" in told, told
    assert "an account that has only a name and a stage" not in told
    assert "timeout=" in told


def test_a_service_that_asks_for_a_pause_after_each_answer_is_named_as_the_cause() -> None:
    headers = {"RateLimit-Limit": "1", "RateLimit-Remaining": "0", "RateLimit-Reset": "2"}
    whole = {"id": 9000001, "name": "Plain", "ownerUserId": 42, "stage": {"id": 3, "name": "Lead", "colorId": 1}}
    paused = Fault(method="GET", id=9000001, status=200, body=whole, headers=headers)
    with Sandbox([PLAIN], faults=[paused]) as sandbox:
        report = written(sandbox, quota=replyio.Quota(shared=False), timeout=6)
    assert "an account that has only a name and a stage" not in said(report, "update")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("limits", [(1, 100), (100, 1)])
def test_a_quota_that_allows_no_two_requests_is_refused_before_the_first_one(
    mode: str, limits: tuple[int, int]
) -> None:
    quota = replyio.Quota(*limits, shared=False)
    with Sandbox([PLAIN]) as sandbox:
        with pytest.raises(replyio.ConfigurationError, match="at least 2 requests per minute and per hour"):
            written(sandbox, mode, quota=quota)
        assert sandbox.requests == []


def test_a_key_without_a_scope_is_accepted_and_says_so() -> None:
    with Sandbox([PLAIN], scopes={KEY: ["contacts:write"]}) as sandbox:
        report = checked(sandbox, api_key=KEY)
    assert (verdicts(report)["key"], verdicts(report)["reading"]) == (False, True), str(report)
    assert "lacks the scope contacts:read" in said(report, "reading")
    with Sandbox([PLAIN], scopes={KEY: ["contacts:read"]}) as sandbox:
        before = state(sandbox)
        report = written(sandbox, api_key=KEY)
        assert state(sandbox) == before
    # Without a code, a 403 may be from a proxy that has replaced the answer of the service.
    assert differing(report) == {"update", "restored"}, str(report)
    assert "no answer confirmed it: the service answered 403: the key lacks the scope" in said(report, "update")


def test_an_account_that_cannot_be_restored_is_told_exactly() -> None:
    faults = [Fault(method="PUT", request=LISTED + 2, delay=0.001), Fault(method="PUT", status=500)]
    with Sandbox([PLAIN], faults=faults) as sandbox:
        report = written(sandbox, timeout=3.0, max_attempts=2)
        assert state(sandbox).description.startswith("Written by replyio check; delete this.")
        sandbox.clear_faults()
        with sandbox.client() as client:
            client.patch_contact_account(9000001, description=None)
        assert state(sandbox).description is None
    assert "may not have restored" in said(report, "restored")
    assert not report.as_expected


def between(sandbox: Sandbox, changes: dict[str, Any], number: int) -> threading.Thread:
    """Edits the account as a colleague does while a request is delayed."""
    sandbox.add_fault(Fault(request=number, delay=0.5))

    def edit() -> None:
        deadline = time.monotonic() + 20
        while len(sandbox.requests) < number and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        sandbox.set_account(dataclasses.replace(sandbox.accounts[9000001], **changes))

    thread = threading.Thread(target=edit)
    thread.start()
    return thread


def test_the_edit_of_a_colleague_in_between_is_kept_and_told() -> None:
    for changes in ({"description": "a colleague's words"}, {"city": "Bergen"}, {"owner_user_id": 77}):
        with Sandbox([PLAIN | {"city": "Oslo"}]) as sandbox:
            # The edit comes while the answer to the update is on its way: it is applied before the delay.
            thread = between(sandbox, changes, LISTED + 2)
            report = written(sandbox)
            thread.join()
            after = state(sandbox)
        for name, value in changes.items():
            assert getattr(after, name) == value, str(report)
        assert after.description == changes.get("description"), str(report)
        assert verdicts(report)["restored"]
        assert "colleague" not in forms(report)
        assert "Bergen" not in forms(report)


def test_others_in_this_process_wait_until_the_account_is_restored() -> None:
    with Sandbox([PLAIN], faults=[Fault(request=LISTED + 2, delay=0.4)]) as sandbox, sandbox.client() as client:
        made: list[Any] = []
        checking = threading.Thread(target=lambda: made.append(client.check(write=9000001)))
        checking.start()
        while len(sandbox.requests) < LISTED + 2:
            time.sleep(0.01)
        client.patch_contact_account(9000001, city="Bergen", description="ours")
        checking.join()
        assert (state(sandbox).city, state(sandbox).description) == ("Bergen", "ours")
    assert made[0].as_expected, str(made[0])


@pytest.mark.parametrize("per_minute", [LISTED + 1, LISTED + 3])
def test_the_edit_of_a_colleague_during_a_wait_for_the_quota_is_kept(per_minute: int) -> None:
    quota = replyio.Quota(per_minute=per_minute, per_hour=1000, clock_scale=20, shared=False)
    with Sandbox([PLAIN | {"city": "Oslo"}]) as sandbox:
        # The last slot of the minute is for the look, so that the update waits three seconds for its own.
        last = per_minute - 1

        def edit() -> None:
            until(lambda: len(sandbox.requests) >= last)
            time.sleep(0.5)
            sandbox.set_account(dataclasses.replace(sandbox.accounts[9000001], city="Bergen"))

        thread = threading.Thread(target=edit)
        thread.start()
        report = written(sandbox, quota=quota)
        thread.join()
        assert (state(sandbox).city, state(sandbox).description) == ("Bergen", None), str(report)
        assert len(sandbox.requests) == report.requests == LISTED + 5


def test_a_stage_that_a_colleague_changes_is_not_called_as_it_was() -> None:
    with Sandbox([PLAIN], faults=[Fault(request=LISTED + 3, delay=0.5)]) as sandbox:

        def edit() -> None:
            until(lambda: len(sandbox.requests) >= LISTED + 3)
            other = {**PLAIN, "stage": {"id": 4, "name": "Lost", "color_id": 1}}
            sandbox.set_account({**other, "description": sandbox.accounts[9000001].description})

        thread = threading.Thread(target=edit)
        thread.start()
        report = written(sandbox)
        thread.join()
    assert "differ from before the check: stage" in said(report, "restored")
    assert "There is nothing to do" not in said(report, "restored")


# What is lost


LOSING = Deviations(update_clears=["city", "stage"])
LOST = {"city": "Oslo", "stage": "Lead"}
REFUSED = {"status": 403, "body": {"title": "no"}}


def losing(*faults: Fault) -> Sandbox:
    """A service whose updates lose the city and the stage."""
    return Sandbox([PLAIN | {"city": "Oslo"}], deviations=LOSING, faults=faults)


def refusing(*numbers: int) -> list[Fault]:
    return [Fault(request=number, **REFUSED) for number in numbers]


def test_what_the_answer_to_the_update_shows_as_lost_is_told_when_later_reads_fail() -> None:
    with losing(*refusing(*range(LISTED + 3, 30))) as sandbox:
        report = written(sandbox)
    assert dict(report.to_restore) == LOST, str(report)
    assert "differ from before the check: city, stage." in said(report, "restored")
    assert "patch_contact_account(9000001, description=None)" in said(report, "restored")
    assert "Oslo" not in forms(report)
    assert "Lead" not in forms(report)


def test_what_a_read_shows_as_lost_is_told_when_the_restoring_is_refused_and_the_last_read_fails() -> None:
    with losing(*refusing(*range(LISTED + 4, 30))) as sandbox:
        report = written(sandbox)
        assert [request.method for request in sandbox.requests].count("PUT") == 2
    assert dict(report.to_restore) == LOST, str(report)
    assert "differ from before the check: city, stage." in said(report, "restored")


@pytest.mark.parametrize("applied", [True, False])
def test_every_value_that_an_update_without_an_answer_may_have_altered_is_told(applied: bool) -> None:
    lost = Fault(request=LISTED + 2, reset=True, applied=applied)
    with losing(lost, *refusing(*range(LISTED + 3, 30))) as sandbox:
        report = written(sandbox)
    assert dict(report.to_restore) == {"name": "Plain", "owner_user_id": 42, **LOST}, str(report)
    assert "no read has shown account 9000001 since" in said(report, "restored")
    assert "may differ from before the check: name, city, owner_user_id, stage." in said(report, "restored")


def test_an_update_that_was_refused_loses_nothing() -> None:
    refused = {"status": 403, "body": {"title": "no", "code": "contactAccount.forbidden"}}
    with losing(*(Fault(request=number, **refused) for number in range(LISTED + 2, 30))) as sandbox:
        report = written(sandbox)
    assert report.to_restore == {}, str(report)


def test_a_loss_that_only_an_answer_shows_is_told_although_a_later_read_does_not_show_it() -> None:
    without = {
        "id": 9000001,
        "name": "Plain",
        "ownerUserId": 42,
        "description": "Written by replyio check; delete this.",
    }
    old = {**without, "description": None, "city": "Oslo", "stage": {"id": 3, "name": "Lead", "colorId": 1}}
    with losing(Fault(request=LISTED + 2, status=200, body=without, applied=True)) as sandbox:
        for number in range(LISTED + 3, 30):
            sandbox.add_fault(Fault(request=number, status=200, body=old))
        report = written(sandbox)
    assert dict(report.to_restore) == LOST, str(report)
    assert "An answer to an update shows other values than before the check in city, stage" in said(report, "restored")
    assert {"stage", "other_fields"} <= differing(report), str(report)


def test_an_answer_that_lacks_what_a_read_with_the_text_has_shows_no_loss() -> None:
    without = {
        "id": 9000001,
        "name": "Plain",
        "ownerUserId": 42,
        "description": "Written by replyio check; delete this.",
    }
    with Sandbox([PLAIN]) as sandbox:
        sandbox.add_fault(Fault(request=LISTED + 2, status=200, body=without, applied=True))
        sandbox.add_fault(Fault(request=LISTED + 4, status=200, body={**without, "description": None}, applied=True))
        report = written(sandbox)
    assert report.to_restore == {}, str(report)
    assert report.as_expected, str(report)


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_second_ctrl_c_logs_what_is_lost(is_answered: bool, caplog: pytest.LogCaptureFixture) -> None:
    faults = [Fault(request=LISTED + 3, delay=1.5), Fault(request=LISTED + 4, delay=1.5)]
    if not is_answered:
        faults.append(Fault(request=LISTED + 2, reset=True, applied=True))
    with losing(*faults) as sandbox, sandbox.client(timeout=5) as client:
        thread = interrupting(sandbox, LISTED + 3, LISTED + 4)
        with pytest.raises(KeyboardInterrupt):
            client.check(write=9000001)
        thread.join()
    by_hand = [record.getMessage() for record in caplog.records if record.getMessage().startswith("restore by hand:")]
    lost = LOST if is_answered else {"name": "Plain", "city": "Oslo", "owner_user_id": 42, "stage": "Lead"}
    assert {line.split(";")[0] for line in by_hand} == {
        f"restore by hand: {name} of account 9000001 was {value!r}" for name, value in lost.items()
    }


def test_an_update_that_is_applied_after_its_answer_is_taken_back() -> None:
    old = {"id": 9000001, "name": "Plain", "ownerUserId": 42, "stage": {"id": 3, "name": "Lead", "colorId": 1}}
    with Sandbox([PLAIN], faults=[Fault(request=LISTED + 2, status=200, body=old)]) as sandbox:
        before = state(sandbox)

        def apply() -> None:
            until(lambda: len(sandbox.requests) >= LISTED + 2)
            time.sleep(1)
            text = sandbox.requests[LISTED + 1].body["description"]
            sandbox.set_account(dataclasses.replace(sandbox.accounts[9000001], description=text))

        thread = threading.Thread(target=apply)
        thread.start()
        report = written(sandbox)
        thread.join()
        assert state(sandbox) == before, str(report)
    assert report.as_expected, str(report)


def test_an_update_that_is_answered_but_never_shown_may_still_be_applied() -> None:
    with Sandbox([PLAIN], deviations=Deviations(ignored_fields=["description"])) as sandbox:
        started = time.monotonic()
        report = written(sandbox)
        assert time.monotonic() - started >= LATE
    assert "may still apply the update" in said(report, "restored")
    assert "There is nothing to do" not in str(report)


# Interrupted


@pytest.mark.parametrize("number", range(1, LISTED + 6))
@pytest.mark.parametrize("applied", [True, "late"])
def test_ctrl_c_at_any_request_restores_the_account(number: int, applied: Any) -> None:
    fault = Fault(request=number, delay=1.0, applied=applied, status=500)
    with Sandbox([PLAIN], faults=[fault]) as sandbox:
        before = state(sandbox)
        command = [sys.executable, "-m", "replyio", "check", "--write", "9000001"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(sandbox)) as process:
            deadline = time.monotonic() + 30
            while len(sandbox.requests) < number and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        time.sleep(1.2)  # what is applied late
        assert process.returncode == 130, stderr
        assert state(sandbox) == before, stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("number", [LISTED + 2, LISTED + 3, LISTED + 4])
def test_a_signal_that_ends_the_command_restores_the_account(name: str, number: int) -> None:
    sent = getattr(signal, name)
    with Sandbox([PLAIN], faults=[Fault(request=number, delay=1.0)]) as sandbox:
        before = state(sandbox)
        returncode, stderr = check_and_send(sandbox, sent, number, signal.SIG_DFL)
        assert returncode == 128 + sent, stderr
        assert state(sandbox) == before, stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["SIGHUP", "SIGHUP"], 129),
        (["SIGTERM", "SIGHUP", "SIGTERM"], 143),
        (["SIGINT", "SIGHUP", "SIGTERM"], 130),
    ],
)
def test_a_further_signal_does_not_end_the_restore(names: list[str], code: int) -> None:
    with Sandbox([PLAIN], faults=[Fault(delay=0.5)]) as sandbox:
        before = state(sandbox)
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "replyio", "check", "--write", "9000001"]
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(sandbox)) as process:
            until(lambda: len(sandbox.requests) >= LISTED + 2)
            for name in names:
                process.send_signal(getattr(signal, name))
                time.sleep(0.1)
            _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (code, "")
        assert state(sandbox) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_second_ctrl_c_ends_the_restore_also_after_another_signal() -> None:
    with Sandbox([PLAIN], faults=[Fault(delay=1)]) as sandbox:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "replyio", "check", "--write", "9000001"]
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(sandbox)) as process:
            until(lambda: len(sandbox.requests) >= LISTED + 2)
            process.send_signal(signal.SIGTERM)
            until(lambda: len(sandbox.requests) >= LISTED + 3)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        assert process.returncode in {130, 143}
        assert "may still contain the text of the check" in stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_report_that_cannot_be_printed_leaves_the_news_of_the_account() -> None:
    with Sandbox([PLAIN]) as sandbox, Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "replyio", "check", "--write", "9000001"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment(sandbox), check=False, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr == (
        "replyio: the output: No space left on device; the check has ended. Every writable field of the account has "
        "the same value as before the check. There is nothing to do.\n"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_signal_that_nohup_ignores_does_not_end_the_command() -> None:
    with Sandbox([PLAIN], faults=[Fault(request=6, delay=1.0)]) as sandbox:
        before = state(sandbox)
        returncode, stderr = check_and_send(sandbox, signal.SIGHUP, 6, signal.SIG_IGN)
        assert returncode == 0, stderr
        assert state(sandbox) == before, stderr


def check_and_send(sandbox: Sandbox, sent: signal.Signals, number: int, action: signal.Handlers) -> tuple[int, str]:
    """Sends a signal to `replyio check --write` during a request. The command begins with this action for it."""
    command = [sys.executable, "-m", "replyio", "check", "--write", "9000001"]
    pipe = subprocess.PIPE
    # A child inherits what its parent ignores. `nohup` may have started this process.
    inherited = signal.signal(sent, action)
    try:
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(sandbox))
    finally:
        signal.signal(sent, inherited)
    with process:
        until(lambda: len(sandbox.requests) >= number)
        process.send_signal(sent)
        _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


def until(is_so: Callable[[], bool]) -> None:
    """Waits a moment longer than until something is so."""
    deadline = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)


def interrupting(sandbox: Sandbox, *numbers: int) -> threading.Thread:
    """Sends a Ctrl-C to this process at each of these requests."""

    def interrupt() -> None:
        for number in numbers:
            until(lambda number=number: len(sandbox.requests) >= number)  # type: ignore[misc]
            signal.raise_signal(signal.SIGINT) if sys.platform == "win32" else os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


def test_a_second_ctrl_c_stops_the_restoring_and_what_it_advises_works(caplog: pytest.LogCaptureFixture) -> None:
    faults = [Fault(request=LISTED + 3, delay=1.5), Fault(request=LISTED + 4, delay=1.5)]
    with Sandbox([PLAIN], faults=faults) as sandbox, sandbox.client(timeout=5) as client:
        before = state(sandbox)
        thread = interrupting(sandbox, LISTED + 3, LISTED + 4)
        # The exception keeps its frames, as a notebook does.
        with pytest.raises(KeyboardInterrupt) as kept:
            client.check(write=9000001)
        thread.join()
        assert state(sandbox) != before
        assert "patch_contact_account(9000001, description=None)" in caplog.text
        client.patch_contact_account(9000001, description=None)
        assert state(sandbox) == before
        assert kept.value is not None


def test_the_only_ctrl_c_while_the_restoring_waits_for_the_quota_restores_the_account() -> None:
    quota = replyio.Quota(per_minute=LISTED + 3, per_hour=1000, clock_scale=20, shared=False)
    with Sandbox([PLAIN]) as sandbox, sandbox.client(quota=quota) as client:
        before = state(sandbox)
        thread = interrupting(sandbox, LISTED + 2)
        with pytest.raises(KeyboardInterrupt):
            client.check(write=9000001)
        thread.join()
        assert state(sandbox) == before


@pytest.mark.parametrize("number", range(LISTED + 2, LISTED + 6))
def test_a_task_that_is_cancelled_at_any_request_restores_the_account(number: int) -> None:
    with Sandbox([PLAIN], faults=[Fault(request=number, delay=1.0)]) as sandbox:
        before = state(sandbox)

        async def main() -> None:
            async with sandbox.client() as client:
                task = asyncio.create_task(client.check_async(write=9000001))
                await asyncio.to_thread(until, lambda: len(sandbox.requests) >= number)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(main())
        assert state(sandbox) == before


def test_a_cancelled_task_restores_the_account(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox([PLAIN], faults=[Fault(request=LISTED + 2, delay=5, applied=True, status=500)]) as sandbox:
        before = state(sandbox)

        async def main() -> None:
            async with sandbox.client() as client:
                await asyncio.wait_for(client.check_async(write=9000001), 1.5)

        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(main())
        assert state(sandbox) == before
    assert caplog.text == ""


def test_a_check_whose_event_loop_is_closed_restores_the_account_and_ends_its_turn() -> None:
    """Nothing cancels the task, and the program still has it."""
    with Sandbox([PLAIN], faults=[Fault(method="PUT", delay=0.3, times=None)]) as sandbox, sandbox.client() as client:
        before = state(sandbox)
        event_loop = asyncio.new_event_loop()
        task = event_loop.create_task(client.check_async(write=9000001))

        def writes() -> bool:
            return any(request.method == "PUT" for request in sandbox.requests)

        event_loop.run_until_complete(asyncio.to_thread(until, writes))
        event_loop.close()
        client.with_options(timeout=5).patch_contact_account(9000001, city="Oslo")
        assert state(sandbox) == dataclasses.replace(before, city="Oslo")
        assert not task.done()
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_scope_of_anyio_that_is_cancelled_restores_the_account(caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox([PLAIN], faults=[Fault(request=LISTED + 2, delay=3, applied=True)]) as sandbox:
        before = state(sandbox)

        async def main() -> bool:
            async with sandbox.client() as client:
                with anyio.move_on_after(1) as scope:
                    await client.check_async(write=9000001)
            return scope.cancelled_caught

        assert asyncio.run(main())
        assert state(sandbox) == before
    assert caplog.text == ""


# The command


def command(sandbox: Sandbox, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "replyio", "check", *arguments]
    variables = environment(sandbox)
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=variables)


def test_the_command_exits_with_0_as_expected_and_with_1_otherwise() -> None:
    with Sandbox() as sandbox:
        done = command(sandbox, "--format", "table")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"replyio {replyio.__version__} check: as expected, 4 requests\n")
        found = json.loads(command(sandbox).stdout)
        assert (found["as_expected"], len(found["findings"])) == (True, 7)
        assert command(sandbox, "--format", "csv").stdout.splitlines()[0] == "topic,found,follows,verdict"
    with Sandbox(deviations=Deviations(list_cut=2)) as sandbox:
        assert command(sandbox, "--format", "jsonl").returncode == 1
    assert command(sandbox).returncode == 1
    assert command(sandbox, "--write", "0").returncode == 2


def test_the_command_tells_on_stderr_alone_what_to_restore_by_hand() -> None:
    with Sandbox([PLAIN], deviations=Deviations(update_clears="stage")) as sandbox:
        done = command(sandbox, "--write", "9000001", "--format", "table")
    assert done.returncode == 1
    assert "Lead" not in done.stdout
    assert (
        "account 9000001: stage was 'Lead'; restore it by hand if it differs and no one else changed it" in done.stderr
    )


def test_every_combination_of_losses_is_told_or_put_back() -> None:
    for stored, clears, owner in itertools.product(["trimmed", "escaped"], [(), ("stage", "city")], [None, 9]):
        deviations = Deviations(stored=stored, update_clears=clears, update_owner=owner)  # type: ignore[arg-type]
        with Sandbox([PLAIN | {"city": "Oslo"}], deviations=deviations) as sandbox:
            before = state(sandbox)
            report = written(sandbox)
            after = state(sandbox)
        assert changed(before, after) == set(report.to_restore), str(report)
