"""The main job from end to end, on the sandbox that comes with the package: no account and no network needed."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import replyio
from replyio.sandbox import Sandbox

if TYPE_CHECKING:
    from replyio import ContactAccount, ContactAccountFields

# Values that someone typed years ago.
STORED = {
    "id": 4711,
    "name": "Nordlys",
    "city": "Bergen",
    "phone": "+47 55 00 00 00",
    "owner_user_id": 42,
    "stage": {"id": 3, "name": "In conversation", "color_id": 7},
}

# The example update of the vendor with all sixteen fields, and realistic values.
UPDATE: ContactAccountFields = {
    "name": "Nordlys Energi AS",
    "description": "Charging stations for ferries and ports",
    "domain_name": "nordlys.example",
    "domain_secondary": "nordlys-energi.example",
    "industry": "Renewable energy",
    "company_size": "51-200",
    "country": "Norway",
    "state": "Vestland",
    "city": "Bergen",
    "time_zone_id": "Europe/Oslo",
    "linked_in_url": "https://www.linkedin.com/company/nordlys-example",
    "phone": "+47 55 12 34 56",
    "twitter_url": "https://x.com/nordlys_example",
    "logo_url": "https://nordlys.example/logo.svg",
    "email": "post@nordlys.example",
    "owner_user_id": 42,
}


WIDTH = 79
HAS_COLORS = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def colored(text: str, color: int) -> str:
    """Returns the text in a color, on a terminal that has colors."""
    return f"\x1b[{color}m{text}\x1b[0m" if HAS_COLORS else text


def title(text: str) -> None:
    """Prints a headline."""
    print(f"\n{colored(text, 1)}")


def say(text: object) -> None:
    """Prints a text in as many lines as it needs."""
    print(textwrap.fill(str(text), WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))


def cut(value: object, width: int) -> str:
    """Returns the value, truncated if it is wider than its column."""
    text = str(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def show(headline: str, before: ContactAccount, after: ContactAccount) -> None:
    """Prints the writable fields, and marks changes."""
    old, new = before.update_fields(), after.update_fields()
    title(headline)
    print(f"{'':2}{'field':18}{'before':29}after")
    for field in UPDATE:
        values = cut(old.get(field, "–"), 27), cut(new.get(field, "–"), 30)
        has_changed = old.get(field) != new.get(field)
        line = f"{'*' if has_changed else ' '} {field:18}{values[0]:29}{values[1]}"
        # Red is what is gone, green what is new.
        print(colored(line, 32 if field in new else 31) if has_changed else line)


def main() -> None:
    """Updates an account, shows the trap and how to avoid it, and two errors."""
    with Sandbox(accounts=[STORED]) as sandbox, sandbox.client() as client:
        print(f"A sandbox of Reply.io runs at {sandbox.url}")

        before = client.get_contact_account(4711)
        complete = client.update_contact_account(4711, **UPDATE)
        show("1. update_contact_account(4711, …) with all sixteen fields", before, complete)

        wiped = client.update_contact_account(4711, name=complete.name, city="Oslo")
        lost = complete.update_fields().keys() - wiped.update_fields().keys()
        show("2. The trap: the same call with only name and city replaces the whole account", complete, wiped)
        say(f"{len(lost)} fields are gone.")
        say("owner_user_id stays: it can never be empty, so an update without it does not clear it.")

        restored = client.update_contact_account(4711, **UPDATE)
        sent = len(sandbox.requests)
        patched = client.patch_contact_account(4711, city="Oslo")
        show("3. patch_contact_account(4711, city='Oslo') reads, merges and writes", restored, patched)
        steps = " and ".join(f"one {request.method}" for request in sandbox.requests[sent:])
        say(f"Everything else is kept, for {steps}.")

        title("4. Invalid fields raise an error before any request, with every problem")
        try:
            wrong: dict[str, Any] = {"name": " ", "company_size": "50-200", "citty": "Oslo"}
            client.update_contact_account(4711, **wrong)
        except replyio.ValidationError as error:
            for fault in error.errors:
                say(fault)

        title("5. An error says what failed, for which account, how often and what to do")
        try:
            client.get_contact_account(4712)
        except replyio.NotFoundError as error:
            say(error)

    title("With the live service")
    say("Set REPLY_API_KEY, and use replyio.ReplyClient() instead of sandbox.client().")


if __name__ == "__main__":
    main()
