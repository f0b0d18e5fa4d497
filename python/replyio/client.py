"""The client."""

from __future__ import annotations

import sys
from _thread import allocate_lock
from importlib import import_module
from operator import length_hint
from os import environ

from replyio import _replyio
from replyio._blocking import finished, warn_if_it_blocks_a_loop, warn_of_blocking

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Literal, ParamSpec, TypeVar

    import pandas
    import polars
    from typing_extensions import CapsuleType, Self, Unpack

    import replyio  # its names are imported on first use, including those in annotations
    from replyio.models import ClientOptions, ContactAccount, ContactAccountFields, ContactAccountUpdate

    P = ParamSpec("P")
    _Frame = TypeVar("_Frame")

__all__ = ["AsyncContactAccountIterator", "ContactAccountIterator", "Quota", "QuotaLeft", "ReplyClient"]


# The largest limit of a quota.
_LARGEST = 2**32 - 1


class Quota:
    """The rate limit of a client.

    The service allows 100 requests a minute and 3,000 an hour for each user, in all programs of that user together. The
    default quota is slightly lower. All programs of one system user on a machine share one count, in a small file in
    the state directory. To move that directory, set `REPLYIO_STATE_DIR`.

    Attributes:
        per_minute: The maximum number of requests in any 60 seconds.
        per_hour: The maximum number of requests in any hour.
        clock_scale: How many times faster than real time the clock of the quota runs.
        shared: Whether the requests of other processes count too.
        bulk_share: The share of `per_minute` that a bulk update may use.
        acquire: A function that the client calls before each request.
    """

    __slots__ = ("__weakref__", "_gate", "acquire", "bulk_share", "clock_scale", "per_hour", "per_minute", "shared")

    per_minute: int
    per_hour: int
    clock_scale: float
    shared: bool
    bulk_share: float
    acquire: Callable[[], object] | None

    def __init__(
        self,
        per_minute: int = 95,
        per_hour: int = 2900,
        *,
        clock_scale: float = 1.0,
        shared: bool = True,
        bulk_share: float = 0.9,
        acquire: Callable[[], object] | None = None,
    ) -> None:
        """Makes a quota.

        Args:
            per_minute: The maximum number of requests in any 60 seconds. Default 95.
            per_hour: The maximum number of requests in any hour. Default 2,900.
            clock_scale: How many times faster than real time the clock of the quota runs. Default 1. With another
                value, the live service would answer 429. Use one only for a `replyio.sandbox.Sandbox` whose clock runs
                as fast, to test a job of hours in minutes. `Sandbox.client()` sets it.
            shared: Whether all processes of this system user share one count, for each key, service and `act_as`.
                Default True. If the process cannot use the file, it counts only its own requests and logs a warning.
                A quota of more than 4,096 requests an hour, or with a `clock_scale` below 1 or above 1,000, is never
                shared.
            bulk_share: The share of `per_minute` that plans and other bulk updates may use, more than 0 and at most 1.
                They leave the rest to single calls. Default 0.9.
            acquire: A function or coroutine function without arguments, for a rate limit that several machines share.
                Default None. When this quota allows a request, including a retry, the client calls the function once,
                and sends the request after the function returns. If the function raises or returns False, the call
                raises `RateLimitError` and sends nothing more. A bulk update then stops, and rows that it did not write
                keep their status. The time that the function takes counts against the call's `timeout`; a bulk update
                waits as long as the function takes. The function runs in a separate thread, for one request at a time.
                A coroutine function runs in an event loop of that thread. The function must not call a client of the
                same quota. A pickle of the quota refers to the function by name.

        Raises:
            ConfigurationError: If a limit is not a positive integer, or another value cannot be used.
        """
        for name, value in (("per_minute", per_minute), ("per_hour", per_hour)):
            if type(value) is not int or not 1 <= value <= _LARGEST:
                raise _refused(f"{name} must be an integer from 1 to {_LARGEST}")
            object.__setattr__(self, name, value)
        if type(clock_scale) not in {int, float} or not 0 < clock_scale < float("inf"):
            raise _refused("clock_scale must be a positive number")
        object.__setattr__(self, "clock_scale", float(clock_scale))
        if not _is_bool(shared):
            raise _refused("shared must be True or False")
        object.__setattr__(self, "shared", shared)
        if type(bulk_share) not in {int, float} or not 0 < bulk_share <= 1:
            raise _refused("bulk_share must be a number, more than 0 and at most 1")
        object.__setattr__(self, "bulk_share", float(bulk_share))
        object.__setattr__(self, "acquire", acquire)
        object.__setattr__(self, "_gate", None if acquire is None else self._made_gate())

    def _made_gate(self) -> _replyio.Gate:
        if not callable(self.acquire):
            raise _refused("acquire must be a function without arguments, or None")
        from weakref import ref

        # Its module is imported here: the first call may find no file descriptor left.
        import_module("replyio._acquire")

        return _replyio.Gate(ref(self))

    def __setattr__(self, name: str, value: object) -> None:
        """Raises an error: a quota is immutable."""
        raise AttributeError(f"a Quota is immutable; make a new one to change {name}")

    def __eq__(self, other: object) -> bool:
        """Returns whether both quotas are equal."""
        if not isinstance(other, Quota):
            return NotImplemented
        return self._members() == other._members()

    def __hash__(self) -> int:
        """Returns the hash of its members."""
        return hash(self._members())

    def __repr__(self) -> str:
        """Returns the call that creates it."""
        others = [f", {name}={getattr(self, name)!r}" for name, usual in _USUAL.items() if getattr(self, name) != usual]
        return f"Quota(per_minute={self.per_minute}, per_hour={self.per_hour}{''.join(others)})"

    def __reduce__(
        self,
    ) -> tuple[Callable[..., Quota], tuple[int, int, float, bool, float, Callable[[], object] | None]]:
        """Returns what `copy` and `pickle` create a copy from."""
        return _quota, self._members()

    def _members(self) -> tuple[int, int, float, bool, float, Callable[[], object] | None]:
        return self.per_minute, self.per_hour, self.clock_scale, self.shared, self.bulk_share, self.acquire


def _refused(message: str) -> replyio.ConfigurationError:
    """Returns the error for a setting. Its class is imported when one is refused."""
    from replyio.errors import ConfigurationError

    return ConfigurationError(message)


def _is_bool(value: object) -> bool:
    """Returns whether a value, whatever its annotation says, is True or False."""
    return type(value) is bool


