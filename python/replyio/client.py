"""The client."""

from __future__ import annotations

import sys
from importlib import import_module
from operator import length_hint
from os import environ

from replyio import _replyio

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Any, Literal, ParamSpec

    import pandas
    import polars
    from typing_extensions import CapsuleType, Self, Unpack

    import replyio  # its names are imported when they are used, also those in annotations
    from replyio.models import ClientOptions, ContactAccount, ContactAccountFields, ContactAccountUpdate

    P = ParamSpec("P")

__all__ = ["AsyncContactAccountIterator", "ContactAccountIterator", "Quota", "QuotaLeft", "ReplyClient"]


class Quota:
    """How many requests a client sends at most.

    The service allows 100 requests a minute and 3,000 an hour for each user, shared by all programs of that user. The
    default stays a little below. All programs of one system user on a machine count together, in a small file in the
    state directory, which `REPLYIO_STATE_DIR` moves.

    Attributes:
        per_minute: Requests in any sixty seconds.
        per_hour: Requests in any hour.
        clock_scale: How much faster than real time its clock goes.
        shared: Whether the requests of other processes count too.
        bulk_share: The part of the minute that a bulk update may use.
        acquire: What is called before each request.
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
            per_minute: Requests in any sixty seconds. Default 95.
            per_hour: Requests in any hour. Default 2,900.
            clock_scale: How much faster than real time its clock goes. Default 1. With anything else the service would
                answer 429: it is for a `replyio.sandbox.Sandbox` whose clock is as fast, to see in a minute how a job
                of hours goes. `Sandbox.client()` sets it.
            shared: Whether the requests of all processes of this system user count together, for each key, service and
                `act_as`. Default True. If the file cannot be used, the process counts alone, and a warning in its log
                says so once. A quota of more than 4,096 requests an hour, or with a `clock_scale` below 1 or above
                1,000, is never shared.
            bulk_share: The part of the minute that plans and other bulk updates may use. They leave the rest to single
                calls. More than 0, at most 1. Default 0.9.
            acquire: A function or coroutine function without arguments, for a rate limit that several machines share.
                Default None. The client calls it once before each request that it sends, retries included, when this
                quota allows the request, and sends the request when the function returns. If it raises or returns
                False, the call ends with `RateLimitError` and sends nothing more, and a bulk update stops with every
                row intact. Its time counts against the call's `timeout`; a bulk update waits for as long as it takes.
                It runs in a thread of its own, a coroutine function in an event loop of that thread, for one request
                after the other. It must not call a client of the same quota. A pickle of the quota refers to it by
                name.

        Raises:
            ConfigurationError: When a limit is not a positive integer, or another value cannot be used.
        """
        for name, value in (("per_minute", per_minute), ("per_hour", per_hour)):
            if type(value) is not int or value < 1:
                from replyio.errors import ConfigurationError

                raise ConfigurationError(f"{name} must be a positive integer")
            object.__setattr__(self, name, value)
        if type(clock_scale) not in {int, float} or not 0 < clock_scale < float("inf"):
            from replyio.errors import ConfigurationError

            raise ConfigurationError("clock_scale must be a positive number")
        object.__setattr__(self, "clock_scale", float(clock_scale))
        if not _is_bool(shared):
            from replyio.errors import ConfigurationError

            raise ConfigurationError("shared must be True or False")
        object.__setattr__(self, "shared", shared)
        if type(bulk_share) not in {int, float} or not 0 < bulk_share <= 1:
            from replyio.errors import ConfigurationError

            raise ConfigurationError("bulk_share must be a number, more than 0 and at most 1")
        object.__setattr__(self, "bulk_share", float(bulk_share))
        object.__setattr__(self, "acquire", acquire)
        object.__setattr__(self, "_gate", None if acquire is None else self._made_gate())

    def _made_gate(self) -> _replyio.Gate:
        if not callable(self.acquire):
            from replyio.errors import ConfigurationError

            raise ConfigurationError("acquire must be a function without arguments, or None")
        from weakref import ref

        # Its module is imported here: the first call may find no file descriptor left.
        import_module("replyio._acquire")

        return _replyio.Gate(ref(self))

    def __setattr__(self, name: str, value: object) -> None:
        """Refused: a quota does not change."""
        raise AttributeError(f"a Quota is immutable; make a new one to change {name}")

    def __eq__(self, other: object) -> bool:
        """Whether both allow the same."""
        if not isinstance(other, Quota):
            return NotImplemented
        return self._members() == other._members()

    def __hash__(self) -> int:
        """The hash of its members."""
        return hash(self._members())

    def __repr__(self) -> str:
        """The call that makes it."""
        scale = "" if self.clock_scale == 1 else f", clock_scale={self.clock_scale}"
        shared = "" if self.shared else ", shared=False"
        bulk_share = "" if self.bulk_share == _BULK_SHARE else f", bulk_share={self.bulk_share}"
        acquire = "" if self.acquire is None else f", acquire={self.acquire!r}"
        return f"Quota(per_minute={self.per_minute}, per_hour={self.per_hour}{scale}{shared}{bulk_share}{acquire})"

    def __reduce__(
        self,
    ) -> tuple[Callable[..., Quota], tuple[int, int, float, bool, float, Callable[[], object] | None]]:
        """What `copy` and `pickle` make it from again."""
        return _quota, self._members()

    def _members(self) -> tuple[int, int, float, bool, float, Callable[[], object] | None]:
        return self.per_minute, self.per_hour, self.clock_scale, self.shared, self.bulk_share, self.acquire


