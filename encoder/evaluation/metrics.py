"""Recall@k, R-precision, MAP@R (Musgrave et al., 2020), mAP: exact search, bounded memory."""

import concurrent.futures
import dataclasses

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from encoder.evaluation.copies import share_copies
from encoder.evaluation.neighbours import find_neighbours
from encoder.memory import count_cores

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
Figures = NDArray[np.float64]
RANKS = (1, 2, 4, 8)
# Similarities held at a time where whole rows are ranked: 64 MB of float32.
_BLOCK_CELLS = 1 << 24


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Hold figures in 0..1 of each query that has an answer.

    `queries` are their rows. `without_answer` counts the others: classes of one image ask and find
    nothing, so they are left out of every mean, as the literature does, and stay in the database.
    `average_precision` is over the whole ranking, where that was asked for.
    """

    queries: Labels
    recall: dict[int, Figures]
    r_precision: Figures
    map_at_r: Figures
    without_answer: int
    average_precision: Figures | None = None

    def figures(self) -> dict[str, Figures]:
        """Return every figure by name: `r1`, `r2`, …, `r_precision`, `map_at_r`, `map`."""
        named = {f"r{k}": hits for k, hits in self.recall.items()}
        named |= {"r_precision": self.r_precision, "map_at_r": self.map_at_r}
        return named if self.average_precision is None else {**named, "map": self.average_precision}

    def means(self) -> dict[str, float]:
        """Return the mean of every figure in per cent."""
        return {name: 100 * float(values.mean()) for name, values in self.figures().items()}


def require_finite(*vectors: Vectors) -> None:
    """Raise `PocketlensError` where a vector to search with has a number that is not finite."""
    if not all(np.isfinite(each).all() for each in vectors):
        raise PocketlensError("the vectors to search with are not all finite numbers")


def figure_title(name: str) -> str:
    """Return how a table heads a figure: R@1, R-prec, MAP@R, mAP."""
    titles = {"r_precision": "R-prec", "map_at_r": "MAP@R", "map": "mAP"}
    return titles.get(name, f"R@{name[1:]}")


def measure_retrieval(
    queries: Vectors,
    query_labels: Labels,
    database: Vectors,
    database_labels: Labels,
    *,
    same_images: bool,
    ranks: tuple[int, ...] = RANKS,
    whole_ranking: bool = False,
) -> Retrieval:
    """Rank the database for each query by inner product and score the ranking against the labels.

    With `same_images` row i of both sides is the same image and is removed by its index. R is a
    query's number of relevant database items; equal scores rank by index. `whole_ranking` adds
    the average precision, which takes a sort of every row. Memory is bounded.

    Raises:
        PocketlensError: when no query has a relevant item, or a vector is not finite.
    """
    require_finite(queries, database)
    counts = np.bincount(database_labels, minlength=int(query_labels.max(initial=0)) + 1)
    relevant = counts[query_labels] - int(same_images)
    answered = np.flatnonzero(relevant > 0)
    if len(answered) == 0:
        raise PocketlensError("no query has an item of its class in the database")
    own = answered if same_images else None
    depth = max(int(relevant.max()), *ranks)
    recall = {k: np.zeros(len(answered)) for k in ranks}
    r_precision, map_at_r = np.zeros(len(answered)), np.zeros(len(answered))
    for found in find_neighbours(queries[answered], database, depth, own=own):
        rows = answered[found.rows]
        hits = database_labels[found.indices] == query_labels[rows, None]
        for k in ranks:
            recall[k][found.rows] = hits[:, :k].any(axis=1)
        r_precision[found.rows], map_at_r[found.rows] = _score_at_r(hits, relevant[rows])
    precision = None
    if whole_ranking:
        precision = rank_whole(
            queries[answered], query_labels[answered], database, database_labels, own=own
        )
    without = len(queries) - len(answered)
    return Retrieval(answered, recall, r_precision, map_at_r, without, precision)


def _score_at_r(hits: NDArray[np.bool_], relevant: Labels) -> tuple[Figures, Figures]:
    """Return each row's R-precision r/R and MAP@R (1/R) Σ_{i≤R} precision(i)·hit(i)."""
    position = np.arange(1, hits.shape[1] + 1)
    inside = hits & (position <= relevant[:, None])
    precision = hits.cumsum(axis=1) / position
    return inside.sum(axis=1) / relevant, (precision * inside).sum(axis=1) / relevant


def rank_whole(
    queries: Vectors,
    query_labels: Labels,
    database: Vectors,
    database_labels: Labels,
    *,
    own: Labels | None = None,
) -> Figures:
    """Return each query's average precision over the whole ranking: mean of i / rank(i).

    Not the trapezoidal kind of the Oxford benchmark. Every query has a relevant item; `own` is its
    row in the database, left out. Memory is bounded: some rows of scores at a time.
    """
    distinct, column = share_copies(database)
    by_label = np.argsort(database_labels, kind="stable")
    bounds = np.searchsorted(database_labels[by_label], np.stack([query_labels, query_labels + 1]))
    found = np.zeros(len(queries))
    block = max(1, _BLOCK_CELLS // max(len(database), 1))

    def score(row: int, scores: Vectors) -> None:
        relevant = by_label[bounds[0, row] : bounds[1, row]]
        if own is not None:
            relevant = relevant[relevant != own[row]]
        found[row] = _average_precision(scores, relevant)

    with concurrent.futures.ThreadPoolExecutor(count_cores()) as pool:
        for start in range(0, len(queries), block):
            rows = range(start, min(start + block, len(queries)))
            scores = queries[rows.start : rows.stop] @ distinct.T
            if column is not None:
                scores = scores[:, column]
            if own is not None:
                scores[np.arange(len(rows)), own[rows.start : rows.stop]] = -np.inf
            list(pool.map(score, rows, scores))
    return found


def _average_precision(scores: Vectors, relevant: Labels) -> float:
    """Score one row; an equal score ranks before where its index is lower."""
    ordered = np.sort(scores)
    values = scores[relevant]
    better = len(scores) - np.searchsorted(ordered, values, side="right")
    tied = len(scores) - better - np.searchsorted(ordered, values, side="left")
    for place in np.flatnonzero(tied > 1):
        better[place] += np.count_nonzero(scores[: relevant[place]] == values[place])
    ranks = np.sort(better) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())
