"""A FIFO in the place of any file is refused, or waited for in a way that Ctrl-C and SIGTERM end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replyio.sandbox import Sandbox

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no FIFOs in folders there")

# What reads standard input reads a FIFO too, so that a shell's <(…) works: it waits until somebody writes.
WAITING = [
    ["get", "1", "--key-file", "fifo"],
    ["update", "1", "--json", "fifo"],
    ["patch", "1", "--json", "fifo"],
    ["apply", "made.replyplan", "--rows", "fifo.csv"],
    ["sandbox", "--accounts", "fifo"],
]
REFUSED = [
    ["status", "fifo"],
    ["apply", "fifo"],
    ["revert", "fifo"],
    ["plan", "fifo.csv"],
    ["plan", "fifo.jsonl"],
    ["plan", "fifo.parquet"],
    ["plan", "table.csv", "--save-as", "fifo"],
    ["apply", "made.replyplan", "--rows", "fifo.parquet"],
    ["status", "made.replyplan", "--export", "fifo.csv"],
    ["sandbox", "--path", "fifo"],
    ["status", "wal.replyplan"],
    ["apply", "wal.replyplan"],
    ["status", "shm.replyplan"],
    ["apply", "journal.replyplan"],
    ["revert", "reverted.replyplan"],
]


@pytest.fixture(scope="module")
def service() -> Iterator[Sandbox]:
    with Sandbox([{"id": 1, "name": "A", "city": "Bergen"}]) as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path, service: Sandbox) -> Path:
    for name in ("fifo", "fifo.csv", "fifo.jsonl", "fifo.parquet", "reverted.revert.replyplan"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "table.csv").write_text("id,city\n1,Oslo\n", encoding="utf-8")
    made = tmp_path / "made.replyplan"
    rows = [{"id": 1, "city": "Oslo"}]
    service.client(api_key="k").plan_contact_account_updates(rows, save_as=str(made), progress=False).close()
    for name in ("wal", "shm", "journal"):
        shutil.copy(made, tmp_path / f"{name}.replyplan")
        os.mkfifo(tmp_path / f"{name}.replyplan-{name}")
    shutil.copy(made, tmp_path / "reverted.replyplan")
    return tmp_path


def start(arguments: list[str], folder: Path, service: Sandbox) -> subprocess.Popen[str]:
    environment = os.environ | {"REPLY_API_KEY": "k", "REPLY_BASE_URL": service.url}
    command = [sys.executable, "-m", "replyio", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("arguments", REFUSED, ids=" ".join)
def test_a_fifo_in_the_place_of_a_file_is_refused_at_once(arguments: list[str], folder: Path, service: Sandbox) -> None:
    with start(arguments, folder, service) as process:
        try:
            _, told = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode in {1, 2}, told
    assert told.count("\n") == 1
    assert "Traceback" not in told
    assert "fifo" in told or "replyplan" in told or "--rows" in told


@pytest.mark.parametrize("arguments", WAITING, ids=" ".join)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_whoever_waits_for_a_fifo_can_be_ended(
    arguments: list[str], ending: signal.Signals, folder: Path, service: Sandbox
) -> None:
    with start(arguments, folder, service) as process:
        time.sleep(1.5)
        if process.poll() is None:
            process.send_signal(ending)
        try:
            _, told = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode in {130, 143, -ending}, (process.returncode, told)
    assert "Traceback" not in told
