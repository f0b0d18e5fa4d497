"""A run of the integrations says which versions it was run with."""

from __future__ import annotations

from importlib import metadata

LIBRARIES = ("pyspark", "ibis-framework", "daft", "duckdb", "dask", "ray", "pandas", "pyarrow", "polars")


def pytest_report_header() -> str:
    """The installed libraries."""
    names = {distribution.name.lower() for distribution in metadata.distributions()}
    return "sources: " + ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES if name in names)
