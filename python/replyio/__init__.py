"""replyio: safe updates of Reply.io contact accounts.

    >>> from replyio import ReplyClient
    >>> client = ReplyClient()                                         # key from REPLY_API_KEY
    >>> account = client.patch_contact_account(4711, city="Bergen")    # keeps what is not named
    >>> account.name, account.city
    ('Acme', 'Bergen')

Names are imported on first use, so that `import replyio` is fast.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from replyio import sandbox as sandbox  # a redundant alias makes it public for type checkers
    from replyio._check import CheckFinding, CheckReport
    from replyio._counts import Status
    from replyio._replyio import __version__
    from replyio._state import KeptPlan, plans
    from replyio._types import TableLike
    from replyio.client import (
        AsyncContactAccountIterator,
        ContactAccountIterator,
        Quota,
        QuotaLeft,
        ReplyClient,
    )
    from replyio.errors import (
        APIError,
        AuthenticationError,
        BadRequestError,
        ConfigurationError,
        ConflictError,
        DeadlineExceededError,
        FieldError,
        InternalError,
        NotFoundError,
        PermissionDeniedError,
        PlanError,
        RateLimitError,
        ReplyError,
        ReplyWarning,
        ServerError,
        TLSError,
        TransportError,
        UnexpectedResponseError,
        ValidationError,
    )
    from replyio.models import (
        ClientOptions,
        CompanySize,
        ContactAccount,
        ContactAccountFields,
        ContactAccountStage,
        ContactAccountUpdate,
    )
    from replyio.plan import ApplyResult, Plan, PlanTable, read_plan

__all__ = [
    "APIError",
    "ApplyResult",
    "AsyncContactAccountIterator",
    "AuthenticationError",
    "BadRequestError",
    "CheckFinding",
    "CheckReport",
    "ClientOptions",
    "CompanySize",
    "ConfigurationError",
    "ConflictError",
    "ContactAccount",
    "ContactAccountFields",
    "ContactAccountIterator",
    "ContactAccountStage",
    "ContactAccountUpdate",
    "DeadlineExceededError",
    "FieldError",
    "InternalError",
    "KeptPlan",
    "NotFoundError",
    "PermissionDeniedError",
    "Plan",
    "PlanError",
    "PlanTable",
    "Quota",
    "QuotaLeft",
    "RateLimitError",
    "ReplyClient",
    "ReplyError",
    "ReplyWarning",
    "ServerError",
    "Status",
    "TLSError",
    "TableLike",
    "TransportError",
    "UnexpectedResponseError",
    "ValidationError",
    "__version__",
    "plans",
    "read_plan",
]

# The modules of the names that are not errors.
_HOMES = {
    "_check": ("CheckFinding", "CheckReport"),
    "_counts": ("Status",),
    "_replyio": ("__version__",),
    "_state": ("KeptPlan", "plans"),
    "_types": ("TableLike",),
    "client": ("AsyncContactAccountIterator", "ContactAccountIterator", "Quota", "QuotaLeft", "ReplyClient"),
    "models": (
        "ClientOptions",
        "CompanySize",
        "ContactAccount",
        "ContactAccountFields",
        "ContactAccountStage",
        "ContactAccountUpdate",
    ),
    "plan": ("ApplyResult", "Plan", "PlanTable", "read_plan"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name, or the module `sandbox`, on first use (PEP 562)."""
    if name == "sandbox":
        from importlib import import_module

        return import_module("replyio.sandbox")
    if name not in __all__:
        raise AttributeError(f"module 'replyio' has no attribute {name!r}")
    from importlib import import_module

    home = next((home for home, names in _HOMES.items() if name in names), "errors")
    value = getattr(import_module(f"replyio.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Returns the public names, for completion."""
    return [*__all__, "__doc__", "__file__", "__name__", "__path__", "sandbox"]
