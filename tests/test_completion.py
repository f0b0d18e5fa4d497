"""A notebook completes the sixteen fields, and `help` shows them."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import replyio
from replyio import ReplyClient
from support import FIELDS, run

if TYPE_CHECKING:
    from IPython.core.completer import IPCompleter

IPython = pytest.importorskip("IPython")

CALLS = [
    f"{operation}{suffix}"
    for operation in ("update_contact_account", "patch_contact_account")
    for suffix in ("", "_async")
]


@pytest.mark.parametrize("call", CALLS)
def test_a_signature_names_every_field(call: str) -> None:
    for function in (getattr(ReplyClient, call), getattr(ReplyClient("key"), call)):
        parameters = inspect.signature(function).parameters
        assert [name for name in parameters if name not in {"self", "id"}] == [
            *FIELDS,
            "fields" if "update" in call else "changes",
        ]
        assert parameters["city"].annotation == str | None
        required = parameters["name"].default is inspect.Parameter.empty
        assert required == ("update" in call)
    assert inspect.iscoroutinefunction(getattr(ReplyClient, call)) == call.endswith("_async")


def test_a_signature_takes_what_the_call_takes() -> None:
    signature = inspect.signature(ReplyClient("key").update_contact_account)
    signature.bind(4711, name="Acme", city=None, linkedInUrl="x")
    assert "linked_in_url: str | None = ..." in str(signature)


@pytest.mark.parametrize("call", CALLS)
def test_help_shows_every_field(call: str) -> None:
    text = pydoc.plain(pydoc.render_doc(getattr(ReplyClient, call)))
    for field in FIELDS:
        assert f"{field}: " in text


@pytest.fixture(params=[True, False], ids=["jedi", "no jedi"])
def completer(request: pytest.FixtureRequest) -> IPCompleter:
    """The completer of a notebook in which a client was made."""
    from IPython.core.completer import IPCompleter

    namespace: dict[str, Any] = {"replyio": replyio, "ReplyClient": ReplyClient, "client": ReplyClient("key")}
    completer = IPCompleter(namespace=namespace, global_namespace=namespace)
    completer.use_jedi = request.param
    # On a busy machine, jedi takes longer than the 400 ms that a person at the keyboard is kept waiting.
    completer.jedi_compute_type_timeout = 60_000
    return completer


def completions(completer: IPCompleter, text: str) -> set[str]:
    from IPython.core.completer import provisionalcompleter

    with provisionalcompleter():
        return {completion.text for completion in completer.completions(text, len(text))}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("owner", ["client", "ReplyClient"])
def test_a_notebook_completes_every_field(call: str, owner: str, completer: IPCompleter) -> None:
    found = completions(completer, f"{owner}.{call}(4711, ")
    assert {f"{field}=" for field in FIELDS} <= found


def test_a_notebook_completes_a_field_from_its_beginning(completer: IPCompleter) -> None:
    found = completions(completer, 'client.update_contact_account(4711, name="Acme", linked')
    assert "linked_in_url=" in found or "_in_url=" in found
    found = completions(completer, "await client.patch_contact_account_async(4711, com")
    assert "company_size=" in found or "pany_size=" in found


def test_a_notebook_as_it_comes_completes_every_field() -> None:
    code = f"""
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell()
        shell.run_cell("from replyio import ReplyClient; client = ReplyClient('key')")
        shell.run_cell("text = 'client.update_contact_account(4711, '")
        from IPython.core.completer import provisionalcompleter
        text = "client.update_contact_account(4711, "
        with provisionalcompleter():
            found = {{completion.text for completion in shell.Completer.completions(text, len(text))}}
        print(sorted(set({FIELDS!r}) - {{text.rstrip("=") for text in found}}))
    """
    done = run(code, variables={"IPYTHONDIR": "/nonexistent/ipython"})
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["[]"], 0), done.stderr


@pytest.mark.parametrize(
    "program",
    [
        "import inspect, replyio; call = replyio.ReplyClient.update_contact_account",
        "import inspect; from replyio import ReplyClient; call = ReplyClient.update_contact_account",
        "from replyio import ReplyClient; call = ReplyClient('key').update_contact_account; import inspect",
    ],
)
def test_a_signature_names_every_field_in_a_fresh_interpreter(program: str) -> None:
    code = f"{program}; print(*inspect.signature(call).parameters)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert set(FIELDS) < set(done.stdout.split())


def test_naming_the_fields_does_not_make_the_import_slow() -> None:
    code = (
        "import sys; from replyio import ReplyClient; print('replyio.models' in sys.modules, 'inspect' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