def _is_bool(value: object) -> bool:
    """Whether a value, whatever its annotation says, is True or False."""
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
    """What is left of a user's quota, as far as this machine knows.

    Attributes:
        minute: How many requests are left in this minute.
        hour: How many requests are left in this hour.
        retry_after: Seconds for which the service asked all requests to wait; None when it did not.
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
        """Takes what is left.

        Args:
            minute: How many requests are left in this minute.
            hour: How many requests are left in this hour.
            retry_after: Seconds for which the service asked all requests to wait; None when it did not.
            shared: Whether the requests of other processes count too.
            processes: The requests of each process in the last minute and in the last hour, by process id.
        """
        self.minute = minute
        self.hour = hour
        self.retry_after = retry_after
        self.shared = shared
        self.processes = processes

    def __repr__(self) -> str:
        """Shows all members."""
        return f"QuotaLeft({', '.join(f'{name}={getattr(self, name)!r}' for name in sorted(self.__slots__))})"


_BULK_SHARE = 0.9


_DEFAULT_QUOTA = Quota()


class ReplyClient:
    """A client for the contact accounts of Reply.io.

    One client serves any number of threads and event loops, and survives a fork: a child process has connections of its
    own. It opens nothing until the first call. `close()`, `with` and `async with` give its connections and threads
    back; leaving it to the garbage collector does too.

    The quota is counted for each key, service and `act_as`, over all processes of one system user on this machine. So
    several clients of one user never send more requests than one client would.

    A client whose key came from `REPLY_API_KEY` is pickled without it, and reads that variable again where it lands. A
    client whose key, or whose proxy with a password, was given in code cannot be pickled unless `pickle_api_key=True`
    was given too: the process that loads it would use another key.

    Examples:
        >>> import replyio
        >>> with replyio.ReplyClient() as client:
        ...     account = client.patch_contact_account(4711, city="Oslo")
        >>> account.city
        'Oslo'
    """

    # `_keeps` is what must live as long as the client: its sandbox. `_withheld` names the secrets that a pickle lacks.
    __slots__ = ("__weakref__", "_core", "_keeps", "_pickled", "_withheld")

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
        """Checks all settings. No request is sent.

        Args:
            api_key: The key; None reads `REPLY_API_KEY`.
            base_url: Where the service is; None reads `REPLY_BASE_URL`, and without it is `https://api.reply.io/v3`. It
                must be https, except on this machine.
            auth: How the key is sent. `"x-api-key"` and `"bearer"` choose a header. `"auto"` sends `X-API-Key`, and
                when a 401 asks for the bearer scheme tries that once and stays with what worked.
            act_as: The user, by id or e-mail address, that a master or organization key acts for.
            team_id: The team that a master or organization key acts in.
            timeout: Seconds that a whole call may take: waits for the quota, attempts, pauses and all. Default 120.
            attempt_timeout: Seconds that one attempt may take, from connecting to the last byte. Default 30.
            connect_timeout: Seconds in which a connection must be made. Default 5.
            max_attempts: How often a request is tried at most. Default 4. An update is idempotent, so it is repeated
                even when it may have been applied.
            quota: How many requests are sent at most. Default `Quota(per_minute=95, per_hour=2900)`; None leaves that
                to the service's 429.
            proxy: The address of a proxy for https, with user and password if need be; None reads `HTTPS_PROXY`,
                `ALL_PROXY` and `NO_PROXY`. This machine is never reached through a proxy.
            ca_file: A PEM file of certificate authorities to trust instead of the system's; None reads `SSL_CERT_FILE`.
            pickle_api_key: Whether a pickle of this client holds its key and a proxy's password. Default False: a
                client that was given either cannot be pickled.

        Raises:
            ConfigurationError: When there is no key, or a setting cannot be used.
        """
        self._keeps: object = None
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
            self._core = _replyio.Client({**settings, "api_key": api_key})
            # Where the pickle lands, the environment may name another service.
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
        """Makes a client with other settings over the same connections.

        Closing either closes the connections of both.

        Args:
            **options: `timeout`, `attempt_timeout`, `max_attempts`, `quota`, `auth`, `act_as` and `team_id`, as in
                `ReplyClient`; those not given are kept. The other settings belong to the connections.

        Returns:
            The new client.

        Raises:
            ConfigurationError: When a setting cannot be used, or belongs to the connections.
        """
        derived = object.__new__(type(self))
        try:
            derived._keeps = self._keeps
            derived._core = self._core.with_options({**options})
            derived._pickled = {**self._pickled, **options}
            derived._withheld = self._withheld
        finally:
            del options  # somebody may have given a key, which is refused
        return derived

    def update_contact_account(self, id: int, **fields: Unpack[ContactAccountUpdate]) -> ContactAccount:
        """Replaces a contact account: `PUT /v3/contact-accounts/{id}`, exactly as given.

        The service replaces the account in full, so an optional field that is left out is cleared. To change single
        fields, use `patch_contact_account`.

        Args:
            id: Contact account ID, positive.
            **fields: The fields of the body; the names of the service's page (`linkedInUrl`) are taken too.
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
                owner_user_id (int): ID of the user who owns this contact account. Send it whenever it is known.

        Returns:
            The account as the service answers it.

        Raises:
            ValidationError: Before any request, with every fault at once.
            NotFoundError: There is no such account.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> account = client.update_contact_account(4711, name="Acme", company_size="51-200")
            >>> account.company_size
            <CompanySize.FROM_51_TO_200: '51-200'>
        """
        _warn_of_blocking("update_contact_account")
        try:
            return self._core.update(id, fields)
        finally:
            # A traceback that shows local variables must not show what a field was to be.
            del fields

    async def update_contact_account_async(self, id: int, **fields: Unpack[ContactAccountUpdate]) -> ContactAccount:
        """Replaces a contact account; see `update_contact_account`. Cancelling the task closes the request.

        Args:
            id: Contact account ID, positive.
            **fields: The fields of the body, as in `update_contact_account`.

        Returns:
            The account as the service answers it.

        Raises:
            ValidationError: Before any request, with every fault at once.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.
        """
        try:
            pending = self._core.update(id, fields, _running_loop())
        finally:
            del fields
        try:
            return await pending.future
        finally:
            pending.close()

    def patch_contact_account(self, id: int, **changes: Unpack[ContactAccountFields]) -> ContactAccount:
        """Changes single fields of a contact account and keeps the others.

        `GET /v3/contact-accounts/{id}`, merge, `PUT /v3/contact-accounts/{id}`. When the account is already as meant,
        nothing is written. None and "" clear a field. The service has no lock, so a change that somebody else makes
        between the two requests is lost.

        Args:
            id: Contact account ID, positive.
            **changes: The fields to change, as in `update_contact_account`; none is required.

        Returns:
            The account as it is now.

        Raises:
            ValidationError: Before any request, with every fault at once.
            NotFoundError: There is no such account.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.

        Warns:
            ReplyWarning: The account was written, and the answer is not what was sent; names the fields.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> before = client.get_contact_account(4711)
            >>> after = client.patch_contact_account(4711, city="Oslo")
            >>> (after.city, after.name == before.name)
            ('Oslo', True)
        """
        _warn_of_blocking("patch_contact_account")
        try:
            account, warning = self._core.patch(id, changes)
        finally:
            del changes
        try:
            if warning is not None:
                _warn(warning)
            return account
        finally:
            del account  # the warning may be made an error, and its traceback shown

    async def patch_contact_account_async(self, id: int, **changes: Unpack[ContactAccountFields]) -> ContactAccount:
        """Changes single fields of a contact account; see `patch_contact_account`.

        Cancelling the task closes the request.

        Args:
            id: Contact account ID, positive.
            **changes: The fields to change, as in `update_contact_account`; none is required.

        Returns:
            The account as it is now.

        Raises:
            ValidationError: Before any request, with every fault at once.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.

        Warns:
            ReplyWarning: The account was written, and the answer is not what was sent; names the fields.
        """
        try:
            pending = self._core.patch(id, changes, _running_loop())
        finally:
            del changes
        try:
            account, warning = await pending.future
        finally:
            pending.close()
        try:
            if warning is not None:
                _warn(warning)
            return account
        finally:
            del account  # the warning may be made an error, and its traceback shown

    def get_contact_account(self, id: int) -> ContactAccount:
        """Reads a contact account: `GET /v3/contact-accounts/{id}`.

        Args:
            id: Contact account ID, positive.

        Returns:
            The account.

        Raises:
            ValidationError: Before any request, when the id cannot be one.
            NotFoundError: There is no such account.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.

        Examples:
            >>> import replyio
            >>> replyio.ReplyClient().get_contact_account(4711).id
            4711
        """
        _warn_of_blocking("get_contact_account")
        return self._core.get(id)

    async def get_contact_account_async(self, id: int) -> ContactAccount:
        """Reads a contact account; see `get_contact_account`. Cancelling the task closes the request.

        Args:
            id: Contact account ID, positive.

        Returns:
            The account.

        Raises:
            ValidationError: Before any request, when the id cannot be one.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.
        """
        pending = self._core.get(id, _running_loop())
        try:
            return await pending.future
        finally:
            pending.close()

    def list_contact_accounts(
        self,
        search: str | None = None,
        sort_by: str | None = None,
        descending: bool = False,
        page_size: int = 1000,
    ) -> ContactAccountIterator:
        """Reads all contact accounts, page by page: `GET /v3/contact-accounts`.

        Nothing is requested until the first account is asked for. The set may change while it is read: an account that
        two pages have is given once, and where accounts slip between two pages, the client goes back. A list that
        cannot be read completely raises `UnexpectedResponseError` while it is read.

        Args:
            search: Only accounts that match this text; None for all.
            sort_by: The field to sort by; None for the service's own order.
            descending: Whether to sort from the last to the first. Default False.
            page_size: Accounts for each request, 1 to 1,000. Default 1,000.

        Returns:
            An iterator over the accounts, which also gives them as a table.

        Raises:
            ValidationError: Before any request, when an argument cannot be used.

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
            search: Only accounts that match this text; None for all.
            sort_by: The field to sort by; None for the service's own order.
            descending: Whether to sort from the last to the first. Default False.
            page_size: Accounts for each request, 1 to 1,000. Default 1,000.

        Returns:
            An asynchronous iterator over the accounts, which also gives them as a table.

        Raises:
            ValidationError: Before any request, when an argument cannot be used.
        """
        return AsyncContactAccountIterator(_replyio.Listing(self._core, search, sort_by, descending, page_size))

    def check(self, *, write: int | None = None) -> replyio.CheckReport:
        """Finds out how the service behaves, and what differs from what this version expects.

        `GET /v3/contact-accounts` and `GET /v3/contact-accounts/{id}`, at most five requests. It writes nothing unless
        `write` names an account. A request that fails is a finding of the report, not an error. The report holds
        neither the key nor a value of an account, so that it can be pasted into an issue.

        With `write` it sends five requests more, two of them `PUT /v3/contact-accounts/{id}`, and further ones when a
        request fails: it writes a text into the account's empty description, compares what the service kept, and
        restores the account, also after Ctrl-C. It refuses an account whose description is not empty, that has members
        unknown to this version, that has values which a service may store in another form, or whose list item cannot be
        found or has values that `GET` does not show. The service may still do what nobody knows yet, such as lose the
        stage: create an account for this, with a name and nothing else. If the check is interrupted and something may
        be left in the account, the logger `replyio` tells what.

        Args:
            write: The account to write and restore, by its id. None, the default, writes nothing.

        Returns:
            The report; `print` it.

        Raises:
            ValidationError: Before any request, when the id cannot be one.

        Examples:
            >>> import replyio
            >>> report = replyio.ReplyClient().check()
            >>> report.as_expected
            True
        """
        from replyio import _check

        return _check.check(self._core, write)

    async def check_async(self, *, write: int | None = None) -> replyio.CheckReport:
        """Finds out how the service behaves; see `check`. Cancelling the task still restores the account.

        Args:
            write: The account to write and restore, by its id. None, the default, writes nothing.

        Returns:
            The report.

        Raises:
            ValidationError: Before any request, when the id cannot be one.
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
        """Plans the updates of many accounts from a table. Nothing is written to the service.

        `GET /v3/contact-accounts`, or `GET /v3/contact-accounts/{id}` for each row, whichever takes fewer requests.

        Args:
            data: The rows: anything with `__arrow_c_stream__` (pandas, polars, pyarrow, DuckDB), an iterable of
                mappings or dataclasses, or the path of a CSV, JSON Lines or Parquet file. Its columns are fields.
            save_as: The file of the plan, such as "acme.replyplan". None (the default) keeps the plan in the user's
                state directory for 30 days; see `replyio.plans`.
            if_exists: What to do when `save_as` is there already: "error" (the default) refuses, "resume" opens the
                plan when it was made from the same rows and options, and refuses otherwise, "replace" plans anew and
                removes the old plan, its previous values included.
            mode: "patch" (the default) changes the columns given, "fill" only fields that are empty, "replace" makes
                the account what the row says, so that a field without a column is cleared.
            nulls: What an empty cell means: "keep" (the default) leaves the field alone, "clear" empties it.
            match_on: How a row finds its account: "id" (the default), "domain_name" (scheme, path of a home page,
                `www.`, case and punycode make no difference) or "name". Two candidates are never guessed between.
            ignore: Columns that are not fields; `"unknown"` for all that are none.
            columns: Which column is which field, such as `{"Website": "domain_name"}`. A column whose
                name differs from a field's only in case, spaces and punctuation need not be listed.
            null_values: Texts that are empty cells, besides `""` and white space.
            delimiter: What separates the fields of a CSV file. By default, its first line tells.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. By default UTF-8, or the one that its byte
                order mark names.
            progress: Whether to show how far it is; a function is called with each new state. Default True.

        Returns:
            The plan: what would change, and how many requests and how long it takes.

        Raises:
            ValidationError: The table has a column that cannot be used; all such faults at once, before any request. A
                cell that cannot be used makes its row invalid, and stops no other.
            PlanError: The file is there already, was made from other rows or options, or cannot be written.
            AuthenticationError: The key is refused.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.

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

        table = {
            "mode": mode,
            "nulls": nulls,
            "match_on": match_on,
            "ignore": ignore,
            "columns": columns,
            "null_values": null_values,
            "delimiter": delimiter,
            "encoding": encoding,
        }
        _warn_of_blocking("plan_contact_account_updates")
        return _bulk.Planning(self._core, data, save_as, if_exists, table).wait(progress)

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
        """Plans the updates of many accounts; see `plan_contact_account_updates`. Cancelling the task stops it.

        Args:
            data: The rows, as in `plan_contact_account_updates`.
            save_as: The file of the plan; None keeps it in the user's state directory.
            if_exists: "error", "resume" or "replace".
            mode: "patch", "fill" or "replace".
            nulls: "keep" or "clear".
            match_on: "id", "domain_name" or "name".
            ignore: Columns that are not fields; `"unknown"` for all that are none.
            columns: Which column is which field, such as `{"Website": "domain_name"}`. A column whose
                name differs from a field's only in case, spaces and punctuation need not be listed.
            null_values: Texts that are empty cells, besides `""` and white space.
            delimiter: What separates the fields of a CSV file. By default, its first line tells.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. By default UTF-8, or the one that its byte
                order mark names.
            progress: Whether to show how far it is; a function is called with each new state. Default True.

        Returns:
            The plan.

        Raises:
            ValidationError: The table has a column that cannot be used.
            ReplyError: Any other failure, as the tree in `replyio.errors` says.
        """
        _load_bulk()
        from replyio import _bulk

        table = {
            "mode": mode,
            "nulls": nulls,
            "match_on": match_on,
            "ignore": ignore,
            "columns": columns,
            "null_values": null_values,
            "delimiter": delimiter,
            "encoding": encoding,
        }
        return await _bulk.Planning(self._core, data, save_as, if_exists, table).wait_async(progress)

    def open_plan(self, path: str | os.PathLike[str], *, recover: bool = False, new_key: bool = False) -> replyio.Plan:
        """Opens a plan: to resume it, to revert it, or to look at it.

        Opening never locks the file: a plan can be opened while a run writes it. A row that was in flight when its run
        ended is `unknown`, and the next `Plan.apply` sends it again. `replyio.read_plan` opens a plan without a client.

        Args:
            path: The plan's file.
            recover: Whether to open a plan whose log (`-wal`) is missing, because the file was copied or moved alone
                after a crash. Every row that may have been written becomes `unknown`. Default False: such a file is
                refused.
            new_key: Whether this client's API key is another key of the user who made the plan. Default False: a plan
                that was made with another key is refused.

        Returns:
            The plan.

        Raises:
            PlanError: The file is missing, half written or damaged, lacks its log, or was made for another address,
                user, team or API key.
        """
        _load_bulk()
        from replyio import _bulk

        return _bulk.plan_of(self._core, _replyio.PlanFile.open(self._core, path, recover=recover, new_key=new_key))

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
        """Changes single fields of many accounts: plans and applies at once, when no review is wanted.

        Fields that a row does not name keep their values. The plan is kept, so that it can be resumed or reverted:
        `result.plan`, `result.revert()`. An error that stops the call says where its plan is.

        `GET /v3/contact-accounts` or `GET /v3/contact-accounts/{id}`, then `PUT /v3/contact-accounts/{id}` for each row
        that changes something.

        Args:
            data: The rows, as in `plan_contact_account_updates`.
            save_as: The file of the plan. None (the default) keeps the plan in the user's state directory for 30 days;
                see `replyio.plans`.
            if_exists: What to do when `save_as` is there already: "error" (the default) refuses, "resume" opens the
                plan when it was made from the same rows and options, and refuses otherwise, "replace" plans anew and
                removes the old plan, its previous values included.
            mode: "patch" (the default) changes the columns given, "fill" only fields that are empty. To replace
                accounts, review a plan: `plan_contact_account_updates` has the mode "replace".
            nulls: "keep" (the default) or "clear".
            match_on: "id" (the default), "domain_name" or "name".
            ignore: Columns that are not fields; `"unknown"` for all that are none.
            columns: Which column is which field, such as `{"Website": "domain_name"}`. A column whose
                name differs from a field's only in case, spaces and punctuation need not be listed.
            null_values: Texts that are empty cells, besides `""` and white space.
            delimiter: What separates the fields of a CSV file. By default, its first line tells.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. By default UTF-8, or the one that its byte
                order mark names.
            on_conflict: What happens when somebody changes a field between plan and apply: "skip" (the default) or
                "overwrite".
            on_unknown_member: What happens when an update clears a member that it cannot carry: "stop" (the default) or
                "clear"; see `Plan.apply`.
            max_changes: Nothing is written when the plan would change more accounts than that. Default None: no limit.
            max_cleared: Nothing is written when the plan would empty more fields than that. Default None: no limit.
            progress: Whether to show how far it is; a function is called with each new state. Default True.

        Returns:
            What became of the rows. Rows that failed raise nothing; see `ApplyResult.raise_for_failures`.

        Raises:
            ValidationError: The table has a column that cannot be used.
            PlanError: The file is there already or cannot be written, or the plan would do more than `max_changes` or
                `max_cleared`.
            AuthenticationError: The key is refused; every row stays to be done.
            ReplyError: Any other failure that stops the job.

        Examples:
            >>> import replyio
            >>> client = replyio.ReplyClient()
            >>> result = client.patch_contact_accounts([{"id": 4711, "city": "Bergen"}], progress=False)
            >>> result.counts
            {'changed': 1}
        """
        _load_bulk()
        from replyio import _bulk

        table = {
            "mode": mode,
            "nulls": nulls,
            "match_on": match_on,
            "ignore": ignore,
            "columns": columns,
            "null_values": null_values,
            "delimiter": delimiter,
            "encoding": encoding,
        }
        run = {
            "on_conflict": on_conflict,
            "on_unknown_member": on_unknown_member,
            "max_changes": max_changes,
            "max_cleared": max_cleared,
        }
        _bulk.check_patch(mode, run)
        _warn_of_blocking("patch_contact_accounts")
        planning = _bulk.Planning(self._core, data, save_as, if_exists, table)
        return _bulk.patch(planning, progress, run)

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

        Cancelling the task finishes what is in flight, for five seconds at most.

        Args:
            data: The rows, as in `plan_contact_account_updates`.
            save_as: The file of the plan; None keeps it in the user's state directory.
            if_exists: "error", "resume" or "replace".
            mode: "patch" or "fill".
            nulls: "keep" or "clear".
            match_on: "id", "domain_name" or "name".
            ignore: Columns that are not fields; `"unknown"` for all that are none.
            columns: Which column is which field, such as `{"Website": "domain_name"}`. A column whose
                name differs from a field's only in case, spaces and punctuation need not be listed.
            null_values: Texts that are empty cells, besides `""` and white space.
            delimiter: What separates the fields of a CSV file. By default, its first line tells.
            encoding: The encoding of a CSV file, such as `"windows-1252"`. By default UTF-8, or the one that its byte
                order mark names.
            on_conflict: "skip" or "overwrite".
            on_unknown_member: "stop" or "clear".
            max_changes: The most accounts that may be changed; None for any number.
            max_cleared: The most fields that may be emptied; None for any number.
            progress: Whether to show how far it is; a function is called with each new state. Default True.

        Returns:
            What became of the rows.

        Raises:
            ValidationError: The table has a column that cannot be used.
            ReplyError: Any other failure that stops the job.
        """
        _load_bulk()
        from replyio import _bulk

        table = {
            "mode": mode,
            "nulls": nulls,
            "match_on": match_on,
            "ignore": ignore,
            "columns": columns,
            "null_values": null_values,
            "delimiter": delimiter,
            "encoding": encoding,
        }
        run = {
            "on_conflict": on_conflict,
            "on_unknown_member": on_unknown_member,
            "max_changes": max_changes,
            "max_cleared": max_cleared,
        }
        _bulk.check_patch(mode, run)
        planning = _bulk.Planning(self._core, data, save_as, if_exists, table)
        return await _bulk.patch_async(planning, progress, run)

    def quota_left(self) -> QuotaLeft | None:
        """Returns what is left of the quota, as far as this machine knows. Sends nothing.

        Requests that wait for their turn count as used.

        Returns:
            What is left; None when this client has no quota.

        Raises:
            ReplyError: When the client cannot be made in this process.
        """
        left = self._core.quota_left()
        return None if left is None else QuotaLeft(*left)

    def close(self) -> None:
        """Gives connections and threads back. A later call opens new ones."""
        self._core.close()

    async def aclose(self) -> None:
        """Gives connections and threads back, as `close` does; calls that other tasks wait for fail."""
        self._core.close()

    def __enter__(self) -> Self:
        """The client itself."""
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
        """The client itself."""
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
        """The address, and never the key."""
        core = getattr(self, "_core", None)  # not there while its settings are being refused
        return f"<ReplyClient for {core.base_url}>" if core else "<ReplyClient without settings>"

    def __reduce__(self) -> tuple[Callable[..., ReplyClient], tuple[dict[str, Any]]]:
        """The settings, without the key unless that was asked for.

        Raises:
            ConfigurationError: When the key was given in code: whoever loads the pickle would use another one.
        """
        if self._withheld:
            from replyio.errors import ConfigurationError

            raise ConfigurationError(
                f"this client cannot be pickled: {' and '.join(self._withheld)} would be missing where it is loaded; "
                "hint: give pickle_api_key=True to ReplyClient, or set REPLY_API_KEY in place of api_key="
            )
        return _unpickle, (self._pickled,)

    def __copy__(self) -> ReplyClient:
        """A client with the same settings over the same connections."""
        return self.with_options()

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplyClient:
        """A client with the same settings over the same connections."""
        return self.with_options()


