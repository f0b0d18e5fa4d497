"""The state directory, which keeps plans without a file name for some time."""

from __future__ import annotations

import datetime
import logging
import os
import secrets
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from replyio import _replyio
from replyio._counts import Counts, Status
from replyio.errors import ConfigurationError, PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KeptPlan", "plans"]

# Days.
KEPT = 30
_MARKED = 7
_DAY = 86_400
_SUFFIX = ".replyplan"
# The files that SQLite creates next to a file.
_BESIDE = ("", "-journal", "-wal", "-shm")
# An empty file next to a plan. Its time says since when replyio sees the plan as old.
_OLD = ".old"

_logger = logging.getLogger("replyio")
_has_told = False


@dataclass(frozen=True)
class KeptPlan:
    """A plan in the state directory, as `replyio.plans` lists it.

    To look at the plan, use `replyio.read_plan(kept.path)`. To apply it, use `client.open_plan(kept.path).apply()`.

    Attributes:
        path: The file of the plan.
        created_at: The time in UTC when the plan was created.
        source: A description of the table.
        is_revert: Whether the plan reverts another plan.
        counts: The number of rows by status. 0 for every status if the file cannot be read.
        error: Why the file cannot be read; None if it can be read.
    """

    path: str
    created_at: datetime.datetime
    source: str
    is_revert: bool
    counts: dict[Status, int]
    error: str | None = None

    @property
    def age(self) -> datetime.timedelta:
        """The time since the plan was created."""
        return datetime.datetime.now(datetime.timezone.utc) - self.created_at


def plans() -> list[KeptPlan]:
    r"""Lists the plans in the state directory: those created without `save_as`, and their reverts.

    Sends no request and needs no key. replyio keeps such a plan for at least 30 days after it last wrote the plan. The
    state directory is `REPLYIO_STATE_DIR`. If that is not set, it is `$XDG_STATE_HOME/replyio` or
    `~/.local/state/replyio` on Linux, `~/Library/Application Support/replyio` on macOS, and `%LOCALAPPDATA%\replyio` on
    Windows.

    Returns:
        The plans, newest first.

    Raises:
        ConfigurationError: If `REPLYIO_STATE_DIR` is a relative path.

    Examples:
        >>> import replyio
        >>> client = replyio.ReplyClient()
        >>> plan = client.plan_contact_account_updates([{"id": 4711, "city": "Oslo"}], progress=False)
        >>> plan.path in {kept.path for kept in replyio.plans()}
        True
    """
    return sorted(map(_kept, _files()), key=lambda kept: kept.created_at, reverse=True)


def _kept(file: Path) -> KeptPlan:
    try:
        opened = _replyio.PlanFile.open(None, file)
        header, counts = opened.header(), opened.counts()
    except PlanError as error:
        written = _moment(_last_written(file))
        return KeptPlan(str(file), written, "", is_revert=False, counts=Counts(), error=error.message)
    created = _moment(header["created_at_ms"] / 1_000)
    return KeptPlan(str(file), created, header["source"], is_revert=header["is_revert"], counts=Counts(counts))


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def prune() -> tuple[int, list[KeptPlan]]:
    """Deletes the plans in the state directory.

    A plan stays for at least 30 days if a run uses it, if its file cannot be read, or if one of its rows is changed or
    unknown, because only the plan can revert them. A plan and its reverts stay together.

    Returns:
        The number of deleted plans, and the plans that stay.
    """
    with suppress(OSError, RuntimeError):
        remove_expired(_now(folder()))
    removed, stay = 0, list[KeptPlan]()
    found = plans()
    needed = {_origin(kept.path) for kept in found if _is_needed(kept)}
    for kept in found:
        if _origin(kept.path) not in needed:
            _remove(Path(kept.path))
            removed += 1
        else:
            stay.append(kept)
    return removed, stay


