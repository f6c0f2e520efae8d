"""Open an index folder and search it, at one generation and at each later one on request."""

import dataclasses
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from encoder.errors import PocketlensError
from encoder.space import EmbeddingSpace
from server_index.acceptance import Accepted, open_accepted
from server_index.contract import SpaceError, check_vectors, fit_vectors
from server_index.faiss_index import Rows, Vectors
from server_index.filters import Filter, list_fields, parse_filter
from server_index.items import Item
from server_index.joined import Joined
from server_index.lookups import Lookups
from server_index.record import Record
from server_index.segment import Segment, SegmentFacts
from server_index.snapshot import Allowed, Answers, Part, Snapshot
from server_index.state import State

# A compaction may remove a segment between the reading of its name and its opening.
_TRIES = 5
_NO_KEYS: Rows = np.empty(0, np.int64)


@dataclasses.dataclass(frozen=True)
class Hit:
    """Hold one answer; `score` is the cosine."""

    item: Item
    score: float


@dataclasses.dataclass(frozen=True)
class _View:
    """Hold what belongs together: a generation, what the folder was then, and its record."""

    snapshot: Snapshot
    state: State
    lookups: Lookups
    accepted: dict[str, Accepted]
    joined: Joined | None


@dataclasses.dataclass(frozen=True)
class _Read:
    """Hold what was read of one committed state.

    `dead` are the keys of what died since the generation before, or, with `anew`, of all that died:
    then `recent` is all of the recent additions, else those since. `all_dead` is for a layer that
    is opened anew each time.
    """

    state: State
    segments: list[SegmentFacts]
    dead: Rows
    all_dead: Rows
    recent: tuple[list[int], list[str], Vectors]
    anew: bool


