"""A server that plays any script of bytes, one for each connection, and writes down what it saw.

It knows HTTP only as far as it reads requests, so that it can say anything at all. It is bounded: every connection ends
after ten seconds by itself, and all of them when the server is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

_LONGEST = 10.0
_ports: set[int] = set()


def _listener(port: int) -> socket.socket:
    """Listens on a port of 127.0.0.1: the one given, or for 0 one that no other server of this process has had.

    The system gives ports out again, and a client remembers by the address how long a service told it to wait.
    """
    with contextlib.ExitStack() as had:
        while True:
            listener = socket.create_server(("127.0.0.1", port), backlog=128)
            chosen = listener.getsockname()[1]
            if port or chosen not in _ports:
                _ports.add(chosen)
                return listener
            had.enter_context(listener)


class Request(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float

    @property
    def good(self) -> bytes:
        """The body that an honest service would answer with."""
        path, _, query = self.path.partition("?")
        if query:
            return b'{"items": [%b, %b], "hasMore": false}' % (account(7), account(8))
        return account(int(path.rpartition("/")[2]))


Script = Callable[["Peer"], None]
Reply = bytes | Callable[[Request], bytes]


def account(id: int, **members: object) -> bytes:
    """The JSON of an account, as the contract has it."""
    known = {
        "id": id,
        "ownerUserId": 42,
        "name": f"account {id}",
        "linkedProspectsCount": 0,
        "createdDate": "2023-11-07T05:31:56Z",
        "lastActivityDate": "2026-09-08T12:08:22.58+00:00",
    }
    return json.dumps(known | members).encode()


def head(*lines: str, status: str = "200 OK") -> bytes:
    """The head of a response."""
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def response(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    """A whole response, its length included."""
    return head(*lines, f"Content-Length: {len(body)}", status=status) + body


def problem(status: str, /, *lines: str, **members: object) -> bytes:
    """A problem as the service answers it."""
    return response(json.dumps(members).encode(), "Content-Type: application/problem+json", *lines, status=status)


class Peer:
    """One connection, as a script sees it."""

    def __init__(self, server: Hostile, connection: socket.socket, number: int) -> None:
        self.server = server
        self.number = number
        self.closed_at: float | None = None
        self._socket = connection
        self._plays = server.plays
        self._received = b""

    @property
    def is_outdated(self) -> bool:
        """Whether the server has been told to play something else since this connection was made."""
        return self._plays != self.server.plays

    def request(self) -> Request | None:
        """Reads a request, or None where the other side has closed the connection."""
        while b"\r\n\r\n" not in self._received:
            if not self._receive():
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._received) < length:
            if not self._receive():
                return None
        body, self._received = self._received[:length], self._received[length:]
        request = Request(method, path, headers, body, self.number, time.monotonic())
        self.server.requests.append(request)
        return request

    def _receive(self) -> bool:
        received = self._socket.recv(65536)
        if not received:
            self.closed_at = time.monotonic()
        self._received += received
        return bool(received)

    def read(self) -> bytes:
        """Whatever has arrived."""
        self._receive()
        read, self._received = self._received, b""
        return read

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def write_below_tls(self, data: bytes) -> None:
        """Writes bytes that are no TLS record into a TLS connection."""
        os.write(self._socket.fileno(), data)

    def drip(self, data: bytes, every: float) -> None:
        """Writes a byte at a time."""
        for byte in data:
            self.write(bytes([byte]))
            self.pause(every)

    def flood(self, data: bytes, times: int | None = None) -> None:
        """Writes the same again and again, without end where no number is given."""
        started = time.monotonic()
        while (times is None or times > 0) and time.monotonic() < started + _LONGEST:
            self.write(data)
            times = None if times is None else times - 1

    def pause(self, seconds: float) -> None:
        self.server.closing.wait(seconds)

    def wait_closed(self) -> None:
        """Waits until the other side has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while self._receive():
                pass
        self.closed_at = time.monotonic()

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def relay(self, port: int) -> None:
        """Passes bytes on to another server and back, as a tunnel does, until one side leaves."""
        with socket.create_connection(("127.0.0.1", port), timeout=_LONGEST) as other:
            ways = {self._socket: other, other: self._socket}
            other.sendall(self._received)
            while True:
                for source in _readable(list(ways)):
                    data = source.recv(65536)
                    if not data:
                        return
                    ways[source].sendall(data)


