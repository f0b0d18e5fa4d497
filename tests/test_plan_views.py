"""A plan reads well: in a line, in a notebook, on a terminal; and whoever waits for a job can stop it.

What stands in for the extension module here has its two classes' methods, and nothing behind them.
"""

from __future__ import annotations

import asyncio
import html.parser
import importlib
import io
import logging
import re
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from replyio import ApplyResult, Plan, PlanError, PlanTable, ReplyError, _again, _plan_text, _progress
from replyio._again import Opening
from replyio.plan import Options
from support import environment, program

if TYPE_CHECKING:
    from replyio.sandbox import Sandbox

COUNTS = {"pending": 812, "unchanged": 9140, "invalid": 3, "not_found": 45}
HEADER = {"requests_left": 817, "seconds_left": 1030.0}
CHANGES: list[dict[str, Any]] = [
    {"row": 0, "id": 4711, "field": "city", "before": "Oslo", "after": "Bergen", "status": "pending"},
    {"row": 0, "id": 4711, "field": "company_size", "before": None, "after": "51-200", "status": "pending"},
    {"row": 1, "id": 4712, "field": "owner_user_id", "before": 42, "after": 43, "status": "pending"},
]
HOSTILE = "<script>alert('x')</script>&\" onload=y\u202e\n\x1b[31m"


class Table:
    def __init__(self, records: list[dict[str, Any]]) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def records(self, limit: int | None = None, first: int = 0) -> list[dict[str, Any]]:
        return self._records[first : None if limit is None else first + limit]

    def select(self, places: list[int]) -> Table:
        return Table([self._records[place] for place in places])

    def of_status(self, statuses: list[str]) -> Table:
        return Table([row for row in self._records if row["status"] in statuses])

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        columns = {name: [str(row[name]) for row in self._records] for name in self._records[0]}
        return pa.table(columns).__arrow_c_stream__(requested_schema)


