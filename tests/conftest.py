"""What every test starts from: a clean environment, and a service of its own where it asks for one."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replyio.sandbox import Sandbox

_FOREIGN = re.compile(r"REPLY_\w+|\w+_PROXY|SSL_CERT_(FILE|DIR)", re.IGNORECASE)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the settings of the machine away from the tests."""
    for name in list(os.environ):
        if _FOREIGN.fullmatch(name):
            monkeypatch.delenv(name)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with its three accounts, 4711 to 4713."""
    from replyio.sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def configured(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox that `ReplyClient()` finds by itself, through the environment."""
    monkeypatch.setenv("REPLY_BASE_URL", sandbox.url)
    monkeypatch.setenv("REPLY_API_KEY", "a-key-for-the-sandbox")
    return sandbox
