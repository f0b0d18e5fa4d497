"""The example notebook, executed from top to bottom in a kernel of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "ten_thousand_accounts.ipynb"


@pytest.mark.timeout(150)
def test_the_notebook_of_ten_thousand_accounts_runs(tmp_path: Path) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell.pop("outputs", None)
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    (tmp_path / NOTEBOOK.name).write_text(json.dumps(notebook), encoding="utf-8")
    environment = os.environ | {"JUPYTER_PLATFORM_DIRS": "1", "IPYTHONDIR": str(tmp_path / "ipython")}
    command = [
        sys.executable,
        "-c",
        "from nbclient.cli import main; main()",
        "--inplace",
        "--timeout=120",
        NOTEBOOK.name,
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=140)
    assert done.returncode == 0, done.stderr.decode()
    assert "500 changed" in (tmp_path / NOTEBOOK.name).read_text(encoding="utf-8")
