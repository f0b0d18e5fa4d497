"""The names in annotations, for `typing.get_type_hints`: modules import them for type checkers only."""

from __future__ import annotations

import collections.abc
import os
import types
import typing
from importlib import import_module
from typing import Any

__all__: list[str] = []


class _Library:
    """A library that may be missing, and is imported when one of its names is looked up."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


class _Unpack:
    """Stands for `Unpack` where the running Python has none: the hint is then the `TypedDict` itself."""

    def __class_getitem__(cls, item: Any) -> Any:
        return item


def _typing(name: str, otherwise: Any) -> Any:
    """A name that newer Pythons have, and `typing_extensions` for the others."""
    try:
        found = getattr(typing, name, None) or getattr(types, name, None)
        return found or getattr(import_module("typing_extensions"), name)
    except (ImportError, AttributeError):
        return otherwise


def complete(namespace: dict[str, Any]) -> None:
    """Adds the names that annotations use to the names of a module. Those that it has stay as they are.

    Args:
        namespace: The globals of the module.
    """
    import replyio
    from replyio import _counts, client, models

    abc = ("AsyncIterator", "Awaitable", "Callable", "Generator", "Iterable", "Iterator", "Mapping", "Sequence")
    found: dict[str, Any] = {name: getattr(collections.abc, name) for name in abc}
    found |= {name: getattr(typing, name) for name in ("Any", "Literal", "Protocol", "TypedDict")}
    found |= {"Self": _typing("Self", Any), "Unpack": _typing("Unpack", _Unpack)}
    found |= {"CapsuleType": _typing("CapsuleType", object), "TracebackType": types.TracebackType, "os": os}
    found |= {name: _Library(name) for name in ("pandas", "polars", "sqlite3")}
    found |= {"Status": _counts.Status, "replyio": replyio}
    found |= {name: getattr(models, name) for name in models.__all__}
    found |= {name: getattr(client, name) for name in ("Quota", "ReplyClient")}
    for name, value in found.items():
        namespace.setdefault(name, value)
