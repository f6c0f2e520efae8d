"""What an index loses: its answers against exact search, kept apart from what the model gets wrong.

`metrics` judges a model against labels with exact search; here labels play no part.
"""

import numpy as np

from encoder.errors import PocketlensError
from encoder.evaluation.metrics import Figures, Labels, Vectors
from encoder.evaluation.neighbours import find_neighbours

# Two ways to sum one product differ by this much.
_ROUNDING = 1e-5


def measure_index_recall(
    queries: Vectors, database: Vectors, answers: Labels, *, own: Labels | None = None
) -> Figures:
    """Return the share of each query's k nearest that an index found, in 0..1.

    `answers` are database rows `[queries, k]`, −1 where the index had none. What scores no worse
    than the k-th exact neighbour counts, so that ties may be broken in any way; a row named twice
    counts once, and a query's `own` row never.

    Raises:
        PocketlensError: when the answers do not fit the queries or the database.
    """
    if answers.ndim != 2 or len(answers) != len(queries) or not answers.shape[1]:
        raise PocketlensError(f"answers {answers.shape} do not fit {len(queries)} queries")
    if answers.min(initial=-1) < -1 or answers.max(initial=-1) >= len(database):
        raise PocketlensError(f"answers name rows outside a database of {len(database)}")
    recall = np.zeros(len(queries))
    for found in find_neighbours(queries, database, answers.shape[1], own=own):
        named = np.sort(answers[found.rows], axis=1)
        right = named >= 0
        right[:, 1:] &= named[:, 1:] != named[:, :-1]
        if own is not None:
            right &= named != own[found.rows, None]
        scores = np.einsum("qd,qkd->qk", queries[found.rows], database[named])
        worst = found.scores[:, -1:]
        right &= scores >= worst - _ROUNDING * np.maximum(np.abs(worst), 1)
        recall[found.rows] = right.sum(axis=1) / found.scores.shape[1]
    return recall
