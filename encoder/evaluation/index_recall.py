"""What an index loses: its answers against exact search, kept apart from what the model gets wrong.

`metrics` judges a model against labels with exact search; here labels play no part.
"""

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from encoder.evaluation.metrics import Figures, Labels, Vectors, require_finite
from encoder.evaluation.neighbours import find_neighbours

# Two ways to sum one product differ by this share of the vectors' lengths.
_ROUNDING = 1e-6
# Vectors gathered at a time: 64 MB of float32.
_GATHERED_CELLS = 1 << 24


def measure_index_recall(
    queries: Vectors, database: Vectors, answers: Labels, *, own: Labels | None = None
) -> Figures:
    """Return the share of each query's k nearest that an index found, in 0..1.

    `answers` are database rows `[queries, k]`, −1 where the index had none. What scores no worse
    than the k-th exact neighbour counts, so that ties may be broken in any way; a row named twice
    counts once, and a query's `own` row never.

    Raises:
        PocketlensError: when the answers do not fit the queries or the database, there is nothing
            to find, or a vector is not finite.
    """
    if answers.ndim != 2 or len(answers) != len(queries) or not answers.shape[1]:
        raise PocketlensError(f"answers {answers.shape} do not fit {len(queries)} queries")
    if answers.min(initial=-1) < -1 or answers.max(initial=-1) >= len(database):
        raise PocketlensError(f"answers name rows outside a database of {len(database)}")
    if len(database) <= int(own is not None):
        raise PocketlensError(f"a database of {len(database)} has no neighbours to find")
    require_finite(queries, database)
    recall = np.zeros(len(queries))
    for found in find_neighbours(queries, database, answers.shape[1], own=own):
        named = np.sort(answers[found.rows], axis=1)
        allowed = named >= 0
        allowed[:, 1:] &= named[:, 1:] != named[:, :-1]
        if own is not None:
            allowed &= named != own[found.rows, None]
        # Rows of the database made distinct between queries.
        offset = np.arange(len(named))[:, None] * len(database)
        right = np.isin(named + offset, found.indices + offset)
        row, place = np.nonzero(allowed & ~right)
        worst = found.scores[row, -1]
        right[row, place] = _score_at_least(
            queries, database, found.rows[row], named[row, place], worst
        )
        recall[found.rows] = (right & allowed).sum(axis=1) / found.scores.shape[1]
    return recall


def _score_at_least(
    queries: Vectors, database: Vectors, asking: Labels, answering: Labels, least: Vectors
) -> NDArray[np.bool_]:
    """Return which pairs of rows score no less than asked, but for rounding."""
    reached = np.zeros(len(asking), bool)
    step = max(1, _GATHERED_CELLS // queries.shape[1])
    for start in range(0, len(asking), step):
        part = slice(start, start + step)
        query, item = queries[asking[part]], database[answering[part]]
        lengths = np.linalg.norm(query, axis=1) * np.linalg.norm(item, axis=1)
        scores = np.einsum("nd,nd->n", query, item)
        reached[part] = scores >= least[part] - _ROUNDING * lengths
    return reached
