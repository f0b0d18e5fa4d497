"""The long runs can be run, so that they do not rot; and the pages that are made say what is so."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.mark.skipif(sys.platform != "linux", reason="they look into /proc")
@pytest.mark.parametrize(
    "part", ["wire-", "exits", "interrupts", "loops", "processes", "threads", "first", "suspends", "memory"]
)
def test_the_long_runs_can_be_run_and_nothing_falls_short(part: str, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "reliability.worker", "--quick", "--only", part, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    told = json.loads(out.read_text(encoding="utf-8"))["results"]
    assert told
    assert {name: result["notes"] for name, result in told.items() if result["short"]} == {}


def loaded(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own words for its errors are in it")
def test_the_page_of_errors_is_what_make_docs_writes() -> None:
    # In a process of its own: it changes the environment, and leaves the client's quota used up.
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-W", "error", str(DOCS / "gallery.py"), "--print"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr.decode()
    made, page = done.stdout.decode(), (DOCS / "errors.md").read_text(encoding="utf-8")
    gallery = loaded("gallery")
    assert gallery.normalized(made).strip() == gallery.normalized(page).strip(), "run `make docs`"


def test_every_exception_is_in_the_page_of_errors() -> None:
    import replyio.errors

    page = (DOCS / "errors.md").read_text(encoding="utf-8")
    # FieldError is not an exception, and ReplyError is the base.
    expected = set(replyio.errors.__all__) - {"FieldError", "ReplyError"}
    assert {name for name in expected if f"`{name}`" not in page} == set()


@pytest.mark.skipif(not (DOCS / "reliability.json").exists(), reason="the long runs have not been run here")
def test_the_page_of_the_long_runs_is_made_from_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from reliability import report

    data = json.loads((DOCS / "reliability.json").read_text(encoding="utf-8"))
    page = (DOCS / "reliability.md").read_text(encoding="utf-8")
    assert page == report.page(data), "run `python -m reliability --render`"
