"""Makes the measurements: starts the server, the clients and the short scripts, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders import CONCURRENCY, KEYWORDS, Contender, Mode

HERE = Path(__file__).parent
ROOT = HERE.parent
PATIENCE = 180.0
"""Seconds that one process may take."""

Figures = dict[str, Any]
Log = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    repetitions: int = 7
    calls: tuple[tuple[Mode, int, int], ...] = (
        ("sequential", 10_000, 1_000),
        ("in-flight", 20_000, 2_000),
        ("gather", 20_000, 2_000),
        ("threads", 20_000, 2_000),
    )
    """Mode, calls and warm-up calls of the fast contenders."""
    starts: int = 30
    memory_calls: int = 100_000
    memory_warmup: int = 10_000
    scripts: int = 1_000


QUICK = Sizes(
    repetitions=1,
    calls=(("sequential", 200, 20), ("in-flight", 640, 64), ("gather", 640, 64), ("threads", 320, 32)),
    starts=3,
    memory_calls=1_000,
    memory_warmup=100,
    scripts=5,
)


@dataclass(frozen=True)
class Binaries:
    """The programs in Rust."""

    server: Path
    native: Path
    bulk: Path


def build() -> Binaries:
    """Builds the server, the native limit and the bulk job the way the crate is released."""
    command = ["cargo", "bench", "--no-run", "--features", "plan"]
    command += ["--bench", "server", "--bench", "native", "--bench", "bulk"]
    command += ["--message-format", "json-render-diagnostics"]
    try:
        built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    except FileNotFoundError:
        raise SystemExit("cargo is not installed\nhint: the server and the limit are Rust") from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"cargo bench --no-run failed with {error.returncode}") from None
    paths = {}
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            paths[message["target"]["name"]] = Path(message["executable"])
    return Binaries(server=paths["server"], native=paths["native"], bulk=paths["bulk"])


def environment() -> dict[str, str]:
    """This process's environment without what would change a contender's way to 127.0.0.1 or its start."""
    dropped = ("_PROXY", "PYTHON", "REPLY_")
    return {
        name: value
        for name, value in os.environ.items()
        if not (name.upper().endswith(dropped[0]) or name.startswith(dropped[1:]))
    }


@contextmanager
def _pinned(core: int | None) -> Iterator[None]:
    """What is started in here runs on this core alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def last_core() -> int:
    """The core that pinned runs use: the last one, as interrupts tend to go to the first."""
    return max(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Server:
    """The running server."""

    port: int
    pid: int
    core: int | None

    def cpu_us(self) -> float:
        """Processor time so far, in microseconds; its one working thread is its first."""
        text = Path(f"/proc/{self.pid}/schedstat").read_text()
        return int(text.split()[0]) / 1000


@contextmanager
def serve(binaries: Binaries, core: int | None) -> Iterator[Server]:
    """A server, pinned to a core or free, gone afterwards."""
    with _pinned(core):
        process = subprocess.Popen([binaries.server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        if process.stdin is None or process.stdout is None:
            raise SystemExit("the server has no pipes")
        try:
            yield Server(int(process.stdout.readline()), process.pid, core)
        finally:
            process.stdin.close()


@dataclass
class Bench:
    """Measures contenders against a server and remembers who crashed when leaving."""

    binaries: Binaries
    exit_crashes: dict[str, int]

    def measure(self, mode: Mode | str, contender: Contender, server: Server, calls: int, warmup: int) -> Figures:
        """One measurement in a fresh process, pinned to the server's core if that is pinned."""
        arguments = [mode, server.port, calls, warmup]
        if contender.name == "native":
            command = [self.binaries.native, *arguments]
            command += [CONCURRENCY] if mode == "in-flight" else []
        else:
            command = [sys.executable, HERE / "worker.py", mode, contender.name, *arguments[1:]]
        before = server.cpu_us()
        with _pinned(server.core):
            done = subprocess.run(
                [str(part) for part in command],
                capture_output=True,
                text=True,
                env=environment(),
                timeout=PATIENCE,
                check=False,
            )
        server_us = (server.cpu_us() - before) / (calls + warmup)
        try:
            figures: Figures = json.loads(done.stdout)
        except json.JSONDecodeError:
            what = f"{contender.name}, {mode}, ended with {done.returncode}"
            raise SystemExit(f"{what} and no figures:\n{done.stderr}") from None
        if done.returncode:
            # It has done its work and crashed while leaving: its figures count, and so does the crash.
            self.exit_crashes[contender.name] = self.exit_crashes.get(contender.name, 0) + 1
        return figures | {"server_us": server_us}

    def rounds(self, contenders: list[Contender], sizes: Sizes, log: Log) -> dict[str, dict[str, list[Figures]]]:
        """Every contender in every mode, one after another within each repetition, each time another one first."""
        results: dict[str, dict[str, list[Figures]]] = {}
        core = last_core()
        with serve(self.binaries, core) as pinned, serve(self.binaries, None) as free:
            for repetition in range(sizes.repetitions):
                for mode, calls, warmup in sizes.calls:
                    log(f"repetition {repetition + 1} of {sizes.repetitions}: {mode}")
                    taking_part = [one for one in contenders if mode in one.modes]
                    shift = repetition % max(len(taking_part), 1)
                    for one in taking_part[shift:] + taking_part[:shift]:
                        server = pinned if mode == "sequential" else free
                        share = (max(calls // one.share, 100), max(warmup // one.share, 20))
                        figures = self.measure(mode, one, server, *share)
                        results.setdefault(mode, {}).setdefault(one.name, []).append(figures)
        return results

    def memory(self, contenders: list[Contender], sizes: Sizes) -> dict[str, Figures]:
        """Resident memory over many calls."""
        with serve(self.binaries, None) as server:
            return {
                one.name: self.measure("memory", one, server, sizes.memory_calls, sizes.memory_warmup)
                for one in contenders
            }


STARTS = {
    "bare": "pass",
    "import replyio": "import replyio",
    "from replyio import ReplyClient": "from replyio import ReplyClient",
}


def starts(count: int) -> dict[str, list[float]]:
    """Milliseconds from start to end of an interpreter that does nothing, or imports; interleaved."""
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for repetition in range(-2, count):
        for name, code in STARTS.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-c", code], env=environment(), check=True)
            if repetition >= 0:  # the first two fill the caches
                times[name].append((time.perf_counter() - begin) * 1000)
    return times


SCRIPT = """
import asyncio, json, sys
from replyio import ReplyClient

async def main():
    client = ReplyClient(api_key="k", base_url=sys.argv[1], quota=None)
    account = await client.update_contact_account_async(4711, **json.loads(sys.argv[2]))
    assert account.id == 4711

asyncio.run(main())
"""


def scripts(binaries: Binaries, count: int, log: Log) -> Figures:
    """Short scripts of one call that leave without closing: how many end badly, and what the first few said.

    Bad is any exit status but 0, anything on stderr, or not being done in ten seconds. Twenty bad ones are enough.
    """
    complaints: list[str] = []
    runs = 0
    with serve(binaries, None) as server:
        command = [sys.executable, "-c", SCRIPT, f"http://127.0.0.1:{server.port}/v3"]
        command.append(json.dumps(KEYWORDS))
        while runs < count and len(complaints) < 20:
            if runs % 250 == 0:
                log(f"short scripts: {runs} of {count}, {len(complaints)} ended badly")
            runs += 1
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, env=environment(), timeout=10, check=False
                )
            except subprocess.TimeoutExpired:
                complaints.append("not done in 10 s")
                continue
            if done.returncode or done.stderr:
                lines = done.stderr.strip().splitlines() or ["nothing on stderr"]
                complaints.append(f"exit status {done.returncode}: {lines[0]} … {lines[-1]}")
    return {"runs": runs, "failed": len(complaints), "failures": sorted(set(complaints))[:3]}


def wheel(path: Path | None) -> Figures | None:
    """The newest wheel of replyio in `path`, `dist` or `target/wheels`, and its size."""
    places = [path] if path else [ROOT / "dist", ROOT / "target" / "wheels"]
    found = [file for place in places for file in ([place] if place.is_file() else place.glob("replyio-*.whl"))]
    if not found:
        return None
    newest = max(found, key=lambda file: file.stat().st_mtime)
    return {"file": newest.name, "bytes": newest.stat().st_size}
