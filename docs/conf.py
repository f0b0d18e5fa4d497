"""Builds the site from the Markdown of this repository: `make docs`. Sphinx reads this file."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import replyio

sys.path.insert(0, str(Path(__file__).parent))  # for llms.py

import llms
from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "https://github.com/replyio/replyio"
# Pages at the top of the repository, where a code host looks for them. Each is shown at its place in the site.
AT_THE_TOP = {
    "help/changelog": "CHANGELOG.md",
    "help/contributing": "CONTRIBUTING.md",
    "help/security": "SECURITY.md",
}
PLACES = {path: name for name, path in AT_THE_TOP.items()}

project = "replyio"
author = "replyio contributors"
project_copyright = "replyio contributors"
version = release = replyio.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_templates", "**.ipynb_checkpoints"]
nitpicky = True
# Types of other packages, private types, and the literals of annotations have no page here.
nitpick_ignore_regex = [
    ("py:.*", r"(?!replyio(\.|$)).*"),
    ("py:.*", r"replyio\.(_|.*\._|plan\.Options$).*"),
]

myst_heading_anchors = 4  # the same anchors as on a code host
myst_links_external_new_tab = False
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 60
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_ipywidgets_js = {}  # they would come from another host
nb_merge_streams = True
smartquotes = False  # a quote in a docstring is code more often than not

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "separated"
autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseException,tuple,dict,str",
    "exclude-members": "__new__, add_note, with_traceback",
}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = False
maximum_signature_line_length = 100
python_display_short_literal_types = True
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "replyio"
html_sidebars = {"design/*": []}
html_static_path = ["_static"]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_extra_path = ["../llms.txt"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "logo": {"text": "replyio"},
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "collapse_navigation": True,
    "navigation_depth": 2,
    "navigation_with_keys": False,
    "search_as_you_type": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "external_links": [{"name": "Source", "url": SOURCE}],
}

SIGNATURE = re.compile(r'<dl>\s*(<dd><em class="sig-param.*?)</dl>', re.DOTALL)
FILE_NAME = re.compile(r"\[[\w./-]+\.md\]\((?!https?:)")
LINK = re.compile(r"(\]\(|^\[[^\]]+\]: )(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?", re.MULTILINE)


def with_links_of_the_site(text: str, folder: Path, page: str) -> str:
    """Makes the links of a page lead where its target is on the site, or else to the code host."""

    def link(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if not target.exists():
            return match[0]  # MyST reports it
        path = target.relative_to(ROOT).as_posix()
        if path == "README.md":
            place = "index"
        elif path in PLACES:
            place = PLACES[path]
        elif path.startswith("docs/") and target.is_file() and target.suffix in {".ipynb", ".md", ".png", ".svg"}:
            place = path.removeprefix("docs/")
        else:
            kind = "blob" if target.is_file() else "tree"
            return f"{match[1]}{SOURCE}/{kind}/main/{path}{match[3] or ''}"
        place = place if "." in posixpath.basename(place) else f"{place}.md"
        return f"{match[1]}{posixpath.relpath(place, posixpath.dirname(page) or '.')}{match[3] or ''}"

    # A link whose text is the name of a file gets the title of the page.
    return FILE_NAME.sub("[](", LINK.sub(link, text))


def read(app: Sphinx, page: str, content: list[str]) -> None:
    """Called by Sphinx with the text of each page."""
    path = Path(app.env.doc2path(page))
    if path.suffix != ".md":
        return
    if page in AT_THE_TOP:
        path = ROOT / AT_THE_TOP[page]
        content[0] = path.read_text(encoding="utf-8")
    if path.name == "index.md":
        targets = [posixpath.relpath(item, path.parent) for item in llms.items(path)]
        content[0] += "\n```{toctree}\n:hidden:\n\n" + "\n".join(targets) + "\n```\n"
    content[0] = with_links_of_the_site(content[0], path.parent, page)


def read_docstring(_app: Sphinx, _kind: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Called by Sphinx with each docstring. They mark code as Markdown does, and list the fields below `**fields`."""
    text = "\n".join(lines)
    text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", text)
    text = re.sub(r"(?m)^( {8})(\w+) (\(.*\): .*)((?:\n {12}.*)*)", as_item, text)
    lines[:] = text.split("\n")


def as_item(match: re.Match[str]) -> str:
    """A line below `**fields` as an item of a list."""
    return f"\n{match[1]}- ``{match[2]}`` {match[3]}{match[4].replace('            ', '          ')}"


def show(_app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Called by Sphinx before it writes a page. A signature of several lines is not a list of definitions."""
    if "body" in context:
        context["body"] = SIGNATURE.sub(as_lines, context["body"])


def as_lines(match: re.Match[str]) -> str:
    """The parameters of a signature, one on each line."""
    return f'<span class="sig-lines">{match[1].replace("<dd>", "<span>").replace("</dd>", "</span>")}</span>'


def setup(app: Sphinx) -> None:
    """Called by Sphinx when it starts."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", read_docstring, priority=1)  # before napoleon
    app.connect("html-page-context", show)
    app.connect("build-finished", llms.write_full)
