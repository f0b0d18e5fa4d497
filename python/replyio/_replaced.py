"""Moves a plan aside until the plan that replaces it is complete."""

from __future__ import annotations

import logging
import os

from replyio import _replyio
from replyio.errors import PlanError

__all__: list[str] = []

_logger = logging.getLogger("replyio")


class Replaced:
    """The plan that a new plan replaces: beside it, as `….replaced`, until the new one is complete.

    Other processes may use both names meanwhile, so this never replaces or deletes another file than its own. A person
    may apply the plan under its second name, so this asks before each of these steps whether it has written.
    """

    __slots__ = ("_aside", "_identity", "_is_moved", "_path")

    def __init__(self, path: str) -> None:
        """Takes the file of the plan."""
        self._path = path
        self._aside = f"{path}.replaced"
        self._identity: tuple[int, int] | None = None
        self._is_moved = False

    def move(self) -> None:
        """Moves the plan aside, if there is one.

        Raises:
            PlanError: If a file of one of the two names is not a plan, has written rows, or is in use.
            OSError: If it cannot be moved.
        """
        is_there = _replyio.PlanFile.make_way(self._path)
        if is_there and _identity(self._path) == _identity(self._aside):  # a process was killed in `restore`
            os.unlink(self._aside)  # noqa: PTH108 - the path is a string
        else:
            _replyio.PlanFile.make_way(self._aside)
        if not is_there:
            # A killed process may have left one, or another process has moved it just now.
            self._identity = _identity(self._aside)
            return
        # Known before the move: this thread may be interrupted after it.
        self._identity, self._is_moved = _identity(self._path), True
        os.replace(self._path, self._aside)  # noqa: PTH105 - both are strings

    def delete(self) -> None:
        """Deletes the plan, unless a run has used it meanwhile. The new one must be complete."""
        if not self._is_there():
            return
        try:
            _replyio.PlanFile.make_way(self._aside)
        except PlanError:
            told = "%s: not deleted, because a run used the plan while it was replaced; keep it to revert that run"
            _logger.warning(told, _replyio.safe_text(self._aside))
        else:
            os.unlink(self._aside)  # noqa: PTH108 - the path is a string

    def restore(self) -> str | None:
        """Gives the plan its name back, unless another file has the name, or a run has used the plan meanwhile.

        Returns:
            The file in which this object has left the plan, if that was not possible.
        """
        if not self._is_there():
            return None
        try:
            _replyio.PlanFile.make_way(self._aside)
            _rename(self._aside, self._path)
        except (OSError, PlanError):
            return self._aside if self._is_moved else None
        return None

    def _is_there(self) -> bool:
        return self._identity is not None and _identity(self._aside) == self._identity


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _rename(source: str, target: str) -> None:
    """Renames a file. Fails if the target exists, or if the file system cannot rename without replacing a file."""
    if os.name == "nt":
        os.rename(source, target)  # noqa: PTH104 - both are strings
    else:
        os.link(source, target, follow_symlinks=False)
        os.unlink(source)  # noqa: PTH108 - the path is a string
