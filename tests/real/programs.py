"""The programs of these tests: found, started on a free port of this machine, and ended by their id."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support import refusing_port

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
# Debian's nginx is where only root looks; mitmproxy is where `make test` puts it.
PLACES = [str(ROOT / ".venv-mitmproxy" / "bin"), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
PATIENCE = 20.0


def find(name: str) -> Path | None:
    """Where a program is."""
    found = shutil.which(name, path=os.pathsep.join(PLACES))
    return Path(found) if found else None


def eventually(look: Callable[[], T], enough: Callable[[T], bool], within: float = 3.0) -> T:
    """What there is to see once it is enough, or when the time is up: a log is written after the answer."""
    given_up = time.monotonic() + within
    while not enough(seen := look()) and time.monotonic() < given_up:
        time.sleep(0.005)
    return seen


class Program:
    """A program that listens on a port, with its own process group.

    The port is its own from before it starts until `end`, also while it is killed.
    """

    def __init__(
        self, command: Sequence[str | Path], held: contextlib.ExitStack, port: int, log: Path, **environment: str
    ) -> None:
        self.command = [str(word) for word in command]
        self.port = port
        self._held = held
        self.log = log
        self.environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.log.parent,
                start_new_session=True,
            )
        listening = eventually(self._state, bool, PATIENCE)
        if listening != "listens":
            self.kill()
            pytest.fail(f"{self.command[0]} did not start: {self.log.read_text(errors='replace')[-2000:]}")

    def _state(self) -> str:
        if self.process is None or self.process.poll() is not None:
            return "ended"
        return "listens" if self._listens() else ""

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """Ends it and all that it has started, without a chance to say good-bye."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            # A worker may outlive the master for a moment, and still take connections.
            assert eventually(lambda: not self._listens(), bool, PATIENCE), "it still listens"

    def end(self) -> None:
        """Ends it for good."""
        self.kill()
        self._held.close()


class Nginx(Program):
    """An nginx in front of a service on this machine.

    Args:
        program: Where nginx is.
        folder: Where its files go.
        service: The port of the service behind it.
        location: Directives for all paths.
        server: Directives of the server.
        http: Directives around it.
        certificate: A PEM file with the private key and the chain; None speaks plain HTTP.
    """

    def __init__(
        self,
        program: Path,
        folder: Path,
        service: int,
        *,
        location: str = "",
        server: str = "",
        http: str = "",
        certificate: Path | None = None,
    ) -> None:
        self.folder = folder
        self.tls = certificate is not None
        held = contextlib.ExitStack()
        port = held.enter_context(refusing_port())
        tls = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};" if self.tls else ""
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
        temporary += "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("uwsgi", "scgi"))
        configuration = folder / "nginx.conf"
        configuration.write_text(f"""
            # Workers of another user could not read the folder of a test that runs as root.
            {"user root;" if os.geteuid() == 0 else ""}
            daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log info;
            events {{ worker_connections 256; }}
            http {{
                log_format told '{{"status": $status, "method": "$request_method", "connection": $connection}}';
                access_log {folder}/access.log told; {temporary}
                upstream service {{ server 127.0.0.1:{service}; keepalive 8; }}
                {http}
                server {{
                    listen 127.0.0.1:{port}{" ssl" if self.tls else ""}; {tls}
                    location / {{
                        proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";
                        # The sandbox answers to the names of this machine alone.
                        proxy_set_header Host 127.0.0.1:{service};
                        {location}
                    }}
                    {server}
                }}
            }}
        """)
        super().__init__(
            [program, "-e", "stderr", "-p", folder, "-c", configuration], held, port, folder / "output.log"
        )

    @property
    def url(self) -> str:
        """The base URL of the service."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v3"

    def reload(self) -> None:
        """Has it read its configuration again: new workers start, and the old ones close what is idle and end."""
        subprocess.run([*self.command, "-s", "reload"], check=True, capture_output=True, timeout=PATIENCE)

    def requests(self, expected: int) -> list[dict[str, Any]]:
        """The requests that it answered, with status, method and connection, once there are as many as expected."""

        def read() -> list[dict[str, Any]]:
            log = self.folder / "access.log"
            return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

        return eventually(read, lambda requests: len(requests) >= expected)

    def statuses(self, expected: int) -> list[int]:
        """Their statuses alone."""
        return [request["status"] for request in self.requests(expected)]

    def failed_handshakes(self) -> int:
        """How many TLS handshakes came to nothing."""
        return eventually(lambda: (self.folder / "error.log").read_text().count("SSL_do_handshake() failed"), bool)


class Mitmdump(Program):
    """A mitmproxy without a face, as the proxy of a company.

    Args:
        program: Where mitmdump is.
        folder: Where its files go.
        options: More of its options.
    """

    def __init__(self, program: Path, folder: Path, *options: str) -> None:
        self.folder = folder
        self.authority = folder / "mitmproxy-ca-cert.pem"
        self._route = folder / "route"
        self._told = folder / "told"
        held = contextlib.ExitStack()
        port = held.enter_context(refusing_port())
        fixed = ["--quiet", "--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", f"confdir={folder}"]
        addon = ["--scripts", str(Path(__file__).with_name("company.py"))]
        super().__init__(
            [program, *fixed, *addon, *options],
            held,
            port,
            folder / "output.log",
            COMPANY_ROUTE=str(self._route),
            COMPANY_TOLD=str(self._told),
        )

    def start(self) -> None:
        """Starts it, and waits until it has written down that somebody tried whether it listens."""
        self._told.write_text("")
        super().start()
        eventually(lambda: self.connections, bool, PATIENCE)

    @property
    def address(self) -> str:
        """Its address, for those it asks for no password."""
        return f"http://127.0.0.1:{self.port}"

    def leads_to(self, port: int) -> None:
        """Sends all hosts to a port on this machine from now on, and forgets who has asked."""
        self._route.write_text(str(port))
        self._told.write_text("")

    def _tells(self, what: str) -> list[Mapping[str, Any]]:
        return [told for told in map(json.loads, self._told.read_text().splitlines()) if what in told]

    @property
    def connections(self) -> int:
        """How many connections were made to it."""
        return len(self._tells("connection"))

    @property
    def hosts(self) -> list[str]:
        """The Host of each request in a tunnel that it looked into."""
        return [told["asked"] for told in self._tells("asked")]

    @property
    def tunnels(self) -> list[Mapping[str, Any]]:
        """The CONNECT requests that it got, with host and headers."""
        return self._tells("host")


class Chromium:
    """A Chromium without a window, which reads pages from files.

    Args:
        program: Where it is.
        folder: Where its files go.
    """

    # The pages are the tests' own, and root gets no sandbox. No name is looked up: it calls nobody.
    OPTIONS = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    )

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def read(self, page: str) -> str:
        """Gives a page as it is after its scripts have run."""
        file = self._folder / "page.html"
        file.write_text(page, encoding="utf-8")
        command = [str(self._program), *self.OPTIONS, f"--user-data-dir={self._folder / 'profile'}", "--dump-dom"]
        with subprocess.Popen(
            [*command, file.as_uri()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder), "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        ) as process:
            try:
                read, told = process.communicate(timeout=3 * PATIENCE)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, told[-2000:]
        return read
