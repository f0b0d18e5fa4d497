"""The pytest plugin of replyio: the fixture `reply_sandbox`.

pytest loads it through the package's entry point. It imports replyio only when a test uses the fixture.
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
def reply_sandbox(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    """Returns a `replyio.sandbox.Sandbox` for this test, stopped after it.

    During the test, `REPLY_BASE_URL` and `REPLY_API_KEY` are those of the sandbox, so that code that calls
    `replyio.ReplyClient()` never sends to the live service with the key of the user. `REPLYIO_STATE_DIR` is a temporary
    folder, so that the plans of a test are not among those of the user.

    The options of the sandbox come from the marker: `@pytest.mark.reply_sandbox(quota=(100, 3000))`. Several markers
    combine, and the one nearest to the test has precedence.
    """
    import inspect

    from replyio.sandbox import Sandbox

    signature = inspect.signature(Sandbox)
    options: dict[str, object] = {}
    for marker in request.node.iter_markers("reply_sandbox"):
        options = signature.bind_partial(*marker.args, **marker.kwargs).arguments | options
    monkeypatch.setenv("REPLYIO_STATE_DIR", str(tmp_path_factory.mktemp("replyio")))
    with Sandbox(**options) as sandbox, sandbox.environment():  # type: ignore[arg-type]
        yield sandbox
