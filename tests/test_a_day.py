"""A day of a data person, as they see it: in a terminal, in a notebook, from cron, and in their tests.

`tests/a_day` has the transcripts: what the package shows, with `…` for what differs between two runs, such as times.
`REPLYIO_WRITE_TRANSCRIPTS=1` writes them again.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from replyio.sandbox import Fault, Sandbox
from support import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pexpect = pytest.importorskip("pexpect")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal, and a shell of POSIX")

CITIES = ("Oslo", "Bergen", "Molde", "Bodø", "Narvik", "Hamar")
NO_OWNER = {"status": 400, "title": "Bad Request", "detail": "The owner of this account has left the team"}


@pytest.fixture
def service() -> Iterator[Sandbox]:
    accounts = [{"id": id, "name": f"Company {id}", "city": city} for id, city in enumerate(CITIES, 1)]
    with Sandbox(accounts=accounts) as sandbox:
        yield sandbox


def edited_in_excel(file: Path) -> None:
    """Excel saves with semicolons and a byte order mark. Two cities were corrected, an id was mistyped, a row added."""
    rows = [line.split(",") for line in file.read_text(encoding="utf-8-sig").splitlines()]
    city = rows[0].index("city")
    for row in rows[1:5]:
        row[city] = f"{row[city]} sentrum"
    rows[5][0] = "4,711"
    rows.append(["99", *rows[1][1:]])
    file.write_text("\r\n".join(";".join(row) for row in rows) + "\r\n", encoding="utf-8-sig")


SAME = (
    (re.compile(r"\d+ ms|\d+\.\d+ ?s\b|(about )?\b\d+ s\b|less than a second|under 1 ms"), "…"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://…"),
    (re.compile(r"\b\d\d:\d\d\b"), "…"),
    (re.compile(r"/[\w/.-]*/(?=[\w.-]+\.replyplan)"), "…/"),
    (re.compile(r'"seconds": [\d.e-]+'), '"seconds": …'),
    # How much was done when Ctrl-C came, and what was left for the next run.
    (re.compile(r" *\d+%\|[ ▏▎▍▌▋▊▉█#0-9]*\| \d+/(\d+) rows"), r" …%|…| …/\1 rows"),
    (re.compile(r"\d+ requests?(?=(, … left)?$)"), "… requests"),
    (re.compile(r"stopped with \d of"), "stopped with … of"),
)


def same(text: str) -> str:
    """The text without what differs between two runs."""
    for pattern, instead in SAME:
        text = pattern.sub(instead, text)
    return text


def assert_is_the_transcript(name: str, lines: list[str]) -> None:
    """What was shown is what the transcript of that name has."""
    file = Path(__file__).parent / "a_day" / f"{name}.txt"
    if os.environ.get("REPLYIO_WRITE_TRANSCRIPTS"):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert lines == file.read_text(encoding="utf-8").splitlines()


class Terminal:
    """A terminal of 80 columns. It keeps what a person sees in the end: a line that is written over is not there."""

    def __init__(self, service: Sandbox, folder: Path) -> None:
        self._folder = folder
        self._variables = environment(service, PATH=f"{folder}:{os.environ['PATH']}", TERM="xterm", LANG="C.UTF-8")
        command = folder / "replyio"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m replyio "$@"\n', encoding="utf-8")
        command.chmod(0o755)
        self.lines: list[str] = []

    def __call__(self, command: str, *, ctrl_c_when: Callable[[], bool] | None = None) -> int:
        """Runs a command, and gives its exit code."""
        self.lines.append(f"$ {command}")
        child = pexpect.spawn(
            "bash", ["-c", command], cwd=str(self._folder), env=self._variables, dimensions=(24, 80), encoding="utf-8",
            timeout=60,
        )  # fmt: skip
        if ctrl_c_when is not None:
            end = time.monotonic() + 30
            while not ctrl_c_when() and time.monotonic() < end:
                time.sleep(0.01)
            child.sendintr()
        child.expect(pexpect.EOF)
        child.close()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", child.before)
        for line in text.replace("\r\n", "\n").split("\n"):
            shown = line.rpartition("\r")[2].rstrip()
            # A message may take several lines, a table and a progress may not.
            assert len(shown) <= 80 or shown.startswith("replyio: "), shown
            if shown:
                self.lines.append(same(shown))
        return child.exitstatus or 0


def updates(service: Sandbox) -> int:
    return sum(request.method == "PUT" for request in service.requests)


def test_in_a_terminal(service: Sandbox, tmp_path: Path) -> None:
    terminal = Terminal(service, tmp_path)
    # The delay makes the time in the message as long in every run, so that its lines break where they always do.
    no_owner = Fault(method="PUT", status=400, body=NO_OWNER, id=3, delay=0.15)
    assert terminal("replyio list --format csv > accounts.csv") == 0
    edited_in_excel(tmp_path / "accounts.csv")
    assert terminal("replyio plan accounts.csv --save-as day.replyplan") == 0
    assert terminal("replyio status day.replyplan --show changes") == 1
    service.add_fault(no_owner)
    service.add_fault(Fault(method="PUT", delay=1.0, applied=True))
    assert terminal("replyio apply day.replyplan", ctrl_c_when=lambda: updates(service) > 0) == 130
    service.clear_faults()
    service.add_fault(no_owner)
    assert terminal("replyio apply day.replyplan") == 1
    assert terminal("replyio status day.replyplan --show failures") == 1
    service.clear_faults()
    assert terminal("replyio apply day.replyplan --retry-failed --show changes") == 1
    assert terminal("replyio revert day.replyplan") == 0
    assert_is_the_transcript("terminal", terminal.lines)
    assert [account.city for account in service.accounts.values()] == list(CITIES)


IN_A_NOTEBOOK = (
    """import replyio