def _quota(
    per_minute: int,
    per_hour: int,
    clock_scale: float = 1.0,
    shared: bool = True,
    bulk_share: float = 0.9,
    acquire: Callable[[], object] | None = None,
) -> Quota:
    return Quota(per_minute, per_hour, clock_scale=clock_scale, shared=shared, bulk_share=bulk_share, acquire=acquire)


class QuotaLeft:
    """The remaining quota of a user, as far as this machine knows.

    Attributes:
        minute: The number of requests left in this minute.
        hour: The number of requests left in this hour.
        retry_after: Seconds for which the service asked all requests to wait; None if it did not ask.
        shared: Whether the requests of other processes count too.
        processes: The requests of each process in the last minute and in the last hour, by process id. Empty when only
            this process counts.
    """

    __slots__ = ("hour", "minute", "processes", "retry_after", "shared")

    minute: int
    hour: int
    retry_after: float | None
    shared: bool
    processes: dict[int, tuple[int, int]]

    def __init__(
        self,
        minute: int,
        hour: int,
        retry_after: float | None,
        shared: bool,
        processes: dict[int, tuple[int, int]],
    ) -> None:
        """Creates the record.

        Args:
            minute: The number of requests left in this minute.
            hour: The number of requests left in this hour.
            retry_after: Seconds for which the service asked all requests to wait; None if it did not ask.
            shared: Whether the requests of other processes count too.
            processes: The requests of each process in the last minute and in the last hour, by process id.
        """
        self.minute = minute
        self.hour = hour
        self.retry_after = retry_after
        self.shared = shared
        self.processes = processes

    def __repr__(self) -> str:
        """Returns a text with all members."""
        return f"QuotaLeft({', '.join(f'{name}={getattr(self, name)!r}' for name in sorted(self.__slots__))})"


_USUAL = {"clock_scale": 1.0, "shared": True, "bulk_share": 0.9, "acquire": None}
_DEFAULT_QUOTA = Quota()


