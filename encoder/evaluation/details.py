"""What stands behind a row: its recall curve, the classes it fails on, and example queries."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from encoder.evaluation.metrics import Labels, Vectors
from encoder.evaluation.neighbours import find_neighbours
from encoder.evaluation.protocol import EncodedSet

CURVE_RANKS = (1, 2, 4, 8, 16, 32, 64)
_SHOWN_CLASSES = 20
_SHOWN_EXAMPLES = 12
_SHOWN_ANSWERS = 5


@dataclasses.dataclass(frozen=True)
class Curve:
    """Hold recall in per cent at growing ranks."""

    ranks: tuple[int, ...]
    recall: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ClassFailure:
    """Hold a class's R@1 in per cent, and the class that most often takes its place."""

    label: str
    queries: int
    r1: float
    confused_with: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """Hold one answer to an example query."""

    path: str
    label: str
    score: float
    right: bool


@dataclasses.dataclass(frozen=True)
class Example:
    """Hold a query and its best answers."""

    query: str
    label: str
    answers: tuple[Answer, ...]


@dataclasses.dataclass(frozen=True)
class Details:
    """Hold what a report shows behind one row."""

    curve: Curve
    classes: tuple[ClassFailure, ...]
    examples: tuple[Example, ...]


def describe_pair(
    query: EncodedSet,
    database: EncodedSet,
    *,
    paths: Sequence[str],
    names: Sequence[str],
    seed: int = 0,
) -> Details:
    """Return curve, worst classes and examples of one pair of encoders, on float vectors.

    `paths` are those of the table that `positions` point into, `names` those of the classes. Half
    of the examples, as far as there are any, failed at rank 1; which ones follows from the seed.
    """
    asks = np.flatnonzero(query.is_query)
    answers = np.flatnonzero(database.is_database)
    same = bool((query.is_query & database.is_database).any())
    counts = np.bincount(database.labels[answers], minlength=len(names))
    asks = asks[counts[query.labels[asks]] - int(same) > 0]
    own = asks if same else None
    found, scores = _search(query.vectors[asks], database.vectors[answers], own)
    labels = query.labels[asks]
    hits = database.labels[answers][found] == labels[:, None]
    ranks = tuple(rank for rank in CURVE_RANKS if rank <= found.shape[1])
    recall = tuple(100 * float(hits[:, :rank].any(axis=1).mean()) for rank in ranks)
    first = database.labels[answers][found[:, 0]]
    examples = tuple(
        Example(
            paths[query.positions[asks[row]]],
            names[labels[row]],
            tuple(
                Answer(
                    paths[database.positions[answers[item]]],
                    names[database.labels[answers[item]]],
                    round(float(score), 4),
                    bool(hit),
                )
                for item, score, hit in zip(
                    found[row, :_SHOWN_ANSWERS], scores[row], hits[row], strict=False
                )
            ),
        )
        for row in _choose_examples(hits[:, 0], seed)
    )
    return Details(Curve(ranks, recall), _worst_classes(labels, first, names), examples)


def _search(queries: Vectors, database: Vectors, own: Labels | None) -> tuple[Labels, Vectors]:
    parts = list(find_neighbours(queries, database, CURVE_RANKS[-1], own=own))
    return (
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def _worst_classes(labels: Labels, first: Labels, names: Sequence[str]) -> tuple[ClassFailure, ...]:
    """Return the classes with the lowest R@1, perfect ones left out."""
    failures = []
    for label in np.unique(labels):
        answered = first[labels == label]
        wrong = Counter(answered[answered != label].tolist())
        if wrong:
            taken = min(wrong, key=lambda other: (-wrong[other], other))
            r1 = 100 * float((answered == label).mean())
            failures.append(ClassFailure(names[label], len(answered), round(r1, 2), names[taken]))
    return tuple(sorted(failures, key=lambda entry: (entry.r1, entry.label))[:_SHOWN_CLASSES])


def _choose_examples(right: NDArray[np.bool_], seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(np.flatnonzero(~right))[: _SHOWN_EXAMPLES // 2]
    rest = rng.permutation(np.flatnonzero(right))[: _SHOWN_EXAMPLES - len(wrong)]
    return [*wrong.tolist(), *rest.tolist()]
