"""What the documentation shows is run as it stands: the README, the pages, the docstrings, the examples."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import os
import pkgutil
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio._cli_overview import EXIT_CODES
from replyio.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType
ROOT = Path(__file__).parent.parent
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "python" / "replyio" / "SKILL.md"]
PAGES = [path for path in sorted(FILES) if path.name != "CHANGELOG.md"]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODULES = ["replyio", *(f"replyio.{info.name}" for info in pkgutil.iter_modules(replyio.__path__))]
COMPARE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Session:
    """A notebook: names stay from one piece of code to the next, and `await` can be written anywhere."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.loop = asyncio.new_event_loop()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.close()

    def evaluate(self, code: CodeType) -> None:
        result = eval(code, self.names)  # noqa: S307
        if inspect.iscoroutine(result):
            self.loop.run_until_complete(result)

    def run_block(self, source: str, name: str, line: int) -> None:
        if ">>>" in source:
            for example in doctest.DocTestParser().get_examples(source):
                self.run_example(example, name, line)
        else:
            # The empty lines make a traceback point into the page.
            self.evaluate(compile("\n" * line + source, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))

    def run_example(self, example: doctest.Example, name: str, line: int) -> None:
        place = f"{name}:{line + example.lineno + 1}"
        assert doctest.SKIP not in example.options, f"{place}: is not run"
        code = compile("\n" * (line + example.lineno) + example.source, name, "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            if example.exc_msg is None:
                self.evaluate(code)
            else:
                with pytest.raises(Exception) as caught:  # noqa: PT011
                    self.evaluate(code)
                print(traceback.format_exception_only(caught.value)[-1], end="")
        wanted = example.want if example.exc_msg is None else example.exc_msg
        assert doctest.OutputChecker().check_output(wanted, output.getvalue(), COMPARE), (
            f"{place}: {example.source}gives:\n{output.getvalue()}instead of:\n{wanted}"
        )


def blocks(page: Path, *languages: str) -> Iterator[tuple[str, int]]:
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match[1] in languages:
            yield match[2], text.count("\n", 0, match.start(2))


@pytest.fixture
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("configured", "_in_a_folder_of_its_own")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(blocks(page, "python", "pycon"))], ids=lambda page: page.name
)
def test_the_code_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    with Session() as session:
        for source, line in blocks(page, "python", "pycon"):
            session.run_block(source, str(page), line)


def test_the_readme_shows_python_code() -> None:
    assert any(blocks(ROOT / "README.md", "python"))


def docstrings() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name), name)]
    return [test for test in found if test.examples]


@pytest.mark.usefixtures("configured", "_in_a_folder_of_its_own")
@pytest.mark.parametrize("test", docstrings(), ids=lambda test: test.name)
def test_the_examples_of_a_docstring_do_what_they_say(test: doctest.DocTest) -> None:
    with Session() as session:
        session.names |= {name: getattr(replyio, name) for name in replyio.__all__}
        for example in test.examples:
            session.run_example(example, test.filename or test.name, test.lineno or 0)


