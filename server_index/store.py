"""The index folder: a FAISS index, the ids and paths of its rows, and the space they are in.

`index.sqlite` is the record; `segments/0001/index.faiss` opens with plain FAISS; `manifest.json`
repeats the facts for people and other tools.
"""

import contextlib
import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from encoder.atomic import write_json
from encoder.errors import PocketlensError
from encoder.json_files import require_format
from encoder.space import EmbeddingSpace

FORMAT = 1
MANIFEST = "manifest.json"
_RECORD = "index.sqlite"
_SEGMENT = "segments/0001/index.faiss"
_UNIT_TOLERANCE = 1e-3
# Below the number of variables that any build of SQLite allows.
_ROWS_A_QUERY = 500
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE items (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    label TEXT NOT NULL
) STRICT;
"""


@dataclasses.dataclass(frozen=True)
class Item:
    """Name one database image."""

    id: str
    path: str
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Hit:
    """Hold one answer; `score` is the cosine."""

    item: Item
    score: float


class IndexWriter:
    """Collect vectors and items into a new index folder."""

    def __init__(self, folder: Path, space: EmbeddingSpace, encoder: str) -> None:
        self._folder = folder
        self._space, self._encoder = space, encoder
        self._index = faiss.IndexFlatIP(space.dim)
        self._record = sqlite3.connect(folder / _RECORD)
        self._record.executescript(_SCHEMA)

    def add(self, vectors: NDArray[np.float32], items: Sequence[Item]) -> None:
        """Append unit vectors `[n, dim]` with their items.

        Raises:
            PocketlensError: when an id comes twice, or a vector is not of unit length.
        """
        check_vectors(vectors, self._space.dim)
        first = self._index.ntotal
        rows = [(first + n, item.id, item.path, item.label) for n, item in enumerate(items)]
        try:
            self._record.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
        except sqlite3.IntegrityError:
            raise PocketlensError("an id appears twice; every item needs its own") from None
        except sqlite3.OperationalError as error:
            raise PocketlensError(
                f"{self._folder / _RECORD}: cannot be written ({error})"
            ) from None
        self._index.add(vectors)

    def close(self) -> None:
        """Write the FAISS file, the record and the manifest."""
        segment = self._folder / _SEGMENT
        segment.parent.mkdir(parents=True)
        try:
            faiss.write_index(self._index, str(segment))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1][:160]
            raise PocketlensError(f"{segment}: cannot be written ({reason})") from None
        facts = {
            "format": FORMAT,
            "space": self._space.to_json(),
            "encoder": self._encoder,
            "items": int(self._index.ntotal),
            "segments": [
                {
                    "file": _SEGMENT,
                    "type": "Flat",
                    "bytes": segment.stat().st_size,
                    "sha256": _digest(segment),
                }
            ],
        }
        with self._record:
            self._record.execute("INSERT INTO meta VALUES ('facts', ?)", [json.dumps(facts)])
        self._record.close()
        write_json(self._folder / MANIFEST, facts)


@dataclasses.dataclass(frozen=True)
class Index:
    """Hold an open index: search it by vector."""

    folder: Path
    space: EmbeddingSpace
    encoder: str
    faiss_index: Any

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an index folder.

        Raises:
            PocketlensError: naming the file that is missing, cut short or of a newer format.
        """
        if not folder.is_dir() or not (folder / _RECORD).is_file():
            raise PocketlensError(f"{folder}: not an index folder (no {_RECORD})")
        facts = _read_facts(folder)
        try:
            space = EmbeddingSpace.from_json(facts["space"], str(folder / _RECORD))
            file, size = folder / _SEGMENT, int(facts["segments"][0]["bytes"])
            items, encoder = int(facts["items"]), str(facts["encoder"])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PocketlensError(
                f"{folder / _RECORD}: its facts are damaged ({error!r})"
            ) from None
        if not file.is_file() or file.stat().st_size != size:
            raise PocketlensError(f"{file}: missing or cut short; build the index again")
        try:
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise PocketlensError(f"{file}: FAISS cannot read it ({error})") from None
        if index.ntotal != items or index.d != space.dim:
            raise PocketlensError(f"{file}: does not hold the {items} vectors that were written")
        return cls(folder, space, encoder, index)

    def __len__(self) -> int:
        return int(self.faiss_index.ntotal)

    def search(self, vectors: NDArray[np.float32], count: int) -> list[list[Hit]]:
        """Return each query's `count` best items, best first, by cosine.

        Raises:
            PocketlensError: when a vector is not of the space's dimension or of unit length.
        """
        check_vectors(vectors, self.space.dim)
        if count < 1:
            raise PocketlensError(f"the number of answers must be at least 1, not {count}")
        scores, rows = self.faiss_index.search(vectors, min(count, len(self)))
        items = self._items({int(row) for row in rows.ravel() if row >= 0})
        return [
            [
                Hit(items[int(row)], float(score))
                for row, score in zip(line, line_scores, strict=True)
                if row >= 0
            ]
            for line, line_scores in zip(rows, scores, strict=True)
        ]

    def _items(self, rows: set[int]) -> dict[int, Item]:
        found: dict[int, Item] = {}
        with _open_record(self.folder) as record:
            wanted = sorted(rows)
            for first in range(0, len(wanted), _ROWS_A_QUERY):
                some = wanted[first : first + _ROWS_A_QUERY]
                marks = ",".join("?" * len(some))
                query = f"SELECT row, id, path, label FROM items WHERE row IN ({marks})"
                found |= {row: Item(*fields) for row, *fields in record.execute(query, some)}
        return found


def check_vectors(vectors: NDArray[np.float32], dim: int) -> None:
    """Refuse vectors that are not float32 `[n, dim]` of unit length."""
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise PocketlensError(f"vectors must be [n, {dim}] in this space, not {vectors.shape}")
    lengths = np.linalg.norm(vectors, axis=1)
    if not bool((np.abs(lengths - 1) <= _UNIT_TOLERANCE).all()):
        raise PocketlensError("vectors must be of unit length and finite")


@contextlib.contextmanager
def _open_record(folder: Path) -> Iterator[sqlite3.Connection]:
    file = folder / _RECORD
    try:
        record = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            yield record
        finally:
            record.close()
    except sqlite3.Error as error:
        raise PocketlensError(f"{file}: damaged ({error}); build the index again") from None


def _read_facts(folder: Path) -> dict[str, Any]:
    file = folder / _RECORD
    with _open_record(folder) as record:
        row = record.execute("SELECT value FROM meta WHERE key = 'facts'").fetchone()
    try:
        facts: dict[str, Any] = dict(json.loads(row[0])) if row else {}
    except (TypeError, ValueError) as error:
        raise PocketlensError(f"{file}: its facts are damaged ({error})") from None
    require_format(facts, file, FORMAT)
    return facts


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
