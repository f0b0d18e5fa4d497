"""Describes the machine and the versions that a result was measured with."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomllib
from contenders import Contender

ROOT = Path(__file__).parent.parent


def describe(contenders: list[Contender]) -> dict[str, Any]:
    """Machine, date and versions, as the raw results hold them."""
    names = sorted({module for one in contenders for module in one.modules})
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "kernel": f"{platform.system()} {platform.release()}",
            "load before": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in [*names, "pydantic"]},
            "rustc": _rustc(),
            "reqwest (crate)": _locked("reqwest"),
            "rusqlite (crate)": _locked("rusqlite"),
        },
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line for line in info if line.startswith("model name")), "")
    return " ".join(model.partition(":")[2].split()) or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"


def _rustc() -> str:
    done = subprocess.run(["rustc", "--version"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.split()[1] if done.returncode == 0 else "?"


def _locked(crate: str) -> str:
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return next((str(one["version"]) for one in packages if one["name"] == crate), "?")
