"""Exports of other programs: their errors lead to a table, and that table to the plan that a person expects.

The columns are those that each program documents; the rows are ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pandas as pd
import pytest

from replyio import ReplyClient, ValidationError
from replyio.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNTS: list[dict[str, Any]] = [
    {"id": 1, "name": "Nordlys Kaffe", "domainName": "nordlys-kaffe.example", "ownerUserId": 42, "city": "Oslo"},
    {"id": 2, "name": "Zürich Räder", "domainName": "xn--rder-loa.example", "ownerUserId": 42},
    {"id": 3, "name": "Harbor Freight Lines", "domainName": "www.harborlines.example", "ownerUserId": 43},
    {"id": 4, "name": "Grand Hotels", "domainName": "grandhotels.example", "ownerUserId": 43, "city": "Paris"},
]


class Export(NamedTuple):
    """A file as a program writes it, and what a person expects of it."""

    text: str
    # Which column is which field, by the hints alone.
    columns: dict[str, str]
    # The options that a person gives, and the changes to expect: row, account, field, value.
    options: dict[str, Any]
    changes: set[tuple[int, int, str, str]]
    statuses: dict[str, int]


HUBSPOT = Export(
    text=""""Record ID","Company name","Company owner","Create Date","Phone Number","Last Activity Date","City",\
"Country/Region","Industry","Company Domain Name","Website URL","Number of Employees","LinkedIn Company Page",\
"State/Region","Time Zone","Annual Revenue"
"8412093377","Nordlys Kaffe","Kari Nordmann","2026-03-01 09:12","+47 22 00 00 00","2026-11-02 10:00","Bergen","Norway",\
"FOOD_BEVERAGES","nordlys-kaffe.example","https://www.nordlys-kaffe.example/","35","","Vestland","","1200000"
"8412093378","Harbor Freight Lines","","2026-03-01 09:12","","","Baltimore","United States","MARITIME",\
"harborlines.example","harborlines.example/about","1,200","https://www.linkedin.com/company/harborlines","MD","",""
"8412093379","Grand Hotel Oslo","","2026-03-01 09:13","","","Oslo","Norway","HOSPITALITY",\
"https://www.grandhotels.example/oslo","","","","","",""
""",
    columns={
        "Company name": "name",
        "Company owner": "owner_user_id",
        "Phone Number": "phone",
        "Country/Region": "country",
        "Company Domain Name": "domain_name",
        "Number of Employees": "company_size",
        "LinkedIn Company Page": "linked_in_url",
        "State/Region": "state",
    },
    options={
        "columns": {
            "Company Domain Name": "domain_name",
            "Country/Region": "country",
            "Phone Number": "phone",
            "LinkedIn Company Page": "linked_in_url",
        },
    },
    changes={
        (0, 1, "city", "Bergen"),
        (0, 1, "country", "Norway"),
        (0, 1, "industry", "FOOD_BEVERAGES"),
        (0, 1, "phone", "+47 22 00 00 00"),
        (1, 3, "city", "Baltimore"),
        (1, 3, "country", "United States"),
        (1, 3, "industry", "MARITIME"),
        (1, 3, "linked_in_url", "https://www.linkedin.com/company/harborlines"),
    },
    # The hotel is a page of the chain's site: another company.
    statuses={"pending": 2, "not_found": 1},
)

SALESFORCE = Export(
    text=""""Account Owner","Account Name","Account Site","Billing Street","Billing City","Billing State/Province",\
"Billing Zip/Postal Code","Billing Country","Phone","Website","Employees","Industry","Type","Rating","Last Activity",\
"Last Modified Date","Created Date","Account ID"
"Ola Hansen","Nordlys Kaffe","","Storgata 1","Bergen","","5003","Norway","+47 22 00 00 00",\
"http://www.nordlys-kaffe.example","35","Food & Beverage","Customer","Hot","11/2/2026","11/2/2026","3/1/2026",\
"0015g00000AbCdE"
"Ola Hansen","Zürich Räder","","","Zürich","","","Switzerland","","www.räder.example","12","","Prospect","","","",\
"3/1/2026","0015g00000AbCdF"
""",
    columns={
        "Account Owner": "owner_user_id",
        "Account Name": "name",
        "Billing City": "city",
        "Billing State/Province": "state",
        "Billing Country": "country",
        "Website": "domain_name",
        "Employees": "company_size",
    },
    options={"columns": {"Website": "domain_name", "Billing City": "city", "Billing Country": "country"}},
    changes={
        (0, 1, "city", "Bergen"),
        (0, 1, "country", "Norway"),
        (0, 1, "phone", "+47 22 00 00 00"),
        (0, 1, "industry", "Food & Beverage"),
        (1, 2, "city", "Zürich"),
        (1, 2, "country", "Switzerland"),
    },
    statuses={"pending": 2},
)

APOLLO = Export(
    text="""Company Name,Company Name for Emails,Account Stage,Lists,# Employees,Industry,Account Owner,Website,\
