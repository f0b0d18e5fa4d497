"""What the release is made from agrees with itself: targets, pinned actions, the texts of licenses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yml"


def inventory_targets() -> set[str]:
    text = (ROOT / "packaging" / "inventory.py").read_text(encoding="utf-8")
    return set(re.findall(r'^    "(\w+-[\w-]+)",$', text.split("TARGETS = (")[1].split(")")[0], re.MULTILINE))


def jobs() -> dict[str, Any]:
    return dict(yaml.safe_load(RELEASE.read_text(encoding="utf-8"))["jobs"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_each_action_is_pinned_by_its_commit_and_says_its_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@pytest.mark.parametrize("name", ["about.toml", "deny.toml"])
def test_the_licenses_are_read_for_the_targets_of_the_wheels(name: str) -> None:
    assert set(re.findall(r'^  "(\w+-[\w-]+)",$', (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)) >= (
        inventory_targets()
    )


def test_the_workflow_builds_a_wheel_for_each_target() -> None:
    built = {entry["target"] for entry in jobs()["wheel"]["strategy"]["matrix"]["include"]}
    assert built == inventory_targets()


def test_nothing_is_published_before_every_other_job_has_passed() -> None:
    assert set(jobs()["publish"]["needs"]) == set(jobs()) - {"publish"}


def test_the_published_wheels_are_the_tested_ones() -> None:
    for name in ("test", "free-threaded", "elsewhere", "windows-arm"):
        steps = [step.get("uses", "") for step in jobs()[name]["steps"]]
        assert any(step.startswith("actions/download-artifact@") for step in steps), name
        assert "make wheel" not in str(jobs()[name]), name


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "packaging" / "release.py"), "agree", "v99.0.0"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "the tag is v99.0.0, the version is " in done.stderr