client = replyio.ReplyClient(quota=None)
table = client.list_contact_accounts().to_pandas()[["id", "city"]]
table""",
    """table["city"] += " sentrum"
table.loc[5, "id"] = 99
plan = client.plan_contact_account_updates(table, save_as="day.replyplan", if_exists="resume", progress=False)
plan""",
    "plan.changes[:2].to_pandas()",
    "plan.apply(limit=2)",
    """result = plan.apply(progress=False)
result""",
    "result.failures",
    "result.counts",
    "result.join(table)",
    "result.revert(progress=False)",
)


def shown(outputs: list[Any]) -> list[str]:
    """What is below a cell, as text: of HTML its words, and what stands in code."""
    lines: list[str] = []
    for output in outputs:
        if output.output_type == "stream":
            lines += output.text.splitlines()
        elif output.output_type == "error":
            lines.append(f"{output.ename}: {output.evalue}")
        elif "dataframe" not in output.data.get("text/html", "dataframe"):
            text = re.sub(r"<code[^>]*>(.*?)</code>", r"\n`\1`", output.data["text/html"])
            text = re.sub(r"</(?:div|tr)>", "\n", text)
            text = re.sub(r"</td>|</th>|</b>|<span[^>]*>", "  ", re.sub(r"<progress[^>]*></progress>", "[bar]", text))
            lines += html.unescape(re.sub(r"<[^>]+>", "", text)).splitlines()
        else:
            lines += output.data["text/plain"].splitlines()
    return [same(re.sub(r"\s{2,}", "  ", line).strip()) for line in lines if line.strip()]


def test_in_a_notebook(service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(service, JUPYTER_PLATFORM_DIRS="1", IPYTHONDIR=str(tmp_path / "ipython")).items():
        monkeypatch.setenv(name, value)
    service.add_fault(Fault(method="PUT", status=400, body=NO_OWNER, id=3))
    cells = [nbformat.v4.new_code_cell(code) for code in IN_A_NOTEBOOK]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    lines: list[str] = []
    for cell in notebook.cells:
        lines += [f">>> {line}" for line in cell.source.splitlines()] + shown(cell.outputs)
    assert_is_the_transcript("notebook", lines)


CRON = """replyio plan rows.csv --save-as nightly.replyplan --resume > plan.json
replyio apply nightly.replyplan --max-changes 100 > result.json"""


def test_from_cron(service: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,city\n1,Molde\n2,Molde\n99,Molde\n", encoding="utf-8")
    command = f'"{sys.executable}" -m replyio'
    job = "set -e\n" + CRON.replace("replyio ", f"{command} ")
    lines: list[str] = []
    for _ in range(2):
        done = subprocess.run(
            ["/usr/bin/env", "bash", "-c", job], cwd=tmp_path, env=environment(service), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        counts = re.findall(r'"(\w+)": ([1-9]\d*)', (tmp_path / "result.json").read_text(encoding="utf-8"))
        lines += [*done.stderr.splitlines(), f"result.json {dict(counts)}", f"exit {done.returncode}"]
    assert_is_the_transcript("cron", [*(f"$ {line}" for line in CRON.splitlines()), *map(same, lines)])


def test_in_pytest(tmp_path: Path) -> None:
    job = '''"""The job of somebody, and its test."""
import replyio


def move(city):
    result = replyio.ReplyClient().patch_contact_accounts([{"id": 4711, "city": city}], progress=False)
    result.raise_for_failures()
    return result


def test_move(reply_sandbox):
    assert move("Narvik").counts == {"changed": 1}
    assert reply_sandbox.accounts[4711].city == "Narvik"


def test_move_of_an_account_that_nobody_may_change(reply_sandbox):
    from replyio.sandbox import Fault

    reply_sandbox.add_fault(Fault(method="PUT", status=400))
    move("Narvik")
'''
    (tmp_path / "test_job.py").write_text(job, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "test_job.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    lines = [line.rstrip() for line in done.stdout.splitlines() if line.startswith(("E ", "1 ", ".F"))]
    assert_is_the_transcript("pytest", [*job.splitlines(), "", "$ pytest -q", *map(same, lines)])
