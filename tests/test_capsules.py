"""What comes through the C interface of Arrow is read once; whoever breaks the interface gets an error, not a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from replyio._replyio import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = pa.table({"id": [1, 2], "city": ["Oslo", None]})


def handing_over(method: str, given: object) -> object:
    """Something that hands over the same thing each time, through one of the two methods."""
    return type("Given", (), {method: lambda _self, _schema=None: given})()


def array_capsules() -> Any:
    return ROWS.to_batches()[0].__arrow_c_array__()


def test_a_stream_that_was_read_is_refused() -> None:
    data = handing_over("__arrow_c_stream__", ROWS.__arrow_c_stream__())
    assert len(Table(data, {})) == 2
    with pytest.raises(TypeError, match="the stream was read already"):
        Table(data, {})


def test_an_array_that_was_read_is_refused() -> None:
    data = handing_over("__arrow_c_array__", array_capsules())
    assert len(Table(data, {})) == 2
    with pytest.raises(TypeError, match="the array was read already"):
        Table(data, {})


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("__arrow_c_stream__", array_capsules()[0]),
        ("__arrow_c_stream__", array_capsules()),
        ("__arrow_c_stream__", None),
        ("__arrow_c_array__", ROWS.__arrow_c_stream__()),
        ("__arrow_c_array__", array_capsules()[0]),
        ("__arrow_c_array__", array_capsules()[::-1]),
        ("__arrow_c_array__", array_capsules()[:1]),
        ("__arrow_c_array__", (1, 2)),
    ],
)
def test_a_capsule_of_another_kind_is_refused(method: str, given: object) -> None:
    with pytest.raises((TypeError, ValueError, IndexError)):
        Table(handing_over(method, given), {})


def test_who_fills_a_stream_is_quoted_when_it_fails() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield ROWS.to_batches()[0]
        raise OSError("the disk with the rows is gone")

    reader = pa.RecordBatchReader.from_batches(ROWS.schema, batches())
    with pytest.raises(ValueError, match="the disk with the rows is gone"):
        Table(reader, {})


def test_memory_that_was_handed_over_is_given_back() -> None:
    before = pa.total_allocated_bytes()
    for _ in range(20):
        table = pa.table({"id": pa.array(range(10_000)), "city": pa.array(["a text of some length"] * 10_000)})
        Table(table, {})
        del table
    assert pa.total_allocated_bytes() - before < 100_000
