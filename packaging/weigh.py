"""Says what a module weighs, by part: `python packaging/weigh.py MODULE`, for an ELF file with its symbols.

Such a file is made by `maturin build --release … -- -C strip=none`. What has no symbol, as constants and the tables for
unwinding, is listed by its section.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

PARTS = (
    ("SQLite", r"sqlite|rusqlite|hashlink|fallible"),
    ("TLS: rustls, ring, certificates", r"rustls|ring|webpki|GFp|ecp_|p256|p384|x25519|chacha|aes|untrusted|openssl"),
    ("Arrow: our tables", r"arrow_(array|buffer|schema|data)"),
    ("Arrow: what pyo3-arrow brings", r"pyo3_arrow|arrow_|chrono|lexical|numpy|ndarray|comfy_table|num_|half"),
    ("HTTP: hyper, reqwest, url", r"hyper|reqwest|http|tower|url|idna|icu_|percent|ipnet|want"),
    ("tokio, mio, futures", r"tokio|mio|futures|socket2"),
    ("Python: pyo3, pythonize", r"pyo3|pythonize"),
    ("JSON: serde", r"serde|itoa|ryu|zmij"),
    ("dates: jiff", r"jiff"),
    ("CSV and encodings", r"csv|memchr|encoding_rs"),
    ("mimalloc", r"mi_|mimalloc"),
    ("replyio", r"replyio"),
    ("Rust's standard library", r"std|core|alloc|rustc|gimli|addr2line|object|miniz|hashbrown|compiler_builtins"),
)


def part(symbol: str) -> str:
    """The part that a symbol belongs to: that of the first crate in its name."""
    name = re.sub(r"^[<&*(\[\s]*(?:dyn |mut |impl )*", "", symbol)
    for title, pattern in PARTS:
        if re.match(rf"_?(?:{pattern})", name):
            return title
    return "others"


def main() -> None:
    """The command line."""
    module = sys.argv[1]
    symbols = subprocess.run(
        ["nm", "--demangle", "--print-size", "--defined-only", module], check=True, capture_output=True, text=True
    ).stdout
    code: Counter[str] = Counter()
    seen: set[str] = set()
    others: Counter[str] = Counter()
    for line in symbols.splitlines():
        if (found := re.match(r"(\w+) (\w+) [tTwW] (.*)", line)) and found[1] not in seen:
            seen.add(found[1])
            code[part(found[3])] += int(found[2], 16)
            if part(found[3]) == "others":
                others[found[3].split("::")[0][:40]] += int(found[2], 16)
    sections = subprocess.run(["size", "-A", module], check=True, capture_output=True, text=True).stdout
    sizes = {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)\s", sections, re.MULTILINE)}
    print("| part | KiB |\n|---|---|")
    for title, size in code.most_common():
        print(f"| code: {title} | {size / 1024:,.0f} |")
    rest = sizes.get(".text", 0) - sum(code.values())
    print(f"| code without a symbol | {rest / 1024:,.0f} |")
    for name, title in (
        (".rodata", "constants"),
        (".data.rel.ro", "constants with addresses"),
        (".rela.dyn", "relocations"),
        (".eh_frame", "unwinding: frames"),
        (".eh_frame_hdr", "unwinding: index"),
        (".gcc_except_table", "unwinding: landing pads"),
    ):
        print(f"| {title} | {sizes.get(name, 0) / 1024:,.0f} |")
    print(others.most_common(15), file=sys.stderr)


if __name__ == "__main__":
    main()
