"""What every test starts from: a clean environment, and a service of its own where it asks for one."""

from __future__ import annotations

import logging
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replyio.sandbox import Sandbox

_TOLD = pytest.StashKey[list[str]]()
_FOREIGN = re.compile(r"REPLY_\w+|\w+_PROXY|SSL_CERT_(FILE|DIR)", re.IGNORECASE)


def pytest_configure() -> None:
    """Takes Ctrl-C back: a shell ignores it for what runs in the background, and each child inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the settings of the machine away from the tests, and their files away from those of its user."""
    for name in list(os.environ):
        if _FOREIGN.fullmatch(name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REPLYIO_STATE_DIR", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def _quiet_logger() -> Iterator[None]:
    """Keeps the level that a page or a command sets for its logger away from the next tests."""
    logger = logging.getLogger("replyio")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def reliability(
    pytestconfig: pytest.Config, record_testsuite_property: Callable[[str, object], None]
) -> Callable[..., None]:
    """Says how often something was tried, in the last lines of the run and in its report."""
    lines = pytestconfig.stash.setdefault(_TOLD, [])
    # Of several processes the one that reports runs no test: the others hand it their lines at their end.
    getattr(pytestconfig, "workeroutput", {})["told"] = lines

    def tell(what: str, **counts: int) -> None:
        lines.append(f"{what}: {' '.join(f'{name}={count}' for name, count in counts.items())}")
        record_testsuite_property("reliability", lines[-1])

    return tell


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes the lines of `reliability` from a process that has run tests."""
    told = getattr(node, "workeroutput", {}).get("told", [])
    node.config.stash.setdefault(_TOLD, []).extend(told)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Writes the lines of `reliability`."""
    for line in config.stash.get(_TOLD, []):
        terminalreporter.write_line(f"reliability: {line}")


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
