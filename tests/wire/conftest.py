"""Fixtures of the tests of the wire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .checks import Survival
from .hostile import Hostile


@pytest.fixture
def survival(capfd: pytest.CaptureFixture[str]) -> Survival:
    """The six checks around a fault."""
    return Survival(capfd)


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    """A hostile server that is honest until it is told what to play."""
    with Hostile() as server:
        yield server
