"""Every hint that the package prints runs when it is followed, in the process that printed it.

Each scenario runs into a message, takes the hint out of it, and follows it. `sites` finds in the sources what a person
can type; a hint that no scenario follows fails `test_every_hint_in_the_sources_is_followed`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import hint_sites
import replyio
from replyio import ReplyClient, _again, _blocking, _cli_arguments, _state
from replyio._again import Opening
from replyio._cli_overview import COMMANDS
from replyio._cli_words import Words
from replyio.sandbox import Fault, Sandbox
from support import environment

ACCOUNTS = [{"id": id, "name": f"Company {id}", "city": "Oslo", "industry": "Ships"} for id in range(1, 6)]
ROWS = [{"id": id, "city": "Bergen"} for id in range(1, 6)]
KEY = "a-key-of-these-tests"

Scenario = Callable[["Case"], None]
SCENARIOS: dict[str, Scenario] = {}
FOLLOWED: Counter[tuple[str, str]] = Counter()


def follows(*sites: tuple[str, str] | tuple[str, str, int]) -> Callable[[Scenario], Scenario]:
    """Says which hints of which files a scenario follows, and how many messages of the file have them."""

    def add(scenario: Scenario) -> Scenario:
        for file, hint, *number in sites:
            FOLLOWED[file, hint] += int(number[0]) if number else 1
        SCENARIOS[scenario.__name__] = scenario
        return scenario

    return add


class Case:
    """A sandbox, a client of it, and a folder."""

    def __init__(self, service: Sandbox, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.service = service
        self.client = service.client(api_key=KEY, quota=None, max_attempts=1)
        self.folder = folder
        self.caplog = caplog
        self.path = str(folder / "acme.replyplan")
        self.names: dict[str, Any] = {"client": self.client, "replyio": replyio, "ReplyClient": ReplyClient}

    def plan(self, rows: object = None, **options: Any) -> replyio.Plan:
        plan = self.client.plan_contact_account_updates(ROWS if rows is None else rows, progress=False, **options)
        self.names["plan"] = plan
        return plan

    def run(self, code: str, **names: Any) -> Any:
        """Follows a hint, in the namespace that its reader has."""
        code = re.sub(r"\b(apply|retry_failed|revert)\(\)", r"\1(progress=False)", code)
        return eval(code, self.names | names)  # noqa: S307 - the package's own hints

    def shell(self, words: str) -> subprocess.CompletedProcess[str]:
        """Follows a hint in a shell."""
        replyio_command = f'replyio() {{ "{sys.executable}" -m replyio "$@"; }}'
        variables = environment(self.service, REPLY_API_KEY=KEY)
        return subprocess.run(
            ["/usr/bin/env", "bash", "-c", f"{replyio_command}\n{words}"],
            env=variables, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


def raised(call: Callable[[], object]) -> str:
    """The message of what a call raises."""
    with pytest.raises((replyio.ReplyError, TypeError, ImportError, FileExistsError)) as caught:
        call()
    return str(caught.value)


def call_of(name: str, message: str) -> str:
    """A call that a message has."""
    return found(rf"{name}\(\)", message)


def begin_of(name: str, message: str) -> str:
    """The begin of a call that a message has, to be given its arguments."""
    return call_of(name, message).removesuffix(")")


def found(hint: str, message: str) -> str:
    """The hint that a message has."""
    match = re.search(hint, message)
    assert match, f"no {hint} in: {message}"
    return match[0]


MESSAGES = "src/error/messages.rs"
FILE, FILE_ERROR = "src/plan/file/mod.rs", "src/plan/file/error.rs"
RUN = "src/plan/run/mod.rs"


@follows(("src/python/settings.rs", "api_key="), ("src/python/settings.rs", "client()"))
def without_a_key(case: Case) -> None:
    told = raised(ReplyClient)
    assert case.run(f"ReplyClient({found('api_key=', told)}'x', base_url={case.service.url!r})")
    hint = found(r"replyio[.\w]+Sandbox\(\).client\(\)", told)
    assert case.run(f"{hint}.get_contact_account(4711).name") == "Acme"


@follows(("src/config.rs", "strip()"))
def a_key_with_a_line_end(case: Case) -> None:
    told = raised(lambda: ReplyClient(f"{KEY}\n"))
    assert case.run(f"ReplyClient({KEY + chr(10)!r}.{call_of('strip', told)})")


@follows(("src/config.rs", "api_key="))
def an_empty_key(case: Case) -> None:
    told = raised(lambda: ReplyClient("", base_url=case.service.url))
    assert "api_key" in told
    assert case.run("ReplyClient(api_key='x')")


@follows((MESSAGES, "api_key="), (MESSAGES, "act_as="), (MESSAGES, "team_id="))
def a_refused_key(case: Case) -> None:
    body = {"status": 401, "title": "Unauthorized", "detail": "The key does not belong to this user."}
    case.service.add_fault(Fault(status=401, body=body, times=1))
    told = raised(lambda: case.client.get_contact_account(1))
    settings = {"api_key=": repr(KEY), "act_as=": "7", "team_id=": "9"}
    given = ", ".join(f"{found(name, told)}{value}" for name, value in settings.items())
    assert case.run(f"ReplyClient({given}, base_url={case.service.url!r}).get_contact_account(1).id") == 1


@follows((MESSAGES, "list_contact_accounts()"), (MESSAGES, "get_contact_account()"))
def an_account_that_is_not_there_or_is_in_conflict(case: Case) -> None:
    told = raised(lambda: case.client.get_contact_account(99))
    assert len(list(case.run("client." + call_of("list_contact_accounts", told)))) == len(ACCOUNTS)
    case.service.add_fault(Fault(method="PUT", status=409, times=1))
    told = raised(lambda: case.client.patch_contact_account(1, city="Bergen"))
    assert case.run(f"client.{begin_of('get_contact_account', told)}1)").city == "Oslo"


@follows((MESSAGES, "timeout=", 2), (MESSAGES, "attempt_timeout="))
def a_time_out(case: Case) -> None:
    case.service.add_fault(Fault(delay=1.0, times=2))
    told = raised(lambda: case.client.with_options(timeout=0.1).get_contact_account(1))
    assert case.run(f"client.with_options({found(r'timeout=', told)}60).get_contact_account(1).id") == 1
    case.service.clear_faults()
    case.service.add_fault(Fault(delay=1.0, times=1))
    told = raised(lambda: case.client.with_options(attempt_timeout=0.1).get_contact_account(1))
    assert case.run(f"client.with_options({found(r'attempt_timeout=', told)}60).get_contact_account(1).id") == 1
    quick = case.service.client(quota=replyio.Quota(per_minute=1, shared=False, clock_scale=60), timeout=0.2)
    quick.get_contact_account(1)
    told = raised(lambda: quick.get_contact_account(1))
    assert case.run(f"quick.with_options({found('timeout=', told)}60).get_contact_account(1).id", quick=quick) == 1


@follows((MESSAGES, "plan_contact_account_updates()"))
def an_update_that_is_never_allowed_soon_after_a_read(case: Case) -> None:
    case.service.add_fault(
        Fault(
            method="GET",
            status=200,
            headers={"ratelimit-limit": "1", "ratelimit-remaining": "0", "ratelimit-reset": "2"},
            body=case.client.get_contact_account(1).to_dict(by_alias=True),
        )
    )
    told = raised(
        lambda: case.client.with_options(quota=replyio.Quota(shared=False)).patch_contact_account(1, city="Molde")
    )
    case.service.clear_faults()
    call = begin_of("plan_contact_account_updates", told)
    made = case.run(f"client.{call}[{{'id': 1, 'city': 'Molde'}}], progress=False)")
    assert made.apply(progress=False).counts == {"changed": 1}


@follows((MESSAGES, "ulimit", 2), (FILE_ERROR, "ulimit"), ("python/replyio/client.py", "ulimit"))
def no_descriptor_left(case: Case) -> None:
    """`tests/test_process.py` and `tests/test_descriptors.py` run into it; the hint names two limits of a shell."""
    for limit in ("ulimit -n", "ulimit -u"):
        assert case.shell(limit).returncode == 0


@follows(
    (FILE_ERROR, "open_plan()"), (FILE_ERROR, 'if_exists="resume"'), (FILE_ERROR, "save_as="),
    ("python/replyio/_bulk.py", "save_as="),
)  # fmt: skip
def a_plan_that_exists(case: Case) -> None:
    case.plan(save_as=case.path)
    told = raised(lambda: case.plan(save_as=case.path))
    assert case.run(f"client.{begin_of('open_plan', told)}{case.path!r})").counts == {"pending": 5}
    resume = found('if_exists="resume"', told)
    call = "client.plan_contact_account_updates(rows, progress=False, "
    assert case.run(f"{call}save_as={case.path!r}, {resume})", rows=ROWS).counts == {"pending": 5}
    other = repr(str(case.folder / "b.replyplan"))
    assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS)
    told = raised(lambda: case.plan(if_exists="resume"))
    assert case.run(f"{call}{found('save_as=', told)}{other}, if_exists='resume')", rows=ROWS)


@follows((FILE_ERROR, "save_as="))
def a_link_to_no_file(case: Case) -> None:
    Path(case.path).symlink_to(case.folder / "gone")
    told = raised(lambda: case.plan(save_as=case.path))
    call = "client.plan_contact_account_updates(rows, progress=False, "
    other = repr(str(case.folder / "b.replyplan"))
    assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS).counts == {"pending": 5}


@follows(("python/replyio/plan.py", "save_as="))
def a_plan_that_was_reverted(case: Case) -> None:
    plan = case.plan(save_as=case.path)
    plan.apply(progress=False)
    plan.revert(progress=False)
    plan.apply(progress=False)
    # On a busy machine, the run also logs that it waits.
    (told,) = (message for message in case.caplog.messages if "save_as=" in message)
    call = "client.plan_contact_account_updates(rows, progress=False, "
    other = repr(str(case.folder / "b.replyplan"))
    assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS).counts == {"pending": 5}


@follows((FILE_ERROR, "apply()"), (FILE_ERROR, "revert()"))
def a_run_beside_a_file_that_may_be_a_revert(case: Case) -> None:
    plan = case.plan(save_as=case.path)
    plan.apply(limit=3, progress=False)
    revert = Path(case.path.replace(".replyplan", ".revert.replyplan"))
    for content in (b"", bytes(8_192)):
        revert.write_bytes(content)
        told = raised(lambda: plan.apply(progress=False))
        assert "move it away" in told
        revert.rename(case.folder / "away")
        if content:
            assert case.run(f"plan.{call_of('apply', told)}").counts == {"changed": 5}
    assert case.run(f"plan.{call_of('revert', told)}").counts == {"changed": 5}


@follows((FILE_ERROR, "save_as="), (FILE_ERROR, "rows="), (FILE_ERROR, "apply()"))
def a_run_that_would_write_again_what_a_revert_has_restored(case: Case) -> None:
    plan = case.plan(save_as=case.path)
    plan.apply(limit=3, progress=False)
    plan.revert(progress=False)
    told = raised(lambda: plan.apply(progress=False))
    call = "client.plan_contact_account_updates(rows, progress=False, "
    other = repr(str(case.folder / "b.replyplan"))
    assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS).counts == {"pending": 5}
    assert case.run(f"plan.apply({found('rows=', told)}[3], progress=False)").counts == {"changed": 4, "pending": 1}
    # Row 3 was sent after the revert, so this revert and then the plan are what is left.
    revert = found(r"(?<=reverted by ).*?\.replyplan", told)
    assert "revert that revert, then use apply()" in told
    case.client.open_plan(revert).revert(progress=False)
    assert case.run(f"plan.{call_of('apply', told)}").counts == {"changed": 5}


@follows((FILE_ERROR, "apply()"), (FILE_ERROR, "rows="))
def a_revert_that_a_newer_file_undoes(case: Case) -> None:
    plan = case.plan(save_as=case.path)
    plan.apply(limit=3, progress=False)
    case.service.add_fault(Fault(method="PUT", id=3, status=401))
    raised(lambda: plan.revert(progress=False))
    case.service.clear_faults()
    plan.apply(rows=[3], progress=False)
    plan.revert(progress=False).revert(progress=False)
    older = case.client.open_plan(case.path.replace(".replyplan", ".revert.replyplan"))
    told = raised(lambda: older.apply(progress=False))
    left = older.counts["pending"]
    assert case.run(f"older.apply({found('rows=', told)}[], progress=False)", older=older).counts["pending"] == left
    case.client.open_plan(found(r"(?<=To continue this plan, revert ).*?\.replyplan", told)).revert(progress=False)
    assert case.run(f"older.{call_of('apply', told)}", older=older).counts["pending"] == 0


@follows((FILE_ERROR, 'if_exists="resume"'))
def a_name_that_an_interrupted_plan_has(case: Case) -> None:
    case.plan(save_as=case.path)
    with closing(sqlite3.connect(case.path)) as file, file:
        file.execute("DELETE FROM plan WHERE key = 'sealed'")
    told = raised(lambda: case.plan(save_as=case.path))
    call = f"client.plan_contact_account_updates(rows, progress=False, save_as={case.path!r}, "
    resume = found('if_exists="resume"', told)
    assert case.run(f"{call}{resume})", rows=ROWS).counts == {"pending": 5}


@follows((FILE_ERROR, 'on_conflict="overwrite"'))
def a_revert_of_a_revert_that_is_not_complete(case: Case) -> None:
    plan = case.plan(save_as=case.path)
    plan.apply(limit=3, progress=False)
    revert = plan.revert(progress=False).plan
    case.client.patch_contact_account(1, city="Molde")
    assert revert.revert(progress=False).counts == {"changed": 2, "conflict": 1}
    told = raised(lambda: plan.apply(progress=False))
    incomplete = case.path.replace(".replyplan", ".revert.revert.replyplan")
    assert f"revert that revert again, because {incomplete} has rows that" in told
    overwrite = found('on_conflict="overwrite"', told)
    assert case.run(f"revert.revert({overwrite}, progress=False)", revert=revert).counts == {"changed": 1}
    assert case.run(f"plan.{call_of('apply', told)}").counts == {"changed": 5}


@follows((FILE_ERROR, "save_as="))
def a_plan_that_has_written_is_not_replaced(case: Case) -> None:
    case.plan(save_as=case.path).apply(progress=False)
    told = raised(lambda: case.plan(save_as=case.path, if_exists="replace"))
    call = "client.plan_contact_account_updates(rows, progress=False, "
    other = repr(str(case.folder / "b.replyplan"))
    assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS).counts == {"unchanged": 5}


@follows((FILE, "save_as="))
def a_revert_is_not_replaced_by_a_plan(case: Case) -> None:
    case.plan(save_as=case.path).revert(progress=False)
    revert = case.path.replace(".replyplan", ".revert.replyplan")
    for if_exists in ("resume", "replace"):
        told = raised(lambda: case.plan(save_as=revert, if_exists=if_exists))  # noqa: B023
        assert "is the revert of another plan" in told
        call = "client.plan_contact_account_updates(rows, progress=False, "
        other = repr(str(case.folder / f"{if_exists}.replyplan"))
        assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS).counts == {"pending": 5}


@follows((FILE_ERROR, "save_as="))
def a_plan_of_an_older_version(case: Case) -> None:
    case.plan(save_as=case.path).apply(progress=False)
    with closing(sqlite3.connect(case.path)) as connection:
        connection.execute("PRAGMA user_version = 4")
    for if_exists in ("resume", "replace"):
        told = raised(lambda: case.plan(save_as=case.path, if_exists=if_exists))  # noqa: B023
        call = "client.plan_contact_account_updates(rows, progress=False, "
        other = repr(str(case.folder / f"{if_exists}.replyplan"))
        assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS).counts == {"unchanged": 5}


@follows((FILE, "save_as="), (FILE, "open_plan()"), (FILE, "read_plan()"), (FILE, 'if_exists="replace"'))
def a_plan_of_other_rows(case: Case) -> None:
    case.plan(save_as=case.path)
    told = raised(lambda: case.plan(ROWS[:2], save_as=case.path, if_exists="resume"))
    assert case.run(f"replyio.{begin_of('read_plan', told)}{case.path!r})").counts == {"pending": 5}
    assert case.run(f"client.{begin_of('open_plan', told)}{case.path!r})").counts == {"pending": 5}
    call = "client.plan_contact_account_updates(rows, progress=False, "
    other = repr(str(case.folder / "b.replyplan"))
    assert case.run(f"{call}{found('save_as=', told)}{other})", rows=ROWS[:2])
    replace = found('if_exists="replace"', told)
    assert case.run(f"{call}save_as={case.path!r}, {replace})", rows=ROWS[:2]).counts == {"pending": 2}


@follows((FILE, "new_key=True"), (FILE, "open_plan()"), ("python/replyio/_again.py", "new_key=True"))
def a_plan_of_another_key(case: Case) -> None:
    case.plan(save_as=case.path)
    other = case.service.client(api_key="another-key", quota=None)
    told = raised(lambda: other.open_plan(case.path).apply(progress=False))
    hint = found("new_key=True", told)
    begin = begin_of("open_plan", told)
    plan = case.run(f"other.{begin}{case.path!r}, {hint})", other=other)
    told = _again.how_to_go_on("apply", plan._file.opening(), {"done": 0, "rows": 5})
    call = found(r"client\.open_plan\(.*new_key=True\)\.apply\(\)", told)
    assert case.run(call, client=other).counts == {"changed": 5}


@follows((FILE, "act_as="), (FILE, "team_id="))
def a_plan_of_another_user(case: Case) -> None:
    acting = case.service.client(api_key=KEY, quota=None, act_as=7, team_id=9)
    case.names["client"], other = acting, case.client
    plan = case.run(f"client.plan_contact_account_updates(rows, save_as={case.path!r}, progress=False)", rows=ROWS)
    told = raised(lambda: other.open_plan(case.path))
    settings = ", ".join((found("act_as=7", told), found("team_id=9", told)))
    assert case.run(f"other.with_options({settings}).open_plan({case.path!r})", other=other).counts == plan.counts
    case.plan(save_as=case.path, if_exists="replace")
    case.names["client"] = other
    case.run(f"client.plan_contact_account_updates(rows, save_as={case.path!r}, if_exists='replace')", rows=ROWS)
    told = raised(lambda: acting.open_plan(case.path))
    settings = ", ".join(f"{found(f'without {name}', told).split()[1]}None" for name in ("act_as=", "team_id="))
    assert case.run(f"acting.with_options({settings}).open_plan({case.path!r})", acting=acting).counts == {"pending": 5}


@follows((FILE_ERROR, "save_as="))
def a_file_that_is_no_plan(case: Case) -> None:
    Path(case.path).write_text("no plan", encoding="utf-8")
    told = raised(lambda: case.plan(save_as=case.path))
    call = f"client.plan_contact_account_updates(rows, progress=False, {found('save_as=', told)}"
    assert case.run(f"{call}{case.path + '2'!r})", rows=ROWS).counts == {"pending": 5}


@follows((FILE_ERROR, "recover=True"))
def a_plan_without_its_log(case: Case) -> None:
    case.plan(save_as=case.path)
    code = (
        "import os, replyio\n"
        f"plan = replyio.ReplyClient(api_key={KEY!r}, quota=None).open_plan({case.path!r})\n"
        "plan.apply(progress=lambda state: os._exit(9) if state['done'] else None)"
    )
    case.service.add_fault(Fault(method="PUT", delay=0.2, applied=True))
    subprocess.run([sys.executable, "-c", code], env=environment(case.service), check=False, timeout=60)
    case.service.clear_faults()
    log = Path(f"{case.path}-wal")
    assert log.stat().st_size
    log.unlink()
    told = raised(lambda: case.client.open_plan(case.path))
    hint = found("recover=True", told)
    assert case.run(f"client.open_plan({case.path!r}, {hint}).apply()").counts["unknown"] == 0


@follows(("src/plan/file/report.rs", "apply()"))
def a_run_that_ended_before_its_rows_were_done(case: Case) -> None:
    """A full disk and a list that contradicts itself end a run like this refused key: `apply()` takes it up."""
    plan = case.plan()
    case.service.add_fault(Fault(method="PUT", close=True, applied=True, id=1))
    result = plan.apply(limit=1, progress=False)
    assert result.counts["unknown"] == 1
    hint = hint_of_source("src/plan/file/report.rs", r"apply\(\)")
    assert case.run(f"plan.{hint}").counts["pending"] == 0
    case.service.clear_faults()
    assert case.run("plan.apply()").counts == {"changed": 5}
    case.service.add_fault(Fault(method="PUT", close=True, applied=True, id=1))
    revert = plan.revert(progress=False).plan
    case.service.clear_faults()
    assert case.run(f"revert.{hint}", revert=revert).counts == {"changed": 5}


@follows(("src/plan/run/record.rs", 'on_conflict="overwrite"'))
def a_row_in_conflict_after_a_lost_answer(case: Case) -> None:
    plan = case.plan()
    case.service.add_fault(Fault(method="PUT", close=True, id=1))
    plan.apply(rows=[0], progress=False)
    case.service.clear_faults()
    for id in (1, 3):
        case.client.patch_contact_account(id, city="Molde")
    assert plan.apply(rows=[0, 2], progress=False).counts == {"unknown": 1, "conflict": 1, "pending": 3}
    (told,) = (row["error"] for row in plan.failures if row["status"] == "unknown")
    hint = found(r'apply\(rows=\[0\], on_conflict="overwrite"\)', told)
    counts = case.run("plan." + hint.replace("(", "(progress=False, ")).counts
    assert counts == {"changed": 1, "conflict": 1, "pending": 3}, "the row of another account stays a conflict"


@follows()
def a_row_in_conflict(case: Case) -> None:
    plan = case.plan()
    case.client.patch_contact_account(1, city="Molde")
    assert plan.apply(progress=False).counts["conflict"] == 1
    (told,) = (row["error"] for row in plan.failures)
    hint = found(r'apply\(rows=\[0\], on_conflict="overwrite"\)', told)
    assert case.run("plan." + hint.replace("(", "(progress=False, ")).counts == {"changed": 5}
    case.client.patch_contact_account(1, city="Narvik")
    revert = plan.revert(progress=False).plan
    (told,) = (row["error"] for row in revert.failures)
    hint = found(r'apply\(rows=\[0\], on_conflict="overwrite"\)(?= on the plan of the revert)', told)
    counts = case.run("revert." + hint.replace("(", "(progress=False, "), revert=revert).counts
    assert counts == {"changed": 5}


def hint_of_source(file: str, hint: str) -> str:
    """A hint of a message that takes a service of its own to run into."""
    source = (hint_sites.ROOT / file).read_text(encoding="utf-8").replace('\\"', '"')
    return found(hint, source)


@follows((RUN, "rows=", 2), (RUN, "limit="))
def a_run_that_would_do_too_much(case: Case) -> None:
    plan = case.plan()
    told = raised(lambda: plan.apply(max_changes=2, progress=False))
    assert case.run(f"plan.apply({found('rows=', told)}[0], progress=False)").counts["changed"] == 1
    assert case.run(f"plan.apply({found('limit=', told)}1, progress=False)").counts["changed"] == 2
    plan = case.plan([{"id": 5, "industry": ""}], nulls="clear")
    told = raised(lambda: plan.apply(max_cleared=0, progress=False))
    assert case.run(f"plan.apply({found('rows=', told)}[0], progress=False)").counts == {"changed": 1}


@follows((RUN, 'on_unknown_member="clear"'))
def an_update_that_clears_a_member(case: Case) -> None:
    from replyio.sandbox import Deviations

    with Sandbox(accounts=ACCOUNTS, deviations=Deviations(unknown_members={"tier": "gold"})) as service:
        client = service.client(quota=None)
        plan = client.plan_contact_account_updates(ROWS, progress=False)
        told = raised(lambda: plan.apply(progress=False))
        hint = found('on_unknown_member="clear"', told)
        assert "would clear tier" in raised(lambda: plan.apply(progress=False))
        assert case.run(f"plan.apply(progress=False, {hint})", plan=plan).counts["pending"] == 0


@follows((RUN, 'on_unknown_member="clear"'))
def a_list_that_shows_what_get_does_not(case: Case) -> None:
    accounts = [{"id": id, "name": f"Company {id}", "city": "Oslo", "industry": "Ships"} for id in range(1, 13)]
    with Sandbox(accounts=accounts) as service:
        client = service.client(quota=None)
        rows = [{"id": id, "city": "Bergen"} for id in range(1, 13)]
        plan = client.plan_contact_account_updates(rows, progress=False)
        for id in range(1, 13):
            body = {"id": id, "name": f"Company {id}", "ownerUserId": 42, "city": "Oslo"}
            service.add_fault(Fault(id=id, method="GET", status=200, body=body))
        told = raised(lambda: plan.apply(progress=False))
        assert "the list shows industry of account" in told
        assert "repeat the run" in told
        assert "the list shows industry of account" in raised(lambda: plan.apply(progress=False))
        hint = found('on_unknown_member="clear"', told)
        assert case.run(f"plan.apply(progress=False, {hint})", plan=plan).counts == {"changed": 12}


@follows((RUN, 'on_unknown_member="clear"'))
def an_update_that_empties_a_field(case: Case) -> None:
    owner = case.service.accounts[1].owner_user_id
    answer = {"id": 1, "name": "Company 1", "city": "Bergen", "industry": None, "ownerUserId": owner}
    plan = case.plan(ROWS[:3])
    case.service.add_fault(Fault(method="PUT", status=400, times=3))
    assert plan.apply(progress=False).counts == {"failed": 3}
    case.service.add_fault(Fault(id=1, method="PUT", status=200, body=answer, times=1))
    told = raised(lambda: plan.retry_failed(progress=False))
    assert "emptied industry" in told
    case.service.add_fault(Fault(id=2, method="PUT", status=200, body={**answer, "id": 2}, times=1))
    assert "Repeat the run" in told
    assert "emptied industry" in raised(lambda: plan.retry_failed(progress=False))
    case.service.add_fault(Fault(id=3, method="PUT", status=200, body={**answer, "id": 3}, times=1))
    hint = found('on_unknown_member="clear"', told)
    assert case.run(f"plan.retry_failed(progress=False, {hint})").counts == {"changed": 3}
    assert plan.revert(progress=False).counts == {"unchanged": 3}


@follows((RUN, 'on_unknown_member="clear"'))
def an_account_that_has_another_stage_after_its_update(case: Case) -> None:
    for id in (1, 2, 3):
        account = {"id": id, "name": f"Company {id}", "ownerUserId": 42, "stage": {"id": id, "name": "Lead"}}
        case.service.set_account(account)
        answer = account | {"city": "Bergen", "stage": {"id": 9, "name": "Customer"}}
        case.service.add_fault(Fault(id=id, method="PUT", status=200, body=answer, times=1))
    plan = case.plan(ROWS[:3])
    told = raised(lambda: plan.apply(progress=False))
    assert "account 1 (row 0) has another stage" in told
    assert "Repeat the run" in told
    assert "account 2 (row 1) has another stage" in raised(lambda: plan.apply(progress=False))
    hint = found('on_unknown_member="clear"', told)
    result = case.run(f"plan.apply(progress=False, {hint})")
    assert result.counts == {"changed": 3}
    assert "now has another value in stage" in str(result.rows["error"][2])


@follows(
    ("src/plan/run/machine/reads.rs", 'on_unknown_member="clear"'),
    ("src/plan/run/machine/reads.rs", 'on_conflict="overwrite"'),
)
def a_value_that_only_the_list_showed(case: Case) -> None:
    items = [account.to_dict(by_alias=True) for account in case.service.accounts.values()]
    items[0]["phone"] = "+47 22 33 44 55"
    del items[0]["city"]  # so the plan reads this account with GET, too
    case.service.add_fault(Fault(status=200, body={"items": items, "hasMore": False}, times=1))
    plan = case.plan()
    assert plan.apply(progress=False).counts["conflict"] == 1
    (told,) = (row["error"] for row in plan.failures)
    assert "GET shows none" in told
    hint = found(r'apply\(rows=\[0\], on_conflict="overwrite", on_unknown_member="clear"\)', told)
    assert case.run(f"plan.{hint}").counts == {"changed": 5}


@follows(
    ("src/plan/source/dialect.rs", "delimiter=", 2),
    ("src/plan/source/dialect.rs", "encoding=", 4),
    ("src/plan/source/dialect.rs", 'encoding="windows-1252"'),
    ("src/plan/source/dialect.rs", 'encoding="macintosh"'),
    ("src/plan/source/dialect.rs", 'encoding="utf-16le"'),
    ("src/plan/source/dialect.rs", 'encoding="utf-16be"'),
)
def a_csv_file_in_another_dialect(case: Case) -> None:
    file = case.folder / "rows.csv"
    call = f"client.plan_contact_account_updates({str(file)!r}, progress=False, "
    file.write_text("id,x;id\n", encoding="utf-8")
    told = raised(lambda: case.plan(file))
    file.write_text("id;city\n1;Bergen, the old town\n", encoding="utf-8")
    assert case.run(f"{call}{found('delimiter=', told)}';')").counts == {"pending": 1}
    file.write_bytes("id,city\n1,Malmö\n".encode("windows-1252"))
    told = raised(lambda: case.plan(file))
    assert case.run(f"{call}{found('encoding=.windows-1252.', told)})").counts == {"pending": 1}
    for encoding in ("utf-16le", "utf-16be"):
        file.write_bytes("id,city\n1,Malmö\n".encode(encoding))
        told = raised(lambda: case.plan(file))
        assert case.run(f"{call}{found(f'encoding=.{encoding}.', told)})").counts == {"pending": 1}
    for own in ("mac_roman", "cp850"):
        file.write_bytes("id,city\n1,Besançon\n2,München\n".encode(own))
        windows = found("encoding=.windows-1252.", raised(lambda: case.plan(file)))
        told = raised(lambda windows=windows: case.run(f"{call}{windows})"))
        plan = case.run(f"{call}{found('encoding=.macintosh.', told)})")
        # Only the reader knows where the file is from.
        assert (plan.changes[0]["after"] == "Besançon") == (own == "mac_roman")
        assert "save it as UTF-8, as a file from MS-DOS must be" in told
        file.write_text(file.read_text(own), encoding="utf-8")
        assert [change["after"] for change in case.run(f"{call})").changes] == ["Besançon", "München"]
    assert "such as cp850 or cp437 of MS-DOS, as UTF-8" in raised(lambda: case.plan(file, encoding="cp850"))
    file.write_bytes("id,city\n1,Malmö\n".encode() + "2,Malmö\n".encode("cp1252"))
    assert "save the file as UTF-8" in raised(lambda: case.plan(file, encoding="cp1252"))
    file.write_text("id,city\n1,Malmö\n", encoding="utf-8")
    assert "remove encoding=" in raised(lambda: case.plan(file, encoding="windows-1252"))
    assert case.run(f"{call})").counts == {"pending": 1}


@follows(("src/plan/source/names.rs", "columns=", 5), ("src/plan/source/names.rs", "ignore=", 15))
def columns_that_are_no_fields(case: Case) -> None:
    town = pd.DataFrame({"id": [1], "Town": ["Bergen"]})
    columns = found("columns=", raised(lambda: case.plan(town, ignore="unknown")))
    call = f'client.plan_contact_account_updates(frame, progress=False, {columns}{{"Town": "city"}})'
    assert case.run(call, frame=town).counts == {"pending": 1}
    frame = pd.DataFrame({"id": [1], "Website": ["a.example"], "Note": ["x"], "created_date": ["2020"]})
    told = raised(lambda: case.plan(frame))
    columns, ignore = found(r"columns=\{[^}]*\}", told), found("ignore=", told)
    call = f"client.plan_contact_account_updates(frame, progress=False, {columns}, {ignore}"
    assert case.run(f'{call}["Note", "created_date"])', frame=frame).counts == {"pending": 1}
    twice = pd.DataFrame({"id": [1], "Email": ["a@b.example"], "E-mail": ["c@d.example"], "city": ["Bergen"]})
    ignore = found("ignore=", raised(lambda: case.plan(twice, ignore=["E-mail"])))
    call_ = f'client.plan_contact_account_updates(frame, progress=False, {ignore}["Email", "E-mail"])'
    assert case.run(call_, frame=twice).counts == {"pending": 1}
    told = raised(lambda: case.plan(twice))
    assert "rename or remove one of them in the table, because ignore= would ignore both" in told
    assert case.plan(twice.drop(columns="E-mail")).counts == {"pending": 1}
    assert [change["field"] for change in case.plan(twice, ignore=["Email", "E-mail"]).changes] == ["city"]
    town = pd.DataFrame({"id": [1], "city": ["Bergen"], "Town": ["old town"]})
    listed = found(r'(?<=so list )"\w+"(?= in ignore=)', raised(lambda: case.plan(town)))
    assert case.plan(town, ignore=[case.run(listed)]).changes["after"] == ["Bergen"]
    unnamed = pd.DataFrame({"id": [1], "Unnamed: 0": [0], "city": ["Bergen"]})
    ignore = found("ignore=", raised(lambda: case.plan(unnamed)))
    call = f'client.plan_contact_account_updates(frame, progress=False, {ignore}["Unnamed: 0"])'
    assert case.run(call, frame=unnamed).counts == {"pending": 1}
    told = raised(lambda: case.plan(frame, ignore=["Website", "Note"], columns={"Webpage": "domain_name"}))
    assert "columns=" in told
    columns = {"E-mail": "email", "Email": "description"}
    told = raised(lambda: case.plan(twice[["id", "Email"]], columns=columns))
    assert "in columns= differ only in case, spaces or punctuation" in told
    assert case.plan(twice[["id", "Email"]], columns={"Email": "email"}).counts == {"pending": 1}
    told = raised(lambda: case.plan([{"id": 1, "name": "Company 1"}], match_on="name"))
    call = f'client.plan_contact_account_updates(rows, progress=False, match_on="name", {found("ignore=", told)}["id"])'
    assert case.run(call, rows=[{"id": 1, "name": "Company 1", "city": "Bergen"}]).counts == {"pending": 1}
    rows = [{"id": 1, "name": "Company 1", "Ort": "Bergen", "Industry?": "yes", "Phone Number": "+47"}]
    told = raised(lambda: case.plan(rows, mode="replace", ignore="unknown"))
    columns, ignore = found(r"columns=\{[^}]*", told), found("ignore=", told)
    call = 'client.plan_contact_account_updates(rows, progress=False, mode="replace", '
    plan = case.run(f'{call}{columns}, "Ort": "city"}}, {ignore}["Industry?"])', rows=rows)
    assert {each["field"]: each["after"] for each in plan.changes} == {
        "city": "Bergen",
        "phone": "+47",
        "industry": None,
    }


def test_a_column_that_a_replacing_plan_would_lose_is_named_in_words_of_the_command(tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service:
        case = Case.__new__(Case)
        case.service, case.folder = service, tmp_path
        (tmp_path / "a.csv").write_text("id;name;Ort;Phone Number;Note\n1;Company 1;Bergen;+47;x\n", encoding="utf-8")
        told = case.shell("replyio plan a.csv --mode replace --ignore unknown").stderr
        assert '--ignore must name every column to leave out, instead of "unknown"' in told
        assert "map it to its field with --column, or list it in --ignore" in told
        phone = found(r"--column .*?(?=;)", told[told.index("if it is the phone") :])
        done = case.shell(f"replyio plan a.csv --mode replace {phone} --column Ort=city --ignore Note")
        assert done.returncode == 0, done.stderr


def test_a_column_with_the_ids_is_named_so_that_the_hint_works(tmp_path: Path) -> None:
    with Sandbox(ACCOUNTS) as service:
        for name in ("Reply ID", "Account Id", ' Reply \\ "ID"\xa0', "reply\u200bid"):
            rows = pd.DataFrame({name: [1], "city": ["Bergen"]})
            told = raised(lambda rows=rows: service.client().plan_contact_account_updates(rows, progress=False))
            columns = eval(found(r"columns=(\{.*?\})", told).removeprefix("columns="))  # noqa: S307 - a literal
            assert columns == {name: "id"}
            plan = service.client().plan_contact_account_updates(rows, columns=columns, progress=False)
            assert plan.counts == {"pending": 1}
            rows.to_csv(tmp_path / "a.csv", index=False)
            case = Case.__new__(Case)
            case.service, case.folder = service, tmp_path
            hint = found(r"--column .*?(?=;|$)", case.shell("replyio plan a.csv").stderr)
            done = case.shell(f"replyio plan a.csv {hint}")
            assert done.returncode == 0, done.stderr


@follows(("src/python/arrow.rs", "drop=True"))
def an_index_with_the_name_of_a_column(case: Case) -> None:
    frame = pd.DataFrame({"id": [1], "city": ["Bergen"]}).set_index("id", drop=False)
    told = raised(lambda: case.plan(frame))
    hint = found(r"reset_index\(.*drop=True\)", told)
    assert case.plan(case.run(f"frame.{hint}", frame=frame)).counts == {"pending": 1}


@follows(
    ("src/python/rows.rs", "collect()"), ("src/python/rows.rs", "compute()"), ("src/python/rows.rs", "to_dict()"),
    ("src/python/rows.rs", "to_pandas()"), ("python/replyio/_join.py", "collect()"),
    ("python/replyio/_selection.py", "collect()"), ("python/replyio/_selection.py", "compute()"),
)  # fmt: skip
def a_frame_that_is_no_table(case: Case) -> None:
    """Dask and Ray themselves are in `tests/integrations`."""
    lazy = pl.LazyFrame(ROWS)
    told = raised(lambda: case.plan(lazy))
    assert case.plan(case.run(f"lazy.{call_of('collect', told)}", lazy=lazy)).counts == {"pending": 5}
    told = raised(lambda: case.names["plan"].rows and case.run("plan.join(lazy)", lazy=lazy))
    assert case.run(f"plan.join(lazy.{call_of('collect', told)})", lazy=lazy).height == 5
    rows = pl.LazyFrame({"row": [0, 1]})
    told = raised(lambda: case.run("plan.apply(rows=rows)", rows=rows))
    result = case.run(f"plan.apply(rows=rows.{call_of('collect', told)}, progress=False)", rows=rows)
    assert result.counts == {"changed": 2, "pending": 3}


@follows(("python/replyio/_join.py", 'prefix="reply_"'))
def a_table_that_has_such_columns(case: Case) -> None:
    frame = pd.DataFrame(ROWS).assign(status="new")
    plan = case.plan(frame, ignore=["status"])
    told = raised(lambda: plan.join(frame))
    joined = case.run(f"plan.join(frame, {found('prefix=.reply_.', told)})", frame=frame)
    assert list(joined.columns)[-2:] == ["reply_status", "reply_reason"]


@follows(("python/replyio/_export.py", "overwrite=True"))
def an_export_that_exists(case: Case) -> None:
    plan, file = case.plan(), str(case.folder / "rows.csv")
    plan.export(file)
    told = raised(lambda: plan.export(file))
    assert case.run(f"plan.export({file!r}, {found('overwrite=True', told)})") == 5


@follows(("python/replyio/_export.py", "install pyarrow"), ("python/replyio/_parquet.py", "install pyarrow"))
def a_library_that_is_missing(case: Case) -> None:
    """`tests/test_tables.py` and `tests/plan/test_export.py` run without them; here one of them is installed."""
    plan, file = case.plan(), str(case.folder / "rows.parquet")
    assert plan.export(file) == 5
    assert case.plan(file, ignore="unknown", columns={"status": "industry"}).counts == {"pending": 5}


@follows(("python/replyio/_bulk.py", 'mode="replace"'))
def replacing_in_one_call(case: Case) -> None:
    told = raised(lambda: case.client.patch_contact_accounts(ROWS, mode="replace"))  # type: ignore[arg-type]
    call = found(r'plan_contact_account_updates\(\.\.\., mode="replace"\)', told).replace("...", "rows, progress=False")
    assert case.run(f"client.{call}", rows=[{**row, "name": "Acme"} for row in ROWS]).counts == {"pending": 5}


@follows(("python/replyio/_bulk.py", "read_plan()"), ("python/replyio/_again.py", "open_plan({"))
def a_plan_that_is_only_read(case: Case) -> None:
    path = case.plan().path
    told = raised(lambda: replyio.read_plan(path).apply(progress=False))
    hint = found(r"client.open_plan\([^)]*\)", told)
    assert case.run(f"{hint}.apply()").counts == {"changed": 5}


@follows()
def a_one_shot_call_that_is_stopped(case: Case) -> None:
    case.service.add_fault(Fault(method="PUT", status=401))
    told = raised(lambda: case.client.patch_contact_accounts(ROWS, progress=False))
    case.service.clear_faults()
    assert case.run(found(r"client\.open_plan\(.*\)\.apply\(\)", told)).counts == {"changed": 5}


@follows(
    ("python/replyio/_plan_text.py", "apply()", 2), ("python/replyio/_plan_text.py", "retry_failed()"),
    ("python/replyio/_plan_text.py", "revert()", 2),
    ("python/replyio/_again.py", "--retry-failed"), ("python/replyio/_again.py", "rows="),
)  # fmt: skip
def a_run_that_was_interrupted_and_its_html(case: Case) -> None:
    plan = case.plan()
    state = {"done": 0, "rows": 5}
    told = _again.how_to_go_on("apply", Opening(plan.path), state)
    assert found(r"`replyio apply .*`", _again.how_to_go_on("apply", Opening(plan.path), state, in_command=True))
    case.service.add_fault(Fault(method="PUT", status=400, id=1, times=1))
    done = case.shell(found(r"replyio apply .*", told) + " --limit 2")
    assert done.returncode == 1, done.stderr
    assert case.run(found(r"client\.open_plan\(.*\)\.apply\(\)", told)).counts == {"failed": 1, "changed": 4}
    retry = _again.how_to_go_on("retry_failed", Opening(case.plan().path), state)
    assert case.shell(found(r"replyio apply .* --retry-failed", retry)).returncode == 0
    many = _again.how_to_go_on("apply", Opening(case.plan().path), state, {"rows": list(range(0, 40, 2))})
    call, command = found(r"client\..*\(rows=\.\.\.\)", many), found(r"replyio apply .* --rows \.\.\.", many)
    assert "rows" in raised(lambda: case.run(call))
    assert case.shell(command).returncode == 2
    assert case.run(call.replace("...", "[0], progress=False")).counts == {"unchanged": 5}
    assert case.shell(command.replace("...", "1")).returncode == 0
    result = plan.apply(progress=False)
    # When the result is shown, the plan has been reverted.
    for shown, name, more in ((plan, "plan", {"retry_failed()"}), (result, "result", set())):
        html = shown._repr_html_()
        hints = re.findall(r"<code[^>]*>(.*?)</code>", html)
        assert {hint.rpartition(".")[2] for hint in hints} == {"to_pandas()", "revert()"} | more
        for hint in hints:
            case.run(hint, **{name: shown})


@follows(("python/replyio/_state.py", "save_as=", 3))
def a_state_directory_that_cannot_be_written(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch, case.caplog.at_level(logging.WARNING, "replyio"):
        patch.setenv("REPLYIO_STATE_DIR", os.devnull)
        patch.setattr(_state, "_has_told", False)
        case.plan()
        told = " ".join(record.getMessage() for record in case.caplog.records)
        call = f"client.plan_contact_account_updates(rows, progress=False, {found('save_as=', told)}{case.path!r})"
        assert case.run(call, rows=ROWS).path == case.path
        patch.setenv(found("REPLYIO_STATE_DIR", told), str(case.folder / "state"))
        assert _state.is_kept(case.plan().path)


@follows(("python/replyio/client.py", "pickle_api_key=True"), ("python/replyio/client.py", "api_key="))
def a_client_that_cannot_be_pickled(case: Case) -> None:
    told = raised(lambda: pickle.dumps(ReplyClient(KEY, base_url=case.service.url)))
    hint = found("pickle_api_key=True", told)
    client = case.run(f"ReplyClient({KEY!r}, base_url={case.service.url!r}, {hint})")
    assert pickle.loads(pickle.dumps(client)).get_contact_account(1).id == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(found("REPLY_API_KEY", told), KEY)
        client = ReplyClient(base_url=case.service.url)
        assert pickle.loads(pickle.dumps(client)).get_contact_account(1).id == 1


@follows(("python/replyio/client.py", "list_contact_accounts()", 3), ("python/replyio/client.py", "to_pandas()"),
         ("python/replyio/client.py", "to_polars()"))  # fmt: skip
def a_list_that_has_been_read(case: Case) -> None:
    listing = case.client.list_contact_accounts()
    told = repr(listing)
    assert len(case.run(f"it.{call_of('to_pandas', told)}", it=listing)) == 5
    assert len(case.run(f"it.{call_of('to_polars', told)}", it=case.client.list_contact_accounts())) == 5
    told = raised(listing.to_pandas)
    assert len(case.run(f"client.{call_of('list_contact_accounts', told)}.to_pandas()")) == 5


@follows(("python/replyio/_blocking.py", "_async()"), ("python/replyio/client.py", "list_contact_accounts_async()"))
def a_synchronous_call_in_a_loop(case: Case) -> None:
    def told(call: Callable[[], object]) -> str:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as caught:
            patch.setattr(_blocking, "_has_warned", False)
            warnings.simplefilter("always")
            call()
        return str(caught[0].message)

    async def follow(code: str, call: Callable[[], object]) -> None:
        hint = found("hint: .*", told(call)).removeprefix("hint: await ").removeprefix("hint: ")
        target, _, _ = hint.partition(" with ")
        pending = case.run(code.format(target.removesuffix("()")))
        if " with async for" in hint:
            assert len([account async for account in pending]) == 5
        else:
            assert await pending

    async def main() -> None:
        plan = await case.client.plan_contact_account_updates_async(ROWS, progress=False)
        case.names["plan"] = plan
        await follow("client.{}(1)", lambda: case.client.get_contact_account(1))
        await follow("client.{}(1, city='Molde')", lambda: case.client.patch_contact_account(1, city="Bergen"))
        await follow("client.{}(1, name='A')", lambda: case.client.update_contact_account(1, name="A"))
        await follow("client.{}()", lambda: list(case.client.list_contact_accounts()))
        for action in ("apply", "retry_failed", "revert"):
            await follow("plan.{}(progress=False)", lambda action=action: getattr(plan, action)(progress=False))

    asyncio.run(main())


@follows(
    ("src/check/wording.rs", "act_as=", 2), ("src/check/wording.rs", "team_id=", 2),
    ("src/check/wording.rs", "auth=", 2),
    ("src/check/wording.rs", 'auth="bearer"', 2), ("src/check/wording.rs", "list_contact_accounts()"),
    ("src/check/wording.rs", "patch_contact_account()"), ("src/check/wording.rs", "update_contact_account()"),
    ("src/check/kept.rs", "patch_contact_account()", 3), ("src/client/check.rs", "patch_contact_account()"),
)  # fmt: skip
def what_a_check_says(case: Case) -> None:
    """Calls and settings that a report explains rather than suggests; `auth="bearer"` is the one to follow."""
    with Sandbox(accounts=ACCOUNTS, auth="bearer") as service:
        told = str(service.client(quota=None).check())
        setting = found('auth="bearer"', told)
        client = case.run(f"service.client(quota=None, {setting})", service=service)
        assert client.get_contact_account(1).id == 1
        assert all("x-api-key" not in request.headers for request in service.requests[-1:])
    told = str(case.service.client(api_key=KEY, quota=None).check())
    assert "as expected" in told
    assert case.run("client.with_options(act_as=7, team_id=9).get_contact_account(1).id") == 1
    assert case.run("client.update_contact_account(1, name='A')").name == "A"
    with pytest.raises(replyio.ValidationError, match=r"patch_contact_account\(\)"):
        case.run("client.update_contact_account(1, city='Oslo')")
    assert case.run("client.patch_contact_account(1, city='Oslo')").name == "A"


@follows(("src/check/said.rs", "timeout="))
def a_check_for_which_the_quota_has_no_slot(case: Case) -> None:
    quota = replyio.Quota(per_minute=5, shared=False, clock_scale=60)
    quick = case.service.client(quota=quota, timeout=0.3)
    told = str(quick.check(write=1))
    assert "could not be sent" in told
    report = case.run(f"quick.with_options({found('timeout=', told)}60).check(write=1)", quick=quick)
    assert "could not be sent" not in str(report)


@follows()
def rows_that_are_not_done(case: Case) -> None:
    result = case.plan([{"id": 99, "city": "Oslo"}]).apply(progress=False)
    assert len(case.run(found(r"result\.failures", raised(result.raise_for_failures)), result=result)) == 1


@follows(("src/python/table.rs", "open_plan()"))
def a_plan_that_is_given_as_a_table(case: Case) -> None:
    case.plan(save_as=case.path)
    told = raised(lambda: case.plan(case.path))
    assert case.run(f"client.{begin_of('open_plan', told)}{case.path!r}).apply()").counts == {"changed": 5}


@follows()
def numbers_in_a_column_of_texts(case: Case) -> None:
    file = case.folder / "phones.csv"
    file.write_text("id,phone\n1,004721000001\n2,\n", encoding="utf-8")
    told = raised(lambda: case.plan(pd.read_csv(file)))
    frame = case.run(f"pd.read_csv({str(file)!r}, {found('dtype=str', told)})", pd=pd)
    assert [change["after"] for change in case.plan(frame).changes] == ["004721000001"]
    damaged = pd.read_csv(file)
    damaged["phone"] = case.run(f"phone.{found(r'astype.str.', told)}", phone=damaged["phone"])
    # pandas 2 also makes a text of the empty cell.
    assert case.plan(damaged).suspicious["phone"] in {1, 2}


@follows()
def one_row_that_is_no_table(case: Case) -> None:
    row: object = {"id": 1, "city": "Bergen"}
    assert case.plan(case.run(found(r"\[row\]", raised(lambda: case.plan(row))), row=row)).counts == {"pending": 1}
    series = pd.DataFrame(ROWS).iloc[0]
    told = raised(lambda: case.plan(series))
    assert case.plan([case.run(found(r"series\.to_dict\(\)", told), series=series)]).counts == {"pending": 1}


@follows()
def rows_that_come_from_an_async_generator(case: Case) -> None:
    async def rows() -> Any:
        for row in ROWS:
            yield row

    told = raised(lambda: case.plan(rows()))
    assert found(r"\[row async for row in rows\]", told)
    assert case.plan(asyncio.run(collected(rows()))).counts == {"pending": 5}


async def collected(rows: Any) -> list[Any]:
    return [row async for row in rows]


@follows()
def rows_of_a_database_without_names(case: Case) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        query = "SELECT 1 AS id, 'Bergen' AS city"
        told = raised(lambda: case.plan(connection.execute(query)))
        exec(found(r"connection\.row_factory = sqlite3\.Row", told), {"connection": connection, "sqlite3": sqlite3})  # noqa: S102
        assert case.plan(connection.execute(query)).counts == {"pending": 1}


@follows()
def a_column_whose_name_is_a_number(case: Case) -> None:
    frame = pd.DataFrame([[1, "Bergen", "x"]], columns=["id", 0, 1])
    told = raised(lambda: case.plan(frame, ignore=[0, 1]))
    text = found('"0"', told)
    renamed = found(r"\{.*\}", raised(lambda: case.plan(frame, columns={0: "city"})))
    assert case.plan(frame, ignore=["1"], columns=case.run(renamed)).counts == {"pending": 1}
    assert case.run(text) == "0"


@follows()
def a_plan_whose_rows_are_only_in_conflict(case: Case) -> None:
    plan = case.plan(save_as=case.path)
    for id in (1, 3):
        case.client.patch_contact_account(id, city="Molde")
    told = case.shell(f"replyio apply {case.path}").stderr
    assert "--retry-failed" not in told
    assert case.shell(found(r"replyio get 1(?=`)", told)).returncode == 0
    html = plan._repr_html_()
    assert "retry_failed" not in html
    call = re.search(r"<code[^>]*>(plan\.apply\(rows=.*?)</code>", html)
    assert call
    assert call[1].replace("&quot;", '"') == 'plan.apply(rows=[0, 2], on_conflict="overwrite")'
    command = found(r"replyio apply [^`]* --rows 0,2 --on-conflict overwrite(?=`)", told)
    done = case.shell(command)
    assert (done.returncode, done.stderr, plan.counts) == (0, "", {"changed": 5})


@follows(("python/replyio/_plan_text.py", 'on_conflict="overwrite"'))
def a_row_in_conflict_in_a_notebook(case: Case) -> None:
    plan = case.plan(ROWS[:1])
    case.client.patch_contact_account(1, city="Molde")
    result = plan.apply(progress=False)
    (call,) = re.findall(r"<code[^>]*>(result\.plan\.apply\(.*?\))</code>", result._repr_html_())
    assert case.run(call.replace("&quot;", '"'), result=result).counts == {"changed": 1}


@follows()
def a_table_that_was_corrected_after_a_part_of_it_was_written(case: Case) -> None:
    file = case.folder / "rows.csv"
    file.write_text("id,city\n1,Bergen\n99,Bergen\n", encoding="utf-8")
    plan = "replyio plan rows.csv --save-as"
    told = case.shell(f"{plan} a.replyplan").stderr
    hint = found(r"plan again with --replace", told).removeprefix("plan again with ")
    assert case.shell(f"{plan} a.replyplan {hint}").returncode == 0
    told = case.shell("replyio apply a.replyplan").stderr
    assert found(r"plan again with another --save-as", told)
    assert case.shell(f"{plan} b.replyplan").returncode == 0


@follows(("src/identity.rs", "replyio quota"))
def the_salt_of_the_quota(case: Case) -> None:
    """No hint, and yet a command: it shows what the salt is for."""
    assert case.shell("replyio quota").returncode == 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_hint_runs_when_it_is_followed(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Sandbox(accounts=ACCOUNTS) as service:
        SCENARIOS[name](Case(service, tmp_path, caplog))


def test_every_hint_in_the_sources_is_followed() -> None:
    sites = hint_sites.sites()
    new = sites - FOLLOWED
    assert not new, f"hints that no scenario follows: {dict(new)}"
    gone = FOLLOWED - sites
    assert not gone, f"hints that are not in the sources any more: {dict(gone)}"


def test_every_command_and_option_that_the_command_line_names_exists() -> None:
    from replyio.sandbox.__main__ import _parser

    parsers = [_cli_arguments.parser(name) for name in COMMANDS if name != "sandbox"] + [_parser(None)]
    options = {text for parser in parsers for action in parser._actions for text in action.option_strings}
    named = hint_sites.named_by_the_command()
    assert named
    assert {name for name in named if name.startswith("--")} <= options | {"--version"}
    assert {name.removeprefix("replyio ") for name in named if name.startswith("replyio ")} <= COMMANDS.keys()


def test_the_command_says_everything_in_its_own_words() -> None:
    """Calls and arguments of Python mean nothing to a person at a shell, except for objects of Python."""
    texts = hint_sites.told_in_rust()
    assert len(texts) > 30
    others = {"collect()", "compute()", "to_dict()", "to_pandas()", "drop=True", "ulimit"}
    for text in texts:
        left = set(hint_sites.hints(Words().of(text))) - others
        left = {hint for hint in left if not hint.startswith(("--", "replyio ", "auth="))}
        assert not left, f"{left} in: {Words().of(text)}"


def test_a_call_that_empties_a_field_is_a_command_that_the_parser_accepts() -> None:
    text = Words().of("to empty it, call patch_contact_account(7, description=None)")
    assert text == "to empty it, call `replyio patch 7 --null description`"
    _, name, *arguments = text.split("`")[1].split()
    options = _cli_arguments.parser(name).parse_args(arguments)
    assert (options.id, options.null) == (7, ["description"])
