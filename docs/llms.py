"""Writes llms.txt: the pages of the documentation, for programs. The site also gets llms-full.txt, with their text."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = "https://github.com/replyio/replyio/blob/main/"
ITEM = re.compile(r"^- \[[^\]]+\]\(([^)#:]+)\)", re.MULTILINE)

SUMMARY = """\
# replyio

> A Python package and a command that update the contact accounts (companies) of Reply.io from a spreadsheet, a
> DataFrame or a script: plan, review, apply, resume, revert. Fields that you do not name keep their values.

Rules for programs that write code with it:

- `PUT /v3/contact-accounts/{id}` replaces the account in full. Never use `update_contact_account` or `replyio update`
  for a partial change. Use `patch_contact_account`, `replyio patch` or a plan.
- Try the code on `replyio.sandbox.Sandbox` first. It needs no key and sends nothing to Reply.io.
- For more than one account, plan, show the plan, and apply it after the user agrees.
- Do not write a retry loop: the client retries and stays within the rate limit.

The installed package has the same rules, with examples and exit codes, in `replyio/SKILL.md`."""


DESIGN = """\
<!-- Written by `make docs`. Do not edit. -->

# Design decisions

Each note records one decision, its reasons and the rejected alternatives, as they were on that day. A later note can
replace an earlier one; the line below the title of the earlier note says so. The
[glossary](../../CONTRIBUTING.md#glossary) explains the terms.

"""


def items(index: Path) -> list[Path]:
    """The pages that an index page lists, in its order. The lists are the navigation of the site."""
    return [(index.parent / target).resolve() for target in ITEM.findall(index.read_text(encoding="utf-8"))]


def parts() -> Iterator[tuple[Path, list[Path]]]:
    """The index page of each part of the documentation, and the pages of that part."""
    for index in items(DOCS / "index.md"):
        yield index, items(index)


def design_index() -> str:
    """The text of docs/design/index.md: the design notes, numbered in the order of their dates."""
    lines = [
        f"- [{number}. {title_and_summary(path)[0]}]({path.name}), {path.name[:10]}"
        for number, path in enumerate(sorted((DOCS / "design").glob("2*.md")), 1)
    ]
    return DESIGN + "\n".join(lines) + "\n"


def text_of(path: Path) -> str:
    """A page as Markdown."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"])
    return "\n\n".join(source if kind == "markdown" else f"```python\n{source}\n```" for kind, source in cells) + "\n"


def title_and_summary(path: Path) -> tuple[str, str]:
    """The title of a page, and the first sentence below it."""
    title, _, rest = re.sub(r"<!--.*?-->", "", text_of(path), flags=re.DOTALL).lstrip().partition("\n")
    paragraph = " ".join(rest.strip().partition("\n\n")[0].split())
    paragraph = re.sub(r"\[([^\]]+)\](?:\([^)]*\))?", r"\1", paragraph)
    return title.removeprefix("# "), re.split(r"(?<=[.:])\s", paragraph)[0].rstrip(":")


def overview() -> str:
    """The text of llms.txt."""
    sections = [SUMMARY]
    for index, pages in parts():
        lines = [f"## {title_and_summary(index)[0]}\n"]
        for path in pages:
            title, summary = title_and_summary(path)
            lines.append(f"- [{title}]({PAGES}{path.relative_to(ROOT).as_posix()}): {summary}")
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


def public_api() -> str:
    """The docstrings of all public names."""
    import replyio
    from replyio import sandbox

    texts = ["# The public names"]
    names = [(name, getattr(replyio, name)) for name in replyio.__all__]
    names += [(f"sandbox.{name}", getattr(sandbox, name)) for name in sandbox.__all__]
    for name, value in names:
        if not callable(value):
            continue
        texts.append(f"## replyio.{name}\n\n{inspect.getdoc(value) or ''}")
        if not isinstance(value, type):
            continue
        bases = [base for base in reversed(value.__mro__) if base is value or base.__name__.startswith("_")]
        members = {member: function for base in bases for member, function in vars(base).items()}
        for member, function in members.items():
            if not member.startswith("_") and inspect.isfunction(function):
                texts.append(f"### {name}.{member}{inspect.signature(function)}\n\n{inspect.getdoc(function) or ''}")
    return "\n\n".join(texts) + "\n"


def write_full(app: Sphinx, exception: Exception | None) -> None:
    """Called by Sphinx at the end: writes llms-full.txt beside the pages."""
    if exception is None:
        pages = [text_of(path) for _, paths in parts() for path in paths]
        text = "\n\n".join([SUMMARY, *pages, public_api()])
        (Path(app.outdir) / "llms-full.txt").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    (DOCS / "design" / "index.md").write_text(design_index(), encoding="utf-8", newline="\n")
    (ROOT / "llms.txt").write_text(overview(), encoding="utf-8", newline="\n")
