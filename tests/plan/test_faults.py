"""What goes wrong for one row stays with it, what goes wrong for all loses none, and no key gets out."""

from __future__ import annotations

import base64
import contextlib
import datetime
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import replyio
from replyio import ApplyResult, AuthenticationError, PermissionDeniedError, Plan, ReplyError, ServerError
from replyio.sandbox import Fault, Sandbox
from support import refusing_port

from .jobs import (
    KEY,
    assert_complete,
    assert_written,
    by_status,
    companies,
    do,
    id_of,
    moves,
    plan,
    puts,
    statuses,
    succeeded,
)

ROWS = 30
IDS = range(1, ROWS + 1)
MEANT = {id: {"city": f"Bergen {id}"} for id in IDS}
OTHERS = {id: change for id, change in MEANT.items() if id != 7}


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(ROWS), api_keys=[KEY]) as sandbox:
        yield sandbox


@pytest.mark.parametrize("auth", ["auto", "x-api-key"])
def test_a_refused_key_stops_the_job_after_one_update_with_every_row_intact(auth: Any, service: Sandbox) -> None:
    before = service.accounts
    with service.client(quota=None, auth=auth) as client, plan(client, "sync", moves(IDS)) as made:
        service.add_fault(Fault(method="PUT", status=401, headers={"WWW-Authenticate": "Bearer"}))
        service.clear_requests()
        with pytest.raises(AuthenticationError):
            do(made, "apply")
        # The bearer challenge is followed once.
        assert len(puts(service)) == (2 if auth == "auto" else 1)
        assert len({id_of(request) for request in puts(service)}) == 1
        assert made.counts == {"pending": ROWS}
        assert_complete(made, ROWS)
        service.clear_faults()
        service.clear_requests()
        assert do(made, "apply").counts == {"changed": ROWS}
    assert_written(service, before, MEANT)


def test_a_refused_key_stops_planning_and_leaves_no_file(service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "never.replyplan"
    with service.client(quota=None, api_key="wrong") as client, pytest.raises(AuthenticationError):
        plan(client, "sync", moves(IDS), save_as=path)
    assert list(tmp_path.iterdir()) == []
    assert len(service.requests) <= 2


def test_a_key_that_may_only_read_plans_and_stops_at_the_third_row() -> None:
    with Sandbox(accounts=companies(ROWS), scopes={KEY: ["contacts:read"]}) as sandbox:
        with sandbox.client(quota=None, api_key=KEY) as client, plan(client, "sync", moves(IDS)) as made:
            with pytest.raises(PermissionDeniedError):
                do(made, "apply")
            # Without a code, a 403 may be from a proxy that has replaced the answer of the service.
            assert made.counts == {"pending": ROWS - 3, "unknown": 3}
        assert not succeeded(sandbox)
        # One account may be forbidden by itself; three in a row are not. The first two are sent once more.
        assert len(puts(sandbox)) == 5


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 302, "headers": {"Location": "https://login.example/"}},
        {"status": 403, "headers": {"Content-Type": "text/html"}, "body": "<html>"},
        {"status": 404},
        {"status": 400, "headers": {"Content-Type": "text/html"}, "body": "<html>"},
    ],
    ids=["302", "403", "404", "400"],
)
def test_updates_whose_answers_a_proxy_replaced_are_changed_and_reverted(answer: dict[str, Any]) -> None:
    with Sandbox(accounts=companies(2)) as sandbox, sandbox.client(quota=None) as client:
        before = sandbox.accounts
        with plan(client, "sync", moves([1, 2])) as made:
            for id in (1, 2):
                sandbox.add_fault(Fault(id=id, method="PUT", times=1, applied=True, **answer))
            assert do(made, "apply").counts == {"changed": 2}
            assert do(made, "revert").counts == {"changed": 2}
        assert {id: account.city for id, account in sandbox.accounts.items()} == {
            id: account.city for id, account in before.items()
        }


