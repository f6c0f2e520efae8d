"""Open an index folder and search it, at one generation and at each later one on request."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from encoder.errors import PocketlensError
from encoder.space import EmbeddingSpace
from server_index.contract import check_vectors, fit_vectors
from server_index.faiss_index import Rows, Vectors
from server_index.filters import Filter, parse_filter
from server_index.items import Item
from server_index.record import Record, State
from server_index.segment import Segment, SegmentFacts
from server_index.snapshot import Allowed, Answers, Part, Snapshot

# A compaction may remove a segment between the reading of its name and its opening.
_TRIES = 5
_FILTERS_KEPT = 16


@dataclasses.dataclass(frozen=True)
class Hit:
    """Hold one answer; `score` is the cosine."""

    item: Item
    score: float


class Index:
    """Hold an open index folder; several threads may search it, also while it is refreshed."""

    def __init__(self, folder: Path | str, *, skip_damaged: bool = False) -> None:
        """Open a folder. `skip_damaged` leaves damaged segments out, and lists them in `damage`.

        Raises:
            PocketlensError: naming the file that is missing, cut short, damaged or of a newer
                format.
        """
        self.folder = folder = Path(folder)
        self.damage: tuple[str, ...] = ()
        self._skip_damaged = skip_damaged
        self._turn, self._looking_up = threading.Lock(), threading.Lock()
        self._record = Record(folder)
        # Apart, so that an answer does not wait for a refresh.
        self._lookups = Record(folder)
        self._filters: dict[tuple[int, Filter], list[Allowed]] = {}
        self._version = -1
        self._segments: dict[int, Segment] = {}
        try:
            self.snapshot = self._load(None)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a folder, as the constructor."""
        return cls(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the record; the snapshot can still be searched."""
        self._record.close()
        self._lookups.close()

    @property
    def space(self) -> EmbeddingSpace:
        """Return the space of the vectors."""
        return self.state.space

    def __len__(self) -> int:
        return len(self.snapshot)

    def refresh(self) -> bool:
        """Go on to the newest generation; return whether there was one.

        Searches that run meanwhile end in the generation in which they began.
        """
        with self._turn:
            if self._record.version() == self._version:
                return False
            before = self.snapshot
            self.snapshot = self._load(before)
            return self.snapshot.generation != before.generation

    def search(
        self, vectors: Vectors, count: int, *, where: Filter | str | None = None
    ) -> list[list[Hit]]:
        """Return each query's `count` best items, best first, by cosine; older ones among equals.

        `vectors` is `[n, dim]` of unit length, or of more dimensions of which the index keeps a
        prefix. `where` is a filter of metadata (see `docs/database.md`).

        Raises:
            PocketlensError: when a vector is not of the index's dimension or of unit length, or
                the filter is not sound.
        """
        answers = self.find(vectors, count, where=where)
        keys = [key for key in np.unique(answers.keys).tolist() if key >= 0]
        items = self.items(keys)
        return [
            [
                # What was deleted two compactions ago is no longer recorded.
                Hit(items.get(key) or Item(name), score)
                for name, key, score in zip(names, keys_, scores, strict=False)
            ]
            for names, keys_, scores in zip(
                answers.ids, answers.keys.tolist(), answers.scores.tolist(), strict=True
            )
        ]

    def find(self, vectors: Vectors, count: int, *, where: Filter | str | None = None) -> Answers:
        """Search as `search`, but return arrays of scores and keys, and ids."""
        if count < 1:
            raise PocketlensError(f"the number of answers must be at least 1, not {count}")
        state = self.state
        check_vectors(vectors, vectors.shape[1] if _is_longer(vectors, state) else state.dim)
        queries = fit_vectors(vectors, state.space, state.dim)
        snapshot = self.snapshot
        allowed = self._allow(snapshot, where) if where is not None else None
        return snapshot.search(queries, count, allowed)

    def items(self, keys: Sequence[int]) -> dict[int, Item]:
        """Return the items of keys."""
        with self._looking_up:
            return self._lookups.items(keys)

    def encoders(self, keys: Sequence[int]) -> dict[int, str]:
        """Return the encoder digests of the vectors of keys."""
        with self._looking_up:
            return self._lookups.encoders_of(keys)

    # Loading.

    def _load(self, before: Snapshot | None) -> Snapshot:
        for left in reversed(range(_TRIES)):
            version = self._record.version()
            with self._record.view():
                self.state = self._record.state()
                facts = self._record.segments()
                dead = self._read_dead(before)
                known = before.next_key if before and self._same_segments(facts) else 0
                recent = self._record.recent(known, self.state.dim)
            try:
                opened = self._open(facts)
            except PocketlensError:
                if left and self._record.version() != version:
                    continue
                raise
            self._version = version
            return self._assemble(before, opened, dead, recent, known)
        raise AssertionError("the last try returns or raises")

    def _same_segments(self, facts: Iterable[SegmentFacts]) -> bool:
        return {segment.number for segment in facts} == set(self._segments)

    def _read_dead(self, before: Snapshot | None) -> Rows:
        rows = self._record.select(
            "SELECT key FROM items WHERE died > ? ORDER BY key",
            [before.generation if before else 0],
        )
        return np.array([row[0] for row in rows], np.int64)

    def _open(self, facts: Sequence[SegmentFacts]) -> dict[int, Segment]:
        opened, damage = {}, []
        for segment in facts:
            kept = self._segments.get(segment.number)
            try:
                opened[segment.number] = kept or Segment(self.folder, segment, self.state.dim)
            except PocketlensError as error:
                if not self._skip_damaged:
                    raise
                damage.append(str(error))
        self.damage = tuple(damage)
        return opened

    def _assemble(
        self,
        before: Snapshot | None,
        opened: dict[int, Segment],
        dead: Rows,
        recent: tuple[list[int], list[str], Vectors],
        known: int,
    ) -> Snapshot:
        kept = {id(part.segment): part for part in before.parts} if before else {}
        all_dead: Rows | None = None
        parts = []
        for segment in opened.values():
            part = kept.get(id(segment))
            if part is None:
                if before and all_dead is None:
                    all_dead = self._read_dead(None)
                part = Part(segment, segment.keys, segment.vectors)
                part = part.without(dead if all_dead is None else all_dead)
            parts.append(part.without(dead))
        keys, ids, vectors = recent
        newest = Part(None, np.array(keys, np.int64), vectors, ids)
        old = (
            next((part for part in before.parts if part.segment is None), None) if before else None
        )
        if known and old:
            newest = Part(
                None,
                np.concatenate([old.keys, newest.keys]),
                np.concatenate([old.vectors, newest.vectors]),
                [*old.ids, *ids],
                None if old.alive is None else np.append(old.alive, np.ones(len(ids), bool)),
                old.dead,
            )
        elif before and len(keys):
            newest = newest.without(self._read_dead(None))
        if len(newest.keys):
            parts.append(newest.without(dead))
        self._segments = opened
        return Snapshot(
            self.state.generation,
            self.state.next_key,
            self.state.dim,
            self.state.effort,
            tuple(parts),
        )

    def _allow(self, snapshot: Snapshot, where: Filter | str) -> list[Allowed]:
        chosen = parse_filter(where) if isinstance(where, str) else where
        name = (snapshot.generation, chosen)
        known = self._filters.get(name)
        if known is not None:
            return known
        # A connection of its own: others need not wait for the scan.
        with contextlib.closing(Record(self.folder)) as record:
            rows = record.select(
                "SELECT key FROM items WHERE key < ? AND (died IS NULL OR died > ?)"
                f" AND ({chosen.condition}) ORDER BY key",
                [snapshot.next_key, snapshot.generation, *chosen.values],
            )
        keys = np.fromiter((row[0] for row in rows), np.int64, len(rows))
        allowed = [part.allow(keys) for part in snapshot.parts]
        with self._looking_up:
            if len(self._filters) >= _FILTERS_KEPT:
                self._filters.pop(next(iter(self._filters)))
            self._filters[name] = allowed
        return allowed


def _is_longer(vectors: Vectors, state: State) -> bool:
    return vectors.ndim == 2 and state.dim < vectors.shape[1] <= state.space.dim
