"""A segment: an immutable part of an index folder, its FAISS file, the keys and ids of its rows.

Rows are in the order of their keys. Where the FAISS index does not keep the vectors as they are,
they lie beside it in half precision: to be scored again, and to build other indexes from.
"""

import contextlib
import dataclasses
import hashlib
import mmap
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from encoder.array_files import naming, write_array, write_header
from encoder.atomic import sync
from encoder.errors import PocketlensError, first_line
from server_index import faiss_index
from server_index.faiss_index import Kind, Rows, SearchEffort, Vectors

SEGMENTS = "segments"
_INDEX, _VECTORS, _KEYS, _ENDS, _IDS = "index.faiss", "vectors.npy", "keys.npy", "ends.npy", "ids"
# What is read of each end of a file when it is opened.
_EDGE = 4096


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """Hold a file's size and digests: of its ends, read when it is opened, and of all of it."""

    bytes: int
    edges: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class SegmentFacts:
    """Hold what the record says of a segment: one space, the encoders that wrote into it."""

    number: int
    count: int
    kind: Kind
    space: str
    encoders: tuple[str, ...]
    files: dict[str, FileFacts]

    def to_json(self) -> dict[str, Any]:
        """Return the facts as plain JSON values."""
        return {
            "count": self.count,
            "kind": self.kind.spec,
            "space": self.space,
            "encoders": list(self.encoders),
            "files": {name: dataclasses.asdict(file) for name, file in self.files.items()},
        }

    @classmethod
    def from_json(cls, number: int, value: dict[str, Any]) -> Self:
        """Read facts.

        Raises:
            KeyError, TypeError: when they are damaged.
        """
        files = {name: FileFacts(**facts) for name, facts in value["files"].items()}
        return cls(
            number=number,
            count=int(value["count"]),
            kind=Kind(value["kind"]),
            space=str(value["space"]),
            encoders=tuple(map(str, value["encoders"])),
            files=files,
        )


def name_folder(index_folder: Path, number: int) -> Path:
    """Return where a segment lies."""
    return index_folder / SEGMENTS / f"{number:04d}"


class SegmentWriter:
    """Write a segment of a known number of rows, chunk by chunk; it counts once recorded."""

    def __init__(self, folder: Path, number: int, kind: Kind, empty: Any, count: int) -> None:
        """Begin; `empty` is a FAISS index of this kind, trained where it needs that."""
        self._place = name_folder(folder, number)
        self._scratch = self._place.with_name(self._place.name + ".partial")
        self._number, self._kind, self._index = number, kind, empty
        self._keys: Rows = np.empty(count, np.int64)
        self._ids: list[bytes] = []
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        sync(folder)
        # Not through a map of memory: a full disk would end the process.
        self._vectors = None if kind.keeps_vectors else (self._scratch / _VECTORS).open("wb")

    def add(self, keys: Rows, ids: Sequence[str], vectors: Vectors) -> None:
        """Append unit vectors `[n, dim]`, their keys above those before them, and their ids."""
        first = len(self._ids)
        self._keys[first : first + len(keys)] = keys
        self._ids.extend(name.encode() for name in ids)
        faiss_index.add(self._index, self._kind, vectors)
        if self._vectors:
            with naming(self._scratch / _VECTORS):
                if not first:
                    write_header(self._vectors, np.float16, (len(self._keys), vectors.shape[1]))
                self._vectors.write(vectors.astype(np.float16).tobytes())

    def give_up(self) -> None:
        """Remove what was written."""
        if self._vectors:
            with contextlib.suppress(OSError):
                self._vectors.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def finish(self, space: str, encoders: Sequence[str]) -> SegmentFacts:
        """Flush what was written to disk and put it in its place, or remove it."""
        try:
            return self._finish(space, encoders)
        except BaseException:
            self.give_up()
            raise

    def _finish(self, space: str, encoders: Sequence[str]) -> SegmentFacts:
        if len(self._ids) != len(self._keys):
            raise ValueError(f"{len(self._ids)} rows came of the {len(self._keys)} announced")
        if self._vectors:
            with naming(self._scratch / _VECTORS):
                self._vectors.close()
        faiss_index.write(self._index, self._kind, self._scratch / _INDEX)
        ends = np.cumsum([len(name) for name in self._ids], dtype=np.int64)
        write_array(self._scratch / _KEYS, self._keys)
        write_array(self._scratch / _ENDS, ends)
        with naming(self._scratch / _IDS):
            (self._scratch / _IDS).write_bytes(b"".join(self._ids))
        files = {}
        for file in sorted(self._scratch.iterdir()):
            sync(file)
            files[file.name] = read_file_facts(file)
        sync(self._scratch)
        # A folder of this number that no record names is what a killed writer left.
        shutil.rmtree(self._place, ignore_errors=True)
        self._scratch.rename(self._place)
        sync(self._place.parent)
        return SegmentFacts(
            self._number, len(self._keys), self._kind, space, tuple(encoders), files
        )


