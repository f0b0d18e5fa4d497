"""Measures what has an absolute limit: the first call of a process over https, clients, and a sandbox of many accounts.

Each figure comes from a process of its own, which `limits_worker.py` is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measure import HERE, Figures, Log, environment

PATIENCE = 600.0
"""Seconds that one process may take."""


@dataclass(frozen=True)
class LimitSizes:
    """How much is measured."""

    starts: int = 15
    clients: int = 1_000
    accounts: int = 1_000_000


QUICK = LimitSizes(starts=2, clients=50, accounts=5_000)


def take(sizes: LimitSizes, log: Log) -> Figures:
    """Everything with an absolute limit."""
    log(f"first calls over https, {sizes.clients:,} clients, and a sandbox with {sizes.accounts:,} accounts")
    with tempfile.TemporaryDirectory() as folder, _https(Path(folder)) as (port, authority):
        first = [_run("first", port, authority) for _ in range(sizes.starts)]
    return {
        "first": first,
        "clients": [_run("clients", sizes.clients) for _ in range(sizes.starts)],
        "sandbox": _run("sandbox", sizes.accounts),
    }


def _without_certificates() -> dict[str, str]:
    """An environment in which a client asks the system for its certificates, as it does for most users."""
    return {name: value for name, value in environment().items() if name not in ("SSL_CERT_FILE", "SSL_CERT_DIR")}


def _run(*arguments: object) -> Figures:
    command = [sys.executable, str(HERE / "limits_worker.py"), *(str(each) for each in arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=_without_certificates(), timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise SystemExit(f"limits_worker.py {arguments[0]} ended with {done.returncode}:\n{done.stderr}")
    figures: Figures = json.loads(done.stdout)
    return figures


@contextmanager
def _https(folder: Path) -> Iterator[tuple[int, Path]]:
    """A server over https in another process, and the file of its authority."""
    command = [sys.executable, str(HERE / "limits_worker.py"), "serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield int(line), folder / "authority.pem"
        finally:
            process.terminate()
