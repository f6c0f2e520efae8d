"""The rows every comparison shows: who asks, who answers, and what it costs in recall."""

import dataclasses
from typing import Any

import numpy as np

from encoder.errors import PocketlensError
from encoder.evaluation.bootstrap import Interval, bootstrap_intervals
from encoder.evaluation.metrics import Labels, Retrieval, Vectors, measure_retrieval


@dataclasses.dataclass(frozen=True)
class EncodedSet:
    """Hold one encoder's vectors of the images at these positions, and which ask and answer."""

    vectors: Vectors
    labels: Labels
    positions: Labels
    is_query: np.ndarray
    is_database: np.ndarray


@dataclasses.dataclass(frozen=True)
class EvaluationRow:
    """Hold one line of the table: figures and 95 % intervals in per cent."""

    name: str
    figures: dict[str, float]
    intervals: dict[str, Interval]
    queries: int
    without_answer: int

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        return dataclasses.asdict(self)


def evaluate_pair(
    name: str, query: EncodedSet, database: EncodedSet, *, seed: int = 0
) -> EvaluationRow:
    """Search `database` vectors with `query` vectors of the same images.

    Where every image both asks and answers, its own vector is removed by index; with separate
    roles there is nothing to remove.

    Raises:
        PocketlensError: when the two sides do not hold the same images.
    """
    if not np.array_equal(query.positions, database.positions):
        raise PocketlensError(f"{name}: query and database encoders read different images")
    asks, answers = query.is_query, database.is_database
    overlap = bool((asks & answers).any())
    if overlap and not bool((asks & answers).all()):
        raise PocketlensError("roles: either every image asks and answers, or none does both")
    found = measure_retrieval(
        query.vectors[asks],
        query.labels[asks],
        database.vectors[answers],
        database.labels[answers],
        same_images=overlap,
    )
    return _row(name, found, int(asks.sum()), seed)


def _row(name: str, found: Retrieval, queries: int, seed: int) -> EvaluationRow:
    intervals = bootstrap_intervals(found.figures(), seed=seed)
    return EvaluationRow(name, found.means(), intervals, queries, found.without_answer)
