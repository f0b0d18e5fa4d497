"""What becomes of fields that no row names when the service stores them with other values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from replyio import PlanError
from replyio.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [{"id": id, "city": "Bergen"} for id in (1, 2, 3)]
ACCOUNTS = [{"id": id, "name": f"Company {id}", "city": "Oslo", "phone": "0150", "ownerUserId": 42} for id in (1, 2, 3)]


@pytest.mark.parametrize("phone", [None, "+47 150"])
def test_a_revert_restores_them(phone: str | None, tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        answer = {**ACCOUNTS[0], "city": "Bergen", "phone": phone}
        service.add_fault(Fault(id=1, method="PUT", status=200, body=answer, times=1))
        if phone is None:
            with pytest.raises(PlanError, match=r"account 1 \(row 0\) emptied phone, which the row does not name"):
                plan.apply(progress=False)
            assert plan.counts == {"changed": 1, "pending": 2}
        else:
            plan.apply(progress=False)
            assert plan.counts == {"changed": 3}
        service.set_account(answer)  # as the answer says
        assert plan.rows[0]["stored_otherwise"]
        assert {change["field"] for change in plan.changes} == {"city"}
        plan.revert(progress=False)
        account = service.accounts[1]
        assert (account.city, account.phone) == ("Oslo", "0150")


def test_a_revert_leaves_what_someone_wrote_since(tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service, service.client(quota=None) as client:
        plan = client.plan_contact_account_updates(ROWS, save_as=tmp_path / "a.replyplan", progress=False)
        answer = {**ACCOUNTS[0], "city": "Bergen", "phone": "+47 150"}
        service.add_fault(Fault(id=1, method="PUT", status=200, body=answer, times=1))
        plan.apply(progress=False)
        service.set_account({**answer, "phone": "0160"})
        assert plan.revert(progress=False).counts == {"changed": 3}
        account = service.accounts[1]
        assert (account.city, account.phone) == ("Oslo", "0160")
