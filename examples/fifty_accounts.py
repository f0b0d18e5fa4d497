"""A table of fifty companies on the sandbox: plan, review, apply and revert."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from replyio.sandbox import Sandbox

COUNTRIES = {"Oslo": "Norway", "Gothenburg": "Sweden", "Turku": "Finland", "Aarhus": "Denmark", "Tallinn": "Estonia"}

# What the workspace has: no country anywhere, and every fifth city misspelt.
STORED = [
    {
        "id": 100 + number,
        "name": f"Company {number}",
        "city": "Olso" if number % 5 == 0 else city,
        "phone": f"+{number}",
    }
    for number, city in enumerate(list(COUNTRIES) * 10, start=1)
]

# Rows as from a spreadsheet: better data for all accounts, one invalid row, and one row without an account.
ROWS: list[dict[str, Any]] = [
    {"id": 100 + number, "city": city, "country": COUNTRIES[city]}
    for number, city in enumerate(list(COUNTRIES) * 10, start=1)
]
ROWS[6]["id"] = -7
ROWS[7]["id"] = 9_999


WIDTH = 79
HAS_COLORS = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def title(text: str) -> None:
    """Prints a headline."""
    print(f"\n\x1b[1m{text}\x1b[0m" if HAS_COLORS else f"\n{text}")


def say(text: object) -> None:
    """Prints a text, in as many lines as it needs."""
    print(textwrap.fill(str(text), WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))


def main() -> None:
    """Plans, applies and reverts the table."""
    # The service's quota, on a clock that makes a minute of it a second.
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(accounts=STORED, quota=(100, 3000), clock_scale=60) as sandbox,
        sandbox.client() as client,
    ):
        title("6. A table of fifty accounts: planned with few requests, nothing changed yet")
        path = Path(folder, "companies.replyplan")
        plan = client.plan_contact_account_updates(ROWS, save_as=path, progress=False)
        say(repr(plan))
        say(f"{len(sandbox.requests)} requests were sent for this plan.")
        for change in list(plan.changes)[8:12]:
            say("row {row:2}  account {id}  {field:8}  {before} → {after}".format(**change))
        for failure in plan.failures:
            say(f"{failure['error']} ({failure['status']})")

        title("7. plan.apply() sends the updates within the quota, and can be resumed")
        result = plan.apply(progress=False)
        say(repr(result))
        kept = all(account.phone == f"+{account.id - 100}" for account in sandbox.accounts.values())
        say(f"The phone numbers, which no column named, are {'all kept' if kept else 'LOST'}.")

        title("8. plan.revert() restores the previous values")
        say(repr(plan.revert(progress=False)))
        plan.close()


if __name__ == "__main__":
    main()
