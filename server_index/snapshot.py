"""What an index holds at one generation, and the search of it.

Candidates come from every segment and from the recent additions. Scores are those of the stored
vectors, whatever codes found them, and equal ones are ordered by age.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from encoder.sign_codes import score_signs
from server_index.faiss_index import Rows, SearchEffort, Vectors
from server_index.segment import Segment, rows_of

Allowed = NDArray[np.bool_]
# So few deleted rows are searched for with the others and dropped: a selector slows exact search.
_DROPPED_LATER = 32
# So few allowed rows are all scored, in milliseconds; lists and graphs would be walked in vain.
_SCORED_ALL = 20_000
# A graph does not lead to what is allowed where that is not near the query.
_SCORED_ALL_OF_GRAPH = 100_000
_MOST_CANDIDATES = 4096
# Of sign codes that are all compared, so many times what is scored again is found by their bits;
# the query itself, against these signs, says what is scored again. Not of very many.
_SIFTED, _MOST_SIFTED = 4, 1 << 14
# Beyond the answers asked for: where it scores like the last of them, more are looked at.
_SPARE = 1
_MOST_TIES = 1024
# Two ways to sum one product differ by less.
_ROUNDING = 1e-6
_SCORED_AT_ONCE = 1 << 14
# Vectors gathered at a time: 64 MB of float32.
_GATHERED_CELLS = 1 << 24
# Rows of a part are numbered from a multiple of this.
PLACE = 1 << 40


@dataclasses.dataclass(frozen=True)
class Part:
    """Hold rows that are searched together: of a segment, or recent additions where it is None.

    `alive` says which rows still live; None where all of them do.
    """

    segment: Segment | None
    keys: Rows
    vectors: NDArray[np.float16] | Vectors
    ids: Sequence[str] = ()
    alive: Allowed | None = None
    dead: int = 0

    def id_of(self, row: int) -> str:
        """Return the id of a row."""
        return self.segment.id_of(row) if self.segment else self.ids[row]

    def living_rows(self) -> Rows:
        """Return the rows that still live."""
        return np.arange(len(self.keys)) if self.alive is None else np.flatnonzero(self.alive)

    def without(self, keys: Rows) -> "Part":
        """Return the part with those of its rows dead that have one of these keys."""
        rows, inside = rows_of(self.keys, keys)
        if not inside.any():
            return self
        alive = np.ones(len(self.keys), bool) if self.alive is None else self.alive.copy()
        alive[rows[inside]] = False
        return dataclasses.replace(self, alive=alive, dead=int(len(alive) - alive.sum()))

    def followed_by(self, newer: "Part") -> "Part":
        """Return recent additions with newer ones behind them."""
        alive = None
        if self.alive is not None:
            alive = np.append(self.alive, np.ones(len(newer.keys), bool))
        return Part(
            None,
            np.concatenate([self.keys, newer.keys]),
            np.concatenate([self.vectors, newer.vectors]),
            [*self.ids, *newer.ids],
            alive,
            self.dead,
        )

    def allow(self, keys: Rows) -> Allowed:
        """Return which rows live and have one of these keys, in ascending order."""
        allowed = np.zeros(len(self.keys), bool)
        rows, inside = rows_of(self.keys, keys)
        allowed[rows[inside]] = True
        return allowed if self.alive is None else allowed & self.alive


@dataclasses.dataclass(frozen=True)
class Answers:
    """Hold what was found: scores and keys `[n, k]`, −infinity and −1 where there are no more.

    `places` numbers the parts and their rows.
    """

    scores: Vectors
    keys: Rows
    places: Rows
    parts: tuple[Part, ...]

    @functools.cached_property
    def ids(self) -> list[list[str]]:
        """Return the ids found for each query."""
        return [self._name(line) for line in self.places.tolist()]

    def _name(self, places: list[int]) -> list[str]:
        parts = self.parts
        if len(parts) == 1:
            return [parts[0].id_of(place) for place in places if place >= 0]
        return [parts[place // PLACE].id_of(place % PLACE) for place in places if place >= 0]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Hold an index at one generation; keys from `next_key` on belong to later ones."""

    generation: int
    next_key: int
    dim: int
    effort: SearchEffort
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(len(part.keys) - part.dead for part in self.parts)

    def search(
        self, queries: Vectors, count: int, allowed: Sequence[Allowed] | None = None
    ) -> Answers:
        """Return each query's `count` best living items by cosine, the older first among equals.

        `allowed` says of each part which rows may be answered; rows that died must not be among
        them.
        """
        chosen: Sequence[Allowed | None] = allowed or [None] * len(self.parts)
        found = [
            _look(part, queries, count, self.effort, rows)
            for part, rows in zip(self.parts, chosen, strict=True)
        ]
        if not found:
            none = np.empty((len(queries), 0), np.int64)
            return Answers(none.astype(np.float32), none, none, ())
        scores, places = found[0]
        keys = self.parts[0].keys[places]
        if len(found) > 1:
            scores = np.concatenate([each for each, _ in found], axis=1)
            rows = [part.keys[rows] for part, (_, rows) in zip(self.parts, found, strict=True)]
            keys = np.concatenate(rows, axis=1)
            places = np.concatenate(
                [rows + number * PLACE for number, (_, rows) in enumerate(found)], axis=1
            )
            scores = self._settle_across(queries, scores, found)
        # FAISS answers in order, but for what scores alike.
        if len(found) > 1 or not (scores[:, :-1] > scores[:, 1:]).all():
            scores, keys, places = keep_best(scores, keys, places, count)
        scores, keys, places = scores[:, :count], keys[:, :count], places[:, :count]
        if scores[:, -1:].min(initial=0) == -np.inf:
            missing = scores == -np.inf
            keys, places = np.where(missing, -1, keys), np.where(missing, -1, places)
        return Answers(scores, keys, places, self.parts)

    def _settle_across(
        self, queries: Vectors, scores: Vectors, found: Sequence[tuple[Vectors, Rows]]
    ) -> Vectors:
        """Score by one rule what parts scored alike, but for rounding, each by its own."""
        ordered = np.sort(scores, axis=1)
        with np.errstate(invalid="ignore"):
            tied = np.flatnonzero((ordered[:, 1:] - ordered[:, :-1] <= _ROUNDING).any(axis=1))
        if len(tied):
            again = [
                _score(part, queries[tied], rows[tied])
                for part, (_, rows) in zip(self.parts, found, strict=True)
            ]
            scores[tied] = np.concatenate(again, axis=1)
        return scores