_fields_are_shown = False


def _show_fields() -> None:
    """Has the calls name every field to whoever asks for their signature, as notebooks do."""
    global _fields_are_shown  # noqa: PLW0603 - once for all clients
    if not _fields_are_shown:
        _fields_are_shown = True
        from replyio._signatures import show_fields

        show_fields(ReplyClient)


# Without these nobody can ask, and to import them costs more than the rest of the package.
if "inspect" in sys.modules or "typing" in sys.modules:
    _show_fields()


def _unpickle(settings: dict[str, Any]) -> ReplyClient:
    """Makes a client again from its pickle."""
    try:
        return ReplyClient(**settings)
    finally:
        del settings


def _load_bulk() -> None:
    """Imports what bulk calls need. It costs more than all the rest, so that it is imported when it is first used.

    Raises:
        TransportError: When a module's file cannot be read, as when no file descriptor is left.
    """
    try:
        import_module("replyio._bulk")
    except OSError as error:
        from replyio.errors import TransportError

        message = f"no request was sent: a part of this package cannot be read: {error.strerror}"
        hint = "close files and connections, or raise the limit of this process (ulimit -n)"
        raise TransportError(f"{message}; hint: {hint}") from None


def _warn(message: str) -> None:
    """Warns whoever called the method that calls this."""
    import warnings

    from replyio.errors import ReplyWarning

    warnings.warn(_replyio.safe_text(message), ReplyWarning, stacklevel=3)


