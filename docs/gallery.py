"""Writes docs/errors.md: every error that a user can meet, made by running into it.

python docs/gallery.py           # writes the page
python docs/gallery.py --print   # prints it
"""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import replyio
from replyio import ReplyClient
from replyio.sandbox import Fault, Sandbox

PAGE = Path(__file__).resolve().with_name("errors.md")
KEY = "gallery-key-that-no-message-shows"
SHOWN = (
    "status",
    "code",
    "errors",
    "retry_after",
    "attempts",
    "last_error",
    "may_have_been_applied",
    "excerpt",
    "request_id",
)
TIMES = re.compile(r"in (under )?\d+ ms|in \d+\.\d s")


HEAD = """<!-- Written by `make docs`. Do not edit. -->

# Error messages

This page shows typical messages of each exception class. `make docs` triggers each error and records its message. A
message says what failed, for which account and why, how many attempts the client made and how long they took. It quotes
what the service said, and often says what to do next. If one input has several problems, each problem has its own line.
Below each message are the attributes that have a value. [reference.md](reference.md) shows the class hierarchy, and
[troubleshooting.md](troubleshooting.md) says what to do."""


class Gallery:
    """Collects what is raised, section by section."""

    def __init__(self) -> None:
        """Starts the page."""
        self.parts: list[str] = []

    def section(self, title: str, text: str) -> None:
        """Begins a section."""
        self.parts += [f"## {title}", text]

    def show(self, cause: str, call: Callable[[], Any]) -> None:
        """Runs into an error and keeps what it says."""
        try:
            answer = call()
        except replyio.ReplyError as error:
            if KEY in f"{error} {vars(error)}":
                raise SystemExit(f"{cause}: shows the key") from None
            told = [
                f"`{name}={rounded(value)!r}`"
                for name in SHOWN
                if (value := getattr(error, name, None)) not in (None, [], 0)
            ]
            self._add(type(error).__name__, cause, str(error), told)
        else:
            raise SystemExit(f"{cause}: gives {answer!r} instead of an error")

    def show_warning(self, cause: str, call: Callable[[], Any]) -> None:
        """Runs into a warning and keeps what it says."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        self._add("ReplyWarning", cause, str(caught[0].message), [])

    def _add(self, name: str, cause: str, message: str, told: list[str]) -> None:
        lines = escaped(message).replace("\n  ", "\n> - ")
        self.parts.append(f"**`{name}`** · {cause}\n\n> {lines}")
        if told:
            self.parts.append(" · ".join(told))


def rounded(value: Any) -> Any:
    """Seconds without their fraction, which is different every time."""
    return round(value) if isinstance(value, float) else value


def escaped(text: str) -> str:
    """The text, as Markdown shows it."""
    return re.sub(r"([*<\[\]])", r"\\\1", text)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Sets variables for a while."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Works in a folder for a while, so that messages show short names."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def server(talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server of a few lines, which does to each connection what it is told."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection:
                    talk(tls.wrap_socket(connection, server_side=True) if tls else connection)
            except OSError:
                pass

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def answering(text: str) -> Callable[[socket.socket], None]:
    """A server that reads a request and sends this."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text.encode())

    return talk


def client(url: str, **options: Any) -> ReplyClient:
    """A client that tries twice and waits for little."""
    settings: dict[str, Any] = {"base_url": url, "quota": None, "max_attempts": 2, "timeout": 20.0}
    return ReplyClient(KEY, **{**settings, **options})


def update(reply: ReplyClient) -> Callable[[], Any]:
    """An ordinary update, as a thing that can be called."""
    return lambda: reply.update_contact_account(4711, name="Acme")


