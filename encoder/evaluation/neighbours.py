"""Exact nearest neighbours in bounded memory: blocks of queries against tiles of the database.

The time is that of the matrix product: a tile's scores are compared with each query's worst kept
score while they are in the cache, and only the few that beat it are touched again.
"""

import concurrent.futures
import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from encoder.memory import count_cores

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]
# Scores of a block of queries against a tile: 8 MB, which stays in the cache.
_BLOCK_ROWS = 512
_TILE_COLUMNS = 4096
# A block keeps at most this many neighbours in all: 100 MB.
_KEPT_CELLS = 1 << 23


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
    """
    distinct, members = _group_copies(database)
    wanted = min(count + int(own is not None), len(distinct))
    block = max(1, min(_BLOCK_ROWS, _KEPT_CELLS // max(wanted, 1)))
    limit = min(count, len(database) - int(own is not None))
    threads = count_cores()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(queries), block):
            rows = np.arange(start, min(start + block, len(queries)))
            indices, scores = _search_block(queries[rows], distinct, wanted, pool, threads)
            if members is not None:
                indices, scores = _expand(indices, scores, members, count + int(own is not None))
            if own is not None:
                indices, scores = _leave_out(indices, scores, own[rows])
            yield Neighbours(rows, indices[:, :limit], scores[:, :limit])


def _search_block(
    queries: Vectors,
    database: Vectors,
    count: int,
    pool: concurrent.futures.ThreadPoolExecutor,
    threads: int,
) -> tuple[Indices, Vectors]:
    """Search one block: the product on all cores, then the selection, the rows shared out."""
    kept = [_Best(part, count) for part in np.array_split(np.arange(len(queries)), threads)]
    for start in range(0, len(database), _TILE_COLUMNS):
        scores = queries @ database[start : start + _TILE_COLUMNS].T
        list(pool.map(lambda best, tile=scores, at=start: best.add(tile, at), kept))
    found = list(pool.map(_Best.finish, kept))
    indices, values = (np.concatenate(part) for part in zip(*found, strict=True))
    return indices, values


class _Best:
    """Keep the best `count` columns of some rows while tiles come in, in order of the columns.

    A column is kept as one number that sorts by score and then by lower index (`_to_keys`), 0 for
    none. Candidates gather behind the kept ones until their room is full; then rows are cut back.
    """

    def __init__(self, rows: Indices, count: int) -> None:
        self._rows = slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)
        self._count = count
        self._keys = np.zeros((len(rows), 2 * count), np.uint64)
        self._filled = np.zeros(len(rows), np.int64)
        self._worst = np.full((len(rows), 1), -np.inf, np.float32)

    def add(self, tile: Vectors, start: int) -> None:
        """Take what beats the worst kept score; a later column never wins a tie."""
        scores = tile[self._rows]
        columns = scores.shape[1]
        first = not self._filled.any() and columns > self._count
        if first:
            # Nothing is kept yet: the tile's own cut spares a look at every column.
            cut = columns - self._count
            self._worst = np.partition(scores, cut, axis=1)[:, cut, None]
        better = scores >= self._worst if first else scores > self._worst
        row, column = np.divmod(np.flatnonzero(better), columns)
        if not len(row):
            return
        keys = _to_keys(scores[row, column], column + start)
        fresh = np.bincount(row, minlength=len(scores))
        place = np.arange(len(row)) - np.repeat(np.cumsum(fresh) - fresh, fresh)
        if (self._filled + fresh).max() > self._keys.shape[1]:
            self._shrink(room=int(fresh.max()))
        self._keys[row, self._filled[row] + place] = keys
        self._filled += fresh

    def _shrink(self, *, room: int) -> None:
        """Cut every row back to its best, with room for so many more."""
        count = self._count
        best = np.partition(self._keys, self._keys.shape[1] - count, axis=1)[:, -count:]
        self._keys = np.zeros((len(best), count + max(count, room)), np.uint64)
        self._keys[:, :count] = best
        self._filled = np.full(len(best), count)
        worst = best.min(axis=1, keepdims=True)
        self._worst = np.where(worst > 0, _from_keys(worst)[1], self._worst)

    def finish(self) -> tuple[Indices, Vectors]:
        """Return the kept columns and their scores, best first."""
        ordered = np.sort(self._keys, axis=1)[:, : -self._count - 1 : -1]
        return _from_keys(ordered)


def _to_keys(scores: Vectors, columns: Indices) -> NDArray[np.uint64]:
    """Return numbers above 0 that sort by score, then by lower column."""
    # Adding 0 makes −0 and 0 one score.
    bits = (scores + np.float32(0)).view(np.uint32)
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    keys: NDArray[np.uint64] = (rising.astype(np.uint64) << np.uint64(32)) | (
        np.uint64(0xFFFFFFFF) - columns.astype(np.uint64)
    )
    return keys


def _from_keys(keys: NDArray[np.uint64]) -> tuple[Indices, Vectors]:
    rising = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(rising >> 31, rising & np.uint32((1 << 31) - 1), ~rising)
    columns = np.uint64(0xFFFFFFFF) - (keys & np.uint64(0xFFFFFFFF))
    return columns.astype(np.int64), bits.astype(np.uint32).view(np.float32)


@dataclasses.dataclass(frozen=True)
class _Members:
    """Hold which database rows are copies of which distinct vector, in order of index."""

    order: Indices
    first: Indices
    sizes: Indices


def _group_copies(database: Vectors) -> tuple[Vectors, _Members | None]:
    """Return the distinct vectors in order of first index, and their rows where some are copies.

    A matrix product may round the columns of two copies apart; searching one keeps their tie.
    """
    rows = np.ascontiguousarray(database).view(f"V{database.itemsize * database.shape[1]}").ravel()
    _, first, group = np.unique(rows, return_index=True, return_inverse=True)
    if len(first) == len(database):
        return database, None
    by_first = np.argsort(first, kind="stable")
    rank = np.empty_like(by_first)
    rank[by_first] = np.arange(len(first))
    group = rank[group]
    sizes = np.bincount(group)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return database[first[by_first]], _Members(np.argsort(group, kind="stable"), starts, sizes)


def _expand(
    indices: Indices, scores: Vectors, members: _Members, count: int
) -> tuple[Indices, Vectors]:
    """Replace distinct vectors by all their rows, and rank these by score and index."""
    count = min(count, len(members.order))
    found = np.empty((len(indices), count), np.int64)
    values = np.empty((len(indices), count), np.float32)
    for row, (groups, score) in enumerate(zip(indices, scores, strict=True)):
        sizes = members.sizes[groups]
        # A vector's copies are needed until `count` are reached, and those of its ties.
        enough = int(np.searchsorted(np.cumsum(sizes), count)) + 1
        enough = int(np.searchsorted(-score, -score[min(enough, len(score)) - 1], side="right"))
        parts = [
            members.order[members.first[group] : members.first[group] + size]
            for group, size in zip(groups[:enough], sizes[:enough], strict=True)
        ]
        every = np.concatenate(parts)
        value = np.repeat(score[:enough], sizes[:enough])
        order = np.lexsort((every, -value))[:count]
        found[row], values[row] = every[order], value[order]
    return found, values


def _leave_out(indices: Indices, scores: Vectors, own: Indices) -> tuple[Indices, Vectors]:
    """Move each row's own item behind the others."""
    order = np.argsort(indices == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)
