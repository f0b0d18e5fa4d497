"""Finds words that the style of this project rules out: texts that read as translated, and metaphors of its own.

The style is plain technical English, as in Google's developer documentation style guide. `make format` runs this file
over messages, docstrings, comments, command help and pages. `tests/test_language.py` tests the patterns.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    *("src/**/*.rs", "python/**/*.py", "python/**/*.pyi", "python/**/*.md", "examples/*.py"),
    *("*.md", "docs/*.md", "docs/*.py", "docs/*/*.md"),
)
# Records of the past keep their words, and the changelog quotes them.
LEFT_OUT = ("docs/design/", "CHANGELOG.md")
# A text goes on in the next line of a comment, of a string in Rust or of neighboring strings in Python.
GAP = r"""(?:[ ]+|\s*\\?\n[ ]*(?:///?!?[ ]|//![ ]|\#[ ])?|[ ]?["'][ ]*\n[ ]*[fr]{0,2}["'])"""


class Rule(NamedTuple):
    """Words to avoid."""

    pattern: str
    """The words, as a regular expression in which a space is any gap between words."""
    use: str
    """What to write instead."""
    example: str
    """A text that has the words."""


RULES = (
    Rule(r"(?:goes|go|gone|going) on (?:where|later|with)", "resume, continue", "apply() goes on later"),
    Rule(r"(?:the )?values? from before", "the previous values", "puts the values from before back"),
    Rule(r"time-outs?", "timeout", "past its time-out"),
    Rule(r"past (?:its|the) (?:deadline|timeout)", "too late for this call's timeout", "past its deadline"),
    Rule(r"faults? of replyio", "internal error in replyio", "a fault of replyio itself"),
    Rule(
        r"(?<!here\x20)(?:is|are|was) no "
        r"(?:JSON|UTF-8|Unicode|text|object|list|fields?|columns?|file|ledger|plan|address|number|`[\w.=]+`)",
        "is not …, is not valid …",
        "NaN and Infinity are no JSON",
    ),
    Rule(r"counts? as no(?! value)", "is not …", "pending rows count as no failure"),
    Rule(r"belongs? into", "belong in", "rules belong into src/"),
    Rule(r"(?:column|line|row|field) too many", "an extra …", "a column too many"),
    Rule(r"the event loop its turns", "do not block the event loop", "leaves the event loop its turns"),
    Rule(r"on a bad day", "if something fails", "what it guarantees on a bad day"),
    Rule(r"documented to behave", "follows the API documentation", "behaves as it is documented to behave"),
    Rule(r"[Nn]o one has run", "is not tested", "No one has run this here"),
    Rule(r"not run here", "not tested", "Snowflake (not run here)"),
    Rule(r"(?:which|that|what) (?:is|are) none(?! of)", "that is not one", "has a text which is none"),
    Rule(r"Else (?:name|give|use|take)", "otherwise …", "Else name it in ignore="),
    Rule(r"name (?:it|them) in", "list it in …", "name it in ignore="),
    Rule(r"out of order", "failing, unavailable", "twice out of order"),
    Rule(r"how far (?:it|a plan|a run|the run|they) (?:is|are)", "the progress of …", "say how far a plan is"),
    Rule(r"in (?:the|a) house", "in this project", "the rules in the house"),
    Rule(r"hand(?:s|ed|ing)? (?:it |them )?over", "pass, send", "would hand over the key"),
    Rule(r"(?:no|any)body|somebody|whoever", "no one, someone, the caller", "somebody else changed it"),
    Rule(r"anew(?!\()", "again", "plan anew"),
    Rule(r"lets? go of", "close, release", "until that program lets go of it"),
    Rule(r"in good order", "cleanly", "ends it in good order"),
    Rule(r"what (?:became|becomes|has become) of", "the outcome of", "what became of each row"),
    Rule(r"as (?:it|they) came", "unchanged, the original …", "extra keeps the value as it came"),
    Rule(r"mend(?:s|ed|ing)?", "fix, repair", "mend this first"),
    Rule(r"what stands (?:between|behind|before|beside)", "a proxy in front of …", "too long for what stands between"),
    Rule(r"(?:no|without) answer tells|nothing is known about", "no answer confirmed …", "no answer tells whether"),
    Rule(r"(?:f[ae]ll|falls) short", "fail", "the rows that fell short"),
    Rule(
        r"(?:puts?|gives?) (?:\w+ ){0,4}back(?! to)", "restore, return, close", "gives its connections and threads back"
    ),
    Rule(r"was to be|is to be left out", "should …, to leave it out, …", "if it is to be left out"),
    Rule(r"tells? of", "report", "headers that tell of a quota"),
)
PATTERNS = [(re.compile(rf"\b{rule.pattern.replace(' ', GAP)}(?!\w)"), rule) for rule in RULES]


def findings(text: str) -> list[tuple[int, str, str]]:
    """Returns the line, the words and what to use instead, for each place that has words to avoid."""
    found = [
        (text.count("\n", 0, match.start()) + 1, " ".join(re.findall(r"[\w'-]+", match[0])), rule.use)
        for pattern, rule in PATTERNS
        for match in pattern.finditer(text)
    ]
    return sorted(found)


def main() -> int:
    """Prints what it finds. Returns 1 if there is anything."""
    found = 0
    for path in sorted({path for pattern in FILES for path in ROOT.glob(pattern)}):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(LEFT_OUT):
            continue
        for line, words, use in findings(path.read_text(encoding="utf-8")):
            print(f"{name}:{line}: {words!r}: write {use}")
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
