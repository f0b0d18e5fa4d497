"""The types say what the code does: the stub is that of the compiled module, and both checkers find what is wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "tests/typing").glob("*.py"))
WRONG = [path for path in EXAMPLES if path.name.startswith("wrong_")]
SOURCES = [*ROOT.glob("python/replyio/**/*.py"), *ROOT.glob("python/replyio/**/*.pyi"), *ROOT.glob("examples/*.py")]
FILES = [path.relative_to(ROOT).as_posix() for path in (*SOURCES, *EXAMPLES)]
EXPECTED = re.compile(r"(mypy|pyright)\[([\w-]+)\]")


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    message: str = ""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)


def relative(path: str) -> str:
    return (ROOT / path).resolve().relative_to(ROOT.resolve()).as_posix()


def mypy() -> list[Finding]:
    done = run("mypy", "--output=json", *FILES)
    assert not done.stderr, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = [each for each in found if each["severity"] == "error"]
    assert bool(errors) == bool(done.returncode), done.stdout
    return [Finding(relative(each["file"]), each["line"], each["code"], each["message"]) for each in errors]


def pyright() -> list[Finding]:
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, *FILES)
    report: dict[str, Any] = json.loads(done.stdout)
    # Files that a setting excludes would pass unseen.
    assert report["summary"]["filesAnalyzed"] == len(FILES), done.stdout
    return [
        Finding(relative(each["file"]), each["range"]["start"]["line"] + 1, each.get("rule", ""), each["message"])
        for each in report["generalDiagnostics"]
    ]


@pytest.fixture(scope="module", params=[mypy, pyright])
def checker(request: pytest.FixtureRequest) -> tuple[str, list[Finding]]:
    """A type checker's name, and what it finds in the package and the examples."""
    return request.param.__name__, request.param()


def expected(checker: str, path: Path) -> list[tuple[int, str]]:
    return [
        (number, rule)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for name, rule in EXPECTED.findall(line.partition("# wrong: ")[2])
        if name == checker
    ]


def test_the_package_and_the_right_examples_have_no_error(checker: tuple[str, list[Finding]]) -> None:
    found = [each for each in checker[1] if not Path(each.path).name.startswith("wrong_")]
    assert not found, "\n".join(map(str, found))


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_the_wrong_examples_have_the_errors_that_they_say(checker: tuple[str, list[Finding]], path: Path) -> None:
    name, findings = checker
    found = [each for each in findings if Path(each.path).name == path.name]
    marked = expected(name, path)
    assert marked
    assert sorted((each.line, each.rule) for each in found) == marked, found


def test_the_stub_is_that_of_the_compiled_module() -> None:
    done = run("mypy.stubtest", "replyio._replyio", "--mypy-config-file", "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr


HINTS = """
import typing
import replyio, replyio.sandbox

hidden, faults = ("__init__", "__enter__", "__aenter__", "__exit__", "__iter__", "__next__", "__arrow_c_stream__"), []
for module in (replyio, replyio.sandbox):
    for name in module.__all__:
        public = getattr(module, name)
        mro = getattr(public, "__mro__", ())
        bases = [base for base in mro if base is public or base.__name__.startswith("_")]
        members = [item for base in bases for item in vars(base).items()]
        for path, member in [(name, public), *((f"{name}.{key}", value) for key, value in members)]:
            if path.rpartition(".")[2].startswith("_") and path.rpartition(".")[2] not in hidden:
                continue
            member = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if callable(member) and hasattr(member, "__annotations__"):
                try:
                    typing.get_type_hints(member)
                except Exception as error:
                    faults.append(f"{path}: {error}")
print(*faults, sep="\\n")
"""


def test_the_types_of_every_public_callable_can_be_asked_for_at_run_time() -> None:
    done = subprocess.run([sys.executable, "-c", HINTS], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")
