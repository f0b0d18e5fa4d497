"""The fields are written down once, in `src/account.rs`; whatever says them again says the same."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pytest

import replyio
from replyio import _replyio

if TYPE_CHECKING:
    from replyio.sandbox import Sandbox

DOCS = Path(__file__).parent.parent / "docs"
ATTRIBUTE = re.compile(r"^ +(\w+): (.+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Member:
    name: str
    wire: str
    kind: str
    writable: bool
    always_answered: bool
    doc: str


MEMBERS = {row[0]: Member(*row) for row in _replyio.MEMBERS}
WRITABLE = [name for name, member in MEMBERS.items() if member.writable]


def described(cls: type) -> dict[str, str]:
    """What the Attributes section of a class says, by name."""
    section = (cls.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    return dict(ATTRIBUTE.findall(section))


def test_the_typed_dictionary_has_the_writable_fields() -> None:
    assert list(replyio.ContactAccountFields.__annotations__) == WRITABLE


def test_the_dataclass_has_every_member_and_extra() -> None:
    names = [field.name for field in dataclasses.fields(replyio.ContactAccount)]
    assert names[-1] == "extra"
    assert sorted(names[:-1]) == sorted(MEMBERS)


def test_the_dataclass_demands_what_every_answer_has() -> None:
    fields = dataclasses.fields(replyio.ContactAccount)
    required = {field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING}
    assert required == {name for name, member in MEMBERS.items() if member.always_answered}


@pytest.mark.parametrize("cls", [replyio.ContactAccount, replyio.ContactAccountFields])
def test_the_types_can_be_null_where_the_members_can(cls: type) -> None:
    for name, hint in get_type_hints(cls).items():
        if name in MEMBERS:
            member = MEMBERS[name]
            # What the service sets and no update needs is None when it cannot be read, whatever the contract promises.
            can_be_unreadable = not member.writable and name != "id"
            assert (type(None) in get_args(hint)) == (not member.always_answered or can_be_unreadable), name


@pytest.mark.parametrize("cls", [replyio.ContactAccount, replyio.ContactAccountFields])
def test_the_docstrings_begin_as_the_contract_says(cls: type) -> None:
    texts = described(cls)
    names = WRITABLE if cls is replyio.ContactAccountFields else [field.name for field in dataclasses.fields(cls)]
    assert list(texts) == names
    for name, text in texts.items():
        if name in MEMBERS:
            assert text.startswith(MEMBERS[name].doc), name


def test_the_names_on_the_wire_are_those_of_the_table() -> None:
    values: dict[str, Any] = dict.fromkeys(MEMBERS)
    assert set(replyio.ContactAccount(**values).to_dict(by_alias=True)) == {each.wire for each in MEMBERS.values()}


def test_the_company_sizes_are_those_of_the_core() -> None:
    assert [str(size) for size in replyio.CompanySize] == list(_replyio.COMPANY_SIZES)


def test_the_reference_page_is_what_make_docs_writes() -> None:
    location = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert location
    assert location.loader
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    assert (DOCS / "reference.md").read_text(encoding="utf-8") == module.page(), "run `make docs`"


@pytest.fixture
def schemas(sandbox: Sandbox) -> dict[str, Any]:
    """The schemas of the sandbox's description of itself."""
    with urllib.request.urlopen(sandbox.url.removesuffix("/v3") + "/openapi.json", timeout=10) as answer:
        return json.load(answer)["components"]["schemas"]  # type: ignore[no-any-return]


def test_the_sandbox_takes_the_writable_fields(schemas: dict[str, Any]) -> None:
    update = schemas["ContactAccountUpdate"]
    assert set(update["properties"]) == {MEMBERS[name].wire for name in WRITABLE}
    assert update["required"] == ["name"]
    assert update["additionalProperties"] is False


def test_the_sandbox_answers_every_member(schemas: dict[str, Any]) -> None:
    details = schemas["ContactAccountDetails"]
    assert {name: schema["description"] for name, schema in details["properties"].items()} == {
        member.wire: member.doc for member in MEMBERS.values()
    }
    assert set(details["required"]) == {member.wire for member in MEMBERS.values() if member.always_answered}
    sizes = details["properties"]["companySize"]["enum"]
    assert sizes == [*_replyio.COMPANY_SIZES, None]
