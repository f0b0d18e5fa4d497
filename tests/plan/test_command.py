"""Plans on the command line, and every hint about plans, which runs when it is followed."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio import _again, _progress
from replyio._again import Opening
from replyio._counts import Counts
from replyio.sandbox import Fault, Sandbox
from support import environment

from .jobs import companies, do, moves, plan, puts

if TYPE_CHECKING:
    from collections.abc import Iterator

posix = pytest.mark.skipif(sys.platform == "win32", reason="the line is for a shell of POSIX")


@pytest.fixture
def service() -> Iterator[Sandbox]:
    with Sandbox(accounts=companies(10)) as sandbox:
        yield sandbox


@pytest.fixture
def many() -> Iterator[Sandbox]:
    """Has more accounts than a run updates at once."""
    with Sandbox(accounts=companies(24)) as sandbox:
        yield sandbox


class Command:
    """The command, in a folder with a table of four rows."""

    def __init__(self, service: Sandbox, folder: Path) -> None:
        self.service = service
        self.folder = folder
        table = "id,city,industry\n1,Bergen,\n2,Bergen,\n3,Bergen,\n4,Bergen,\n"
        (folder / "rows.csv").write_text(table, encoding="utf-8")

    def __call__(self, *words: str, **variables: str) -> tuple[int, Any, str]:
        """Exit code, data, and what was told."""
        done = subprocess.run(
            [sys.executable, "-m", "replyio", *words],
            env=environment(self.service, **variables), cwd=self.folder, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout or "null"), done.stderr

    def table(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What a person sees."""
        return subprocess.run(
            [sys.executable, "-m", "replyio", *words, "--format", "table"],
            env=environment(self.service), cwd=self.folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def counts(self, *words: str) -> dict[str, int]:
        """The counts that a command gives, which it ends well with."""
        code, rows, told = self(*words)
        assert code == 0, told
        return Counts(rows["counts"])


@pytest.fixture
def command(service: Sandbox, tmp_path: Path) -> Command:
    return Command(service, tmp_path)


def test_a_nightly_job_runs_again_with_resume(command: Command) -> None:
    again = ("plan", "rows.csv", "--save-as", "n.replyplan", "--resume")
    for _ in range(2):
        command.counts(*again)
        assert command.counts("apply", "n.replyplan") == {"changed": 4}
    assert len(puts(command.service)) == 4
    code, _, told = command("plan", "rows.csv", "--save-as", "n.replyplan", "--resume", "--mode", "fill")
    assert code == 1
    assert "created from other rows or options" in told
    assert "--replace" not in told
    assert "if_exists" not in told
    code, _, told = command("plan", "rows.csv", "--save-as", "n.replyplan", "--replace")
    assert (code, "may have written 4 rows" in told, "--save-as" in told) == (1, True, True)
    assert command("plan", "rows.csv", "--resume")[0] == 2


def test_a_part_of_a_plan_is_applied(command: Command) -> None:
    _, planned, _ = command("plan", "rows.csv", "--save-as", "n.replyplan", "--nulls", "clear")
    assert (planned.keys(), planned["requests"]) == ({"counts", "requests", "seconds"}, 8)
    code, _, told = command("apply", "n.replyplan", "--max-changes", "3")
    assert (code, "--max-changes=3 allows 3" in told) == (1, True), told
    code, _, told = command("apply", "n.replyplan", "--max-cleared", "3")
    assert (code, "would empty 4 fields" in told) == (1, True), told
    assert puts(command.service) == []
    assert command.counts("apply", "n.replyplan", "--limit", "1") == {"pending": 3, "changed": 1}
    assert command.counts("apply", "n.replyplan", "--rows", "2-3") == {"pending": 1, "changed": 3}
    changes = "row,id,field,before,after,status\n1,2,city,Oslo,Bergen,pending\n1,2,industry,Ships,,pending\n"
    (command.folder / "some.csv").write_text(changes, encoding="utf-8")
    assert command.counts("apply", "n.replyplan", "--rows", "some.csv", "--max-changes", "1") == {"changed": 4}
    code, _, told = command("apply", "n.replyplan", "--rows", "77")
    assert (code, told) == (2, "replyio: --rows: row 77 is not in the plan\n")
    code, _, told = command("apply", "n.replyplan", "--retry-failed", "--limit", "1")
    assert (code, told) == (2, "replyio: --retry-failed and --limit contradict each other\n")


def test_status_and_plans_need_no_key(command: Command) -> None:
    assert command.counts("plan", "rows.csv") == {"pending": 4}
    [kept] = replyio.plans()
    code, listed, told = command("plans", REPLY_API_KEY="", REPLY_BASE_URL="")
    assert (code, told) == (0, "")
    assert [(each["path"], each["rows"], each["source"]) for each in listed] == [(kept.path, "4 to change", "rows.csv")]
    code, shown, told = command("status", kept.path, REPLY_API_KEY="", REPLY_BASE_URL="")
    assert (code, Counts(shown.pop("counts")), told, shown) == (0, {"pending": 4}, "", {})
    assert command("plans", "--prune", REPLY_API_KEY="")[2] == "replyio: 1 plan removed\n"
    assert replyio.plans() == []


def test_a_table_of_plans_shows_whole_paths(command: Command) -> None:
    command.counts("plan", "rows.csv")
    [kept] = replyio.plans()
    assert len(kept.path) > 40
    assert command.table("plans").stdout.splitlines()[1].endswith(kept.path)


def test_pruning_says_which_plans_stay(command: Command) -> None:
    for _ in range(2):
        command.counts("plan", "rows.csv")
    command.counts("apply", replyio.plans()[0].path)
    told = "1 plan removed; plans that may have changed an account, are in use or cannot be read stay for 30 days"
    assert command("plans", "--prune")[2] == f"replyio: {told}\n"
    assert [kept.counts for kept in replyio.plans()] == [{"changed": 4}]


def test_what_has_nothing_to_show_is_said_in_words(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "n.replyplan")
    told = {"failures": "no failures", "suspicious": "no suspicious changes"}
    for view, expected in told.items():
        done = command.table("status", "n.replyplan", "--show", view)
        assert (done.stdout, done.stderr) == ("", f"replyio: {expected}\n")
    done = command.table("revert", "n.replyplan")
    expected = "replyio: nothing to revert: the plan has changed no account\n"
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1:]) == (0, "", expected.splitlines())
    command("apply", "n.replyplan")
    command("revert", "n.replyplan")
    told = command.table("revert", "n.replyplan").stderr.splitlines()[-1:]
    assert told == ["replyio: nothing to revert: no value that the plan wrote is left"]


