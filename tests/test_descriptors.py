"""A process without a file descriptor left is told so: the error blames neither the network nor a setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from replyio.sandbox import Fault, Sandbox
from support import run

# The first call leaves a thread-bound runtime behind, so that only the connection of the second one has no descriptor.
EXHAUSTED = """
import os, resource
from replyio import ReplyClient, TransportError

client = ReplyClient(quota=None, max_attempts=2)
{before}
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    {call}
    outcome = None
except Exception as error:
    outcome = error
for descriptor in held:
    os.close(descriptor)
print(type(outcome).__name__, outcome)
print({after})
"""


@pytest.mark.parametrize("call", ["get_contact_account(4711)", "patch_contact_account(4711, city='Bergen')"])
def test_a_connection_without_a_descriptor_says_so_and_nothing_was_sent(call: str) -> None:
    code = EXHAUSTED.format(
        before="try:\n    client.get_contact_account(4711)\nexcept TransportError:\n    pass",
        call=f"client.{call}",
        after="client.get_contact_account(4711).id",
    )
    with Sandbox(faults=[Fault(close=True, times=2)]) as sandbox:
        done = run(code, sandbox)
        assert done.returncode == 0, done.stderr
        said, works = done.stdout.splitlines()
        assert said.startswith("TransportError ")
        assert "could not connect: this process has no file descriptor left after 2 attempts" in said
        assert said.endswith(
            "hint: close files and connections, or raise the limits of this process (ulimit -n, ulimit -u)"
        )
        assert "may have been applied" not in said
        assert works == "4711"
        assert len(sandbox.requests) == 3


@pytest.mark.parametrize("call", ["open_plan(path)", "open_plan(path).apply()", "open_plan(path).revert()"])
def test_a_plan_without_a_descriptor_says_so(call: str, tmp_path: Path) -> None:
    path = tmp_path / "a.replyplan"
    plan = "client.plan_contact_account_updates([{'id': 4711, 'city': 'Bergen'}], save_as=path, progress=False)"
    code = EXHAUSTED.format(
        before=f"path = {str(path)!r}\nplan = {plan}",
        call=f"client.{call}",
        after="client.open_plan(path).apply(progress=False).counts",
    )
    with Sandbox() as sandbox:
        done = run(code, sandbox)
    assert done.returncode == 0, done.stderr
    said, works = done.stdout.splitlines()
    assert said == (
        f"PlanError plan file {path}: cannot be opened, because this process has no file descriptor left; close files "
        "and connections, or raise the limit of this process (ulimit -n)"
    )
    assert works == "{'changed': 1}"


def test_the_quota_counts_alone_without_a_descriptor_and_says_that_this_ends(tmp_path: Path) -> None:
    code = EXHAUSTED.replace("quota=None, ", "").format(
        before=f"""
logging.basicConfig(stream=sys.stdout, format='%(message)s')
client.get_contact_account(4711)
for path in pathlib.Path({str(tmp_path)!r}).glob('quota/*.ledger'):
    path.unlink()
time.sleep(0.2)
""",
        call="client.get_contact_account(4711)",
        after="client.get_contact_account(4711).id, client.quota_left().shared",
    )
    with Sandbox() as sandbox:
        done = run(f"import logging, pathlib, sys, time{code}", sandbox, variables={"REPLYIO_STATE_DIR": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert "for now, the quota counts only this process: " in done.stdout
    assert "replyio tries the quota file again in 60 s" in done.stdout
    assert done.stdout.splitlines()[-1] == "4711 False"


@pytest.mark.parametrize("setting", ["ca_file", "SSL_CERT_FILE", "SSL_CERT_DIR", "nothing"])
def test_authorities_that_cannot_be_opened_for_want_of_a_descriptor_blame_no_setting(
    setting: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes((Path(__file__).parent / "client" / "authority.pem").read_bytes())
    is_variable = setting.startswith("SSL")
    before = f"os.environ[{setting!r}] = {str(path if setting.endswith('FILE') else tmp_path)!r}" if is_variable else ""
    option = f", ca_file={str(path)!r}" if setting == "ca_file" else ""
    code = EXHAUSTED.format(
        before=before,
        call=f"ReplyClient('key', base_url='https://service.test/v3'{option})",
        after=f"ReplyClient('key', base_url='https://service.test/v3'{option})",
    )
    with Sandbox() as sandbox:
        done = run(code, sandbox)
    assert done.returncode == 0, done.stderr
    said, works = done.stdout.splitlines()
    assert said.startswith(
        "TransportError no request was sent: the operating system refused a resource that the call needs"
    )
    assert works == "<ReplyClient for https://service.test/v3>"
