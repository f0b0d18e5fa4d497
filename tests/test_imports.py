"""`import replyio` costs next to nothing, and works however Python was started."""

from __future__ import annotations

import subprocess
import sys

import pytest

COSTLY = ["asyncio", "dataclasses", "enum", "logging", "pandas", "polars", "pyarrow", "typing"]


def run(code: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, *options, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.parametrize("statement", ["import replyio", "from replyio import ReplyClient, ReplyError"])
def test_an_import_loads_nothing_costly(statement: str) -> None:
    # Without `site` nothing is loaded before; what it would load is not the package's doing.
    paths = [path for path in sys.path if path]
    code = f"import sys; sys.path[:] = {paths!r}; {statement}; print(*sorted(set({COSTLY!r}) & set(sys.modules)))"
    assert run(code, "-I", "-S") == ""


@pytest.mark.parametrize("options", [["-W", "error"], ["-O"], ["-OO"], ["-I"], ["-b", "-b"], ["-X", "dev"]])
def test_every_public_name_can_be_used_however_python_was_started(options: list[str]) -> None:
    code = "import replyio; print(*(name for name in replyio.__all__ if getattr(replyio, name) is None))"
    assert run(code, *options) == ""


def test_a_star_import_brings_every_public_name() -> None:
    code = "from replyio import *; import replyio; print(*set(replyio.__all__) - set(globals()))"
    assert run(code) == ""


def test_the_wheel_is_tested_and_not_the_tree() -> None:
    assert "site-packages" in run("import replyio._replyio; print(replyio._replyio.__file__)")


@pytest.mark.parametrize("ended", [True, False])
def test_a_second_interpreter_ends_as_it_should(ended: bool) -> None:
    # Newer Pythons refuse the import there, with an ImportError.
    code = f"""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
number = interpreters.create()
try:
    interpreters.run_string(number, "import replyio; replyio.ReplyClient('key').close()")
except Exception as error:
    assert "ImportError" in repr(error), error
if {ended}:
    interpreters.destroy(number)
print("ended")
"""
    assert run(code, "-W", "ignore") == "ended"
