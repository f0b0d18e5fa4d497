"""`make demo` fits a terminal of 80 columns, cuts nothing without an ellipsis, and has colors where they are seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pexpect = pytest.importorskip("pexpect")

EXAMPLES = Path(__file__).parent.parent / "examples"
DEMO = [str(EXAMPLES / name) for name in ("quickstart.py", "fifty_accounts.py")]
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def seen(**variables: str) -> str:
    """What a terminal of 80 columns shows of the demo."""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    text = ""
    for program in DEMO:
        child = pexpect.spawn(
            sys.executable, [program], env=environment | variables, dimensions=(24, 80), encoding="utf-8", timeout=60
        )
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0, child.before
        text += child.before
    return text.replace("\r\n", "\n")


@pytest.fixture(scope="module")
def demo() -> str:
    return seen(TERM="xterm-256color")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_it_fits_80_columns(demo: str) -> None:
    wide = [line for line in COLOR.sub("", demo).splitlines() if len(line) > 80]
    assert not wide, "\n".join(wide)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_value_that_is_cut_ends_with_an_ellipsis(demo: str) -> None:
    from_the_whole = ("Charging stations for ferries and ports", "https://www.linkedin.com/company/nordlys-example")
    shown = COLOR.sub("", demo)
    for whole in from_the_whole:
        cut = set(re.findall(rf"{re.escape(whole[:16])}[^\s]*(?: [^\s]+)*", shown))
        assert cut
        assert all(text.startswith(whole) or "…" in text for text in cut), cut


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_colors_are_for_terminals(demo: str) -> None:
    assert COLOR.search(demo)
    assert not COLOR.search(seen(NO_COLOR="1"))
    assert not COLOR.search(seen(TERM="dumb"))
    for program in DEMO:
        done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=60)
        assert not COLOR.search(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_it_says_why_the_owner_stays(demo: str) -> None:
    assert "owner_user_id stays" in COLOR.sub("", demo)