class ReplyClient:
    """A client for the contact accounts of Reply.io.

    You can use one client in any number of threads and event loops. It also works after a fork: a child process opens
    its own connections. The client opens no connection before the first call. `close()`, `with` and `async with` close
    its connections and stop its threads; so does the garbage collector.

    The client counts its requests for each key, service and `act_as`, together with all other processes of this system
    user on this machine. Several clients of one user together send no more requests than one client.

    If the key came from `REPLY_API_KEY`, a pickle of the client does not contain the key; the process that loads the
    pickle reads that variable again. If you passed the key, or a proxy with a password, in code, the client can be
    pickled only with `pickle_api_key=True`. Otherwise the process that loads the pickle would lack it.

    Examples:
        >>> import replyio
        >>> with replyio.ReplyClient() as client:
        ...     account = client.patch_contact_account(4711, city="Oslo")
        >>> account.city
        'Oslo'
    """

    # `_withheld` contains the names of secrets that a pickle lacks.
    __slots__ = ("__weakref__", "_core", "_pickled", "_withheld")

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        auth: Literal["auto", "x-api-key", "bearer"] = "auto",
        act_as: int | str | None = None,
        team_id: int | None = None,
        timeout: float = 120.0,
        attempt_timeout: float = 30.0,
        connect_timeout: float = 5.0,
        max_attempts: int = 4,
        quota: Quota | None = _DEFAULT_QUOTA,
        proxy: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        pickle_api_key: bool = False,
    ) -> None:
        """Creates a client and checks all settings. Sends no request.

        Args:
            api_key: The API key. Default None: read `REPLY_API_KEY`.
            base_url: The URL of the service. Default None: read `REPLY_BASE_URL`, or use `https://api.reply.io/v3` if
                that is not set. It must use https, except for this machine.
            auth: The header that carries the key: `"x-api-key"`, `"bearer"` or `"auto"` (the default). `"auto"` sends
                `X-API-Key`; if a 401 asks for the bearer scheme, it tries that once and keeps what worked.
            act_as: The user, by id or email address, that a master or organization key acts for. Default None: name no
                user.
            team_id: The id of the team that a master or organization key acts in. Default None: name no team.
            timeout: The timeout of a whole call in seconds, including waits for the quota, attempts and pauses. Default
                120.
            attempt_timeout: The timeout of one attempt in seconds, from connecting to the last byte. Default 30.
            connect_timeout: The timeout for opening a connection, in seconds. Default 5.
            max_attempts: The maximum number of attempts for each request. Default 4. An update is idempotent, so the
                client retries it even if it may have been applied.
            quota: The rate limit. Default `Quota(per_minute=95, per_hour=2900)`. With None, the client does not limit
                its requests, and waits only when the service asks for it with `Retry-After`.
            proxy: The URL of a proxy for https, with user name and password if the proxy needs them. Default None: read
                `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. The client never uses a proxy for requests to this machine.
            ca_file: A PEM file of certificate authorities to trust instead of the system's. Default None: use
                `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the authorities of the system.
            pickle_api_key: Whether a pickle of this client contains its key and a proxy's password. Default False: if
                you pass either in code, the client cannot be pickled.

        Raises:
            ConfigurationError: If there is no key, or a setting cannot be used.
        """
        settings: dict[str, Any] = {
            "base_url": base_url,
            "auth": auth,
            "act_as": act_as,
            "team_id": team_id,
            "timeout": timeout,
            "attempt_timeout": attempt_timeout,
            "connect_timeout": connect_timeout,
            "max_attempts": max_attempts,
            "quota": quota,
            "proxy": proxy,
            "ca_file": ca_file,
        }
        try:
            if not _is_bool(pickle_api_key):
                raise _refused("pickle_api_key must be True or False")
            self._core = _replyio.Client({**settings, "api_key": api_key})
            # The environment of the process that loads the pickle may name another service.
            self._pickled = settings | {"base_url": self._core.base_url}
            if pickle_api_key:
                key = environ.get("REPLY_API_KEY") if api_key is None else api_key
                self._pickled |= {"api_key": key, "pickle_api_key": True}
                self._withheld: tuple[str, ...] = ()
            else:
                has_password = proxy is not None and "@" in proxy
                given = {"api_key": api_key is not None, "proxy": has_password}
                self._withheld = tuple(name for name, is_given in given.items() if is_given)
                if has_password:
                    del self._pickled["proxy"]
        finally:
            # A traceback that shows local variables must not show the key or a proxy's password.
            key = None
            del api_key, base_url, proxy, settings, key
        _show_fields()

    def with_options(self, **options: Unpack[ClientOptions]) -> ReplyClient:
        """Returns a client with other settings that uses the same connections.

        If you close one of the two clients, the connections of both are closed.

        Args:
            **options: `timeout`, `attempt_timeout`, `max_attempts`, `quota`, `auth`, `act_as` and `team_id`, as in
                `ReplyClient`. The new client keeps the settings that are not given. All other settings belong to the
                connections and cannot change.

        Returns:
            The new client.

        Raises:
            ConfigurationError: If a setting cannot be used, or belongs to the connections.
        """
        derived = object.__new__(type(self))
        try:
            derived._core = self._core.with_options({**options})
            derived._pickled = {**self._pickled, **options}
            derived._withheld = self._withheld
        finally:
            del options  # it may contain a key, which is refused
        return derived

    def update_contact_account(self, id: int, **fields: Unpack[ContactAccountUpdate]) -> ContactAccount:
        """Replaces a contact account with exactly these fields: `PUT /v3/contact-accounts/{id}`.

        The service replaces the account in full, so it clears each optional field that you leave out, except the owner.
        To change single fields, use `patch_contact_account`.

        Args:
            id: Contact account ID, positive.
            **fields: The fields of the account. The API's own names (`linkedInUrl`) work too.
                name (str, required): Contact account name, not blank.
                description (str | None): Optional description.
                domain_name (str | None): Primary domain name.
                domain_secondary (str | None): Secondary domain name.
                industry (str | None): Industry of the company.
                company_size (CompanySize | str | None): Company size range: "Empty", "SelfEmployed", "2-10", "11-50",
                    "51-200", "201-500", "501-1000", "1001-5000", "5001-10000" or "10001+".
                country (str | None): Country of the company.
                state (str | None): State or province.
                city (str | None): City.
                time_zone_id (str | None): Time zone identifier.
                linked_in_url (str | None): LinkedIn profile URL.
                phone (str | None): Phone number.
                twitter_url (str | None): Twitter profile URL.
                logo_url (str | None): Company logo URL.
                email (str | None): Contact email address.
                owner_user_id (int): ID of the user who owns this contact account. Send it if you know it.

        Returns:
            The account, as the service returned it.

        Raises:
            ValidationError: If the id or a field is invalid. Lists every problem; sends no request.
            NotFoundError: If there is no such account.
            ReplyError: If the call fails for another reason; see `replyio.errors`.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> account = client.update_contact_account(4711, name="Acme", company_size="51-200")
            >>> account.company_size
            <CompanySize.FROM_51_TO_200: '51-200'>
        """
        warn_of_blocking("update_contact_account")
        try:
            return self._core.update(id, fields)
        finally:
            # A traceback that shows local variables must not show field values.
            del fields

    async def update_contact_account_async(self, id: int, **fields: Unpack[ContactAccountUpdate]) -> ContactAccount:
        """Replaces a contact account; see `update_contact_account`. Canceling the task cancels the request.

        Args:
            id: Contact account ID, positive.
            **fields: The fields of the body, as in `update_contact_account`.

        Returns:
            The account, as the service returned it.

        Raises:
            ValidationError: If the id or a field is invalid. Lists every problem; sends no request.
            ReplyError: If the call fails for another reason; see `replyio.errors`.
        """
        try:
            pending = self._core.update(id, fields, _running_loop())
        finally:
            del fields
        return await finished(pending)

    def patch_contact_account(self, id: int, **changes: Unpack[ContactAccountFields]) -> ContactAccount:
        """Changes single fields of a contact account and keeps the others.

        Reads the account (`GET /v3/contact-accounts/{id}`), merges the changes, and writes it (`PUT
        /v3/contact-accounts/{id}`). Sends no update if the account already has these values. None clears a field, and
        "" clears a text. The service has no lock, so the update overwrites a change that someone else makes between the
        two requests.

        Args:
            id: Contact account ID, positive.
            **changes: The fields to change, as in `update_contact_account`; none is required. Pass a dictionary as
                `**fields`.

        Returns:
            The account after the change.

        Raises:
            ValidationError: If the id or a field is invalid. Lists every problem; sends no request.
            NotFoundError: If there is no such account.
            ReplyError: If the call fails for another reason; see `replyio.errors`.

        Warns:
            ReplyWarning: If the answer to the update differs from what was sent. The warning names the fields.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> before = client.get_contact_account(4711)
            >>> after = client.patch_contact_account(4711, city="Oslo")
            >>> (after.city, after.name == before.name)
            ('Oslo', True)
        """
        warn_of_blocking("patch_contact_account")
        try:
            account, warning = self._core.patch(id, changes)
        finally:
            del changes
        try:
            if warning is not None:
                _warn(warning)
            return account
        finally:
            del account  # the warning may become an error, with a traceback

    async def patch_contact_account_async(self, id: int, **changes: Unpack[ContactAccountFields]) -> ContactAccount:
        """Changes single fields of a contact account; see `patch_contact_account`.

        Canceling the task cancels the request.

        Args:
            id: Contact account ID, positive.
            **changes: The fields to change, as in `update_contact_account`; none is required.

        Returns:
            The account after the change.

        Raises:
            ValidationError: If the id or a field is invalid. Lists every problem; sends no request.
            ReplyError: If the call fails for another reason; see `replyio.errors`.

        Warns:
            ReplyWarning: If the answer to the update differs from what was sent. The warning names the fields.
        """
        try:
            pending = self._core.patch(id, changes, _running_loop())
        finally:
            del changes
        account, warning = await finished(pending)
        try:
            if warning is not None:
                _warn(warning)
            return account
        finally:
            del account  # the warning may become an error, with a traceback

    def get_contact_account(self, id: int) -> ContactAccount:
        """Reads a contact account: `GET /v3/contact-accounts/{id}`.

        Args:
            id: Contact account ID, positive.

        Returns:
            The account.

        Raises:
            ValidationError: If the id is invalid. Sends no request.
            NotFoundError: If there is no such account.
            ReplyError: If the call fails for another reason; see `replyio.errors`.

        Examples:
            >>> import replyio
            >>> replyio.ReplyClient().get_contact_account(4711).id
            4711
        """
        warn_of_blocking("get_contact_account")
        return self._core.get(id)

    async def get_contact_account_async(self, id: int) -> ContactAccount:
        """Reads a contact account; see `get_contact_account`. Canceling the task cancels the request.

        Args:
            id: Contact account ID, positive.

        Returns:
            The account.

        Raises:
            ValidationError: If the id is invalid. Sends no request.
            ReplyError: If the call fails for another reason; see `replyio.errors`.
        """
        return await finished(self._core.get(id, _running_loop()))

    def list_contact_accounts(
        self,
        search: str | None = None,
        sort_by: str | None = None,
        descending: bool = False,
        page_size: int = 1000,
    ) -> ContactAccountIterator:
        """Reads all contact accounts, page by page: `GET /v3/contact-accounts`.

        The client sends no request before you ask for the first account. Other programs can change the list while the
        client reads it. If an account occurs on two pages, the iterator returns it once. If accounts were removed, the
        client reads a part of the list again, so that it skips none. If the client cannot read the list completely,
        iterating raises `UnexpectedResponseError`.

        Args:
            search: Return only accounts that match this text. Default None: all accounts.
            sort_by: The field to sort by. Default None: the order of the service.
            descending: Whether to sort in descending order. Default False.
            page_size: The number of accounts per request, 1 to 1,000. Default 1,000.

        Returns:
            An iterator over the accounts, which can also return them as a table.

        Raises:
            ValidationError: If an argument is invalid. Sends no request.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> 4711 in {account.id for account in client.list_contact_accounts()}
            True
        """
        return ContactAccountIterator(_replyio.Listing(self._core, search, sort_by, descending, page_size))

    def list_contact_accounts_async(
        self,
        search: str | None = None,
        sort_by: str | None = None,
        descending: bool = False,
        page_size: int = 1000,
    ) -> AsyncContactAccountIterator:
        """Reads all contact accounts, page by page, for `async for`; see `list_contact_accounts`.

        Args:
            search: Return only accounts that match this text. Default None: all accounts.
            sort_by: The field to sort by. Default None: the order of the service.
            descending: Whether to sort in descending order. Default False.
            page_size: The number of accounts per request, 1 to 1,000. Default 1,000.

        Returns:
            An asynchronous iterator over the accounts, which can also return them as a table.

        Raises:
            ValidationError: If an argument is invalid. Sends no request.
        """
        return AsyncContactAccountIterator(_replyio.Listing(self._core, search, sort_by, descending, page_size))

    def check(self, *, write: int | None = None) -> replyio.CheckReport:
        """Checks how the service behaves, and reports where it differs from what this version expects.

        Sends at most five requests: `GET /v3/contact-accounts` and `GET /v3/contact-accounts/{id}`. Sends no update
        unless you pass `write`. If a request fails, the report contains a finding; the call raises no error. The report
        contains neither the key nor a value of an account, so you can paste it into an issue.

        With `write`, the check also writes a text into the empty description of the account, checks what the service
        kept, and restores the account, even after Ctrl-C. It sends five more requests, two of them
        `PUT /v3/contact-accounts/{id}`, and further ones if a request fails. It refuses an account whose description is
        not empty, that has members unknown to this version, or that has values which the service may store in another
        form. The service may still behave in unexpected ways, for example lose the stage. So create an account for this
        check that has only a name and a stage. If the check is interrupted and may have left something in the account,
        the logger `replyio` says what.

        Args:
            write: The id of the account to update and restore. Default None: send no update.

        Returns:
            The report. Print it to read it.

        Raises:
            ValidationError: If the id is invalid. Sends no request.

        Examples:
            >>> import replyio
            >>> report = replyio.ReplyClient().check()
            >>> report.as_expected
            True
        """
        from replyio import _check

        warn_of_blocking("check")
        return _check.check(self._core, write)

    async def check_async(self, *, write: int | None = None) -> replyio.CheckReport:
        """Checks how the service behaves; see `check`. The check restores the account even if the task is canceled.

        Args:
            write: The id of the account to update and restore. Default None: send no update.

        Returns:
            The report.

        Raises:
            ValidationError: If the id is invalid. Sends no request.
        """
        from replyio import _check

        return await _check.check_async(self._core, write, _running_loop())

    def plan_contact_account_updates(
        self,
        data: replyio.TableLike,
        *,
        save_as: str | os.PathLike[str] | None = None,
        if_exists: Literal["error", "resume", "replace"] = "error",
        mode: Literal["patch", "fill", "replace"] = "patch",
        nulls: Literal["keep", "clear"] = "keep",
        match_on: Literal["id", "domain_name", "name"] = "id",
        ignore: Iterable[str] | Literal["unknown"] = (),
        columns: dict[str, str] | None = None,
        null_values: Iterable[str] = (),
        delimiter: str | None = None,
        encoding: str | None = None,
        progress: bool | Callable[[dict[str, Any]], object] = True,
    ) -> replyio.Plan:
        """Plans the updates of many accounts from a table. Sends no update.

        By id, reads pages of accounts with `GET /v3/contact-accounts` as long as it has read fewer pages than rows are
        left. Then it reads each remaining account with its own `GET /v3/contact-accounts/{id}`. By domain or name, it
        reads all pages.

        Args:
            data: The rows: any object with `__arrow_c_stream__` (pandas, polars, pyarrow, DuckDB), an iterable of
                mappings or dataclasses, or the path of a CSV, JSON Lines or Parquet file. The columns are fields.
            save_as: The file of the plan, such as `"acme.replyplan"`. Default None: keep the plan in the user's state
                directory for 30 days; see `replyio.plans`.
            if_exists: What to do if `save_as` already exists: "error" (the default) raises an error; "resume" opens the
                plan if it was created from the same rows and options, and raises an error otherwise; "replace" creates
                a new plan and deletes the old one, and raises an error if the old one may have written a row, because
                only its file can revert that row.
            mode: "patch" (the default) changes the fields that have a column, "fill" changes only empty fields,
                "replace" replaces the account with the row, so it also clears each field that has no column.
            nulls: What an empty cell does: "keep" (the default) keeps the value of the field, "clear" clears it.
            match_on: The field by which a row finds its account: "id" (the default), "domain_name" or "name". The
                scheme, the path of a home page, `www.`, letter case and punycode make no difference to a domain. If a
                row matches several accounts, the plan marks it as ambiguous and never picks one.
            ignore: Columns to ignore because they are not fields. `"unknown"` ignores all such columns; with mode
                "replace", a column that may have the values of a field without a column is refused instead.
            columns: A mapping from columns to fields, such as `{"Website": "domain_name"}`. You need not list a column
                whose name differs from a field's name only in case, spaces and punctuation.
            null_values: Texts to treat as empty cells, besides `""` and white space.
            delimiter: The separator of a CSV file. Default None: detect it from the first line.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. Default None: UTF-8, or the encoding that
                the byte order mark names.
            progress: True (the default) shows the progress, False does not. A function is called with each new state.

        Returns:
            The plan, which shows what would change, how many requests that needs and how long it takes.

        Raises:
            ValidationError: If the table has columns that cannot be used. Lists all of them; sends no request. If a
                cell cannot be used, only its row becomes invalid.
            TypeError: If `data` is not a table, or has a row of a type that replyio cannot read.
            OSError: If the file of the table cannot be read.
            ImportError: If the table is a Parquet file, and no library that reads it is installed.
            PlanError: If the file already exists, was created from other rows or options, or cannot be written.
            ConfigurationError: If `if_exists` has a value that is not allowed.
            AuthenticationError: If the service refuses the key.
            ReplyError: If the call fails for another reason; see `replyio.errors`.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> plan = client.plan_contact_account_updates([{"id": 4711, "city": "Oslo"}], progress=False)
            >>> sum(plan.counts.values())
            1
            >>> result = plan.apply(progress=False)
            >>> client.get_contact_account(4711).city
            'Oslo'
        """
        _load_bulk()
        from replyio import _bulk

        try:
            table = _named(_READING, mode, nulls, match_on, ignore, columns, null_values, delimiter, encoding)
            warn_of_blocking("plan_contact_account_updates")
            return _bulk.Planning(self._core, data, save_as, if_exists, table).wait(progress)
        finally:
            del data  # a traceback that shows local variables must not show field values

    async def plan_contact_account_updates_async(
        self,
        data: replyio.TableLike,
        *,
        save_as: str | os.PathLike[str] | None = None,
        if_exists: Literal["error", "resume", "replace"] = "error",
        mode: Literal["patch", "fill", "replace"] = "patch",
        nulls: Literal["keep", "clear"] = "keep",
        match_on: Literal["id", "domain_name", "name"] = "id",
        ignore: Iterable[str] | Literal["unknown"] = (),
        columns: dict[str, str] | None = None,
        null_values: Iterable[str] = (),
        delimiter: str | None = None,
        encoding: str | None = None,
        progress: bool | Callable[[dict[str, Any]], object] = True,
    ) -> replyio.Plan:
        """Plans the updates of many accounts; see `plan_contact_account_updates`. Canceling the task stops the job.

        Args:
            data: The rows, as in `plan_contact_account_updates`.
            save_as: The file of the plan. Default None: keep it in the user's state directory.
            if_exists: "error", "resume" or "replace".
            mode: "patch", "fill" or "replace".
            nulls: "keep" or "clear".
            match_on: "id", "domain_name" or "name".
            ignore: Columns to ignore because they are not fields. `"unknown"` ignores all such columns.
            columns: A mapping from columns to fields, such as `{"Website": "domain_name"}`. You need not list a column
                whose name differs from a field's name only in case, spaces and punctuation.
            null_values: Texts to treat as empty cells, besides `""` and white space.
            delimiter: The separator of a CSV file. Default None: detect it from the first line.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. Default None: UTF-8, or the encoding that
                the byte order mark names.
            progress: True (the default) shows the progress, False does not. A function is called with each new state.

        Returns:
            The plan.

        Raises:
            ValidationError: If the table has a column that cannot be used.
            TypeError: If `data` is not a table, or has a row of a type that replyio cannot read.
            OSError: If the file of the table cannot be read.
            ImportError: If the table is a Parquet file, and no library that reads it is installed.
            PlanError: If the file already exists, was created from other rows or options, or cannot be written.
            ConfigurationError: If `if_exists` has a value that is not allowed.
            AuthenticationError: If the service refuses the key.
            ReplyError: If the call fails for another reason; see `replyio.errors`.
        """
        _load_bulk()
        from replyio import _bulk

        try:
            table = _named(_READING, mode, nulls, match_on, ignore, columns, null_values, delimiter, encoding)
            return await _bulk.Planning(self._core, data, save_as, if_exists, table).wait_async(progress)
        finally:
            del data

    def open_plan(self, path: str | os.PathLike[str], *, recover: bool = False, new_key: bool = False) -> replyio.Plan:
        """Opens a plan to resume it, revert it or look at it.

        Opening never locks the file, so you can open a plan while a run writes it. A row that was in flight when its
        run ended is `unknown`, and the next `Plan.apply` sends it again. `replyio.read_plan` opens a plan without a
        client.

        Args:
            path: The file of the plan.
            recover: Whether to open a plan whose log (`-wal`) is missing because only the file itself was copied or
                moved after a crash. Every row that may have been updated becomes `unknown`. Default False: refuse such
                a file.
            new_key: Whether this client's API key is another key of the user who created the plan. Default False:
                refuse a plan that was created with another key.

        Returns:
            The plan.

        Raises:
            PlanError: If the file is missing, incomplete or damaged, lacks its log, or was created for another base
                URL, user, team or API key.
        """
        _load_bulk()
        from replyio import _bulk

        file = _replyio.PlanFile.open(self._core, path, recover=recover, new_key=new_key)
        return _bulk.plan_of(self._core, file, new_key=new_key)

    def patch_contact_accounts(
        self,
        data: replyio.TableLike,
        *,
        save_as: str | os.PathLike[str] | None = None,
        if_exists: Literal["error", "resume", "replace"] = "error",
        mode: Literal["patch", "fill"] = "patch",
        nulls: Literal["keep", "clear"] = "keep",
        match_on: Literal["id", "domain_name", "name"] = "id",
        ignore: Iterable[str] | Literal["unknown"] = (),
        columns: dict[str, str] | None = None,
        null_values: Iterable[str] = (),
        delimiter: str | None = None,
        encoding: str | None = None,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        on_unknown_member: Literal["stop", "clear"] = "stop",
        max_changes: int | None = None,
        max_cleared: int | None = None,
        progress: bool | Callable[[dict[str, Any]], object] = True,
    ) -> replyio.ApplyResult:
        """Changes single fields of many accounts: plans and applies in one call, without a review.

        Fields that have no column keep their values. The call keeps the plan, so you can resume it with
        `result.plan.apply()`, or revert it with `result.revert()`. If an error stops the call, its message names the
        file of the plan.

        Sends `GET /v3/contact-accounts` or `GET /v3/contact-accounts/{id}`, then `PUT /v3/contact-accounts/{id}` for
        each row that changes something.

        Args:
            data: The rows, as in `plan_contact_account_updates`.
            save_as: The file of the plan. Default None: keep the plan in the user's state directory for 30 days; see
                `replyio.plans`.
            if_exists: What to do if `save_as` already exists: "error" (the default) raises an error; "resume" opens the
                plan if it was created from the same rows and options, and raises an error otherwise; "replace" creates
                a new plan and deletes the old one, and raises an error if the old one may have written a row, because
                only its file can revert that row.
            mode: "patch" (the default) changes the fields that have a column, "fill" changes only empty fields. To
                replace accounts, create and review a plan: `plan_contact_account_updates` has the mode "replace".
            nulls: "keep" (the default) or "clear".
            match_on: "id" (the default), "domain_name" or "name".
            ignore: Columns to ignore because they are not fields. `"unknown"` ignores all such columns.
            columns: A mapping from columns to fields, such as `{"Website": "domain_name"}`. You need not list a column
                whose name differs from a field's name only in case, spaces and punctuation.
            null_values: Texts to treat as empty cells, besides `""` and white space.
            delimiter: The separator of a CSV file. Default None: detect it from the first line.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. Default None: UTF-8, or the encoding that
                the byte order mark names.
            on_conflict: What to do if someone changes a field after the call has planned it: "skip" (the default) or
                "overwrite"; see `Plan.apply`.
            on_unknown_member: What to do if an update clears a member that it cannot include, or empties a field that
                should have a value: "stop" (the default) or "clear"; see `Plan.apply`.
            max_changes: The maximum number of accounts that the call may change. If the plan has more, the call sends
                no update. Default None: no limit.
            max_cleared: The maximum number of fields that the call may empty. If the plan has more, the call sends no
                update. Default None: no limit.
            progress: True (the default) shows the progress, False does not. A function is called with each new state.

        Returns:
            The outcome of the rows. Failed rows do not raise an error; see `ApplyResult.raise_for_failures`.

        Raises:
            ValidationError: If the table has a column that cannot be used.
            TypeError: If `data` is not a table, or has a row of a type that replyio cannot read.
            OSError: If the file of the table cannot be read.
            ImportError: If the table is a Parquet file, and no library that reads it is installed.
            PlanError: If the file already exists, was created from other rows or options, or cannot be written; if the
                plan would exceed `max_changes` or `max_cleared`; or if `on_unknown_member="stop"` ends the run.
            ConfigurationError: If an option has a value that is not allowed.
            AuthenticationError: If the service refuses the key. Rows that the run did not write keep their status.
            ReplyError: If another failure stops the job.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> result = client.patch_contact_accounts([{"id": 4711, "city": "Bergen"}], progress=False)
            >>> result.counts
            {'changed': 1}
        """
        _load_bulk()
        from replyio import _bulk

        try:
            table = _named(_READING, mode, nulls, match_on, ignore, columns, null_values, delimiter, encoding)
            run = _named(_RUN, on_conflict, on_unknown_member, max_changes, max_cleared)
            _bulk.check_patch(mode, run)
            warn_of_blocking("patch_contact_accounts")
            planning = _bulk.Planning(self._core, data, save_as, if_exists, table)
            return _bulk.patch(planning, progress, run)
        finally:
            del data

    async def patch_contact_accounts_async(
        self,
        data: replyio.TableLike,
        *,
        save_as: str | os.PathLike[str] | None = None,
        if_exists: Literal["error", "resume", "replace"] = "error",
        mode: Literal["patch", "fill"] = "patch",
        nulls: Literal["keep", "clear"] = "keep",
        match_on: Literal["id", "domain_name", "name"] = "id",
        ignore: Iterable[str] | Literal["unknown"] = (),
        columns: dict[str, str] | None = None,
        null_values: Iterable[str] = (),
        delimiter: str | None = None,
        encoding: str | None = None,
        on_conflict: Literal["skip", "overwrite"] = "skip",
        on_unknown_member: Literal["stop", "clear"] = "stop",
        max_changes: int | None = None,
        max_cleared: int | None = None,
        progress: bool | Callable[[dict[str, Any]], object] = True,
    ) -> replyio.ApplyResult:
        """Changes single fields of many accounts; see `patch_contact_accounts`.

        Canceling the task lets the updates in flight finish, for at most five seconds.

        Args:
            data: The rows, as in `plan_contact_account_updates`.
            save_as: The file of the plan. Default None: keep it in the user's state directory.
            if_exists: "error", "resume" or "replace".
            mode: "patch" or "fill".
            nulls: "keep" or "clear".
            match_on: "id", "domain_name" or "name".
            ignore: Columns to ignore because they are not fields. `"unknown"` ignores all such columns.
            columns: A mapping from columns to fields, such as `{"Website": "domain_name"}`. You need not list a column
                whose name differs from a field's name only in case, spaces and punctuation.
            null_values: Texts to treat as empty cells, besides `""` and white space.
            delimiter: The separator of a CSV file. Default None: detect it from the first line.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. Default None: UTF-8, or the encoding that
                the byte order mark names.
            on_conflict: "skip" or "overwrite".
            on_unknown_member: "stop" or "clear".
            max_changes: The maximum number of accounts that the call may change. Default None: no limit.
            max_cleared: The maximum number of fields that the call may empty. Default None: no limit.
            progress: True (the default) shows the progress, False does not. A function is called with each new state.

        Returns:
            The outcome of the rows.

        Raises:
            ValidationError: If the table has a column that cannot be used.
            TypeError: If `data` is not a table, or has a row of a type that replyio cannot read.
            OSError: If the file of the table cannot be read.
            ImportError: If the table is a Parquet file, and no library that reads it is installed.
            PlanError: If the file already exists, was created from other rows or options, or cannot be written.
            ConfigurationError: If `if_exists` has a value that is not allowed.
            AuthenticationError: If the service refuses the key.
            ReplyError: If another failure stops the job.
        """
        _load_bulk()
        from replyio import _bulk

        try:
            table = _named(_READING, mode, nulls, match_on, ignore, columns, null_values, delimiter, encoding)
            run = _named(_RUN, on_conflict, on_unknown_member, max_changes, max_cleared)
            _bulk.check_patch(mode, run)
            planning = _bulk.Planning(self._core, data, save_as, if_exists, table)
            return await _bulk.patch_async(planning, progress, run)
        finally:
            del data

    def quota_left(self) -> QuotaLeft | None:
        """Returns the remaining quota, as far as this machine knows. Sends no request.

        Requests that wait for the quota count as used.

        Returns:
            The remaining quota; None if this client has no quota.

        Raises:
            ReplyError: If the client cannot start in this process.
        """
        left = self._core.quota_left()
        return None if left is None else QuotaLeft(*left)

    def close(self) -> None:
        """Closes the connections and stops the threads. A later call opens new ones."""
        self._core.close()

    async def aclose(self) -> None:
        """Closes the connections and stops the threads, as `close` does. Pending calls of other tasks fail."""
        self._core.close()

    def __enter__(self) -> Self:
        """Returns the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Returns the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes it."""
        await self.aclose()

    def __repr__(self) -> str:
        """Returns a text with the base URL and never the key."""
        core = getattr(self, "_core", None)  # missing while its settings are being refused
        return f"<ReplyClient for {core.base_url}>" if core else "<ReplyClient without settings>"

    def __reduce__(self) -> tuple[Callable[..., ReplyClient], tuple[dict[str, Any]]]:
        """Returns the settings, without the key unless `pickle_api_key` is true.

        Raises:
            ConfigurationError: If the key was passed in code, because the process that loads the pickle would use
                another one.
        """
        if self._withheld:
            raise _refused(
                f"this client cannot be pickled: {' and '.join(self._withheld)} would be missing where it is "
                f"loaded; hint: pass pickle_api_key=True to ReplyClient, or set REPLY_API_KEY instead of api_key="
            )
        return _unpickle, (self._pickled,)

    def __copy__(self) -> ReplyClient:
        """Returns a client with the same settings and connections."""
        return self.with_options()

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplyClient:
        """Returns a client with the same settings and connections."""
        return self.with_options()


