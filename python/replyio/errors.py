"""The exceptions of this package.

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

A message says what failed, for which account, after how many attempts, and what to do next. If an input has several
faults, each fault has its own line. No message, attribute or pickle contains an API key. All exceptions can be pickled.
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
    """One problem of one field: ``(field, message)``.

    Attributes:
        field: The Python name of the field, such as `company_size`; `""` for the request as a whole.
        message: What is wrong and what is expected. Never contains the value of the field.
    """

    __slots__ = ()

    def __new__(cls, field: str, message: str) -> FieldError:
        """Creates the pair.

        Args:
            field: The field's name.
            message: What is wrong with it.
        """
        return super().__new__(cls, (field, message))

    def __getnewargs__(self) -> tuple[str, str]:
        """Returns what `copy` and `pickle` create a copy from."""
        return (self[0], self[1])

    @property
    def field(self) -> str:
        """The Python name of the field; `""` for the request as a whole."""
        return self[0]

    @property
    def message(self) -> str:
        """What is wrong and what is expected."""
        return self[1]

    def __repr__(self) -> str:
        """Returns the call that creates it."""
        return f"FieldError(field={self[0]!r}, message={self[1]!r})"

    def __str__(self) -> str:
        """Returns `field: message`, or only the message for the request as a whole."""
        return f"{self[0]}: {self[1]}" if self[0] else self[1]


def _safe(message: str) -> str:
    """Returns the message without characters that control a terminal. Keeps line breaks."""
    if message.isascii() and message.isprintable():
        return message
    from replyio._replyio import safe_text

    return "\n".join(map(safe_text, message.split("\n")))


def _restore(cls: type[ReplyError], message: str, state: dict[str, Any]) -> ReplyError:
    """Returns the exception of a pickle, including attributes and notes."""
    error = cls(message)
    error.__dict__.update(state)
    return error


def add_to(error: ReplyError, text: str) -> None:
    """Adds a text to the message of an error."""
    error.message = f"{error.message}; {text}"
    error.args = (error.message,)


class ReplyError(Exception):
    """The base class of the errors of this package. `message` is the text of the error.

    Attributes:
        may_have_been_applied: Whether any attempt sent an update and no answer confirmed it. You can safely send the
            same update again. Always False for a call that only reads. Also False for an `InternalError`,
            although an update may have been applied.
    """

    may_have_been_applied: bool = False

    def __init__(self, message: str = "", **attributes: Any) -> None:
        """Creates the error.

        Args:
            message: One line: what failed, for which account, after how many attempts, and what to do next.
            **attributes: The attributes of the class, by name. Each attribute that is left out has its default.
        """
        # A message quotes file names, plan files and answers, and a traceback shows it on a terminal.
        message = _safe(message)
        super().__init__(message)
        self.message = message
        self.__dict__.update(attributes)

    def __reduce__(self) -> tuple[Callable[..., ReplyError], tuple[type[ReplyError], str, dict[str, Any]]]:
        """Returns the class, the message and the attributes."""
        return _restore, (type(self), self.message, self.__dict__.copy())


class ConfigurationError(ReplyError, ValueError):
    """A setting of the client cannot be used. Raised before any request, usually by the constructor."""


class ValidationError(ReplyError, ValueError):
    """An argument, a field, an id or a table is not valid. Raised before the call sends a request.

    Attributes:
        errors: Every problem, in the order of the fields.
    """

    errors: list[FieldError] = []


class TransportError(ReplyError, ConnectionError):
    """No complete answer arrived: no connection, one that broke, or a client that was closed during the call.

    Attributes:
        attempts: The number of attempts.
        elapsed: Seconds from the call to the error.
    """

    attempts: int = 0
    elapsed: float = 0.0


class TLSError(TransportError):
    """The TLS handshake failed, or the certificate is not trusted. The client does not retry."""


class DeadlineExceededError(ReplyError, TimeoutError):
    """The call exceeded `timeout`, or its last attempt exceeded `attempt_timeout`. An update may have been applied.

    Attributes:
        attempts: The number of attempts.
        elapsed: Seconds from the call to the error.
        last_error: What ended the last attempt before the timeout, or None.
    """

    attempts: int = 0
    elapsed: float = 0.0
    last_error: str | None = None


class UnexpectedResponseError(ReplyError):
    """The answer does not match the API contract.

    Examples are invalid HTTP, invalid JSON, the id of another account, a redirect, and a status such as 204 or 600.

    Attributes:
        status: The HTTP status, or None if the answer had none.
        excerpt: The beginning of the body, escaped, or None.
        attempts: The number of attempts.
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
        errors: The faults that the service names, with the Python names of fields.
        request_id: The request id that the service assigned, or None.
        attempts: The number of attempts.
        elapsed: Seconds from the call to the error.
        retry_after: The number of seconds after which the service asks to retry, or None.
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
    """400 or 422: the service refused the fields, or they break a business rule. The client does not retry."""


class AuthenticationError(APIError):
    """401: the key is missing, wrong or revoked. With `auth="auto"`, the client tries the other header once."""


class PermissionDeniedError(APIError):
    """403: the key lacks permission for this operation or for this account. The client does not retry."""


class NotFoundError(APIError):
    """404: there is no such account. The client does not retry."""


class ConflictError(APIError):
    """409 or 412: the state of the account does not allow this. The client does not retry."""


class RateLimitError(APIError):
    """429, or the wait for the quota exceeds the timeout. In the second case, that request was not sent.

    `status` is 429 in both cases. In the second case, `attempts` is 0 if the call sent no other request.

    `retry_after` is the number of seconds until the quota allows the next request. If `Quota(acquire=...)` failed,
    `retry_after` is None, and `__cause__` is the exception that the function raised.
    """


class ServerError(APIError):
    """5xx: the service, or a proxy in front of it, is failing."""


class PlanError(ReplyError):
    """A plan file cannot be used, for example because it is damaged, in use, or belongs to another user."""


class InternalError(ReplyError):
    """An internal error in replyio. The client stays usable; please report it."""


class ReplyWarning(UserWarning):
    """A call succeeded, but its result may differ from what you intended, for example in a stored value."""