@posix
@pytest.mark.parametrize("saved", [(), ("--save-as", "my plan.replyplan")])
def test_each_command_that_is_suggested_runs(saved: tuple[str, ...], command: Command) -> None:
    def followed(told: str) -> list[tuple[str, int]]:
        found = re.findall(r"`replyio ([^`]*)`", told)
        return [(words, command(*shlex.split(words))[0]) for words in found]

    code, _, told = command("plan", "rows.csv", *saved)
    assert code == 0
    assert [code for _, code in followed(told)] == [0, 0], told
    assert command.service.accounts[4].city == "Bergen"
    command.service.add_fault(Fault(method="PUT", status=400, id=1, times=1))
    (command.folder / "rows.csv").write_text("id,city\n1,Molde\n2,Molde\n", encoding="utf-8")
    command("plan", "rows.csv", "--save-as", "b.replyplan")
    code, _, told = command("apply", "b.replyplan")
    assert code == 1
    hints = followed(told)
    assert [words.split()[0] for words, _ in hints] == ["status", "apply"], told
    assert hints[-1][1] == 0
    assert command("apply", "b.replyplan")[::2] == (0, "")
    told = command("apply", "b.replyplan", "--limit", "0")[2]
    assert told == ""


def hints_of(shown: Any) -> list[str]:
    found = re.findall(r"<code[^>]*>(.*?)</code>", shown._repr_html_())
    return [html.unescape(code) for code in found]


