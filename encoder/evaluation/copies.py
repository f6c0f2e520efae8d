"""Vectors that occur more than once: searched once, answered with every row that holds them.

A matrix product may round the columns of two copies apart; sharing one column keeps their tie.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Indices = NDArray[np.int64]


def share_copies(database: Vectors) -> tuple[Vectors, Indices | None]:
    """Return the distinct vectors in order of first index, and each row's place among them.

    The places are None where no vector has a copy.
    """
    rows = np.ascontiguousarray(database).view(f"V{database.itemsize * database.shape[1]}").ravel()
    _, first, place = np.unique(rows, return_index=True, return_inverse=True)
    if len(first) == len(database):
        return database, None
    by_first = np.argsort(first, kind="stable")
    rank = np.empty_like(by_first)
    rank[by_first] = np.arange(len(first))
    return database[first[by_first]], rank[place]


@dataclasses.dataclass(frozen=True)
class Copies:
    """Hold the rows of each distinct vector: `order` from `first`, so many as `sizes`, rising."""

    order: Indices
    first: Indices
    sizes: Indices

    @classmethod
    def list(cls, place: Indices) -> "Copies":
        """List the rows at each place that `share_copies` returned."""
        sizes = np.bincount(place)
        return cls(np.argsort(place, kind="stable"), np.cumsum(sizes) - sizes, sizes)


def expand_copies(
    indices: Indices, scores: Vectors, copies: Copies, count: int
) -> tuple[Indices, Vectors]:
    """Replace distinct vectors by all their rows, ranked by score and then index, `count` a query.

    `indices` and `scores` are `[queries, found]`, best first; `found` suffices for `count` rows.
    """
    count = min(count, len(copies.order))
    found = np.empty((len(indices), count), np.int64)
    values = np.empty((len(indices), count), np.float32)
    for row, (groups, score) in enumerate(zip(indices, scores, strict=True)):
        sizes = copies.sizes[groups]
        # A vector's copies are needed until `count` are reached, and those of its ties.
        enough = int(np.searchsorted(np.cumsum(sizes), count)) + 1
        enough = int(np.searchsorted(-score, -score[min(enough, len(score)) - 1], side="right"))
        parts = [
            copies.order[copies.first[group] : copies.first[group] + size]
            for group, size in zip(groups[:enough], sizes[:enough], strict=True)
        ]
        every = np.concatenate(parts)
        value = np.repeat(score[:enough], sizes[:enough])
        order = np.lexsort((every, -value))[:count]
        found[row], values[row] = every[order], value[order]
    return found, values
