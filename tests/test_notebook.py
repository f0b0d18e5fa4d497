"""The notebooks of the tutorials, executed from top to bottom in a kernel of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
LAST_WORDS = {"one-account.ipynb": "may have been applied", "ten-thousand-accounts.ipynb": "500 changed"}


def test_each_notebook_is_run_here() -> None:
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(LAST_WORDS)


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", LAST_WORDS)
def test_a_notebook_of_the_tutorials_runs(name: str, tmp_path: Path) -> None:
    notebook = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "the site executes the notebooks; the repository has no outputs"
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    (tmp_path / name).write_text(json.dumps(notebook), encoding="utf-8")
    environment = os.environ | {"JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [
        sys.executable,
        "-c",
        "from nbclient.cli import main; main()",
        "--inplace",
        "--timeout=120",
        name,
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=140)
    assert done.returncode == 0, done.stderr.decode()
    assert LAST_WORDS[name] in (tmp_path / name).read_text(encoding="utf-8")
