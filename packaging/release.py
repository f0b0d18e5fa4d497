"""Checks what a release needs besides the tests.

Run as `python packaging/release.py` with:

    agree [TAG]     version, lock file, changelog and tag agree
    oldest WHEEL    the wheel needs no newer system than its name says; Linux
    pythons FILE…   each file is installed and tried on every supported Python that is found here
    bare WHEEL      the wheel is tried in an old and in a new Debian; Debian, as root
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "quickstart.py"
VERSIONS = tuple(f"3.{minor}" for minor in range(10, 16))
OLD, NEW = "bullseye", "sid"
"""Debian 11 has glibc 2.31, the oldest that Debian still serves; sid has the newest Pythons."""
OLD_SOURCE, OLD_PYTHON = "bookworm", "python3.11"
"""Debian 11 has no Python that replyio supports. This one is compiled for it from Debian's source."""


def run(*command: str | Path, **options: object) -> str:
    """Runs a program, shows what it is, and returns what it prints."""
    print("+", *command, flush=True)
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{command[0]} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def agree(tag: str | None) -> None:
    """Fails unless every place names the same version, and the changelog dates it."""
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    version = re.findall(r'^version = "(.+)"$', manifest, re.MULTILINE)[0]
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n+(.+)", changelog, re.MULTILINE)
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    faults = {
        f"Cargo.lock has another version of replyio than Cargo.toml, {version}": (
            f'name = "replyio"\nversion = "{version}"\n' not in lock
        ),
        f"CHANGELOG.md has no section [{version}] with a date and a text": not dated or dated[1].startswith("## ["),
        "CHANGELOG.md has changes under [Unreleased]; move them to the section of the version": (
            unreleased is not None and unreleased[1].strip() != ""
        ),
        f"the tag is {tag}, the version is {version}": tag is not None and tag != f"v{version}",
    }
    if any(faults.values()):
        raise SystemExit("\n".join(fault for fault, is_there in faults.items() if is_there))
    print(f"version {version}: Cargo.toml, Cargo.lock, CHANGELOG.md{' and tag' if tag else ''} agree")


def oldest(wheel: Path) -> None:
    """Fails unless auditwheel finds the oldest system that the name of the wheel promises."""
    told = run(Path(sys.executable).parent / "auditwheel", "show", wheel)
    print(told)
    policies = re.findall(r'"(m\w+linux_\d+_\d+_\w+)"', re.sub(r"\s+", " ", told))
    if not policies or policies[0] not in wheel.name:
        raise SystemExit(f"{wheel.name} claims another system than auditwheel finds: {policies}")


def pythons() -> dict[str, Path]:
    """The Pythons that are found here, by version; pyenv's too."""
    found: dict[str, Path] = {}
    places = [Path(place) for place in os.environ.get("PATH", "").split(os.pathsep)]
    places += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    for version in VERSIONS:
        for place in places:
            if (path := place / f"python{version}").exists() and version not in found and runs(path):
                found[version] = path
    return found


def runs(path: Path) -> bool:
    """A shim of pyenv can name a Python that is not there."""
    return subprocess.run([path, "-c", "import venv"], check=False, capture_output=True).returncode == 0


def each_python(files: list[Path]) -> None:
    """Installs each file on every Python that is found, alone, and runs the example."""
    found = pythons()
    for version, python in found.items():
        for file in files:
            with tempfile.TemporaryDirectory() as folder:
                run(python, "-m", "venv", folder)
                offline = ["--no-index"] if file.suffix == ".whl" else []
                inside = Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"
                run(inside, "-m", "pip", "install", "--quiet", *offline, file.resolve())
                run(inside, "-W", "error", EXAMPLE, cwd=folder)
                print(f"Python {version}: {file.name} works")
    missing = [version for version in VERSIONS if version not in found]
    print(f"tried on {', '.join(found)}; not found here: {', '.join(missing) or 'none'}")
    if not found:
        raise SystemExit("no supported Python was found")


def bare(wheel: Path) -> None:
    """Tries the wheel in systems that have nothing but Debian's minimum and Python."""
    if not shutil.which("debootstrap") or os.geteuid() != 0:
        print("bare systems: NOT TRIED, this needs debootstrap and root; the workflow tries other systems")
        return
    with tempfile.TemporaryDirectory(prefix="replyio-bare-") as folder:
        old, new = Path(folder) / OLD, Path(folder) / NEW
        root_with_old_python(old)
        try_inside(old, wheel, "/opt/python/bin/python3")
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", NEW, new)
        install(new, "python3.14-venv", "python3.15-venv")
        for python in ("python3.14", "python3.15"):
            try_inside(new, wheel, python)


def install(root: Path, *packages: str) -> None:
    """Installs packages in a system; a mirror may be some weeks behind."""
    apt = ("chroot", root, "apt-get", "-q", "-o", "Acquire::Check-Valid-Until=false", "-o", "APT::Sandbox::User=root")
    run(*apt, "update")
    run(*apt, "install", "-y", "--no-install-recommends", *packages)


def root_with_old_python(root: Path) -> None:
    """Makes an old system with a Python that is compiled in a copy of it, so that it has no compiler itself."""
    workshop = root.with_name(f"{root.name}-workshop")
    run("debootstrap", "--variant=minbase", "--include=libffi7,zlib1g,ca-certificates", OLD, root)
    run("cp", "-a", root, workshop)
    mirror = re.findall(r"^deb (\S+)", (root / "etc/apt/sources.list").read_text(encoding="utf-8"), re.MULTILINE)[0]
    (workshop / "etc/apt/sources.list.d/source.list").write_text(f"deb-src {mirror} {OLD_SOURCE} main\n", "utf-8")
    install(workshop, "gcc", "libc6-dev", "libffi-dev", "make", "xz-utils", "zlib1g-dev", "dpkg-dev")
    script = f"""set -e
        mkdir /python && cd /python
        apt-get -q -o APT::Sandbox::User=root source --download-only {OLD_PYTHON}
        tar -xf {OLD_PYTHON}_*.orig.tar.* --strip-components=1
        ./configure --prefix=/opt/python --disable-test-modules
        make -j"$(nproc)"
        make install"""
    run("chroot", workshop, "sh", "-c", script)
    run("cp", "-a", workshop / "opt/python", root / "opt")


def try_inside(root: Path, wheel: Path, python: str) -> None:
    """Installs the wheel in a system, and runs the example there."""
    shutil.copy(wheel, root / "srv")
    shutil.copy(EXAMPLE, root / "srv")
    run("chroot", root, python, "-m", "venv", "--clear", "/srv/venv")
    run("chroot", root, "/srv/venv/bin/python", "-m", "pip", "install", "--quiet", "--no-index", f"/srv/{wheel.name}")
    run("chroot", root, "/srv/venv/bin/python", "-W", "error", "/srv/quickstart.py")
    told = "import platform; print('Python', platform.python_version(), 'on', *platform.libc_ver())"
    print("the wheel works:", run("chroot", root, "/srv/venv/bin/python", "-c", told).strip())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("agree").add_argument("tag", nargs="?")
    commands.add_parser("pythons").add_argument("files", nargs="+", type=Path)
    for name in ("oldest", "bare"):
        commands.add_parser(name).add_argument("wheel", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "agree":
        agree(arguments.tag)
    elif arguments.command == "pythons":
        each_python(arguments.files)
    else:
        {"oldest": oldest, "bare": bare}[arguments.command](arguments.wheel)


if __name__ == "__main__":
    main()
