"""Experiment: a hostile server redirects, sends too much, repeats the key, or closes idle connections."""

from __future__ import annotations

import base64
import contextlib
import gc
import os
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from common import Report, client, main

import replyio

# The server of the tests, which plays any script of bytes.
sys.path.append(str(Path(__file__).parents[2] / "tests" / "wire"))

from hostile import Hostile, Peer, Script, answering, head, problem, response

LIMIT = 4 << 20
"""Bytes that an answer without end may cost."""
PIECE = b"10000\r\n" + b" " * 65536 + b"\r\n"


@contextlib.contextmanager
def facing(*scripts: Script) -> Iterator[tuple[Hostile, replyio.ReplyClient]]:
    """A server that plays something, and a client that tries once."""
    with Hostile(*scripts) as server, client(base_url=server.base_url, max_attempts=1, timeout=5.0) as reply:
        yield server, reply


def redirects(count: int, report: Report) -> None:
    """What a redirect names is never asked, and never sees the key."""
    statuses = ("301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect")
    with Hostile() as other:
        replies = [
            response(b"", f"Location: {other.base_url}/contact-accounts/7", status=status) for status in statuses
        ]
        for number in range(count):
            with facing(answering(replies[number % len(replies)])) as (server, reply):
                before = len(other.peers)
                try:
                    what = f"{reply.update_contact_account(7, name='Acme')!r}"
                except replyio.UnexpectedResponseError as error:
                    what = f"{error}"
                good = "a redirect" in what and len(other.peers) == before and len(server.requests) == 1
                key = any(request.headers.get("x-api-key") for request in other.requests)
                report.check(good, "the other address was given the key" if key else what)


def highest() -> int:
    """Bytes of memory that the process has had at most, since it was asked to forget."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def bound(count: int, report: Report) -> None:
    """An answer that does not end is refused, and costs no memory."""

    def flood(peer: Peer) -> None:
        peer.request()
        peer.write(head("Content-Type: application/json", "Transfer-Encoding: chunked"))
        peer.flood(PIECE, 1024)

    with facing(flood) as (_, reply):
        for _ in range(count):
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            before = highest()
            try:
                what = repr(reply.get_contact_account(7))[:100]
            except replyio.ReplyError as error:
                what = str(error)
            grown = highest() - before
            report.measure("peak", grown)
            good = grown < LIMIT and "longer than 1 MiB" in what
            report.check(good, f"{grown / 1e6:.1f} MB more for an answer of 67 MB")


def redaction(count: int, report: Report) -> None:
    """A key that the server repeats is not in what is shown."""
    key = os.environ["REPLY_API_KEY"]
    spellings = {key, quote(key, ""), "".join(f"%{byte:02x}" for byte in key.encode()), f"Bearer {key}"}
    spellings |= {base64.b64encode(f"{before}{key}".encode()).decode() for before in ("", "x", "user:")}
    # What stands at the edges of base64 is made of the neighbors too.
    secrets = [spelling[4:-4] for spelling in spellings]
    for number, spelling in enumerate(sorted(spellings) * (1 + count // len(spellings))):
        if number == count:
            return
        said = problem(
            "400 Bad Request", f"X-Request-Id: {spelling}", title=spelling, detail=f"<{spelling}>", code=spelling
        )
        page = response(f"<html>{spelling}</html>".encode())
        with facing(answering(page if number % 2 else said)) as (_, reply):
            try:
                report.check(False, repr(reply.get_contact_account(7)))
            except replyio.ReplyError as error:
                shown = [str(error), repr(error), repr(vars(error)), pickle.dumps(error, 0).decode("latin-1")]
                seen = any(secret in text for secret in secrets for text in shown)
                report.check(not seen, "the key is shown")


def reuse(count: int, report: Report) -> None:
    """A connection that the server closed while it was idle costs no attempt."""

    def leave(peer: Peer) -> None:
        if request := peer.request():
            peer.write(response(request.good))
            # By now the client has looked away: a close right behind the answer it sees while it reads.
            peer.pause(0.01)

    with facing(leave) as (server, reply):
        for _ in range(count):
            try:
                good, what = reply.get_contact_account(7).id == 7, "another account"
            except replyio.TransportError as error:
                good, what = False, str(error)
            report.check(good, what)
            server.wait_until_left()
            time.sleep(0.005)


if __name__ == "__main__":
    main(globals())
