"""Change an index folder: add, replace and delete by id, seal, compact.

What a call acknowledged is on disk. A kill at any moment leaves the state before or after it.
"""

import contextlib
import dataclasses
import logging
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from encoder.atomic import new_file
from encoder.errors import PocketlensError
from encoder.space import EmbeddingSpace
from server_index import faiss_index
from server_index.contract import check_vectors
from server_index.faiss_index import Kind, Rows, SearchEffort, Vectors
from server_index.items import Item, check_item
from server_index.lock import hold_lock
from server_index.manifest import write_manifest
from server_index.record import Record, State, create_record, require_index
from server_index.segment import (
    SEGMENTS,
    SegmentFacts,
    SegmentWriter,
    name_folder,
    read_file_facts,
)
from server_index.snapshot import Part
from server_index.stored import (
    CHUNK,
    Chunks,
    draw_vectors,
    living_keys,
    open_parts,
    read_chunks,
)

# Additions in the record before they become a segment.
SEAL_AT = 8192
# Segments up to so large are merged once there are so many of them.
_SMALL, _MOST_SMALL = 1 << 17, 8
# Bytes of one segment of vectors as they are: what FAISS writes at once.
_SEGMENT_BYTES = 2 << 30
# Before it is known how little is enough.
THOROUGH = SearchEffort(probes=128, graph_candidates=512, rescore=16)
_LOG = logging.getLogger("pocketlens.index")
_QUANTISER = "quantisers/{:04d}.faiss"


