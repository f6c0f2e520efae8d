"""The rows every comparison shows: who asks, who answers, and what it costs in recall."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from encoder.evaluation.bootstrap import (
    Interval,
    bootstrap_intervals,
    intervals_to_json,
    paired_difference,
)
from encoder.evaluation.metrics import RANKS, Figures, Labels, Vectors, measure_retrieval
from encoder.evaluation.storage import STORAGES, Storage, store_both

# What a comparison of encoders shows.
COMPARED = ("r1", "map_at_r")


@dataclasses.dataclass(frozen=True)
class EncodedSet:
    """Hold one encoder's vectors of the images at these positions, and which ask and answer."""

    vectors: Vectors
    labels: Labels
    positions: Labels
    is_query: NDArray[np.bool_]
    is_database: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class EncoderVectors:
    """Hold an encoder's name, its space and its vectors of the test images.

    A query encoder is judged against the old ones of its `role`: teachers and students apart.
    """

    name: str
    space: str
    encoder: str
    vectors: EncodedSet
    role: Literal["teacher", "student"] = "teacher"


@dataclasses.dataclass(frozen=True)
class Judging:
    """Say how vectors are stored and what is measured of their rankings."""

    storage: Storage = "float"
    dim: int | None = None
    ranks: tuple[int, ...] = RANKS
    whole_ranking: bool = False
    seed: int = 0


def list_judgings(
    storages: Sequence[str], dims: Sequence[int], *, whole_ranking: bool = False, seed: int = 0
) -> tuple[Judging, ...]:
    """Return the plain judging, then every storage at full length, then every prefix in each.

    Raises:
        PocketlensError: for a storage that is not known.
    """
    unknown = [name for name in storages if name not in STORAGES]
    if unknown:
        raise PocketlensError(f"--storage {unknown[0]!r} is not one of {', '.join(STORAGES)}")
    named = [name for name in STORAGES if name == "float" or name in storages]
    return tuple(
        Judging(name, dim, whole_ranking=whole_ranking, seed=seed)
        for dim in (None, *dict.fromkeys(dims))
        for name in named
    )


@dataclasses.dataclass(frozen=True)
class EvaluationRow:
    """Hold one line of the table: figures and 95 % intervals in per cent.

    `values` are the figures of each query in 0..1, by which two rows are compared; `asked` the
    positions of those queries.
    """

    name: str
    figures: dict[str, float]
    intervals: dict[str, Interval]
    queries: int
    without_answer: int
    judging: Judging = Judging()
    asked: Labels = dataclasses.field(default_factory=lambda: np.empty(0, np.int64), compare=False)
    values: dict[str, Figures] = dataclasses.field(default_factory=dict, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values, without those of single queries."""
        kept = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("asked", "values", "intervals", "judging")
        }
        intervals = intervals_to_json(self.intervals)
        return {**kept, "intervals": intervals, "judging": dataclasses.asdict(self.judging)}


@dataclasses.dataclass(frozen=True)
class HarmedRow:
    """Hold the row of queries that were harmed in one way, at one strength."""

    corruption: str
    strength: float
    row: EvaluationRow


def evaluate_pair(
    name: str, query: EncodedSet, database: EncodedSet, judging: Judging | None = None
) -> EvaluationRow:
    """Search `database` vectors with `query` vectors of the same images.

    Where every image both asks and answers, its own vector is removed by index; with separate
    roles there is nothing to remove.

    Raises:
        PocketlensError: when the two sides do not hold the same images.
    """
    judging = judging or Judging()
    if not np.array_equal(query.positions, database.positions):
        raise PocketlensError(f"{name}: query and database encoders read different images")
    asks, answers = query.is_query, database.is_database
    overlap = bool((asks & answers).any())
    if overlap and not bool((asks & answers).all()):
        raise PocketlensError("roles: either every image asks and answers, or none does both")
    asking, answering = store_both(
        query.vectors[asks], database.vectors[answers], judging.storage, dim=judging.dim
    )
    found = measure_retrieval(
        asking,
        query.labels[asks],
        answering,
        database.labels[answers],
        same_images=overlap,
        ranks=judging.ranks,
        whole_ranking=judging.whole_ranking,
    )
    return EvaluationRow(
        name,
        found.means(),
        bootstrap_intervals(found.figures(), seed=judging.seed),
        int(asks.sum()),
        found.without_answer,
        judging,
        query.positions[asks][found.queries],
        found.figures(),
    )


def compare_rows(row: EvaluationRow, baseline: EvaluationRow) -> dict[str, Interval]:
    """Return the interval of `row` − `baseline` for each figure, paired by query, in per cent.

    Raises:
        PocketlensError: when the two were not asked the same queries.
    """
    if not np.array_equal(row.asked, baseline.asked):
        raise PocketlensError(f"{row.name} and {baseline.name} answer different queries")
    shared = [name for name in row.values if name in baseline.values]
    return {
        name: paired_difference(row.values[name], baseline.values[name], seed=row.judging.seed)
        for name in shared
    }


def keep_compared(intervals: Mapping[str, Interval]) -> dict[str, Interval]:
    """Return the intervals of what a comparison of encoders shows."""
    return {name: intervals[name] for name in COMPARED}


def mix_databases(old: EncodedSet, new: EncodedSet, share: float, *, seed: int = 0) -> EncodedSet:
    """Return the old database with a share of its items encoded anew, drawn item by item.

    The same seed draws nested sets: what is new at 20 % is new at 50 %.

    Raises:
        PocketlensError: when the share is not in 0..1, or the two hold different images.
    """
    if not 0 <= share <= 1:
        raise PocketlensError(f"share {share} of new items is not in 0..1")
    if not np.array_equal(old.positions, new.positions):
        raise PocketlensError("old and new database hold different images")
    fresh = np.random.default_rng(seed).random(len(old.positions)) < share
    return dataclasses.replace(old, vectors=np.where(fresh[:, None], new.vectors, old.vectors))


def concatenate_encoders(parts: Sequence[EncodedSet]) -> EncodedSet:
    """Return the models of several folds as one: their vectors side by side, unit length again.

    Raises:
        PocketlensError: when they hold different images.
    """
    first = parts[0]
    if not all(np.array_equal(part.positions, first.positions) for part in parts):
        raise PocketlensError("the models of the folds read different images")
    joined = np.concatenate([part.vectors for part in parts], axis=1)
    length = np.linalg.norm(joined, axis=1, keepdims=True)
    return dataclasses.replace(first, vectors=joined / np.maximum(length, 1e-12))


def average_rows(name: str, rows: Sequence[EvaluationRow]) -> EvaluationRow:
    """Return the mean of several models over the same queries (Musgrave's separated folds).

    Raises:
        PocketlensError: when they were asked different queries.
    """
    first = rows[0]
    if not all(np.array_equal(row.asked, first.asked) for row in rows):
        raise PocketlensError("the models of the folds answer different queries")
    values = {key: np.mean([row.values[key] for row in rows], axis=0) for key in first.values}
    return dataclasses.replace(
        first,
        name=name,
        figures={key: 100 * float(value.mean()) for key, value in values.items()},
        intervals=bootstrap_intervals(values, seed=first.judging.seed),
        values=values,
    )
