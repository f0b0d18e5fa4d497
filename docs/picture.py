"""Writes docs/_static/plan.png, a picture of a plan as a notebook shows it. Needs Chromium. Run it by hand."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from replyio.sandbox import Sandbox

PAGE = """<!doctype html><meta charset="utf-8"><body style="margin:16px;background:#fff;color:#1b1f24;
font:15px/1.5 'DejaVu Sans',sans-serif">{}</body>"""
TABLE = "id,City,Phone\n4711,Bergen,\n4712,,+49 89 1234567\n4713,Dallas,\n1,Oslo,\n"  # as in the README


def main() -> None:
    """Makes a plan, and lets the browser draw it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("Chromium is not installed")
    with tempfile.TemporaryDirectory() as name, Sandbox() as sandbox:
        folder = Path(name)
        (folder / "companies.csv").write_text(TABLE, encoding="utf-8")
        plan = sandbox.client().plan_contact_account_updates(
            folder / "companies.csv", save_as=folder / "companies.replyplan", progress=False
        )
        (folder / "plan.html").write_text(PAGE.format(plan._repr_html_()), encoding="utf-8")
        picture = Path(__file__).resolve().parent / "_static" / "plan.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=2"]
        subprocess.run(
            [browser, *options, "--window-size=760,262", f"--screenshot={picture}", (folder / "plan.html").as_uri()],
            check=True,
            capture_output=True,
            timeout=60,
        )


if __name__ == "__main__":
    main()
