"""replyio: safe updates of Reply.io contact accounts.

    >>> from replyio import ReplyClient
    >>> client = ReplyClient()                                         # key from REPLY_API_KEY
    >>> account = client.patch_contact_account(4711, city="Bergen")    # keeps what is not named
    >>> account.name, account.city
    ('Acme', 'Bergen')

Names are imported when they are first used, so that `import replyio` costs next to nothing.
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

_IN_CHECK = frozenset({"CheckFinding", "CheckReport"})
_IN_CLIENT = frozenset({"AsyncContactAccountIterator", "ContactAccountIterator", "Quota", "QuotaLeft", "ReplyClient"})
_IN_MODELS = frozenset(
    {
        "ClientOptions",
        "CompanySize",
        "ContactAccount",
        "ContactAccountFields",
        "ContactAccountStage",
        "ContactAccountUpdate",
    }
)
_IN_PLAN = frozenset({"ApplyResult", "Plan", "PlanTable", "read_plan"})
_IN_STATE = frozenset({"KeptPlan", "plans"})
# The types of annotations.
_ALIASES = {"Status": "_counts", "TableLike": "_types"}


def __getattr__(name: str) -> Any:
    """Imports a public name, or the module `sandbox`, when it is first used (PEP 562)."""
    if name == "sandbox":
        from importlib import import_module

        return import_module("replyio.sandbox")
    if name not in __all__:
        raise AttributeError(f"module 'replyio' has no attribute {name!r}")
    from importlib import import_module

    if name == "__version__":
        home = "_replyio"
    elif name in _IN_CHECK:
        home = "_check"
    elif name in _IN_CLIENT:
        home = "client"
    elif name in _IN_MODELS:
        home = "models"
    elif name in _IN_PLAN:
        home = "plan"
    elif name in _IN_STATE:
        home = "_state"
    elif name in _ALIASES:
        home = _ALIASES[name]
    else:
        home = "errors"
    value = getattr(import_module(f"replyio.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, for completion."""
    return [*__all__, "__doc__", "__file__", "__name__", "__path__", "sandbox"]
