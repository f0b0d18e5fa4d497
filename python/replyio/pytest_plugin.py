"""The pytest plugin of replyio: the fixtures `reply_sandbox` and `reply_sandbox_environment`.

pytest loads it through the package's entry point. It imports replyio only when a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from replyio.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker."""
    config.addinivalue_line("markers", "reply_sandbox(**options): options of replyio.sandbox.Sandbox for this test.")


@pytest.fixture
def reply_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Returns a `replyio.sandbox.Sandbox` for this test, and stops it after the test.

    To set options of the sandbox, use the marker: `@pytest.mark.reply_sandbox(quota=(100, 3000))`. Several markers
    combine; the one nearest to the test has precedence.
    """
    from replyio.sandbox import Sandbox

    options: dict[str, object] = {}
    for marker in request.node.iter_markers("reply_sandbox"):
        options = marker.kwargs | options
    with Sandbox(**options) as sandbox:  # type: ignore[arg-type]
        yield sandbox


@pytest.fixture
def reply_sandbox_environment(
    reply_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    """Returns the sandbox of `reply_sandbox`, with `REPLY_BASE_URL` and `REPLY_API_KEY` set during the test.

    If the code under test calls `replyio.ReplyClient()`, it uses this sandbox. `REPLYIO_STATE_DIR` is a temporary
    folder, so that the plans of a test are not among those of the user.
    """
    monkeypatch.setenv("REPLYIO_STATE_DIR", str(tmp_path_factory.mktemp("replyio")))
    with reply_sandbox.environment():
        yield reply_sandbox