def read_file_facts(file: Path) -> FileFacts:
    """Read a file's size and digests."""
    with file.open("rb") as stream:
        return FileFacts(
            file.stat().st_size,
            _digest_edges(file),
            hashlib.file_digest(stream, "sha256").hexdigest(),
        )


def _digest_edges(file: Path) -> str:
    with file.open("rb") as stream:
        digest = hashlib.sha256(stream.read(_EDGE))
        stream.seek(max(0, file.stat().st_size - _EDGE))
        digest.update(stream.read(_EDGE))
    return digest.hexdigest()


def check_digest(file: Path, sha256: str) -> Iterator[str]:
    """Read every byte of a file, and say what is wrong with it."""
    try:
        if read_file_facts(file).sha256 != sha256:
            yield f"{file}: damaged (its bytes are not those that were written)"
    except OSError as error:
        yield f"{file}: missing or unreadable ({error.strerror})"


def rows_of(held: Rows, keys: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Return the rows of keys among those held, ascending, and which of them are held."""
    rows = np.searchsorted(held, keys)
    inside = rows < len(held)
    inside[inside] = held[rows[inside]] == keys[inside]
    return rows, inside


class Segment:
    """Hold an open segment: its vectors are searched, and its rows' keys and ids looked up."""

    def __init__(self, folder: Path, facts: SegmentFacts, dim: int) -> None:
        """Open a segment.

        Raises:
            PocketlensError: naming the file that is missing, cut short or damaged at its ends.
        """
        self.facts = facts
        self.place = name_folder(folder, facts.number)
        for name, known in facts.files.items():
            _check_ends(self.place / name, known)
        self.index = faiss_index.read(facts.kind, self.place / _INDEX)
        self.keys: Rows = _load(self.place / _KEYS)
        self._ends: Rows = _load(self.place / _ENDS)
        self.vectors: NDArray[Any] = (
            faiss_index.view_vectors(self.index, facts.kind)
            if _VECTORS not in facts.files
            else _load(self.place / _VECTORS)
        )
        kind = facts.kind
        self.codes = faiss_index.view_codes(self.index) if kind.binary else None
        # What is asked; of codes, what they find is scored by the vectors.
        self._asked = (
            self.index
            if kind.scores_exactly or kind.binary
            else faiss_index.refine(self.index, self.vectors)
        )
        counts = (self.index.ntotal, len(self.keys), len(self._ends), len(self.vectors))
        if set(counts) != {facts.count} or self.vectors.shape[1] != dim:
            raise PocketlensError(f"{self.place}: does not hold {facts.count} vectors of {dim}")
        self._ids = _map_bytes(self.place / _IDS)

    def __len__(self) -> int:
        return self.facts.count

    def find(
        self,
        queries: Vectors,
        count: int,
        effort: SearchEffort,
        allowed: NDArray[np.bool_] | None = None,
    ) -> tuple[Vectors, Rows]:
        """Return scores and rows, as `faiss_index.find`."""
        return faiss_index.find(
            self._asked, self.facts.kind, queries, min(count, len(self)), effort, allowed
        )

    def id_of(self, row: int) -> str:
        """Return the id of a row."""
        start = self._ends.item(row - 1) if row else 0
        return self._ids[start : self._ends.item(row)].decode()


def read_keys(folder: Path, facts: SegmentFacts) -> Rows:
    """Return the keys of a segment's rows, ascending, without opening the rest.

    Raises:
        PocketlensError: when their file is missing, cut short or damaged at its ends.
    """
    place = name_folder(folder, facts.number)
    _check_ends(place / _KEYS, facts.files[_KEYS])
    return np.asarray(_load(place / _KEYS))


def _load(file: Path) -> NDArray[Any]:
    try:
        # Plain arrays over the map: numpy's own class for maps costs time at each slice.
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise PocketlensError(f"{file}: damaged ({first_line(error)})") from None


def _check_ends(file: Path, known: FileFacts) -> None:
    try:
        size = file.stat().st_size
        if size != known.bytes:
            raise PocketlensError(
                f"{file}: cut short or written over ({size} bytes in place of {known.bytes})"
            )
        edges = _digest_edges(file)
    except OSError as error:
        raise PocketlensError(f"{file}: missing or unreadable ({error.strerror})") from None
    if edges != known.edges:
        raise PocketlensError(f"{file}: damaged (its ends are not as they were written)")


def check_whole(folder: Path, facts: SegmentFacts) -> Iterator[str]:
    """Read every byte of a segment, and say what is wrong with which file."""
    place = name_folder(folder, facts.number)
    for name, known in facts.files.items():
        yield from check_digest(place / name, known.sha256)
    with contextlib.suppress(OSError):
        for extra in sorted({file.name for file in place.iterdir()} - set(facts.files)):
            yield f"{place / extra}: is not part of the segment"


def _map_bytes(file: Path) -> mmap.mmap | bytes:
    try:
        with file.open("rb") as stream:
            # An empty file cannot be mapped.
            if not file.stat().st_size:
                return b""
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise PocketlensError(f"{file}: missing or unreadable ({error.strerror})") from None
