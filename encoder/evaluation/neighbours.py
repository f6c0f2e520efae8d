"""Exact nearest neighbours in bounded memory: blocks of queries against tiles of the database.

The first tile is a fair sample of the database. It tells about how good a score must be to be among
a query's best; later scores are compared with that once, and only the few that pass are touched
again. A guess that was too high is found out by the count, and the query is searched without one.
"""

import concurrent.futures
import dataclasses
import math
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from encoder.evaluation.copies import Copies, Indices, Vectors, expand_copies, share_copies
from encoder.memory import count_cores

Keys = NDArray[np.uint64]
# Scores of a block of queries against a tile: 16 MB a core.
BLOCK_ROWS = 1024
TILE_COLUMNS = 4096
# The blocks at work, one a core, keep at most this many neighbours in all, of about 40 bytes each.
_KEPT_CELLS = 1 << 23
# Candidates gather up to twice what is kept and this many before they are cut back.
_SPARE_KEYS = 1 << 20
# One search at a time limits the threads of products, else the limits end in any order.
_PRODUCTS = threading.Lock()
# Standard deviations between the number of the best expected in the sample and the number feared.
_SAFETY = 4.0


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Hold the neighbours of the queries at `rows`, best first: indices and scores `[n, count]`."""

    rows: Indices
    indices: Indices
    scores: Vectors


def find_neighbours(
    queries: Vectors, database: Vectors, count: int, *, own: Indices | None = None
) -> Iterator[Neighbours]:
    """Yield each query's `count` best database rows by inner product, a block of queries at a time.

    Equal scores rank by lower index, also between copies of one vector. `own` is each query's row
    in the database, which is left out. Where the database has fewer rows, all are returned.

    Raises:
        ValueError: when the database is empty, or no neighbours are asked for.
    """
    queries, database = np.asarray(queries, np.float32), np.asarray(database, np.float32)
    if count < 1 or not len(database):
        raise ValueError(f"{count} neighbours of {len(database)} rows cannot be found")
    distinct, place = share_copies(database)
    copies = None if place is None else Copies.list(place)
    asked = count + int(own is not None)
    limit = min(count, len(database) - int(own is not None))
    search = _Search(distinct, min(asked, len(distinct)))

    def find(start: int) -> Neighbours:
        rows = np.arange(start, min(start + search.block, len(queries)))
        indices, scores = search.find(queries[rows])
        if copies is not None:
            indices, scores = expand_copies(indices, scores, copies, asked)
        if own is not None:
            indices, scores = _leave_out(indices, scores, own[rows])
        return Neighbours(rows, indices[:, :limit], scores[:, :limit])

    starts = range(0, len(queries), search.block)
    cores = count_cores()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        for at in range(0, len(starts), cores):
            # A block to each core, its products on that core alone: none waits for another. The
            # limit is the process's, so it ends before anything is yielded.
            with _PRODUCTS, threadpool_limits(1, user_api="blas"):
                found = list(pool.map(find, starts[at : at + cores]))
            yield from found


def _leave_out(indices: Indices, scores: Vectors, own: Indices) -> tuple[Indices, Vectors]:
    """Move each row's own item behind the others."""
    order = np.argsort(indices == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)


