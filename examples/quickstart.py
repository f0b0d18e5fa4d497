"""The main job from end to end, on the sandbox that comes with the package: no account and no network needed."""

from __future__ import annotations

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


def show(title: str, before: ContactAccount, after: ContactAccount) -> None:
    """Prints the writable fields, and marks changes."""
    old, new = before.update_fields(), after.update_fields()
    print(f"\n{title}\n{'':2}{'field':18}{'before':26}after")
    for field in UPDATE:
        values = str(old.get(field, "–")), str(new.get(field, "–"))
        print(f"{' ' if values[0] == values[1] else '*'} {field:18}{values[0][:24]:26}{values[1]}")


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
        print(f"  {len(lost)} fields are gone.")

        restored = client.update_contact_account(4711, **UPDATE)
        sent = len(sandbox.requests)
        patched = client.patch_contact_account(4711, city="Oslo")
        show("3. patch_contact_account(4711, city='Oslo') reads, merges and writes", restored, patched)
        steps = " and ".join(f"one {request.method}" for request in sandbox.requests[sent:])
        print(f"  Everything else is kept, for {steps}.")

        print("\n4. Invalid fields raise an error before any request, with every problem")
        try:
            wrong: dict[str, Any] = {"name": " ", "company_size": "50-200", "citty": "Oslo"}
            client.update_contact_account(4711, **wrong)
        except replyio.ValidationError as error:
            for fault in error.errors:
                print(f"  {fault}")

        print("\n5. An error of the service says what failed, for which account, how often and what to do next")
        try:
            client.get_contact_account(4712)
        except replyio.NotFoundError as error:
            print(f"  {error}")

    print("\nWith the live service: set REPLY_API_KEY, and use replyio.ReplyClient() instead of sandbox.client().")


if __name__ == "__main__":
    main()
