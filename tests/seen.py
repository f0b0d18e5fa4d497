"""What must not be seen after a fault, and where to look for it: secrets in any spelling, threads, file descriptors."""

from __future__ import annotations

import base64
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

_WINDOW = 8


def _spellings(secret: str) -> Iterator[str]:
    """Every form in which a secret could get out."""
    yield secret
    for safe in ("", "/", "+"):
        yield quote(secret, safe)
        yield quote(secret, safe).lower()
    yield repr(secret)
    yield secret.upper()
    yield secret.encode().hex()
    yield secret.replace("+", " ")
    yield quote(quote(secret, ""), "")
    for form in ("&#{};", "&#x{:X};", "\\u{:04X}"):
        yield "".join(letter if letter.isalnum() else form.format(ord(letter)) for letter in secret)
    for prefix in ("", "x", "xy", "Bearer ", "user:"):
        encoded = base64.b64encode((prefix + secret).encode()).decode().rstrip("=")
        # What stands at the edges is made of the neighbors too.
        inner = encoded[-(-len(prefix) * 4 // 3) : len(encoded) - 1]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")
        yield quote(inner, "")


def pieces(*secrets: str) -> set[str]:
    """Pieces of secrets that are long enough to be told from chance."""
    return {
        spelling[start : start + _WINDOW]
        for secret in secrets
        for spelling in _spellings(secret)
        for start in range(max(1, len(spelling) - _WINDOW + 1))
    }


def assert_hidden(text: str, where: str, hidden: set[str]) -> None:
    """None of these pieces is in a text."""
    found = [piece for piece in hidden if piece in text]
    assert not found, f"{where} shows {found}"


def shown(error: BaseException) -> Iterator[tuple[str, str]]:
    """Every way in which an exception can be printed or kept."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.append(current)
        waiting += [current.__cause__, current.__context__]
        yield "str", str(current)
        yield "repr", repr(current)
        yield "args", repr(current.args)
        yield "attributes", repr(vars(current))
        yield "notes", repr(getattr(current, "__notes__", []))
        yield "pickle", pickle.dumps(current).decode("latin-1")
        told = traceback.TracebackException.from_exception(current, capture_locals=True)
        yield "traceback", "".join(told.format())


def opened() -> tuple[int, int]:
    """How many threads and file descriptors this process has, where the system tells."""
    if not Path("/proc/self/fd").exists():
        return 0, 0
    return len(list(Path("/proc/self/task").iterdir())), len(list(Path("/proc/self/fd").iterdir())) - 1
