"""The record of an index folder: a SQLite file, the only place where anything is committed.

Every version of an item has a key of its own, never used again; of those with one id at most one
lives. A commit begins a new generation; an item that died says in which.
"""

import contextlib
import itertools
import json
import math
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder.atomic import sync
from encoder.errors import PocketlensError, first_line
from server_index.items import Item, encode_metadata
from server_index.record_schema import APPLICATION, LIVING, SCHEMA, connect, connect_to_read
from server_index.segment import SegmentFacts
from server_index.state import State

T = TypeVar("T")
RECORD = "index.sqlite"
# Below the number of variables that any build of SQLite allows.
VALUES_A_QUERY = 500
_CACHE_KIB = 128 << 10
# Of SQLite's machine, between looks at the clock: a fraction of a millisecond.
_STEPS_BETWEEN_LOOKS = 10_000


def create_record(folder: Path, state: State) -> None:
    """Write the record of an empty index; it appears whole.

    Raises:
        PocketlensError: when there is one.
    """
    if is_index(folder):
        raise PocketlensError(f"{folder}: is an index already")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".record.") as scratch:
        with Record(Path(scratch), create=True) as record, record.change():
            for statement in SCHEMA.split(";\n"):
                record.run(statement)
            record.run(f"PRAGMA application_id = {APPLICATION}")
            record.put_state(state)
        sync(Path(scratch) / RECORD)
        (Path(scratch) / RECORD).rename(folder / RECORD)
        sync(folder)


def is_index(folder: Path) -> bool:
    """Return whether a folder has a record."""
    return (folder / RECORD).is_file()


def require_index(folder: Path) -> None:
    """Refuse a folder without a record.

    Raises:
        PocketlensError: naming it.
    """
    if not is_index(folder):
        raise PocketlensError(f"{folder}: not an index folder (no {RECORD})")


