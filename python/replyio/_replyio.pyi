# Private: the packages' own modules say what these do.
import os
from collections.abc import Mapping, Sequence
from typing import Any

__version__: str

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
