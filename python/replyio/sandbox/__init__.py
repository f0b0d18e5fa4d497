"""A server on 127.0.0.1 that behaves as Reply.io does, to try and test without the service.

    >>> from replyio.sandbox import Fault, Sandbox
    >>> with Sandbox(accounts=[{"id": 1, "name": "Acme"}], faults=[Fault(request=2, status=503)]) as sandbox:
    ...     sandbox.accounts[1].owner_user_id
    42

It answers the three operations on contact accounts as the contract has them: the update that replaces in full, problem
details, the 401 without a body, pages, and the quota. `python -m replyio.sandbox` runs one for everything else.
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
from replyio.sandbox._convert import read_scopes, request_members, to_account, to_wire

if TYPE_CHECKING:
    from types import TracebackType

    from replyio.client import ReplyClient
    from replyio.models import ContactAccount

__all__ = ["Deviations", "Fault", "Sandbox", "SandboxRequest"]


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that the sandbox does wrong on purpose.

    The first fault in the list that fits a request hits it. Without `request`, `id` and `method` it fits every one.

    Attributes:
        request: Hits only the request of this number; the first one is 1. Default: any.
        id: Hits only requests for this account. Default: any.
        method: Hits only this method, such as "PUT". Default: any.
        times: How many requests it hits. Default: all that fit.
        delay: Seconds to wait before the answer, or before whatever else goes wrong. Default: 0.
        status: Answers with this status, 200 to 999, in place of the true answer. Default: the true answer.
        retry_after: The `Retry-After` of that answer: seconds, or a date as text. Default: none.
        body: The body of that answer: text, bytes, or what JSON has. Default: the problem details that belong to the
            status.
        headers: More headers of that answer. `Content-Type` and `Retry-After` win over the ones from above.
        reset: Resets the connection (TCP RST) before any byte of an answer, or after the `cut`.
        close: Closes the connection (FIN) before any byte of an answer.
        cut: Ends the connection after this number of bytes of the body, although `Content-Length` promised more.
        applied: Whether the update happens all the same: True (at once, before the delay), False, or "late" (after
            the delay, even if the client has gone by then). Default: True where the true answer is sent, whole or cut,
            False otherwise.
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
        """Refuses what could not go wrong as it says."""
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
    """Ways in which the live service may differ from what its page says. The default is not at all.

    Whether a key is accepted in one header only is the option `auth` of `Sandbox`.

    Attributes:
        list_lacks: Members that the items of a list lack, in either spelling; any but `id`, also of `unknown_members`.
            Default: none.
        list_cut: The number of characters of each text that a list returns. Default: all.
        dates: The form of the dates in answers: "utc" (`2023-11-07T05:31:56Z`, the default), "offset" (`+00:00` in
            place of `Z`), "local" (without an offset), "date_only" (`2023-11-07`) or "null".
        empty: What answers hold for a text that is empty: "as_sent" (the default), always "null", or always "text",
            which is `""`.
        unknown_members: Members that this package does not know and an update may carry, by their names on the wire,
            with what each account has at first. An update that leaves one out clears it. Default: none.
        stored: What is stored of a text that an update carries: it "as_sent" (the default), "trimmed" of white space
            around it, "reformatted" (no separators in telephone numbers, domains and e-mail addresses in lower case,
            single spaces), or "escaped" as HTML.
        ignored_fields: Fields that an update does not change although it is answered with 200, in either spelling, or
            "all". Default: none.
        update_clears: Members that every update empties, whatever it carries, in either spelling: `stage`, and the
            fields that may be empty. Default: none.
        update_owner: The user that every update makes the owner, whatever it carries. Default: None, the one that the
            update names.
        rate_limit_headers: Which headers say what is left of the quota: "x-rate-limit" (`X-Rate-Limit-Remaining` and
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
        """Keeps names as tuples. A text that is given in their place is one name."""
        for name in ("list_lacks", "ignored_fields", "update_clears"):
            given = getattr(self, name)
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))