_fields_are_shown = False


def _show_fields() -> None:
    """Adds every field to the signatures of the calls, which notebooks show."""
    global _fields_are_shown  # noqa: PLW0603 - once for all clients
    if not _fields_are_shown:
        _fields_are_shown = True
        from replyio._signatures import show_fields

        show_fields(ReplyClient)


# Only these modules read signatures, and importing them takes longer than the rest of the package.
if "inspect" in sys.modules or "typing" in sys.modules:
    _show_fields()


def _unpickle(settings: dict[str, Any]) -> ReplyClient:
    """Returns the client of a pickle."""
    try:
        return ReplyClient(**settings)
    finally:
        del settings


_READING = ("mode", "nulls", "match_on", "ignore", "columns", "null_values", "delimiter", "encoding")
_RUN = ("on_conflict", "on_unknown_member", "max_changes", "max_cleared")


def _named(names: tuple[str, ...], *values: object) -> dict[str, object]:
    """Returns options by name, from their values in the order of the names."""
    return dict(zip(names, values, strict=True))


def _load_bulk() -> None:
    """Imports what bulk calls need, on first use, because this import takes longer than all others.

    Raises:
        TransportError: If a module's file cannot be read, for example because no file descriptor is left.
    """
    try:
        import_module("replyio._bulk")
    except OSError as error:
        from replyio.errors import TransportError

        message = f"no request was sent: replyio cannot read one of its own files: {error.strerror}"
        hint = "close files and connections, or raise the limit of this process (ulimit -n)"
        raise TransportError(f"{message}; hint: {hint}") from None


