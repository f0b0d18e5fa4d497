"""Lists the HTTP clients that are compared, and how each sends one update.

Every contender is used the way its documentation says: one client, reused, the key in its headers. The peers get their
own `json=` (or `json.dumps`), raise for a bad status and parse to a plain dict; none of them retries, validates,
or builds typed values, all of which replyio does with its defaults. replyio is measured twice: without a quota, and as
users have it, with a quota on, since 95 requests a minute would be all that is measured. A quota that is shared by the
processes of a user, as by default, holds 4,096 requests an hour: so many calls at most, in a state directory of their
own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

Call = Callable[[int], int]
"""Updates the account of this id and returns the id in the answer."""
AsyncCall = Callable[[int], Awaitable[int]]
Mode = Literal["sequential", "in-flight", "threads", "gather"]

DATA = Path(__file__).parent / "data"
FIELDS: dict[str, Any] = json.loads((DATA / "fields.json").read_text())
"""The sixteen fields in the spelling of the wire."""
KEYWORDS: dict[str, Any] = {re.sub(r"(?=[A-Z])", "_", name).lower(): value for name, value in FIELDS.items()}
"""The same in Python's spelling."""
HEADERS = {"X-API-Key": "k"}
CONCURRENCY = 64
THREADS = 16


@dataclass(frozen=True)
class Contender:
    """One way to make the call."""

    name: str
    """As `--only` takes it and the raw results hold it."""
    modes: tuple[Mode, ...]
    """What it is measured in."""
    modules: tuple[str, ...] = ()
    """What must be installed, the distribution that gives its version first."""
    open: Callable[[str], AbstractContextManager[Call]] | None = None
    """A client for a base URL, for the calling thread's use."""
    open_async: Callable[[str], AbstractAsyncContextManager[AsyncCall]] | None = None
    client_per_thread: bool = False
    """Whether sixteen threads open sixteen clients instead of sharing one."""
    uvloop: bool = False
    """Whether its event loop is uvloop's."""
    share: int = 1
    """It makes a fraction of the calls that the fast ones make, to keep the run short."""

    @property
    def label(self) -> str:
        """As tables and the plot show it."""
        if self.name == "native":
            return "native reqwest"
        parts = {"-async": " async", "-quota": ", quota on", "-uvloop": " + uvloop", "-shared": ", one session"}
        label = self.name
        for part, words in parts.items():
            label = label.replace(part, words)
        return label

    def missing(self) -> list[str]:
        """The modules that are not installed."""
        return [module for module in self.modules if importlib.util.find_spec(module) is None]


def _url(base_url: str, account_id: int) -> str:
    return f"{base_url}/contact-accounts/{account_id}"


@contextmanager
def _replyio(base_url: str) -> Iterator[Call]:
    from replyio import ReplyClient

    client = ReplyClient(api_key="k", base_url=base_url, quota=None)

    def call(account_id: int) -> int:
        account = client.update_contact_account(account_id, **KEYWORDS)
        return int(account.id)

    yield call
    client.close()


@asynccontextmanager
async def _replyio_async(base_url: str) -> AsyncIterator[AsyncCall]:
    from replyio import ReplyClient

    client = ReplyClient(api_key="k", base_url=base_url, quota=None)

    async def call(account_id: int) -> int:
        account = await client.update_contact_account_async(account_id, **KEYWORDS)
        return int(account.id)

    yield call
    client.close()


SHARED_AT_MOST = 4_096
"""Requests an hour of the largest quota that processes share."""


@contextmanager
def _replyio_with_quota(base_url: str) -> Iterator[Call]:
    """With the quota in a file, as by default, and so large that nothing waits."""
    from replyio import Quota, ReplyClient

    with tempfile.TemporaryDirectory() as folder:
        os.environ["REPLYIO_STATE_DIR"] = folder
        quota = Quota(SHARED_AT_MOST, SHARED_AT_MOST)
        client = ReplyClient(api_key="k", base_url=base_url, quota=quota)

        def call(account_id: int) -> int:
            account = client.update_contact_account(account_id, **KEYWORDS)
            return int(account.id)

        yield call
        shared = client.quota_left()
        client.close()
        if not (shared and shared.shared):
            raise SystemExit("the quota was not shared")


