"""`python -m replyio.sandbox`: runs a sandbox on the command line."""

from __future__ import annotations

import json
import signal
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from replyio._cli_arguments import Parser
from replyio._cli_overview import UsageError, refuse_keys
from replyio._replyio import safe_text
from replyio.errors import ConfigurationError
from replyio.sandbox import Sandbox

__all__ = ["main"]

_USAGE = 2
_INTERRUPTED = 130
_TERMINATED = 143


def _quota(text: str) -> tuple[int, int]:
    try:
        per_minute, per_hour = text.split(",")
        return int(per_minute), int(per_hour)
    except ValueError:
        raise ArgumentTypeError("must be two numbers, such as 100,3000") from None


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and int(text[:6]) < 1 << 16:
        return int(text)
    raise ArgumentTypeError("must be a number from 0 to 65535")


def _parser(program: str | None) -> Parser:
    parser = Parser(
        prog=program or "python -m replyio.sandbox",
        allow_abbrev=False,
        description="Runs a server on 127.0.0.1 that follows Reply.io's API documentation. Ctrl-C stops it.",
    )
    parser.add_argument("--port", type=_port, default=0, help="the port on 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--quota",
        type=_quota,
        metavar="MINUTE,HOUR",
        help="requests per minute and per hour for each user, such as 100,3000 (default: no quota)",
    )
    parser.add_argument(
        "--clock-scale",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="how much faster than real time the quota's clock runs (default: 1)",
    )
    parser.add_argument("--path", metavar="FILE", help="a file that keeps the accounts (default: keep nothing)")
    parser.add_argument("--accounts", metavar="FILE.json", help="the accounts, a JSON list (default: three examples)")
    return parser


def _accounts(path: str) -> list[dict[str, Any]]:
    """Returns the accounts of a file."""
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--accounts {path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"--accounts {path}: not valid JSON at line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError):  # other bytes than UTF-8, a number of thousands of digits
        raise UsageError(f"--accounts {path}: not readable as JSON in UTF-8") from None
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in cast("list[object]", given)):
        raise UsageError(f"--accounts {path}: must be a JSON list of objects")
    return cast("list[dict[str, Any]]", given)


def _refused(message: str, code: int) -> int:
    print(f"replyio: {safe_text(message)}", file=sys.stderr)
    return code


def _terminate(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(_TERMINATED)


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs a sandbox until Ctrl-C.

    Args:
        arguments: The arguments. Default None: those of the process.
        program: The name in the usage text. Default: `python -m replyio.sandbox`.

    Returns:
        The exit code: 130 after Ctrl-C, 1 if it cannot start, 2 if the arguments or the accounts cannot be used.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        refuse_keys(list(given))
        parser = _parser(program)
        parser.first = 1 if program is None else 2
        options = parser.read(given)
    except UsageError as error:
        return _refused(str(error), _USAGE)
    # SIGTERM stops it as Ctrl-C does, and closes the file and the socket.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        accounts = None if options.accounts is None else _accounts(options.accounts)
        sandbox = Sandbox(
            accounts, port=options.port, quota=options.quota, clock_scale=options.clock_scale, path=options.path
        )
    except KeyboardInterrupt:  # while it reads the accounts
        return _INTERRUPTED
    except UsageError as error:
        return _refused(str(error), _USAGE)
    except (OSError, OverflowError, RecursionError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _refused(told, _USAGE if isinstance(error, ConfigurationError) else 1)
    with sandbox:
        try:
            print(f"sandbox on {sandbox.url}  use: REPLY_BASE_URL={sandbox.url} REPLY_API_KEY=sandbox", flush=True)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
