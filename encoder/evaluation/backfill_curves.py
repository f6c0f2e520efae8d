"""What is found while a database is encoded anew, share by share, in several orders."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.compatibility import Compatibility
from encoder.evaluation.bootstrap import Interval, bootstrap_intervals, intervals_to_json
from encoder.evaluation.metrics import Vectors
from encoder.evaluation.neighbours import find_neighbours
from encoder.evaluation.protocol import (
    EncodedSet,
    EncoderVectors,
    EvaluationRow,
    Judging,
    compare_rows,
    evaluate_pair,
    keep_compared,
)

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
# The nearest others that tell how crowded it is about an item: on cars, 5 to 100 of them were
# tried, and the more the better.
CROWD = 100
_RANDOM_SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True)
class Curve:
    """Hold what is found while a database is encoded anew in an order, share by share.

    `area` is the mean over the shares; `over_random` the interval of its gain over a random order.
    """

    query: str
    database: str
    order: str
    shares: tuple[float, ...]
    rows: tuple[EvaluationRow, ...]
    area: EvaluationRow
    over_random: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return the curve as plain JSON values."""
        return {
            "query": self.query,
            "database": self.database,
            "order": self.order,
            "shares": list(self.shares),
            "rows": [row.to_json() for row in self.rows],
            "area": self.area.to_json(),
            "over_random": intervals_to_json(self.over_random),
        }


def join_layers(
    found: Compatibility,
    queries: EncodedSet,
    old: EncodedSet,
    anew: EncodedSet,
    fresh: NDArray[np.bool_],
) -> tuple[EncodedSet, EncodedSet]:
    """Return vectors whose products are the scores of a search of both layers.

    `fresh` says which items are encoded anew. Backward, a score in the old space is read on the
    scale of the new one: new · new where an item is fresh, else slope · (mapped · old) + offset.
    """
    some = fresh[:, None]
    if found.direction == "forward":
        mapped = found.map_database(old.vectors)
        return queries, dataclasses.replace(old, vectors=np.where(some, anew.vectors, mapped))
    ones = np.ones((len(queries.vectors), 1), np.float32)
    asked = found.scale.slope * found.map_queries(queries.vectors)
    asking = np.hstack([queries.vectors, asked, found.scale.offset * ones])
    answers = np.hstack([anew.vectors * some, old.vectors * ~some, ~some])
    return (
        dataclasses.replace(queries, vectors=asking.astype(np.float32)),
        dataclasses.replace(old, vectors=answers.astype(np.float32)),
    )


def draw_curves(
    found: Compatibility,
    new: EncoderVectors,
    old: EncoderVectors,
    anew: EncoderVectors,
    shares: Sequence[float],
    orders: Sequence[str],
    judging: Judging,
) -> Iterator[Curve]:
    """Yield the curve of each order of encoding `old` as `anew`, as the queries `new` see it."""

    def measure(ranks: NDArray[np.float64], share: float) -> EvaluationRow:
        # Only what answers is encoded anew; of the others the vectors do not matter.
        fresh = ranks < share
        sides = join_layers(found, new.vectors, old.vectors, anew.vectors, fresh)
        return evaluate_pair(f"{share:.0%} anew", *sides, judging)

    baseline: EvaluationRow | None = None
    for order in ("random", *(each for each in orders if each != "random")):
        ranked = list(_rank(found, order, old.vectors))
        if not ranked:
            continue
        rows = [_average([measure(ranks, share) for ranks in ranked]) for share in shares]
        area = _average(rows, weights=_trapezium(shares))
        baseline = baseline or area
        over = keep_compared(compare_rows(area, baseline))
        yield Curve(new.name, old.name, order, tuple(shares), tuple(rows), area, over)


def _rank(found: Compatibility, order: str, old: EncodedSet) -> Iterator[NDArray[np.float64]]:
    """Yield, for each draw of an order, each item's place in it, from 0 to below 1."""
    count = len(old.vectors)
    answers = np.flatnonzero(old.is_database)
    asked = found.map_database(old.vectors)[answers]
    firsts: list[NDArray[np.floating[Any]]] = []
    if order == "random":
        firsts = [np.random.default_rng(seed).random(len(answers)) for seed in _RANDOM_SEEDS]
    elif order == "doubt" and found.doubt:
        firsts = [found.doubt.apply(asked)[:, 0]]
    elif order == "margin" and len(answers) > 1:
        firsts = [_crowding(asked)]
    for first in firsts:
        places = np.ones(count)
        places[answers[np.argsort(-first, kind="stable")]] = np.arange(len(answers)) / len(answers)
        yield places


def _crowding(vectors: Vectors) -> NDArray[np.float32]:
    """Return each vector's mean cosine to the others nearest to it."""
    crowding = np.empty(len(vectors), np.float32)
    for found in find_neighbours(vectors, vectors, CROWD, own=np.arange(len(vectors))):
        crowding[found.rows] = found.scores.mean(axis=1)
    return crowding


def _trapezium(shares: Sequence[float]) -> NDArray[np.float64]:
    """Return the weights of a mean over shares that are not evenly spaced."""
    widths = np.diff(np.asarray(shares, np.float64))
    weights = np.zeros(len(shares))
    weights[:-1] += widths / 2
    weights[1:] += widths / 2
    found: NDArray[np.float64] = weights / weights.sum()
    return found


def _average(
    rows: Sequence[EvaluationRow], weights: NDArray[np.float64] | None = None
) -> EvaluationRow:
    """Return the mean of rows over the same queries."""
    first = rows[0]
    values = {
        name: np.average([row.values[name] for row in rows], axis=0, weights=weights)
        for name in first.values
    }
    return dataclasses.replace(
        first,
        figures={name: 100 * float(value.mean()) for name, value in values.items()},
        intervals=bootstrap_intervals(values, seed=first.judging.seed),
        values=values,
    )
