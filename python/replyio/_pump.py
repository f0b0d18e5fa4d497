"""For event loops that cannot watch a file descriptor (asyncio's default on Windows)."""

from __future__ import annotations

import asyncio
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def adopt(descriptor: int) -> socket.socket:
    """Returns a socket object for a descriptor, which it then owns."""
    adopted = socket.socket(fileno=descriptor)
    adopted.setblocking(False)
    return adopted


class Pump:
    """Calls a bridge whenever its socket receives something, until `cancel`.

    A program may cancel all of its tasks and then wait for another call. So a new task replaces one that was canceled.
    """

    __slots__ = ("_bridge", "_event_loop", "_is_left", "_signal", "_task")

    def __init__(
        self, event_loop: asyncio.AbstractEventLoop, signal: socket.socket, bridge: Callable[[], None]
    ) -> None:
        """Starts the task."""
        self._event_loop = event_loop
        self._signal = signal
        self._bridge = bridge
        self._is_left = False
        self._task = self._started()

    def cancel(self) -> None:
        """Ends the task and closes the socket."""
        self._is_left = True
        self._task.cancel()

    def close(self) -> None:
        """Closes the socket. The task ended with its loop."""
        self._is_left = True
        self._signal.close()

    def _started(self) -> asyncio.Task[None]:
        task = self._event_loop.create_task(self._pump())
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._is_left:
            self._signal.close()
        elif task.cancelled():
            self._task = self._started()

    async def _pump(self) -> None:
        is_kept = False
        try:
            while await self._event_loop.sock_recv(self._signal, 256):
                self._call()
        except asyncio.CancelledError:
            is_kept = not self._is_left
            raise
        finally:
            if not is_kept:
                self._signal.close()

    def _call(self) -> None:
        """Calls the bridge as the loop would. A failing log handler must not end the pump."""
        try:
            self._bridge()
        except Exception as error:  # noqa: BLE001 - the loop reports it
            context = {"message": "Exception in callback of replyio", "exception": error}
            self._event_loop.call_exception_handler(context)
