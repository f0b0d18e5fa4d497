# Private: what the extension module gives the rest of the package.
import os
from asyncio import AbstractEventLoop, Future
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, final, overload

from typing_extensions import CapsuleType

from replyio.models import ContactAccount

__all__ = [
    "COMPANY_SIZES",
    "ERROR_KINDS",
    "MEMBERS",
    "ArrowStream",
    "Client",
    "Listing",
    "Page",
    "Pending",
    "Sandbox",
    "__version__",
]

_T = TypeVar("_T")

__version__: str
COMPANY_SIZES: list[str]
ERROR_KINDS: list[str]
MEMBERS: list[tuple[str, str, str, bool, bool, str]]

@final
class Pending(Generic[_T]):
    @property
    def future(self) -> Future[_T]: ...
    def close(self) -> None: ...

@final
class Client:
    def __new__(cls, settings: dict[str, Any]) -> Client: ...
    @property
    def base_url(self) -> str: ...
    def with_options(self, settings: dict[str, Any]) -> Client: ...
    @overload
    def update(self, id: int, fields: Mapping[str, Any], event_loop: None = None) -> ContactAccount: ...
    @overload
    def update(self, id: int, fields: Mapping[str, Any], event_loop: AbstractEventLoop) -> Pending[ContactAccount]: ...
    @overload
    def patch(
        self, id: int, changes: Mapping[str, Any], event_loop: None = None
    ) -> tuple[ContactAccount, str | None]: ...
    @overload
    def patch(
        self, id: int, changes: Mapping[str, Any], event_loop: AbstractEventLoop
    ) -> Pending[tuple[ContactAccount, str | None]]: ...
    @overload
    def get(self, id: int, event_loop: None = None) -> ContactAccount: ...
    @overload
    def get(self, id: int, event_loop: AbstractEventLoop) -> Pending[ContactAccount]: ...
    def list(self, search: str | None, sort_by: str | None, descending: bool, page_size: int) -> Listing: ...
    def close(self) -> None: ...

@final
class Listing:
    @property
    def finished(self) -> bool: ...
    @overload
    def next_page(self, event_loop: None = None) -> Page: ...
    @overload
    def next_page(self, event_loop: AbstractEventLoop) -> Pending[Page]: ...

@final
class Page:
    def accounts(self) -> list[ContactAccount]: ...
    def last(self, count: int) -> Page: ...
    def __len__(self) -> int: ...

@final
class ArrowStream:
    def __new__(cls, pages: list[Page]) -> ArrowStream: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> CapsuleType: ...

@final
class Sandbox:
    def __new__(
        cls,
        *,
        accounts: Sequence[Mapping[str, Any]] | None,
        port: int,
        quota: tuple[int, int] | None,
        clock_scale: float,
        faults: Sequence[Any],
        path: str | os.PathLike[str] | None,
        api_keys: Sequence[str] | None,
        scopes: Mapping[str, tuple[bool, bool]],
        auth: str,
        owners: set[int] | None,
        forbidden: set[int],
        max_body: int,
        keep_requests: int,
    ) -> Sandbox: ...
    @property
    def url(self) -> str: ...
    @property
    def port(self) -> int: ...
    def stop(self) -> None: ...
    def requests(
        self,
    ) -> list[tuple[int, int, int, str, str, str, list[tuple[str, str]], bytes, int | None, bool]]: ...
    def clear_requests(self) -> None: ...
    def accounts(self) -> list[dict[str, Any]]: ...
    def set_account(self, given: Mapping[str, Any]) -> None: ...
    def remove_account(self, id: int) -> bool: ...
    def add_fault(self, fault: Any) -> None: ...
    def clear_faults(self) -> None: ...
    def close_connections(self) -> None: ...