def keep_best(scores: Vectors, keys: Rows, places: Rows, count: int) -> tuple[Vectors, Rows, Rows]:
    """Return the `count` best of each query in order, the older first among equals."""
    order = np.lexsort((keys, -scores), axis=1)[:, :count]
    line = np.arange(len(scores))[:, None]
    return scores[line, order], keys[line, order], places[line, order]


def _look(
    part: Part, queries: Vectors, count: int, effort: SearchEffort, allowed: Allowed | None
) -> tuple[Vectors, Rows]:
    """Return scores and rows `[n, c]` of a part's best; minus infinity where there are no more."""
    left = len(part.keys) if allowed is None else int(np.count_nonzero(allowed))
    kind = part.segment.facts.kind if part.segment else None
    few = _SCORED_ALL_OF_GRAPH if kind and kind.graph else _SCORED_ALL
    if kind is None or (allowed is not None and left <= max(few, count)):
        rows = _find_all(part, queries, count, allowed)
        return _score(part, queries, rows), rows
    wanted = count
    if allowed is not None:
        effort = _look_harder(effort, len(part.keys) / left)
    if kind.exact:
        wanted += _SPARE
    elif kind.binary:
        again = count * effort.rescore
        # A graph would be walked further for more, and that costs more than it finds.
        wanted = again if kind.graph else max(again, min(_SIFTED * again, _MOST_SIFTED))
    scores, rows = _find(part, queries, wanted, effort, allowed)
    if kind.binary:
        rows = _sift(part, queries, rows, again)
        return _score(part, queries, rows), rows
    if kind.exact:
        _settle_ties(part, queries, count, allowed, scores, rows)
    elif allowed is not None:
        # What is allowed may lie where nobody looked.
        short = np.flatnonzero(scores[:, min(count, left) - 1] == -np.inf)
        if len(short):
            every = _find_all(part, queries[short], count, allowed)
            _put_best(scores, rows, short, _score(part, queries[short], every), every)
    return scores, rows


