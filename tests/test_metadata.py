"""What a package index shows: the addresses agree, and every link leads somewhere."""

from __future__ import annotations

import re
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
META = metadata("replyio")
URLS = dict(url.split(", ", 1) for url in META.get_all("Project-URL", []))


def test_the_metadata_names_every_address_once() -> None:
    assert set(URLS) == {"Changelog", "Documentation", "Issues", "Security", "Source"}
    assert all(url.startswith(URLS["Source"]) for url in URLS.values())


def test_the_crate_and_the_wheel_name_the_same_repository() -> None:
    assert f'\nrepository = "{URLS["Source"]}"\n' in (ROOT / "Cargo.toml").read_text(encoding="utf-8")


def test_each_link_of_the_readme_works_on_a_package_index_and_names_a_file_that_exists() -> None:
    text = META.get_payload()
    assert not re.findall(r"\]\((?!https://)[^)]*\)", text), "a relative link works in the repository only"
    defined = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))
    for name, url in defined.items():
        assert url == f"{URLS['Source']}/blob/main/{name}"
        assert (ROOT / name).exists(), f"the README links to {name}"
    used = re.findall(r"\[([\w./-]+\.md|docs/\w+)\]", text.split("\n[")[0])
    assert used
    assert set(used) <= set(defined)


def test_the_documents_name_no_other_address_of_the_project() -> None:
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.yml"), *ROOT.glob("python/**/*.py")]
    for path in files:
        for url in re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", path.read_text(encoding="utf-8")):
            if url.rsplit("/", 1)[-1].startswith("replyio"):
                assert url == URLS["Source"], path


def test_this_python_is_among_the_classifiers() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"Programming Language :: Python :: {version}" in META.get_all("Classifier", [])


@pytest.mark.parametrize("extra", ["all", "pandas", "parquet", "polars", "progress"])
def test_an_extra_is_offered(extra: str) -> None:
    assert extra in META.get_all("Provides-Extra", [])
