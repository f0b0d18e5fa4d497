"""Writes docs/reference.md: what the installed package says of its fields and its errors."""

from __future__ import annotations

from pathlib import Path

import replyio.errors
from replyio import _replyio

KINDS = {
    "CompanySize": "one of the company sizes",
    "DateTime": "date and time",
    "Integer": "integer",
    "Stage": "stage",
    "Text": "string",
}

INTRODUCTION = """\
This page lists the fields of a contact account and the exceptions. [Client](reference/client.md),
[Plans and results](reference/plans.md) and [Sandbox](reference/sandbox.md) describe the calls."""


def fields() -> list[str]:
    """The table of the fields, a row for each member of a contact account."""
    lines = ["| field | JSON name | type | in an update | in an answer | meaning |", "|---|---|---|---|---|---|"]
    for name, wire, kind, writable, always_answered, doc in _replyio.MEMBERS:
        required = "required" if name == "name" else "optional"
        update = required + ("" if always_answered else ", can be null") if writable else "never"
        answer = "always" if always_answered else "can be null or missing"
        lines.append(f"| `{name}` | `{wire}` | {KINDS[kind]} | {update} | {answer} | {doc} |")
    return lines


def errors() -> list[str]:
    """The table of the exceptions, in the order of their tree."""
    lines = ["| exception | base classes | meaning |", "|---|---|---|"]

    def add(cls: type[BaseException], depth: int) -> None:
        bases = ", ".join(f"`{base.__name__}`" for base in cls.__bases__ if base is not Exception)
        summary = (cls.__doc__ or "").partition("\n")[0]
        lines.append(f"| {'&nbsp;&nbsp;' * depth}`{cls.__name__}` | {bases} | {summary} |")
        for child in cls.__subclasses__():
            add(child, depth + 1)

    add(replyio.errors.ReplyError, 0)
    return lines


def page() -> str:
    """The whole page."""
    sizes = ", ".join(f"`{size}`" for size in _replyio.COMPANY_SIZES)
    parts = [
        "<!-- Written by `make docs`. Do not edit. -->",
        "# Fields",
        INTRODUCTION,
        "## Fields of a contact account",
        (
            "If you leave out an optional field, `update_contact_account` clears it, except the owner.\n"
            "`patch_contact_account` keeps it."
        ),
        "\n".join(fields()),
        f"`company_size` is one of: {sizes}.",
        "## Errors",
        "\n".join(errors()),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8", newline="\n")