def _readable(sockets: list[socket.socket]) -> list[socket.socket]:
    # What TLS has taken off the wire already, no selector sees.
    waiting = [each for each in sockets if isinstance(each, ssl.SSLSocket) and each.pending()]
    return waiting or select.select(sockets, [], [], _LONGEST)[0]


def answering(*replies: Reply) -> Script:
    """A service that keeps connections alive: the n-th request gets the n-th reply, later ones the last."""
    left = list(replies)

    def script(peer: Peer) -> None:
        while request := peer.request():
            if peer.is_outdated:
                peer.write(response(request.good))
                continue
            reply = left.pop(0) if len(left) > 1 else left[0]
            peer.write(reply if isinstance(reply, bytes) else reply(request))

    return script


def after_request(script: Script) -> Script:
    """Reads one request before it plays the script."""

    def whole(peer: Peer) -> None:
        if peer.request():
            script(peer)

    return whole


def saying(*said: bytes, then: Callable[[Peer], None] = Peer.wait_closed) -> Script:
    """Reads one request, writes whatever it is told to, and then waits for the other side to leave."""

    def script(peer: Peer) -> None:
        for data in said:
            peer.write(data)
        then(peer)

    return after_request(script)


honest = answering(lambda request: response(request.good))


class Hostile:
    """A server on 127.0.0.1 that plays scripts.

    Attributes:
        requests: What arrived.
        peers: Every connection that was made, the failed handshakes too.
        refusals: Why TLS handshakes failed.
        tls: How TLS is spoken; None for plain HTTP. May be changed for connections to come.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.peers: list[Peer] = []
        self.refusals: list[str] = []
        self.plays = 0
        self.closing = threading.Event()
        self.tls = tls
        self._scripts: Iterable[Script] = scripts or (honest,)
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = _listener(port)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def base_url(self) -> str:
        if self.tls:
            return f"https://127.0.0.1:{self.port}/v3"
        return f"http://127.0.0.1:{self.port}/v3"

    def play(self, *scripts: Script) -> None:
        """Plays these from now on: the first connection gets the first, later ones the last."""
        self._scripts = scripts or (honest,)
        self.plays += 1

    def _accept(self) -> None:
        waiting: list[Script] = []
        plays = -1
        while True:
            connection, _ = self._listener.accept()
            if self.closing.is_set():
                connection.close()
                return
            if plays != self.plays:
                plays, waiting = self.plays, list(self._scripts)
            script = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            connection.settimeout(_LONGEST)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self._sockets.append(connection)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        peer = Peer(self, connection, len(self.peers))
        self.peers.append(peer)
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._sockets.append(connection)
                peer._socket = connection
            script(peer)
        except ssl.SSLError as error:
            self.refusals.append(error.reason or str(error))
        except OSError:
            pass  # the other side has left, as it may
        finally:
            peer.closed_at = peer.closed_at or time.monotonic()
            connection.close()

    def wait_until_left(self, seconds: float = 1.0) -> bool:
        """Waits until the other side has closed every connection."""
        given_up = time.monotonic() + seconds
        while time.monotonic() < given_up:
            if not any(thread.is_alive() for thread in list(self._threads)):
                return True
            time.sleep(0.002)
        return False

    def break_connections(self) -> None:
        """Breaks every connection, as a service does that is killed."""
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass
        self._acceptor.join(_LONGEST)
        self._listener.close()
        self.break_connections()
        for thread in self._threads:
            thread.join(_LONGEST)

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
