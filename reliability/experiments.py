"""Lists the experiments: the program, how often it runs, and what its result must be."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
NOTES_KEPT = 5


@dataclasses.dataclass
class Result:
    """How often something was tried, and how often it failed."""

    tried: int = 0
    short: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    figures: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def add(self, other: Result) -> None:
        """Takes another result in."""
        self.tried += other.tried
        self.short += other.short
        self.notes = [*self.notes, *other.notes][:NOTES_KEPT]
        for name, values in other.figures.items():
            self.figures.setdefault(name, []).extend(values)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A program in one of its states.

    Attributes:
        program: The file in `programs/`, and the beginning of the experiment's name.
        state: The state of the program, its first argument.
        what: What is tried, for the page.
        count: How often, in a long run.
        quick: How often, in a smoke run.
        code: The exit code of a program that is run once for each try; None for one that repeats by itself and reports.
        turn: How many at once, before another experiment has its turn.
        within: Seconds that a program may take that is run once for each try.
        control: What makes it fail, as environment: the proof that it can. None where another control shows it.
        sabotaged: Whether it needs the build that can be broken.
    """

    program: str
    state: str
    what: str
    count: int
    quick: int = 2
    code: int | None = None
    turn: int = 100
    within: float = 3.0
    control: dict[str, str] | None = None
    control_count: int = 20
    sabotaged: bool = False
    needs: str | None = None

    @property
    def name(self) -> str:
        """Its name on the command line and in the results."""
        return f"{self.program}-{self.state}"

    def run(self, count: int, environment: dict[str, str]) -> Result:
        """Tries it so many times."""
        if self.code is None:
            return self._repeating(count, environment)
        result = Result()
        for _ in range(count):
            result.add(self._once(environment))
        return result

    def _command(self, *arguments: object) -> list[str]:
        path = PROGRAMS / f"{self.program}.py"
        return [sys.executable, "-W", "error", str(path), self.state, *map(str, arguments)]

    def _once(self, environment: dict[str, str]) -> Result:
        started = time.monotonic()
        # A program that hangs is killed by the time-out; that it failed is then known all the same.
        try:
            done = subprocess.run(
                self._command(), env=environment, capture_output=True, text=True, check=False, timeout=self.within + 10
            )
        except subprocess.TimeoutExpired:
            return Result(1, 1, [f"still running after {self.within + 10:.0f} s"])
        seconds = time.monotonic() - started
        good = done.returncode == self.code and not done.stderr and seconds < self.within
        said = done.stderr.strip().splitlines()[-1:] or [""]
        notes = [] if good else [f"exit code {done.returncode} after {seconds:.1f} s {said[0]}".strip()]
        return Result(1, 0 if good else 1, notes, {"seconds": [seconds]})

    def _repeating(self, count: int, environment: dict[str, str]) -> Result:
        limit = 60 + count * 3
        try:
            done = subprocess.run(
                self._command(count), env=environment, capture_output=True, text=True, check=False, timeout=limit
            )
        except subprocess.TimeoutExpired:
            return Result(count, count, [f"still running after {limit} s"])
        last = done.stdout.strip().splitlines()[-1:] or ["{}"]
        try:
            told: dict[str, Any] = json.loads(last[0])
            result = Result(told["tried"], told["short"], told["notes"], told["figures"])
        except (ValueError, KeyError):
            result = Result(count, count, [f"no result, exit code {done.returncode}"])
        if done.returncode or done.stderr:
            said = done.stderr.strip().splitlines()[-1:] or [""]
            result.add(Result(0, 1, [f"exit code {done.returncode} {said[0]}".strip()]))
        return result


def _exits(state: str, what: str, code: int = 5, *, without: bool = False, **more: Any) -> Experiment:
    control = {"REPLYIO_WITHOUT": "exit"} if without else None
    return Experiment("exits", state, what, 1000, code=code, turn=50, control=control, control_count=200, **more)


def _interrupts(state: str, what: str, *, without: bool = True) -> Experiment:
    control = {"REPLYIO_WITHOUT": "signals"} if without else None
    return Experiment("interrupts", state, what, 200, turn=50, control=control, control_count=5)


_FORK = {"REPLYIO_WITHOUT": "fork"}
_ONCE = {"REPLYIO_WITHOUT": "once"}
_CANCELLATION = {"REPLYIO_WITHOUT": "cancellation"}
_PANICS = {"REPLYIO_WITHOUT": "panics"}


def _wire(state: str, what: str, count: int, control_count: int = 20) -> Experiment:
    control = {"REPLYIO_WITHOUT": state}
    return Experiment("wire", state, what, count, 5, turn=100, control=control, control_count=control_count)


def _first(state: str, what: str) -> Experiment:
    return Experiment("first", state, f"{what} for the first time in a thread that ends", 1000, 5, turn=250)


_KEEPS = {"RELIABILITY_KEEPS": "everything"}

