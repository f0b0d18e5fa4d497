"""Clients and errors cross a process boundary; keys do not, unless asked to."""

from __future__ import annotations

import base64
import concurrent.futures
import copy
import multiprocessing
import pickle
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio import Quota, ReplyClient, ReplyError
from replyio.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "canary+key/12345"


def forms(secret: str) -> list[bytes]:
    """A secret as it is, percent-encoded and in base64."""
    return [secret.encode(), urllib.parse.quote(secret, safe="").encode(), base64.b64encode(secret.encode())[:-4]]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_client_has_no_key_and_finds_one_where_it_lands(
    protocol: int, reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLY_API_KEY", KEY)
    with ReplyClient(base_url=reply_sandbox.url) as client:
        data = pickle.dumps(client, protocol)
    monkeypatch.delenv("REPLY_API_KEY")
    assert not [form for form in forms(KEY) if form in data]
    with pytest.raises(replyio.ConfigurationError, match="REPLY_API_KEY"):
        pickle.loads(data)
    monkeypatch.setenv("REPLY_API_KEY", "another-key")
    with pickle.loads(data) as back:
        assert repr(back) == repr(client)
        assert back.get_contact_account(4711).id == 4711


@pytest.mark.reply_sandbox(api_keys=[KEY])
def test_a_client_takes_its_key_along_when_asked_to(reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with reply_sandbox.client(pickle_api_key=True) as client, pickle.loads(pickle.dumps(client)) as back:
        assert back.get_contact_account(4711).id == 4711
        with pickle.loads(pickle.dumps(back.with_options(timeout=5))) as again:
            assert again.get_contact_account(4711).id == 4711
    monkeypatch.setenv("REPLY_API_KEY", KEY)
    data = pickle.dumps(ReplyClient(base_url=reply_sandbox.url, pickle_api_key=True))
    monkeypatch.delenv("REPLY_API_KEY")
    with pickle.loads(data) as back:
        assert back.get_contact_account(4711).id == 4711


def test_a_pickled_client_keeps_its_service_whatever_the_environment_says(
    reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLY_BASE_URL", reply_sandbox.url)
    data = pickle.dumps(ReplyClient("key", pickle_api_key=True))
    monkeypatch.setenv("REPLY_BASE_URL", "http://127.0.0.1:1/v3")
    assert repr(pickle.loads(data)) == f"<ReplyClient for {reply_sandbox.url}>"


def test_a_pickled_client_keeps_its_settings(reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "key")
    options: dict[str, Any] = {"act_as": 7, "auth": "bearer", "max_attempts": 1, "quota": Quota(1, 1), "timeout": 3}
    with reply_sandbox.client(team_id=3).with_options(**options) as client, pickle.loads(pickle.dumps(client)) as back:
        reply_sandbox.add_fault(Fault(status=503))
        with pytest.raises(replyio.ServerError):
            back.get_contact_account(4711)
        with pytest.raises(replyio.RateLimitError):
            back.get_contact_account(4711)
    (request,) = reply_sandbox.requests
    assert (request.headers["x-user-id"], request.headers["x-team-id"]) == ("7", "3")
    assert "authorization" in request.headers


@pytest.mark.parametrize("secret", ["api_key", "proxy"])
def test_a_client_with_a_secret_given_in_code_is_not_pickled_unless_asked_to(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that loads it would use another key, or reach the service without the proxy, and tell nobody."""
    monkeypatch.setenv("REPLY_API_KEY", "the-key-of-somebody-else")
    settings: dict[str, Any] = {"api_key": "canary", "proxy": "http://user:canary@proxy.example:3128"}
    settings = {secret: settings[secret]}
    for client in (ReplyClient(**settings), ReplyClient(**settings).with_options(timeout=5)):
        message = rf"{secret} would be missing.*pickle_api_key=True"
        with pytest.raises(replyio.ConfigurationError, match=message) as caught:
            pickle.dumps(client)
        assert "canary" not in str(caught.value)
        assert repr(copy.copy(client)) == repr(copy.deepcopy(client)) == repr(client)
    assert b"canary" in pickle.dumps(ReplyClient(**settings, pickle_api_key=True))
    assert b"proxy.example" in pickle.dumps(ReplyClient(proxy="http://proxy.example:3128"))


def test_a_pool_says_at_once_that_a_client_cannot_go_to_its_workers(reply_sandbox: Sandbox) -> None:
    with (
        ReplyClient("key", base_url=reply_sandbox.url) as client,
        multiprocessing.get_context("spawn").Pool(1) as pool,
        pytest.raises(replyio.ConfigurationError, match="pickle_api_key"),
    ):
        pool.apply_async(client.get_contact_account, (4711,)).get(30)


def test_a_client_can_be_copied(reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "key")
    with reply_sandbox.client() as client:
        for back in (copy.copy(client), copy.deepcopy(client)):
            assert back.get_contact_account(4711).id == 4711
            back.close()


FAILURES: dict[str, tuple[Fault | None, Callable[[ReplyClient], Any], list[str]]] = {
    "ValidationError": (None, lambda client: client.get_contact_account(0), ["errors"]),
    "TransportError": (Fault(reset=True), lambda client: client.get_contact_account(4711), ["attempts", "elapsed"]),
    "DeadlineExceededError": (
        Fault(delay=2),
        lambda client: client.with_options(timeout=0.1).get_contact_account(4711),
        ["attempts", "elapsed", "last_error"],
    ),
    "UnexpectedResponseError": (
        Fault(status=200, body="<html>"),
        lambda client: client.get_contact_account(4711),
        ["status", "excerpt", "attempts", "elapsed"],
    ),
} | {
    name: (
        Fault(
            status=status,
            retry_after=7,
            headers={"X-Request-Id": "a-request"},
            body={
                "title": "Title",
                "status": status,
                "detail": "Detail.",
                "code": "contactAccount.code",
                "errors": [{"pointer": "/companySize", "detail": "Bad."}],
            },
        ),
        lambda client: client.update_contact_account(4711, name="Acme"),
        ["status", "title", "detail", "code", "errors", "request_id", "attempts", "elapsed", "retry_after"],
    )
    for name, status in {
        "APIError": 418,
        "BadRequestError": 400,
        "AuthenticationError": 401,
        "PermissionDeniedError": 403,
        "NotFoundError": 404,
        "ConflictError": 409,
        "RateLimitError": 429,
        "ServerError": 503,
    }.items()
}


def failure(name: str) -> ReplyError:
    """An error of a real call."""
    fault, act, _ = FAILURES[name]
    sandbox = Sandbox(faults=[fault] if fault else [])
    client = sandbox.client(max_attempts=1, timeout=5, quota=None)
    with sandbox, client, pytest.raises(ReplyError) as caught:
        act(client)
    assert type(caught.value).__name__ == name
    return caught.value


@pytest.mark.parametrize("name", FAILURES)
def test_an_error_of_a_real_call_survives_a_pickle_with_its_attributes(name: str) -> None:
    error = failure(name)
    error.__notes__ = ["a note"]
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(back) is type(error)
        assert (str(back), back.args, back.__notes__) == (str(error), error.args, ["a note"])
        for attribute in FAILURES[name][2]:
            assert getattr(back, attribute) == getattr(error, attribute), attribute


@pytest.mark.parametrize("name", [name for name in FAILURES if "Title" in repr(FAILURES[name][0])])
def test_an_error_tells_what_the_service_said(name: str) -> None:
    error: Any = failure(name)
    assert (error.title, error.detail, error.code) == ("Title", "Detail.", "contactAccount.code")
    assert error.errors == [("company_size", "Bad.")]
    assert (error.request_id, error.retry_after, error.attempts) == ("a-request", 7.0, 1)
    assert 0 < error.elapsed < 5


def test_every_class_that_a_call_raises_is_shown() -> None:
    elsewhere = {"ConfigurationError", "TLSError", "PlanError", "InternalError", "ReplyError"}
    classes = {name for name in replyio.__all__ if name.endswith("Error") and name != "FieldError"}
    assert classes - elsewhere == set(FAILURES)


def read(client: ReplyClient, id: int) -> str:
    return client.get_contact_account(id).name


def test_clients_accounts_and_errors_cross_to_a_spawned_process(
    reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLY_API_KEY", "key")
    context = multiprocessing.get_context("spawn")
    with (
        reply_sandbox.client() as client,
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        account = client.get_contact_account(4711)
        assert pool.submit(client.get_contact_account, 4711).result(30) == account
        assert pool.submit(copy.copy, account).result(30) == account
        with pytest.raises(replyio.NotFoundError) as caught:
            pool.submit(client.get_contact_account, 1).result(30)
    assert (caught.value.code, caught.value.attempts) == ("contactAccount.notFound", 1)
