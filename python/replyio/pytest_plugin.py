"""The pytest plugin of replyio: the fixtures `reply_sandbox` and `reply_sandbox_environment`.

It is loaded through the package's entry point. Nothing of replyio is imported before the fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from replyio.sandbox import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known."""
    config.addinivalue_line("markers", "reply_sandbox(**options): options of replyio.sandbox.Sandbox for this test.")


@pytest.fixture
def reply_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A `replyio.sandbox.Sandbox` of this test's own, stopped behind it.

    Its options come from the marker: `@pytest.mark.reply_sandbox(quota=(100, 3000))`. Several markers add up, the one
    nearest to the test wins.
    """
    from replyio.sandbox import Sandbox

    options: dict[str, object] = {}
    for marker in request.node.iter_markers("reply_sandbox"):
        options = marker.kwargs | options
    with Sandbox(**options) as sandbox:  # type: ignore[arg-type]
        yield sandbox


@pytest.fixture
def reply_sandbox_environment(reply_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox of `reply_sandbox`, with `REPLY_BASE_URL` and `REPLY_API_KEY` set for the time of the test.

    Code under test that calls `replyio.ReplyClient()` finds it.
    """
    with reply_sandbox.environment():
        yield reply_sandbox
