"""For event loops that cannot watch a file descriptor (asyncio's default on Windows)."""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


def adopt(descriptor: int) -> socket.socket:
    """Returns a socket object for a descriptor, which it then owns."""
    adopted = socket.socket(fileno=descriptor)
    adopted.setblocking(False)
    return adopted


async def pump(event_loop: asyncio.AbstractEventLoop, signal: socket.socket, bridge: Callable[[], None]) -> None:
    """Calls the bridge whenever its socket receives something, until canceled."""
    with signal:
        while await event_loop.sock_recv(signal, 256):
            _call(event_loop, bridge)


def _call(event_loop: asyncio.AbstractEventLoop, bridge: Callable[[], None]) -> None:
    """Calls the bridge as the loop would. A failing log handler must not end the pump."""
    try:
        bridge()
    except Exception as error:  # noqa: BLE001 - the loop reports it
        event_loop.call_exception_handler({"message": "Exception in callback of replyio", "exception": error})
