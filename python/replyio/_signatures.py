"""Signatures that name every field, for completion and `help`.

`**fields: Unpack[ContactAccountFields]` tells a type checker all of it, but a notebook asks `inspect`.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, get_type_hints

from replyio._annotations import complete
from replyio.models import ContactAccount, ContactAccountFields

if TYPE_CHECKING:
    from replyio.client import ReplyClient


class _LeftOut:
    """The default of a field that is not part of the body."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "..."


_LEFT_OUT = _LeftOut()


def show_fields(client: type[ReplyClient]) -> None:
    """Adds the fields to the signatures of the calls that take fields.

    Args:
        client: The class of the client.
    """
    for module in ("client", "models", "errors"):
        complete(vars(import_module(f"replyio.{module}")))
    types = get_type_hints(ContactAccountFields)
    fields = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=_LEFT_OUT)
        for name, kind in types.items()
    ]
    required = [field.replace(default=inspect.Parameter.empty) if field.name == "name" else field for field in fields]
    for function, shown in (
        (client.update_contact_account, required),
        (client.update_contact_account_async, required),
        (client.patch_contact_account, fields),
        (client.patch_contact_account_async, fields),
    ):
        written = inspect.signature(function)
        this, id, others = written.parameters.values()
        signature = written.replace(
            parameters=[this, id.replace(annotation=int), *shown, others], return_annotation=ContactAccount
        )
        vars(function)["__signature__"] = signature
