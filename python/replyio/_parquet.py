"""Reads Parquet files with any installed library."""

from __future__ import annotations

import errno
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

__all__: list[str] = []


def read(path: str | os.PathLike[str]) -> Any:
    """Reads a Parquet file.

    Args:
        path: The file.

    Returns:
        A table with `__arrow_c_stream__`.

    Raises:
        ImportError: If no library that can read it is installed.
        OSError: If it does not exist, or is not a regular file.
        ValidationError: If it is not a Parquet file, or only a part of one.
    """
    # None of the libraries reacts to a signal while it opens a FIFO.
    if Path(path).exists() and not Path(path).is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    for reader in (_with_pyarrow, _with_polars, _with_duckdb):
        try:
            return reader(os.fspath(path))
        except ImportError:  # noqa: PERF203 - the next library is tried
            continue
        except Exception as error:
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno):
                raise
            raise _unreadable(path) from error  # each library has classes of its own
    raise ImportError("to read a .parquet file, install pyarrow, polars or duckdb")


def _unreadable(path: str | os.PathLike[str]) -> Exception:
    from replyio.errors import FieldError, ValidationError

    fault = FieldError("", "it cannot be read as Parquet")
    return ValidationError(f"{Path(path).name} refused before any request: {fault}", errors=[fault])


def _with_pyarrow(path: str) -> Any:
    with import_module("pyarrow.parquet").ParquetFile(path) as file:
        return file.read()


def _with_polars(path: str) -> Any:
    # Brackets in a file name have no meaning, and `year=2026` in it is not a column.
    return import_module("polars").read_parquet(path, glob=False, hive_partitioning=False)


def _with_duckdb(path: str) -> Any:
    # It reads the files that a name with brackets, `*` or `?` matches; in brackets these stand for themselves.
    name = re.sub(r"[*?[]", r"[\g<0>]", path)
    return import_module("duckdb").connect().read_parquet(name, hive_partitioning=False)
