"""The state directory: where plans are kept that were given no name, and for how long."""

from __future__ import annotations

import datetime
import logging
import os
import secrets
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from replyio import _replyio
from replyio._counts import Counts, Status
from replyio.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["KeptPlan", "plans"]

# Days.
KEPT = 30
_DAY = 86_400
_SUFFIX = ".replyplan"
# What SQLite puts beside a file.
_BESIDE = ("", "-journal", "-wal", "-shm")

_logger = logging.getLogger("replyio")
_has_told = False


@dataclass(frozen=True)
class KeptPlan:
    """A plan in the state directory. `replyio.read_plan(kept.path)` shows it, `client.open_plan(kept.path)` applies it.

    Attributes:
        path: The plan's file.
        created_at: When the plan was made.
        source: What the table was, in words.
        is_revert: Whether the plan reverts another plan.
        counts: The number of rows with each status; 0 for every status where the file cannot be read.
        error: Why the file cannot be read; None where it can.
    """

    path: str
    created_at: datetime.datetime
    source: str
    is_revert: bool
    counts: dict[Status, int]
    error: str | None = None

    @property
    def age(self) -> datetime.timedelta:
        """The time since the plan was made."""
        return datetime.datetime.now(datetime.timezone.utc) - self.created_at


def plans() -> list[KeptPlan]:
    r"""Lists the plans in the state directory: those that were made without `save_as`, and their reverts.

    Such a plan is kept for 30 days after its last use. The state directory is `REPLYIO_STATE_DIR` where that is set,
    else the user's: `~/.local/state/replyio` on Linux (or `XDG_STATE_HOME`), `~/Library/Application Support/replyio` on
    macOS, `%LOCALAPPDATA%\replyio` on Windows. No request is sent, and no key is needed.

    Returns:
        The plans, the newest first.

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
        return KeptPlan(str(file), _moment(_last_use(file)), "", is_revert=False, counts=Counts(), error=error.message)
    created = _moment(header["created_at_ms"] / 1_000)
    return KeptPlan(str(file), created, header["source"], is_revert=header["is_revert"], counts=Counts(counts))


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def prune() -> tuple[int, list[KeptPlan]]:
    """Removes the plans in the state directory.

    A plan stays for its 30 days when a run has it, when its file cannot be read, or when the outcome of one of its
    rows is unknown: it alone knows the values from before.

    Returns:
        How many were removed, and those that stay.
    """
    remove_expired()
    removed, stay = 0, list[KeptPlan]()
    for kept in plans():
        is_free = not kept.counts.get("unknown")
        try:
            _replyio.PlanFile.is_replaceable(kept.path)
        except PlanError:
            is_free = False
        if is_free:
            _remove(Path(kept.path))
            removed += 1
        else:
            stay.append(kept)
    return removed, stay


def new_file() -> tuple[str, Temporary | None]:
    """The name of a new file for a plan that was given none, and the temporary folder around it where there is one.

    Returns:
        A name in the state directory, or in a temporary folder where that cannot be written.

    Raises:
        PlanError: When neither can be written.
    """
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}{_SUFFIX}"
    try:
        folder = _prepared()
    except (OSError, RuntimeError) as error:  # RuntimeError: nobody knows where the home is
        temporary = Temporary()
        _tell_once(str(getattr(error, "strerror", None) or error))
        return str(Path(temporary.path, name)), temporary
    remove_expired()
    return str(folder / name), None


def is_kept(path: str | os.PathLike[str]) -> bool:
    """Whether a plan is in the state directory.

    Args:
        path: The plan's file.

    Returns:
        True where it is there.
    """
    with suppress(RuntimeError):
        return Path(path).parent == folder()
    return False


def folder() -> Path:
    """The folder of the kept plans.

    Returns:
        The folder, which need not be there.

    Raises:
        RuntimeError: When nobody knows where the user's home is.
    """
    return _base() / "plans"


def _base() -> Path:
    given = os.environ.get("REPLYIO_STATE_DIR")
    if given:
        return Path(given).absolute()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "replyio"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "replyio"
    state = os.environ.get("XDG_STATE_HOME", "")
    # The convention has a relative path ignored.
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "replyio"  # noqa: PTH117


def _prepared() -> Path:
    """The folder, made where it was not there, and nobody else's."""
    found = folder()
    for each in (found.parent, found):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = found.stat()
    if os.name == "posix" and status.st_uid != os.geteuid():
        raise PermissionError(0, "the directory belongs to another user")
    if os.name == "posix" and status.st_mode & 0o077:
        found.chmod(0o700)
    descriptor, probe = tempfile.mkstemp(dir=found)
    os.close(descriptor)
    Path(probe).unlink()
    return found


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
        "%s cannot be written (%s): plans without save_as= are in a temporary directory, which goes with this process; "
        "give save_as=, or set REPLYIO_STATE_DIR to a directory that can be written",
        _replyio.safe_text(where),
        _replyio.safe_text(reason),
    )


def remove_expired() -> None:
    """Removes the plans that were last used longer ago than they are kept."""
    for file in _files():
        if time.time() - _last_use(file) > KEPT * _DAY:
            _remove(file)


def _files() -> Iterator[Path]:
    with suppress(OSError, RuntimeError):
        yield from [file for file in folder().iterdir() if file.name.endswith(_SUFFIX) and file.is_file()]


def _last_use(file: Path) -> float:
    """When a plan was last written. A run writes to the log beside it first."""
    moments = [0.0]
    for suffix in _BESIDE:
        with suppress(OSError):
            moments.append(Path(f"{file}{suffix}").stat().st_mtime)
    return max(moments)


def _remove(file: Path) -> None:
    for suffix in _BESIDE:
        with suppress(OSError):
            Path(f"{file}{suffix}").unlink()


class Temporary:
    """A temporary folder for a plan. It goes with the last object that needs it, or with the process."""

    __slots__ = ("__weakref__", "_finalizer", "path")

    def __init__(self) -> None:
        """Makes it.

        Raises:
            PlanError: When it cannot be made.
        """
        import weakref

        try:
            self.path = tempfile.mkdtemp(prefix="replyio-")
        except OSError as error:
            message = f"no temporary directory for the plan can be made: {error.strerror}"
            raise PlanError(f"{message}; hint: give save_as= a file, and see that there is room") from None
        self._finalizer = weakref.finalize(self, _remove_folder, self.path, os.getpid())

    def keep(self) -> None:
        """Leaves it there."""
        self._finalizer.detach()


def _remove_folder(path: str, process: int) -> None:
    import shutil

    # A forked child has a copy of this, and not the plan.
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)
