"""A plan in a notebook whose kernel is stopped, restarted or killed in the middle, and goes on in the next kernel.

The kernel is a real one, driven by jupyter_client, which is what Jupyter's server calls at the stop button and at
"Restart Kernel". The service is in the process of the tests, so that its log outlives every kernel.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from replyio.sandbox import Fault, Sandbox
from support import environment

from .jobs import KEY, assert_written, companies, puts, succeeded

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="a kernel on Windows is interrupted in another way, and was not tried"
)

ROWS = 40
IN_FLIGHT = 8
MEANT = {id: {"city": f"Bergen {id}"} for id in range(1, ROWS + 1)}
PATH = "moves.replyplan"

MAKE = f"""
import replyio
client = replyio.ReplyClient(quota=None)
rows = [{{"id": id, "city": f"Bergen {{id}}"}} for id in range(1, {ROWS + 1})]
plan = client.plan_contact_account_updates(rows, save_as={PATH!r}, progress=False)
"""
APPLY = "plan.apply()"
GO_ON = f"""
import replyio
client = replyio.ReplyClient(quota=None)
client.open_plan({PATH!r}).apply().counts
"""


class Cell(NamedTuple):
    """What a notebook shows below a cell."""

    stderr: str
    error: str | None
    value: str | None
    progress: str
    outputs: int


class Kernel:
    """A kernel and the buttons of a notebook. Every wait ends."""

    def __init__(self, folder: Path, sandbox: Sandbox) -> None:
        self._manager = KernelManager(connection_file=str(folder / "kernel.json"))
        variables = environment(
            sandbox, REPLY_API_KEY=KEY, JUPYTER_PLATFORM_DIRS="1", IPYTHONDIR=str(folder / "ipython")
        )
        self._manager.start_kernel(cwd=str(folder), env=variables)
        self._client: BlockingKernelClient = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)

    @property
    def process(self) -> int:
        """The id of its process."""
        return self._manager.provisioner.pid

    def start(self, code: str) -> str:
        """Starts a cell."""
        return self._client.execute(code, store_history=True)

    def shown(self, cell: str) -> Cell:
        """What is shown when the cell has ended."""
        stderr, error, value, progress, outputs = "", None, None, "", 0
        while True:
            message: dict[str, Any] = self._client.get_iopub_msg(timeout=30)
            content = message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            match message["msg_type"]:
                case "stream" if content["name"] == "stderr":
                    stderr += content["text"]
                case "error":
                    error = content["ename"]
                case "display_data" | "update_display_data":
                    outputs += message["msg_type"] == "display_data"
                    progress = content["data"]["text/plain"]
                case "execute_result":
                    value = content["data"]["text/plain"]
                case "status" if content["execution_state"] == "idle":
                    return Cell(stderr, error, value, progress, outputs)

    def run(self, code: str) -> Cell:
        """Runs a cell to its end."""
        return self.shown(self.start(code))

    def interrupt(self) -> None:
        """The stop button."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """The menu's "Restart Kernel"."""
        self._manager.restart_kernel()
        self._client.wait_for_ready(timeout=60)

    def die(self) -> None:
        """What the system does to a process when memory is short."""
        self._manager.signal_kernel(signal.SIGKILL)

    def end(self) -> None:
        """Ends it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """A service with as many companies as there are rows, which takes its time for updates."""
    with Sandbox(accounts=companies(ROWS), faults=[Fault(method="PUT", delay=0.1, applied=True)]) as sandbox:
        yield sandbox


@pytest.fixture
def kernel(service: Sandbox, tmp_path: Path) -> Iterator[Kernel]:
    """A kernel that has made a plan."""
    kernel = Kernel(tmp_path, service)
    try:
        assert kernel.run(MAKE).error is None
        yield kernel
    finally:
        kernel.end()


def in_the_middle(sandbox: Sandbox) -> None:
    """Waits until some rows are written, and others are not."""
    given_up = time.monotonic() + 20
    while len(puts(sandbox)) <= IN_FLIGHT:
        assert time.monotonic() < given_up
        time.sleep(0.005)


def stopped(kernel: Kernel, cell: str) -> None:
    """The stop button, then the menu."""
    kernel.interrupt()
    shown = kernel.shown(cell)
    assert shown.error == "KeyboardInterrupt"
    told = [line for line in shown.stderr.splitlines() if line.startswith("replyio:")]
    assert len(told) == 1, shown.stderr
    assert f"of {ROWS} rows done; resume with client.open_plan('{PATH}').apply()" in told[0]
    kernel.restart()


def restarted(kernel: Kernel, _cell: str) -> None:
    """The menu alone."""
    kernel.restart()


def killed(kernel: Kernel, _cell: str) -> None:
    """No button at all."""
    kernel.die()
    kernel.restart()


@pytest.mark.parametrize("ends", [stopped, restarted, killed])
def test_a_plan_goes_on_in_the_kernel_after_the_one_that_was(
    ends: Callable[[Kernel, str], None], kernel: Kernel, service: Sandbox
) -> None:
    before, first = service.accounts, kernel.process
    cell = kernel.start(APPLY)
    in_the_middle(service)
    ends(kernel, cell)
    assert kernel.process != first
    assert IN_FLIGHT < len(puts(service)) < ROWS

    service.clear_faults()
    shown = kernel.run(GO_ON)
    assert f"{ROWS} of {ROWS} rows" in shown.progress, "the progress is that of the whole plan"
    assert (shown.outputs, shown.stderr) == (1, ""), "one output that is replaced, and nothing red"
    assert (shown.error, shown.value) == (None, f"{{'changed': {ROWS}}}"), shown
    # Only who is killed leaves a row behind that may have been written.
    assert_written(service, before, MEANT, once=ends is not killed)
    assert sum(succeeded(service).values()) <= ROWS + IN_FLIGHT