@dataclasses.dataclass(frozen=True)
class SandboxRequest:
    """A request as the sandbox received it. Keys are not kept: they read `[key]`.

    Attributes:
        number: Counted from 1, over all requests of the sandbox.
        connection: The number of the connection that it came on, counted from 1.
        time: When it had been read, in UTC.
        method: The method, such as "PUT".
        path: The path, such as "/v3/contact-accounts/4711".
        query: The parameters behind the `?`; the last one of each name.
        headers: The headers, names in lower case; several of one name joined by commas.
        body: The body, read as JSON; None where there is none, or it is not JSON.
        raw_body: The body as it came.
        status: The status that was answered; None while it is not, and where a fault gave no answer.
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


class Sandbox:
    """A running server with contact accounts, on 127.0.0.1. Usable in `with`; stops at the latest when it is collected.

    Everything about it can be asked for from any thread, after `stop` too, but only in the process that started it: a
    forked child starts its own.
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
        """Starts it. It answers as soon as this returns.

        Args:
            accounts: The accounts that are there, as `ContactAccount`s or as mappings of members in either spelling, of
                which `id` and `name` are enough; or what `accounts` of another sandbox gives. Default: three with
                every field filled, 4711 to 4713.
            port: The port on 127.0.0.1. Default: 0, a free one.
            quota: Requests a minute and requests an hour of each user, such as (100, 3000). A user is a key together
                with `X-User-Id`, `X-User-Email` and `X-Team-Id`. Default: None, no quota.
            clock_scale: How much faster than real time the quota's clock goes. With 60 its hour passes in a minute;
                `Retry-After` is divided by it and rounded up, so that waiting as long in real time is right.
                Default: 1.
            faults: What goes wrong on purpose. Default: nothing.
            path: The file that keeps the accounts, also when the process is killed. If it has accounts already, they
                are used in place of `accounts`. One sandbox at a time has it, until `stop()`; a second one is refused
                with OSError. Default: None, nothing is kept.
            api_keys: The keys that are known. Default: any that is not empty.
            scopes: Keys that may do less than everything, with their scopes out of "contacts:read" and
                "contacts:write". They are known, whatever `api_keys` says.
            auth: How a key may be sent: "x-api-key", "bearer", or "both", the default.
            owners: The users in the team, who may own accounts. Default: any.
            forbidden: Accounts that the caller has no right to.
            max_body: The longest body in bytes; a longer one is a 413. Default: 1 MiB.
            keep_requests: How many requests are remembered, the newest ones, and at most 256 MiB of them.
                Default: 100,000.
            idle_timeout: Seconds that a connection may take to send a request, and may be silent between two; then it
                is closed. Default: 20.
            deviations: How it differs from what the contract's page says. Default: not at all.

        Raises:
            replyio.ConfigurationError: An option or an account cannot be used, or the file is damaged.
            OSError: The port is taken, or the file cannot be read or written.
        """
        if isinstance(accounts, Mapping):
            accounts = cast("Mapping[int, ContactAccount]", accounts).values()
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
        """The sandbox, which runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stops it."""
        self.stop()

    def __repr__(self) -> str:
        """Where it is."""
        return f"<Sandbox {self.url}>"

    @property
    def url(self) -> str:
        """The base URL for a client, such as `http://127.0.0.1:8080/v3`."""
        return self._sandbox.url

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._sandbox.port

    def client(self, **options: Any) -> ReplyClient:
        """Makes a client of this sandbox, which runs at least as long as the client is in use.

        Args:
            **options: Options of `replyio.ReplyClient`. `base_url` is this sandbox, and `api_key`, unless given, a key
                that it knows. Unless a `quota` is given, the client has none where this sandbox has none, and else one
                whose clock is as fast as this sandbox's, and which counts this process alone.

        Returns:
            The client.
        """
        import replyio

        quota = replyio.Quota(clock_scale=self._clock_scale, shared=False) if self._has_quota else None
        settings: dict[str, Any] = {"api_key": self._key, "base_url": self.url, "quota": quota}
        settings["pickle_api_key"] = "api_key" not in options  # a key that the sandbox gives opens nothing else
        client = replyio.ReplyClient(**settings | options)
        client._keeps = self  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - so that it is not collected before
        return client

    @contextlib.contextmanager
    def environment(self) -> Generator[Sandbox, None, None]:
        """Sets `REPLY_BASE_URL` and `REPLY_API_KEY`, so that code which calls `ReplyClient()` finds this sandbox.

        The variables are those of the whole process; what they were before comes back at the end.

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
        """Every request that has arrived, in that order, as far as they are kept. A copy, made when it is asked for."""
        return [SandboxRequest(**request_members(*row)) for row in self._sandbox.requests()]

    def clear_requests(self) -> None:
        """Forgets the requests. Their numbers go on."""
        self._sandbox.clear_requests()

    @property
    def accounts(self) -> dict[int, ContactAccount]:
        """The accounts as they are stored, by id. A copy, made when it is asked for."""
        return {members["id"]: to_account(members) for members in self._sandbox.accounts()}

    def set_account(self, account: ContactAccount | Mapping[str, Any]) -> None:
        """Puts an account there as another program would: new, or in place of the whole one with its id.

        Args:
            account: The account, as in `accounts`.

        Raises:
            replyio.ConfigurationError: It cannot be used.
            OSError: The file could not be written.
        """
        self._sandbox.set_account(to_wire(account))

    def remove_account(self, id: int) -> bool:
        """Removes an account as another program would.

        Args:
            id: The account.

        Returns:
            Whether there was one.

        Raises:
            OSError: The file could not be written.
        """
        return self._sandbox.remove_account(id)

    def add_fault(self, fault: Fault) -> None:
        """Adds a fault behind the others.

        Args:
            fault: The fault.
        """
        self._sandbox.add_fault(fault)

    def clear_faults(self) -> None:
        """Ends all faults."""
        self._sandbox.clear_faults()

    def close_connections(self) -> None:
        """Closes every connection, as a server does with idle ones, and goes on with new ones."""
        self._sandbox.close_connections()

    def stop(self) -> None:
        """Closes the socket and every connection. Once is enough, and more is no error."""
        self._sandbox.stop()


complete(globals())