def test_every_hint_in_a_notebook_runs(service: Sandbox) -> None:
    with service.client(quota=None, max_attempts=1) as client:
        made = plan(client, "sync", [*moves([1, 2, 3, 4, 5]), {"id": 99, "city": "x"}])
        client.patch_contact_account(2, city="Molde")
        service.add_fault(Fault(method="PUT", status=400, id=1, times=1))
        service.add_fault(Fault(method="PUT", close=True, applied=True, id=3))
        seen: set[str] = set()

        def follow(shown: Any, **names: Any) -> None:
            for hint in hints_of(shown):
                seen.add(hint.rpartition("(")[0].rpartition(".")[2])
                call = hint.replace("()", "(progress=False)") if re.search(r"(apply|failed|revert)\(\)", hint) else hint
                eval(call, {"client": client, **names})  # noqa: S307 - our own hints
                assert eval(hint.rpartition("(")[0] or hint, {"client": client, **names})  # noqa: S307

        first = do(made, "apply", limit=4)
        assert first.counts == {"failed": 1, "conflict": 1, "unknown": 1, "changed": 1, "pending": 1, "not_found": 1}
        assert hints_of(first) == [
            "result.failures.to_pandas()", "result.plan.apply()", "result.retry_failed()", "result.revert()",
        ]  # fmt: skip
        service.clear_faults()
        follow(first, result=first)
        another = plan(client, "sync", moves([6, 7, 8]))
        follow(another, plan=another)
        read = replyio.read_plan(another.path)
        follow(read, plan=read)
        partly = plan(client, "sync", moves([6, 7, 8], "Molde"))
        do(partly, "apply", limit=1)
        follow(partly, plan=partly)
    assert seen == {"to_pandas", "apply", "retry_failed", "revert"}


def test_a_run_that_was_stopped_says_what_resumes_it(service: Sandbox) -> None:
    with service.client(quota=None) as client:
        made = plan(client, "sync", moves([1, 2]))
        told = _again.how_to_go_on("apply", Opening(made.path), {"done": 0, "rows": 2})
        call = re.search(r"client\.open_plan\(.*?\)\.apply\(\)", told)
        assert call
        assert eval(call[0].replace("apply()", "apply(progress=False)"), {"client": client}).counts == {"changed": 2}  # noqa: S307
        words = shlex.split(told.rpartition("on the command line: replyio ")[2])
        variables = environment(service, REPLY_API_KEY="a-key-for-the-sandbox")
        done = subprocess.run([sys.executable, "-m", "replyio", "status", *words[1:]], env=variables, check=False)
        assert (words[0], done.returncode) == ("apply", 0)


@pytest.mark.parametrize("in_shell", [False, True])
@pytest.mark.parametrize(
    ("action", "options", "written"),
    [
        ("apply", {"rows": range(12), "max_changes": 12}, 12),
        ("apply", {"rows": [*range(11), 20]}, 12),
        ("apply", {"limit": 12}, 12),
        ("apply", {"on_conflict": "overwrite"}, 24),
        ("retry_failed", {}, 24),
    ],
)
def test_the_line_after_a_stopped_run_ends_what_was_asked_for_and_writes_no_other_row(
    many: Sandbox,
    capsys: pytest.CaptureFixture[str],
    action: str,
    options: dict[str, Any],
    written: int,
    *,
    in_shell: bool,
) -> None:
    def stop(watch: _progress._Watch) -> None:
        if watch._job.progress()["counts"]:
            raise KeyboardInterrupt

    with many.client(quota=None, max_attempts=1, api_key="a-key-for-the-sandbox") as client:
        made = plan(client, "sync", moves(range(1, 25)))
        if action == "retry_failed":
            many.add_fault(Fault(method="PUT", status=400))
            assert do(made, "apply").counts == {"failed": 24}
            many.clear_faults()
        if "on_conflict" in options:
            for id in range(1, 25):
                client.patch_contact_account(id, city="Molde")
            assert do(made, "apply").counts == {"conflict": 24}
        many.add_fault(Fault(method="PUT", delay=0.3, applied=True))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("replyio._progress._POLL", 0.001)
            patch.setattr("replyio._progress._Watch.update", stop)
            with pytest.raises(KeyboardInterrupt):
                getattr(made, action)(progress=False, **options)
        many.clear_faults()
        assert 0 < made.counts["changed"] < written
        told = re.search(
            r"resume with (client\..*), or on the command line: (replyio apply .*)", capsys.readouterr().err
        )
        assert told
        if in_shell:
            variables = environment(many, REPLY_API_KEY="a-key-for-the-sandbox")
            words = [sys.executable, "-m", *shlex.split(told[2])]
            assert subprocess.run(words, env=variables, check=False).returncode == 0
        else:
            eval(told[1], {"client": client})  # noqa: S307 - our own hint
        assert made.counts["changed"] == written