@asynccontextmanager
async def _replyio_async_with_quota(base_url: str) -> AsyncIterator[AsyncCall]:
    """With the quota of one process: the shared one holds fewer calls than these modes make."""
    from replyio import Quota, ReplyClient

    quota = Quota(10_000_000, 100_000_000, shared=False)
    client = ReplyClient(api_key="k", base_url=base_url, quota=quota)

    async def call(account_id: int) -> int:
        account = await client.update_contact_account_async(account_id, **KEYWORDS)
        return int(account.id)

    yield call
    client.close()


@contextmanager
def _requests(base_url: str, pool: int = 10) -> Iterator[Call]:
    import requests
    from requests.adapters import HTTPAdapter

    with requests.Session() as session:
        session.headers.update(HEADERS)
        session.mount("http://", HTTPAdapter(pool_maxsize=pool))

        def call(account_id: int) -> int:
            response = session.put(_url(base_url, account_id), json=FIELDS)
            response.raise_for_status()
            account: dict[str, Any] = response.json()
            return int(account["id"])

        yield call


def _requests_shared(base_url: str) -> AbstractContextManager[Call]:
    return _requests(base_url, pool=THREADS)


@contextmanager
def _httpx(base_url: str, library: str = "httpx") -> Iterator[Call]:
    """Also opens httpx2, which has the same interface."""
    with import_module(library).Client(headers=HEADERS) as client:

        def call(account_id: int) -> int:
            response = client.put(_url(base_url, account_id), json=FIELDS)
            response.raise_for_status()
            account: dict[str, Any] = response.json()
            return int(account["id"])

        yield call


@asynccontextmanager
async def _httpx_async(base_url: str, library: str = "httpx") -> AsyncIterator[AsyncCall]:
    # Its own limits: keeping all 64 connections made it 2.5 times slower, its pool searches them one by one.
    async with import_module(library).AsyncClient(headers=HEADERS) as client:

        async def call(account_id: int) -> int:
            response = await client.put(_url(base_url, account_id), json=FIELDS)
            response.raise_for_status()
            account: dict[str, Any] = response.json()
            return int(account["id"])

        yield call


@contextmanager
def _niquests(base_url: str) -> Iterator[Call]:
    import niquests

    with niquests.Session() as session:
        session.headers.update(HEADERS)

        def call(account_id: int) -> int:
            response = session.put(_url(base_url, account_id), json=FIELDS)
            response.raise_for_status()
            account: dict[str, Any] = response.json()
            return int(account["id"])

        yield call


@asynccontextmanager
async def _niquests_async(base_url: str) -> AsyncIterator[AsyncCall]:
    import niquests

    async with niquests.AsyncSession() as session:
        session.headers.update(HEADERS)

        async def call(account_id: int) -> int:
            response = await session.put(_url(base_url, account_id), json=FIELDS)
            response.raise_for_status()
            account: dict[str, Any] = response.json()
            return int(account["id"])

        yield call


@asynccontextmanager
async def _aiohttp(base_url: str) -> AsyncIterator[AsyncCall]:
    import aiohttp

    async with aiohttp.ClientSession(headers=HEADERS, raise_for_status=True) as session:

        async def call(account_id: int) -> int:
            async with session.put(_url(base_url, account_id), json=FIELDS) as response:
                account: dict[str, Any] = await response.json()
                return int(account["id"])

        yield call


