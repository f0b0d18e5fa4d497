"""What several test files share: a call in either mode, the page's own example, a program in a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from replyio import ContactAccount, ReplyClient, ValidationError
    from replyio.sandbox import Sandbox

MODES = ["sync", "async"]

# The body of the contract's page.
PAGE_EXAMPLE: dict[str, Any] = {
    "name": "<string>",
    "description": "<string>",
    "domainName": "<string>",
    "domainSecondary": "<string>",
    "industry": "<string>",
    "companySize": "Empty",
    "country": "<string>",
    "state": "<string>",
    "city": "<string>",
    "timeZoneId": "<string>",
    "linkedInUrl": "<string>",
    "phone": "<string>",
    "twitterUrl": "<string>",
    "logoUrl": "<string>",
    "email": "<string>",
    "ownerUserId": 123,
}

# The names on the page and the names in Python.
NAMES = {
    "name": "name",
    "description": "description",
    "domainName": "domain_name",
    "domainSecondary": "domain_secondary",
    "industry": "industry",
    "companySize": "company_size",
    "country": "country",
    "state": "state",
    "city": "city",
    "timeZoneId": "time_zone_id",
    "linkedInUrl": "linked_in_url",
    "phone": "phone",
    "twitterUrl": "twitter_url",
    "logoUrl": "logo_url",
    "email": "email",
    "ownerUserId": "owner_user_id",
}
FIELDS = list(NAMES.values())
TEXT_FIELDS = [name for name in FIELDS if name not in {"name", "company_size", "owner_user_id"}]

# The answer of the contract's page.
PAGE_ANSWER: dict[str, Any] = PAGE_EXAMPLE | {
    "id": 123,
    "linkedProspectsCount": 123,
    "createdDate": "2023-11-07T05:31:56Z",
    "lastActivityDate": "2023-11-07T05:31:56Z",
    "stage": {"id": 123, "name": "<string>", "colorId": 123},
}


def call(client: ReplyClient, operation: str, mode: str, *arguments: Any, **keywords: Any) -> Any:
    """Calls an operation, or its asynchronous twin in an event loop of its own."""
    if mode == "sync":
        return getattr(client, operation)(*arguments, **keywords)

    async def main() -> Any:
        return await getattr(client, f"{operation}_async")(*arguments, **keywords)

    return asyncio.run(main())


def listed(client: ReplyClient, mode: str, *arguments: Any, **keywords: Any) -> list[ContactAccount]:
    """All accounts of a list, by iterating over it."""
    if mode == "sync":
        return list(client.list_contact_accounts(*arguments, **keywords))

    async def main() -> list[ContactAccount]:
        return [account async for account in client.list_contact_accounts_async(*arguments, **keywords)]

    return asyncio.run(main())


def has_a_line_for_each_fault(error: ValidationError) -> bool:
    """Returns whether a single fault is told in one line, and several below a first line, at most ten of them."""
    faults = len(error.errors)
    return str(error).count("\n") == (0 if faults == 1 else min(faults, 10) + (faults > 10))


def sent(sandbox: Sandbox) -> list[str]:
    """The methods of the requests that arrived."""
    return [request.method for request in sandbox.requests]


def body(sandbox: Sandbox) -> Any:
    """The body of the last request."""
    return sandbox.requests[-1].body


def program(code: str) -> list[str]:
    """The command that runs a program in a process of its own."""
    return [sys.executable, "-c", textwrap.dedent(code)]


def environment(sandbox: Sandbox | None = None, **more: str) -> dict[str, str]:
    """The environment of such a program, in which `ReplyClient()` finds the sandbox."""
    found = {"REPLY_BASE_URL": sandbox.url, "REPLY_API_KEY": "a-key-for-the-sandbox"} if sandbox else {}
    return {**os.environ, **found, **more}


def run(
    code: str, sandbox: Sandbox | None = None, *, timeout: float = 60, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end."""
    return subprocess.run(
        program(code),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(sandbox, **(variables or {})),
    )


@contextmanager
def refusing_port(port: int = 0) -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections, and that the system gives to nobody else meanwhile.

    Tests run side by side: a port that was free a moment ago is another test's server now. Who asks for this one by
    its number may listen on it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        yield holder.getsockname()[1]
