"""The best scores of some rows, kept as numbers that sort, while tiles of scores come in.

A fair sample of the scores tells about how good one must be to be among a row's best; later scores
are compared with that once, and only the few that pass are touched again. A guess that was too high
is found out by the count.
"""

import math
import threading

import numpy as np
from numpy.typing import NDArray

from encoder.evaluation.copies import Indices, Vectors

Keys = NDArray[np.uint64]
# Standard deviations between the number of the best expected in the sample and the number feared.
_SAFETY = 4.0


def guess_place(count: int, sample: int, total: int) -> int:
    """Return the place, in a sorted sample, of a score that most likely is good enough.

    Good enough to be among the best `count` of `total`; negative where the sample cannot tell.
    """
    expected = count * sample / total
    return sample - math.ceil(expected + _SAFETY * (math.sqrt(expected) + 1))


def guess_worst(scores: Vectors, place: int) -> Vectors:
    """Return each row's score at this place of its sorted sample."""
    # A copy: a view would keep all of the sample alive.
    return np.partition(scores, place, axis=1)[:, place].copy()


def count_bits(total: int) -> int:
    """Return how many bits name a column."""
    return max(1, (total - 1).bit_length())


class BestScores:
    """Keep the scores that may be among the best `count` of some rows, while tiles come in.

    A score is kept as one number that sorts by row, then from best to worst, then by column; so
    there is room for 2 ** (32 - bits) - 1 rows. `worst` is what a score must not be below; when
    more than `most` candidates have gathered they are cut back. Several threads may add at once.
    """

    def __init__(self, worst: Vectors, count: int, bits: int, most: int) -> None:
        self._worst, self._count, self._bits, self._most = worst, count, bits, most
        self._tops = np.arange(len(worst) + 1, dtype=np.uint64) << np.uint64(32 + bits)
        self._keys: list[Keys] = []
        self._held = 0
        self._lock = threading.Lock()

    def add(self, scores: Vectors, first: int, step: int = 1) -> None:
        """Take the scores of columns `first`, `first + step`, … that are not below the worst."""
        rows, width = scores.shape
        places = _find_true(scores >= self._worst[:, None])
        starts = np.arange(rows + 1) * width
        counts = np.diff(np.searchsorted(places, starts))
        # Added to a place in the tile times the step, these give the row's top bits and the column.
        offsets = self._tops[:-1].view(np.int64) + first - starts[:-1] * step
        self._hold(scores, places, places * step + np.repeat(offsets, counts))

    def add_turned(self, scores: Vectors, first: int) -> None:
        """Take scores whose columns are the rows here; their rows are columns from `first` on."""
        places = _find_true(scores >= self._worst)
        columns, rows = np.divmod(places, scores.shape[1])
        self._hold(scores, places, self._tops.view(np.int64)[rows] + columns + first)

    def _hold(self, scores: Vectors, places: Indices, names: Indices) -> None:
        # `worst` was read without the lock: it only rises, so an old value keeps a few too many.
        if not len(places):
            return
        keys = _pack_scores(scores.reshape(-1)[places], self._bits)
        keys += names.view(np.uint64)
        with self._lock:
            self._keys.append(keys)
            self._held += len(keys)
            if self._held > self._most:
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
        self._worst[full] = unpack_scores(last, self._bits)
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


def unpack_scores(keys: Keys, bits: int) -> Vectors:
    """Return the scores of keys."""
    falling = (keys >> np.uint64(bits)).astype(np.uint32).view(np.int32)
    return np.where(falling < 0, falling, falling ^ np.int32(0x7FFFFFFF)).view(np.float32)


def unpack_columns(keys: Keys, bits: int) -> Indices:
    """Return the columns of keys."""
    columns: Indices = (keys & np.uint64((1 << bits) - 1)).astype(np.int64)
    return columns
