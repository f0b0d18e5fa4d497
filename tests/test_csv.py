"""Files as tables: what is read, and what is refused with its line."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replyio import ReplyClient, ValidationError
from replyio._replyio import Table
from table_support import from_file, read, refusal, rows

if TYPE_CHECKING:
    from pathlib import Path

    from replyio.sandbox import Sandbox

DOUBLE = 'write each quote inside a quoted field twice ("")'
ENCODINGS = (
    'save the file as UTF-8, or set its encoding: encoding="windows-1252" if it comes from Western Europe, '
    '"windows-1250" from Central Europe, "windows-1251" for Cyrillic, "macintosh" from an old Mac; '
    "a file from MS-DOS must be saved as UTF-8"
)
BEHIND = f"has text after the closing quote of a field; {DOUBLE}"


def test_half_a_surrogate_pair_in_json_lines_is_a_fault_of_its_row(tmp_path: Path) -> None:
    lines = '{"id": 1, "city": "\\ud800"}\n{"id": 2, "city": "Oslo", "notes": "\\ud800"}\n'
    table = Table(from_file(tmp_path, "a.jsonl", lines), {"ignore": ["notes"]})
    assert table.faults == [(0, "city", "city in row 0 must be valid Unicode: it contains a lone surrogate")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"id,city\n1,a\n2,b,c\n", "line 3 has 3 fields, but the first line has 2"),
        ("a.csv", b'id,city\n1,"a\n2,b\n', "line 2 opens a quote that is never closed"),
        (
            "a.csv",
            "id,city\n1,é\n".encode("latin-1"),
            f"line 2 is not valid UTF-8; {ENCODINGS}",
        ),
        ("a.csv", b"\xff\xfei\0d", "the file is not valid UTF-16LE"),
        (
            "a.csv",
            b'id,city\n1,"Oslo\n2,Bergen\n3,"Voss"\n',
            f"line 4 {BEHIND.replace('field;', 'field that was opened in line 2;')}",
        ),
        ("a.csv", b'id,city\r\n1,a\r\n\r\n2,"Acme" Ltd\r\n', f"line 4 {BEHIND}"),
        ("a.csv", b'id,city\r1,a\r2,"Bar "Baz" Qux"\r', f"line 3 {BEHIND}"),
        ("a.csv", b'id,city\n1,"the \\"best\\" firm"\n', f"line 2 {BEHIND}"),
        ("a.csv", b'id,city\n1, "Oslo"\n', "line 2 has white space before a quote; remove the white space"),
        (
            "a.tsv",
            b'id\tcity\n1\t5" pipes\n',
            f"line 2 has a quote inside an unquoted field; put the whole field in quotes and {DOUBLE}",
        ),
        ("a.csv", b"id,city,\n1,a,\n2,b,c\n", "line 3 has a value in column 3, which has no name in the first line"),
        *(
            ("a.csv", table, f"line {line} {reason}; if the first line is a title, remove it")
            for table, line, reason in (
                (
                    b"Customers 2026,,\nid,city,\n1,Bergen,\n",
                    2,
                    "has a value in column 2, which has no name in the first line",
                ),
                (b"Customers 2026\nid,city\n1,Bergen\n", 2, "has 2 fields, but the first line has 1"),
            )
        ),
        ("a.csv", b"id,x;id\n", "line 1 may be separated by comma or by semicolon; choose one with delimiter="),
        ("a.csv", b"id," * 20_000, "line 1 has more than 16384 fields"),
        ("a.jsonl", json.dumps(dict.fromkeys(map(str, range(20_000)))).encode(), "line 1 has more than 16384 members"),
        ("a.jsonl", b'{"id": 1, "notes": "' + b"x" * 2**24 + b'"}', "line 1 is longer than 16 MiB"),
        ("a.jsonl", b'{"id": 1, "city": ' + b"[" * 10_000, "line 1 is not valid JSON, at column 10018"),
        ("a.csv", b"", "the file is empty; its first line must name the columns"),
        ("a.jsonl", b'{"id": 1}\n[]', "line 2 is not a JSON object"),
        ("a.jsonl", b'{"id": 1}\n\n{"id": 1,}', "line 3 is not valid JSON, at column 10"),
        ("a.jsonl", b'{"id": 1, "id": 2}', "line 1 names id twice"),
        ("a.jsonl", b'{"id": 1, "city": "\xff"}', "line 1 is not valid UTF-8; save the file as UTF-8"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(name: str, content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    error = refusal(tmp_path / name)
    assert error.message == f"{name} refused before any request: {reason}"
    assert [fault.message for fault in error.errors] == [reason]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("semicolons", b"id;city;country\r\n4711;Oslo, Norway;NO\r\n", {}),
        ("tabs", b"id\tcity\tcountry\n4711\tOslo, Norway\tNO\n", {}),
        ("bars", b"id|city|country\n4711|Oslo, Norway|NO\n", {}),
        ("a line for Excel", b"sep=;\r\nid;city;country\r\n4711;Oslo, Norway;NO\r\n", {}),
        ("a delimiter that is given", b"id^city^country\n4711^Oslo, Norway^NO\n", {"delimiter": "^"}),
        ("UTF-16", '\ufeffid,city,country\n4711,"Oslo, Norway",NO\n'.encode("utf-16-le"), {}),
        ("UTF-16, the other way round", "\ufeffid\tcity\tcountry\n4711\tOslo, Norway\tNO".encode("utf-16-be"), {}),
        ("UTF-8 with a mark", b'\xef\xbb\xbfid,city,country\r\n4711,"Oslo, Norway",NO\r\n', {}),
        ("empty columns and rows", b'id,city,country,,\n,,,,\n4711,"Oslo, Norway",NO,, \n\n,,,,\n', {}),
        ("an id from a spreadsheet", b'id,city,country\n 4711.0 ,"Oslo, Norway",NO\n', {}),
        ("headers of people", b'ID,CITY, Country \n4711,"Oslo, Norway",NO\n', {}),
        ("words for nothing", b'id,city,country,state\n4711,"Oslo, Norway",NO,N/A\n', {"null_values": ["N/A"]}),
        ("other columns", b'Account,Town,country,x\n4711,"Oslo, Norway",NO,y\n',
         {"columns": {"Account": "id", "Town": "city"}, "ignore": "unknown"}),
    ],
)  # fmt: skip
def test_csv_as_people_have_it_is_read(name: str, content: bytes, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / f"{name}.csv").write_bytes(content)
    found = [
        {field: value for field, value in row.items() if value} for row in read(tmp_path / f"{name}.csv", **options)
    ]
    assert found == [{"id": 4711, "city": "Oslo, Norway", "country": "NO"}]


def test_an_encoding_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id,city\n1,Tromsø\n".encode("cp1252"))
    assert read(path, encoding="cp1252") == read(path, encoding="windows-1252") == [{"id": 1, "city": "Tromsø"}]
    path.write_bytes("id,city\n1,東京\n".encode("shift_jis"))
    assert read(path, encoding="shift_jis") == [{"id": 1, "city": "東京"}]
    path.write_bytes(b"id,city\n1,\xff\n")
    assert "line 2 has bytes that shift_jis does not have" in str(refusal(path, encoding="sjis"))
    path.write_bytes("id,city\n1,é\n".encode("utf-16"))
    assert "UTF-16LE, but encoding= says UTF-8" in str(refusal(path, encoding="utf-8"))


@given(
    data=st.lists(
        st.lists(st.text(st.sampled_from('a",;\r\n \t|é'), max_size=4), min_size=2, max_size=2), min_size=1, max_size=3
    ),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_csv_file_is_read_as_it_was_written_or_refused(data: list[list[str]], end: str, tmp_path: Path) -> None:
    text = end.join(["id,city,state", *(f"{number},{','.join(fields)}" for number, fields in enumerate(data, 1))])
    try:
        table = Table(from_file(tmp_path, "a.csv", text), {"delimiter": ","})
    except ValidationError:
        return
    # What is not refused is what any other strict reader finds.
    records = list(csv.reader(io.StringIO(text, newline=""), strict=True))[1:]
    if not all(record[:1] and record[0].isdigit() for record in records):
        return  # a line end in a field has made rows of it, whose ids are faults
    expected = [
        {
            "id": int(record[0]),
            **{
                name: value if value.strip() else None
                for name, value in zip(("city", "state"), record[1:], strict=True)
            },
        }
        for record in records
        if any(field.strip() for field in record)
    ]
    assert rows(table) == expected


def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    for text in ("id,city,city\n1,a,b\n", "id,id\n1,2\n", "id,City,CITY\n1,a,\n"):
        assert "is given twice" in refusal(from_file(tmp_path, "a.csv", text)).errors[0].message


def test_an_empty_field_of_a_csv_file_is_an_empty_cell(tmp_path: Path) -> None:
    path = from_file(tmp_path, "a.csv", 'id,city,owner_user_id\n1,,\n2,"",""\n3," ",4\n')
    assert [row["city"] for row in read(path)] == [None, None, None]
    assert [row["owner_user_id"] for row in read(path)] == [None, None, 4]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    assert "a.xlsx refused before any request: the name must end in .csv" in str(refusal(tmp_path / "a.xlsx"))


def test_a_file_that_is_not_there_is_told_as_python_tells_it(tmp_path: Path) -> None:
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        with pytest.raises(FileNotFoundError) as caught:
            Table(tmp_path / name, {})
        assert caught.value.filename == str(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match=r"folder\.csv"):
        Table(tmp_path / "folder.csv", {})


def test_the_client_takes_every_option_of_a_table(configured: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("Account^Town^Notes^State\n4711^Tromsø^x^N/A\n".encode("cp1252"))
    options: dict[str, Any] = {
        "columns": {"Account": "id", "Town": "city"}, "ignore": "unknown", "null_values": ["N/A"], "delimiter": "^",
        "encoding": "cp1252",
    }  # fmt: skip
    with ReplyClient() as client:
        plan = client.plan_contact_account_updates(path, progress=False, **options)
        assert [(change["field"], change["after"]) for change in plan.changes] == [("city", "Tromsø")]
        plans = [asyncio.run(client.plan_contact_account_updates_async(path, progress=False, **options))]
        assert plans[0].counts == {"pending": 1}
        assert client.patch_contact_accounts(path, progress=False, **options).counts == {"changed": 1}
        result = asyncio.run(client.patch_contact_accounts_async(path, progress=False, **options))
        assert result.counts == {"unchanged": 1}
    assert configured.accounts[4711].city == "Tromsø"


def test_an_option_of_a_table_that_cannot_be_used_is_refused() -> None:
    wrong: dict[str, Any] = {"columns": ["a"], "null_values": "NULL", "delimiter": '"', "encoding": "no such"}
    assert [fault.field for fault in refusal([], **wrong).errors] == list(wrong)


@pytest.mark.parametrize(
    ("text", "own", "named"),
    [
        ("München", "cp850", "windows-1252"),
        ("München", "cp437", "windows-1252"),
        ("München", "cp852", "windows-1250"),
        ("Besançon", "mac_roman", "windows-1252"),
        ("Genève", "mac_roman", "windows-1252"),
        ("Škoda", "cp1250", "iso-8859-2"),
        ("5 €", "cp1252", "iso-8859-15"),
    ],
)
def test_bytes_that_an_encoding_does_not_have_are_refused(text: str, own: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"id;city\r\n1;Oslo\r\n2;{text}\r\n".encode(own))
    assert f"line 3 has bytes that {named} does not have" in str(refusal(path, encoding=named))


def test_a_file_in_two_encodings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("id;city\r\n1;München\r\n2;Besançon\r\n".encode() + "3;Malmö\r\n".encode("cp1252"))
    said = str(refusal(path, encoding="windows-1252"))
    assert (
        "the file has two encodings: lines 2 and 3 are valid UTF-8, but line 4 is not; save each part as UTF-8" in said
    )
    assert "line 4 is not valid UTF-8" in str(refusal(path))


def test_a_header_in_the_middle_is_refused(tmp_path: Path) -> None:
    first, second = "id,city,state\n1,A,S1\n", "id,state,city\n2,S2,B\n"
    said = str(refusal(from_file(tmp_path, "a.csv", first + second)))
    assert "line 3 names the columns again" in said
    assert [len(read(from_file(tmp_path, "a.csv", part))) for part in (first, second)] == [1, 1]
    same = "id,city\n1,A\nid,city\n2,B\n"
    assert "remove this line" in str(refusal(from_file(tmp_path, "a.csv", same)))
    assert len(read(from_file(tmp_path, "a.csv", same.replace("A\nid,city", "A")))) == 2
