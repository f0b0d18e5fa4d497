"""Plan files that somebody changed who means harm: the checksums are right again."""

from __future__ import annotations

import sqlite3
import struct
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any


def checksum(*values: Any) -> int:
    """The checksum of a plan file, said here once more so that the tests do not use what they test."""
    total = 0
    for value in values:
        if value is None:
            part = b"n"
        elif isinstance(value, int):
            part = b"i" + struct.pack("<q", value)
        else:
            text = value if isinstance(value, bytes) else value.encode()
            part = b"t" + struct.pack("<Q", len(text)) + text
        total = zlib.crc32(part, total)
    return total


def reseal(connection: sqlite3.Connection) -> None:
    """Computes every checksum again."""
    for *row, _ in connection.execute("SELECT * FROM rows").fetchall():
        connection.execute("UPDATE rows SET checksum = ? WHERE row = ?", (checksum(*row), row[0]))
    for row, field, before, after, answered, planned in connection.execute(
        "SELECT row, field, before, after, answered, planned FROM edits"
    ).fetchall():
        end = [None] if answered is None else ["answered", answered or None]
        total = checksum(row, field, before, after, *end, planned)
        connection.execute("UPDATE edits SET checksum = ? WHERE row = ? AND field = ?", (total, row, field))
    for key, value in connection.execute("SELECT key, value FROM state").fetchall():
        connection.execute("UPDATE state SET checksum = ? WHERE key = ?", (checksum(key, value), key))
    pairs = connection.execute("SELECT key, value FROM plan WHERE key <> 'sealed' ORDER BY key").fetchall()
    total = checksum(*(part for pair in pairs for part in pair))
    connection.execute("UPDATE plan SET value = ? WHERE key = 'sealed'", (total,))


def forge(path: Path, *changes: tuple[str, tuple[Any, ...]]) -> None:
    """Changes a plan file by statements and their values."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement, values in changes:
            connection.execute(statement, values)
        reseal(connection)
