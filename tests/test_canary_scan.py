"""The scan for secrets finds what it is for, and nothing in what is installed."""

from __future__ import annotations

import base64
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest

import replyio

SCRIPT = Path(__file__).with_name("canary_scan.py")
SPECIFICATION = importlib.util.spec_from_file_location("canary_scan", SCRIPT)
assert SPECIFICATION
assert SPECIFICATION.loader
scan = importlib.util.module_from_spec(SPECIFICATION)
SPECIFICATION.loader.exec_module(scan)

SECRET = min(scan.canaries())


def run(*paths: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, paths)], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"X-API-Key: {SECRET}\r\n",
        quote(SECRET, ""),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"user:{SECRET}".encode()).decode(),
        base64.urlsafe_b64encode(f"Bearer {SECRET} ".encode()).decode(),
    ],
    ids=["plain", "header", "percent", "base64", "basic", "bearer"],
)
def test_a_key_is_found_in_every_form_and_never_shown(text: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "server.log").write_bytes(b"\xff\x00 before " + text.encode() + b" behind")
    code, told = run(tmp_path)
    assert code == 1
    assert "server.log: canary" in told
    assert SECRET not in told


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("GET /v3/contact-accounts/4711 200", encoding="utf-8")
    assert run(tmp_path) == (0, f"1 files, 33 bytes, {len(scan.canaries())} canaries, 0 findings\n")


def test_a_folder_that_is_not_there_is_no_success(tmp_path: Path) -> None:
    code, told = run(tmp_path / "missing")
    assert code == 1
    assert "nothing to search" in told


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"panicked at /home/somebody/.cargo/registry/src/lib.rs", "a folder of the machine"),
        (b'"bom-ref": "path+file://' + scan.CHECKOUT + b'Cargo.toml"', "the folder that it was built in"),
        (b"token = ghp_" + b"a1" * 18, "credentials"),
        (b"plain", ""),
    ],
    ids=["home", "checkout", "token", "nothing"],
)
def test_a_wheel_is_searched_for_more(content: bytes, finding: str, tmp_path: Path) -> None:
    wheel = tmp_path / "replyio-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("replyio/module.so", content)
    code, told = run(wheel)
    assert code == (1 if finding else 0)
    assert finding in told


def test_what_is_installed_has_neither_secrets_nor_the_hooks_of_the_long_runs() -> None:
    folder = Path(replyio.__file__).parent
    assert not list(scan.findings([folder], scan.canaries()))
    for path in folder.glob("_replyio*"):
        if path.suffix != ".pyi":
            content = path.read_bytes()
            assert b"REPLYIO_PANIC_AT" not in content
            assert b"REPLYIO_WITHOUT" not in content
