"""Each command and call that is printed runs exactly as it is printed, and ends well: with the settings of its run."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio._again import Opening
from replyio._cli_words import Words
from replyio.sandbox import Deviations, Fault, Sandbox
from support import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the commands are for a shell of POSIX")

COMMAND = re.compile(r"`(replyio [^`]*)`")
ROWS = [{"id": id, "city": "Bergen"} for id in range(1, 13)]
SETTINGS = "--key-file 'my key' --act-as a@b.example --team-id 9 --timeout 60"


class Shell:
    """A shell in a folder with a table of twelve rows and two files with keys, and without a key in a variable."""

    def __init__(self, service: Sandbox, folder: Path) -> None:
        self.service = service
        self.folder = folder
        (folder / "rows.csv").write_text("id,city\n" + "".join(f"{id},Bergen\n" for id in range(1, 13)))
        for name, key in (("my key", "k1"), ("k2", "k2")):
            (folder / name).write_text(key)
            (folder / name).chmod(0o600)

    def start(self, words: str) -> subprocess.Popen[str]:
        script = f'replyio() {{ "{sys.executable}" -m replyio "$@"; }}\n{words}'
        variables = environment(self.service, REPLY_API_KEY="")
        return subprocess.Popen(
            ["/usr/bin/env", "bash", "-c", script], env=variables, cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def __call__(self, words: str) -> tuple[int, str, str]:
        """Exit code, data, and what was told."""
        with self.start(words) as running:
            out, told = running.communicate(timeout=60)
        return running.returncode, out, told

    def done(self, words: str) -> str:
        code, _, told = self(words)
        assert code == 0, told
        return told

    def stopped(self, words: str, puts: int, delay: float = 0.5) -> str:
        """What a command tells that was stopped after some updates."""
        self.service.add_fault(Fault(method="PUT", delay=delay))
        begun = self.puts()
        with self.start(words) as running:
            while self.puts() < begun + puts and running.poll() is None:
                time.sleep(0.01)
            os.killpg(running.pid, signal.SIGINT)
            _, told = running.communicate(timeout=60)
        self.service.clear_faults()
        return told

    def lost(self, action: str, **options: Any) -> None:
        """Ends a run whose answers are lost. The command would send each update again."""
        client = self.service.client(quota=None, api_key="k2", max_attempts=1)
        plan = client.open_plan(self.folder / "p.replyplan")
        assert getattr(plan, action)(progress=False, **options).counts["unknown"]
        self.service.clear_faults()

    def puts(self) -> int:
        return sum(request.method == "PUT" for request in self.service.requests)

    @property
    def cities(self) -> dict[str | None, int]:
        return dict(Counter(account.city for account in self.service.accounts.values()))


@pytest.fixture
def service() -> Iterator[Sandbox]:
    accounts = [{"id": id, "name": f"Company {id}", "city": "Oslo"} for id in range(1, 13)]
    with Sandbox(accounts=accounts, api_keys=["k1", "k2"]) as sandbox:
        yield sandbox


@pytest.fixture
def shell(service: Sandbox, tmp_path: Path) -> Shell:
    return Shell(service, tmp_path)


def test_a_command_has_the_settings_of_the_command_that_names_it(shell: Shell) -> None:
    told = shell.done(f"replyio plan rows.csv --save-as p.replyplan {SETTINGS}")
    status, apply = COMMAND.findall(told)
    shell.done(status)
    shell.service.add_fault(Fault(method="PUT", status=400, id=1, times=1))
    code, _, told = shell(f"{apply} --limit 3")
    assert code == 1
    status, retry, rest = COMMAND.findall(told)
    assert retry.endswith("--key-file 'my key' --timeout 60") or "--key-file 'my key'" in retry
    assert shell(rest)[0] == 1
    assert shell.cities == {"Oslo": 1, "Bergen": 11}
    shell.done(retry)
    assert shell.cities == {"Bergen": 12}
    assert "k1" not in told


def test_the_options_of_a_run_are_repeated_but_not_those_for_some_rows(shell: Shell) -> None:
    shell.done(f"replyio plan rows.csv --save-as p.replyplan {SETTINGS}")
    *_, rest = COMMAND.findall(shell.done(f"replyio apply p.replyplan --rows 0 --on-conflict overwrite {SETTINGS}"))
    assert "overwrite" not in rest
    run = f"replyio apply p.replyplan --limit 2 --on-unknown-member clear --max-changes 2 {SETTINGS}"
    *_, rest = COMMAND.findall(shell.done(run))
    assert ("--on-unknown-member clear" in rest, "--max" in rest, "--limit" in rest) == (True, False, False)
    shell.done(rest)
    assert shell.cities == {"Bergen": 12}


@pytest.mark.parametrize("is_revert", [False, True])
def test_the_line_after_a_stopped_command_has_its_settings(shell: Shell, is_revert: bool) -> None:
    shell.done(f"replyio plan rows.csv --save-as p.replyplan {SETTINGS}")
    other = SETTINGS.replace("'my key'", "k2") + " --new-key"
    if is_revert:
        shell.done(f"replyio apply p.replyplan {other}")
    told = shell.stopped(f"replyio {'revert' if is_revert else 'apply'} p.replyplan {other}", puts=2)
    (again,) = COMMAND.findall(told)
    assert ("--new-key" in again, "--key-file k2" in again) == (True, True)
    shell.done(again)
    assert shell.cities == ({"Oslo": 12} if is_revert else {"Bergen": 12})


def test_a_nightly_job_whose_key_was_rotated_is_told_a_command_that_runs(shell: Shell) -> None:
    plan = "replyio plan rows.csv --save-as p.replyplan --resume --key-file"
    shell.done(f"{plan} 'my key'")
    code, _, told = shell(f"{plan} k2")
    assert code == 1
    (apply,) = COMMAND.findall(told)
    shell.done(apply)
    assert shell.cities == {"Bergen": 12}
    shell.service.set_account({"id": 1, "name": "Company 1", "city": "Oslo"})
    shell.done("replyio plan rows.csv --save-as q.replyplan --key-file 'my key'")
    assert "or with --new-key if" in shell("replyio apply q.replyplan --key-file k2")[2]
    shell.done("replyio apply q.replyplan --key-file k2 --new-key")


def test_a_plan_of_another_user_names_the_user_and_the_team(shell: Shell) -> None:
    for settings in ("", "--act-as 7", "--act-as a@b.example --team-id 9"):
        shell.done(f"replyio plan rows.csv --save-as p.replyplan --replace --key-file k2 {settings}")
        told = shell("replyio apply p.replyplan --key-file k2 --act-as 8 --team-id 1")[2]
        hint = told.rpartition("; open it ")[2]
        given = " ".join(re.findall(r"with (--\S+ \S+)", hint))
        assert given == settings
        shell.done(f"replyio apply p.replyplan --limit 0 --key-file k2 {given}")


def test_a_plan_of_another_user_names_them_in_python(service: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "p.replyplan"
    client = service.client(quota=None, api_key="k1", act_as="a@b.example")
    client.plan_contact_account_updates(ROWS, save_as=path, progress=False)
    with pytest.raises(replyio.PlanError) as caught:
        client.with_options(act_as=7).open_plan(path)
    assert str(caught.value).endswith('; open it with act_as="a@b.example" and without team_id=')


@pytest.mark.parametrize("command", ["revert", "status"])
def test_a_command_that_cannot_write_says_to_repeat_it(shell: Shell, command: str) -> None:
    key = "" if command == "status" else " --key-file k2"
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.done("replyio apply p.replyplan --limit 6 --key-file k2")
    code, _, told = shell(f"ulimit -f 4; replyio {command} p.replyplan{key}")
    if command == "status" and code == 0:
        return
    assert "then repeat the command" in told
    assert "apply" not in told.replace("p.replyplan", "")
    shell(f"replyio {command} p.replyplan{key}")
    assert shell.cities == ({"Oslo": 12} if command == "revert" else {"Oslo": 6, "Bergen": 6})


def reverted(shell: Shell) -> None:
    """A plan that was reverted, with a failed row and rows that are left."""
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.service.add_fault(Fault(method="PUT", status=403, id=3, times=1))
    shell("replyio apply p.replyplan --limit 4 --key-file k2")
    shell.done("replyio revert p.replyplan --key-file k2")
    assert shell.cities == {"Oslo": 12}


def test_a_plan_that_was_reverted_is_never_offered_to_a_run(shell: Shell) -> None:
    reverted(shell)
    told = [
        shell("replyio plan rows.csv --save-as p.replyplan --resume --key-file k2")[2],
        shell("replyio apply p.replyplan --rows 4 --key-file k2")[2],
        "".join(shell("replyio status p.replyplan --show failures --format table")[1:]),
    ]
    taken = shell("replyio plan rows.csv --save-as p.replyplan --key-file k2")[2]
    assert taken.endswith("already exists; choose another name with --save-as\n")
    for each in told:
        assert [words for words in COMMAND.findall(each) if not words.startswith("replyio status")] == [], each
    assert all("reverted by p.revert.replyplan" in each for each in told[:2]), told
    plan = replyio.read_plan(shell.folder / "p.replyplan")
    client = shell.service.client(quota=None, api_key="k2")
    result = client.open_plan(plan.path).apply(rows=[5], progress=False)
    for shown in (plan, client.open_plan(plan.path), result):
        assert re.search(r"apply\(|retry_failed\(", shown._repr_html_()) is None


def test_a_row_that_nobody_knows_of_is_not_offered_to_a_run_after_a_revert(shell: Shell) -> None:
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.service.add_fault(Fault(method="PUT", close=True, applied=True, id=1))
    shell.lost("apply", limit=2)
    shell.done("replyio revert p.replyplan --key-file k2")
    told = "".join(shell("replyio status p.replyplan --show failures --format table")[1:])
    assert "replyio apply" not in told


def test_a_row_of_a_revert_is_sent_again_by_a_command_that_names_the_revert(shell: Shell) -> None:
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.done("replyio apply p.replyplan --key-file k2")
    shell.service.add_fault(Fault(method="PUT", close=True, id=4))
    shell.lost("revert")
    shell.service.set_account({"id": 4, "name": "Company 4", "city": "Molde"})
    _, out, _ = shell("COLUMNS=400 replyio apply p.revert.replyplan --show failures --format table --key-file k2")
    (again,) = COMMAND.findall(out)
    assert again.startswith("replyio apply p.revert.replyplan --rows 3 --on-conflict overwrite")
    assert "the plan of the revert" not in out
    shell.done(again)
    assert shell.cities == {"Oslo": 12}


def test_a_limit_that_refused_a_call_is_not_in_the_call_that_is_printed(service: Sandbox) -> None:
    client = service.client(quota=None, api_key="k1")
    with pytest.raises(replyio.PlanError) as caught:
        client.patch_contact_accounts(ROWS, max_changes=2, max_cleared=0, progress=False)
    (call,) = re.findall(r"client\.open_plan\(.*\)\.apply\(.*\)", str(caught.value))
    result = eval(call.replace("apply(", "apply(progress=False, "), {"client": client})  # noqa: S307 - our own hint
    assert (result.counts, "max_cleared=0" in call) == ({"changed": 12}, True)


def test_the_line_after_a_stopped_command_does_not_name_a_limit_of_0(shell: Shell) -> None:
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.service.add_fault(Fault(method="PUT", close=True, applied=True, id=1))
    shell.lost("apply", limit=1)
    # The run ends before the answer, so its row has used up the limit.
    told = shell.stopped("replyio apply p.replyplan --limit 1 --key-file k2", puts=1, delay=20)
    assert replyio.read_plan(shell.folder / "p.replyplan").counts["unknown"] == 2
    assert COMMAND.findall(told) == ["replyio status p.replyplan"], told
    # An unknown row of an earlier run has used up nothing of the limit of this one.
    told = shell.stopped("replyio apply p.replyplan --limit 12 --key-file k2", puts=2)
    (again,) = COMMAND.findall(told)
    shell(again)
    assert shell.cities == {"Bergen": 12}


def test_a_path_with_the_name_of_an_argument_is_printed_as_it_is(shell: Shell) -> None:
    for folder in ("team_id=7", "rows=", "base_url"):
        (shell.folder / folder).mkdir()
        plan = f"replyio plan rows.csv --save-as {folder}/p.replyplan --key-file k2"
        first = shell.done(plan)
        code, _, told = shell(plan)
        assert code == 2
        assert told.count(f"{folder}/p.replyplan") == 2
        for words in COMMAND.findall(first) + COMMAND.findall(told)[:1]:
            shell(f"{words}{'' if 'key-file' in words or 'status' in words else ' --key-file k2'}")
        shell(f"replyio revert {folder}/p.replyplan --key-file k2")
        told = shell(f"replyio apply {folder}/p.replyplan --key-file k2")[2]
        assert f"{folder}/p.replyplan was reverted by {folder}/p.revert.replyplan" in told


def test_a_name_that_needs_quotes_is_quoted_in_a_message(shell: Shell) -> None:
    name = "it's: a\x1bb.replyplan"
    (shell.folder / name).write_bytes(b"")
    plan = "replyio plan rows.csv --key-file k2 --save-as $'it\\'s: a\\x1bb.replyplan'"
    shell.done(f"{plan} --resume")
    code, _, told = shell(plan)
    assert code == 2
    (apply,) = COMMAND.findall(told)
    shell.done(apply)
    assert shell.cities == {"Bergen": 12}


def test_a_file_that_is_no_plan_is_not_offered_to_a_run(shell: Shell) -> None:
    (shell.folder / "x.replyplan").write_text("hi\n")
    (shell.folder / "d").mkdir()
    for name in ("x.replyplan", "d"):
        code, _, told = shell(f"replyio plan rows.csv --save-as {name} --key-file k2")
        assert code == 2
        assert told.endswith("already exists and is not a plan; choose another name with --save-as\n")


def test_a_call_that_is_printed_after_a_change_of_the_directory_names_the_file(
    service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    client = service.client(quota=None, api_key="k1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    plan = client.plan_contact_account_updates(ROWS, save_as="p.replyplan", progress=False)
    for folder, path in ((tmp_path, "p.replyplan"), (tmp_path / "elsewhere", str(tmp_path / "p.replyplan"))):
        monkeypatch.chdir(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("replyio._progress._Watch.update", stop)
            service.add_fault(Fault(method="GET", delay=1, times=1))
            with pytest.raises(KeyboardInterrupt):
                plan.apply(progress=False)
        service.clear_faults()
        (call,) = re.findall(r"resume with (client\..*), or", capsys.readouterr().err)
        assert call == f"client.open_plan({path!r}).apply()"
        assert eval(call.replace("apply()", "counts"), {"client": client})  # noqa: S307 - our own hint


def test_the_time_of_an_attempt_is_no_option_of_the_command() -> None:
    error = replyio.ReplyError("get failed: it took too long; hint: allow each attempt more time with attempt_timeout=")
    assert Words().message(error) == "get failed: it took too long"


def enter(service: Sandbox, id: int) -> None:
    """Does what a newer program can: it sends a member that this version does not know."""
    account = service.accounts[id].to_dict(by_alias=True)
    body = {"name": account["name"], "city": account["city"], "tier": "gold"}
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    headers = {"X-API-Key": "k1", "Content-Type": "application/json"}
    connection.request("PUT", f"/v3/contact-accounts/{id}", json.dumps(body), headers)
    assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("is_revert", [False, True])
def test_a_run_that_an_account_stops_names_the_command_for_the_others(is_revert: bool, tmp_path: Path) -> None:
    accounts = [{"id": id, "name": f"Company {id}", "city": "Oslo"} for id in range(1, 13)]
    deviations = Deviations(unknown_members={"tier": "gold"})
    with Sandbox(accounts=accounts, api_keys=["k1"], deviations=deviations) as service:
        shell = Shell(service, tmp_path)
        (tmp_path / "rows=").mkdir()
        shell.done(f"replyio plan rows.csv --save-as rows=/p.replyplan {SETTINGS}")
        clear = f"--on-unknown-member clear {SETTINGS}"
        shell(f"replyio apply rows=/p.replyplan {'' if is_revert else '--rows 1'} {clear}")
        if is_revert:
            enter(service, 1)
        else:
            (tmp_path / "others.csv").write_text("id,country\n" + "".join(f"{id},Norway\n" for id in range(3, 13)))
            shell(f"replyio plan others.csv --save-as o.replyplan {SETTINGS}")
            shell(f"replyio apply o.replyplan {clear}")
        code, _, told = shell(f"replyio {'revert' if is_revert else 'apply'} rows=/p.replyplan {SETTINGS}")
        assert code == 1
        assert "would clear tier" in told
        assert "(" not in told.replace("(row ", ""), "no call of Python"
        (command,) = COMMAND.findall(told)
        assert told.endswith(f"`{command}` writes the other rows without this account\n")
        file, rows = ("rows=/p.revert.replyplan", "1-11") if is_revert else ("rows=/p.replyplan", "2-11")
        assert command.startswith(f"replyio apply {file} --rows {rows} --")
        assert sorted(command.split()[5:]) == sorted(SETTINGS.split())
        assert "1 row left" in shell(command)[2]
        assert service.accounts[1].extra["tier"] == "gold"
        assert shell.cities == ({"Oslo": 11, "Bergen": 1} if is_revert else {"Oslo": 1, "Bergen": 11})


def test_a_revert_whose_accounts_are_gone_is_not_told_to_correct_a_table(shell: Shell) -> None:
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.done("replyio apply p.replyplan --limit 2 --key-file k2")
    body = {"status": 404, "title": "Not Found", "code": "contactAccount.notFound"}
    shell.service.add_fault(Fault(id=1, status=404, body=body))
    code, _, told = shell("replyio revert p.replyplan --key-file k2")
    assert (code, "1 row cannot be restored, because its account was not found" in told) == (1, True), told
    assert all(words not in told for words in ("table", "plan again", "--replace", "--save-as"))
    (status,) = COMMAND.findall(told)
    assert "404 Not Found" in shell(f"{status} --format json")[1]


def test_a_conflict_of_a_revert_is_told_in_words_of_a_revert(shell: Shell) -> None:
    shell.done(f"replyio plan rows.csv --save-as p.replyplan {SETTINGS}")
    shell.done(f"replyio apply p.replyplan --limit 2 {SETTINGS}")
    shell.service.set_account({"id": 1, "name": "Company 1", "city": "Molde"})
    code, _, told = shell(f"replyio revert p.replyplan {SETTINGS}")
    assert code == 1
    assert "restores the previous value instead" in told
    status, get, apply = COMMAND.findall(told)
    assert get == f"replyio get 1 {SETTINGS}"
    assert '"city": "Molde"' in shell(f"{get} --format json")[1]
    assert "apply(" not in "".join(shell(status)[1:])
    shell.done(apply)
    assert shell.cities == {"Oslo": 12}


def test_a_revert_that_was_reverted_is_told_to_revert_that_revert(shell: Shell) -> None:
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.done("replyio apply p.replyplan --limit 2 --key-file k2")
    body = {"status": 400, "title": "Bad Request", "code": "validation"}
    shell.service.add_fault(Fault(method="PUT", status=400, body=body, id=2, times=1))
    assert shell("replyio revert p.replyplan --key-file k2")[0] == 1
    shell.done("replyio revert p.revert.replyplan --key-file k2")
    told = shell("replyio apply p.revert.replyplan --rows 0 --key-file k2")[2]
    assert "p.revert.revert.replyplan is newer and undoes this revert, so no run sends its rows" in told
    assert "table" not in told
    *_, command = COMMAND.findall(told)
    assert command == "replyio revert p.revert.revert.replyplan --key-file k2"
    shell.done(command)
    shell.done("replyio apply p.revert.replyplan --retry-failed --key-file k2")
    assert shell.cities == {"Oslo": 12}


def test_the_status_of_a_plan_that_was_reverted_says_so(shell: Shell) -> None:
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.done("replyio apply p.replyplan --key-file k2")
    assert shell.done("replyio status p.replyplan") == ""
    shell.done("replyio revert p.replyplan --key-file k2")
    told = shell.done("replyio status p.replyplan")
    assert told.startswith("replyio: the plan was reverted by p.revert.replyplan, or is being reverted; `replyio ")
    (status,) = COMMAND.findall(told)
    assert "changed" in shell(f"{status} --format csv")[1]
    shell.done("replyio revert p.revert.replyplan --key-file k2")
    assert shell.done("replyio status p.replyplan") == ""
    told = shell.done("replyio status p.revert.replyplan")
    assert told.startswith("replyio: p.revert.revert.replyplan is newer and undoes this revert, or is being applied; ")


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
@pytest.mark.parametrize("view", ["rows", "failures"])
def test_each_form_of_the_rows_names_commands(form: str, view: str, shell: Shell) -> None:
    shell.done("replyio plan rows.csv --save-as p.replyplan --key-file k2")
    shell.service.set_account({"id": 1, "name": "Company 1", "city": "Molde"})
    shell("replyio apply p.replyplan --key-file k2")
    out = " ".join(shell(f"COLUMNS=400 replyio status p.replyplan --show {view} --format {form}")[1].split())
    assert "apply(" not in out
    # A table shows no more of a long text.
    if (form, view) != ("table", "rows"):
        assert "anyway, use `replyio apply p.replyplan --rows 0 --on-conflict overwrite`" in out


@pytest.mark.parametrize("arguments", [["update", "4711", "--name", "Acme"], ["patch", "4711", "--city", "Molde"]])
def test_the_account_that_could_not_be_printed_is_shown_with_the_same_settings(
    arguments: list[str], shell: Shell
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    shell.service.set_account({"id": 4711, "name": "Acme", "city": "Oslo"})
    told = shell(f"replyio {' '.join(arguments)} {SETTINGS} > /dev/full")[2]
    (get,) = COMMAND.findall(told)
    assert get == f"replyio get 4711 {SETTINGS}"
    shell.done(get)


def test_a_plan_that_is_given_as_a_table_and_a_table_as_a_plan_are_told_with_the_settings(shell: Shell) -> None:
    shell.done(f"replyio plan rows.csv --save-as p.replyplan {SETTINGS}")
    plan = COMMAND.findall(shell(f"replyio apply rows.csv {SETTINGS}")[2])
    status, apply = COMMAND.findall(shell(f"replyio plan p.replyplan {SETTINGS}")[2])
    for words in (*plan, status, apply):
        shell.done(words)
    assert shell.cities == {"Bergen": 12}


@pytest.mark.parametrize("revert", ["", " on the plan of the revert"])
@pytest.mark.parametrize("clears", [False, True])
def test_the_call_that_sends_one_row_is_a_command(revert: str, clears: bool) -> None:
    call = 'apply(rows=[3], on_conflict="overwrite"' + (', on_unknown_member="clear"' if clears else "") + ")" + revert
    command = "replyio apply a.replyplan --rows 3 --on-conflict overwrite" + " --on-unknown-member clear" * clears
    assert Words("status", Opening("a.replyplan")).of(f"to send it, use {call}") == f"to send it, use `{command}`"
