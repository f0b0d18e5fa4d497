"""The sandbox does what its own description says, and the description says what the contract says."""

from __future__ import annotations

import dataclasses
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from replyio import CompanySize, ContactAccount, ContactAccountFields
from replyio.sandbox import Sandbox

KEY = "the-key"
BOUNDED = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


OPTIONS: dict[str, Any] = {"api_keys": [KEY], "owners": [42, 43]}


def description(sandbox: Sandbox) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    try:
        connection.request("GET", "/openapi.json")
        return json.load(connection.getresponse())
    finally:
        connection.close()


with Sandbox(**OPTIONS) as described:
    DESCRIPTION = description(described)
schema = schemathesis.openapi.from_dict(DESCRIPTION)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(**OPTIONS) as sandbox:
        yield sandbox


@schema.parametrize()
@BOUNDED
def test_every_operation_does_what_the_description_says(case: schemathesis.Case[Any], sandbox: Sandbox) -> None:
    case.call_and_validate(base_url=sandbox.url, headers={"X-API-Key": KEY})


def test_chains_of_operations_do_what_the_description_says(sandbox: Sandbox) -> None:
    machine: Any = schema.as_state_machine()

    class Chain(machine):  # type: ignore[misc]
        def get_call_kwargs(self, case: schemathesis.Case[Any]) -> dict[str, Any]:
            return {"base_url": sandbox.url, "headers": {"X-API-Key": KEY}}

    sandbox.clear_requests()
    Chain.run(settings=settings(BOUNDED, max_examples=15, stateful_step_count=6))
    applied = [request for request in sandbox.requests if request.applied]
    assert applied, "no chain reached an update of an account that is there"


# What the description says, held to what the package and the contract say.


def alias(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


def test_the_update_has_the_fields_of_the_package() -> None:
    update = DESCRIPTION["components"]["schemas"]["ContactAccountUpdate"]
    assert set(update["properties"]) == {alias(name) for name in ContactAccountFields.__annotations__}
    assert (update["required"], update["additionalProperties"]) == (["name"], False)
    for name, member in update["properties"].items():
        nullable = "null" in member.get("type", []) or None in member.get("enum", [])
        assert nullable is (name not in {"name", "ownerUserId"}), name
    assert update["properties"]["companySize"]["enum"] == [*(size.value for size in CompanySize), None]


def test_the_answers_have_the_members_of_the_package() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    members = {alias(field.name) for field in dataclasses.fields(ContactAccount)} - {"extra"}
    assert set(schemas["ContactAccountDetails"]["properties"]) == members
    assert set(schemas["ContactAccount"]["properties"]) == members - {"emailProvider"}
    required = {field.name for field in dataclasses.fields(ContactAccount) if field.default is field.default_factory}
    assert set(schemas["ContactAccount"]["required"]) == {alias(name) for name in required}


def test_every_status_of_the_contract_is_described() -> None:
    operations = [
        operation
        for path in DESCRIPTION["paths"].values()
        for method, operation in path.items()
        if method in {"get", "put"}
    ]
    assert {operation["operationId"] for operation in operations} == {
        "getContactAccount",
        "listContactAccounts",
        "updateContactAccount",
    }
    for operation in operations:
        assert {"200", "400", "401", "403", "429"} <= set(operation["responses"])
        assert "content" not in operation["responses"]["401"]


@pytest.mark.parametrize(
    ("auth", "schemes"),
    [("both", [{"apiKey": []}, {"bearer": []}]), ("x-api-key", [{"apiKey": []}]), ("bearer", [{"bearer": []}])],
)
def test_the_description_says_how_a_key_may_be_sent(auth: Any, schemes: Any) -> None:
    with Sandbox(auth=auth) as sandbox:
        assert description(sandbox)["security"] == schemes
