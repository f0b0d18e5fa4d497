"""What has no end must not fill the memory: measured in a process of its own, by the peak of its resident set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .checks import KEY
from .hostile import Hostile, Peer, Script, head, honest, saying

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to forget a peak")

PROBE = """
import asyncio, json, re, sys
import replyio
import replyio.errors

def memory(line):
    return int(re.search(line + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1))

def ask(client, face, id):
    if face == "sync":
        return client.get_contact_account(id)
    if face == "async":
        return asyncio.run(client.get_contact_account_async(id))
    return list(client.list_contact_accounts(page_size=10))

warm, hostile, face = sys.argv[1:4]
options = {"quota": None, "attempt_timeout": 1.0, "timeout": 5.0, "max_attempts": 1}
with replyio.ReplyClient(sys.argv[4], base_url=warm, **options) as client:
    for id in range(1, 4):
        ask(client, face, id)
with replyio.ReplyClient(sys.argv[4], base_url=hostile, **options) as client:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = memory("VmHWM")
    error = None
    try:
        ask(client, face, 7)
    except replyio.ReplyError as raised:
        error = type(raised).__name__
    print(json.dumps([error, memory("VmHWM") - before]))
"""


def flooding(start: bytes, data: bytes, times: int | None = None) -> Script:
    return saying(start, then=lambda peer: peer.flood(data, times))


def three_million(peer: Peer) -> None:
    peer.flood(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, 300)
    peer.write(head("Content-Length: 2") + b"{}")
    peer.wait_closed()


SPACES = b" " * 65536
FAULTS: dict[str, tuple[Script, set[str]]] = {
    "10_gb_announced": (flooding(head("Content-Length: 10000000000"), SPACES), {"UnexpectedResponseError"}),
    "a_body_without_an_end": (flooding(head(), SPACES), {"UnexpectedResponseError"}),
    "chunks_without_an_end": (
        flooding(head("Transfer-Encoding: chunked"), b"10000\r\n" + SPACES + b"\r\n"),
        {"UnexpectedResponseError"},
    ),
    "a_chunk_of_10_gb": (
        flooding(head("Transfer-Encoding: chunked") + b"2540be400\r\n", SPACES),
        {"UnexpectedResponseError"},
    ),
    "a_chunk_extension_without_an_end": (
        flooding(head("Transfer-Encoding: chunked") + b"2;", b"x" * 65536),
        {"UnexpectedResponseError"},
    ),
    "trailers_without_an_end": (
        flooding(head("Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n", b"X-More: 1\r\n" * 5000),
        {"UnexpectedResponseError"},
    ),
    "a_head_without_an_end": (flooding(head()[:-2], b"X-More: 1\r\n" * 5000), {"UnexpectedResponseError"}),
    "a_header_of_1_mib": (saying(head("X-Long: " + "x" * (1 << 20))), {"UnexpectedResponseError"}),
    "150_headers": (saying(head(*(f"X-{number}: 1" for number in range(150)))), {"UnexpectedResponseError"}),
    "three_million_100s": (saying(then=three_million), {"UnexpectedResponseError", "DeadlineExceededError"}),
    "100s_without_an_end": (flooding(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 5000), {"DeadlineExceededError"}),
    "a_million_brackets": (saying(head("Content-Length: 1000000") + b"[" * 1_000_000), {"UnexpectedResponseError"}),
}


@pytest.mark.parametrize("face", ["sync", "async", "list"])
@pytest.mark.parametrize(("script", "errors"), FAULTS.values(), ids=FAULTS)
def test_what_has_no_end_costs_four_mebibytes_at_most(script: Script, errors: set[str], face: str) -> None:
    with Hostile(honest) as warm, Hostile(script) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, warm.base_url, server.base_url, face, KEY],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    error, grown = json.loads(done.stdout)
    assert error in errors
    assert grown < 4 * 1024, f"{grown} KiB"