def settings(gallery: Gallery) -> None:
    """What is refused when the client is made."""
    gallery.section(
        "A setting is not valid",
        "`ReplyClient(…)` raises this error and sends no request. The message never repeats the key or a proxy's "
        "password.",
    )
    gallery.show("no key is given", ReplyClient)
    with environment(REPLY_API_KEY=f"{KEY}\n"):
        gallery.show("`REPLY_API_KEY` was set from a file that ends with a line end", ReplyClient)
    gallery.show("the key contains a character that no key has", lambda: ReplyClient(f"“{KEY}”"))
    gallery.show("the content of a whole file was given as the key", lambda: ReplyClient(KEY * 200))
    gallery.show("`base_url` is not https", lambda: ReplyClient(KEY, base_url="http://api.reply.io/v3"))
    gallery.show("`base_url` is not a URL", lambda: ReplyClient(KEY, base_url="api.reply.io"))
    gallery.show("`timeout` is not a positive number", lambda: ReplyClient(KEY, timeout=0))
    gallery.show("`act_as` is neither a user id nor an email address", lambda: ReplyClient(KEY, act_as="me"))
    gallery.show("`proxy` is not a URL", lambda: ReplyClient(KEY, proxy="proxy:3128"))
    gallery.show("the file of `ca_file` does not exist", lambda: ReplyClient(KEY, ca_file="company.pem"))
    gallery.show("the quota is zero", lambda: replyio.Quota(per_minute=0))


def fields(gallery: Gallery, reply: ReplyClient) -> None:
    """What is refused before any request."""
    gallery.section(
        "The fields or the id are not valid",
        "The call raises this error before any request. The message names every fault at once, and `errors` lists "
        "them.",
    )
    call: Any = reply.update_contact_account
    gallery.show("several faults", lambda: call(4711, name=" ", company_size="50-200", citty="Oslo"))
    gallery.show("an update without a name", lambda: call(4711, city="Oslo"))
    gallery.show("the id is a text", lambda: reply.get_contact_account("4711"))  # type: ignore[arg-type]
    gallery.show("the page size is too large", lambda: reply.list_contact_accounts(page_size=5000))