Company Linkedin Url,Facebook Url,Twitter Url,Company Street,Company City,Company State,Company Country,\
Company Postal Code,Company Address,Keywords,Company Phone,SEO Description,Technologies,Total Funding,Latest Funding,\
Subsidiary of,Short Description,Founded Year,Logo Url,Apollo Account Id
Nordlys Kaffe,Nordlys,Cold,,35,food & beverages,kari@seller.example,http://www.nordlys-kaffe.example,\
http://www.linkedin.com/company/nordlys-kaffe,,,Storgata 1,Bergen,Vestland,Norway,5003,"Storgata 1, Bergen",coffee,\
'+47 22 00 00 00,,,,,,Coffee from the north,1999,,5f5e2b4ef3e5bb0001e5a2c1
Harbor Freight Lines,Harbor,Cold,,1200,maritime,kari@seller.example,https://harborlines.example?utm_source=apollo,,,,,\
Baltimore,Maryland,United States,,,,,,,,,,,,,5f5e2b4ef3e5bb0001e5a2c2
""",
    columns={
        "Company Name": "name",
        "# Employees": "company_size",
        "Account Owner": "owner_user_id",
        "Website": "domain_name",
        "Company Linkedin Url": "linked_in_url",
        "Company City": "city",
        "Company State": "state",
        "Company Country": "country",
        "Company Phone": "phone",
        "Short Description": "description",
    },
    options={
        "columns": {
            "Website": "domain_name",
            "Company City": "city",
            "Company Country": "country",
            "Company Linkedin Url": "linked_in_url",
        },
    },
    changes={
        (0, 1, "industry", "food & beverages"),
        (0, 1, "city", "Bergen"),
        (0, 1, "country", "Norway"),
        (0, 1, "linked_in_url", "http://www.linkedin.com/company/nordlys-kaffe"),
        (1, 3, "industry", "maritime"),
        (1, 3, "city", "Baltimore"),
        (1, 3, "country", "United States"),
    },
    statuses={"pending": 2},
)

SALES_NAVIGATOR = Export(
    text="""Account Name,Industry,Company Headcount,Headquarters,City,State,Country,Website,LinkedIn Company Page URL,\