def test_a_stopped_revert_is_resumed_and_not_reverted(service: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """The hint names the revert's own file: to revert that one would write the plan's values again."""
    with service.client(quota=None) as client:
        result = do(plan(client, "sync", moves(range(1, 9))), "apply")

        def stop(*_: Any) -> None:
            raise SystemExit

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("replyio._progress._Watch.update", stop)
            service.add_fault(Fault(method="GET", delay=1, times=1))
            with pytest.raises(SystemExit):
                result.revert(progress=False)
        service.clear_faults()
        call = re.search(r"client\.open_plan\('.*\.revert\.replyplan'\)\.apply\(\)", capsys.readouterr().err)
        assert call
        eval(call[0].replace("apply()", "apply(progress=False)"), {"client": client})  # noqa: S307
    assert {account.city for account in service.accounts.values()} == {"Oslo"}


def test_a_run_that_fails_after_an_unknown_row_ends_with_the_code_of_unknown_rows(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "u.replyplan")
    command.service.add_fault(Fault(method="PUT", reset=True, applied=True, times=1))
    command.service.add_fault(Fault(method="PUT", status=401))
    code, _, told = command("apply", "u.replyplan")
    assert (code, "401" in told) == (3, True), told
    # The next run cannot read the account either.
    command.service.add_fault(Fault(status=401))
    assert command("apply", "u.replyplan")[0] == 3
    command.service.clear_faults()
    assert command.counts("apply", "u.replyplan") == {"changed": 4}


def test_a_revert_that_fails_ends_with_the_code_of_its_own_unknown_rows(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "v.replyplan")
    command.counts("apply", "v.replyplan")
    command.service.add_fault(Fault(method="PUT", reset=True, applied=True, times=1))
    command.service.add_fault(Fault(method="PUT", status=401))
    assert command("revert", "v.replyplan")[0] == 3
    # The next run cannot read the account either.
    command.service.add_fault(Fault(status=401))
    assert command("revert", "v.replyplan")[0] == command("apply", "v.revert.replyplan")[0] == 3


def test_a_revert_that_fails_does_not_end_with_the_code_of_the_plans_unknown_rows(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "w.replyplan")
    command.service.add_fault(Fault(method="PUT", reset=True, applied=True, times=1))
    command.service.add_fault(Fault(method="PUT", status=401))
    assert command("apply", "w.replyplan")[0] == 3
    command.service.add_fault(Fault(status=401))
    assert command("revert", "w.replyplan")[0] == 1


def test_a_link_to_no_file_is_no_place_for_a_plan(command: Command) -> None:
    link = command.folder / "l.replyplan"
    link.symlink_to(command.folder / "gone.replyplan")
    for options in ((), ("--resume",), ("--replace",)):
        code, _, told = command("plan", "rows.csv", "--save-as", "l.replyplan", *options)
        assert code == 1
        assert told.endswith(
            "is a symbolic link to a file that does not exist; delete the link, or choose another name with --save-as\n"
        )


@posix
def test_a_name_that_leaves_no_room_for_a_revert_is_refused_before_any_request(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(command.folder)
    told = "the name is too long for this file system"
    allowed = os.pathconf(".", "PC_NAME_MAX") - 65
    longest = f"{'n' * (allowed - len('.replyplan'))}.replyplan"
    with command.service.client(quota=None) as client:
        with pytest.raises(replyio.PlanError, match=told):
            plan(client, "sync", moves([1]), save_as=f"n{longest}")
        assert not command.service.requests
        made = plan(client, "sync", moves([1]), save_as=longest)
        made.apply(progress=False)
        reverted = made.revert(progress=False)
        assert reverted.counts == reverted.revert(progress=False).counts == {"changed": 1}
    command.service.clear_requests()
    for name in (f"n{longest}", f"{'n' * 300}.replyplan"):
        for more in ((), ("--resume",), ("--replace",)):
            code, _, said = command("plan", "rows.csv", "--save-as", name, *more)
            assert (code, told in said, "disk" in said) == (1, True, False), said
    assert not command.service.requests
    assert [file.name for file in command.folder.glob("nn*") if "revert" not in file.name] == [longest]


def test_an_empty_range_of_rows_is_refused(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "r.replyplan")
    code, _, told = command("apply", "r.replyplan", "--rows", "0, 3-1")
    assert (code, told) == (2, "replyio: --rows: 3-1 is empty, because a range begins with its lower number\n")
    assert puts(command.service) == []


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write any file")
def test_a_plan_that_cannot_be_written_is_called_read_only(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "o.replyplan")
    (command.folder / "o.replyplan").chmod(0o400)
    code, _, told = command("apply", "o.replyplan")
    assert code == 1
    assert "is read-only or belongs to another user; make all of them writable" in told


def test_a_revert_that_lacks_its_log_is_recovered_with_its_plan(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "l.replyplan")
    command.counts("apply", "l.replyplan")
    code = (
        "import os, replyio\n"
        "plan = replyio.ReplyClient(quota=None).open_plan('l.replyplan')\n"
        "plan.revert(progress=lambda state: os._exit(9) if state['done'] else None)"
    )
    command.service.add_fault(Fault(method="PUT", delay=0.2))
    subprocess.run(
        [sys.executable, "-c", code], env=environment(command.service), cwd=command.folder, check=False, timeout=60
    )
    command.service.clear_faults()
    (command.folder / "l.revert.replyplan-wal").unlink()
    status, _, told = command("revert", "l.replyplan")
    assert (status, "l.revert.replyplan-wal, which is missing or not readable" in told) == (1, True), told
    assert command.counts("revert", "l.replyplan", "--recover").get("unknown", 0) == 0
    assert {command.service.accounts[id].city for id in range(1, 5)} == {"Oslo"}


def unprivileged() -> list[str] | None:
    """The begin of a command that may write only what its rights allow; `None` if there is none."""
    if os.geteuid() != 0:
        return []
    found = shutil.which("setpriv")
    return [found, "--bounding-set=-dac_override,-dac_read_search,-fowner"] if found else None


@pytest.mark.skipif(os.name == "nt" or unprivileged() is None, reason="root may write any file")
def test_a_plan_of_a_killed_run_that_may_not_be_written_is_to_be_copied_and_the_copy_works(command: Command) -> None:
    folder, copy = command.folder / "theirs", command.folder / "mine"
    folder.mkdir()
    copy.mkdir()
    command.counts("plan", "rows.csv", "--save-as", "theirs/k.replyplan")
    code = (
        "import os, replyio\n"
        "plan = replyio.ReplyClient(quota=None).open_plan('theirs/k.replyplan')\n"
        "plan.apply(progress=lambda state: os._exit(9) if state['done'] else None)"
    )
    command.service.add_fault(Fault(method="PUT", delay=0.2))
    subprocess.run(
        [sys.executable, "-c", code], env=environment(command.service), cwd=command.folder, check=False, timeout=60
    )
    command.service.clear_faults()
    (folder / "k.replyplan-shm").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    try:
        for words in (["status"], ["status", "--recover"], ["apply"], ["revert"]):
            done = subprocess.run(
                [*(unprivileged() or []), sys.executable, "-m", "replyio", *words, "theirs/k.replyplan"],
                env=environment(command.service), cwd=command.folder, capture_output=True, text=True, timeout=60,
                check=False,
            )  # fmt: skip
            assert done.returncode == 1, done
            assert "read-only or belongs to another user" in done.stderr, done
            assert "copy the file, its -wal if there is one, and its reverts to another folder" in done.stderr
        for file in folder.iterdir():
            shutil.copyfile(file, copy / file.name)
    finally:
        folder.chmod(0o755)
    assert command("status", "mine/k.replyplan")[1]["counts"]["changed"] >= 1
    assert command.counts("apply", "mine/k.replyplan") == {"changed": 4}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_run_whose_outcome_cannot_be_printed_says_that_it_has_ended(command: Command) -> None:
    command.counts("plan", "rows.csv", "--save-as", "f.replyplan")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "replyio", "apply", "f.replyplan"],
            env=environment(command.service), cwd=command.folder, stdout=full, stderr=subprocess.PIPE, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "replyio: the output: No space left on device; the run has ended, and `replyio status f.replyplan` shows the "
        "outcome\n"
    )
    assert command.counts("status", "f.replyplan") == {"changed": 4}
