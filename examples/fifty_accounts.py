"""A table of fifty companies on the sandbox: plan, review, apply and revert."""

from __future__ import annotations

import tempfile
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


def main() -> None:
    """Plans, applies and reverts the table."""
    # The service's quota, on a clock that makes a minute of it a second.
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(accounts=STORED, quota=(100, 3000), clock_scale=60) as sandbox,
        sandbox.client() as client,
    ):
        print("\n6. A table of fifty accounts: planned with few requests, and no account is changed yet")
        path = Path(folder, "companies.replyplan")
        plan = client.plan_contact_account_updates(ROWS, save_as=path, progress=False)
        print(f"  {plan!r}")
        print(f"  {len(sandbox.requests)} requests were sent for this plan.")
        for change in list(plan.changes)[8:12]:
            print("  row {row:2}  account {id}  {field:8}  {before} → {after}".format(**change))
        for failure in plan.failures:
            print(f"  {failure['error']} ({failure['status']})")

        print("\n7. plan.apply() sends the updates within the quota; you can interrupt and resume it")
        result = plan.apply(progress=False)
        print(f"  {result!r}")
        kept = all(account.phone == f"+{account.id - 100}" for account in sandbox.accounts.values())
        print(f"  The phone numbers, which no column named, are {'all kept' if kept else 'LOST'}.")

        print("\n8. plan.revert() restores the previous values")
        print(f"  {plan.revert(progress=False)!r}")
        plan.close()


if __name__ == "__main__":
    main()
