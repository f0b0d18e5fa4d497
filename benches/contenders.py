"""Lists the HTTP clients that are compared, and how each sends one update.

Every contender is used the way its documentation says: one client, reused, the key in its headers. The peers get their
own `json=` (or `json.dumps`), raise for a bad status and parse to a plain dict; none of them retries, validates,
or builds typed values, all of which replyio does with its defaults. `quota=None` is the only setting replyio gets,
since a quota of 95 a minute would be all that is measured.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Call = Callable[[int], int]
"""Updates the account of this id and returns the id in the answer."""
AsyncCall = Callable[[int], Awaitable[int]]
Mode = Literal["sequential", "in-flight", "threads"]

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
        return self.name.replace("-async", " async").replace("-uvloop", " + uvloop").replace("-shared", ", one session")

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
def _httpx(base_url: str) -> Iterator[Call]:
    import httpx

    with httpx.Client(headers=HEADERS) as client:

        def call(account_id: int) -> int:
            response = client.put(_url(base_url, account_id), json=FIELDS)
            response.raise_for_status()
            account: dict[str, Any] = response.json()
            return int(account["id"])

        yield call


@asynccontextmanager
async def _httpx_async(base_url: str) -> AsyncIterator[AsyncCall]:
    import httpx

    # Its own limits: keeping all 64 connections made it 2.5 times slower, its pool searches them one by one.
    async with httpx.AsyncClient(headers=HEADERS) as client:

        async def call(account_id: int) -> int:
            response = await client.put(_url(base_url, account_id), json=FIELDS)
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
_ASYNC: tuple[Mode, ...] = ("sequential", "in-flight")

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("native", _ASYNC),
        Contender("replyio", _SYNC, ("replyio",), open=_replyio),
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
    )
}
