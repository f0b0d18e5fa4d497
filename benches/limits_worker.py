"""Makes one measurement of what has an absolute limit and prints it as a line of JSON. `limits.py` starts it."""

from __future__ import annotations

import sys
import time

# What the measurement itself imports must not be missing in the first call's imports: so nothing else is imported here.

BASE_URL = "https://127.0.0.1:9/v3"
"""No one listens there."""


def first(port: str, authority: str) -> dict[str, float]:
    """The first call of a process: to import, to make a client that trusts the system's certificates, and to call.

    No server has a certificate of the system's authorities, so the call is made by another client. Its handshake, which
    the network and the server decide, is that of a third client: what its first call takes more than its second.
    """
    clock = time.perf_counter
    begin = clock()
    from replyio import ReplyClient

    imported = clock()
    ReplyClient(api_key="k", base_url=BASE_URL, quota=None)
    made = clock()

    def client() -> ReplyClient:
        return ReplyClient(api_key="k", base_url=f"https://127.0.0.1:{port}/v3", ca_file=authority, quota=None)

    caller = client()
    before = clock()
    caller.get_contact_account(4711)
    answered = clock()
    other = client()
    calls = [clock()]
    for _ in range(2):
        other.get_contact_account(4711)
        calls.append(clock())
    handshake = (calls[1] - calls[0]) - (calls[2] - calls[1])
    call = answered - before - handshake
    return {
        "import_ms": (imported - begin) * 1000,
        "client_ms": (made - imported) * 1000,
        "call_ms": call * 1000,
        "handshake_ms": handshake * 1000,
        "ms": (made - begin + call) * 1000,
    }


def clients(count: str) -> dict[str, float]:
    """Clients for https, one after another, after the first, which reads the certificates."""
    from replyio import ReplyClient

    kept = [ReplyClient(api_key="k", base_url=BASE_URL, quota=None)]
    begin = time.perf_counter()
    kept += [ReplyClient(api_key="k", base_url=BASE_URL, quota=None) for _ in range(int(count))]
    return {"ms": (time.perf_counter() - begin) * 1000 / int(count)}


def sandbox(count: str) -> dict[str, float]:
    """How long a sandbox takes to start, and to answer with a page of a thousand accounts."""
    import http.client
    from urllib.parse import urlsplit

    from replyio.sandbox import Sandbox

    accounts = [
        {"id": id, "name": f"Company {id}", "domain_name": f"c{id}.example", "city": "Oslo", "country": "Norway"}
        for id in range(1, int(count) + 1)
    ]
    begin = time.perf_counter()
    with Sandbox(accounts, quota=None) as started:
        start = time.perf_counter() - begin
        address = urlsplit(started.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        pages = []
        for number in range(50):
            skip = number * (int(count) // 50)
            begin = time.perf_counter()
            connection.request(
                "GET", f"{address.path}/contact-accounts?top=1000&skip={skip}", headers={"X-API-Key": "k"}
            )
            body = connection.getresponse().read()
            pages.append((time.perf_counter() - begin) * 1000)
            if f'"id":{skip + 1}'.encode() not in body:
                raise SystemExit(f"a wrong page: {body[:200]!r}")
        connection.close()
    return {"start_s": start, "first_page_ms": pages[0], "page_ms": sorted(pages)[len(pages) // 2]}


def serve(folder: str) -> None:
    """A server over https that answers every GET with the account of `data/answer.json`."""
    import ssl
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from pathlib import Path

    import trustme

    answer = (Path(__file__).parent / "data" / "answer.json").read_text().strip().replace('"id":0,', '"id":4711,', 1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = answer.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(Path(folder) / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def main() -> int:
    """Measures what the first argument says."""
    mode, *arguments = sys.argv[1:]
    if mode == "serve":
        serve(*arguments)
        return 0
    figures = {"first": first, "clients": clients, "sandbox": sandbox}[mode](*arguments)
    import json

    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
