"""Says which third-party code is in a wheel: a bill of materials, and the license texts.

    python packaging/inventory.py sbom TARGET FILE   writes the CycloneDX file for the wheel of one target
    python packaging/inventory.py notices            writes THIRD-PARTY-LICENSES again; needs cargo-about
    python packaging/inventory.py check              compares THIRD-PARTY-LICENSES with Cargo.lock; needs cargo only

A crate is linked if a normal dependency leads to it from the feature `python`. Build dependencies, procedural macros
and crates for other targets are not in the wheel.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import uuid
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
NOTICES = ROOT / "THIRD-PARTY-LICENSES"
ABOUT = "0.9.3"
"""The version of cargo-about; another one may order or choose the texts differently."""
TARGETS = (
    "aarch64-apple-darwin",
    "aarch64-pc-windows-msvc",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "x86_64-apple-darwin",
    "x86_64-pc-windows-msvc",
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
)
"""What release.yml builds wheels for. about.toml has the same list."""
RULE = "=" * 80


class Linked(NamedTuple):
    """The crates in the wheel of one target."""

    packages: dict[str, dict[str, Any]]
    edges: dict[str, list[str]]
    root: str


class Bundled(NamedTuple):
    """Code in another language that a crate carries along."""

    name: str
    version: str
    license: str
    purl: str
    crate: str
    text: str


def output(*command: str) -> str:
    """What a program prints."""
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


@cache
def linked(target: str) -> Linked:
    """Asks cargo what the extension module for a target consists of."""
    # `cargo tree` chooses features for each target, as a build does. `cargo metadata` has them for all targets at once.
    selection = ("--locked", "--features=python")
    form = ("--edges=normal,no-proc-macro", "--prefix=none", "--format={p}|{f}")
    tree = output("cargo", "tree", *selection, f"--target={target}", *form)
    enabled = {
        (name, version): features.split(",")
        for name, version, features in re.findall(r"^(\S+) v(\S+)[^|\n]*\|(\S*)", tree, re.MULTILINE)
    }
    metadata = json.loads(output("cargo", "metadata", *selection, "--format-version=1", f"--filter-platform={target}"))
    packages = {
        package["id"]: package | {"enabled": enabled[package["name"], package["version"]]}
        for package in metadata["packages"]
        if (package["name"], package["version"]) in enabled
    }
    edges = {
        node["id"]: sorted(
            dependency["pkg"]
            for dependency in node["deps"]
            if dependency["pkg"] in packages and any(kind["kind"] is None for kind in dependency["dep_kinds"])
        )
        for node in metadata["resolve"]["nodes"]
        if node["id"] in packages
    }
    return Linked(packages, edges, metadata["resolve"]["root"])


def crates() -> dict[tuple[str, str], tuple[dict[str, Any], list[str]]]:
    """Every crate that a wheel contains, by name and version, and the targets that link it."""
    found: dict[tuple[str, str], tuple[dict[str, Any], list[str]]] = {}
    for target in TARGETS:
        inventory = linked(target)
        for identity, package in inventory.packages.items():
            if identity != inventory.root:
                found.setdefault((package["name"], package["version"]), (package, []))[1].append(target)
    return dict(sorted(found.items()))


def bundled(packages: Iterable[dict[str, Any]]) -> list[Bundled]:
    """The C code that crates compile into the wheel, with the versions that its own files state."""
    found = []
    for package in packages:
        folder = Path(package["manifest_path"]).parent
        if package["name"] == "libsqlite3-sys":
            header = (folder / "sqlite3" / "sqlite3.h").read_text(encoding="utf-8")
            version = re.findall(r'#define SQLITE_VERSION +"([\d.]+)"', header)[0]
            text = "SQLite is in the public domain. Its authors disclaim the copyright to the source code.\n"
            found.append(Bundled("sqlite", version, "blessing", "pkg:generic/sqlite", package["name"], text))
        elif package["name"] == "libmimalloc-sys":
            # As in the build script of the crate.
            source = folder / "c_src" / "mimalloc" / ("v2" if "v2" in package["enabled"] else "v3")
            header = (source / "include" / "mimalloc.h").read_text(encoding="utf-8")
            number = int(re.findall(r"#define MI_MALLOC_VERSION +(\d+)", header)[0])
            version = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
            text = (source / "LICENSE").read_text(encoding="utf-8")
            found.append(Bundled("mimalloc", version, "MIT", "pkg:generic/mimalloc", package["name"], text))
    return found


def expression(package: dict[str, Any]) -> str:
    """A license as SPDX writes it: some crates still have a slash for OR."""
    return str(package["license"] or "").replace("/", " OR ")


def table() -> str:
    """The crates, their licenses, and the targets where not all of them link it."""
    lines = []
    for (name, version), (package, targets) in crates().items():
        where = "" if len(targets) == len(TARGETS) else f"  [{', '.join(targets)}]"
        lines.append(f"{name} {version}  {expression(package)}{where}\n")
    return "".join(lines)


def sbom(target: str) -> dict[str, Any]:
    """A CycloneDX document that names what is in the wheel for one target, and nothing else. The same each time."""
    inventory = linked(target)
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    checksums = {
        (name, version): checksum
        for name, version, checksum in re.findall(
            r'name = "([^"]+)"\nversion = "([^"]+)"\nsource = "[^"]+"\nchecksum = "(\w+)"', lock
        )
    }

    def reference(identity: str) -> str:
        package = inventory.packages[identity]
        return f"pkg:cargo/{package['name']}@{package['version']}"

    def component(identity: str) -> dict[str, Any]:
        package = inventory.packages[identity]
        made: dict[str, Any] = {
            "type": "library",
            "bom-ref": reference(identity),
            "name": package["name"],
            "version": package["version"],
            "licenses": [{"expression": expression(package)}],
            "purl": reference(identity),
        }
        if checksum := checksums.get((package["name"], package["version"])):
            made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return made

    rust = subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[
        1
    ]
    foreign = bundled(inventory.packages.values())
    by_name = {package["name"]: identity for identity, package in inventory.packages.items()}
    others = sorted(set(inventory.packages) - {inventory.root}, key=reference)
    components = [component(identity) for identity in others]
    components += [
        {
            "type": "library",
            "bom-ref": f"{part.purl}@{part.version}",
            "name": part.name,
            "version": part.version,
            "licenses": [{"license": {"id": part.license}}],
            "purl": f"{part.purl}@{part.version}",
        }
        for part in foreign
    ]
    standard = f"pkg:generic/rust-std@{rust}"
    components.append(
        {
            "type": "library",
            "bom-ref": standard,
            "name": "rust-std",
            "version": rust,
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "purl": standard,
        }
    )
    if "linux" in target:
        components.append(
            {
                "type": "library",
                "bom-ref": "pkg:generic/llvm-libunwind",
                "name": "llvm-libunwind",
                "licenses": [{"expression": "Apache-2.0 WITH LLVM-exception"}],
                "purl": "pkg:generic/llvm-libunwind",
                "description": "The version is that of the zig that linked the module.",
            }
        )
    needs = {reference(identity): sorted(map(reference, inventory.edges[identity])) for identity in inventory.packages}
    for part in foreign:
        needs[reference(by_name[part.crate])].append(f"{part.purl}@{part.version}")
    needs[reference(inventory.root)] += [part["bom-ref"] for part in components if part["bom-ref"] not in needs]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"{target} {rust} {lock}").urn,
        "version": 1,
        "metadata": {
            "component": component(inventory.root),
            "properties": [
                {"name": "replyio:target", "value": target},
                {
                    "name": "replyio:contents",
                    "value": "exactly the crates and the C code that are linked for this target",
                },
            ],
        },
        "components": components,
        "dependencies": [{"ref": key, "dependsOn": value} for key, value in sorted(needs.items())],
    }


def collected() -> list[tuple[str, list[str], str]]:
    """The license texts that cargo-about finds: the license, the linked crates under it, the text."""
    told = output("cargo-about", "--version").split()[-1]
    if told != ABOUT:
        raise SystemExit(f"cargo-about {told} is installed; the notices are made with {ABOUT}")
    options = ("--locked", "--offline", "--fail", "--format=json", "--features=python")
    return texts(json.loads(output("cargo-about", "generate", *options))["licenses"])


def texts(licenses: list[dict[str, Any]]) -> list[tuple[str, list[str], str]]:
    """What cargo-about found, for the linked crates alone, each text once."""
    packages = {f"{name} {version}": package for (name, version), (package, _) in crates().items()}
    found: dict[tuple[str, str], set[str]] = {}
    for license_ in licenses:
        for use in license_["used_by"]:
            user = f"{use['crate']['name']} {use['crate']['version']}"
            if user in packages:
                text = license_["text"] if license_["source_path"] else own_text(packages[user], license_)
                found.setdefault((license_["name"], plain(text)), set()).add(user)
    missing = set(packages) - {user for users in found.values() for user in users}
    if missing:
        raise SystemExit(f"no license text for {', '.join(sorted(missing))}")
    return sorted((name, sorted(users), text) for (name, text), users in found.items())


def own_text(package: dict[str, Any], license_: dict[str, Any]) -> str:
    """A text for a crate where cargo-about has the general form only: the crate's own, or the form with its authors."""
    folder = Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if re.match(r"licen[cs]e|copying", path.name, re.IGNORECASE))
    files = [path for path in files if license_["id"].lower().split("-")[0] in path.name.lower()] or files
    if files:
        return files[0].read_text(encoding="utf-8")
    holders = ", ".join(package["authors"]) or f"the authors of {package['name']}"
    return str(license_["text"]).replace("<year> <copyright holders>", holders)