def _warn(message: str) -> None:
    """Issues a warning at the caller of the public method."""
    import warnings

    from replyio.errors import ReplyWarning

    warnings.warn(_replyio.safe_text(message), ReplyWarning, stacklevel=3)


def _running_loop() -> AbstractEventLoop:
    """Returns the running event loop. The first call replaces this function with that of asyncio."""
    global _running_loop  # noqa: PLW0603 - one lookup less in every call
    from asyncio import get_running_loop

    _running_loop = get_running_loop
    return get_running_loop()


class _Pages:
    """The common part of both iterators: the pages, and how much of them was returned."""

    __slots__ = ("_given", "_listing", "_lock", "_page", "_ready")

    def __init__(self, listing: _replyio.Listing) -> None:
        self._given = 0
        self._listing = listing
        self._lock = allocate_lock()
        self._page: _replyio.Batch | None = None
        self._ready: Iterator[ContactAccount] = iter(())

    def _begin(self) -> None:
        """Continues with the next page that was read, unless another thread or task that shares the iterator did."""
        with self._lock:
            page = self._listing.first()
            if page is not None and not length_hint(self._ready):
                # Ctrl-C may come while the accounts are made. The page stays with the list until they are here.
                accounts = iter(page.accounts())
                self._listing.drop_first()
                self._page, self._ready, self._given = page, accounts, self._given + len(page)

    def _left(self) -> int:
        """Returns the number of accounts that were read but not yet returned."""
        return length_hint(self._ready) + self._listing.waiting

    def _refuse_a_second_table(self) -> None:
        """Refuses to return an empty table, which would look like a service without accounts.

        Raises:
            ReplyError: If all accounts were already returned.
        """
        if self._listing.finished and self._given and not self._left():
            from replyio.errors import ReplyError

            given = f"{self._given:,} account{'' if self._given == 1 else 's'}"
            hint = "keep the table that it returned, or call list_contact_accounts() again"
            raise ReplyError(f"this iterator has no account left: it has already returned {given}; hint: {hint}")

    def _take(self) -> list[_replyio.Batch]:
        """Returns what was read but not yet returned.

        Raises:
            ReplyError: If another thread or task that shares the iterator took all of it meanwhile.
        """
        with self._lock:
            self._refuse_a_second_table()
            pages = self._listing.take()
            self._given += sum(map(len, pages))
            left = length_hint(self._ready)
            if self._page is not None and left:
                pages.insert(0, self._page.last(left))
                self._ready = iter(())
        return pages

    def _give_back(self, pages: list[_replyio.Batch]) -> None:
        """Reverts `_take`."""
        self._listing.give_back(pages)
        self._given -= sum(map(len, pages))

    def __repr__(self) -> str:
        """Returns a text with the number of accounts returned so far, and how to use the iterator."""
        given = self._given - length_hint(self._ready)
        if self._listing.finished and not self._left():
            hint = "call list_contact_accounts() again to read them again"
            return f"<{type(self).__name__}: all {given:,} accounts returned; {hint}>"
        is_async = isinstance(self, AsyncContactAccountIterator)
        hint = "use async for, or await" if is_async else "iterate over it, or call"
        number = f"{given:,} account{'' if given == 1 else 's'}"
        return f"<{type(self).__name__}: {number} returned so far; {hint} .to_pandas() or .to_polars()>"


