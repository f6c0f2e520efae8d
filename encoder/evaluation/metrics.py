"""Recall@k and MAP@R by exact search in bounded memory (Musgrave et al., 2020, §4.1)."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
RANKS = (1, 2, 4, 8)
# Similarities held at a time: 64 MB of float32.
_BLOCK_CELLS = 1 << 24


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Hold per-query figures `[queries with an answer]` in 0..1, and how many had none."""

    recall: dict[int, NDArray[np.float64]]
    map_at_r: NDArray[np.float64]
    without_answer: int

    def means(self) -> dict[str, float]:
        """Return the means in per cent: `r1`, `r2`, …, `map_at_r`."""
        figures = {f"r{k}": 100 * float(hits.mean()) for k, hits in self.recall.items()}
        return {**figures, "map_at_r": 100 * float(self.map_at_r.mean())}


def measure_retrieval(
    queries: Vectors,
    query_labels: Labels,
    database: Vectors,
    database_labels: Labels,
    *,
    same_images: bool,
    ranks: tuple[int, ...] = RANKS,
) -> Retrieval:
    """Rank the database for each query by cosine and score the ranking against the labels.

    Vectors are unit length. With `same_images` row i of both sides is the same image and is
    removed by its index. R is a query's number of relevant database items; equal scores rank by
    index. Memory is bounded: a block of queries against the database at a time.

    Raises:
        PocketlensError: when no query has a relevant item, or a vector is not finite.
    """
    if not (np.isfinite(queries).all() and np.isfinite(database).all()):
        raise PocketlensError("the vectors to search with are not all finite numbers")
    counts = np.bincount(database_labels, minlength=int(query_labels.max(initial=0)) + 1)
    relevant = counts[query_labels] - int(same_images)
    answered = np.flatnonzero(relevant > 0)
    if len(answered) == 0:
        raise PocketlensError("no query has an item of its class in the database")
    depth = min(int(max(relevant.max(), *ranks)), len(database) - int(same_images))
    recall = {k: np.zeros(len(answered)) for k in ranks}
    map_at_r = np.zeros(len(answered))
    distinct, column = _share_columns(database)
    block = max(1, _BLOCK_CELLS // max(len(database), 1))
    for start in range(0, len(answered), block):
        rows = answered[start : start + block]
        scores = queries[rows] @ distinct.T
        if column is not None:
            scores = scores[:, column]
        if same_images:
            scores[np.arange(len(rows)), rows] = -np.inf
        hits = database_labels[top_indices(scores, depth)] == query_labels[rows, None]
        here = slice(start, start + len(rows))
        for k in ranks:
            recall[k][here] = hits[:, :k].any(axis=1)
        map_at_r[here] = _map_at_r(hits, relevant[rows])
    return Retrieval(recall, map_at_r, len(queries) - len(answered))


def _share_columns(database: Vectors) -> tuple[Vectors, NDArray[np.int64] | None]:
    """Return the distinct vectors, and each vector's place among them where some are copies.

    A matrix product may round the columns of two copies apart; sharing one keeps their tie.
    """
    rows = np.ascontiguousarray(database).view(f"V{database.itemsize * database.shape[1]}").ravel()
    _, first, column = np.unique(rows, return_index=True, return_inverse=True)
    if len(first) == len(database):
        return database, None
    return database[first], column


def top_indices(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return each row's `count` best columns, best first, equal scores by lower index."""
    columns = scores.shape[1]
    if count < columns:
        # Ties at the cut must be decided by index: keep all that reach the count-th score.
        cut = -np.partition(-scores, count - 1, axis=1)[:, count - 1]
        best = np.empty((len(scores), count), np.int64)
        for row, (values, limit) in enumerate(zip(scores, cut, strict=True)):
            candidates = np.flatnonzero(values >= limit)
            order = np.argsort(-values[candidates], kind="stable")[:count]
            best[row] = candidates[order]
        return best
    return np.argsort(-scores, axis=1, kind="stable")


def _map_at_r(hits: NDArray[np.bool_], relevant: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (1/R) Σ_{i≤R} precision(i)·hit(i) for each row."""
    position = np.arange(1, hits.shape[1] + 1)
    inside = position <= relevant[:, None]
    precision = hits.cumsum(axis=1) / position
    total: NDArray[np.float64] = (precision * hits * inside).sum(axis=1) / relevant
    return total


@dataclasses.dataclass(frozen=True)
class Interval:
    """Hold the ends of a 95 % interval, in per cent."""

    low: float
    high: float


def bootstrap_interval(
    values: NDArray[np.float64], *, seed: int = 0, samples: int = 1000
) -> Interval:
    """Return the 95 % percentile interval of the mean over resampled queries, in per cent."""
    rng = np.random.default_rng(seed)
    count = len(values)
    means = [values[rng.integers(0, count, count)].mean() for _ in range(samples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(100 * float(low), 100 * float(high))