GONE = {"title": "Not Found", "status": 404, "code": "contactAccount.notFound", "detail": "Account not found."}
FORBIDDEN = {"title": "Forbidden", "status": 403, "code": "contactAccount.forbidden", "detail": "Not yours."}


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(id=7, method="PUT", status=403, body=FORBIDDEN), "failed"),
        (Fault(id=7, method="PUT", status=400), "failed"),
        (Fault(id=7, method="PUT", status=409), "failed"),
        (Fault(id=7, method="PUT", status=404, body=GONE), "not_found"),
        # Something in front of the service says so, and the service has not been asked.
        (Fault(id=7, method="PUT", status=404), "unknown"),
        (Fault(id=7, method="PUT", status=500), "unknown"),
        (Fault(id=7, method="PUT", status=503, retry_after=0), "unknown"),
        (Fault(id=7, method="PUT", status=302, headers={"Location": "http://127.0.0.1:9/"}), "unknown"),
        (Fault(id=7, method="PUT", reset=True), "unknown"),
        (Fault(id=7, method="PUT", status=200, body="{"), "unknown"),
        # A page of something in between: nobody knows what the service did.
        (Fault(id=7, method="PUT", status=200, body="<html>"), "unknown"),
    ],
    ids=["403", "400", "409", "404", "404-of-a-gateway", "500", "503", "302", "reset", "cut", "html"],
)
def test_what_is_wrong_with_one_account_stays_with_its_row(fault: Fault, status: str, service: Sandbox) -> None:
    before = service.accounts
    with service.client(quota=None, max_attempts=2) as client, plan(client, "sync", moves(IDS)) as made:
        service.add_fault(fault)
        result = do(made, "apply")
        assert_complete(result, ROWS)
        assert statuses(result.rows)[6] == status
        assert result.counts.get("changed") == ROWS - 1
        assert "row 6" in next(iter(result.failures))["error"]
        tried = sum(id_of(request) == 7 for request in puts(service))
        assert tried <= 6
        service.clear_faults()
        if status != "not_found":
            assert do(made, "retry_failed").counts == {"changed": ROWS}
    if status != "not_found":
        service_log = succeeded(service)
        assert service_log[7] >= 1
        assert all(good == 1 for id, good in service_log.items() if id != 7)
        assert {id: account.city for id, account in service.accounts.items()} == {id: f"Bergen {id}" for id in before}


@pytest.mark.parametrize("status", [500, 403])
def test_an_account_that_cannot_be_read_fails_its_row_and_no_plan(status: int, service: Sandbox) -> None:
    body = FORBIDDEN if status == 403 else None
    with service.client(quota=None, max_attempts=2) as client:
        # Enough accounts that single reads are cheaper than the list.
        for account in companies(1_000, first=1_000):
            service.set_account(account)
        service.add_fault(Fault(id=7, method="GET", status=status, body=body))
        rows = moves([1_998, 1_999, 999_999, 7])
        for id in range(1, ROWS + 1):
            service.remove_account(id) if id != 7 else None
        with plan(client, "sync", [*rows[:2], rows[2]]) as made:
            assert made.counts == {"pending": 2, "not_found": 1}
        with plan(client, "sync", rows[3:]) as made:  # a single row is read singly
            assert made.counts == {"failed": 1}
            assert "row 0" in next(iter(made.failures))["error"]
            service.clear_faults()
            # What is not known cannot be tried again, and must not look as if it were right.
            assert do(made, "retry_failed").counts == {"failed": 1}
            assert "plan this row again" in next(iter(made.failures))["error"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="PUT", reset=True, applied=True, times=2),
        Fault(method="PUT", close=True, applied=True, times=2),
        Fault(method="PUT", cut=20, applied=True, times=2),
        Fault(method="PUT", status=502, applied=True, times=2),
        Fault(method="PUT", delay=1.0, applied="late", reset=True, times=2),
    ],
    ids=["reset", "close", "cut", "502", "late"],
)
@pytest.mark.parametrize("attempts", [1, 3])
def test_an_answer_lost_after_it_was_applied_ends_right(fault: Fault, attempts: int, service: Sandbox) -> None:
    before = service.accounts
    options = {"max_attempts": attempts, "attempt_timeout": 0.5, "timeout": 20}
    with service.client(quota=None, **options) as client, plan(client, "sync", moves(IDS)) as made:
        service.add_fault(fault)
        result = do(made, "apply")
        assert_complete(result, ROWS)
        assert result.counts == {"changed": ROWS}
    if fault.applied == "late":
        time.sleep(0.7)
    assert_written(service, before, MEANT, once=False)
    bodies: dict[int | None, list[Any]] = {}
    for request in puts(service):
        bodies.setdefault(id_of(request), []).append(request.body)
    assert all(body == sent[0] for sent in bodies.values() for body in sent)


