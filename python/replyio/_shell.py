"""File names in commands that a person pastes into a shell."""

from __future__ import annotations

import os
import shlex

__all__: list[str] = []


def quoted(path: str) -> str:
    """Quotes a file name for a command line.

    A name that begins with a dash would be read as an option, so it gets its folder in front. A name that a terminal
    might obey is written with escapes, in the form that bash, zsh and ksh read.

    Args:
        path: The file name.

    Returns:
        One word of a command line, safe to print.
    """
    from replyio._replyio import safe_text

    word = f"./{path}" if path.startswith("-") else path
    if safe_text(word) == word:
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, os.fsencode(word))) + "'"


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in "\\'":
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\x{byte:02x}"
