"""What is in the wheel, as installed: these files and no others, with the licenses and the list of what it contains."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
WHEEL = distribution("replyio")
FILES = {path.as_posix() for path in WHEEL.files or [] if "__pycache__" not in path.parts}
INFO = f"replyio-{WHEEL.version}.dist-info"
MADE_BY_THE_INSTALLER = {f"{INFO}/INSTALLER", f"{INFO}/REQUESTED", f"{INFO}/direct_url.json"}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no versions of glibc")


def read(name: str) -> str:
    return Path(str(WHEEL.locate_file(name))).read_text(encoding="utf-8")


def module() -> Path:
    (name,) = [name for name in FILES if name.startswith("replyio/_replyio.") and not name.endswith(".pyi")]
    return Path(str(WHEEL.locate_file(name)))


def bill() -> dict[str, Any]:
    return dict(json.loads(read(f"{INFO}/sboms/replyio.cyclonedx.json")))


def test_the_wheel_has_these_files_and_no_others() -> None:
    sources = {path.relative_to(ROOT / "python").as_posix() for path in (ROOT / "python").rglob("*.py*")}
    sources = {name for name in sources if name.endswith((".py", ".pyi"))} | {"replyio/py.typed", "replyio/SKILL.md"}
    described = {
        f"{INFO}/{name}"
        for name in (
            "METADATA",
            "RECORD",
            "WHEEL",
            "entry_points.txt",
            "licenses/LICENSE",
            "licenses/LICENSE-APACHE",
            "licenses/LICENSE-MIT",
            "licenses/THIRD-PARTY-LICENSES",
            "sboms/replyio.cyclonedx.json",
        )
    }
    command = {name for name in FILES if re.search(r"/(bin|Scripts)/replyio(\.exe)?$", name)}
    compiled = module().relative_to(Path(str(WHEEL.locate_file(".")))).as_posix()
    assert FILES - command - MADE_BY_THE_INSTALLER == sources | described | {compiled}


def test_the_notices_in_the_wheel_are_those_of_the_source() -> None:
    assert read(f"{INFO}/licenses/THIRD-PARTY-LICENSES") == (ROOT / "THIRD-PARTY-LICENSES").read_text(encoding="utf-8")
    assert set(WHEEL.metadata.get_all("License-File", [])) == {
        "LICENSE",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "THIRD-PARTY-LICENSES",
    }


def test_the_bill_of_materials_names_this_system_and_nothing_of_another() -> None:
    document = bill()
    target = {item["name"]: item["value"] for item in document["metadata"]["properties"]}["replyio:target"]
    system = {"linux": "linux", "darwin": "apple", "win32": "windows"}[sys.platform]
    machine = {"AMD64": "x86_64", "ARM64": "aarch64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    assert system in target
    assert target.startswith(machine)
    others = {"linux": r"windows|core-foundation|jni", "darwin": r"windows|jni", "win32": "core-foundation|jni"}
    names = {component["name"] for component in document["components"]}
    assert {"pyo3", "rusqlite", "rustls", "sqlite", "rust-std"} <= names
    assert not {name for name in names if re.match(others[sys.platform], name)}


def test_the_notices_have_every_component_of_the_bill() -> None:
    notices = read(f"{INFO}/licenses/THIRD-PARTY-LICENSES")
    for component in bill()["components"]:
        if component["purl"].startswith("pkg:cargo/"):
            assert re.search(rf"^{component['name']} {re.escape(component['version'])}  ", notices, re.MULTILINE)
            assert re.search(rf"^  {component['name']} {re.escape(component['version'])}$", notices, re.MULTILINE)


def test_the_bill_of_materials_depends_on_nothing_but_the_source_and_the_compiler() -> None:
    text = read(f"{INFO}/sboms/replyio.cyclonedx.json")
    assert "file:" not in text
    assert str(ROOT) not in text
    assert "timestamp" not in text


@LINUX
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this system has another C library")
def test_the_module_needs_no_newer_glibc_than_2_17() -> None:
    needed = {int(version) for version in re.findall(rb"GLIBC_2\.(\d+)", module().read_bytes())}
    assert max(needed) <= 17
    assert "manylinux2014" in read(f"{INFO}/WHEEL")


def test_the_module_weighs_no_more_than_was_decided() -> None:
    # docs/platforms.md has the parts. A build on Linux by another linker than zig's weighs a fifth more.
    assert module().stat().st_size < 10_800_000


def test_a_type_checker_knows_the_type_of_every_public_name(tmp_path: Path) -> None:
    options = ["--ignoreexternal", "--verifytypes", "replyio", "--outputjson"]
    # With this option pyright asks the Python of the PATH, whatever else it is told.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # In another folder: here pyright would read the sources.
    command = [sys.executable, "-m", "pyright", *options]
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=110
    )
    report = json.loads(done.stdout)["typeCompleteness"]
    unknown = [symbol["name"] for symbol in report["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert (unknown, report["completenessScore"]) == ([], 1)
    assert report["exportedSymbolCounts"]["withKnownType"] > 300
