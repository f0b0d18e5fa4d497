"""Measures how long a list of accounts takes to become a table: starts `reading_worker.py` for each figure."""

from __future__ import annotations

import json
import subprocess
import sys
from http.client import HTTPConnection
from typing import Any

from contenders import HEADERS
from measure import HERE, PATIENCE, Binaries, Figures, Log, environment, serve

LIBRARIES = ("pandas", "polars", "arrow")
WAYS = ("replyio", "requests")


def take(binaries: Binaries, repetitions: int, log: Log) -> dict[str, dict[str, list[Figures]]]:
    """Every way into every library, one after another within each repetition, each time another one first."""
    results: dict[str, dict[str, list[Figures]]] = {library: {way: [] for way in WAYS} for library in LIBRARIES}
    with serve(binaries, None) as server:
        # The server makes its accounts when they are first asked for.
        first = HTTPConnection("127.0.0.1", server.port)
        first.request("GET", "/v3/contact-accounts?top=1&skip=0", headers=HEADERS)
        first.getresponse().read()
        first.close()
        for repetition in range(repetitions):
            log(f"a list as a table: repetition {repetition + 1} of {repetitions}")
            shift = repetition % len(WAYS)
            for library in LIBRARIES:
                for way in WAYS[shift:] + WAYS[:shift]:
                    before = server.cpu_us()
                    figures = _run(library, way, server.port)
                    share = (server.cpu_us() - before) / 1e6 / figures["readings"]
                    results[library][way].append(figures | {"server_s": share})
    return results


def _run(library: str, way: str, port: int) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "reading_worker.py"), library, way, str(port)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=PATIENCE, check=False)
    if done.returncode:
        raise SystemExit(f"{way} into {library} ended with {done.returncode}:\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