def new_file() -> tuple[str, Temporary | None]:
    """Returns the name of a new file for a plan without a name, and its temporary directory, if there is one.

    Returns:
        A name in the state directory, or in a temporary directory if the state directory is not writable.

    Raises:
        PlanError: If neither is writable.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}{_SUFFIX}"
    try:
        folder = _prepared()
        now = _now(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: the home directory is unknown
        temporary = Temporary()
        _tell_once(str(getattr(error, "strerror", None) or error))
        return str(Path(temporary.path, name)), temporary
    remove_expired(now)
    return str(folder / name), None


def is_kept(path: str | os.PathLike[str]) -> bool:
    """Returns whether a plan is in the state directory.

    Args:
        path: The file of the plan.

    Returns:
        True if it is there.
    """
    with suppress(RuntimeError, ConfigurationError):
        return Path(path).parent == folder()
    return False


def folder() -> Path:
    """Returns the directory of the kept plans.

    Returns:
        The directory, which may not exist.

    Raises:
        RuntimeError: If the user's home directory is unknown.
        ConfigurationError: If `REPLYIO_STATE_DIR` is a relative path.
    """
    found = _replyio.state_folder()
    if found is None:
        raise RuntimeError("the home directory is unknown")
    return Path(found, "plans")


def _prepared() -> Path:
    """Returns the directory, created if necessary, and accessible only to this user."""
    found = folder()
    for each in (found.parent, found):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = found.stat()
    if os.name == "posix" and status.st_uid != os.geteuid():
        raise PermissionError(0, "the directory belongs to another user")
    if os.name == "posix" and status.st_mode & 0o077:
        found.chmod(0o700)
    return found


def _now(folder: Path) -> float:
    """Returns the time by the clock that also writes the times of the plans. A test may replace the clock of Python.

    Args:
        folder: The directory of the kept plans.

    Returns:
        The time of a new file.

    Raises:
        OSError: If the directory is not writable.
    """
    descriptor, probe = tempfile.mkstemp(dir=folder)
    os.close(descriptor)
    try:
        return Path(probe).stat().st_mtime
    finally:
        Path(probe).unlink()


def _tell_once(reason: str) -> None:
    global _has_told  # noqa: PLW0603 - once in a process
    if _has_told:
        return
    _has_told = True
    try:
        where = str(folder())
    except RuntimeError:
        where = "the state directory"
    _logger.warning(
        "%s is not writable (%s), so plans without save_as= are in a temporary directory that is deleted with this "
        "process; pass save_as=, or set REPLYIO_STATE_DIR to a writable directory",
        _replyio.safe_text(where),
        _replyio.safe_text(reason),
    )


def remove_expired(now: float) -> None:
    """Deletes the plans that replyio last wrote more than 30 days ago, and has seen as old for 7 days.

    The system's clock may be wrong for a while, now or when the plan was written. So one look at it does not delete a
    plan, and a plan stays while a run uses it.

    Args:
        now: The time.
    """
    files = {file: _origin(file) for file in _files()}
    # Without its revert, a plan could be applied again; without its plan, a revert could not be resumed.
    written: dict[str, float] = {}
    for file, origin in files.items():
        written[origin] = max(written.get(origin, 0.0), _last_written(file))
    for file, origin in files.items():
        mark = Path(f"{file}{_OLD}")
        with suppress(OSError):
            if now - written[origin] <= KEPT * _DAY:
                mark.unlink(missing_ok=True)
            elif not mark.exists() or mark.stat().st_mtime > now:
                mark.touch(mode=0o600)
            elif now - mark.stat().st_mtime > _MARKED * _DAY and not _replyio.PlanFile.is_in_use(file):
                _remove(file)
                told = "%s: deleted, because replyio last wrote this plan more than %d days ago"
                _logger.info(told, _replyio.safe_text(str(file)), KEPT)


def _origin(file: str | os.PathLike[str]) -> str:
    """Returns the name that a plan, its reverts and their reverts have in common."""
    return _replyio.PlanFile.origin(file)


def _is_needed(kept: KeptPlan) -> bool:
    may_have_written = kept.counts.get("changed", 0) + kept.counts.get("unknown", 0) > 0
    return may_have_written or kept.error is not None or _replyio.PlanFile.is_in_use(kept.path)


def _files() -> Iterator[Path]:
    with suppress(OSError, RuntimeError):
        yield from [file for file in folder().iterdir() if file.name.endswith(_SUFFIX) and file.is_file()]


def _last_written(file: Path) -> float:
    """Returns when a plan was last written. A run writes to the log next to it first."""
    moments = [0.0]
    for suffix in _BESIDE:
        with suppress(OSError):
            moments.append(Path(f"{file}{suffix}").stat().st_mtime)
    return max(moments)


def _remove(file: Path) -> None:
    for suffix in (*_BESIDE, _OLD):
        with suppress(OSError):
            Path(f"{file}{suffix}").unlink()


class Temporary:
    """A temporary directory for a plan. It is deleted with the last object that needs it, or with the process."""

    __slots__ = ("__weakref__", "_finalizer", "path")

    def __init__(self) -> None:
        """Creates it.

        Raises:
            PlanError: If it cannot be created.
        """
        import weakref

        try:
            self.path = tempfile.mkdtemp(prefix="replyio-")
        except OSError as error:
            message = f"replyio cannot create a temporary directory for the plan: {error.strerror}"
            raise PlanError(f"{message}; hint: pass a file as save_as=, and free some space") from None
        self._finalizer = weakref.finalize(self, _remove_folder, self.path, os.getpid())

    def keep(self) -> None:
        """Keeps the directory."""
        self._finalizer.detach()


def _remove_folder(path: str, process: int) -> None:
    import shutil

    # A forked child has a copy of this object, but does not own the plan.
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)
