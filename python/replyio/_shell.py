"""Quotes file names in commands that people copy into a shell."""

from __future__ import annotations

import os
import shlex
import subprocess

__all__: list[str] = []


def argument(path: str, *, is_file: bool = True) -> str:
    """Quotes a file's name, or another text, for a command line.

    A name that begins with a dash would be an option, so this adds its directory. It escapes a name with characters
    that control a terminal, in the form of bash, zsh and ksh.

    Args:
        path: The name.
        is_file: Whether it is a file's name. Default True. Another text stands behind a `=`, and stays as it is.

    Returns:
        One word of a command line, safe to print.
    """
    from replyio._replyio import safe_text

    path = os.path.join(".", path) if is_file and path.startswith("-") else path  # noqa: PTH118 - Path drops the "."
    if os.name == "nt":
        return safe_text(subprocess.list2cmdline([path]))
    if safe_text(path) == path:
        return shlex.quote(path)
    return "$'" + "".join(map(_escaped, os.fsencode(path))) + "'"


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in "\\'":
        return f"\\{character}"
    return character if " " <= character <= "~" else f"\\x{byte:02x}"
