"""The recipes of docs/how-to/share-the-limit.md for several machines, with the programs that they are for."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replyio.sandbox import Sandbox

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "share-the-limit.md"
CALLS = 15

# Two machines stand for themselves: each has a state directory of its own.
_MACHINE = """
import sys
exec(sys.argv[1])
for _ in range({calls}):
    client.get_contact_account(4711)
"""


def recipe(name: str) -> str:
    """The code below a name in bold."""
    found = re.search(rf"\*\*{name}\*\*.*?```py\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_machines_that_ask_redis_share_one_limit(tmp_path: Path) -> None:
    pytest.importorskip("redis")
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("there is no redis-server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    code = recipe("Redis").replace("redis.Redis()", f"redis.Redis(port={port})")
    code = code.replace("[[95, 60_000], [2_900, 3_600_000]]", "[[10, 2_000]]")
    assert "[[10, 2_000]]" in code
    redis = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        with Sandbox() as sandbox, sandbox.environment():
            machines = [
                subprocess.Popen(
                    [sys.executable, "-c", _MACHINE.format(calls=CALLS), code],
                    env=os.environ | {"REPLYIO_STATE_DIR": str(tmp_path / name)},
                )
                for name in ("one", "two")
            ]
            assert [machine.wait(60) for machine in machines] == [0, 0]
            times = sorted(request.time.timestamp() for request in sandbox.requests)
    finally:
        redis.terminate()
        redis.wait(10)
    assert len(times) == 2 * CALLS
    # The clocks of both agree; a request arrives a little after it was granted.
    spans = [later - first for first, later in zip(times, times[10:], strict=False)]
    assert min(spans) > 1.5
    assert times[-1] - times[0] > 3.5
