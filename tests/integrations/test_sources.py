"""A table of each library goes in as it is, or the error says what to call, and that works."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("id", "city", "industry", "owner_user_id")
ROWS: list[tuple[int, str | None, str | None, int | None]] = [
    (1, "Bergen", None, 7),
    (2, None, "Ships, and more", None),
    (3, "Malmö 🜂", "", 9),
]
COLUMNS = {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}
# An empty cell changes nothing.
EXPECTED = [
    (1, "city", "Bergen"),
    (1, "owner_user_id", "7"),
    (2, "industry", "Ships, and more"),
    (3, "city", "Malmö 🜂"),
    (3, "owner_user_id", "9"),
]


def library(name: str) -> Any:
    """A library, where it is installed: `make test-integrations` installs all of them, `make test` a few."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("REPLYIO_INTEGRATIONS"):
            pytest.fail(f"{name} is not installed, and `make test-integrations` leaves no library out")
        pytest.skip(f"{name} is not installed; `make test-integrations` installs it")


@pytest.fixture
def client() -> Iterator[replyio.ReplyClient]:
    accounts = [{"id": id, "name": f"Company {id}", "city": "Oslo", "owner_user_id": 1} for id in (1, 2, 3)]
    with Sandbox(accounts=accounts) as service, service.client() as client:
        yield client


def changes(client: replyio.ReplyClient, data: Any) -> list[tuple[Any, ...]]:
    """What a plan of a table would change. Rows of a distributed table have no order of their own."""
    plan = client.plan_contact_account_updates(data, progress=False)
    assert plan.counts == {"pending": 3}, list(plan.failures)
    rows = [(row["id"], row["field"], str(row["after"])) for row in plan.changes]
    assert plan.apply(progress=False).counts == {"changed": 3}
    return sorted(rows)


def pandas_frame() -> Any:
    pandas = library("pandas")
    frame = pandas.DataFrame(ROWS, columns=list(NAMES))
    return frame.astype({"owner_user_id": "Int64"})


def test_pandas_goes_in(client: replyio.ReplyClient) -> None:
    assert changes(client, pandas_frame()) == EXPECTED


def test_pandas_with_missing_numbers_as_floats_goes_in(client: replyio.ReplyClient) -> None:
    frame = library("pandas").DataFrame(ROWS, columns=list(NAMES))
    assert str(frame["owner_user_id"].dtype) == "float64"
    assert changes(client, frame) == EXPECTED


def test_pandas_without_pyarrow_goes_in(client: replyio.ReplyClient, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pandas_frame()
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"] or ["pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert changes(client, frame) == EXPECTED


def test_polars_goes_in(client: replyio.ReplyClient) -> None:
    assert changes(client, library("polars").DataFrame(COLUMNS)) == EXPECTED


def test_duckdb_goes_in(client: replyio.ReplyClient) -> None:
    connection = library("duckdb").connect()
    connection.execute("CREATE TABLE rows (id BIGINT, city VARCHAR, industry VARCHAR, owner_user_id INTEGER)")
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", ROWS)
    assert changes(client, connection.sql("SELECT * FROM rows ORDER BY id")) == EXPECTED


def test_ibis_goes_in(client: replyio.ReplyClient) -> None:
    ibis = library("ibis")
    schema = {"id": "int64", "city": "string", "industry": "string", "owner_user_id": "int64"}
    table = ibis.memtable(library("pyarrow").table(COLUMNS), schema=schema)
    assert changes(client, table.filter(table.id > 0)) == EXPECTED


def test_daft_goes_in(client: replyio.ReplyClient) -> None:
    frame = library("daft").from_pydict(COLUMNS)
    assert changes(client, frame) == EXPECTED


@pytest.mark.timeout(400)
def test_spark_goes_in(client: replyio.ReplyClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyspark = library("pyspark")
    assert tuple(map(int, pyspark.__version__.split(".")[:2])) >= (4, 2)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    sql = importlib.import_module("pyspark.sql")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.warehouse.dir": str(tmp_path),
    }
    builder = sql.SparkSession.builder.master("local[1]").config(map=settings)
    session = builder.getOrCreate()
    try:
        frame = session.createDataFrame(ROWS, "id long, city string, industry string, owner_user_id int")
        assert changes(client, frame) == EXPECTED
    finally:
        session.stop()


def followed(client: replyio.ReplyClient, data: Any) -> Any:
    """What the error for a table says to call, called."""
    with pytest.raises(TypeError, match=rf"not {type(data).__name__}; call its \w+\(\) first") as caught:
        client.plan_contact_account_updates(data, progress=False)
    name = re.search(r"call its (\w+)\(\) first", str(caught.value))
    assert name
    return getattr(data, name[1])()


def test_a_dask_frame_says_what_to_call(client: replyio.ReplyClient) -> None:
    frame = library("dask.dataframe").from_pandas(pandas_frame(), npartitions=2)
    assert changes(client, followed(client, frame)) == EXPECTED


@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["from_pandas", "lazy"])
def test_a_ray_dataset_says_what_to_call(how: str, client: replyio.ReplyClient) -> None:
    ray = library("ray")
    data = importlib.import_module("ray.data")
    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    data.DataContext.get_current().enable_progress_bars = False
    try:
        dataset = data.from_pandas(pandas_frame())
        if how == "lazy":
            dataset = dataset.map_batches(lambda batch: batch, batch_format="pandas")
        assert changes(client, followed(client, dataset)) == EXPECTED
    finally:
        ray.shutdown()
