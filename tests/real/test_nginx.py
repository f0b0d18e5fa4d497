"""An nginx between the client and the service: its quota, its pages, its connections and its restarts."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from replyio import (
    APIError,
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
    UnexpectedResponseError,
)
from replyio.sandbox import Fault, Sandbox
from support import refusing_port

from .checks import Day
from .conftest import StartNginx
from .programs import Nginx

TWO_A_SECOND = {
    "http": "limit_req_zone $http_x_api_key zone=quota:1m rate=2r/s; limit_req_status 429;",
    "location": "limit_req zone=quota; error_page 429 @quota;",
    "server": "location @quota { internal; add_header Retry-After 1 always; return 429; }",
}


def test_a_quota_is_waited_for_as_its_retry_after_says(day: Day, nginx: StartNginx) -> None:
    quota = nginx(**TWO_A_SECOND)
    client = day.client(quota.url)
    started = time.monotonic()
    for id in (4711, 4712, 4713):
        day.succeeds(client, id)
    assert time.monotonic() - started >= 2.0
    assert quota.statuses(5) == [200, 429, 200, 429, 200]
    assert len(day.sandbox.requests) == 3


def test_a_quota_that_opens_after_the_deadline_is_told_at_once(day: Day, nginx: StartNginx) -> None:
    quota = nginx(**TWO_A_SECOND)
    client = day.client(quota.url, timeout=0.9)
    day.succeeds(client)
    error = day.fails(
        client, RateLimitError, "429 Too Many Requests .*hint: the quota allows the next request in 1 s", within=0.5
    )
    assert error.retry_after == 1.0
    assert quota.statuses(2) == [200, 429]
    time.sleep(0.6)
    day.succeeds(client)


def test_many_calls_at_once_all_get_through_a_quota(day: Day, nginx: StartNginx) -> None:
    quota = nginx(**{**TWO_A_SECOND, "location": "limit_req zone=quota burst=2 nodelay; error_page 429 @quota;"})
    client = day.client(quota.url, timeout=20.0, max_attempts=10)

    async def all_at_once() -> list[str]:
        calls = [client.update_contact_account_async(4711 + count % 3, name=f"{count}") for count in range(9)]
        return [account.name for account in await asyncio.gather(*calls)]

    assert asyncio.run(all_at_once()) == [f"{count}" for count in range(9)]
    assert len(day.sandbox.requests) == 9


def test_all_calls_share_one_connection(day: Day, nginx: StartNginx) -> None:
    front = nginx()
    client = day.client(front.url)
    for id in (4711, 4712, 4713) * 4:
        day.succeeds(client, id)
    assert len({request["connection"] for request in front.requests(12)}) == 1
    assert len({request.connection for request in day.sandbox.requests}) == 1


def test_a_connection_that_nginx_closed_while_it_was_idle_is_replaced(day: Day, nginx: StartNginx) -> None:
    front = nginx(server="keepalive_timeout 1s;")
    client = day.client(front.url, max_attempts=1)
    day.succeeds(client)
    time.sleep(1.3)
    day.succeeds(client)
    assert len({request["connection"] for request in front.requests(2)}) == 2
    assert len(day.sandbox.requests) == 2


def test_a_connection_that_nginx_closes_after_so_many_requests_is_replaced(day: Day, nginx: StartNginx) -> None:
    front = nginx(server="keepalive_requests 3;")
    client = day.client(front.url, max_attempts=1)
    for id in (4711, 4712, 4713) * 3:
        day.succeeds(client, id)
    assert len({request["connection"] for request in front.requests(9)}) == 3
    assert len(day.sandbox.requests) == 9


@pytest.mark.parametrize("face", ["threads", "awaitables"])
def test_calls_succeed_while_nginx_reloads(day: Day, nginx: StartNginx, face: str) -> None:
    front = nginx()
    client = day.client(front.url)
    done = threading.Event()

    def call(worker: int) -> int:
        calls = 0
        while not done.is_set():
            calls += 1
            assert client.update_contact_account(4711 + worker, name=f"{worker}-{calls}").name == f"{worker}-{calls}"
        return calls

    async def await_calls(worker: int) -> int:
        calls = 0
        while not done.is_set():
            calls += 1
            account = await client.update_contact_account_async(4711 + worker, name=f"{worker}-{calls}")
            assert account.name == f"{worker}-{calls}"
        return calls

    async def await_all() -> list[int]:
        return await asyncio.gather(*map(await_calls, range(3)))

    def run() -> list[int]:
        if face == "awaitables":
            return asyncio.run(await_all())
        with ThreadPoolExecutor(3) as workers:
            return list(workers.map(call, range(3)))

    with ThreadPoolExecutor(1) as runner:
        running = runner.submit(run)
        for _ in range(6):
            time.sleep(0.15)
            front.reload()
        time.sleep(0.15)
        done.set()
        calls = running.result(timeout=10)
    assert min(calls) > 10
    connections = {request["connection"] for request in front.requests(sum(calls))}
    assert len(connections) > 3, "no connection was closed by the reloads"
    for worker, count in enumerate(calls):
        # What was sent twice was the same twice, and nothing overtook what came after it.
        names = [request.body["name"] for request in day.sandbox.requests if request.path.endswith(f"/{4711 + worker}")]
        assert list(dict.fromkeys(names)) == [f"{worker}-{number}" for number in range(1, count + 1)]
        assert names == sorted(names, key=lambda name: int(name.split("-")[1]))


def test_the_next_call_succeeds_after_nginx_was_killed_and_started_again(day: Day, nginx: StartNginx) -> None:
    front = nginx()
    client = day.client(front.url)
    for id in (4711, 4712, 4713):
        day.succeeds(client, id)
        front.kill()
        front.start()
    day.succeeds(client)
    assert len(day.sandbox.requests) == 4


def test_while_nginx_is_down_it_is_a_transport_error(day: Day, nginx: StartNginx) -> None:
    front = nginx()
    client = day.client(front.url)
    day.succeeds(client)
    front.kill()
    day.fails(client, TransportError, "connection refused.*after 2 attempts.*hint: ", attempts=2)
    front.start()
    day.succeeds(client)
    assert len(day.sandbox.requests) == 2


def test_a_502_page_of_nginx_is_a_server_error_with_a_hint(day: Day, nginx: StartNginx) -> None:
    front = nginx()
    client = day.client(front.url)
    day.sandbox.stop()
    with refusing_port(day.sandbox.port):
        error = day.fails(
            client, ServerError, "502 Bad Gateway after 2 attempts.*hint: the service, or a proxy", attempts=2
        )
    assert (error.status, error.title, error.code) == (502, None, None)
    assert front.statuses(2) == [502, 502]


def test_the_service_that_comes_back_behind_nginx_is_found_again(day: Day, nginx: StartNginx) -> None:
    day.sandbox.stop()
    front = nginx(location="proxy_connect_timeout 1s;")
    client = day.client(front.url, max_attempts=10, timeout=10.0)
    back: list[Sandbox] = []

    def return_later() -> None:
        front.statuses(1)
        back.append(Sandbox(port=day.sandbox.port))

    with refusing_port(day.sandbox.port), ThreadPoolExecutor(1) as later:
        later.submit(return_later)
        # nginx leaves a service alone for ten seconds that has failed, unless it is the only one.
        account = client.update_contact_account(4711, name="back")
    with back[0] as sandbox:
        assert account.name == sandbox.accounts[4711].name == "back"
        assert len(sandbox.requests) == 1
        client.close()
        sandbox.close_connections()


def test_a_504_of_nginx_for_an_update_that_was_applied_late_is_repeated(day: Day, nginx: StartNginx) -> None:
    front = nginx(location="proxy_read_timeout 1s; proxy_next_upstream off;")
    day.sandbox.add_fault(Fault(request=1, delay=1.3, applied="late"))
    day.succeeds(day.client(front.url))
    assert front.statuses(2) == [504, 200]
    first, second = day.sandbox.requests
    assert first.body == second.body


def test_a_503_with_retry_after_is_waited_for(day: Day, nginx: StartNginx) -> None:
    front = nginx(
        http="limit_req_zone $http_x_api_key zone=quota:1m rate=2r/s;",
        location="limit_req zone=quota; error_page 503 @busy;",
        server="location @busy { internal; add_header Retry-After 1 always; return 503; }",
    )
    client = day.client(front.url)
    for id in (4711, 4712):
        day.succeeds(client, id)
    assert front.statuses(3) == [200, 503, 200]


def test_a_body_that_nginx_finds_too_long_is_told_and_not_sent_again(day: Day, nginx: StartNginx) -> None:
    front = nginx(location="client_max_body_size 64k;")
    client = day.client(front.url)
    for length in (1 << 17, 3 << 20):
        with pytest.raises(
            UnexpectedResponseError, match=r"413 after 1 attempt.*hint: the fields are too long"
        ) as caught:
            client.update_contact_account(4711, name="Acme", description="x" * length)
        assert caught.value.status == 413
    assert front.statuses(2) == [413, 413]
    assert day.sandbox.requests == []
    day.succeeds(client)


@pytest.mark.parametrize(
    ("location", "raises"),
    [
        pytest.param("deny all;", PermissionDeniedError, id="403"),
        pytest.param("auth_basic company; auth_basic_user_file nobody;", AuthenticationError, id="401"),
    ],
)
def test_a_gate_that_nginx_guards_is_not_taken_for_the_service_s_own(
    day: Day, nginx: StartNginx, location: str, raises: type[APIError]
) -> None:
    front = nginx(location=location)
    day.fails(
        day.client(front.url), raises, "after 1 attempt.*hint: this looks like a page from a proxy or a login form"
    )
    assert len(front.statuses(1)) == 1
    assert day.sandbox.requests == []


def test_a_path_that_nginx_does_not_serve_is_told_as_a_wrong_address(day: Day, nginx: StartNginx) -> None:
    front = nginx(location="return 404;")
    day.fails(day.client(front.url), NotFoundError, "404 Not Found after 1 attempt.*hint: .*check base_url")
    assert front.statuses(1) == [404]


def test_a_redirect_of_nginx_is_not_followed(day: Day, nginx: StartNginx) -> None:
    front = nginx(location="return 301 https://other.example$request_uri;")
    error = day.fails(day.client(front.url), UnexpectedResponseError, "301 .*hint: replyio never follows redirects")
    assert error.status == 301
    assert front.statuses(1) == [301]


def test_a_login_page_in_place_of_the_service_is_no_account(day: Day, nginx: StartNginx) -> None:
    front = nginx(location="default_type text/html; return 200 '<html>Please log in</html>';")
    error = day.fails(
        day.client(front.url), UnexpectedResponseError, "hint: this looks like a page from a proxy or a login form"
    )
    assert error.excerpt == "<html>Please log in</html>"
    assert front.statuses(1) == [200]


def test_a_connection_that_nginx_closes_without_an_answer_is_tried_again(day: Day, nginx: StartNginx) -> None:
    front = nginx(location="return 444;")
    day.fails(day.client(front.url), TransportError, "closed before the answer.*after 2 attempts", attempts=2)
    assert front.statuses(2) == [444, 444]


def test_answers_in_chunks_and_answers_through_a_small_buffer_are_whole(day: Day, nginx: StartNginx) -> None:
    front: Nginx = nginx(location="proxy_buffering off; chunked_transfer_encoding on; postpone_output 0;")
    client = day.client(front.url)
    text = "long " * 50_000
    assert client.update_contact_account(4711, name="Acme", description=text).description == text
    day.succeeds(client)