def _is_in_a_loop() -> bool:
    """Whether an event loop runs in this thread. Nothing is imported to find out: that may need a file descriptor."""
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None  # noqa: SLF001 - documented for its speed


def _warn_of_blocking(call: str) -> None:
    """Warns when a synchronous call would hold an event loop up, for a program that has loaded asyncio."""
    if _is_in_a_loop():
        from replyio._blocking import warn_if_it_blocks_a_loop

        warn_if_it_blocks_a_loop(f"{call}()", f"await {call}_async()")


def _running_loop() -> AbstractEventLoop:
    """The running event loop. Replaced by asyncio's own function when it is first called."""
    global _running_loop  # noqa: PLW0603 - one look-up less in every call
    from asyncio import get_running_loop

    _running_loop = get_running_loop
    return get_running_loop()


class _Pages:
    """What both iterators share: the pages, and what has been taken of them."""

    __slots__ = ("_given", "_listing", "_page", "_ready", "_waiting")

    def __init__(self, listing: _replyio.Listing) -> None:
        self._given = 0
        self._listing = listing
        self._page: _replyio.Batch | None = None
        self._ready: Iterator[ContactAccount] = iter(())
        self._waiting: list[_replyio.Batch] = []

    def _begin(self, page: _replyio.Batch) -> None:
        """Goes on with a page."""
        self._page = page
        self._ready = iter(page.accounts())
        self._given += len(page)

    def _left(self) -> int:
        """How many accounts have been read and not yet been given."""
        return length_hint(self._ready) + sum(map(len, self._waiting))

    def _refuse_a_second_table(self) -> None:
        """Refuses a table of nothing, which would look like a service without accounts.

        Raises:
            ReplyError: When all accounts have been given.
        """
        if self._listing.finished and self._given and not self._left():
            from replyio.errors import ReplyError

            given = f"{self._given:,} account{'' if self._given == 1 else 's'}"
            hint = "keep the table that it made, or call list_contact_accounts() again"
            raise ReplyError(f"this list has already given all of its {given}; hint: {hint}")

    def _take(self) -> list[_replyio.Batch]:
        """Takes what has been read and not yet been given."""
        pages, self._waiting = self._waiting, []
        self._given += sum(map(len, pages))
        left = length_hint(self._ready)
        if self._page is not None and left:
            pages.insert(0, self._page.last(left))
            self._ready = iter(())
        return pages

    def __repr__(self) -> str:
        """How many accounts it has given, and what can be done with it."""
        given = self._given - length_hint(self._ready)
        if self._listing.finished and not self._left():
            return f"<{type(self).__name__}: all {given:,} accounts given; list again to read them again>"
        loop = (
            "async for account in it, or await it"
            if isinstance(self, AsyncContactAccountIterator)
            else "iterate, or it"
        )
        return f"<{type(self).__name__}: {given:,} accounts given so far; {loop}.to_pandas() or .to_polars()>"


