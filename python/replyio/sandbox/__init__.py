"""A server on 127.0.0.1 that follows Reply.io's API documentation, for trials and tests without the service.

    >>> from replyio.sandbox import Fault, Sandbox
    >>> with Sandbox(accounts=[{"id": 1, "name": "Acme"}], faults=[Fault(request=2, status=503)]) as sandbox:
    ...     sandbox.accounts[1].owner_user_id
    42

It implements the three operations on contact accounts of the API contract: the update that replaces in full, problem
details, the 401 without a body, pages, and the quota. `python -m replyio.sandbox` runs one for other programs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from replyio import _replyio
from replyio._annotations import complete
from replyio.errors import ConfigurationError
from replyio.sandbox._convert import read_scopes, request_members, to_wire

if TYPE_CHECKING:
    from types import TracebackType

    from replyio.client import ReplyClient
    from replyio.models import ContactAccount

__all__ = ["Deviations", "Fault", "Sandbox", "SandboxRequest"]


# The smallest values of the numbers of a fault.
_LEAST = {"request": 1, "id": 1, "times": 1, "status": 0, "cut": 0}


def _require(name: str, value: object, kinds: tuple[type, ...], wanted: str) -> None:
    """Refuses a value of another type."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name} must be {wanted}, not {type(value).__name__}")


