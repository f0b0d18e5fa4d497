"""The check of the service, and its report. What a report says is made in Rust; this renders it."""

from __future__ import annotations

import dataclasses
import html
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replyio import _replyio

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["CheckFinding", "CheckReport"]

_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class CheckFinding:
    """One thing that `ReplyClient.check` found out.

    Attributes:
        topic: What it is about: "key", "reading", "list_items", "dates", "empty_values", "members" or
            "rate_limit_headers"; of an account that was written "update", "stored_text", "stage", "owner",
            "other_fields" or "restored".
        found: What was found. Never the key, and never a value of an account.
        follows: What follows from it.
        differs: Whether this version expects something else.
    """

    topic: str
    found: str
    follows: str
    differs: bool


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """What `ReplyClient.check` found out about the service.

    `print(report)`, a notebook's view of it and `to_dict` hold neither the key nor a value of an account, so that they
    can be pasted into an issue. Of ids they hold only the one that was given.

    Attributes:
        findings: What was found, in a fixed order.
        requests: How many requests were sent.
        version: The version of this package.
        to_restore: What somebody has to restore by hand in the account that was written: the members, and their values
            before the check. Empty unless the service or another person changed the account during the check. It is
            part of no printed form.
    """

    findings: tuple[CheckFinding, ...]
    requests: int
    version: str
    to_restore: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any], repr=False, hash=False)

    @property
    def as_expected(self) -> bool:
        """Whether the service does everywhere what this version expects."""
        return not any(finding.differs for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, without `to_restore`.

        Returns:
            The members, `as_expected` among them.
        """
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        members = {"version": self.version, "requests": self.requests, "as_expected": self.as_expected}
        return {**members, "findings": findings}

    def __str__(self) -> str:
        """The report in plain text, in lines of at most 80 characters."""
        lines = [self._summary()]
        for finding in self.findings:
            lines += ["", f"{finding.topic.replace('_', ' ')}: {_verdict(finding)}"]
            lines += _wrapped("found: ", finding.found)
            lines += _wrapped("so:    ", finding.follows)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The report as a table, for notebooks."""
        cell = "text-align:left;vertical-align:top;padding:2px 14px 2px 0"
        rows = "".join(
            "<tr>"
            + "".join(
                f'<td style="{cell}">{html.escape(_replyio.safe_text(text))}</td>'
                for text in (finding.topic.replace("_", " "), _verdict(finding), finding.found, finding.follows)
            )
            + "</tr>"
            for finding in self.findings
        )
        heads = "".join(
            f'<th style="{cell}">{name}</th>' for name in ("topic", "verdict", "what was found", "what follows")
        )
        summary = html.escape(self._summary())
        return f"<p>{summary}</p><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"

    def _summary(self) -> str:
        """The first line."""
        number = sum(finding.differs for finding in self.findings)
        differences = f"{number} difference{'' if number == 1 else 's'}"
        verdict = "as expected" if self.as_expected else differences
        requests = f"{self.requests} request{'' if self.requests == 1 else 's'}"
        return f"replyio {self.version} check: {verdict}, {requests}"


def check(core: _replyio.Client, write: int | None) -> CheckReport:
    """Makes a check; see `ReplyClient.check`."""
    made = _replyio.Check(core, write)
    if made.read():
        try:
            try:
                made.change()
                made.restore()
            except BaseException:
                # Ctrl-C among them, wherever it came. A second one ends this too.
                made.restore()
                raise
        except BaseException:
            _log_left_behind(made)
            raise
    return _report(made)


async def check_async(core: _replyio.Client, write: int | None, event_loop: AbstractEventLoop) -> CheckReport:
    """Makes a check; see `ReplyClient.check`."""
    made = _replyio.Check(core, write)
    if await _finished(made.read(event_loop)):
        try:
            try:
                await _finished(made.change(event_loop))
                await _finished(made.restore(event_loop))
            except BaseException:
                await _finished(made.restore(event_loop))
                raise
        except BaseException:
            _log_left_behind(made)
            raise
    return _report(made)


async def _finished(pending: _replyio.Pending[Any]) -> Any:
    try:
        return await pending.future
    finally:
        pending.close()


def _log_left_behind(made: _replyio.Check) -> None:
    """Logs what is left in the account, if anything is or may be. The log has the values that somebody has to restore.

    A warning could be made an error, and would take the place of what interrupted the check.
    """
    import logging

    said: list[str] = []
    left = made.left_behind()
    if left is not None:
        said.append(left)
    said += [f"restore by hand: {name} was {value!r}" for name, value in made.result()["to_restore"].items()]
    if said:
        message = "the check was interrupted; " + "; ".join(said)
        logging.getLogger("replyio").warning("%s", _replyio.safe_text(message))


def _report(made: _replyio.Check) -> CheckReport:
    result = made.result()
    return CheckReport(
        findings=tuple(CheckFinding(*finding) for finding in result["findings"]),
        requests=result["requests"],
        version=_replyio.__version__,
        to_restore=result["to_restore"],
    )


def _verdict(finding: CheckFinding) -> str:
    return "DIFFERS" if finding.differs else "as expected"


def _wrapped(label: str, text: str) -> list[str]:
    """A text in lines of at most 80 characters, behind a label."""
    return textwrap.wrap(
        _replyio.safe_text(text),
        _WIDTH,
        initial_indent=f"  {label}",
        subsequent_indent="  " + " " * len(label),
        break_on_hyphens=False,
    )
