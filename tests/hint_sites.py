"""Where the sources print something that a person can type: a call, an argument or a command."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from replyio._cli_overview import COMMANDS

ROOT = Path(__file__).parent.parent
# What is no message of the package: models of the service, SQL, and the service's own texts.
_ELSEWHERE = ("src/simulation", "src/fuzzing", "src/sandbox", "src/sabotage")
_RUST_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TESTS = re.compile(r"^\s*#\[cfg\(test\)\]\nmod \w+ \{.*?^\}", re.MULTILINE | re.DOTALL)
_QUOTE = re.compile(r"b?'\\?\"'")
_LINE_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)
_HINT = re.compile(
    r"""\b[a-z_]+\(\)                                        # a call
      | (?<!\w)\.failures\b                                 # the table of what was not done
      | \bopen_plan\(\{                                     # a call with arguments that are filled in
      | \b[a-z_]+=(?:"[\w-]+"|True|(?=[\s,;:.)}]|$))         # an argument
      | (?<![\w/.-])replyio\ [a-z]+(?=[\s`|)]|$)             # a command
      | (?<![\w-])--[a-z][a-z-]+                             # an option
      | ulimit|chmod|install\ pyarrow""",
    re.VERBOSE,
)
# The function that a quota was given is named, and is nothing to type.
_NAMES = frozenset({"acquire="})
# "replyio stopped" is prose about the package. A command is one that exists, or stands in backticks.
_COMMANDS = frozenset(f"replyio {name}" for name in COMMANDS) - {"replyio check"}
# The command's own texts name its options; `options` holds those.
COMMAND = ("python/replyio/cli.py", "python/replyio/_cli_", "python/replyio/sandbox/__main__.py")


def _rust_texts(path: Path) -> Iterator[str]:
    source = _LINE_COMMENT.sub("", _TESTS.sub("", path.read_text(encoding="utf-8")))
    source = _QUOTE.sub("' '", source)
    for found in _RUST_TEXT.finditer(source):
        yield re.sub(r"\\\n\s*", "", found[1]).replace('\\"', '"')


def _python_texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else "{x}"
                for part in node.values  # type: ignore[misc]
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | parts:
            yield node.value


def hints(text: str) -> list[str]:
    """What a person can type, in a text."""
    return [
        hint
        for hint in _HINT.findall(text)
        if hint not in _NAMES
        if not hint.startswith("replyio ") or hint in _COMMANDS or f"`{hint}" in text
    ]


def sites() -> Counter[tuple[str, str]]:
    """How often which file has which hint."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted((*ROOT.glob("src/**/*.rs"), *ROOT.glob("python/replyio/**/*.py"))):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith((*_ELSEWHERE, *COMMAND)) or path.name == "tests.rs":
            continue
        for text in (_rust_texts if path.suffix == ".rs" else _python_texts)(path):
            found.update((name, hint) for hint in hints(text))
    return found


def named_by_the_command() -> set[str]:
    """Every option and every command that the command line names."""
    paths = [
        path for path in ROOT.glob("python/replyio/**/*.py") if path.relative_to(ROOT).as_posix().startswith(COMMAND)
    ]
    texts = [text for path in paths for text in _python_texts(path)]
    return {hint for text in texts for hint in hints(text) if hint.startswith(("--", "replyio "))}


def told_in_rust() -> set[str]:
    """Every text of the core that names something of Python: the command says the same in its own words."""
    texts = set()
    for path in ROOT.glob("src/**/*.rs"):
        if not path.relative_to(ROOT).as_posix().startswith(_ELSEWHERE) and path.name != "tests.rs":
            texts |= {text for text in _rust_texts(path) if hints(text)}
    return texts
