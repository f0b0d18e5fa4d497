"""Looks for secrets in what a test run has written, and in what is given to users.

    python tests/canary_scan.py FILE_OR_FOLDER…

Files, folders, wheels and source distributions are searched for the keys that the tests use, in every form; wheels and
source distributions also for folders of the machine that built them, and for what looks like somebody's credentials.
Exit code 1 says that something was found; where, and never what.
"""

from __future__ import annotations

import base64
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

TESTS = Path(__file__).parent
CONSTANT = re.compile(r'^(?:KEY|CANARY|PROXY_PASSWORD)\b[^=\n]*= "([^"\n]{12,})"', re.MULTILINE)
HOMES = re.compile(rb"(?:/home/|/root/|/Users/|[A-Z]:\\Users\\)[\w.+-]+[/\\]")
CHECKOUT = str(TESTS.resolve().parent).encode() + b"/"
CREDENTIALS = re.compile(
    rb"ghp_\w{30}|github_pat_\w{30}|pypi-AgE\w{30}|AKIA[A-Z0-9]{16}|-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[\w+/=]{40}"
)
OWN = (".pyc", ".py", ".rs")
"""Sources have the canaries in them."""
MEANT = re.compile(
    r"/(test_a_key_is_found_in_every_f|test_a_wheel_is_searched_for_m|test_a_pickle_that_cannot_be_u)\w*/"
)
"""The folders, inside the one that is searched, of tests that write canaries on purpose."""


def canaries() -> set[str]:
    """Every key and password that a test uses as a canary."""
    found = {key for path in TESTS.rglob("*.py") for key in CONSTANT.findall(path.read_text(encoding="utf-8"))}
    assert found, "no test has a canary; the name of the constant is KEY"
    return found


def forms(secret: str) -> set[bytes]:
    """A secret as it is, percent-encoded, JSON-escaped, and in base64, whatever stands before it."""
    spelled = {secret, quote(secret, ""), quote(secret, "").lower(), secret.replace("/", "\\/")}
    for before in ("", "x", "xy"):
        encoded = base64.b64encode((before + secret).encode()).decode().rstrip("=")
        # The first and the last characters are made of the neighbors too.
        core = encoded[4 if before else 0 : -2]
        spelled |= {core, core.replace("+", "-").replace("/", "_"), quote(core, "")}
    return {form.encode() for form in spelled}


def pieces(path: Path) -> Iterator[tuple[str, bytes, bool]]:
    """Each file in a file or folder: its name, its content, and whether users get it."""
    if path.is_dir():
        for inner in sorted(path.rglob("*")):
            if inner.is_file() and not inner.is_symlink() and not MEANT.search(inner.relative_to(path).as_posix()):
                yield from pieces(inner)
    elif path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                yield f"{path.name}: {name}", wheel.read(name), True
    elif path.name.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file:
                    yield f"{path.name}: {member.name}", file.read(), True
    else:
        yield str(path), path.read_bytes(), False


def findings(paths: list[Path], secrets: set[str]) -> Iterator[str]:
    """What must not be there, by the name of its file."""
    wanted = {form: number for number, secret in enumerate(sorted(secrets), 1) for form in forms(secret)}
    for path in paths:
        for name, content, is_given in pieces(path):
            if not name.endswith(OWN):
                yield from (f"{name}: canary {number}" for form, number in wanted.items() if form in content)
            if is_given and (home := HOMES.search(content)):
                yield f"{name}: a folder of the machine that built it, {home[0].decode(errors='replace')}…"
            if is_given and CHECKOUT in content:
                yield f"{name}: the folder that it was built in"
            if is_given and CREDENTIALS.search(content):
                yield f"{name}: looks like somebody's credentials"


def main() -> None:
    """The command line."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    missing = [str(path) for path in paths if not path.exists()]
    if missing or not paths:
        raise SystemExit(f"nothing to search: {', '.join(missing) or 'no path given'}")
    secrets = canaries()
    found = sorted(set(findings(paths, secrets)))
    sizes = [len(content) for path in paths for _, content, _ in pieces(path)]
    what = f"{len(sizes):,} files, {sum(sizes):,} bytes, {len(secrets)} canaries, {len(found)} findings"
    print("\n".join([*found, what]))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