def connections(gallery: Gallery) -> None:
    """No answer."""
    gallery.section(
        "The client received no answer",
        "`TransportError` is also a `ConnectionError`. The client raises it after its last attempt, or at once if a "
        "retry cannot help.",
    )
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    gallery.show("nothing listens at the address", update(client(url)))
    nowhere = client("https://reply.invalid/v3", max_attempts=1)
    gallery.show("the name does not resolve, with `max_attempts=1`", update(nowhere))
    with server(lambda connection: connection.recv(65536) and None) as port:
        gallery.show("the connection is closed without an answer", update(client(f"http://127.0.0.1:{port}")))
    cut = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    with server(answering(cut)) as port:
        gallery.show("the answer ends too early", update(client(f"http://127.0.0.1:{port}")))
    for status, what in (("403 Forbidden", "refuses"), ("407 Proxy Authentication Required", "asks for a password")):
        with server(answering(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n")) as port:
            proxied = client("https://api.reply.io/v3", proxy=f"http://127.0.0.1:{port}", max_attempts=1)
            gallery.show(f"the company's proxy {what}, with `max_attempts=1`", update(proxied))
    with Sandbox(faults=[Fault(delay=20)]) as sandbox:
        reply = sandbox.client()

        async def closed_under() -> None:
            task = asyncio.ensure_future(reply.update_contact_account_async(4711, name="Acme"))
            await asyncio.sleep(0.05)
            reply.close()
            await task

        gallery.show("the client is closed while a task waits for an update", lambda: asyncio.run(closed_under()))


def certificates(gallery: Gallery, folder: Path) -> None:
    """TLS."""
    import trustme

    gallery.section(
        "The certificate or the handshake is refused",
        "`TLSError` is a `TransportError`. The client never retries it.",
    )
    ours, stranger = trustme.CA(), trustme.CA()
    trusted = folder / "authority.pem"
    ours.cert_pem.write_to_path(str(trusted))
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    for cause, certificate in (
        ("the certificate has expired, or this machine's clock is wrong", ours.issue_cert("127.0.0.1", not_after=past)),
        ("a company proxy, or another server, intercepts the connection", stranger.issue_cert("127.0.0.1")),
        ("the certificate is another host's", ours.issue_cert("mail.example.com")),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        with server(answering(""), context) as port:
            gallery.show(cause, update(client(f"https://127.0.0.1:{port}", ca_file=trusted)))
    with server(answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) as port:
        gallery.show("the server speaks plain HTTP", update(client(f"https://127.0.0.1:{port}", ca_file=trusted)))


def deadlines(gallery: Gallery) -> None:
    """Out of time."""
    gallery.section("The call or an attempt took too long", "`DeadlineExceededError` is also a `TimeoutError`.")
    with Sandbox(faults=[Fault(status=503, times=1), Fault(delay=20)]) as sandbox:
        gallery.show("no answer arrives", update(sandbox.client(timeout=1.5)))
    with Sandbox(faults=[Fault(delay=20)]) as sandbox:
        reply = sandbox.client(attempt_timeout=0.3, max_attempts=2)
        gallery.show("one attempt takes too long", lambda: reply.get_contact_account(4711))


def foreign(gallery: Gallery) -> None:
    """Answers that the contract does not have."""
    gallery.section(
        "The answer is not from Reply.io",
        "`excerpt` contains the beginning of the answer. The message never contains the value of a field.",
    )
    with Sandbox() as sandbox:
        account = sandbox.client().get_contact_account(4712).to_dict(by_alias=True)
    for cause, fault in (
        (
            "a login page, such as in a hotel or behind a company's proxy",
            Fault(status=200, body="<html>Please log in</html>"),
        ),
        ("incomplete JSON", Fault(status=200, body='{"id": 4711, "name": "Ac')),
        ("the answer for another account", Fault(status=200, body=account)),
        ("a redirect", Fault(status=301, headers={"Location": "https://www.reply.io/"})),
        ("a successful answer without an account", Fault(status=204)),
    ):
        with Sandbox(faults=[fault]) as sandbox:
            gallery.show(cause, update(sandbox.client()))
    with server(answering("SSH-2.0-OpenSSH_9.6\r\n")) as port:
        gallery.show("a server that does not use HTTP", update(client(f"http://127.0.0.1:{port}")))


def statuses(gallery: Gallery) -> None:
    """Errors that the service answers."""
    gallery.section(
        "The service answers with an error",
        "Each of these errors is an `APIError`. `title`, `detail`, `code` and `errors` contain what the service said.",
    )
    with Sandbox(api_keys=["the-right-key"]) as sandbox:
        gallery.show("the key passed as `api_key=` is wrong", update(client(sandbox.url)))
        with environment(REPLY_API_KEY=KEY):
            reply = ReplyClient(base_url=sandbox.url)
        gallery.show("the key in `REPLY_API_KEY` is wrong", update(reply))
    denied = {"title": "Unauthorized", "status": 401, "detail": "The user is not a member of the team."}
    with Sandbox(faults=[Fault(status=401, body=denied)]) as sandbox:
        gallery.show("the key is valid, but the user is not in the team", update(sandbox.client(team_id=7)))
    with Sandbox(api_keys=["reads"], scopes={"reads": ["contacts:read"]}) as sandbox:
        gallery.show("the key may only read", update(sandbox.client()))
    with Sandbox() as sandbox:
        gallery.show("there is no such account", lambda: sandbox.client().get_contact_account(999))
    with Sandbox() as sandbox:
        gallery.show("`base_url` does not end in `/v3`", update(client(sandbox.url.removesuffix("/v3"))))
    faults = [{"pointer": "/name", "detail": "Name is too long."}, {"pointer": "/companySize", "detail": "Unknown."}]
    for cause, fault in (
        ("the service refuses fields", Fault(status=400, body={"title": "Validation", "errors": faults})),
        ("a conflict", Fault(status=409, body={"title": "Conflict", "detail": "The account is being merged."})),
        ("a status that the documentation does not list", Fault(status=402, body={"title": "Payment Required"})),
        ("the service fails", Fault(status=503)),
        ("a gateway in front of the service fails", Fault(status=502, body="<html>Bad Gateway</html>")),
    ):
        with Sandbox(faults=[fault]) as sandbox:
            gallery.show(cause, update(sandbox.client(max_attempts=2)))


def quotas(gallery: Gallery) -> None:
    """The quota."""
    gallery.section(
        "The rate limit is reached",
        "If `timeout` leaves enough time, the client waits, and logs a wait of more than 5 s. Otherwise it raises "
        "`RateLimitError` at once. `retry_after` is the number of seconds to wait.",
    )
    with Sandbox(faults=[Fault(status=429, retry_after=42)]) as sandbox:
        gallery.show("the service's limit per minute is reached", update(sandbox.client(timeout=10.0, quota=None)))
    with Sandbox(faults=[Fault(status=429, retry_after=3540)]) as sandbox:
        gallery.show("the service's limit per hour is reached", update(sandbox.client(quota=None)))
    with Sandbox() as sandbox:
        reply = sandbox.client(
            timeout=10.0, quota=replyio.Quota(per_minute=1, per_hour=2900), api_key="a-key-of-its-own"
        )
        reply.get_contact_account(4711)
        gallery.show("the client's own limit is reached", update(reply))
    with Sandbox() as sandbox:

        def acquire() -> None:
            raise ConnectionError("redis.internal:6379 refused the connection")

        reply = sandbox.client(quota=replyio.Quota(acquire=acquire))
        gallery.show("the function in `Quota(acquire=...)` failed", update(reply))


def plan_files(gallery: Gallery, folder: Path) -> None:
    """What is wrong with a plan's file."""
    gallery.section(
        "A plan file cannot be used",
        "`PlanError` names the file. [plan-file.md](reference/plan-file.md) describes plan files.",
    )
    rows = [{"id": 4711, "city": "Bergen"}]
    with Sandbox() as sandbox, inside(folder):
        reply = sandbox.client()
        reply.plan_contact_account_updates(rows, save_as="acme.replyplan", progress=False).close()
        Path("notes.txt").write_text("not a plan", encoding="utf-8")
        Path("cut.replyplan").write_bytes(Path("acme.replyplan").read_bytes()[:8192])
        gallery.show("there is no such file", lambda: reply.open_plan("other.replyplan"))
        gallery.show(
            "the file of `save_as=` exists", lambda: reply.plan_contact_account_updates(rows, save_as="acme.replyplan")
        )
        gallery.show("the file is not a plan", lambda: reply.open_plan("notes.txt"))
        gallery.show("the file is incomplete", lambda: reply.open_plan("cut.replyplan"))
        stranger = sandbox.client(api_key="another-key")
        gallery.show("the client has another key", lambda: stranger.open_plan("acme.replyplan").apply(progress=False))
        elsewhere = sandbox.client(act_as=7)
        gallery.show("the client acts for another user", lambda: elsewhere.open_plan("acme.replyplan"))


def done_otherwise(gallery: Gallery) -> None:
    """Warnings."""
    gallery.section(
        "The update succeeded, but the service stored another value",
        "This is a warning, not an error, because the service has already written the account. "
        "`warnings.simplefilter('error', replyio.ReplyWarning)` turns it into an error.",
    )
    with Sandbox() as sandbox:
        reply = sandbox.client()
        answer = reply.get_contact_account(4711).to_dict(by_alias=True)
        sandbox.add_fault(Fault(method="PUT", status=200, body={**answer, "city": "BERGEN"}))
        gallery.show_warning(
            "the service stores another value", lambda: reply.patch_contact_account(4711, city="Bergen")
        )


def page() -> str:
    """The whole page."""
    gallery = Gallery()
    for name in list(os.environ):
        if name.upper().startswith(("REPLY", "SSL_CERT")) or name.upper().endswith("_PROXY"):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        settings(gallery)
        fields(gallery, sandbox.client())
        connections(gallery)
        certificates(gallery, Path(folder))
        deadlines(gallery)
        foreign(gallery)
        statuses(gallery)
        quotas(gallery)
        plan_files(gallery, Path(folder))
        done_otherwise(gallery)
    gallery.section(
        "An internal error",
        "`InternalError` names the place in the code, such as `a panic at src/client/exchange.rs:104`. Please report "
        "it. The client stays usable. No ordinary call raises it. `make reliability` builds the package so that every "
        "place raises it once, and checks the result.",
    )
    return "\n\n".join([HEAD, *gallery.parts]) + "\n"


def normalized(text: str) -> str:
    """The page without what is different every time."""
    return TIMES.sub("in 1 ms", text)


def main() -> None:
    """Writes the page, unless only times would change."""
    started = time.monotonic()
    made = page()
    if "--print" in sys.argv:
        print(made)
    elif not PAGE.exists() or normalized(PAGE.read_text(encoding="utf-8")) != normalized(made):
        PAGE.write_text(made, encoding="utf-8", newline="\n")
    print(f"ran into everything in {time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
