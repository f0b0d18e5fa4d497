"""Runs the block of a how-to page that uses another tool, against the sandbox: `make test-integrations`.

python tests/integrations/run.py airflow|dagster|dlt|prefect|spark

It runs in an environment that has the tool and the wheel. It takes the block from the page, so what is shown is what
runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from replyio.sandbox import Sandbox

PAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "how-to"
NIGHT = "2026-01-02"


def run_airflow(names: dict[str, Any]) -> None:
    """The DAG, as `airflow dags test` runs it, with the pool that the page asks for."""
    command = [sys.executable, "-m", "airflow"]
    subprocess.run([*command, "db", "migrate"], check=True, capture_output=True, timeout=300)
    subprocess.run([*command, "dags", "reserialize"], check=True, capture_output=True, timeout=300)
    subprocess.run([*command, "pools", "set", "reply_io", "1", "one"], check=True, capture_output=True, timeout=300)
    run = names["companies"]().test()
    assert str(run.state) == "success", run.state


def run_dagster(names: dict[str, Any]) -> None:
    """The asset, for one night."""
    import dagster

    assert dagster.materialize([names["companies"]], partition_key=NIGHT).success


def run_dlt(names: dict[str, Any]) -> None:
    """A pipeline with the destination."""
    import dlt

    pipeline = dlt.pipeline("companies", destination=names["reply_io"], pipelines_dir=str(Path("dlt").resolve()))
    pipeline.run([{"id": 4711, "city": "Bergen"}], table_name="companies")


def run_prefect(names: dict[str, Any]) -> None:
    """The flow, for one night."""
    names["companies"](NIGHT)


def run_spark(_names: dict[str, Any]) -> None:
    """The block runs by itself; see `before_spark`."""


def before_spark(names: dict[str, Any]) -> None:
    """The session and the table that the block reads."""
    from pyspark.sql import SparkSession

    names["spark"] = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    rows = names["spark"].createDataFrame([(4711, "Bergen", "Manufacturing")], ["reply_id", "city", "industry"])
    rows.createOrReplaceTempView("companies")


TOOLS: dict[str, tuple[str, str, Callable[[dict[str, Any]], None]]] = {
    "airflow": ("schedule.md", "Airflow", run_airflow),
    "dagster": ("schedule.md", "Dagster", run_dagster),
    "dlt": ("warehouses.md", "dlt", run_dlt),
    "prefect": ("schedule.md", "Prefect", run_prefect),
    "spark": ("warehouses.md", "Spark", run_spark),
}


def blocks(page: str, heading: str, folder: Path) -> tuple[str, str]:
    """The function at the top of a page, and the block below a heading, with paths inside the folder."""
    text = (PAGES / page).read_text(encoding="utf-8").replace("/var/lib/companies", folder.as_posix())
    first = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
    section = re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return first.partition("\ncounts = ")[0], re.findall(r"^```py\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[0]


def main(tool: str) -> None:
    """Runs the block of a tool, and looks at the account that it updates."""
    page, heading, run = TOOLS[tool]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        os.chdir(folder)
        os.environ |= {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
            "REPLYIO_STATE_DIR": str(folder / "state"),
        }
        (folder / "companies.csv").write_text("id,city\n4711,Bergen\n", encoding="utf-8")
        # Some tools read the source of a function, and Airflow the whole file.
        source = folder / "airflow" / "dags" / "job.py"
        source.parent.mkdir(parents=True)
        source.write_text("\n\n".join(blocks(page, heading, folder)), encoding="utf-8")
        sys.modules["job"] = job = types.ModuleType("job")
        job.__file__ = str(source)
        names = vars(job)
        with Sandbox() as sandbox, sandbox.environment():
            if tool == "spark":
                before_spark(names)
            exec(compile(source.read_text(encoding="utf-8"), str(source), "exec", dont_inherit=True), names)  # noqa: S102
            run(names)
            assert sandbox.accounts[4711].city == "Bergen"
        os.chdir("/")
    print(f"{tool}: the block of {page} updates the account")


if __name__ == "__main__":
    main(sys.argv[1])