EXPERIMENTS = [
    _wire("redirects", "a redirect of each kind to another address, in an update", 1000),
    _wire("bound", "an answer of 67 MB, in pieces", 200, 5),
    _wire("redaction", "the key repeated in each text of an answer, in seven spellings", 1000, 50),
    _wire("reuse", "the server closes an idle connection; `max_attempts=1`", 1000),
    _exits("threads_waiting", "eight daemon threads wait for an answer that does not come"),
    _exits("threads_busy", "eight daemon threads call as fast as they can"),
    _exits("tasks_pending", "sixteen asyncio tasks wait, and the main task calls `sys.exit`"),
    _exits("loop_in_thread", "a daemon thread runs an event loop with calls in flight", without=True),
    _exits("threads_finish", "the main thread ends first; other threads finish their calls", 0),
    _exits("exit_in_thread", "a thread calls `sys.exit` during other threads' calls", 0),
    _exits("atexit_first", "an `atexit` handler calls, registered before the first call"),
    _exits("atexit_last", "an `atexit` handler calls, registered after the first call, daemon threads calling too"),
    _exits("signal_exits", "a handler of SIGTERM calls `sys.exit` during a call", 7),
    _exits("signal_calls", "a handler of SIGALRM calls the client during its call, then exits"),
    _exits("finalizer", "`__del__` of a global calls and closes the client"),
    _exits("list_half_read", "a list is half read, and so is an async one"),
    _exits("sandbox_running", "a sandbox of the same process is never stopped"),
    _interrupts("call", "Ctrl-C in a call that is not answered"),
    _interrupts("quota", "Ctrl-C in a wait for the quota", without=False),
    _interrupts("back_off", "Ctrl-C in a wait for Retry-After"),
    _interrupts("list", "Ctrl-C in a list, while a page does not come"),
    _interrupts("asyncio", "Ctrl-C in `asyncio.run`", without=False),
    Experiment(
        "loops", "cancel", "a task is cancelled", 10_000, 50, turn=2000, control=_CANCELLATION, control_count=300
    ),
    Experiment(
        "loops", "wait_for", "`wait_for` times out", 2000, 20, turn=500, control=_CANCELLATION, control_count=300
    ),
    Experiment("loops", "closed", "an event loop is closed during a call", 2000, 20, turn=500),
    Experiment("loops", "runs", "several `asyncio.run` calls in succession, with one client", 2000, 20, turn=500),
    Experiment(
        "loops", "threads", "one client in the event loops of eight threads, 32 calls in each", 20_000, 256, turn=5000
    ),
    Experiment("loops", "uvloop", "the same on uvloop", 20_000, 256, turn=5000, needs="uvloop"),
    Experiment("processes", "before", "fork before the first call; child and grandchild call", 200, turn=50),
    Experiment("processes", "after", "fork after calls, sync and async", 200, turn=50, control=_FORK),
    Experiment(
        "processes",
        "during",
        "fork while eight threads call for the first time",
        200,
        turn=50,
        control=_ONCE,
        control_count=20,
    ),
    Experiment("processes", "spawn", "the client is sent to a process of `spawn`", 50, turn=25),
    Experiment("processes", "forkserver", "the client is sent to a process of `forkserver`", 50, turn=25),
    Experiment("processes", "pool", "jobs of a `ProcessPoolExecutor` receive the client", 1000, 20, turn=500),
    Experiment(
        "threads", "many", "64 threads call on one client, each gets its own answers", 100_000, 640, turn=25_000
    ),
    Experiment("threads", "closing", "64 threads call on one client that others close", 20_000, 640, turn=10_000),
    Experiment("threads", "log_handler", "a log handler calls the client", 1000, 10, turn=500),
    Experiment("threads", "log_handler_async", "a log handler calls the client, on the event loop", 1000, 10, turn=500),
    Experiment("threads", "log_handler_raises", "a log filter raises while 16 tasks wait", 1000, 10, turn=500),
    _first("import", "the extension module is loaded"),
    _first("call", "a client is made and called"),
    _first("sandbox", "a sandbox is started and called"),
    _first("plan", "a plan is made"),
    Experiment("suspends", "call", "SIGSTOP and SIGCONT during a call", 100, 2, turn=50),
    Experiment("suspends", "wait", "SIGSTOP and SIGCONT during a wait for Retry-After", 100, 2, turn=50),
    Experiment("suspends", "deadline", "SIGSTOP until after the timeout of the call", 100, 2, turn=50),
    Experiment("suspends", "late", "the same, but the answer arrives while the process is stopped", 100, 2, turn=50),
    Experiment(
        "panics",
        "sync",
        "a panic at each place of a synchronous call",
        1000,
        20,
        turn=500,
        sabotaged=True,
        control=_PANICS,
    ),
    Experiment(
        "panics",
        "asyncio",
        "a panic at each place of an asynchronous call",
        1000,
        20,
        turn=500,
        sabotaged=True,
        control=_PANICS,
    ),
    Experiment(
        "memory",
        "calls",
        "memory, threads and files over calls",
        100_000,
        2000,
        turn=100_000,
        control=_KEEPS,
        control_count=100_000,
    ),
    Experiment(
        "memory",
        "async_calls",
        "memory, threads and files over asynchronous calls",
        100_000,
        2000,
        turn=100_000,
        control=_KEEPS,
        control_count=100_000,
    ),
    Experiment(
        "memory",
        "errors",
        "memory, threads and files over errors",
        10_000,
        500,
        turn=10_000,
        control=_KEEPS,
        control_count=10_000,
    ),
    Experiment(
        "memory",
        "cancelled",
        "memory, threads and files over cancelled calls",
        10_000,
        200,
        turn=10_000,
        control=_KEEPS,
        control_count=10_000,
    ),
]

SECTIONS = {
    "wire": "The wire",
    "exits": "Leaving the interpreter",
    "interrupts": "Ctrl-C",
    "loops": "asyncio",
    "processes": "Processes",
    "threads": "Threads",
    "first": "The first use",
    "suspends": "Suspend and resume",
    "panics": "A panic in the core",
    "memory": "Memory",
}