def create_index(
    folder: Path,
    space: EmbeddingSpace,
    *,
    kind: Kind | None = None,
    dim: int | None = None,
    building: str = "",
) -> None:
    """Make an empty index in a folder; `dim` below the space's keeps a prefix of its vectors.

    Raises:
        PocketlensError: when the folder holds an index, or the kind must be trained first.
    """
    kind, dim = kind or Kind("Flat"), dim or space.dim
    if not 1 <= dim <= space.dim:
        raise PocketlensError(f"--dim {dim}: the space has {space.dim} dimensions")
    if not faiss_index.make_index(kind, dim).is_trained:
        raise PocketlensError(
            f"an index of kind {kind.spec} must learn from vectors: compact to it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder):
        create_record(folder, State(space, dim, kind, building=building))
        with Record(folder, write=True) as record:
            write_manifest(folder, record)


class IndexWriter:
    """Hold the one writer of an index folder; several threads may call it in turn."""

    def __init__(self, folder: Path) -> None:
        """Open a folder for writing.

        Raises:
            PocketlensError: when it is no index, damaged, or another process writes it.
        """
        self.folder = folder
        self._turn = threading.RLock()
        # A folder that is none of ours is not given a lock file.
        require_index(folder)
        with contextlib.ExitStack() as opened:
            opened.enter_context(hold_lock(folder))
            self._record = opened.enter_context(Record(folder, write=True))
            self.state = self._record.state()
            self._recent, self._seal_at = self._record.count_recent(), SEAL_AT
            self._sweep()
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the manifest, and let another process write."""
        with self._turn, self._opened:
            write_manifest(self.folder, self._record)

    def __len__(self) -> int:
        return self._record.count_living()

    def encoders(self) -> list[str]:
        """Return the digests of the encoders whose vectors the index was given."""
        return sorted(self._record.encoders().values())

    def living(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return those of these items that are in the index."""
        with self._turn:
            keys = self._record.living(ids)
            items = self._record.items(list(keys.values()))
            return {name: items[key] for name, key in keys.items()}

    def add(
        self, vectors: Vectors, items: Sequence[Item], encoder: str, *, replace: bool = False
    ) -> None:
        """Add unit vectors `[n, dim]` with their items, all of them or none; then it is durable.

        Raises:
            PocketlensError: when a vector or an item is not sound, an id comes twice, or one is in
                the index and `replace` is not given.
        """
        check_vectors(vectors, self.state.dim)
        check_items(items, len(vectors))
        with self._turn:
            with self._commit(items, encoder, replace=replace) as first:
                rows = (
                    (key, row.astype("<f4").tobytes()) for key, row in enumerate(vectors, first)
                )
                self._record.run_many("INSERT INTO recent VALUES (?, ?)", rows)
            self._recent += len(items)
            if self._recent >= self._seal_at:
                self._seal_in_passing()

    def add_segment(self, vectors: Vectors, items: Sequence[Item], encoder: str) -> None:
        """Add many vectors at once, as a segment of their own; otherwise as `add`."""
        check_vectors(vectors, self.state.dim)
        if not len(vectors) == len(items) > 0:
            return check_items(items, len(vectors))
        with self._turn, ThreadPoolExecutor(1) as beside:
            first, ids = self.state.next_key, [item.id for item in items]
            source = self._in_chunks(first, ids, vectors)
            # FAISS, the disk and the digests leave this thread free to check and record the items.
            state = self.state
            place = state.kind, state.quantiser, state.next_segment
            writing = beside.submit(self._write, *place, source, len(items), [encoder])
            try:
                check_items(items, len(vectors))
                with self._commit(items, encoder, replace=False):
                    segment = writing.result()
                    self._record.put_segment(segment)
                    self._set_state(next_segment=segment.number + 1)
            finally:
                writing.cancel()

    def set_aside(self, reasons: Sequence[str]) -> None:
        """Record which images could not be used, and why."""
        with self._turn, self._change():
            rows = [(reason,) for reason in reasons]
            self._record.run_many("INSERT OR IGNORE INTO set_aside VALUES (?)", rows)

    def _seal_in_passing(self) -> None:
        """Seal; where that fails, what was added is durable all the same, and it is tried later."""
        try:
            self.seal()
            self._seal_at = SEAL_AT
        except (OSError, PocketlensError) as error:
            self._seal_at = self._recent + SEAL_AT
            _LOG.warning("recent additions are not made a segment yet: %s", error)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items by id; return how many there were."""
        with self._turn, self._change():
            return self._end(list(self._record.living(ids).values()))

    def seal(self) -> None:
        """Turn the recent additions into a segment."""
        with self._turn:
            if self._recent:
                self._replace_segments([], self.state.kind)
            small = [part for part in self._record.segments() if part.count <= _SMALL]
            if len(small) > _MOST_SMALL:
                self._replace_segments(small, self.state.kind)

    def compact(
        self,
        kind: Kind | None = None,
        effort: SearchEffort | None = None,
        *,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Write all that lives anew, without what was deleted, as an index of this kind.

        Raises:
            PocketlensError: when there are too few vectors for the kind to learn from.
        """
        with self._turn:
            kind = kind or self.state.kind
            quantiser = None
            if kind != self.state.kind:
                quantiser = self._train(kind, lambda: self.sample(kind.count_training_vectors()))
            forgotten = self.state.forgotten
            self._replace_segments(
                self._record.segments(),
                kind,
                quantiser=quantiser,
                # Of a new kind, thorough until it is tuned: readers see it from now on.
                effort=effort or (self.state.effort if quantiser is None else THOROUGH),
                forget=forgotten,
                advance=advance,
            )
            self._sweep()

    def finish_building(self) -> None:
        """Note that all is in it that it was built of."""
        with self._turn:
            if self.state.building:
                with self._change():
                    self._set_state(building="")

    def start_kind(self, kind: Kind, sample: Vectors) -> None:
        """Make an index without items one of this kind, trained on vectors `[n, dim]` to come.

        Raises:
            PocketlensError: when it has items, or the sample is too small.
        """
        with self._turn:
            if len(self):
                raise PocketlensError(f"{self.folder}: has items; compact it to another kind")
            quantiser, digest = self._train(kind, lambda: sample)
            with self._change():
                self._set_state(
                    kind=kind, effort=THOROUGH, quantiser=quantiser, quantiser_sha256=digest
                )

    def set_effort(self, effort: SearchEffort) -> None:
        """Say how hard readers look from now on."""
        with self._turn, self._change():
            self._set_state(effort=effort)

    def sample(self, count: int, seed: int = 0) -> Vectors:
        """Return vectors of the index `[n, dim]`, drawn at random, each at most once."""
        with self._turn:
            return draw_vectors(self._open_parts(self._record.segments()), count, seed)

    # Commits.

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        """Commit the block as a new generation."""
        before = self.state
        try:
            with self._record.change():
                self._set_state(generation=before.generation + 1)
                yield
        except BaseException:
            self.state = before
            # An interruption may have come after the commit.
            with contextlib.suppress(PocketlensError):
                self.state = self._record.state()
            raise

    @contextlib.contextmanager
    def _commit(self, items: Sequence[Item], encoder: str, *, replace: bool) -> Iterator[int]:
        """Commit new items together with what the block adds; yield the first one's key."""
        try:
            with self._change():
                if replace:
                    self._end(list(self._record.living([item.id for item in items]).values()))
                first = self.state.next_key
                number = self._record.number_encoder(encoder, self.state.space.id)
                self._record.insert_items(first, items, number)
                self._set_state(next_key=first + len(items))
                yield first
        except sqlite3.IntegrityError:
            there = min(self._record.living([item.id for item in items]))
            raise PocketlensError(
                f"id {there!r} is in the index already; replace it, or give it another id"
            ) from None

    def _set_state(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)
        self._record.put_state(self.state)

    def _end(self, keys: list[int]) -> int:
        statement = "UPDATE items SET died = ? WHERE key = ?"
        return self._record.run_many(statement, [(self.state.generation, key) for key in keys])

    # Segments.

    def _replace_segments(
        self,
        old: Sequence[SegmentFacts],
        kind: Kind,
        *,
        quantiser: tuple[str, str] | None = None,
        effort: SearchEffort | None = None,
        forget: int | None = None,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Write what lives of these segments and of the recent additions as new segments."""
        trained, digest = quantiser or (self.state.quantiser, self.state.quantiser_sha256)
        parts = self._open_parts(old)
        number, new = self.state.next_segment, []
        for some in self._divide(living_keys(parts), kind):
            source = read_chunks(parts, some, advance)
            encoders = self._record.name_encoders(int(some[0]), int(some[-1]))
            new.append(self._write(kind, trained, number, source, len(some), encoders))
            number += 1
        with self._change():
            for segment in new:
                self._record.put_segment(segment)
            numbers = [(segment.number,) for segment in old]
            self._record.run_many("DELETE FROM segments WHERE number = ?", numbers)
            self._record.run("DELETE FROM recent")
            if forget is not None:
                self._record.run("DELETE FROM items WHERE died <= ?", [forget])
                self._set_state(forgotten=self.state.generation)
            self._set_state(
                kind=kind,
                effort=effort or self.state.effort,
                quantiser=trained,
                quantiser_sha256=digest,
                next_segment=number,
            )
        self._recent = 0
        for segment in old:
            # Readers of an older generation hold the files open.
            shutil.rmtree(name_folder(self.folder, segment.number), ignore_errors=True)

    def _divide(self, keys: Rows, kind: Kind) -> list[Rows]:
        """Divide keys between segments that FAISS can hold in memory while it writes them."""
        if kind.keeps_vectors:
            most = max(1, _SEGMENT_BYTES // (4 * self.state.dim))
        else:
            most = max(1, len(keys))
        return [keys[first : first + most] for first in range(0, len(keys), most)]

    def _write(
        self,
        kind: Kind,
        quantiser: str,
        number: int,
        source: Chunks,
        count: int,
        encoders: Sequence[str],
    ) -> SegmentFacts:
        empty = (
            faiss_index.read(kind, self.folder / quantiser, mapped=False)
            if quantiser
            else faiss_index.make_index(kind, self.state.dim)
        )
        writer = SegmentWriter(self.folder, number, kind, empty, count)
        try:
            for keys, ids, vectors in source:
                writer.add(keys, ids, vectors)
            return writer.finish(self.state.space.id, encoders)
        except BaseException:
            writer.give_up()
            raise

    def _in_chunks(self, first: int, ids: list[str], vectors: Vectors) -> Chunks:
        for start in range(0, len(ids), CHUNK):
            stop = min(start + CHUNK, len(ids))
            yield np.arange(first + start, first + stop), ids[start:stop], vectors[start:stop]

    def _open_parts(self, segments: Sequence[SegmentFacts]) -> list[Part]:
        return open_parts(self.folder, self._record, self.state.dim, segments)

    def _train(self, kind: Kind, draw: Callable[[], Vectors]) -> tuple[str, str]:
        """Train an empty index where it must; return the file it was written to, and its digest."""
        empty = faiss_index.make_index(kind, self.state.dim)
        if empty.is_trained:
            return "", ""
        faiss_index.train(empty, kind, draw())
        name = _QUANTISER.format(self.state.next_segment)
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        with new_file(file) as scratch:
            faiss_index.write(empty, kind, scratch)
        return name, read_file_facts(file).sha256

    def _sweep(self) -> None:
        """Remove what a killed writer left, and what no segment is made with any more."""
        known = {f"{segment.number:04d}" for segment in self._record.segments()}
        for folder in (self.folder / SEGMENTS).glob("*"):
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
        for file in (self.folder / "quantisers").glob("*"):
            if f"quantisers/{file.name}" != self.state.quantiser:
                file.unlink(missing_ok=True)


def check_items(items: Sequence[Item], count: int) -> None:
    """Refuse items that are not sound, not as many as vectors, or not all of different ids."""
    if len(items) != count:
        raise PocketlensError(f"{count} vectors came with {len(items)} items")
    for item in items:
        check_item(item)
    if len({item.id for item in items}) < len(items):
        (twice, _), *_ = Counter(item.id for item in items).most_common(1)
        raise PocketlensError(f"id {twice[:80]!r} comes twice; every item needs its own")
