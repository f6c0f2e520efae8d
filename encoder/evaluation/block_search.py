"""Search blocks of queries on all cores, by matrix products of bounded size.

A block's products run on one core, so that none waits for another. Two ways: any queries against
tiles of a database; and a database against itself, where a product of two blocks serves both.
"""

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from encoder.evaluation.best_scores import BestScores, Keys, count_bits, guess_place, guess_worst
from encoder.evaluation.copies import Vectors
from encoder.memory import count_cores

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# What becomes of a block's first row and its keys `[rows, count]`, best first.
Finish = Callable[[int, Keys], _Result]
# Scores of a block of queries against a tile: 16 MB a core.
BLOCK_ROWS = 1024
TILE_COLUMNS = 4096
# The blocks at work, one a core, keep at most this many neighbours in all, of about 40 bytes each.
_KEPT_CELLS = 1 << 23
# Candidates gather up to twice what is kept and this many before they are cut back.
_SPARE_KEYS = 1 << 20
# In a mutual search the candidates of all blocks wait together: at most so many, of 8 bytes each,
# and about a quarter of that where the sample is a fair one.
_WAITING_KEYS = 128 << 20
# One search at a time limits the threads of products, else the limits end in any order.
_PRODUCTS = threading.Lock()


@contextlib.contextmanager
def _single_threaded_products() -> Iterator[None]:
    """Keep each product to the core that asks for it; never held while results are handed out."""
    with _PRODUCTS, threadpool_limits(1, user_api="blas"):
        yield


def _in_waves(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _count_tiles(total: int) -> int:
    return -(-total // TILE_COLUMNS)


def _place_in_tile(total: int, count: int) -> int:
    """Return the place, in a sorted tile, of a score that most likely is good enough."""
    return guess_place(count, len(range(0, total, _count_tiles(total))), total)


def _choose_block(total: int, count: int) -> int:
    """Return how many rows a block has, such that keys have room for them."""
    most = max(1, min(BLOCK_ROWS, (1 << (32 - count_bits(total))) - 1))
    return max(1, min(most, _KEPT_CELLS // (count * count_cores())))


def search_blocks(
    queries: Vectors, database: Vectors, count: int, finish: Finish[_Result]
) -> Iterator[_Result]:
    """Yield what `finish` makes of each block of queries and the keys of its best columns."""
    search = _TiledSearch(database, count)
    size = _choose_block(len(database), count)

    def find(start: int) -> _Result:
        return finish(start, search.find(queries[start : start + size]))

    cores = count_cores()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        for wave in _in_waves(range(0, len(queries), size), cores):
            with _single_threaded_products():
                found = list(pool.map(find, wave))
            yield from found


class _TiledSearch:
    """Find the best `count` columns of blocks of queries in one database.

    Tiles are every so-many-th column, so that the first is a fair sample of all of them, unless
    their order has that very period: then every block is searched twice.
    """

    def __init__(self, database: Vectors, count: int) -> None:
        self._database, self._count = database, count
        self._tiles = _count_tiles(len(database))
        self._place = _place_in_tile(len(database), count)

    def find(self, queries: Vectors) -> Keys:
        """Return the keys of each query's best columns `[queries, count]`, best first."""
        keys, short = self._keep(queries, blind=self._place < 0)
        if short.any():
            keys[short] = self.find_blind(queries[short])
        return keys

    def find_blind(self, queries: Vectors) -> Keys:
        """Return the same without a guess of what is good enough."""
        return self._keep(queries, blind=True)[0]

    def _keep(self, queries: Vectors, *, blind: bool) -> tuple[Keys, NDArray[np.bool_]]:
        """Return each query's best columns as keys, and which queries found too few."""
        worst = np.full(len(queries), -np.inf, np.float32)
        most = 2 * len(queries) * self._count + _SPARE_KEYS
        best = BestScores(worst, self._count, count_bits(len(self._database)), most)
        for first in range(self._tiles):
            scores = queries @ self._database[first :: self._tiles].T
            if first == 0 and not blind:
                worst[:] = guess_worst(scores, self._place)
            best.add(scores, first, self._tiles)
        return best.finish()


def can_search_mutually(total: int, count: int) -> bool:
    """Return whether to search so many rows mutually: it saves time, and what waits is bounded.

    A mutual search multiplies the sample twice, so it saves nothing where that is a third of all;
    and its products are square, so their blocks must not be low.
    """
    return (
        _count_tiles(total) > 3
        and _place_in_tile(total, count) >= 0
        and 2 * _choose_block(total, count) >= BLOCK_ROWS
        and total * _most_waiting(count) <= _WAITING_KEYS
    )


def _most_waiting(count: int) -> int:
    """Return how many candidates a row may have waiting on average.

    More than a fair sample lets through where many are asked for, so that none is cut back early.
    """
    return max(count + 3 * count // 4, 64)


def search_mutually(database: Vectors, count: int, finish: Finish[_Result]) -> Iterator[_Result]:
    """Yield what `finish` makes of each block of the database and the keys of its best columns.

    Blocks meet in order: each multiplies with itself and with all behind it, for both sides, so
    that it is complete once those before it are. Candidates of the blocks behind wait till then.
    """
    search = _MutualSearch(database, count)
    cores = count_cores()

    def end(block: int) -> _Result:
        return finish(search.starts[block], search.finish(block))

    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        blocks = range(len(search.starts))
        for wave in _in_waves(blocks, cores):
            with _single_threaded_products():
                list(pool.map(search.guess, wave))
        for wave in _in_waves(blocks, cores):
            with _single_threaded_products():
                list(pool.map(search.meet, wave))
                found = list(pool.map(end, wave))
            yield from found


class _MutualSearch:
    """Find the best `count` rows of one database for each of its rows."""

    def __init__(self, database: Vectors, count: int) -> None:
        self._database, self._count = database, count
        self._bits = count_bits(len(database))
        # As high as each other: a last block of one row would be multiplied in another way.
        blocks = -(-len(database) // _choose_block(len(database), count))
        self._size = -(-len(database) // blocks)
        self._sample = np.ascontiguousarray(database[:: _count_tiles(len(database))])
        self._place = _place_in_tile(len(database), count)
        self._waiting: dict[int, BestScores] = {}
        self.starts = range(0, len(database), self._size)

    def _rows(self, block: int) -> Vectors:
        return self._database[self.starts[block] : self.starts[block] + self._size]

    def guess(self, block: int) -> None:
        """Prepare a block to keep what is good enough by the sample."""
        worst = guess_worst(self._rows(block) @ self._sample.T, self._place)
        most = len(worst) * _most_waiting(self._count)
        self._waiting[block] = BestScores(worst, self._count, self._bits, most)

    def meet(self, block: int) -> None:
        """Multiply a block with itself and with all behind it, for both sides."""
        rows = self._rows(block)
        for other in range(block, len(self.starts)):
            scores = rows @ self._rows(other).T
            self._waiting[block].add(scores, self.starts[other])
            if other > block:
                self._waiting[other].add_turned(scores, self.starts[block])

    def finish(self, block: int) -> Keys:
        """Return the keys of a block's best columns, those blocks before it having met it."""
        keys, short = self._waiting.pop(block).finish()
        if short.any():
            alone = _TiledSearch(self._database, self._count)
            keys[short] = alone.find_blind(self._rows(block)[short])
        return keys
