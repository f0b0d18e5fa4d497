"""Reads a list of 100,000 accounts into a table, and prints the time and the memory as a line of JSON.

`reading.py` starts it. The peer is what people write: a loop over the pages with requests, and the library's own
constructor. It parses no dates, gives `stage` no columns of its own, and does not check that the pages are the list.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contenders import HEADERS

ACCOUNTS = 100_000
PAGE = 1_000


class WrongTableError(Exception):
    """A table has other rows than the list."""


def rows_by_requests(base_url: str, search: str | None) -> list[dict[str, Any]]:
    """Every account, as dictionaries."""
    import requests

    rows: list[dict[str, Any]] = []
    with requests.Session() as session:
        session.headers.update(HEADERS)
        while True:
            query = {"top": str(PAGE), "skip": str(len(rows))} | ({} if search is None else {"search": search})
            response = session.get(f"{base_url}/contact-accounts", params=query)
            response.raise_for_status()
            page = response.json()
            rows += page["items"]
            if not page["hasMore"]:
                return rows


def reader(library: str, way: str, base_url: str) -> tuple[Callable[[str | None], Any], Callable[[Any], int]]:
    """What reads the table, and what says how many bytes it has. Imports what they need."""
    if way == "replyio":
        import replyio

        client = replyio.ReplyClient(api_key="k", base_url=base_url, quota=None)
    else:
        import requests  # noqa: F401 - its memory is not the table's
    if library == "pandas":
        import pandas
        import pyarrow

        def pandas_bytes(frame: Any) -> int:
            return int(frame.memory_usage(deep=True).sum())

        if way == "replyio":
            return lambda search: client.list_contact_accounts(search).to_pandas(), pandas_bytes
        return lambda search: pandas.DataFrame(rows_by_requests(base_url, search)), pandas_bytes
    if library == "polars":
        import polars

        def polars_bytes(frame: Any) -> int:
            # polars has a view of 16 bytes for each text, and counts the texts only.
            views = sum(16 * len(frame) for kind in frame.dtypes if kind == polars.String)
            return int(frame.estimated_size()) + views

        if way == "replyio":
            return lambda search: client.list_contact_accounts(search).to_polars(), polars_bytes
        return lambda search: polars.DataFrame(rows_by_requests(base_url, search)), polars_bytes
    import pyarrow

    def arrow_bytes(table: Any) -> int:
        return int(table.nbytes)

    if way == "replyio":
        return lambda search: pyarrow.table(client.list_contact_accounts(search)), arrow_bytes
    return lambda search: pyarrow.Table.from_pylist(rows_by_requests(base_url, search)), arrow_bytes


def measure(library: str, way: str, base_url: str) -> dict[str, Any]:
    """The memory of the first reading, and the time of the second: the first one warms up."""
    read, bytes_of = reader(library, way, base_url)
    # A list of one account loads what both need.
    read("1")
    gc.collect()
    # From here on the peak is counted anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    table = read(None)
    peak = _status("VmHWM") - before
    _check(table)
    size = bytes_of(table)
    del table
    gc.collect()
    cpu, begin = time.process_time(), time.perf_counter()
    table = read(None)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    _check(table)
    return {
        "accounts": ACCOUNTS,
        "readings": 2,
        "seconds": seconds,
        "cpu_s": cpu,
        "peak_bytes": peak,
        "table_bytes": size,
    }


def _check(table: Any) -> None:
    column = table["id"]
    ids = column.to_pylist() if hasattr(column, "to_pylist") else column.to_list()
    if ids != list(range(1, ACCOUNTS + 1)):
        raise WrongTableError("accounts are missing, or are there twice")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def main() -> int:
    """Measures what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=("pandas", "polars", "arrow"))
    parser.add_argument("way", choices=("replyio", "requests"))
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.library, arguments.way, f"http://127.0.0.1:{arguments.port}/v3")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
