"""Converts the sandbox's values to Python and back. Private."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Any, cast

from replyio.models import ContactAccount, ContactAccountStage

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_SCOPES = ("contacts:read", "contacts:write")


def read_scopes(names: Iterable[str]) -> tuple[bool, bool]:
    """Returns whether a key may read, and whether it may write."""
    granted = {names} if isinstance(names, str) else set(names)
    if not granted <= set(_SCOPES):
        raise ValueError(f"scopes are {' and '.join(_SCOPES)}, not {', '.join(sorted(granted - set(_SCOPES)))}")
    return _SCOPES[0] in granted, _SCOPES[1] in granted


_PLAIN = frozenset({type(None), bool, int, str})


def _is_plain(account: object) -> bool:
    """Returns whether an account is a dictionary of JSON values, as most are. There may be a million."""
    return type(account) is dict and _PLAIN.issuperset(map(type, cast("dict[str, Any]", account).values()))


def to_wire(account: object) -> dict[str, Any]:
    """Returns the account as JSON values."""
    if _is_plain(account):
        return cast("dict[str, Any]", account)
    members = account.to_dict() if isinstance(account, ContactAccount) else account
    if not isinstance(members, Mapping):
        raise TypeError(f"an account is a ContactAccount or a mapping, not {type(members).__name__}")
    return {name: _json_value(value) for name, value in cast("Mapping[str, Any]", members).items()}


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    return dataclasses.asdict(value) if isinstance(value, ContactAccountStage) else value


def request_members(
    number: int,
    connection: int,
    microseconds: int,
    method: str,
    path: str,
    query: str,
    headers: list[tuple[str, str]],
    body: bytes,
    status: int | None,
    applied: bool,
) -> dict[str, Any]:
    """Returns the members of a `SandboxRequest`."""
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    return {
        "number": number,
        "connection": connection,
        "time": _EPOCH + datetime.timedelta(microseconds=microseconds),
        "method": method,
        "path": path,
        "query": dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
        "headers": joined,
        "body": parsed,
        "raw_body": body,
        "status": status,
        "applied": applied,
    }