def test_no_account_is_twice_in_flight() -> None:
    delay = 0.04
    with Sandbox(accounts=companies(ROWS)) as sandbox:
        with sandbox.client(quota=None) as client, plan(client, "sync", moves(IDS)) as made:
            # Every fifth is refused before the answer, after the same time.
            for id in range(1, ROWS, 5):
                sandbox.add_fault(Fault(id=id, method="PUT", delay=delay, status=503, times=2))
            sandbox.add_fault(Fault(method="PUT", delay=delay))
            assert do(made, "apply").counts == {"changed": ROWS}
        by_id: dict[int | None, list[datetime.datetime]] = {}
        for request in puts(sandbox):
            by_id.setdefault(id_of(request), []).append(request.time)
        assert max(map(len, by_id.values())) > 1
        for moments in by_id.values():
            gaps = [(after - then).total_seconds() for then, after in pairwise(moments)]
            assert all(gap >= delay for gap in gaps), gaps
        times = sorted(request.time for request in puts(sandbox))
        ends = datetime.timedelta(seconds=delay)
        busiest = max(sum(then <= moment < then + ends for then in times) for moment in times)
        assert 1 < busiest <= 8


def test_an_outage_is_waited_out(tmp_path: Path) -> None:
    kept = tmp_path / "accounts.db"
    with Sandbox(accounts=companies(120), path=kept, faults=[Fault(method="PUT", delay=0.02)]) as sandbox:
        before = sandbox.accounts
        port = sandbox.port
        client = sandbox.client(quota=None, max_attempts=1)
        made = plan(client, "sync", moves(range(1, 121)))
        results: list[ApplyResult | BaseException] = []

        def work() -> None:
            try:
                results.append(do(made, "apply"))
            except BaseException as error:  # noqa: BLE001 - for the assertion
                results.append(error)

        worker = threading.Thread(target=work)
        worker.start()
        until = time.monotonic() + 10
        while len(puts(sandbox)) < 20 and time.monotonic() < until:
            time.sleep(0.005)
        sandbox.stop()
    first = succeeded(sandbox)
    assert 0 < len(first) < 120
    with refusing_port(port):
        time.sleep(1)
    assert not results, "gone wrong, and not waited"
    with Sandbox(path=kept, port=port) as again:
        worker.join(30)
        result = results[0]
        assert isinstance(result, ApplyResult), result
        assert result.counts == by_status(result) == {"changed": 120}
        # At most what was in flight when it went away was sent again.
        assert sum((first + succeeded(again)).values()) <= 120 + 8
        assert {id: account.city for id, account in again.accounts.items()} == {id: f"Bergen {id}" for id in before}
        # The first pause is five seconds, and not more because several were in flight.
        assert result.seconds < 12
    made.close()
    client.close()