class ContactAccountIterator(_Pages):
    """An iterator over contact accounts that reads pages as they are needed.

    As a table it gives the accounts that iterating has not given yet, and leaves none. `pandas`, `polars`, `pyarrow`
    and DuckDB read it directly, through `__arrow_c_stream__`.
    """

    __slots__ = ()

    def __iter__(self) -> Self:
        """The iterator itself."""
        return self

    def __next__(self) -> ContactAccount:
        """The next account; reads a page where none is at hand.

        Returns:
            The account.

        Raises:
            ReplyError: When the page cannot be read; the next call tries it again.
        """
        while True:
            for account in self._ready:
                return account
            if self._waiting:
                self._begin(self._waiting.pop(0))
            elif self._listing.finished:
                raise StopIteration
            else:
                self._begin(self._next_page())

    def _next_page(self) -> _replyio.Batch:
        """Reads the next page."""
        if _is_in_a_loop():
            from replyio._blocking import warn_if_it_blocks_a_loop

            warn_if_it_blocks_a_loop("list_contact_accounts()", "list_contact_accounts_async() with async for")
        return self._listing.next_page()

    def _remaining_pages(self) -> list[_replyio.Batch]:
        """Reads all pages that are left. Those read before one that fails wait for the next call."""
        self._refuse_a_second_table()
        while not self._listing.finished:
            self._waiting.append(self._next_page())
        return self._take()

    def to_pandas(self) -> pandas.DataFrame:
        """Reads the accounts that are left into a pandas frame.

        Returns:
            A frame with a row for each account; the stage is spread over `stage_id`, `stage_name`, `stage_color_id`.

        Raises:
            ReplyError: When a page cannot be read.
            ImportError: When pandas is not installed.
        """
        import_module("pandas")  # before any request
        return _to_pandas(self._remaining_pages())

    def to_polars(self) -> polars.DataFrame:
        """Reads the accounts that are left into a polars frame.

        Returns:
            A frame with a row for each account; the stage is spread over `stage_id`, `stage_name`, `stage_color_id`.

        Raises:
            ReplyError: When a page cannot be read.
            ImportError: When polars is not installed.
        """
        import_module("polars")  # before any request
        return _to_polars(self._remaining_pages())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType:
        """Reads the accounts that are left into an Arrow stream, a record batch for each page.

        Args:
            requested_schema: Ignored, as the interface allows.

        Returns:
            A capsule with the stream, by the Arrow PyCapsule interface.

        Raises:
            ReplyError: When a page cannot be read.
        """
        return _replyio.ArrowStream(self._remaining_pages()).__arrow_c_stream__(requested_schema)