def _sift(part: Part, queries: Vectors, rows: Rows, wanted: int) -> Rows:
    """Return the rows `[n, wanted]` whose signs fit the queries best; the stored vectors rest."""
    if rows.shape[1] <= wanted:
        return rows
    assert part.segment is not None and part.segment.codes is not None
    sifted = np.empty((len(rows), wanted), np.int64)
    step = max(1, _GATHERED_CELLS // (rows.shape[1] * queries.shape[1]))
    for first in range(0, len(rows), step):
        some = slice(first, first + step)
        scores = score_signs(queries[some], part.segment.codes[rows[some]])
        scores[rows[some] < 0] = -np.inf
        best = np.lexsort((rows[some], -scores), axis=1)[:, :wanted]
        sifted[some] = np.take_along_axis(rows[some], best, axis=1)
    return sifted


def _look_harder(effort: SearchEffort, times: float) -> SearchEffort:
    """Return the effort that meets as many allowed rows as were met without a filter."""
    return dataclasses.replace(
        effort,
        probes=math.ceil(effort.probes * times),
        graph_candidates=min(_MOST_CANDIDATES, math.ceil(effort.graph_candidates * times)),
    )


def _find(
    part: Part, queries: Vectors, wanted: int, effort: SearchEffort, allowed: Allowed | None
) -> tuple[Vectors, Rows]:
    """Ask FAISS for living rows."""
    assert part.segment is not None
    if allowed is None and part.dead > _DROPPED_LATER:
        allowed = part.alive
    spare = 0 if allowed is not None else part.dead
    scores, rows = part.segment.find(queries, wanted + spare, effort, allowed)
    if spare:
        assert part.alive is not None
        gone = ~part.alive[rows]
        scores[gone], rows[gone] = -np.inf, -1
        order = np.argsort(-scores, axis=1, kind="stable")[:, :wanted]
        line = np.arange(len(rows))[:, None]
        scores, rows = scores[line, order], rows[line, order]
    return scores, rows


def _settle_ties(
    part: Part,
    queries: Vectors,
    count: int,
    allowed: Allowed | None,
    scores: Vectors,
    rows: Rows,
) -> None:
    """Put right the answers to queries to which rows score alike, but for rounding.

    A product of matrices sums equal vectors in different orders, and beyond the last answer there
    may be older ones that score like it.
    """
    close = scores[:, :-1] <= scores[:, 1:] + _ROUNDING
    if not close.any():
        return
    tied = np.flatnonzero((close & np.isfinite(scores[:, 1:])).any(axis=1))
    if not len(tied):
        return
    # More than is answered, also of a part that has no more: so it shows that all were looked at.
    asked, wanted = queries[tied], max(rows.shape[1], count + _SPARE)
    while True:
        found = _find(part, asked, wanted, SearchEffort(), allowed)[1]
        exact = _score(part, asked, found)
        ordered = -np.sort(-exact, axis=1)
        last = ordered[:, min(count, ordered.shape[1]) - 1]
        open_end = np.isfinite(last) & (ordered[:, -1] >= last - _ROUNDING)
        if found.shape[1] < wanted or not open_end.any():
            break
        if wanted > count + _MOST_TIES:
            found = _find_all(part, asked, count, allowed)
            exact = _score(part, asked, found)
            break
        wanted = count + (wanted - count) * 8
    _put_best(scores, rows, tied, exact, found)


def _put_best(scores: Vectors, rows: Rows, at: Rows, exact: Vectors, found: Rows) -> None:
    """Put the best of other rows in the place of the answers to some queries, the older first."""
    order = np.lexsort((found, -exact), axis=1)[:, : scores.shape[1]]
    line = np.arange(len(at))[:, None]
    scores[at, : order.shape[1]] = exact[line, order]
    rows[at, : order.shape[1]] = found[line, order]


def _find_all(part: Part, queries: Vectors, count: int, allowed: Allowed | None) -> Rows:
    """Return the best rows of all that are allowed, by the score itself."""
    most = max(1, _GATHERED_CELLS // max(1, len(part.keys)))
    if len(queries) > most:
        split = range(0, len(queries), most)
        found = [_find_all(part, queries[at : at + most], count, allowed) for at in split]
        return np.concatenate(found)
    chosen = part.alive if allowed is None else allowed
    rows = part.living_rows() if allowed is None else np.flatnonzero(allowed)
    if len(rows) <= count + _SPARE:
        return np.broadcast_to(rows, (len(queries), len(rows)))
    scores = np.empty((len(queries), len(rows)), np.float32)
    for first in range(0, len(rows), _SCORED_AT_ONCE):
        some = slice(first, first + _SCORED_AT_ONCE)
        candidates = part.vectors[some] if chosen is None else part.vectors[rows[some]]
        scores[:, some] = queries @ candidates.T.astype(np.float32, copy=False)
    width = count + _SPARE
    best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
    # Descending. Where the last answered scores like the last looked at, others may too.
    reached = -np.sort(-np.take_along_axis(scores, best, axis=1), axis=1)
    tied = np.flatnonzero(reached[:, -1] >= reached[:, count - 1] - _ROUNDING)
    chosen_rows: Rows = rows[best]
    for query in tied.tolist():
        edge = reached[query, count - 1]
        above = scores[query] > edge + _ROUNDING
        # As it was found to be tied, to the last bit: otherwise there may be one too few.
        alike = ~above & (scores[query] >= edge - _ROUNDING)
        best_first = np.concatenate([np.flatnonzero(above), np.flatnonzero(alike)])
        chosen_rows[query] = rows[best_first[:width]]
    return chosen_rows


def _score(part: Part, queries: Vectors, rows: Rows) -> Vectors:
    """Score rows by their stored vectors, equal vectors equally; −1 by minus infinity."""
    scores = np.empty(rows.shape, np.float32)
    step = max(1, _GATHERED_CELLS // max(1, rows.shape[1] * queries.shape[1]))
    for first in range(0, len(rows), step):
        some = slice(first, first + step)
        # Not a product of matrices: see `_settle_ties`.
        gathered = part.vectors[rows[some]] * queries[some, None, :]
        scores[some] = np.add.reduce(gathered, axis=2)
    scores[rows < 0] = -np.inf
    return scores
