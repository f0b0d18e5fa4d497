"""Fixtures of the tests of the wire."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from .certificates import Authority
from .checks import Survival


@pytest.fixture(scope="package", autouse=True)
def _frozen() -> Iterator[None]:
    """Spares the collections of each test what was there before the first of them.

    Two in every test go through all that is alive: modules, and thousands of tests. That took longer than the tests.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def survival(capfd: pytest.CaptureFixture[str]) -> Survival:
    """The six checks around a fault."""
    return Survival(capfd)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the clients are told to trust."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))