class AsyncContactAccountIterator(_Pages):
    """An asynchronous iterator over contact accounts that reads pages as they are needed.

    As a table it gives the accounts that iterating has not given yet, and leaves none.
    """

    __slots__ = ()

    def __aiter__(self) -> Self:
        """The iterator itself."""
        return self

    async def __anext__(self) -> ContactAccount:
        """The next account; reads a page where none is at hand.

        Returns:
            The account.

        Raises:
            ReplyError: When the page cannot be read; the next call tries it again.
        """
        while True:
            for account in self._ready:
                return account
            if self._waiting:
                self._begin(self._waiting.pop(0))
            elif self._listing.finished:
                raise StopAsyncIteration
            else:
                self._begin(await self._next_page())

    async def _next_page(self) -> _replyio.Batch:
        """Reads the next page."""
        pending = self._listing.next_page(_running_loop())
        try:
            return await pending.future
        finally:
            pending.close()

    async def _remaining_pages(self) -> list[_replyio.Batch]:
        """Reads all pages that are left. Those read before one that fails wait for the next call."""
        self._refuse_a_second_table()
        while not self._listing.finished:
            self._waiting.append(await self._next_page())
        return self._take()

    async def to_pandas(self) -> pandas.DataFrame:
        """Reads the accounts that are left into a pandas frame; see `ContactAccountIterator.to_pandas`.

        Returns:
            A frame with a row for each account.

        Raises:
            ReplyError: When a page cannot be read.
            ImportError: When pandas is not installed.
        """
        import_module("pandas")  # before any request
        return _to_pandas(await self._remaining_pages())

    async def to_polars(self) -> polars.DataFrame:
        """Reads the accounts that are left into a polars frame; see `ContactAccountIterator.to_polars`.

        Returns:
            A frame with a row for each account.

        Raises:
            ReplyError: When a page cannot be read.
            ImportError: When polars is not installed.
        """
        import_module("polars")  # before any request
        return _to_polars(await self._remaining_pages())


def _to_pandas(pages: list[_replyio.Batch]) -> pandas.DataFrame:
    """A pandas frame of pages: from Arrow where pyarrow is there, else from lists. The types are the same."""
    import pandas

    from replyio import models

    types = models.column_types(pandas.Series(["text"]).dtype)
    try:
        table = import_module("pyarrow").table(_replyio.ArrowStream(pages))
    except ImportError:
        values = models.columns([account for page in pages for account in page.accounts()])
    else:
        values = models.arrow_columns(table, types)
    return pandas.DataFrame({name: pandas.Series(values.pop(name), dtype=types[name]) for name in list(values)})


def _to_polars(pages: list[_replyio.Batch]) -> polars.DataFrame:
    """A polars frame of pages."""
    import polars

    return polars.DataFrame(_replyio.ArrowStream(pages))