class Index:
    """Hold an open index folder; several threads may search it, also while it is refreshed."""

    def __init__(
        self, folder: Path | str, *, skip_damaged: bool = False, filter_seconds: float = 60.0
    ) -> None:
        """Open a folder. `skip_damaged` leaves damaged segments out, and lists them in `damage`.

        Raises:
            PocketlensError: naming the file that is missing, cut short, damaged or of a newer
                format.
        """
        self.folder = folder = Path(folder)
        self.damage: tuple[str, ...] = ()
        self._skip_damaged, self._filter_seconds = skip_damaged, filter_seconds
        self._turn = threading.Lock()
        self._segments: dict[int, Segment] = {}
        # By the index's space and what was accepted.
        self._accepted: dict[tuple[str, str], Accepted] = {}
        self._record = Record(folder)
        try:
            self._view = self._load(None, Lookups(folder))
        except BaseException:
            self._record.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the record; the snapshot can still be searched."""
        self._record.close()
        self._view.lookups.close()

    @property
    def space(self) -> EmbeddingSpace:
        """Return the space of the vectors."""
        return self.state.space

    @property
    def state(self) -> State:
        """Return what the folder is."""
        return self._view.state

    @property
    def snapshot(self) -> Snapshot:
        """Return what is searched."""
        return self._view.snapshot

    def __len__(self) -> int:
        return len(self.snapshot)

    def refresh(self) -> bool:
        """Go on to the newest generation; return whether there was one.

        Searches that run meanwhile end in the generation in which they began.

        Raises:
            PocketlensError: when it cannot be opened; the one before is searched on.
        """
        with self._turn:
            before = self._view
            if self._record.was_replaced():
                self._reopen()
                return True
            if self._record.version() == self._version:
                return False
            self._view = self._load(before.snapshot, before.lookups)
            return self.snapshot.generation != before.snapshot.generation

    @property
    def spaces(self) -> list[str]:
        """Return the ids of the spaces whose queries are answered, the index's own first."""
        return list(dict.fromkeys([self.space.id, *self._view.accepted]))

    def require_space(self, space: str) -> None:
        """Refuse a space whose queries are not answered.

        Raises:
            SpaceError: naming those that are.
        """
        if space not in self.spaces:
            raise _refuse_space(self._view, space)

    def search(
        self,
        vectors: Vectors,
        count: int,
        *,
        where: Filter | str | None = None,
        space: str = "",
    ) -> list[list[Hit]]:
        """Return each query's `count` best items, best first, by cosine; older ones among equals.

        `vectors` is `[n, dim]` of unit length, or of more dimensions of which the index keeps a
        prefix. `where` is a filter of metadata (see `docs/database.md`). `space` is the id of the
        space of the vectors, where it is not the index's own.

        Raises:
            SpaceError: when the index does not accept that space.
            VectorError: when a vector is not of the space's dimension or of unit length.
            PocketlensError: when the filter is not sound or takes too long.
        """
        view = self._view
        answers = self._find(view, vectors, count, where, space)
        keys = [key for key in np.unique(answers.keys).tolist() if key >= 0]
        items = view.lookups.items(keys)
        return [
            [
                # What was deleted long ago is no longer recorded.
                Hit(items.get(key) or Item(name), score)
                for name, key, score in zip(names, keys_, scores, strict=False)
            ]
            for names, keys_, scores in zip(
                answers.ids, answers.keys.tolist(), answers.scores.tolist(), strict=True
            )
        ]

    def find(
        self,
        vectors: Vectors,
        count: int,
        *,
        where: Filter | str | None = None,
        space: str = "",
    ) -> Answers:
        """Search as `search`, but return arrays of scores and keys, and ids."""
        return self._find(self._view, vectors, count, where, space)

    def _find(
        self, view: _View, vectors: Vectors, count: int, where: Filter | str | None, space: str
    ) -> Answers:
        if count < 1:
            raise PocketlensError(f"the number of answers must be at least 1, not {count}")
        chosen = parse_filter(where) if isinstance(where, str) else where
        state, seconds = view.state, self._filter_seconds

        def allow(snapshot: Snapshot) -> list[Allowed] | None:
            return view.lookups.allow(snapshot, chosen, seconds) if chosen else None

        if space in ("", state.space.id):
            queries = fit_vectors(vectors, state.space, state.dim)
            return view.snapshot.search(queries, count, allow(view.snapshot))
        accepted = view.accepted.get(space)
        if accepted is None:
            raise _refuse_space(view, space)
        check_vectors(vectors, accepted.space.dim)
        mapped = fit_vectors(accepted.apply(vectors), state.space, state.dim)
        if view.joined and state.next and space == state.next.space.id:
            queries = fit_vectors(vectors, state.next.space, state.next.dim)
            first, second = allow(view.joined.anew), allow(view.joined.rest)
            both = (first, second) if first is not None and second is not None else None
            return view.joined.search(queries, mapped, count, both)
        found = view.snapshot.search(mapped, count, allow(view.snapshot))
        return dataclasses.replace(found, scores=accepted.scale.apply(found.scores))

    def missing_fields(self, where: str) -> list[str]:
        """Return which fields that a filter names no item has; looks at all items."""
        return [field for field in list_fields(where) if not self._view.lookups.has_field(field)]

    def items(self, keys: Sequence[int]) -> dict[int, Item]:
        """Return the items of keys."""
        return self._view.lookups.items(keys)

    def item_named(self, id_: str) -> Item | None:
        """Return the item of that id, where there is one."""
        return self._view.lookups.item_named(id_)

    def encoders(self, keys: Sequence[int]) -> dict[int, str]:
        """Return the encoder digests of the vectors of keys."""
        return self._view.lookups.encoders(keys)

    # Loading.

    def _reopen(self) -> None:
        """Open what stands in the folder's place now; a failure leaves what was open."""
        record, segments = self._record, self._segments
        self._record, self._segments = Record(self.folder), {}
        try:
            self._view = self._load(None, Lookups(self.folder))
        except BaseException:
            self._record.close()
            self._record, self._segments = record, segments
            raise
        record.close()

    def _load(self, before: Snapshot | None, lookups: Lookups) -> _View:
        for left in reversed(range(_TRIES)):
            version = self._record.version()
            read = self._read(before)
            try:
                opened, damage = self._open(read)
                accepted = self._open_accepted(read.state)
            except PocketlensError:
                if left and self._record.version() != version:
                    continue
                raise
            if damage and left and self._record.version() != version:
                continue
            self._version, self.damage = version, tuple(damage)
            snapshot = self._assemble(before, opened, read)
            joined = self._join(snapshot, opened, read, accepted)
            return _View(snapshot, read.state, lookups, accepted, joined)
        raise AssertionError("the last try returns or raises")

    def _read(self, before: Snapshot | None) -> _Read:
        with self._record.view():
            state, segments = self._record.state(), self._record.segments()
            anew = (
                before is None
                or state.space.id != self._view.state.space.id
                # What died since may be forgotten already.
                or before.generation < state.forgotten
                or {each.number for each in segments} != set(self._segments)
            )
            since = 0 if anew or before is None else before.generation
            first = 0 if anew or before is None else before.next_key
            return _Read(
                state=state,
                segments=segments,
                dead=self._record.dead_keys(since),
                all_dead=self._record.dead_keys(0) if state.next else _NO_KEYS,
                recent=self._record.recent(first, state.dim),
                anew=anew,
            )

    def _open(self, read: _Read) -> tuple[dict[int, Segment], list[str]]:
        opened, damage = {}, []
        dims = {layer.space.id: layer.dim for layer in read.state.layers}
        for facts in read.segments:
            try:
                opened[facts.number] = self._segments.get(facts.number) or Segment(
                    self.folder, facts, dims[facts.space]
                )
            except PocketlensError as error:
                if not self._skip_damaged:
                    raise
                damage.append(str(error))
        return opened, damage

    def _assemble(
        self, before: Snapshot | None, opened: dict[int, Segment], read: _Read
    ) -> Snapshot:
        """Join what was open already with what is new."""
        # Not "if before": one without items is as good.
        known = {id(part.segment): part for part in before.parts} if before is not None else {}
        parts = [
            known.get(id(segment)) or Part(segment, segment.keys, segment.vectors)
            for segment in opened.values()
            if segment.facts.space == read.state.space.id
        ]
        keys, ids, vectors = read.recent
        newest = Part(None, np.array(keys, np.int64), vectors, ids)
        old = known.get(id(None))
        if old and not read.anew:
            newest = old.followed_by(newest)
        if len(newest.keys):
            parts.append(newest)
        self._segments = opened
        state = read.state
        alive = tuple(part.without(read.dead) for part in parts)
        return Snapshot(state.generation, state.next_key, state.dim, state.effort, alive)

    def _open_accepted(self, state: State) -> dict[str, Accepted]:
        """Open what the index accepts, but for what is open already."""
        known, found = self._accepted, dict[str, Accepted]()
        self._accepted = {}
        for each in state.accepts:
            key = state.space.id, json.dumps(each.files)
            found[each.space] = known.get(key) or open_accepted(self.folder, each, state.space.id)
            self._accepted[key] = found[each.space]
        return found

    def _join(
        self,
        own: Snapshot,
        opened: dict[int, Segment],
        read: _Read,
        accepted: dict[str, Accepted],
    ) -> Joined | None:
        """Return the search of what is encoded anew for another space, and of the rest."""
        layer = read.state.next
        if layer is None:
            return None
        parts = [
            Part(segment, segment.keys, segment.vectors).without(read.all_dead)
            for segment in opened.values()
            if segment.facts.space == layer.space.id
        ]
        done = np.sort(np.concatenate([np.empty(0, np.int64), *(part.keys for part in parts)]))
        rest = tuple(part.without(done) for part in own.parts)
        return Joined(
            Snapshot(own.generation, own.next_key, layer.dim, layer.effort, tuple(parts)),
            dataclasses.replace(own, parts=rest),
            accepted[layer.space.id].scale,
        )


def _refuse_space(view: _View, space: str) -> SpaceError:
    named = " and ".join([view.state.space.id, *view.accepted])
    return SpaceError(
        f"the index answers vectors of space {named}, not of {space}; use an encoder of its space, "
        "or have the index accept the other (cli index accept)"
    )