def notices() -> str:
    """The whole of THIRD-PARTY-LICENSES."""
    everything = crates()
    sections = [(f"{name}\n\n" + "".join(f"  {user}\n" for user in users), text) for name, users, text in collected()]
    packages = [package for package, _ in everything.values()]
    sections += [
        (f"{part.name} {part.version}, which {part.crate} compiles: {part.license}\n", part.text)
        for part in bundled(packages)
    ]
    for package in packages:
        for path in sorted(Path(package["manifest_path"]).parent.glob("NOTICE*")):
            sections.append((f"Notice of {package['name']} {package['version']}\n", path.read_text(encoding="utf-8")))
    body = "".join(f"{RULE}\n{title}{RULE}\n\n{plain(text)}\n\n" for title, text in sections)
    return f"{HEAD}\n{table()}\n{body}".rstrip() + "\n"


def plain(text: str) -> str:
    """A text with the line ends of Unix and without spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


HEAD = f"""\
Third-party software in replyio

The compiled module of a replyio wheel contains the crates in the list below, the C code of SQLite and mimalloc, the
standard library of Rust (MIT OR Apache-2.0, copyright The Rust Project contributors) and, on Linux, the libunwind of
LLVM, which zig links (Apache-2.0 WITH LLVM-exception). Brackets name the targets that link a crate, where not all of
them do. The license texts follow. Where a crate offers a choice, this file has the
text of one of the licenses.

