"""Mistakes that a type checker must find. Each says by which rule; nothing else may be found."""

from __future__ import annotations

from replyio import ContactAccountFields, ContactAccountUpdate, ReplyClient


def misspelt(client: ReplyClient) -> None:
    client.patch_contact_account(4711, citty="Oslo")  # wrong: mypy[call-arg] pyright[reportCallIssue]
    client.update_contact_account(4711, name="Acme", nmae="Acme")  # wrong: mypy[call-arg] pyright[reportCallIssue]
    fields: ContactAccountFields = {"nmae": "Acme"}  # wrong: mypy[typeddict-unknown-key] pyright[reportAssignmentType]
    client.patch_contact_account(4711, **fields)


def unnamed(client: ReplyClient) -> None:
    client.update_contact_account(4711, city="Oslo")  # wrong: mypy[call-arg] pyright[reportCallIssue]
    fields: ContactAccountUpdate = {"city": "Oslo"}  # wrong: mypy[typeddict-item] pyright[reportAssignmentType]
    client.update_contact_account(4711, **fields)
    client.open_plan("a").rows.filter("fail")  # wrong: mypy[arg-type] pyright[reportArgumentType]


def mistyped(client: ReplyClient) -> None:
    client.patch_contact_account(4711, city=7)  # wrong: mypy[arg-type] pyright[reportArgumentType]
    client.patch_contact_account(4711, owner_user_id=None)  # wrong: mypy[arg-type] pyright[reportArgumentType]
    client.patch_contact_account("4711", city="Oslo")  # wrong: mypy[arg-type] pyright[reportArgumentType]
    ReplyClient(auth="basic")  # wrong: mypy[arg-type] pyright[reportArgumentType]
    ReplyClient(timeout="5 s")  # wrong: mypy[arg-type] pyright[reportArgumentType]


def exported(client: ReplyClient) -> None:
    with client.open_plan("acme.replyplan") as plan:
        plan.export("rows.csv", "counts")  # wrong: mypy[arg-type] pyright[reportArgumentType]
        plan.export("rows.csv", "rows", True)  # wrong: mypy[call-arg] pyright[reportCallIssue]


def read_only(client: ReplyClient) -> None:
    account = client.get_contact_account(4711)
    account.city = "Oslo"  # wrong: mypy[misc] pyright[reportAttributeAccessIssue]
    client.patch_contact_account(4711, stage=1)  # wrong: mypy[call-arg] pyright[reportCallIssue]


def no_table(client: ReplyClient) -> None:
    client.plan_contact_account_updates({"id": [4711]})  # wrong: mypy[dict-item] pyright[reportArgumentType]
    client.patch_contact_accounts(b"rows.csv")  # wrong: mypy[arg-type] pyright[reportArgumentType]
    client.patch_contact_accounts(["4711"])  # wrong: mypy[list-item] pyright[reportArgumentType]
    client.patch_contact_accounts(4711)  # wrong: mypy[arg-type] pyright[reportArgumentType]
    client.open_plan("a").counts["failled"]  # wrong: mypy[index] pyright[reportArgumentType]


async def forgotten(client: ReplyClient) -> None:
    client.get_contact_account_async(4711)  # wrong: mypy[unused-coroutine] pyright[reportUnusedCoroutine]
    city: str = client.get_contact_account_async(4711)  # wrong: mypy[assignment] pyright[reportAssignmentType]
    print(city)