@pytest.mark.parametrize("name", MODULES)
def test_what_is_called_an_example_can_be_run(name: str) -> None:
    source = inspect.getsource(importlib.import_module(name)) if name != "replyio._replyio" else ""
    for section in re.findall(r"^ *Examples?:\n(.*?)(?:\n\n|\"\"\")", source, re.MULTILINE | re.DOTALL):
        assert ">>>" in section, f"{name}: {section}"


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.name)
@pytest.mark.usefixtures("configured")
def test_the_examples_run(path: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(path)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_only_what_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", text, re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name} points to {link}"


def messages() -> str:
    """Every text of the source, without the line breaks inside Rust strings, and the recorded errors."""
    files = [*ROOT.glob("src/**/*.rs"), *ROOT.glob("python/**/*.py"), ROOT / "docs" / "errors.md"]
    return re.sub(r"\\\n\s*", "", "\n".join(path.read_text(encoding="utf-8") for path in files))


def test_troubleshooting_quotes_messages_that_the_package_shows() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## Rows that are not done")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    known = messages()
    assert len(quoted) > 30
    assert [quote for quote in quoted if quote not in known] == []


def statuses(page: str) -> set[str]:
    """The statuses that are described in the tables of a page."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_troubleshooting_covers_every_status_that_is_not_done() -> None:
    section = {"conflict", "failed", "unknown", "not_found", "ambiguous", "invalid"}
    assert section <= statuses("troubleshooting.md")
    assert section | {"unchanged", "pending", "changed"} <= statuses("reference/plan-tables.md")


def test_the_skill_for_coding_agents_has_every_exit_code() -> None:
    text = (ROOT / "python" / "replyio" / "SKILL.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == set(EXIT_CODES)


def test_the_map_of_the_code_names_every_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Map of the code")[2]
    text = text.partition("### What happens to a call")[0]
    modules = {path.stem for path in ROOT.glob("src/*") if path.name not in {"lib.rs", "python.rs", "plan"}}
    modules |= {path.stem for path in ROOT.glob("src/plan/*")} - {"mod"}
    folders = {path.name for path in ROOT.iterdir() if path.name in {"benches", "reliability", "fuzz", "packaging"}}
    assert len(modules) > 30
    assert [name for name in sorted(modules | folders) if not re.search(rf"\b{name}\b", text)] == []


def test_each_call_that_sends_requests_has_an_async_form() -> None:
    def forms(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_") and inspect.isfunction(getattr(kind, name))}

    client = {name for name in forms(replyio.ReplyClient) if "contact_account" in name}
    plan = {name for name in forms(replyio.Plan) if name.startswith(("apply", "retry", "revert"))}
    for names in (client, plan):
        plain = {name for name in names if not name.endswith("_async")}
        assert plain
        assert {f"{name}_async" for name in plain} == names - plain


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "localhost", "[::1]"])
def test_plain_http_is_accepted_on_loopback_addresses(address: str) -> None:
    assert address in str(replyio.ReplyClient("a-key", base_url=f"http://{address}:9/v3"))


def test_plain_http_is_refused_on_other_addresses() -> None:
    with pytest.raises(replyio.ConfigurationError, match="https"):
        replyio.ReplyClient("a-key", base_url="http://10.0.0.1/v3")


def test_a_member_that_an_answer_lacks_is_null_in_json() -> None:
    with Sandbox(faults=[Fault(status=200, body={"id": 1, "name": "Acme", "ownerUserId": 2, "city": ""})]) as sandbox:
        members = sandbox.client().get_contact_account(1).to_dict()
    assert (members["city"], members["country"]) == ("", None)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("quota", "seconds"), [("", 2.0), (", quota=None", 0.0)])
def test_a_hold_after_retry_after_reaches_processes_that_share_the_quota(
    quota: str, seconds: float, status: int
) -> None:
    """docs/explanation/quota.md says who waits after a `Retry-After`."""
    code = f"""
import sys, time
from replyio import ReplyClient
begin = time.monotonic()
ReplyClient("a-key", base_url=sys.argv[1]{quota}).get_contact_account(4711)
print(time.monotonic() - begin)
"""
    with Sandbox(faults=[Fault(request=1, status=status, retry_after=3)]) as sandbox:
        client = replyio.ReplyClient("a-key", base_url=sandbox.url, max_attempts=1)
        with pytest.raises(replyio.APIError):
            client.get_contact_account(4711)
        told = time.monotonic()
        command = [sys.executable, "-c", code, sandbox.url]
        waited = float(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
        assert waited >= seconds if seconds else waited < 2
        client.with_options(quota=None).get_contact_account(4711)
        assert time.monotonic() - told >= 2.9, "in the process that was told, every call waits"


def test_the_page_of_guarantees_lists_the_statuses_that_are_retried() -> None:
    text = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")
    found = re.search(r"^\| ([\d, ]+), 520 to 599 \| yes \|", text, re.MULTILINE)
    assert found is not None
    retried = {int(status) for status in found[1].split(", ")}
    for status in sorted(retried | {400, 402, 404, 409, 501, 505, 519, 520, 599}):
        with Sandbox(faults=[Fault(status=status, times=1)]) as sandbox:
            with contextlib.suppress(replyio.ReplyError):
                sandbox.client(max_attempts=2).get_contact_account(4711)
            assert (len(sandbox.requests) == 2) == (status in retried or 520 <= status <= 599), status


@pytest.mark.parametrize(("page_size", "limit"), [(1, 1), (16, 1), (17, 2), (100, 7)])
def test_a_page_has_64_kib_for_each_account_rounded_up_to_the_next_mib(page_size: int, limit: int) -> None:
    with Sandbox(faults=[Fault(status=200, body={"items": ["x" * (8 << 20)]})]) as sandbox:
        accounts = sandbox.client(max_attempts=1).list_contact_accounts(page_size=page_size)
        with pytest.raises(replyio.UnexpectedResponseError, match=f"longer than {limit} MiB"):
            next(accounts)


def test_an_id_that_no_page_has_takes_a_request_of_its_own() -> None:
    """docs/explanation/quota.md says how few requests a plan takes, and when it takes more."""
    with Sandbox(accounts=[{"id": number, "name": "Acme"} for number in range(1, 1501)]) as sandbox:
        rows = [{"id": 10_000 + number, "city": "Oslo"} for number in range(30)]
        plan = sandbox.client().plan_contact_account_updates(rows, progress=False)
        assert plan.counts == {"not_found": 30}
        assert len(sandbox.requests) == 2 + 30


def test_the_page_of_progress_has_every_member_of_a_state() -> None:
    states: list[dict[str, Any]] = []
    with Sandbox() as sandbox:
        sandbox.client().plan_contact_account_updates([{"id": 4711, "city": "Bergen"}], progress=states.append)
    text = (ROOT / "docs" / "how-to" / "progress.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(states[-1])
    assert states[-1]["seconds_left"] is None, "without a quota"


def test_an_export_for_a_spreadsheet_selects_the_rows_of_a_run(tmp_path: Path) -> None:
    """docs/how-to/approve.md lets a colleague edit such a file."""
    with Sandbox() as sandbox:
        rows = [{"id": 4711, "phone": "+47 1"}, {"id": 4712, "city": "=Rome"}]
        plan = sandbox.client().plan_contact_account_updates(rows, progress=False)
        plan.export(tmp_path / "changes.csv", "changes", for_spreadsheet=True)
        assert b"'=Rome" in (tmp_path / "changes.csv").read_bytes()
        assert plan.apply(rows=tmp_path / "changes.csv", progress=False).counts == {"changed": 2}


def test_the_errors_of_python_that_the_page_of_exceptions_lists_stay_as_they_are(tmp_path: Path) -> None:
    existing = tmp_path / "rows.csv"
    with Sandbox() as sandbox:
        client = sandbox.client()
        plan = client.plan_contact_account_updates([{"id": 4711, "city": "Bergen"}], progress=False)
        plan.export(existing)
        for error, call in (
            (TypeError, lambda: client.plan_contact_account_updates({"id": [4711]}, progress=False)),
            (FileNotFoundError, lambda: client.plan_contact_account_updates(tmp_path / "no.csv", progress=False)),
            (FileExistsError, lambda: plan.export(existing)),
        ):
            with pytest.raises(error) as caught:
                call()
            assert not isinstance(caught.value, replyio.ReplyError)


def test_the_page_of_errors_shows_every_error_that_can_be_met() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\*\*`(\w+)`\*\*", text, re.MULTILINE))
    raised = {name for name in replyio.errors.__all__ if issubclass(getattr(replyio, name), BaseException)}
    # Nothing raises the one, and no ordinary call the other.
    assert shown == raised - {"ReplyError", "InternalError"}