class File:
    def __init__(
        self,
        counts: dict[str, int],
        changes: list[dict[str, Any]] = CHANGES,
        stored_otherwise: int = 0,
        cleared: int = 0,
    ) -> None:
        self._counts = counts
        self._changes = changes
        self._stored_otherwise = stored_otherwise
        self._cleared = cleared
        self.error: ReplyError | None = None
        self.revert: str | None = None
        self.is_kept = False
        self.started: list[tuple[str, str]] = []

    def header(self) -> dict[str, Any]:
        return HEADER | {"cleared": self._cleared}

    def counts(self) -> dict[str, int]:
        if self.error:
            raise self.error
        return self._counts

    def rows(self) -> Table:
        return Table([{"row": 0, "id": 4711, "key": None, "status": "pending", "error": None, "repeated": 0}])

    def changes(self) -> Table:
        return Table(self._changes)

    def first_failures(self, limit: int) -> list[dict[str, Any]]:
        return self.failures().records(limit)

    def first_changes(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        return self._changes[:limit], len(self._changes)

    def failures(self) -> Table:
        error = "no account has the domain nowhere.test"
        return Table([{"row": 7, "id": None, "key": None, "status": "not_found", "error": error, "repeated": 0}])

    def stored_otherwise(self) -> int:
        return self._stored_otherwise

    def blocked_by(self) -> str | None:
        return self.revert

    def opening(self) -> Opening:
        return Opening("p")

    def keep(self) -> None:
        self.is_kept = True

    def start(self, action: str, options: Any) -> Job:
        self.started.append((action, options.on_conflict))
        return Job()

    def reverse(self) -> Plan:
        return Plan(self, "p")


class Job:
    """A job that ends after so many looks, or when it is told to."""

    def __init__(self, looks: int = 3, *, stops: bool = True, interrupts: int = 0) -> None:
        self.looks = looks
        self.stops = stops
        self.interrupts = interrupts
        self.calls: list[str] = []

    def progress(self) -> dict[str, Any]:
        return {
            "rows": 812,
            "done": 412,
            "requests": 430,
            "counts": {},
            "phase": "writing",
            "seconds": 60.0,
            "seconds_left": 540.0,
        }

    def stop(self) -> None:
        self.calls.append("stop")
        if self.stops:
            self.looks = 0

    def abandon(self) -> None:
        self.calls.append("abandon")
        self.looks = 0

    def wait(self, seconds: float, event_loop: asyncio.AbstractEventLoop | None = None) -> Any:
        self.calls.append(f"wait {seconds:g}")
        if event_loop is not None:
            return Look(self, seconds, event_loop)
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        return self.look()

    def look(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def result(self) -> object:
        return "result"


class Look:
    """What an event loop waits for."""

    def __init__(self, job: Job, seconds: float, event_loop: asyncio.AbstractEventLoop) -> None:
        self.future = event_loop.create_future()
        self._job = job
        self._left = seconds
        self._loop = event_loop
        self._timer = event_loop.call_later(0.01, self._look)

    def _look(self) -> None:
        self._left -= 0.01
        if ended := self._job.look() or self._left <= 0:
            self.future.set_result(ended)
        else:
            self._timer = self._loop.call_later(0.01, self._look)

    def close(self) -> None:
        self._timer.cancel()


@pytest.fixture
def plan() -> Plan:
    return Plan(File(COUNTS), "folder/acme.replyplan")


# Text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "less than a second"),
        (0.99, "less than a second"),
        (1, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (1030, "17 min"),
        (3599, "1 h"),
        (3600, "1 h"),
        (22_800, "6 h 20 min"),
        (86_399, "1 d"),
        (1_200_000, "13 d 21 h"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds: float, text: str) -> None:
    assert _plan_text.duration(seconds) == text


def test_numbers_have_their_thousands_and_their_nouns() -> None:
    assert [_plan_text.counted(number, "row") for number in (0, 1, 2, 9140)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "9,140 rows",
    ]
    assert _plan_text.counts_text({"conflict": 1, "unknown": 1}) == "1 conflict, 1 outcome unknown"
    assert _plan_text.counts_text({"conflict": 2, "unknown": 2}) == "2 conflicts, 2 outcomes unknown"


def test_counts_have_one_order_leave_out_what_is_not_there_and_lose_nothing() -> None:
    assert _plan_text.counts_text({"not_found": 45, "pending": 812, "failed": 0}) == "812 to change, 45 not found"
    assert _plan_text.counts_text({"new_status": 3, "changed": 1}) == "1 changed, 3 new status"
    assert _plan_text.counts_text({}) == "no rows"


def test_a_plan_says_what_it_would_do_and_what_that_costs(plan: Plan) -> None:
    assert repr(plan) == (
        "<Plan acme.replyplan: 812 to change, 9,140 already up to date, 3 invalid, 45 not found; 817 requests, "
        "about 17 min>"
    )
    assert (plan.counts, plan.requests, plan.seconds) == (COUNTS, 817, 1030.0)


def test_a_cost_that_is_not_known_or_nothing_is_left_out() -> None:
    assert _plan_text.cost_text(None, None) == _plan_text.cost_text(0, 0.0) == ""
    assert _plan_text.cost_text(1, None) == "1 request"
    assert _plan_text.cost_text(2, 0.5) == "2 requests, less than a second"


def result_of(file: File, path: str = "acme.replyplan", requests: int = 3, seconds: float = 61.0) -> ApplyResult:
    return ApplyResult(Plan(file, path), file, requests, seconds)


def test_a_plan_whose_file_is_gone_can_still_be_looked_at() -> None:
    file = File({"changed": 3})
    plan, result = Plan(file, "acme.replyplan"), result_of(file)
    file.error = PlanError("plan file acme.replyplan: there is no such file")
    assert repr(plan) == "<Plan acme.replyplan: plan file acme.replyplan: there is no such file>"
    assert "there is no such file" in page(plan).text
    assert result.counts == {"changed": 3}
    assert "3 changed" in page(result).text


def test_a_plan_says_first_which_fields_it_empties() -> None:
    plan = Plan(File(COUNTS, cleared=3), "acme.replyplan")
    assert repr(plan).startswith("<Plan acme.replyplan: clears 3 fields; 812 to change, ")
    assert plan.cleared == 3
    text = page(plan).text
    assert text.index("clears 3 fields") < text.index("812")
    done = Plan(File({"changed": 2}, cleared=1), "acme.replyplan")
    assert repr(done).startswith("<Plan acme.replyplan: clears 1 field; 2 changed")


def test_a_result_says_first_what_the_service_stored_differently_and_raises_for_it() -> None:
    result = result_of(File({"changed": 3}, stored_otherwise=2))
    told = "2 rows whose accounts differ from the plan"
    assert repr(result) == f"<ApplyResult acme.replyplan: {told}; 3 changed; 3 requests in 1 min>"
    text = page(result).text
    assert text.index(told) < text.index("3 changed")
    with pytest.raises(ReplyError, match=f"^{told}; the first is row 7: "):
        result.raise_for_failures()


def test_a_result_says_what_was_done_and_what_it_took() -> None:
    result = result_of(File({"changed": 1, "failed": 2}))
    assert repr(result) == "<ApplyResult acme.replyplan: 1 changed, 2 failed; 3 requests in 1 min>"


def test_failures_are_raised_with_the_first_reason_in_one_line() -> None:
    result_of(File({"changed": 1, "unchanged": 2})).raise_for_failures()
    with pytest.raises(ReplyError) as caught:
        result_of(File({"changed": 1, "not_found": 2})).raise_for_failures()
    assert str(caught.value) == (
        "2 of 3 rows not done: 1 changed, 2 not found; the first is row 7: no account has the domain nowhere.test;"
        " result.failures lists these rows, except pending ones"
    )


@pytest.mark.parametrize("counts", [{"unknown": 1, "changed": 2}, {"failed": 1, "changed": 2}])
def test_the_error_of_a_result_tells_whether_an_update_may_have_been_applied(counts: dict[str, int]) -> None:
    with pytest.raises(ReplyError) as caught:
        result_of(File(counts)).raise_for_failures()
    assert caught.value.may_have_been_applied is ("unknown" in counts)


def test_a_progress_is_a_line_with_the_time_left_and_the_reason_to_wait() -> None:
    state = {"rows": 812, "done": 412, "requests": 430, "phase": "writing", "seconds_left": 540.0}
    assert _plan_text.progress_line(state) == "writing: 412 of 812 rows, 430 requests, about 9 min left"
    state |= {"waiting": "quota: 95 per minute", "waiting_until": 42.0}
    line = "waiting 42 s (quota: 95 per minute): 412 of 812 rows, 430 requests, about 9 min left"
    assert _plan_text.progress_line(state | {"phase": "waiting"}) == line
    outage = {"waiting": "the service is unavailable", "waiting_until": 180.0, "seconds_left": 0.1}
    line = "waiting 3 min (the service is unavailable): 412 of 812 rows, 430 requests, about 3 min left"
    assert _plan_text.progress_line(state | outage) == line
    assert _plan_text.progress_line({}) == "working: 0 of 0 rows, 0 requests"


def test_nothing_is_left_of_a_job_whose_rows_are_done() -> None:
    state = {"rows": 812, "done": 812, "requests": 817, "phase": "writing", "seconds_left": 0.0}
    assert _plan_text.progress_line(state) == "writing: 812 of 812 rows, 817 requests"


@pytest.mark.parametrize("encoding", ["utf-8", "cp932", "cp1251", "ascii"])
def test_plans_and_their_results_can_be_printed_in_every_encoding(
    encoding: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    code = """
        import sys
        from replyio import ReplyClient
        client = ReplyClient(quota=None)
        rows = [{"id": 4711, "city": "Bergen"}]
        plan = client.plan_contact_account_updates(rows, save_as=sys.argv[1], progress=False)
        print(plan, repr(plan), plan.changes, plan.rows, plan.failures, client)
        print(plan.apply(progress=True))
        plan.close()
        print(plan)
    """
    path = tmp_path / ("x" * 70 + " \u9867\u5ba2 \u00e9\u0436.replyplan")
    done = subprocess.run(
        [*program(code), str(path)],
        env=environment(sandbox, PYTHONIOENCODING=encoding),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.stderr, done.returncode) == (b"", 0)
    assert b"<ApplyResult " in done.stdout
    assert b"1 changed; " in done.stdout


def test_a_stopped_job_says_how_to_go_on_in_python_and_on_the_command_line() -> None:
    state = {"rows": 812, "done": 412}
    assert _again.how_to_go_on("apply", Opening("a b.replyplan"), state) == (
        "replyio: stopped with 412 of 812 rows done; resume with client.open_plan('a b.replyplan').apply(),"
        " or on the command line: replyio apply 'a b.replyplan'"
    )


@pytest.mark.parametrize(
    ("action", "options", "call", "command"),
    [
        ("retry_failed", {}, "retry_failed()", " --retry-failed"),
        (
            "retry_failed",
            {"on_conflict": "overwrite"},
            'retry_failed(on_conflict="overwrite")',
            " --retry-failed --on-conflict overwrite",
        ),
        (
            "apply",
            {"on_unknown_member": "clear", "max_changes": 10, "max_cleared": 0},
            'apply(on_unknown_member="clear", max_changes=10, max_cleared=0)',
            " --on-unknown-member clear --max-changes 10 --max-cleared 0",
        ),
        ("apply", {"rows": [*range(20)]}, "apply(rows=range(0, 20))", " --rows 0-19"),
        ("apply", {"rows": [7, 0, 1]}, "apply(rows=[0, 1, 7])", " --rows 0-1,7"),
        (
            "apply",
            {"rows": [*range(7), 9, 12, 13]},
            "apply(rows=[*range(0, 7), 9, 12, 13])",
            " --rows 0-6,9,12-13",
        ),
        ("apply", {"rows": []}, "apply(rows=[])", " --rows ... with the same --rows"),
        (
            "apply",
            {"rows": [*range(0, 40, 2)]},
            "apply(rows=...) with the same rows=",
            " --rows ... with the same --rows",
        ),
        # 400 rows of the run are left, and 3 of them may have been written.
        ("apply", {"limit": 500}, "apply(limit=397)", " --limit 397"),
    ],
)
def test_the_line_after_ctrl_c_repeats_the_call_with_its_options(
    action: str, options: dict[str, Any], call: str, command: str
) -> None:
    state = {"rows": 812, "done": 412, "unknown": 3}
    run = Options("skip", "stop")._replace(**options)._asdict()
    line = _again.how_to_go_on(action, Opening("p"), state, run)
    assert line.partition("; ")[2] == (
        f"resume with client.open_plan('p').{call}, or on the command line: replyio apply p{command}"
    )
    here = _again.how_to_go_on(action, Opening("p"), state, run, in_command=True)
    command, same, rows = command.partition(" with")
    assert here.partition("; ")[2] == f"`replyio apply p{command}`{same}{rows} resumes"


@pytest.mark.parametrize(
    ("settings", "call", "command"),
    [
        ({"new_key": True}, ", new_key=True", " --new-key"),
        ({"new_key": False, "act_as": None, "team_id": None}, "", ""),
        ({"act_as": "a b@c.example", "team_id": 7}, "", " --act-as 'a b@c.example' --team-id 7"),
        ({"key_file": "my key", "timeout": 2.5}, "", " --key-file 'my key' --timeout 2.5"),
        ({"key_file": "/dev/fd/63"}, "", " --key-file ... with the same --key-file"),
    ],
)
def test_the_line_after_ctrl_c_opens_the_plan_as_it_was_opened(
    settings: dict[str, Any], call: str, command: str
) -> None:
    line = _again.how_to_go_on("apply", Opening("p", settings), {"rows": 2, "done": 0})
    assert line.partition("; ")[2] == (
        f"resume with client.open_plan('p'{call}).apply(), or on the command line: replyio apply p{command}"
    )


@pytest.mark.parametrize(
    ("state", "limit"),
    [
        ({"rows": 12, "done": 12}, None),
        # All of the limit was sent, and the outcome of two rows is not known.
        ({"rows": 3, "done": 1, "unknown": 2}, 3),
    ],
)
def test_the_line_after_the_last_row_names_nothing_that_would_send_a_row(state: dict[str, int], limit: int) -> None:
    line = _again.how_to_go_on("apply", Opening("p"), state, {"limit": limit})
    shows = "replyio.read_plan('p').counts shows the outcome, or on the command line: replyio status p"
    assert line.partition("; ")[2] == shows
    here = _again.how_to_go_on("apply", Opening("p"), state, {"limit": limit}, in_command=True)
    assert here.partition("; ")[2] == "`replyio status p` shows the outcome"
    unknown = {"rows": 12, "done": 12, "counts": {"unknown": 1}}
    assert "`replyio apply p` resumes" in _again.how_to_go_on("apply", Opening("p"), unknown, in_command=True)


# Tables


def test_a_table_is_rows_a_frame_and_a_stream(plan: Plan) -> None:
    changes = plan.changes
    assert list(changes) == CHANGES
    assert (len(changes), repr(changes)) == (3, "<PlanTable changes: 3 rows>")
    frame = changes.to_pandas()
    assert list(frame.columns) == ["row", "id", "field", "before", "after", "status"]
    assert (str(frame["row"].dtype), str(frame["id"].dtype)) == ("int64", "Int64")
    assert frame["before"].tolist() == ["Oslo", None, 42]
    assert changes.to_polars()["field"].to_list() == ["city", "company_size", "owner_user_id"]
    assert pa.table(changes).num_rows == pl.DataFrame(changes).height == 3
    assert plan.to_pandas()["status"].tolist() == plan.to_polars()["status"].to_list() == ["pending"]


def test_a_row_that_is_changed_by_its_reader_is_not_the_tables(plan: Plan) -> None:
    changes = plan.changes
    next(iter(changes))["field"] = "x"
    assert list(changes) == CHANGES


def test_a_table_without_rows_keeps_its_columns_and_types() -> None:
    frame = PlanTable("failures", Table([])).to_pandas()
    assert list(frame.columns) == ["row", "id", "key", "status", "error", "repeated", "stored_otherwise", "done_at"]
    assert (str(frame["id"].dtype), str(frame["repeated"].dtype)) == ("Int64", "int64")
    assert pd.isna(Plan(File(COUNTS), "p").failures.to_pandas()["id"]).all()


# Notebooks


class Page(html.parser.HTMLParser):
    """Sees that every tag is closed, and which there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(shown: Any) -> Page:
    found = Page(shown._repr_html_())
    assert found.open == []
    assert found.tags <= {"div", "span", "b", "bdi", "code", "table", "tbody", "tr", "th", "td"}
    assert found.attributes <= {"style"}
    return found


def test_a_notebook_shows_counts_the_first_changes_and_what_to_do_next(plan: Plan) -> None:
    text = page(plan).text
    for shown in (
        "Plan acme.replyplan", "817 requests, about 17 min", "812 to change", "Oslo → Bergen", "empty → 51-200",
        "plan.apply() sends the changes", "shows why 48 rows are not done",
    ):  # fmt: skip
        assert shown in text
    assert text.count("4711") == 1  # an account that has several changes is named once


def test_a_notebook_shows_ten_changes_of_many() -> None:
    many = [{"row": row, "id": row, "field": "city", "before": "a", "after": "b"} for row in range(1500)]
    text = page(Plan(File(COUNTS, many), "p")).text
    assert text.count("→") == 10
    assert "… and 1,490 more changes" in text
    assert "… and 1,490 more rows" in page(PlanTable("changes", Table(many))).text


def test_a_hostile_value_and_file_name_are_only_text() -> None:
    changes = [{"row": 0, "id": HOSTILE, "field": HOSTILE, "before": HOSTILE, "after": HOSTILE}]
    file = File({HOSTILE: 1, "changed": 1, "failed": 1}, changes)
    for shown in (
        Plan(file, HOSTILE),
        result_of(file, HOSTILE),
        PlanTable("x", Table(changes)),
    ):
        page(shown)
        markup = shown._repr_html_()
        assert "<script" not in markup
        assert "\x1b" not in markup
        assert "\u202e" not in re.sub(r"<code.*?</code>", "", markup)


def test_a_value_stays_on_its_line_and_is_cut_where_it_is_long() -> None:
    assert _plan_text.cell("a\r\nb\tc\x00") == r"a\r\nb\tc\x00"
    assert _plan_text.cell("x" * 61) == "x" * 59 + "…"
    assert _plan_text.cell("x" * 60) == "x" * 60
    assert _plan_text.cell("👩‍🔬 Füße") == "👩‍🔬 Füße"


def test_a_result_offers_what_makes_sense_next() -> None:
    def hints(counts: dict[str, int]) -> list[str]:
        rest = _plan_text.rest_of(counts, is_reverted=False)
        return [code for code, _ in _plan_text.result_hints(counts, rest)]

    assert hints({"unchanged": 3}) == []
    assert hints({"changed": 3}) == ["result.revert()"]
    assert hints({"failed": 3}) == ["result.failures", "result.retry_failed()"]
    assert hints({"pending": 3}) == ["result.plan.apply()"]
    assert hints({"unknown": 3}) == ["result.failures", "result.plan.apply()", "result.revert()"]


# Progress


class Terminal(io.StringIO):
    encoding = "ascii"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def terminal_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal for stderr, and no tqdm. Not a fixture: pytest gives each phase of a test a stderr of its own."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    return found


STATE = Job().progress()


def test_a_terminal_without_tqdm_gets_a_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_without_tqdm(monkeypatch)
    monkeypatch.setenv("COLUMNS", "100")
    show = _progress.show_for(progress=True)
    show.update(STATE | {"waiting": "a long reason"})
    show.update(STATE)  # too soon
    show.close(STATE)
    first, last = terminal.getvalue().lstrip("\r").rstrip("\n").split("\r")
    assert "a long reason" in first
    assert (len(last), last.rstrip()) == (len(first), "writing: 412 of 812 rows, 430 requests, about 9 min left")


def test_a_line_fits_a_terminal_of_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_without_tqdm(monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    show = _progress.show_for(progress=True)
    show.update(STATE | {"waiting": "quota: 95 per minute", "waiting_until": 42.0})
    show.close(STATE)
    first, last = terminal.getvalue().lstrip("\r").rstrip("\n").split("\r")
    assert len(first) == len(last) == 79
    assert first.endswith("...")


def test_without_a_terminal_a_long_wait_is_told_at_once_and_a_line_every_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "replyio")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    importlib.import_module("ipykernel.kernelapp")  # a program that starts kernels is no notebook
    show = _progress.show_for(progress=True)
    for second in range(200):
        wait = {"waiting": "the quota", "waiting_until": 42.0} if 30 <= second < 72 else {}
        wait |= {"waiting": "the quota", "waiting_until": 2.0} if second == 100 else {}
        show.update(STATE | wait | {"seconds": float(second)})
    show.close(STATE | {"seconds": 200.0})
    assert [record.getMessage().partition(": ")[0] for record in caplog.records] == ["waiting 42 s (the quota)"]
    told = sys.stderr.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(told) == 4
    assert told[-1] == "replyio: writing: 412 of 812 rows, 430 requests, about 9 min left"


def test_without_a_terminal_a_short_job_is_silent_and_a_log_that_is_read_gets_the_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for level, lines in ((logging.WARNING, 0), (logging.INFO, 1)):
        caplog.set_level(level, "replyio")
        show = _progress.show_for(progress=True)
        show.update(STATE | {"seconds": 1.0})
        show.close(STATE | {"seconds": 2.0})
        assert len(caplog.records) == lines
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_function_is_called_with_each_new_state_and_a_text() -> None:
    told: list[dict[str, Any]] = []
    show = _progress.show_for(told.append)
    for done in (1, 1, 2):
        show.update(STATE | {"done": done})
    show.close(STATE | {"done": 812})
    assert [state["done"] for state in told] == [1, 2, 812]
    assert told[0]["text"] == "writing: 1 of 812 rows, 430 requests, about 9 min left"
    assert told[0].keys() >= {"phase", "rows", "requests", "seconds", "seconds_left", "waiting", "waiting_until"}


def test_a_notebook_without_widgets_gets_one_output_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """stderr would be red, and each state a line of its own."""
    calls: list[tuple[str, dict[str, Any]]] = []

    class Handle:
        def update(self, shown: dict[str, Any], *, raw: bool) -> None:
            calls.append((f"update {raw}", shown))

    def display(shown: dict[str, Any], *, raw: bool, display_id: bool) -> Handle:
        calls.append((f"display {raw} {display_id}", shown))
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("IPython.get_ipython", lambda: types.SimpleNamespace(kernel=None))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    show = _progress.show_for(progress=True)
    for tenth in range(25):
        show.update(STATE | {"seconds": tenth / 10, "phase": "<writing>"})
    show.close(STATE)
    assert [name for name, _ in calls] == ["display True True", *["update True"] * 3]
    assert "412 of 812 rows" in calls[0][1]["text/plain"]
    assert 'value="412"' in calls[0][1]["text/html"]
    assert "<writing>" not in calls[0][1]["text/html"]
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_tqdm_shows_the_rows_and_the_quotas_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    terminal.encoding = "utf-8"
    monkeypatch.setattr(sys, "stderr", terminal)
    pytest.importorskip("tqdm")
    show = _progress.show_for(progress=True)
    assert isinstance(show, _progress.Bar)
    show.update(STATE)
    show.close(STATE | {"done": 812, "seconds_left": None})
    frames = terminal.getvalue().split("\r")
    assert any("writing  51%" in frame and "412/812 rows" in frame and "about 9 min left" in frame for frame in frames)
    assert "100%" in frames[-1]
    assert frames[-1].endswith("\n")


def test_no_progress_is_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_without_tqdm(monkeypatch)
    assert _progress.drive(Job(), _progress.show_for(progress=False), STOPPED) == "result"
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("stderr", [None, types.SimpleNamespace(isatty=lambda: True)])
def test_a_stderr_that_cannot_be_written_does_not_end_the_job(stderr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert _progress.drive(Job(), _progress.show_for(progress=True), STOPPED) == "result"


def test_a_bar_that_fails_does_not_end_the_job(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(_progress.Show):
        def update(self, state: dict[str, Any]) -> None:
            raise ZeroDivisionError

    assert _progress.drive(Job(), Failing(), STOPPED) == "result"
    assert [record.getMessage() for record in caplog.records] == [
        "replyio stopped showing the progress: ZeroDivisionError"
    ]


# Stopping


STOPPED = "replyio: stopped"


def drive(job: Job) -> None:
    with pytest.raises(KeyboardInterrupt):
        _progress.drive(job, _progress.Show(), STOPPED)


def test_ctrl_c_stops_the_job_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(interrupts=1)
    drive(job)
    assert job.calls == ["wait 0.1", "stop", "wait 5"]
    assert capsys.readouterr() == ("", f"{STOPPED}\n")


def test_a_second_ctrl_c_abandons_it(capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(interrupts=2, stops=False)
    drive(job)
    assert job.calls == ["wait 0.1", "stop", "wait 5", "abandon", "wait 1"]
    assert STOPPED in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Windows interrupt no sleep")
def test_a_real_signal_stops_a_job() -> None:
    class Real(Job):
        def wait(self, seconds: float, _event_loop: asyncio.AbstractEventLoop | None = None) -> bool:
            time.sleep(0 if self.calls else min(seconds, 0.1))
            return bool(self.calls)

    job = Real()
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    began = time.monotonic()
    drive(job)
    assert job.calls == ["stop"]
    assert time.monotonic() - began < 2


def test_the_exception_of_a_handler_stops_it_too() -> None:
    class Terminated(Job):
        def wait(self, _seconds: float, _event_loop: asyncio.AbstractEventLoop | None = None) -> bool:
            if not self.calls:
                raise SystemExit(143)
            return True

    job = Terminated()
    with pytest.raises(SystemExit):
        _progress.drive(job, _progress.Show(), STOPPED)
    assert job.calls == ["stop"]


async def test_an_async_job_ends_without_holding_the_loop_up() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    result = await _progress.drive_async(Job(looks=20), _progress.Show(), STOPPED)
    ticking.cancel()
    assert result == "result"
    assert ticks > 5


async def cancelled(job: Job, *, twice: bool = False) -> float:
    task = asyncio.create_task(_progress.drive_async(job, _progress.Show(), STOPPED))
    await asyncio.sleep(0.05)
    began = time.monotonic()
    task.cancel()
    if twice:
        await asyncio.sleep(0.05)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - began


async def test_a_cancelled_task_stops_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(looks=1000)
    await cancelled(job)
    assert [call for call in job.calls if "wait" not in call] == ["stop"]
    assert STOPPED in capsys.readouterr().err


async def test_a_task_that_is_cancelled_twice_abandons_its_job() -> None:
    job = Job(looks=1000, stops=False)
    assert await cancelled(job, twice=True) < 1
    assert [call for call in job.calls if "wait" not in call] == ["stop", "abandon"]


def test_a_job_whose_coroutine_is_closed_is_stopped_and_ends_by_itself() -> None:
    job = Job(looks=1000)
    coroutine = _progress.drive_async(job, _progress.Show(), STOPPED)
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    coroutine.close()
    assert job.calls == ["wait 0.1", "stop"]
    task.cancel()
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        loop.run_until_complete(task)
    loop.close()


@pytest.mark.parametrize(
    ("of_result", "action"),
    [(False, "apply"), (False, "retry_failed"), (False, "revert"), (True, "retry_failed"), (True, "revert")],
)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_each_call_starts_its_job_and_gives_its_result(action: str, mode: str, of_result: bool) -> None:
    file = File({"changed": 3})
    plan = Plan(file, "p")
    target = ApplyResult(plan, file, 1, 1.0) if of_result else plan
    if mode == "sync":
        result = getattr(target, action)(on_conflict="overwrite", progress=False)
    else:
        result = asyncio.run(getattr(target, f"{action}_async")(on_conflict="overwrite", progress=False))
    # A revert is a plan of its own, which is applied.
    assert file.started == [("apply" if action == "revert" else action, "overwrite")]
    assert (result.counts, result.requests, result.path) == ({"changed": 3}, 430, "p")
