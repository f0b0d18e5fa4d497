"""Experiment: stops and continues a process during a call or a wait, as a suspended laptop does."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

from common import PLAIN, SILENT, SLOW, Report, client, main

import replyio
from replyio.sandbox import Fault, Sandbox

AT_ONCE = 10
LATE = 2.0


def suspend(count: int, report: Report, victim: str, stopped_for: float) -> None:
    """Stops victims while they wait, and reads what they came to."""
    for _ in range(0, count, AT_ONCE):
        command = [sys.executable, "-W", "error", __file__, victim]
        number = min(count, AT_ONCE)
        victims = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
        for process in victims:
            assert process.stdout
            process.stdout.readline()
        time.sleep(0.02 + random.random() * 0.1)
        for process in victims:
            process.send_signal(signal.SIGSTOP)
        time.sleep(stopped_for)
        continued = time.monotonic()
        for process in victims:
            process.send_signal(signal.SIGCONT)
        for process in victims:
            out, _ = process.communicate(timeout=30)
            told = json.loads(out.splitlines()[-1])
            report.check(told["good"] and told["ended"] - continued < told["allowed"], told)


def tell(*, good: bool, what: str, allowed: float) -> None:
    """The victim's last words."""
    print(json.dumps({"good": good, "what": what, "ended": time.monotonic(), "allowed": allowed}))


def victim_call() -> None:
    """A call whose answer comes meanwhile."""
    reply = client()
    reply.get_contact_account(PLAIN)
    print("ready", flush=True)
    account = reply.get_contact_account(SLOW)
    tell(good=account.id == SLOW, what="call", allowed=LATE)


def victim_wait() -> None:
    """A wait of a second that is over meanwhile; the request is then sent at once."""
    with Sandbox(
        accounts=[{"id": PLAIN, "name": "Acme"}], faults=[Fault(status=503, retry_after=1, times=1)]
    ) as sandbox:
        print("ready", flush=True)
        account = sandbox.client().get_contact_account(PLAIN)
        good = account.id == PLAIN and len(sandbox.requests) == 2
    tell(good=good, what=f"account {account.id}", allowed=LATE)


def victim_deadline() -> None:
    """A call whose time runs out meanwhile; the next gets its own answer."""
    reply = client(timeout=0.6)
    print("ready", flush=True)
    try:
        reply.get_contact_account(SILENT)
        good, what = False, "an answer"
    except replyio.DeadlineExceededError as error:
        good, what = True, str(error)
    tell(good=good and reply.get_contact_account(PLAIN).id == PLAIN, what=what, allowed=LATE)


def victim_late() -> None:
    """A call whose answer comes and whose time runs out meanwhile: the answer counts."""
    reply = client(timeout=0.9)
    reply.get_contact_account(PLAIN)
    print("ready", flush=True)
    account = reply.get_contact_account(SLOW)
    tell(good=account.id == SLOW, what="call", allowed=LATE)


def call(count: int, report: Report) -> None:
    """During a call."""
    suspend(count, report, "victim_call", 1.0)


def wait(count: int, report: Report) -> None:
    """During a wait."""
    suspend(count, report, "victim_wait", 1.5)


def deadline(count: int, report: Report) -> None:
    """Past the deadline."""
    suspend(count, report, "victim_deadline", 1.0)


def late(count: int, report: Report) -> None:
    """Past the deadline, after the answer has come."""
    suspend(count, report, "victim_late", 1.5)


if __name__ == "__main__":
    main(globals())