@contextmanager
def _pycurl(base_url: str) -> Iterator[Call]:
    import pycurl

    curl = pycurl.Curl()
    curl.setopt(pycurl.CUSTOMREQUEST, "PUT")
    curl.setopt(pycurl.HTTPHEADER, ["X-API-Key: k", "Content-Type: application/json"])
    curl.setopt(pycurl.FAILONERROR, True)
    curl.setopt(pycurl.NOSIGNAL, True)

    def call(account_id: int) -> int:
        curl.setopt(pycurl.URL, _url(base_url, account_id))
        curl.setopt(pycurl.POSTFIELDS, json.dumps(FIELDS))
        account: dict[str, Any] = json.loads(curl.perform_rb())
        return int(account["id"])

    yield call
    curl.close()


@contextmanager
def _pyreqwest(base_url: str) -> Iterator[Call]:
    from pyreqwest.client import SyncClientBuilder

    builder = SyncClientBuilder().default_headers(HEADERS).error_for_status(True)
    with builder.build() as client:

        def call(account_id: int) -> int:
            request = client.put(_url(base_url, account_id)).body_json(FIELDS).build()
            account: dict[str, Any] = request.send().json()
            return int(account["id"])

        yield call


@asynccontextmanager
async def _pyreqwest_async(base_url: str) -> AsyncIterator[AsyncCall]:
    from pyreqwest.client import ClientBuilder

    builder = ClientBuilder().default_headers(HEADERS).error_for_status(True)
    async with builder.build() as client:

        async def call(account_id: int) -> int:
            request = client.put(_url(base_url, account_id)).body_json(FIELDS).build()
            response = await request.send()
            account: dict[str, Any] = await response.json()
            return int(account["id"])

        yield call


_SYNC: tuple[Mode, ...] = ("sequential", "threads")
_ASYNC: tuple[Mode, ...] = ("sequential", "in-flight", "gather")

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("native", ("sequential", "in-flight")),
        Contender("replyio", _SYNC, ("replyio",), open=_replyio),
        Contender("replyio-quota", ("sequential",), ("replyio",), open=_replyio_with_quota, share=3),
        Contender("replyio-async-quota", _ASYNC, ("replyio",), open_async=_replyio_async_with_quota),
        Contender(
            "replyio-async-quota-uvloop",
            _ASYNC,
            ("replyio", "uvloop"),
            open_async=_replyio_async_with_quota,
            uvloop=True,
        ),
        Contender("replyio-async", _ASYNC, ("replyio",), open_async=_replyio_async),
        Contender(
            "replyio-async-uvloop",
            _ASYNC,
            ("replyio", "uvloop"),
            open_async=_replyio_async,
            uvloop=True,
        ),
        Contender("pyreqwest", _SYNC, ("pyreqwest",), open=_pyreqwest),
        Contender("pyreqwest-async", _ASYNC, ("pyreqwest",), open_async=_pyreqwest_async),
        Contender(
            "pyreqwest-async-uvloop",
            _ASYNC,
            ("pyreqwest", "uvloop"),
            open_async=_pyreqwest_async,
            uvloop=True,
        ),
        Contender("pycurl", _SYNC, ("pycurl",), open=_pycurl, client_per_thread=True),
        Contender("aiohttp", _ASYNC, ("aiohttp",), open_async=_aiohttp, share=5),
        Contender("aiohttp-uvloop", _ASYNC, ("aiohttp", "uvloop"), open_async=_aiohttp, uvloop=True, share=5),
        Contender("requests", _SYNC, ("requests",), open=_requests, client_per_thread=True, share=5),
        Contender("requests-shared", ("threads",), ("requests",), open=_requests_shared, share=5),
        Contender("httpx", _SYNC, ("httpx",), open=_httpx, share=5),
        Contender("httpx-async", _ASYNC, ("httpx",), open_async=_httpx_async, share=20),
        Contender("httpx2", _SYNC, ("httpx2",), open=partial(_httpx, library="httpx2"), share=5),
        Contender("httpx2-async", _ASYNC, ("httpx2",), open_async=partial(_httpx_async, library="httpx2"), share=20),
        Contender("niquests", _SYNC, ("niquests",), open=_niquests, client_per_thread=True, share=5),
        Contender("niquests-async", _ASYNC, ("niquests",), open_async=_niquests_async, share=20),
    )
}
