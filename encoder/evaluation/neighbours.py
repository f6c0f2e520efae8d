"""Exact nearest neighbours in bounded memory: blocks of queries against the database."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from encoder.evaluation.best_scores import Keys, count_bits, unpack_columns, unpack_scores
from encoder.evaluation.block_search import can_search_mutually, search_blocks, search_mutually
from encoder.evaluation.copies import Copies, Indices, Vectors, expand_copies, share_copies


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
    in the database, which is left out. Where the database has fewer rows, all are returned. A large
    database without copies, asked with all of its own rows, needs half of the product.

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
    bits = count_bits(len(distinct))

    def finish(start: int, keys: Keys) -> Neighbours:
        rows = np.arange(start, start + len(keys))
        indices, scores = unpack_columns(keys, bits), unpack_scores(keys, bits)
        if copies is not None:
            indices, scores = expand_copies(indices, scores, copies, asked)
        if own is not None:
            indices, scores = _leave_out(indices, scores, own[rows])
        return Neighbours(rows, indices[:, :limit], scores[:, :limit])

    wanted = min(asked, len(distinct))
    mutual = copies is None and can_search_mutually(len(database), wanted)
    if mutual and (queries is database or np.array_equal(queries, database)):
        yield from search_mutually(database, wanted, finish)
    else:
        yield from search_blocks(queries, distinct, wanted, finish)


def _leave_out(indices: Indices, scores: Vectors, own: Indices) -> tuple[Indices, Vectors]:
    """Move each row's own item behind the others."""
    order = np.argsort(indices == own[:, None], axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)
