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
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np

from encoder.errors import PocketlensError
from encoder.space import EmbeddingSpace
from server_index import faiss_index
from server_index.acceptance import ACCEPTS
from server_index.contract import check_vectors
from server_index.faiss_index import Kind, SearchEffort, Vectors
from server_index.items import Item, check_item
from server_index.lock import hold_lock
from server_index.manifest import write_manifest
from server_index.record import Record, create_record, require_index
from server_index.segment import (
    SEGMENTS,
    SegmentFacts,
    name_folder,
    read_keys,
    rows_of,
)
from server_index.segment_making import (
    QUANTISERS,
    chunk,
    divide,
    fill_segment,
    train_layer,
    write_segment,
)
from server_index.snapshot import Part
from server_index.state import Layer, State
from server_index.stored import (
    draw_vectors,
    living_keys,
    open_parts,
    read_chunks,
)

# Additions in the record before they become a segment.
SEAL_AT = 8192
# Segments up to so large are merged once there are so many of them.
_SMALL, _MOST_SMALL = 1 << 17, 8
# Before it is known how little is enough.
THOROUGH = SearchEffort(probes=128, graph_candidates=512, rescore=16)
_LOG = logging.getLogger("pocketlens.index")


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
        self.turn = threading.RLock()
        # A folder that is none of ours is not given a lock file.
        require_index(folder)
        with contextlib.ExitStack() as opened:
            opened.enter_context(hold_lock(folder))
            self.record = opened.enter_context(Record(folder, write=True))
            self.state = self.record.state()
            self.recent, self._seal_at = self.record.count_recent(), SEAL_AT
            self._sweep()
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Write the manifest, and let another process write."""
        with self.turn, self._opened:
            try:
                write_manifest(self.folder, self.record)
            except (OSError, PocketlensError) as error:
                # What was acknowledged is in the record; the next writer's end tells it again.
                _LOG.warning("the manifest is as it was: %s", error)

    def __len__(self) -> int:
        return self.record.count_living()

    def encoders(self) -> list[str]:
        """Return the digests of the encoders whose vectors the index was given."""
        return sorted(self.record.encoders().values())

    def living(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return those of these items that are in the index."""
        with self.turn:
            keys = self.record.living(ids)
            items = self.record.items(list(keys.values()))
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
        with self.turn:
            with self._commit(items, encoder, replace=replace) as first:
                rows = (
                    (key, row.astype("<f4").tobytes()) for key, row in enumerate(vectors, first)
                )
                self.record.run_many("INSERT INTO recent VALUES (?, ?)", rows)
            self.recent += len(items)
            if self.recent >= self._seal_at:
                self._seal_in_passing()

    def add_segment(self, vectors: Vectors, items: Sequence[Item], encoder: str) -> None:
        """Add many vectors at once, as a segment of their own; otherwise as `add`."""
        check_vectors(vectors, self.state.dim)
        check_items(items, len(vectors))
        if not items:
            return
        with self.turn, ThreadPoolExecutor(1) as beside:
            first, number = self.state.next_key, self.state.next_segment
            keys = np.arange(first, first + len(items))
            source = chunk(keys, [item.id for item in items], vectors)
            # FAISS keeps every core busy, and waits for its slowest thread: nothing beside it.
            filled = fill_segment(self.folder, self.state.own, number, source, len(items))
            # The disk and the digests leave this thread free to record the items.
            writing = beside.submit(filled.finish, self.state.space.id, [encoder])
            with self._commit(items, encoder, replace=False):
                segment = writing.result()
                self.record.put_segment(segment)
                self.set_state(next_segment=segment.number + 1)

    def set_aside(self, reasons: Sequence[str]) -> None:
        """Record which images could not be used, and why."""
        with self.turn, self.change():
            rows = [(reason,) for reason in reasons]
            self.record.run_many("INSERT OR IGNORE INTO set_aside VALUES (?)", rows)

    def _seal_in_passing(self) -> None:
        """Seal; where that fails, what was added is durable all the same, and it is tried later."""
        try:
            self.seal()
            self._seal_at = SEAL_AT
        except (OSError, PocketlensError) as error:
            self._seal_at = self.recent + SEAL_AT
            _LOG.warning("recent additions are not made a segment yet: %s", error)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items by id; return how many there were."""
        with self.turn, self.change():
            return self._end(list(self.record.living(ids).values()))

    def seal(self) -> None:
        """Turn the recent additions into a segment."""
        with self.turn:
            if self.recent:
                self._replace_segments([], self.state.own)
            small = [part for part in self.own_segments() if part.count <= _SMALL]
            if len(small) > _MOST_SMALL:
                self._replace_segments(small, self.state.own, forget=True)

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
        with self.turn:
            layer = self.state.own
            if kind and kind != layer.kind:
                # Of a new kind, thorough until it is tuned: readers see it from now on.
                layer = self.train(kind, lambda: self.sample(kind.count_training_vectors()))
            layer = dataclasses.replace(layer, effort=effort or layer.effort)
            self._replace_segments(self.own_segments(), layer, forget=True, advance=advance)
            self._sweep()

    def finish_building(self) -> None:
        """Note that all is in it that it was built of."""
        with self.turn:
            if self.state.building:
                with self.change():
                    self.set_state(building="")

    def start_kind(self, kind: Kind, sample: Vectors) -> None:
        """Make an index without items one of this kind, trained on vectors `[n, dim]` to come.

        Raises:
            PocketlensError: when it has items, or the sample is too small.
        """
        with self.turn:
            if len(self):
                raise PocketlensError(f"{self.folder}: has items; compact it to another kind")
            layer = self.train(kind, lambda: sample)
            with self.change():
                self.state = self.state.with_own(layer)
                self.set_state()

    def train(self, kind: Kind, draw: Callable[[], Vectors]) -> Layer:
        """Return a layer of another kind for the same vectors, searched thoroughly."""
        layer = dataclasses.replace(self.state.own, kind=kind, effort=THOROUGH)
        return train_layer(self.folder, layer, self.state.next_segment, draw)

    def set_effort(self, effort: SearchEffort) -> None:
        """Say how hard readers look from now on."""
        with self.turn, self.change():
            self.set_state(effort=effort)

    def sample(self, count: int, seed: int = 0) -> Vectors:
        """Return vectors of the index `[n, dim]`, drawn at random, each at most once."""
        with self.turn:
            return draw_vectors(self.open_parts(self.own_segments()), count, seed)

    # Commits.

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Commit the block as a new generation, all of it or nothing; the caller has its turn."""
        before = self.state
        try:
            with self.record.change():
                self.set_state(generation=before.generation + 1)
                yield
        except BaseException:
            self.state = before
            # An interruption may have come after the commit.
            with contextlib.suppress(PocketlensError):
                self.state = self.record.state()
            raise

    @contextlib.contextmanager
    def _commit(self, items: Sequence[Item], encoder: str, *, replace: bool) -> Iterator[int]:
        """Commit new items together with what the block adds; yield the first one's key."""
        try:
            with self.change():
                if replace:
                    self._end(list(self.record.living([item.id for item in items]).values()))
                first = self.state.next_key
                number = self.record.number_encoder(encoder, self.state.space.id)
                self.record.insert_items(first, items, number)
                self.set_state(next_key=first + len(items))
                yield first
        except sqlite3.IntegrityError:
            there = min(self.record.living([item.id for item in items]))
            raise PocketlensError(
                f"id {there!r} is in the index already; replace it, or give it another id"
            ) from None

    def set_state(self, **changes: Any) -> None:
        """Record what the folder is from now on, within a change."""
        self.state = dataclasses.replace(self.state, **changes)
        self.record.put_state(self.state)

    def _end(self, keys: list[int]) -> int:
        statement = "UPDATE items SET died = ? WHERE key = ?"
        return self.record.run_many(statement, [(self.state.generation, key) for key in keys])

    # Segments.

    def _replace_segments(
        self,
        old: Sequence[SegmentFacts],
        layer: Layer,
        *,
        forget: bool = False,
        advance: Callable[[int], None] = lambda count: None,
    ) -> None:
        """Write what lives of these segments and of the recent additions as new ones of a layer."""
        parts = self.open_parts(old)
        number, new = self.state.next_segment, []
        for some in divide(living_keys(parts), layer):
            source = read_chunks(parts, some, advance)
            encoders = self.record.name_encoders(int(some[0]), int(some[-1]))
            new.append(write_segment(self.folder, layer, number, source, len(some), encoders))
            number += 1
        with self.change():
            for segment in new:
                self.record.put_segment(segment)
            self.drop_segments(old)
            self.record.run("DELETE FROM recent")
            if forget:
                self._forget({segment.number for segment in new})
            self.state = self.state.with_own(layer)
            self.set_state(next_segment=number)
        self.recent = 0
        self.remove_folders(old)

    def _forget(self, new: Container[int]) -> None:
        """Drop the rows of what died before the last time, within a change.

        Readers of a generation in between still find them. What a segment of before still holds
        stays recorded as dead: of its own layer, or of the next one.
        """
        dead = self.record.dead_keys_until(self.state.forgotten)
        kept = [each for each in self.record.segments() if each.number not in new]
        try:
            for segment in kept if len(dead) else []:
                dead = dead[~rows_of(read_keys(self.folder, segment), dead)[1]]
        except PocketlensError as error:
            _LOG.warning("what died stays recorded: %s", error)
            return
        self.record.forget(dead)
        self.set_state(forgotten=self.state.generation)

    def drop_segments(self, old: Sequence[SegmentFacts]) -> None:
        """Take segments out of the record, within a change."""
        numbers = [(segment.number,) for segment in old]
        self.record.run_many("DELETE FROM segments WHERE number = ?", numbers)

    def remove_folders(self, old: Sequence[SegmentFacts]) -> None:
        """Remove segments that are out of the record; readers of before hold the files open."""
        for segment in old:
            shutil.rmtree(name_folder(self.folder, segment.number), ignore_errors=True)

    def open_parts(self, segments: Sequence[SegmentFacts]) -> list[Part]:
        """Open segments of the folder's own layer, and the recent additions."""
        return open_parts(self.folder, self.record, self.state.dim, segments)

    def own_segments(self) -> list[SegmentFacts]:
        """Return the segments of the folder's own layer."""
        return self.record.segments_of(self.state.space.id)

    def _sweep(self) -> None:
        """Remove what a killed writer left, and what no segment is made with any more."""
        known = {f"{segment.number:04d}" for segment in self.record.segments()}
        for folder in (self.folder / SEGMENTS).glob("*"):
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
        accepted = {each.folder for each in self.state.accepts}
        for folder in (self.folder / ACCEPTS).glob("*"):
            if folder.name not in accepted:
                shutil.rmtree(folder, ignore_errors=True)
        used = {layer.quantiser for layer in self.state.layers}
        for file in (self.folder / QUANTISERS).glob("*"):
            if f"{QUANTISERS}/{file.name}" not in used:
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