`make notices` writes this file with cargo-about {ABOUT}. `make check` compares the list with Cargo.lock.
"""


def check() -> None:
    """Fails where THIRD-PARTY-LICENSES and Cargo.lock disagree."""
    text = NOTICES.read_text(encoding="utf-8")
    stated = text.removeprefix(f"{HEAD}\n").split("\n\n")[0].splitlines()
    actual = table().splitlines()
    for line in sorted(set(actual) ^ set(stated)):
        print(f"THIRD-PARTY-LICENSES: {'lacks' if line in actual else 'has, but no wheel links,'} {line}")
    if stated != actual or not text.startswith(HEAD):
        raise SystemExit("THIRD-PARTY-LICENSES is out of date; next: make notices")
    print(f"THIRD-PARTY-LICENSES: {len(actual)} crates for {len(TARGETS)} targets, as in Cargo.lock")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("sbom")
    one.add_argument("target", choices=TARGETS)
    one.add_argument("file", type=Path)
    commands.add_parser("notices")
    commands.add_parser("check")
    arguments = parser.parse_args()
    if arguments.command == "sbom":
        arguments.file.parent.mkdir(parents=True, exist_ok=True)
        arguments.file.write_text(json.dumps(sbom(arguments.target), indent=1) + "\n", encoding="utf-8")
    elif arguments.command == "notices":
        NOTICES.write_text(notices(), encoding="utf-8")
    else:
        check()


if __name__ == "__main__":
    main()