class ContactAccountIterator(_Pages):
    """An iterator over contact accounts that reads pages on demand.

    A table contains the accounts that iteration has not returned yet; after that, the iterator is exhausted. `pandas`,
    `polars`, `pyarrow` and DuckDB read the iterator directly through `__arrow_c_stream__`.
    """

    __slots__ = ()

    def __iter__(self) -> Self:
        """Returns the iterator."""
        return self

    def __next__(self) -> ContactAccount:
        """Returns the next account, and reads a page if necessary.

        Returns:
            The account.

        Raises:
            ReplyError: If the page cannot be read. The next call tries again.
        """
        while True:
            for account in self._ready:
                return account
            if self._listing.waiting:
                self._begin()
            elif self._listing.finished:
                raise StopIteration
            else:
                self._next_page()

    def _next_page(self) -> None:
        """Reads the next page."""
        warn_if_it_blocks_a_loop("list_contact_accounts()", "list_contact_accounts_async() with async for")
        self._listing.next_page()

    def _remaining_pages(self) -> list[_replyio.Batch]:
        """Reads all remaining pages. If one fails, the next call returns those that were read before it."""
        self._refuse_a_second_table()
        while not self._listing.finished:
            self._next_page()
        return self._take()

    def _to_table(self, convert: Callable[[list[_replyio.Batch]], _Frame]) -> _Frame:
        """Reads the remaining accounts into a table."""
        pages = self._remaining_pages()
        try:
            return convert(pages)
        except BaseException:
            self._give_back(pages)
            raise

    def to_pandas(self) -> pandas.DataFrame:
        """Reads the remaining accounts into a pandas DataFrame.

        Returns:
            A DataFrame with one row for each account. The columns `stage_id`, `stage_name` and `stage_color_id` contain
            the stage.

        Raises:
            ReplyError: If a page cannot be read.
            ImportError: If pandas is not installed.
        """
        import_module("pandas")  # before any request
        return self._to_table(_to_pandas)

    def to_polars(self) -> polars.DataFrame:
        """Reads the remaining accounts into a polars DataFrame.

        Returns:
            A DataFrame with one row for each account. The columns `stage_id`, `stage_name` and `stage_color_id` contain
            the stage.

        Raises:
            ReplyError: If a page cannot be read.
            ImportError: If polars is not installed.
        """
        import_module("polars")  # before any request
        return self._to_table(_to_polars)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Reads the remaining accounts into an Arrow stream, one record batch per page.

        Args:
            requested_schema: Ignored, as the interface allows.

        Returns:
            A capsule with the stream, as the Arrow PyCapsule interface defines it.

        Raises:
            ReplyError: If a page cannot be read.
        """
        return self._to_table(lambda pages: _replyio.AccountTable(pages).__arrow_c_stream__(requested_schema))


class AsyncContactAccountIterator(_Pages):
    """An asynchronous iterator over contact accounts that reads pages on demand.

    A table contains the accounts that iteration has not returned yet; after that, the iterator is exhausted.
    """

    __slots__ = ()

    def __aiter__(self) -> Self:
        """Returns the iterator."""
        return self

    async def __anext__(self) -> ContactAccount:
        """Returns the next account, and reads a page if necessary.

        Returns:
            The account.

        Raises:
            ReplyError: If the page cannot be read. The next call tries again.
        """
        while True:
            for account in self._ready:
                return account
            if self._listing.waiting:
                self._begin()
            elif self._listing.finished:
                raise StopAsyncIteration
            else:
                await self._next_page()

    async def _next_page(self) -> None:
        """Reads the next page."""
        await finished(self._listing.next_page(_running_loop()))

    async def _remaining_pages(self) -> list[_replyio.Batch]:
        """Reads all remaining pages. If one fails, the next call returns those that were read before it."""
        self._refuse_a_second_table()
        while not self._listing.finished:
            await self._next_page()
        return self._take()

    async def _to_frame(self, library: str, convert: Callable[[list[_replyio.Batch]], _Frame]) -> _Frame:
        """Reads the remaining accounts into a DataFrame. Does not block the event loop."""
        from asyncio import to_thread

        await to_thread(import_module, library)  # before any request
        pages = await self._remaining_pages()
        try:
            return await to_thread(convert, pages)
        except BaseException:
            self._give_back(pages)
            raise

    async def to_pandas(self) -> pandas.DataFrame:
        """Reads the remaining accounts into a pandas DataFrame; see `ContactAccountIterator.to_pandas`.

        Returns:
            A DataFrame with one row for each account.

        Raises:
            ReplyError: If a page cannot be read.
            ImportError: If pandas is not installed.
        """
        return await self._to_frame("pandas", _to_pandas)

    async def to_polars(self) -> polars.DataFrame:
        """Reads the remaining accounts into a polars DataFrame; see `ContactAccountIterator.to_polars`.

        Returns:
            A DataFrame with one row for each account.

        Raises:
            ReplyError: If a page cannot be read.
            ImportError: If polars is not installed.
        """
        return await self._to_frame("polars", _to_polars)


def _to_pandas(pages: list[_replyio.Batch]) -> pandas.DataFrame:
    """Returns a pandas DataFrame of pages: from Arrow if pyarrow is installed, otherwise from lists.

    Both have the same types.
    """
    import pandas

    from replyio import models

    types = models.column_types(_replyio.AccountTable.names(), pandas.Series(["text"]).dtype)
    table = _replyio.AccountTable(pages)
    try:
        arrow = import_module("pyarrow").table(table)
    except ImportError:
        column: Callable[[str], Any] = table.column
    else:
        column = models.arrow_column(arrow, types)
    return pandas.DataFrame({name: pandas.Series(column(name), dtype=types[name]) for name in types})


def _to_polars(pages: list[_replyio.Batch]) -> polars.DataFrame:
    """Returns a polars DataFrame of pages."""
    import polars

    return polars.DataFrame(_replyio.AccountTable(pages))
