"""What can go wrong, as exceptions.

::

    ReplyError
    ├── ConfigurationError (ValueError)
    ├── ValidationError (ValueError)
    ├── TransportError (ConnectionError)
    │   └── TLSError
    ├── DeadlineExceededError (TimeoutError)
    ├── UnexpectedResponseError
    ├── APIError
    │   ├── BadRequestError          400, 422
    │   ├── AuthenticationError      401
    │   ├── PermissionDeniedError    403
    │   ├── NotFoundError            404
    │   ├── ConflictError            409, 412
    │   ├── RateLimitError           429
    │   └── ServerError              5xx
    ├── PlanError
    └── InternalError

Every message is one line: what failed, for which account, how often it was tried, what to do next. No message,
attribute or pickle holds an API key. All of them can be pickled.
"""

from __future__ import annotations

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "DeadlineExceededError",
    "FieldError",
    "InternalError",
    "NotFoundError",
    "PermissionDeniedError",
    "PlanError",
    "RateLimitError",
    "ReplyError",
    "ReplyWarning",
    "ServerError",
    "TLSError",
    "TransportError",
    "UnexpectedResponseError",
    "ValidationError",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class FieldError(tuple[str, str]):
    """One fault of one field: ``(field, message)``.

    Attributes:
        field: The field, by its Python name where there is one (`company_size`); empty for the request as a whole.
        message: What is wrong with it, and what is expected. Never the value.
    """

    __slots__ = ()

    def __new__(cls, field: str, message: str) -> FieldError:
        """Makes the pair.

        Args:
            field: The field's name.
            message: What is wrong with it.
        """
        return super().__new__(cls, (field, message))

    def __getnewargs__(self) -> tuple[str, str]:
        """What `copy` and `pickle` make it from again."""
        return (self[0], self[1])

    @property
    def field(self) -> str:
        """The field's name; empty for the request as a whole."""
        return self[0]

    @property
    def message(self) -> str:
        """What is wrong with it, and what is expected."""
        return self[1]

    def __repr__(self) -> str:
        """The call that makes it."""
        return f"FieldError(field={self[0]!r}, message={self[1]!r})"

    def __str__(self) -> str:
        """`field: message`."""
        return f"{self[0]}: {self[1]}" if self[0] else self[1]


def _safe(message: str) -> str:
    """The message, with nothing in it that a terminal obeys. Lines stay lines."""
    if message.isascii() and message.isprintable():
        return message
    from replyio._replyio import safe_text

    return "\n".join(map(safe_text, message.split("\n")))


def _restore(cls: type[ReplyError], message: str, state: dict[str, Any]) -> ReplyError:
    """Makes an exception again from its pickle, attributes and notes included."""
    error = cls(message)
    error.__dict__.update(state)
    return error


class ReplyError(Exception):
    """The base of every error that this package raises. `message` is its message, one line.

    Attributes:
        may_have_been_applied: Whether an update was sent, in any attempt, and no answer tells whether it was applied.
            To send the same update again is safe then. Never True of a call that only reads; not known of an
            `InternalError`, nor of a call whose client was closed under it.
    """

    may_have_been_applied: bool = False

    def __init__(self, message: str = "", **attributes: Any) -> None:
        """Makes the error.

        Args:
            message: One line: what, which, how often, what next.
            **attributes: The attributes of the class, by name; those not given have their default.
        """
        # A message quotes file names, plan files and answers, and a traceback shows it on a terminal.
        message = _safe(message)
        super().__init__(message)
        self.message = message
        self.__dict__.update(attributes)

    def __reduce__(self) -> tuple[Callable[..., ReplyError], tuple[type[ReplyError], str, dict[str, Any]]]:
        """Class, message and attributes: all that an error is."""
        return _restore, (type(self), self.message, self.__dict__.copy())


class ConfigurationError(ReplyError, ValueError):
    """A setting of the client cannot be used. Raised at construction, before any request."""


class ValidationError(ReplyError, ValueError):
    """The fields or the id are not what the contract allows. Raised before any request.

    Attributes:
        errors: Every fault, in the order of the fields.
    """

    errors: list[FieldError] = []


class TransportError(ReplyError, ConnectionError):
    """No answer came: the connection could not be made, or broke, on every attempt.

    Attributes:
        attempts: How many requests were tried.
        elapsed: Seconds from the call to the error.
    """

    attempts: int = 0
    elapsed: float = 0.0


class TLSError(TransportError):
    """The server's certificate or the TLS handshake was refused. Never retried."""


class DeadlineExceededError(ReplyError, TimeoutError):
    """The call did not finish within its `timeout`. A request may have been applied although its answer did not come.

    Attributes:
        attempts: How many requests were tried.
        elapsed: Seconds from the call to the error.
        last_error: What ended the last attempt before the deadline, or None.
    """

    attempts: int = 0
    elapsed: float = 0.0
    last_error: str | None = None


class UnexpectedResponseError(ReplyError):
    """An answer that the contract does not have.

    Bad HTTP, bad JSON, another account's id, a redirect, a foreign status.

    Attributes:
        status: The HTTP status, or None where there was none.
        excerpt: The beginning of the body, escaped, or None.
        attempts: How many requests were tried.
        elapsed: Seconds from the call to the error.
    """

    status: int | None = None
    excerpt: str | None = None
    attempts: int = 0
    elapsed: float = 0.0


class APIError(ReplyError):
    """The service answered with an error (RFC 9457 problem details).

    Attributes:
        status: The HTTP status.
        title: The problem's title, or None.
        detail: The problem's detail, or None.
        code: The service's code, such as `contactAccount.notFound`, or None.
        errors: The faults that the service names, fields by their Python names.
        request_id: The id that the service gave the request, or None.
        attempts: How many requests were tried.
        elapsed: Seconds from the call to the error.
        retry_after: Seconds after which the service asks to try again, or None.
    """

    status: int = 0
    title: str | None = None
    detail: str | None = None
    code: str | None = None
    errors: list[FieldError] = []
    request_id: str | None = None
    attempts: int = 0
    elapsed: float = 0.0
    retry_after: float | None = None


class BadRequestError(APIError):
    """400 or 422: the service refused the fields, or a business rule did. Never retried."""


class AuthenticationError(APIError):
    """401: the key is missing, wrong or revoked. Never retried."""


class PermissionDeniedError(APIError):
    """403: the key may not do this, or not with this account. Never retried."""


class NotFoundError(APIError):
    """404: there is no such account. Never retried."""


class ConflictError(APIError):
    """409 or 412: the account is not in a state that allows this. Never retried."""


class RateLimitError(APIError):
    """429, or a wait for the quota that does not fit the deadline; then nothing was sent and `attempts` tells it.

    `retry_after` is the number of seconds until the quota opens again. If `Quota(acquire=...)` failed, it is None, and
    `__cause__` is what the function raised.
    """


class ServerError(APIError):
    """5xx on every attempt: the service, or one in front of it, is failing."""


class PlanError(ReplyError):
    """A plan file is stale, foreign, locked, full or damaged."""


class InternalError(ReplyError):
    """A fault of this package. The client stays usable; please report it."""


class ReplyWarning(UserWarning):
    """Something was done, and is not quite what was meant."""