class _Search:
    """Find the best `count` columns of blocks of queries in one database.

    Tiles are every so-many-th column, so that the first is a fair sample of all of them, unless
    their order has that very period: then every block is searched twice.
    """

    def __init__(self, database: Vectors, count: int) -> None:
        self._database, self._count = database, count
        self._bits = _count_bits(database)
        self._tiles = -(-len(database) // TILE_COLUMNS)
        # A key has room for so many rows.
        most = max(1, min(BLOCK_ROWS, (1 << (32 - self._bits)) - 1))
        self.block = max(1, min(most, _KEPT_CELLS // (count * count_cores())))
        sample = len(database[:: self._tiles])
        expected = count * sample / len(database)
        rank = math.ceil(expected + _SAFETY * (math.sqrt(expected) + 1))
        # The place, in the sorted first tile, of a score that most likely is good enough.
        self._place = sample - rank

    def find(self, queries: Vectors) -> tuple[Indices, Vectors]:
        """Return each query's best columns and their scores, best first."""
        keys, short = self._keep(queries, blind=self._place < 0)
        if short.any():
            keys[short], _ = self._keep(queries[short], blind=True)
        columns = keys & np.uint64((1 << self._bits) - 1)
        return columns.astype(np.int64), _unpack_scores(keys, self._bits)

    def _keep(self, queries: Vectors, *, blind: bool) -> tuple[Keys, NDArray[np.bool_]]:
        """Return each query's best columns as keys, and which queries found too few."""
        worst = np.full(len(queries), -np.inf, np.float32)
        kept = _Kept(worst, self._count, self._bits)
        for first in range(self._tiles):
            scores = queries @ self._database[first :: self._tiles].T
            if first == 0 and not blind:
                worst[:] = np.partition(scores, self._place, axis=1)[:, self._place]
            kept.add(scores, first, self._tiles)
        return kept.finish()


def _count_bits(database: Vectors) -> int:
    """Return how many bits name a column."""
    return max(1, (len(database) - 1).bit_length())


class _Kept:
    """Keep the scores that may be among the best `count` of some rows, while tiles come in.

    A score is kept as one number that sorts by row, then from best to worst, then by column.
    """

    def __init__(self, worst: Vectors, count: int, bits: int) -> None:
        self._worst, self._count, self._bits = worst, count, bits
        self._tops = np.arange(len(worst) + 1, dtype=np.uint64) << np.uint64(32 + bits)
        self._keys: list[Keys] = []
        self._held = 0

    def add(self, scores: Vectors, first: int, step: int) -> None:
        """Take the scores of columns `first`, `first + step`, … that are not below the worst."""
        rows, width = scores.shape
        places = _find_true(scores >= self._worst[:, None])
        if not len(places):
            return
        starts = np.arange(rows + 1) * width
        counts = np.diff(np.searchsorted(places, starts))
        # Added to a place in the tile times the step, these give the row's top bits and the column.
        offsets = self._tops[:-1].view(np.int64) + first - starts[:-1] * step
        keys = _pack_scores(scores.reshape(-1)[places], self._bits)
        keys += (places * step + np.repeat(offsets, counts)).view(np.uint64)
        self._keys.append(keys)
        self._held += len(keys)
        if self._held > 2 * rows * self._count + _SPARE_KEYS:
            self._cut()

    def _cut(self) -> Indices:
        """Cut every row back to its best, and ask as much of later columns; return the counts."""
        keys = np.concatenate([np.empty(0, np.uint64), *self._keys])
        self._keys = []
        keys.sort()
        bounds = np.searchsorted(keys, self._tops)
        counts = np.diff(bounds)
        full = counts >= self._count
        last = keys[bounds[:-1][full] + self._count - 1]
        self._worst[full] = _unpack_scores(last, self._bits)
        if full.all():
            kept = keys[bounds[:-1, None] + np.arange(self._count)].ravel()
        else:
            kept = keys[np.arange(len(keys)) - np.repeat(bounds[:-1], counts) < self._count]
        self._keys, self._held = [kept], len(kept)
        return np.minimum(counts, self._count)

    def finish(self) -> tuple[Keys, NDArray[np.bool_]]:
        """Return the kept keys `[rows, count]`, best first, and which rows have too few."""
        counts = self._cut()
        found = np.zeros((len(counts), self._count), np.uint64)
        found[np.arange(self._count) < counts[:, None]] = self._keys[0]
        return found, counts < self._count


def _find_true(mask: NDArray[np.bool_]) -> Indices:
    """Return the flat places of what is true; it is rare, so eight are looked at together first."""
    packed = np.packbits(mask, bitorder="little")
    some = np.flatnonzero(packed != 0)
    # As truth values: for these the look-up has no branches.
    inside = np.flatnonzero(np.unpackbits(packed[some], bitorder="little").view(np.bool_))
    places: Indices = (some[inside >> 3] << 3) + (inside & 7)
    return places


def _pack_scores(scores: Vectors, bits: int) -> Keys:
    """Return numbers that fall as scores rise, above so many free bits."""
    # Adding 0 makes −0 and 0 one score.
    raw = (scores + np.float32(0)).view(np.int32)
    falling = np.where(raw < 0, raw, raw ^ np.int32(0x7FFFFFFF)).view(np.uint32)
    keys: Keys = falling.astype(np.uint64) << np.uint64(bits)
    return keys


def _unpack_scores(keys: Keys, bits: int) -> Vectors:
    falling = (keys >> np.uint64(bits)).astype(np.uint32).view(np.int32)
    return np.where(falling < 0, falling, falling ^ np.int32(0x7FFFFFFF)).view(np.float32)
