"""The tables of an index folder's record, and how SQLite is connected to it."""

import sqlite3
from pathlib import Path

APPLICATION = 0x504C6978  # "PLix"
_BUSY_SECONDS = 30.0
LIVING = "CREATE UNIQUE INDEX living ON items (id) WHERE died IS NULL"
SCHEMA = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE encoders (
    number INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    space TEXT NOT NULL
) STRICT;
CREATE TABLE segments (number INTEGER PRIMARY KEY, facts TEXT NOT NULL) STRICT;
CREATE TABLE items (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    died INTEGER,
    encoder INTEGER NOT NULL REFERENCES encoders (number),
    path TEXT NOT NULL,
    size INTEGER,
    mtime_ns INTEGER,
    sha256 TEXT NOT NULL,
    metadata TEXT NOT NULL
) STRICT;
{LIVING};
CREATE INDEX dead ON items (died) WHERE died IS NOT NULL;
CREATE TABLE set_aside (reason TEXT PRIMARY KEY) STRICT;
CREATE TABLE recent (key INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;
"""


def connect(file: Path) -> sqlite3.Connection:
    """Connect to change it, or to make it."""
    return sqlite3.connect(
        file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def connect_to_read(file: Path) -> tuple[sqlite3.Connection, bool]:
    """Return a connection, and whether it follows what is committed later."""
    connection = _connect_by_uri(file, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = file.with_name(file.name + "-wal")
        if log.is_file() and log.stat().st_size:
            raise
        # A folder that cannot be written, and in which nobody writes: no log is needed.
        return _connect_by_uri(file, "immutable=1"), False
    return connection, True


def _connect_by_uri(file: Path, option: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{file.resolve().as_uri()}?{option}",
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        uri=True,
    )
