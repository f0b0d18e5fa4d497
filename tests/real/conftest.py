"""Real programs around a sandbox: nginx in front of it, mitmproxy as the proxy of a company, Chromium as a reader.

A program that is not here leaves its tests out, and the last lines of the run say so in one. In CI it fails them.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from replyio.sandbox import Sandbox

from .checks import PASSWORD, USER, Day
from .programs import Chromium, Mitmdump, Nginx, find

NOT_HERE = "a program is not installed: "

StartNginx = Callable[..., Nginx]

# On Windows nginx has no reload worth the name and a killed process takes none of its children along.
collect_ignore_glob = ["test_*.py"] if sys.platform == "win32" else []


def _program(name: str, *other_names: str) -> Path:
    found = next(filter(None, map(find, (name, *other_names))), None)
    if found is None:
        # GitHub sets CI on macOS too, where nobody promised nginx.
        if os.environ.get("CI", "").lower() in {"1", "true"} and sys.platform == "linux":
            pytest.fail(f"{name} is not installed, and CI leaves no test out: .ci/run and `make test` install it")
        pytest.skip(NOT_HERE + name)
    return found


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Says in one line, behind all others, what was left out."""
    yield
    reasons = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    missing = Counter(reason.split(NOT_HERE)[1].rstrip("')") for reason in reasons if NOT_HERE in reason)
    told = [f"{count} that need {name}" for name, count in sorted(missing.items())]
    if sys.platform == "win32":
        told = ["all, whose programs are not for Windows"]
    if told:
        line = f"left out of tests/real/: {' and '.join(told)}; CONTRIBUTING.md says how to get what is missing"
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture
def day(sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Day]:
    """The clients of a test, with the checks behind it."""
    day = Day(sandbox, caplog)
    day.log_everything()
    yield day
    day.end(*capfd.readouterr())


@pytest.fixture
def nginx(sandbox: Sandbox, tmp_path: Path) -> Iterator[StartNginx]:
    """Starts an nginx in front of the sandbox; its arguments are those of `Nginx`."""
    program = _program("nginx")
    running: list[Nginx] = []

    def start(**options: Any) -> Nginx:
        folder = tmp_path / f"nginx-{len(running)}"
        folder.mkdir()
        nginx = Nginx(program, folder, options.pop("service", sandbox.port), **options)
        running.append(nginx)
        nginx.start()
        return nginx

    yield start
    for nginx in running:
        nginx.end()


@pytest.fixture
def chromium(tmp_path: Path) -> Chromium:
    """A browser without a window."""
    return Chromium(_program("chromium", "chromium-browser", "google-chrome"), tmp_path)


class Authority:
    """A certificate authority that no machine knows, and the files of what it issues."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self._issued = 0
        self.file = folder / "authority.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def issue(self, *hosts: str, over: trustme.CA | None = None, whole_chain: bool = True, **options: Any) -> Path:
        """Issues a certificate.

        Args:
            *hosts: The names or addresses that it is for.
            over: The authority in between that issues it.
            whole_chain: Whether the file has the certificate of that one too.
            **options: Options of `trustme.CA.issue_cert`.
        """
        issued = (over or self._authority).issue_cert(*hosts, **options)
        self._issued += 1
        file = self._folder / f"issued-{self._issued}.pem"
        chain = issued.cert_chain_pems if whole_chain else issued.cert_chain_pems[:1]
        file.write_bytes(issued.private_key_pem.bytes() + b"".join(part.bytes() for part in chain))
        return file

    def in_between(self) -> trustme.CA:
        """An authority below this one."""
        return self._authority.create_child_ca()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of these tests' own."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def _inspecting_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    # Without these it would look at the certificate of a host that is not there.
    options = ["--set", "connection_strategy=lazy", "--set", "upstream_cert=false"]
    proxy = Mitmdump(_program("mitmdump"), tmp_path_factory.mktemp("interception"), *options)
    proxy.start()
    yield proxy
    proxy.end()


@pytest.fixture
def interception(sandbox: Sandbox, _inspecting_proxy: Mitmdump) -> Mitmdump:
    """A company's proxy that opens TLS with an authority of its own, looks inside, and leads to the sandbox."""
    _inspecting_proxy.leads_to(sandbox.port)
    return _inspecting_proxy


@pytest.fixture(scope="session")
def _asking_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mitmdump]:
    options = ["--proxyauth", f"{USER}:{PASSWORD}", "--ignore-hosts", ".*"]
    proxy = Mitmdump(_program("mitmdump"), tmp_path_factory.mktemp("proxy"), *options)
    proxy.start()
    yield proxy
    proxy.end()


@pytest.fixture
def forward_proxy(_asking_proxy: Mitmdump, nginx: StartNginx, authority: Authority) -> Mitmdump:
    """A company's proxy that asks for a password and passes on what it cannot read, to the sandbox behind TLS."""
    _asking_proxy.leads_to(nginx(certificate=authority.issue("api.reply.test")).port)
    return _asking_proxy
