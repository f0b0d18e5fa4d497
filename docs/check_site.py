"""Checks the built site without a network: every link and anchor, no file of another host, every public name.

python docs/check_site.py target/site
"""

from __future__ import annotations

import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import replyio
from replyio import sandbox

# What a browser loads by itself. A link loads nothing until someone follows it.
LOADED = {"audio", "embed", "iframe", "img", "input", "link", "object", "script", "source", "track", "video"}
NAMES_OF_OTHER_PAGES = {
    "canonical",
    "next",
    "prev",
    "search",
    "author",
    "index",
}  # relations of <link> that load nothing


class Page(HTMLParser):
    """The anchors of a page, its links, and the addresses that it loads."""

    def __init__(self, path: Path) -> None:
        """Reads the page."""
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called with each element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        address = values.get("href") or values.get("src") or values.get("data") or ""
        if tag == "a":
            self.links.append(address)
        elif tag in LOADED and address and values.get("rel") not in NAMES_OF_OTHER_PAGES:
            self.loaded.append(address)


def faults_of_links(site: Path) -> list[str]:
    """Links that lead nowhere, and files that a page loads from another host."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
    faults: list[str] = []
    for path, page in pages.items():
        here = path.relative_to(site)
        for address in page.links + page.loaded:
            parts = urlsplit(address)
            if parts.scheme == "data":
                continue
            if parts.scheme or parts.netloc:
                if address in page.loaded:
                    faults.append(f"{here} loads {address}")
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            target = (target / "index.html" if target.is_dir() else target).resolve()
            if not target.exists():
                faults.append(f"{here} links to {address}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                faults.append(f"{here} links to {address}, which has no such anchor")
    return faults


def faults_of_styles(site: Path) -> list[str]:
    """Stylesheets that load a file of another host."""
    return [
        f"{path.relative_to(site)} loads a file of another host"
        for path in sorted(site.rglob("*.css"))
        if re.search(r"""(url\(|@import )["']?(https?:|//)""", path.read_text(encoding="utf-8"))
    ]


def faults_of_names(site: Path) -> list[str]:
    """Public names that no page documents."""
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    documented = {line.split(" ", 1)[0] for line in zlib.decompress(inventory).decode().splitlines()}
    public = {f"replyio.{name}" for name in replyio.__all__ if not name.startswith("_")}
    public |= {f"replyio.sandbox.{name}" for name in sandbox.__all__}
    for name in replyio.__all__:
        value = getattr(replyio, name)
        if isinstance(value, type) and not issubclass(value, dict):
            bases = [base for base in value.__mro__ if base is value or base.__name__.startswith("_")]
            members = {member for base in bases for member in vars(base)}
            public |= {f"replyio.{name}.{member}" for member in members if not member.startswith("_")}
    return [f"no page documents {name}" for name in sorted(public - documented)]


def main(site: Path) -> int:
    """Prints the faults."""
    faults = faults_of_links(site) + faults_of_styles(site) + faults_of_names(site)
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"{site}: {len(list(site.rglob('*.html')))} pages, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