@dataclasses.dataclass(frozen=True)
class Fault:
    """A deliberate fault of the sandbox.

    The first matching fault in the list affects a request. Without `request`, `id` and `method`, a fault matches every
    request.

    Attributes:
        request: Affects only the request with this number; the first one is 1. Default: any.
        id: Affects only requests for this account. Default: any.
        method: Affects only this method, "GET" or "PUT". Default: any.
        times: The number of requests that it affects. Default: all that match.
        delay: Seconds to wait before the answer or the other effects. Default: 0.
        status: Answers with this status, 200 to 999, instead of the normal answer. Default: the normal answer.
        retry_after: The `Retry-After` of that answer: seconds, or a date as text. Default: none.
        body: The body of that answer: text, bytes, or a JSON value. Default: the problem details of the status.
        headers: More headers of that answer. `Content-Type` and `Retry-After` override the values above.
        reset: Resets the connection (TCP RST) before any byte of an answer, or after the `cut`.
        close: Closes the connection (FIN) before any byte of an answer.
        cut: Ends the connection after this number of bytes of the body, although `Content-Length` announced more.
        applied: Whether the update still takes effect: True (immediately, before the delay), False, or "late" (after
            the delay, even if the client has disconnected by then). Default: True if the normal answer is sent, whole
            or cut, False otherwise.
    """

    request: int | None = None
    id: int | None = None
    method: str | None = None
    times: int | None = None
    delay: float = 0.0
    status: int | None = None
    retry_after: int | str | None = None
    body: Any = None
    headers: Mapping[str, str] | None = None
    reset: bool = False
    close: bool = False
    cut: int | None = None
    applied: bool | Literal["late"] | None = None

    def __post_init__(self) -> None:
        """Refuses what would match nothing, and impossible combinations."""
        for name, least in _LEAST.items():
            number = getattr(self, name)
            if number is not None:
                _require(name, number, (int,), "an int")
                if number < least:
                    raise ValueError(f"{name} must be {least} or more")
        _require("delay", self.delay, (int, float), "a number of seconds")
        if self.method is not None and self.method.upper() not in {"GET", "PUT"}:
            raise ValueError("method must be GET or PUT: patch_contact_account sends a GET and a PUT")
        if self.status is None and (self.retry_after, self.body, self.headers) != (None, None, None):
            raise ValueError("retry_after, body and headers belong to an answer: set its status too")
        if self.close and (self.reset or self.cut is not None or self.status is not None):
            raise ValueError("close ends the connection without an answer: it excludes reset, cut and status")
        if self.reset and self.status is not None and self.cut is None:
            raise ValueError("reset ends the connection without an answer: with a status it needs a cut")
        if not (self.delay or self.status or self.reset or self.close or self.cut is not None):
            raise ValueError("this fault does nothing: set delay, status, reset, close or cut")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deviations:
    """Ways in which the live service may differ from its documentation. The default has no deviation.

    To accept the key in only one header, use the option `auth` of `Sandbox`.

    Attributes:
        list_lacks: Members that the items of a list lack, by their Python or JSON names; any but `id`, including
            `unknown_members`. Default: none.
        list_cut: The number of characters to which a list truncates each text. Default: all.
        dates: The form of the dates in answers: "utc" (`2023-11-07T05:31:56Z`, the default), "offset" (`+00:00` instead
            of `Z`), "local" (without an offset), "date_only" (`2023-11-07`) or "null".
        empty: The form of an empty text in answers: "as_sent" (the default), always "null", or always "text", which is
            `""`.
        unknown_members: Members that this package does not know and an update may include, by their JSON names, with
            the initial value of each account. An update that omits one clears it. Default: none.
        stored: What the sandbox stores of a text in an update: "as_sent" (the default), "trimmed" (no white space
            around it), "reformatted" (no separators in phone numbers, domains and email addresses in lower case,
            single spaces), or "escaped" as HTML.
        ignored_fields: Fields that an update does not change although the sandbox answers 200, by their Python or JSON
            names, or "all". Default: none.
        update_clears: Members that every update clears, whatever it includes, by their Python or JSON names: `stage`,
            and the fields that may be empty. Default: none.
        update_owner: The user that every update makes the owner, whatever it includes. Default: None, the owner in the
            update.
        rate_limit_headers: The headers with the remaining quota: "x-rate-limit" (`X-Rate-Limit-Remaining` and
            so on), "ratelimit" (`RateLimit-Remaining` and so on), "structured" (`RateLimit` and `RateLimit-Policy`), or
            None, the default. They need a `quota`.
    """

    list_lacks: Iterable[str] = ()
    list_cut: int | None = None
    dates: Literal["utc", "offset", "local", "date_only", "null"] = "utc"
    empty: Literal["as_sent", "null", "text"] = "as_sent"
    unknown_members: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    stored: Literal["as_sent", "trimmed", "reformatted", "escaped"] = "as_sent"
    ignored_fields: Iterable[str] | Literal["all"] = ()
    update_clears: Iterable[str] = ()
    update_owner: int | None = None
    rate_limit_headers: Literal["x-rate-limit", "ratelimit", "structured"] | None = None

    def __post_init__(self) -> None:
        """Stores names as tuples. A string counts as one name."""
        for name in ("list_lacks", "ignored_fields", "update_clears"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))


@dataclasses.dataclass(frozen=True)
class SandboxRequest:
    """A request as the sandbox received it. It contains no key, only `[key]`.

    Attributes:
        number: The number of the request, from 1, over all requests of the sandbox.
        connection: The number of its connection, from 1.
        time: When the sandbox had read it, in UTC.
        method: The method, such as "PUT".
        path: The path, such as "/v3/contact-accounts/4711".
        query: The parameters after the `?`; the last one of each name.
        headers: The headers, with names in lower case; the sandbox joins several with the same name by commas.
        body: The body, parsed as JSON; None if there is none, or if it is not valid JSON.
        raw_body: The original body.
        status: The status of the answer; None before the answer, and if a fault sent none.
        applied: Whether it changed the account.
    """

    number: int
    connection: int
    time: datetime.datetime
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    raw_body: bytes
    status: int | None
    applied: bool


def _is_pair(quota: object) -> bool:
    """Returns whether a quota has two numbers."""
    return isinstance(quota, tuple) and len(cast("tuple[object, ...]", quota)) == 2  # noqa: PLR2004 - minute and hour


