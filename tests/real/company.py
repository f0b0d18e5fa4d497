"""What mitmdump does besides, in the tests: every host is a port on this machine, and who asks is written down.

It runs in mitmproxy's own environment. The files that it reads and writes are named in its environment.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_ROUTE = Path(os.environ["COMPANY_ROUTE"])
_TOLD = Path(os.environ["COMPANY_TOLD"])


def _port() -> int:
    return int(_ROUTE.read_text())


def _tell(**what: Any) -> None:
    with _TOLD.open("a") as told:
        told.write(json.dumps(what) + "\n")


def client_connected(client: Any) -> None:
    """A client is there, whatever it will ask for."""
    _tell(connection=client.peername)


def http_connect(flow: Any) -> None:
    """A client asks for a tunnel."""
    _tell(host=flow.request.host, headers=dict(flow.request.headers.items()))


def server_connect(data: Any) -> None:
    """The proxy is about to connect, for a tunnel or for a request in it."""
    data.server.address = ("127.0.0.1", _port())


def request(flow: Any) -> None:
    """A request in a tunnel that is looked into. The sandbox speaks plain HTTP, and only to a Host of this machine."""
    _tell(asked=flow.request.host_header)
    flow.request.scheme = "http"
    flow.request.host = "127.0.0.1"
    flow.request.port = _port()
    flow.request.host_header = f"127.0.0.1:{_port()}"