def spellings(secret: str) -> set[bytes]:
    """Every form in which the key could get out."""
    found = {secret, quote(secret, ""), quote(secret), repr(secret)[1:-1]}
    for prefix in ("", "x", "xy", "Bearer "):
        encoded = base64.b64encode((prefix + secret).encode()).decode().rstrip("=")
        found.add(encoded[-(-len(prefix) * 4 // 3) : -1])
    return {text.encode() for text in found}


def test_the_key_is_nowhere(
    service: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[bytes] = []
    path = tmp_path / "secret.replyplan"
    echo = {"title": "No", "status": 400, "detail": f"the key {KEY} is known", "code": KEY}

    def look() -> None:
        found = sorted(tmp_path.iterdir())
        for file in found:
            with contextlib.suppress(FileNotFoundError):  # the log goes with the run
                seen.append(file.read_bytes())
                names.add(file.name)

    names: set[str] = set()
    caplog.set_level(logging.DEBUG)
    with service.client(quota=None, max_attempts=1) as client:
        made = client.plan_contact_account_updates(moves(IDS), save_as=path)
        look()
        service.add_fault(Fault(id=3, method="PUT", status=400, body=echo))
        service.add_fault(Fault(id=9, method="PUT", status=500, body=KEY, times=3))
        service.add_fault(Fault(id=11, method="PUT", status=401, body=KEY, times=1))
        errors: list[ReplyError] = []
        service.add_fault(Fault(method="PUT", delay=0.01))
        for action in ("apply", "apply", "retry_failed"):
            ended = threading.Event()
            watcher = threading.Thread(
                target=lambda ended=ended: [look() for _ in iter(lambda: ended.wait(0.02), True)]
            )
            watcher.start()
            try:
                result = do(made, action, progress=True)
                seen.append(repr((result, list(result.rows), list(result.changes), result._repr_html_())).encode())
                result.raise_for_failures()
            except ReplyError as error:
                errors.append(error)
            finally:
                ended.set()
                watcher.join()
            look()
        with pytest.raises(replyio.PlanError) as caught:
            client.open_plan(tmp_path / "other.replyplan")
        errors.append(caught.value)
        seen.append(repr((made, list(made.rows), made._repr_html_())).encode())
        made.close()
        look()
    assert {type(error) for error in errors} >= {AuthenticationError, ReplyError, replyio.PlanError}
    for error in errors:
        told = traceback.TracebackException.from_exception(error, capture_locals=False)
        seen += [repr(error).encode(), str(error).encode(), pickle.dumps(error), "".join(told.format()).encode()]
    out = capfd.readouterr()
    seen += [out.out.encode(), out.err.encode(), caplog.text.encode(), repr([vars(r) for r in caplog.records]).encode()]
    assert {f"secret.replyplan{suffix}" for suffix in ("", "-wal", "-shm")} <= names, names
    for text in seen:
        assert not [form for form in spellings(KEY) if form in text]


def test_a_service_that_fails_for_everybody_is_waited_for_and_stops_no_row(service: Sandbox) -> None:
    # Reading works, writing does not: rows are tried in turn, and what was not done can be gone on with.
    before = service.accounts
    with service.client(quota=None, max_attempts=1) as client, plan(client, "sync", moves([1, 2])) as made:
        service.add_fault(Fault(method="PUT", status=500))
        result = do(made, "apply")
        assert set(statuses(result.rows)) <= {"failed", "unknown"}
        service.clear_faults()
        service.clear_requests()
        assert do(made, "retry_failed").counts == {"changed": 2}
    assert_written(service, before, {id: MEANT[id] for id in (1, 2)})
    assert ServerError.__name__ not in repr(result)


def outcomes(report: Plan | ApplyResult) -> list[tuple[str, str | None]]:
    return [(row["status"], row["error"]) for row in report.rows]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_retry_that_can_send_nothing_keeps_every_outcome(mode: str, service: Sandbox) -> None:
    with service.client(quota=None) as client, plan(client, "sync", moves([1, 2, 3])) as made:
        service.add_fault(Fault(id=1, method="PUT", status=422))
        client.patch_contact_account(2, city="Turku")
        before = outcomes(do(made, "apply"))
        assert [status for status, _ in before] == ["failed", "conflict", "changed"]
        service.clear_faults()
        for method in ("GET", "PUT"):
            service.add_fault(Fault(method=method, status=401))
            with pytest.raises(AuthenticationError):
                do(made, "retry_failed", mode)
            assert outcomes(made) == before
            service.clear_faults()
        assert do(made, "retry_failed", mode, on_conflict="overwrite").counts == {"changed": 3}