class Sandbox:
    """A running server with contact accounts, on 127.0.0.1. Use it with `with`; the garbage collector also stops it.

    Use it from any thread, even after `stop`, but only in the process that started it: a forked child must start its
    own.
    """

    def __init__(
        self,
        accounts: Iterable[ContactAccount | Mapping[str, Any]] | Mapping[int, ContactAccount] | None = None,
        *,
        port: int = 0,
        quota: tuple[int, int] | None = None,
        clock_scale: float = 1.0,
        faults: Iterable[Fault] = (),
        path: str | os.PathLike[str] | None = None,
        api_keys: Iterable[str] | None = None,
        scopes: Mapping[str, Iterable[str]] | None = None,
        auth: Literal["both", "x-api-key", "bearer"] = "both",
        owners: Iterable[int] | None = None,
        forbidden: Iterable[int] = (),
        max_body: int = 1 << 20,
        keep_requests: int = 100_000,
        idle_timeout: float = 20.0,
        deviations: Deviations | None = None,
    ) -> None:
        """Starts the sandbox. It answers as soon as this returns.

        Args:
            accounts: The initial accounts, as `ContactAccount` objects or as mappings, by Python or JSON names, with at
                least `id` and `name`; or `accounts` of another sandbox. Default: 4711 to 4713, with every field filled.
            port: The port on 127.0.0.1. Default: 0, a free one.
            quota: The requests per minute and per hour for each user, such as (100, 3000). A user is a key together
                with `X-User-Id`, `X-User-Email` and `X-Team-Id`. Default: None, no quota.
            clock_scale: How many times faster than real time the clock of the quota runs. With 60, its hour passes in a
                minute. The sandbox divides `Retry-After` by this number and rounds it up, so that it is a wait in real
                time. Default: 1.
            faults: Deliberate faults. Default: none.
            path: The file that keeps the accounts, even if the process is killed. If it already contains accounts, they
                replace `accounts`. Only one sandbox at a time can use it, until `stop()`; a second one raises OSError.
                Default: None, keep nothing.
            api_keys: The valid keys. Default: any that is not empty.
            scopes: Keys with limited scopes: a mapping from the key to a list of "contacts:read", "contacts:write" or
                both. These keys are valid even if `api_keys` does not list them.
            auth: How a key may be sent: "x-api-key", "bearer", or "both", the default.
            owners: The ids of the users who may own accounts. Default: any.
            forbidden: The ids of accounts that the sandbox hides from lists, and for which it answers 403. Default:
                none.
            max_body: The maximum size of a request's body in bytes. The sandbox answers a larger one with 413. Default:
                1 MiB.
            keep_requests: The number of requests to keep in `requests`: the newest ones, at most 256 MiB of them.
                Default: 100,000.
            idle_timeout: The maximum time in seconds to receive a request, and between two requests of a connection.
                After that, the sandbox closes the connection. Default: 20.
            deviations: The ways in which it differs from the API documentation. Default: none.

        Raises:
            replyio.ConfigurationError: If an option or an account cannot be used, or the file is damaged.
            OSError: If the port is taken, or the file cannot be read or written.
        """
        if isinstance(accounts, Mapping):
            accounts = cast("Mapping[int, ContactAccount]", accounts).values()
        if quota is not None and not _is_pair(quota):
            raise ConfigurationError("quota must be the requests per minute and per hour, such as (100, 3000)")
        keys = None if api_keys is None else list(api_keys)
        self._key = keys[0] if keys else "key-of-the-sandbox"
        self._clock_scale = clock_scale
        self._has_quota = quota is not None
        self._sandbox = _replyio.Sandbox(
            accounts=None if accounts is None else [to_wire(account) for account in accounts],
            port=port,
            quota=quota,
            clock_scale=clock_scale,
            faults=list(faults),
            path=path,
            api_keys=keys,
            scopes={key: read_scopes(names) for key, names in (scopes or {}).items()},
            auth=auth,
            owners=None if owners is None else set(owners),
            forbidden=set(forbidden),
            max_body=max_body,
            keep_requests=keep_requests,
            idle_timeout=idle_timeout,
            deviations=deviations,
        )

    def __enter__(self) -> Sandbox:
        """Returns the sandbox, which already runs."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()

    def __repr__(self) -> str:
        """Returns a text with its URL."""
        return f"<Sandbox {self.url}>"

    @property
    def url(self) -> str:
        """The base URL for a client, such as `http://127.0.0.1:8080/v3`."""
        return self._sandbox.url

    @property
    def port(self) -> int:
        """The port."""
        return self._sandbox.port

    def client(self, **options: Any) -> ReplyClient:
        """Returns a client of this sandbox. The sandbox runs at least as long as the client is in use.

        Args:
            **options: Options of `replyio.ReplyClient`. `base_url` is this sandbox, and the default `api_key` is a
                valid key. By default, the client has no `quota` if this sandbox has none; otherwise it has one whose
                clock runs as fast as this sandbox's, and which counts only this process.

        Returns:
            The client.
        """
        import replyio

        quota = replyio.Quota(clock_scale=self._clock_scale, shared=False) if self._has_quota else None
        settings: dict[str, Any] = {"api_key": self._key, "base_url": self.url, "quota": quota}
        settings["pickle_api_key"] = "api_key" not in options  # a key of the sandbox is valid nowhere else
        client = replyio.ReplyClient(**settings | options)
        client._core.keep(self)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - it runs as long as it is used
        return client

    @contextlib.contextmanager
    def environment(self) -> Generator[Sandbox, None, None]:
        """Sets `REPLY_BASE_URL` and `REPLY_API_KEY`, so that code that calls `ReplyClient()` uses this sandbox.

        The variables affect the whole process. At the end, the previous values are restored.

        Yields:
            This sandbox.

        Examples:
            >>> import replyio
            >>> from replyio.sandbox import Sandbox
            >>> with Sandbox() as sandbox, sandbox.environment():
            ...     replyio.ReplyClient().get_contact_account(4711).name
            'Acme'
        """
        settings = {"REPLY_BASE_URL": self.url, "REPLY_API_KEY": self._key}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield self
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    @property
    def requests(self) -> list[SandboxRequest]:
        """The kept requests, in the order of arrival. Each access makes a copy."""
        return [SandboxRequest(**request_members(*row)) for row in self._sandbox.requests()]

    def clear_requests(self) -> None:
        """Deletes the kept requests. The numbering continues."""
        self._sandbox.clear_requests()

    @property
    def accounts(self) -> dict[int, ContactAccount]:
        """The stored accounts, by id. Each access makes a copy."""
        return {account.id: account for account in self._sandbox.accounts()}

    def set_account(self, account: ContactAccount | Mapping[str, Any]) -> None:
        """Stores an account as another program would: a new one, or a replacement for the one with its id.

        Args:
            account: The account, as in `accounts`.

        Raises:
            replyio.ConfigurationError: If the account is invalid.
            OSError: If the file cannot be written.
        """
        self._sandbox.set_account(to_wire(account))

    def remove_account(self, id: int) -> bool:
        """Removes an account as another program would.

        Args:
            id: The account.

        Returns:
            Whether there was one.

        Raises:
            OSError: If the file cannot be written.
        """
        return self._sandbox.remove_account(id)

    def add_fault(self, fault: Fault) -> None:
        """Adds a fault after the others.

        Args:
            fault: The fault.
        """
        self._sandbox.add_fault(fault)

    def clear_faults(self) -> None:
        """Removes all faults."""
        self._sandbox.clear_faults()

    def close_connections(self) -> None:
        """Closes every connection, as a server does with idle ones, and continues to accept new ones."""
        self._sandbox.close_connections()

    def stop(self) -> None:
        """Closes the socket and every connection. Calling it again does nothing."""
        self._sandbox.stop()


complete(globals())
