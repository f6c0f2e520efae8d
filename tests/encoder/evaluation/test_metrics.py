"""Tests of recall@k and MAP@R against slow loops and another library."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from encoder.errors import PocketlensError
from encoder.evaluation import block_search, metrics
from encoder.evaluation.metrics import RANKS, Labels, Retrieval, Vectors, measure_retrieval

# Unit vectors whose products are exact in float32, so that ties are ties on every machine.
EXACT = np.concatenate(
    [np.eye(4), -np.eye(4), (np.indices((2, 2, 2, 2)).reshape(4, 16).T - 0.5)]
).astype(np.float32)


def naive(
    queries: Vectors,
    query_labels: Sequence[int],
    database: Vectors,
    database_labels: Sequence[int],
    same_images: bool,
    ranks: Sequence[int],
) -> dict[str, list[float]]:
    """Score by the definitions of Musgrave et al. (2020), one query and one rank at a time."""
    found: dict[str, list[float]] = {f"r{k}": [] for k in ranks}
    found |= {"r_precision": [], "map_at_r": [], "map": []}
    for q, (query, label) in enumerate(zip(queries, query_labels, strict=True)):
        others = [i for i in range(len(database)) if not (same_images and i == q)]
        scores = {i: float(sum(query.astype(float) * database[i])) for i in others}
        ranking = sorted(others, key=lambda i: (-scores[i], i))
        relevant = sum(database_labels[i] == label for i in others)
        if relevant == 0:
            continue
        for k in ranks:
            found[f"r{k}"].append(float(any(database_labels[i] == label for i in ranking[:k])))
        within, everywhere, correct = 0.0, 0.0, 0
        for position, i in enumerate(ranking, 1):
            if database_labels[i] == label:
                correct += 1
                everywhere += correct / position
                within += correct / position if position <= relevant else 0.0
        right = sum(database_labels[i] == label for i in ranking[:relevant])
        found["r_precision"].append(right / relevant)
        found["map_at_r"].append(within / relevant)
        found["map"].append(everywhere / relevant)
    return found


def check_against_naive(
    queries: Vectors,
    query_labels: Sequence[int],
    database: Vectors,
    database_labels: Sequence[int],
    *,
    same_images: bool,
    ranks: tuple[int, ...] = RANKS,
) -> None:
    expected = naive(queries, query_labels, database, database_labels, same_images, ranks)
    arrays = (
        queries,
        np.array(query_labels, np.int64),
        database,
        np.array(database_labels, np.int64),
    )
    if not expected["map"]:
        with pytest.raises(PocketlensError, match="no query has an item of its class"):
            measure_retrieval(*arrays, same_images=same_images, ranks=ranks)
        return
    found = measure_retrieval(*arrays, same_images=same_images, ranks=ranks, whole_ranking=True)
    figures = found.figures()
    assert figures.keys() == expected.keys()
    for name, values in expected.items():
        assert figures[name] == pytest.approx(values, abs=1e-12)
        assert found.means()[name] == pytest.approx(100 * float(np.mean(values)))
    assert found.without_answer == len(queries) - len(expected["map"])
    assert len(found.queries) == len(expected["map"])


# Few vectors and few classes: ties, duplicates, singletons and absent classes are the rule.
items = st.tuples(st.integers(0, len(EXACT) - 1), st.integers(0, 4))
rank_sets = st.lists(st.integers(1, 30), min_size=1, max_size=3, unique=True).map(tuple)


@given(st.lists(items, min_size=1, max_size=16), rank_sets)
@settings(max_examples=150, deadline=None)
def test_same_images_against_a_loop(rows: list[tuple[int, int]], ranks: tuple[int, ...]) -> None:
    vectors = EXACT[[index for index, _ in rows]]
    labels = [label for _, label in rows]
    check_against_naive(vectors, labels, vectors, labels, same_images=True, ranks=ranks)


@given(st.lists(items, min_size=1, max_size=16), st.data())
@settings(max_examples=100, deadline=None)
def test_two_encoders_of_the_same_images_against_a_loop(
    rows: list[tuple[int, int]], data: st.DataObject
) -> None:
    drawn = st.lists(st.integers(0, len(EXACT) - 1), min_size=len(rows), max_size=len(rows))
    labels = [label for _, label in rows]
    check_against_naive(
        EXACT[data.draw(drawn)],
        labels,
        EXACT[[index for index, _ in rows]],
        labels,
        same_images=True,
    )


@given(st.lists(items, min_size=1, max_size=8), st.lists(items, max_size=16), rank_sets)
@settings(max_examples=150, deadline=None)
def test_separate_images_against_a_loop(
    asked: list[tuple[int, int]], stored: list[tuple[int, int]], ranks: tuple[int, ...]
) -> None:
    check_against_naive(
        EXACT[[index for index, _ in asked]],
        [label for _, label in asked],
        EXACT[[index for index, _ in stored]],
        [label for _, label in stored],
        same_images=False,
        ranks=ranks,
    )


def unit(count: int, dim: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def random_labels(count: int, classes: int, seed: int) -> Labels:
    return np.random.default_rng(seed).integers(0, classes, count).astype(np.int64)


def clustered(labels: Labels, dim: int, seed: int) -> Vectors:
    vectors = unit(len(labels), dim, seed) + 0.8 * unit(int(labels.max()) + 1, dim, 99)[labels]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_case_worked_by_hand() -> None:
    # Ranking of the query: right, wrong, right, wrong, right; R = 3.
    angles = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    database = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = measure_retrieval(
        np.array([[1.0, 0.0], [0.0, 1.0]], np.float32),
        np.array([7, 3]),
        database,
        np.array([7, 3, 7, 5, 7]),
        same_images=False,
        ranks=(1, 2, 4),
    )
    assert found.map_at_r == pytest.approx([(1 + 2 / 3) / 3, 0.0])
    assert {k: hits.tolist() for k, hits in found.recall.items()} == {
        1: [1.0, 0.0],
        2: [1.0, 0.0],
        4: [1.0, 1.0],
    }
    assert found.means() == pytest.approx(
        {
            "r1": 50,
            "r2": 50,
            "r4": 100,
            "r_precision": 100 * 2 / 6,
            "map_at_r": 100 * (1 + 2 / 3) / 6,
        }
    )


def test_queries_without_an_answer_are_counted_and_left_out() -> None:
    vectors = EXACT[:4]
    found = measure_retrieval(
        vectors, np.array([0, 9, 1, 4]), vectors, np.array([0, 1, 1, 2]), same_images=False
    )
    assert found.without_answer == 2
    assert len(found.map_at_r) == len(found.recall[1]) == 2
    assert found.queries.tolist() == [0, 2]


def test_the_query_itself_is_removed_by_its_index_only() -> None:
    # Rows 0 and 1 are the same picture twice: the copy is a fair answer, the row itself is not.
    vectors = EXACT[[0, 0, 1, 2]]
    labels = np.array([0, 0, 1, 1])
    found = measure_retrieval(vectors, labels, vectors, labels, same_images=True)
    assert found.recall[1].tolist() == [1.0, 1.0, 0.0, 0.0]
    kept = measure_retrieval(vectors, labels, vectors, labels, same_images=False)
    assert kept.recall[1].tolist() == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("same_images", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_pytorch_metric_learning(same_images: bool, seed: int) -> None:
    # Every query has an answer there; the other library counts an empty class as a failure.
    labels = np.concatenate([np.arange(7), np.arange(7), random_labels(100, 7, seed)])
    vectors = clustered(labels, 16, seed)
    if same_images:
        queries, query_labels = vectors, labels
    else:
        query_labels = random_labels(30, 7, seed + 50)
        queries = clustered(np.append(query_labels, 6), 16, seed + 50)[:-1]
    found = measure_retrieval(
        queries, query_labels, vectors, labels, same_images=same_images, whole_ranking=True
    )
    calculator = AccuracyCalculator(
        include=(
            "precision_at_1",
            "r_precision",
            "mean_average_precision_at_r",
            "mean_average_precision",
        ),
        k=len(vectors) - int(same_images),
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    theirs = calculator.get_accuracy(
        torch.from_numpy(queries),
        torch.from_numpy(query_labels),
        torch.from_numpy(vectors),
        torch.from_numpy(labels),
        ref_includes_query=same_images,
    )
    means = found.means()
    assert 20 < means["r1"] < 100
    assert means["r1"] == pytest.approx(100 * theirs["precision_at_1"], abs=1e-6)
    for ours, name in (
        ("r_precision", "r_precision"),
        ("map_at_r", "mean_average_precision_at_r"),
        ("map", "mean_average_precision"),
    ):
        assert means[ours] == pytest.approx(100 * theirs[name], abs=1e-5)


def equal(one: Retrieval, other: Retrieval) -> bool:
    first, second = one.figures(), other.figures()
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


@pytest.mark.parametrize("same_images", [True, False])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_size_of_a_block_does_not_matter(
    same_images: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.append(random_labels(59, 6, 0), 6)
    vectors = clustered(labels, 8, 0)
    sides = (vectors, labels, vectors, labels)
    expected = measure_retrieval(*sides, same_images=same_images, whole_ranking=True)
    assert 0 < expected.means()["map_at_r"] < 100
    monkeypatch.setattr(metrics, "_BLOCK_CELLS", 60 * size)
    monkeypatch.setattr(block_search, "BLOCK_ROWS", size)
    monkeypatch.setattr(block_search, "TILE_COLUMNS", size)
    assert equal(measure_retrieval(*sides, same_images=same_images, whole_ranking=True), expected)


@pytest.mark.parametrize("size", [1, 512])
@pytest.mark.parametrize("dim", [3, 64, 128])
@pytest.mark.parametrize("count", [5, 17, 101])
def test_copies_of_a_vector_rank_by_index(
    count: int, dim: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A matrix product may round equal columns apart; copies must tie all the same.
    monkeypatch.setattr(metrics, "_BLOCK_CELLS", size)
    monkeypatch.setattr(block_search, "BLOCK_ROWS", size)
    queries = unit(9, dim, 1)
    database = np.repeat(unit(1, dim, 0), count, axis=0)
    labels = np.zeros(count, np.int64)
    labels[0] = 1
    found = measure_retrieval(
        queries, np.ones(9, np.int64), database, labels, same_images=False, whole_ranking=True
    )
    assert found.recall[1].tolist() == [1.0] * 9
    assert found.average_precision is not None
    assert found.average_precision.tolist() == [1.0] * 9


def test_no_answer_at_all_is_refused() -> None:
    vectors = EXACT[:3]
    for labels, same_images in (([5, 6, 7], False), ([0, 1, 2], True)):
        with pytest.raises(PocketlensError, match="no query has an item of its class"):
            measure_retrieval(
                vectors,
                np.array(labels),
                vectors,
                np.array([0, 1, 2]),
                same_images=same_images,
            )


def test_no_queries_and_no_database_are_refused() -> None:
    none, no_labels = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    some, labels = EXACT[:2], np.array([0, 0])
    for queries in ((none, no_labels, some, labels), (some, labels, none, no_labels)):
        with pytest.raises(PocketlensError, match="no query has an item of its class"):
            measure_retrieval(*queries, same_images=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("side", [0, 1])
def test_vectors_that_are_not_finite_are_refused(value: float, side: int) -> None:
    both = [EXACT[:3].copy(), EXACT[:3].copy()]
    both[side][1, 2] = value
    labels = np.zeros(3, np.int64)
    with pytest.raises(PocketlensError, match="not all finite"):
        measure_retrieval(both[0], labels, both[1], labels, same_images=True)