class Record:
    """Hold a connection to the record. Reads for everyone; changes for who holds the lock."""

    def __init__(self, folder: Path, *, create: bool = False, write: bool = False) -> None:
        """Connect.

        Raises:
            PocketlensError: when there is no record, or it is damaged or none of ours.
        """
        self.file = folder / RECORD
        if not create:
            require_index(folder)
        with self._named():
            self._follows = True
            if create or write:
                self._connection = connect(self.file)
                self.run("PRAGMA journal_mode = WAL")
                self.run("PRAGMA synchronous = FULL")
                # In KiB: ids come in any order, and each is put into its place among all.
                self.run(f"PRAGMA cache_size = -{_CACHE_KIB}")
            else:
                self._connection, self._follows = connect_to_read(self.file)
            self._identity = self._identify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; the last writer's leaves one file."""
        self._connection.close()

    def run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        with self._named():
            return self._connection.execute(statement, values)

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """Execute a statement for every row; return how many rows of the table it changed."""
        with self._named():
            return self._connection.executemany(statement, rows).rowcount

    def select(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of an answer."""
        with self._named():
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Commit all of what the block changes when it ends well, else none of it."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.rollback()
            raise

    @contextlib.contextmanager
    def view(self) -> Iterator[None]:
        """Keep one committed state in sight for the length of the block."""
        self.run("BEGIN")
        try:
            yield
        finally:
            self.run("ROLLBACK")

    def settle(self) -> bool:
        """Move all that is committed into the one file; return whether nothing hindered it."""
        return bool(self.select("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0)

    def was_replaced(self) -> bool:
        """Return whether another file stands in its place, or one that cannot be followed changed.

        Raises:
            PocketlensError: when there is none.
        """
        return self._identify() != self._identity

    def _identify(self) -> tuple[int, ...]:
        try:
            status = self.file.stat()
            identity: tuple[int, ...] = (status.st_dev, status.st_ino)
            if not self._follows:
                log = self.file.with_name(self.file.name + "-wal")
                size = log.stat().st_size if log.is_file() else 0
                identity += (status.st_size, status.st_mtime_ns, size)
        except OSError as error:
            raise PocketlensError(f"{self.file}: {error.strerror}") from None
        return identity

    def dead_keys(self, since: int) -> NDArray[np.int64]:
        """Return the keys, ascending, of recorded items that died after a generation."""
        found = self.scan_keys("SELECT key FROM items WHERE died > ?", [since])
        found.sort()
        return found

    def dead_keys_until(self, generation: int) -> NDArray[np.int64]:
        """Return the keys, in any order, of recorded items that died up to a generation."""
        return self.scan_keys("SELECT key FROM items WHERE died <= ?", [generation])

    def dead_recent_keys(self) -> NDArray[np.int64]:
        """Return the keys of recent additions that died."""
        return self.scan_keys(
            "SELECT key FROM recent JOIN items USING (key) WHERE died IS NOT NULL", []
        )

    def scan_keys(
        self, statement: str, values: Sequence[Any], seconds: float = math.inf
    ) -> NDArray[np.int64]:
        """Return the one column of an answer as numbers.

        Raises:
            TimeoutError: when it takes longer than that.
        """
        until = time.monotonic() + seconds
        if seconds < math.inf:
            late = lambda: time.monotonic() > until  # noqa: E731
            self._connection.set_progress_handler(late, _STEPS_BETWEEN_LOOKS)
        try:
            with self._named():
                rows = self._connection.execute(statement, values)
                return np.fromiter((row[0] for row in rows), np.int64)
        except PocketlensError:
            if time.monotonic() > until:
                raise TimeoutError from None
            raise
        finally:
            self._connection.set_progress_handler(None, 0)

    def version(self) -> int:
        """Return a number that changes when another connection commits."""
        return int(self.select("PRAGMA data_version")[0][0])

    def state(self) -> State:
        """Read what the folder is.

        Raises:
            PocketlensError: when the facts are damaged or of another format.
        """
        rows = self.select("SELECT value FROM facts WHERE name = 'state'")
        return State.from_json(self._read_json(rows[0][0] if rows else ""), self.file)

    def put_state(self, state: State) -> None:
        """Write what the folder is from now on."""
        self.run("INSERT OR REPLACE INTO facts VALUES ('state', ?)", [json.dumps(state.to_json())])

    def segments(self) -> list[SegmentFacts]:
        """Return the facts of every segment, by number."""
        try:
            return [
                SegmentFacts.from_json(number, self._read_json(facts))
                for number, facts in self.select("SELECT * FROM segments ORDER BY number")
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{self.file}: its facts are damaged ({error!r})") from None

    def segments_of(self, space: str) -> list[SegmentFacts]:
        """Return the facts of the segments of a space, by number."""
        return [segment for segment in self.segments() if segment.space == space]

    def put_segment(self, segment: SegmentFacts) -> None:
        """Name a segment that has been written."""
        facts = json.dumps(segment.to_json())
        self.run("INSERT INTO segments VALUES (?, ?)", [segment.number, facts])

    def number_encoder(self, digest: str, space: str) -> int:
        """Return the number of an encoder, given to it now where it has none."""
        self.run("INSERT OR IGNORE INTO encoders (digest, space) VALUES (?, ?)", [digest, space])
        rows = self.select("SELECT number FROM encoders WHERE digest = ?", [digest])
        return int(rows[0][0])

    def encoders(self) -> dict[int, str]:
        """Return the digest of each encoder, by its number."""
        return dict(self.select("SELECT number, digest FROM encoders ORDER BY number"))

    def insert_items(self, first_key: int, items: Sequence[Item], encoder: int) -> None:
        """Record items under consecutive keys.

        Raises:
            sqlite3.IntegrityError: when an id lives already.
        """
        # Sorting all ids once costs less than finding the place of each among the others.
        anew = len(items) > first_key // 2
        if anew:
            self.run("DROP INDEX IF EXISTS living")
        keys = itertools.count(first_key)
        for some in _parts(items, VALUES_A_QUERY // 8):
            values: list[Any] = []
            for item in some:
                values += (next(keys), item.id, encoder, item.path, item.size, item.mtime_ns)
                values += (item.sha256, encode_metadata(item))
            rows = ",".join(["(?, ?, NULL, ?, ?, ?, ?, ?, ?)"] * len(some))
            self.run(f"INSERT INTO items VALUES {rows}", values)
        if anew:
            self.run(LIVING)

    def items(self, keys: Sequence[int]) -> dict[int, Item]:
        """Return the items of those keys that are still recorded."""
        found: dict[int, Item] = {}
        for some in _parts(keys):
            rows = self.select(
                "SELECT key, id, path, metadata, size, mtime_ns, sha256 FROM items"
                f" WHERE key IN ({_marks(some)})",
                some,
            )
            for key, name, path, metadata, size, mtime_ns, sha256 in rows:
                said = self._read_json(metadata)
                found[key] = Item(name, path, said, size, mtime_ns, sha256)
        return found

    def encoders_of(self, keys: Sequence[int]) -> dict[int, str]:
        """Return the encoder digests of items by their keys."""
        found: dict[int, str] = {}
        for some in _parts(keys):
            found |= self.select(
                "SELECT key, digest FROM items JOIN encoders ON encoder = number"
                f" WHERE key IN ({_marks(some)})",
                some,
            )
        return found

    def forget(self, keys: NDArray[np.int64]) -> None:
        """Delete the rows of items."""
        self.run_many("DELETE FROM items WHERE key = ?", ((key,) for key in keys.tolist()))

    def living(self, ids: Sequence[str]) -> dict[str, int]:
        """Return the keys of those ids that live."""
        found: dict[str, int] = {}
        for some in _parts(ids):
            found |= self.select(
                f"SELECT id, key FROM items WHERE died IS NULL AND id IN ({_marks(some)})", some
            )
        return found

    def living_keys(self) -> NDArray[np.int64]:
        """Return the keys of all items that live."""
        return self.scan_keys("SELECT key FROM items WHERE died IS NULL", [])

    def living_of(self, keys: Sequence[int]) -> list[int]:
        """Return those of these keys whose items live."""
        found: list[int] = []
        for some in _parts(keys):
            statement = f"SELECT key FROM items WHERE died IS NULL AND key IN ({_marks(some)})"
            found += [row[0] for row in self.select(statement, some)]
        return found

    def count_living(self) -> int:
        """Return the number of items that live."""
        return int(self.select("SELECT count(*) FROM items WHERE died IS NULL")[0][0])

    def count_recent(self) -> int:
        """Return the number of additions in no segment, dead ones too."""
        return int(self.select("SELECT count(*) FROM recent")[0][0])

    def set_aside(self) -> list[str]:
        """Return what was said of images that could not be used."""
        return [row[0] for row in self.select("SELECT reason FROM set_aside ORDER BY reason")]

    def name_encoders(self, first_key: int, last_key: int) -> list[str]:
        """Return the digests of the encoders of the items from one key to another."""
        rows = self.select(
            "SELECT DISTINCT digest FROM items JOIN encoders ON encoder = number"
            " WHERE key BETWEEN ? AND ? ORDER BY digest",
            [first_key, last_key],
        )
        return [row[0] for row in rows]

    def recent(self, after: int, dim: int) -> tuple[list[int], list[str], Any]:
        """Return keys, ids and vectors `[n, dim]` of additions in no segment, from a key on."""
        rows = self.select(
            "SELECT key, id, vector FROM recent JOIN items USING (key) WHERE key >= ? ORDER BY key",
            [after],
        )
        joined = b"".join(vector for _, _, vector in rows)
        if len(joined) != len(rows) * dim * 4:
            raise PocketlensError(f"{self.file}: a recent vector is not of {dim} dimensions")
        vectors = np.frombuffer(joined, "<f4").reshape(-1, dim)
        return [row[0] for row in rows], [row[1] for row in rows], vectors

    def _read_json(self, text: str) -> dict[str, Any]:
        try:
            return dict(json.loads(text))
        except (TypeError, ValueError) as error:
            raise PocketlensError(f"{self.file}: its facts are damaged ({error!r})") from None

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Say in one line what SQLite says of the file."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise PocketlensError(f"{self.file}: another process is writing it") from None
            raise PocketlensError(f"{self.file}: cannot be used ({first_line(error)})") from None
        except sqlite3.DatabaseError as error:
            raise PocketlensError(f"{self.file}: damaged ({first_line(error)})") from None


def _parts(values: Sequence[T], size: int = VALUES_A_QUERY) -> Iterator[Sequence[T]]:
    return (values[at : at + size] for at in range(0, len(values), size))


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
