"""The check of the service, and its report. Rust creates the texts; this module renders them."""

from __future__ import annotations

import dataclasses
import html
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from replyio import _replyio
from replyio._blocking import finished

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["CheckFinding", "CheckReport"]

_WIDTH = 80
# How a log line begins that has a value of an account.
RESTORE_BY_HAND = "restore by hand:"


@dataclasses.dataclass(frozen=True)
class CheckFinding:
    """One finding of `ReplyClient.check`.

    Attributes:
        topic: The subject: "key", "reading", "list_items", "dates", "empty_values", "members" or
            "rate_limit_headers". With `write`, also "update", "stored_text", "stage", "owner", "other_fields" or
            "restored".
        found: What the check found. Never contains the key or a value of an account.
        follows: What this means for you.
        verdict: "as expected", "differs" from what this version expects, or "not known", because no account shows it.
    """

    topic: str
    found: str
    follows: str
    verdict: Literal["as expected", "differs", "not known"]

    @property
    def differs(self) -> bool:
        """Whether it differs from what this version expects."""
        return self.verdict == "differs"


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """The report of `ReplyClient.check` about the service.

    `print(report)`, its view in a notebook and `to_dict` contain neither the key nor a value of an account, so you can
    paste them into an issue. The only id in them is the one that you passed.

    Attributes:
        findings: The findings, in a fixed order.
        requests: The number of requests sent.
        version: The version of this package.
        to_restore: The members of the updated account that the check may have changed, with their values before the
            check. Restore those that differ by hand, unless someone else changed them. If the update got no answer and
            no read succeeded after it, contains every member that had a value. Never part of the printed report.
    """

    findings: tuple[CheckFinding, ...]
    requests: int
    version: str
    to_restore: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any], repr=False, hash=False)

    @property
    def as_expected(self) -> bool:
        """Whether no finding differs from what this version expects."""
        return not any(finding.differs for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain values, without `to_restore`.

        Returns:
            The members, including `as_expected`.
        """
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        members = {"version": self.version, "requests": self.requests, "as_expected": self.as_expected}
        return {**members, "findings": findings}

    def __str__(self) -> str:
        """Returns the report as plain text, in lines of at most 80 characters."""
        lines = [self._summary()]
        for finding in self.findings:
            lines += ["", f"{finding.topic.replace('_', ' ')}: {_verdict(finding)}"]
            lines += _wrapped("found: ", finding.found)
            lines += _wrapped("so:    ", finding.follows)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Returns the report as an HTML table, for notebooks."""
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
        """Returns the first line."""
        number = sum(finding.differs for finding in self.findings)
        differences = f"{number} difference{'' if number == 1 else 's'}"
        verdict = "as expected" if self.as_expected else differences
        requests = f"{self.requests} request{'' if self.requests == 1 else 's'}"
        return f"replyio {self.version} check: {verdict}, {requests}"


def check(core: _replyio.Client, write: int | None) -> CheckReport:
    """Runs a check; see `ReplyClient.check`."""
    made = _replyio.Check(core, write)
    if made.read():
        try:
            try:
                made.write()
            except BaseException:
                # Ctrl-C among them, wherever it came. A second one ends this too.
                made.restore()
                raise
        except BaseException:
            _log_left_behind(made, write)
            raise
    return _report(made)


async def check_async(core: _replyio.Client, write: int | None, event_loop: AbstractEventLoop) -> CheckReport:
    """Runs a check on an event loop; see `ReplyClient.check_async`."""
    from replyio._progress import shielded

    made = _replyio.Check(core, write)
    if await finished(made.read(event_loop)):
        try:
            try:
                await finished(made.write(event_loop))
            except GeneratorExit:
                # A coroutine that is closed cannot wait.
                raise
            except BaseException:
                with shielded():
                    await finished(made.restore(event_loop))
                raise
        except BaseException:
            _log_left_behind(made, write)
            raise
    return _report(made)


def _log_left_behind(made: _replyio.Check, account: int | None) -> None:
    """Logs what the check left, or may have left, in the account, with the values to restore by hand.

    A warning could be turned into an error, which would replace the exception that interrupted the check.
    """
    import logging

    logger = logging.getLogger("replyio")
    if (left := made.left_behind()) is not None:
        logger.warning("the check was interrupted; %s", left)
    for name, value in made.result()["to_restore"].items():
        shown = _replyio.safe_text(repr(value))
        logger.warning(
            "%s %s of account %s was %s; leave it if someone else changed it", RESTORE_BY_HAND, name, account, shown
        )


def _report(made: _replyio.Check) -> CheckReport:
    result = made.result()
    return CheckReport(
        findings=tuple(CheckFinding(*finding) for finding in result["findings"]),
        requests=result["requests"],
        version=_replyio.__version__,
        to_restore=result["to_restore"],
    )


def _verdict(finding: CheckFinding) -> str:
    return "DIFFERS" if finding.differs else finding.verdict


def _wrapped(label: str, text: str) -> list[str]:
    """Returns a text after a label, in lines of at most 80 characters."""
    return textwrap.wrap(
        _replyio.safe_text(text),
        _WIDTH,
        initial_indent=f"  {label}",
        subsequent_indent="  " + " " * len(label),
        break_on_hyphens=False,
    )
