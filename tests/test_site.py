"""The documentation as a whole: links, anchors, navigation, and pages that list what the package has."""

from __future__ import annotations

import inspect
import re
import runpy
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import replyio
from replyio.sandbox import Sandbox

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
LLMS = runpy.run_path(str(DOCS / "llms.py"))
# The design notes stay as they were written.
CURRENT = [page for page in PAGES if page.parent.name != "design"]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that a code host gives to the headings of a page."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE):
        text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if number == 0 else f"{slug}-{number}" for slug, last in found.items() for number in range(last + 1)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_anchor_that_a_page_links_to_exists(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", without_code(page.read_text(encoding="utf-8"))):
        other = (page.parent / target).resolve() if target else page
        if other.suffix == ".md":
            assert anchor in anchors(other), f"{page.name} links to {target}#{anchor}"


def test_every_page_is_in_the_navigation() -> None:
    listed = {page for index, pages in LLMS["parts"]() for page in [index, *pages]}
    listed |= set(LLMS["items"](DOCS / "design" / "index.md"))
    everything = {path.resolve() for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]}
    notes = {path for path in everything if path.parent.name == "design"}  # the site lists new ones by itself
    assert everything - notes - listed == {DOCS / "index.md"}
    assert listed <= everything


def test_each_design_note_says_its_date_and_its_status() -> None:
    notes = sorted((DOCS / "design").glob("2*.md"))
    assert len(notes) > 15
    for note in notes:
        line = note.read_text(encoding="utf-8").split("\n")[2]
        assert line.startswith(f"Date: {note.name[:10]}. Status: "), note.name
    listed = (DOCS / "design" / "index.md").read_text(encoding="utf-8")
    assert listed == LLMS["design_index"](), "run `make docs`"


def test_each_page_of_a_recipe_says_what_comes_next() -> None:
    pages = {page for index, pages in LLMS["parts"]() if index.parent.name in {"start", "how-to"} for page in pages}
    assert len(pages) > 10
    assert [page.name for page in sorted(pages) if "\nNext:" not in page.read_text(encoding="utf-8")] == []


def test_llms_txt_lists_the_pages_as_they_are() -> None:
    assert (ROOT / "llms.txt").read_text(encoding="utf-8") == LLMS["overview"](), "run `make docs`"


def test_the_first_example_of_the_readme_prints_what_its_comments_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )[0]
    assert len([line for line in code.splitlines() if line]) <= 10
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    expected = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(expected) == 2
    assert [line for line in capsys.readouterr().out.splitlines() if line in expected] == expected
    assert names["client"].get_contact_account(4711).city == "Oslo", "the sandbox still runs, and the revert was done"
    names["sandbox"].stop()


def rows(page: str) -> dict[str, str]:
    """The first two columns of the tables of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"^\| ([^|\n]+) \| ([^|\n]*)", text, re.MULTILINE)
    return {name: value.strip() for names, value in found for name in re.findall(r"`([\w-]+)`", names)}


@pytest.mark.parametrize("function", [replyio.ReplyClient, replyio.Quota])
def test_the_page_of_settings_has_every_setting_with_its_default(function: type[Any]) -> None:
    described = rows("reference/settings.md")
    for name, parameter in inspect.signature(function).parameters.items():
        assert name in described, name
        if parameter.default is not None and not isinstance(parameter.default, replyio.Quota):
            shown = described[name].strip("`").strip('"')
            assert str(parameter.default) == shown, name


def test_the_page_of_settings_has_every_environment_variable() -> None:
    described = rows("reference/settings.md")
    source = "\n".join(path.read_text(encoding="utf-8") for path in [*ROOT.glob("src/**/*.rs")])
    read = set(
        re.findall(r"\b(REPLY_[A-Z_]+|REPLYIO_STATE_DIR|XDG_[A-Z_]+|SSL_CERT_[A-Z]+|(?:HTTPS|ALL|NO)_PROXY)\b", source)
    )
    assert len(read) > 8
    assert read <= set(described)


def test_the_page_of_the_plan_file_has_every_table_view_and_column(tmp_path: Path) -> None:
    text = (DOCS / "reference" / "plan-file.md").read_text(encoding="utf-8")
    with Sandbox() as sandbox:
        path = tmp_path / "a.replyplan"
        sandbox.client().plan_contact_account_updates([{"id": 4711, "city": "Bergen"}], save_as=path, progress=False)
    connection = sqlite3.connect(path)
    names = [name for (name,) in connection.execute("select name from sqlite_master where sql is not null")]
    columns = [
        column[0]
        for name in names
        if name not in {"state", "log"}
        for column in connection.execute(f"select * from {name} limit 0").description  # noqa: S608
    ]
    keys = [key for (key,) in connection.execute("select key from plan")]
    connection.close()
    assert [name for name in names + columns + keys if f"`{name}`" not in text] == []


# Words that only this project used, or that no page needs. Each has a plain word.
PRIVATE = {
    r"\bhouse\b": "module structure",
    r"\blanes?\b": "connection pool",
    r"\bgo(es)? on\b": "resume, continue",
    r"\bputs? (?:\w+ ){0,4}back\b": "restore",
    r"\btwins?\b": "async form",
    r"\btwice out of order\b": "fails twice",
    r"\bwhat is none\b": "not valid",
}


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", without_code(page.read_text(encoding="utf-8")))
    text = re.sub(r"\]\([^)]*\)", "]", text)
    found = {word: instead for word, instead in PRIVATE.items() if re.search(word, text, re.IGNORECASE)}
    assert found == {}