Sales Navigator URL,Stock Symbol,List Name
Nordlys Kaffe,Food and Beverage Services,11-50,"Bergen, Norway",Bergen,Vestland,Norway,\
https://nordlys-kaffe.example/en,https://www.linkedin.com/company/nordlys-kaffe,\
https://www.linkedin.com/sales/company/1,,Nordics
Grand Hotels,Hospitality,10001+,"Paris, France",Paris,,France,grandhotels.example.,\
https://www.linkedin.com/company/grandhotels,https://www.linkedin.com/sales/company/2,GRH,Nordics
""",
    columns={
        "Account Name": "name",
        "Company Headcount": "company_size",
        "Website": "domain_name",
        "LinkedIn Company Page URL": "linked_in_url",
    },
    options={
        "columns": {
            "Website": "domain_name",
            "Company Headcount": "company_size",
            "LinkedIn Company Page URL": "linked_in_url",
        },
    },
    changes={
        (0, 1, "industry", "Food and Beverage Services"),
        (0, 1, "company_size", "11-50"),
        (0, 1, "city", "Bergen"),
        (0, 1, "state", "Vestland"),
        (0, 1, "country", "Norway"),
        (0, 1, "linked_in_url", "https://www.linkedin.com/company/nordlys-kaffe"),
        (1, 4, "industry", "Hospitality"),
        (1, 4, "company_size", "10001+"),
        (1, 4, "country", "France"),
        (1, 4, "linked_in_url", "https://www.linkedin.com/company/grandhotels"),
    },
    statuses={"pending": 2},
)

EXPORTS = {"HubSpot": HUBSPOT, "Salesforce": SALESFORCE, "Apollo": APOLLO, "Sales Navigator": SALES_NAVIGATOR}


@pytest.fixture
def client() -> Iterator[ReplyClient]:
    with Sandbox(ACCOUNTS) as sandbox, sandbox.client() as client:
        yield client


def written(tmp_path: Path, export: Export, encoding: str = "utf-8-sig") -> Path:
    path = tmp_path / "export.csv"
    path.write_bytes(export.text.encode(encoding))
    return path


def followed(error: ValidationError) -> tuple[dict[str, str], list[str], list[str]]:
    """What someone gives who does what each message says: columns=, ignore=, and the other options that are named."""
    columns: dict[str, str] = {}
    ignore: list[str] = []
    others: list[str] = []
    for field, message in error.errors:
        if found := re.search(r'set columns=\{"(.+)": "(\w+)"\}', message):
            columns[found[1]] = found[2]
        elif "list it in ignore=" in message or f'list "{field}" in ignore=' in message:
            ignore.append(field)
        else:
            others.append(message)
    return columns, ignore, others


@pytest.mark.parametrize("program", EXPORTS)
def test_the_columns_and_what_is_to_be_ignored_make_the_plan_that_is_expected(
    program: str, client: ReplyClient, tmp_path: Path
) -> None:
    export = EXPORTS[program]
    path = written(tmp_path, export)
    plan = client.plan_contact_account_updates(
        path, match_on="domain_name", ignore="unknown", **export.options, progress=False
    )
    assert {status: count for status, count in plan.counts.items() if count} == export.statuses, plan.failures
    changes = {(row["row"], row["id"], row["field"], row["after"]) for row in plan.changes}
    assert changes == export.changes
    frame = pd.read_csv(path, dtype=str)
    frame_plan = client.plan_contact_account_updates(
        frame, match_on="domain_name", ignore="unknown", **export.options, progress=False
    )
    assert {(row["row"], row["id"], row["field"], row["after"]) for row in frame_plan.changes} == export.changes


@pytest.mark.parametrize("program", EXPORTS)
def test_every_hint_of_the_error_leads_on_when_it_is_followed(
    program: str, client: ReplyClient, tmp_path: Path
) -> None:
    export = EXPORTS[program]
    path = written(tmp_path, export)
    with pytest.raises(ValidationError) as caught:
        client.plan_contact_account_updates(path, progress=False)
    columns, ignore, others = followed(caught.value)
    assert columns == export.columns
    assert others == [
        'is missing: rows find their accounts by it (match_on="id"); match_on="domain_name" finds them without ids'
    ]
    named = set(columns) | set(ignore)
    assert all(field in named or field == "id" for field, _ in caught.value.errors)
    plan = client.plan_contact_account_updates(
        path, match_on="domain_name", columns=columns, ignore=ignore, progress=False
    )
    # These columns have something else than the field of that name, in every row. The hint says so.
    wrong = {name for name, field in columns.items() if field in {"owner_user_id", "company_size"}}
    wrong -= {"Company Headcount"}
    messages = {field: message for field, message in caught.value.errors if field in wrong}
    expected = ("not a number of employees", "the id of a Reply.io user, not a name")
    assert all(any(words in message for words in expected) for message in messages.values()), messages
    if wrong:
        assert "invalid" in plan.counts
        right = {name: field for name, field in columns.items() if name not in wrong}
        plan = client.plan_contact_account_updates(
            path, match_on="domain_name", columns=right, ignore=[*ignore, *wrong], progress=False
        )
    assert {status: count for status, count in plan.counts.items() if count} == export.statuses


def test_a_number_of_employees_is_refused_with_what_to_give(client: ReplyClient, tmp_path: Path) -> None:
    path = written(tmp_path, HUBSPOT)
    columns = {"Company Domain Name": "domain_name", "Number of Employees": "company_size"}
    plan = client.plan_contact_account_updates(
        path, match_on="domain_name", columns=columns, ignore="unknown", progress=False
    )
    errors = [row["error"] for row in plan.rows if row["status"] == "invalid"]
    assert len(errors) == 2
    assert all(error.endswith("replace the number of employees with the range that contains it") for error in errors)
    numbers = pd.DataFrame({"id": [1, 2], "# Employees": [35, 1200]})
    with pytest.raises(ValidationError, match="must be ranges such as 51-200, not numbers") as caught:
        client.plan_contact_account_updates(numbers, columns={"# Employees": "company_size"}, progress=False)
    assert "replace each number of employees with the range that contains it" in str(caught.value)


def test_a_salesforce_report_in_its_usual_encoding_is_read_with_what_the_error_names(
    client: ReplyClient, tmp_path: Path
) -> None:
    path = written(tmp_path, SALESFORCE, "iso-8859-1")
    with pytest.raises(ValidationError, match='encoding="windows-1252" if it comes from'):
        client.plan_contact_account_updates(path, match_on="domain_name", **SALESFORCE.options, progress=False)
    plan = client.plan_contact_account_updates(
        path,
        match_on="domain_name",
        ignore="unknown",
        encoding="windows-1252",
        **SALESFORCE.options,
        progress=False,
    )
    assert {(row["row"], row["id"], row["field"], row["after"]) for row in plan.changes} == SALESFORCE.changes


def test_the_lines_below_a_salesforce_report_are_refused_by_line(client: ReplyClient, tmp_path: Path) -> None:
    footer = '\n\n"Accounts by owner"\n"Copyright (c) 2000-2026 salesforce.com, inc. All rights reserved."\n'
    path = written(tmp_path, SALESFORCE._replace(text=SALESFORCE.text + footer))
    options: dict[str, Any] = {"match_on": "domain_name", "ignore": "unknown", **SALESFORCE.options}
    said = "line 6 has 1 field, but the first line has 18; if it is a note below the table, remove it"
    for _ in range(2):
        with pytest.raises(ValidationError, match=said):
            client.plan_contact_account_updates(path, **options, progress=False)
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
        path.write_text("".join(lines[:5] + lines[6:]), encoding="utf-8")
    plan = client.plan_contact_account_updates(path, **options, progress=False)
    assert {(row["row"], row["id"], row["field"], row["after"]) for row in plan.changes} == SALESFORCE.changes


@pytest.mark.parametrize("mode", ["patch", "replace"])
def test_what_is_written_is_what_the_row_says(mode: Literal["patch", "replace"], client: ReplyClient) -> None:
    row = {"domain_name": "https://www.Nordlys-Kaffe.example/", "name": "Nordlys Kaffe", "city": "Bergen"}
    plan = client.plan_contact_account_updates([row], match_on="domain_name", mode=mode, progress=False)
    plan.apply(progress=False)
    account = client.get_contact_account(1)
    assert account.city == "Bergen"
    before = "nordlys-kaffe.example"
    assert account.domain_name == (row["domain_name"] if mode == "replace" else before)


def test_the_bulk_call_matches_domains_too_and_never_guesses_between_two(client: ReplyClient) -> None:
    rows = [
        {"domain_name": "HTTPS://WWW.RÄDER.EXAMPLE", "city": "Zürich"},
        {"domain_name": "harborlines.example:443", "city": "Baltimore"},
        {"domain_name": "www.harborlines.example.", "city": "Boston"},
        {"domain_name": "info@grandhotels.example", "city": "Nice"},
    ]
    result = client.patch_contact_accounts(rows, match_on="domain_name", progress=False)
    assert [row["status"] for row in result.rows] == ["changed", "ambiguous", "ambiguous", "not_found"]
    assert client.get_contact_account(2).city == "Zürich"
    assert client.get_contact_account(4).city == "Paris"


def test_two_accounts_of_one_domain_are_ambiguous_however_it_is_written() -> None:
    domains = {1: "acme.example", 2: "www.acme.example"}
    accounts = [{"id": id, "name": "a", "domainName": domain} for id, domain in domains.items()]
    with Sandbox(accounts) as sandbox, sandbox.client() as client:
        rows = [{"domain_name": "acme.example", "city": "Oslo"}]
        plan = client.plan_contact_account_updates(rows, match_on="domain_name", progress=False)
        assert plan.counts["ambiguous"] == 1
        assert "matches accounts 1 and 2" in plan.failures[0]["error"]


def test_fill_takes_the_word_empty_for_an_empty_company_size() -> None:
    sizes = {1: "Empty", 2: None, 3: "2-10"}
    accounts = [{"id": id, "name": "a", "companySize": size} for id, size in sizes.items()]
    with Sandbox(accounts) as sandbox, sandbox.client() as client:
        rows = [{"id": id, "company_size": "11-50"} for id in sizes]
        result = client.patch_contact_accounts(rows, mode="fill", progress=False)
        assert [row["status"] for row in result.rows] == ["changed", "changed", "unchanged"]
        assert [str(account.company_size) for account in sandbox.accounts.values()] == ["11-50", "11-50", "2-10"]
