"""The loss of an index against exact search, with real FAISS indexes."""

import faiss
import numpy as np
import pytest

from encoder.errors import PocketlensError
from encoder.evaluation.index_recall import measure_index_recall


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_an_approximate_index_against_a_naive_count(vectors: np.ndarray) -> None:
    queries, count = vectors[:100], 10
    index = faiss.index_factory(16, "IVF32,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    recalls = []
    for index.nprobe in (1, 4, 32):
        _, answers = index.search(queries, count)
        recall = measure_index_recall(queries, vectors, answers)
        exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :count]
        naive = [len(set(a) & set(e)) / count for a, e in zip(answers, exact, strict=True)]
        np.testing.assert_allclose(recall, naive)
        recalls.append(recall.mean())
    assert recalls[0] < recalls[1] < recalls[2] == 1


def test_a_querys_own_row_a_row_named_twice_and_no_row_do_not_count(vectors: np.ndarray) -> None:
    queries, own = vectors[:1], np.array([0])
    nearest = np.argsort(-(queries @ vectors.T), axis=1)[:, 1:5]
    for place, value in ((0, 0), (1, nearest[0, 0]), (3, -1)):
        answers = nearest.copy()
        answers[0, place] = value
        assert measure_index_recall(queries, vectors, answers, own=own) == [0.75]
    assert measure_index_recall(queries, vectors, nearest, own=own) == [1]


def test_ties_may_be_broken_in_any_way() -> None:
    database = np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)
    answers = np.array([[4, 2], [9, 5], [0, 9]])
    queries = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert measure_index_recall(queries, database, answers).tolist() == [1, 1, 0.5]


def test_fewer_rows_than_asked_for() -> None:
    database = np.eye(3, dtype=np.float32)
    answers = np.array([[0, 1, 2, -1], [0, 1, -1, -1]])
    recall = measure_index_recall(database[:2], database, answers)
    np.testing.assert_allclose(recall, [1, 2 / 3])


@pytest.mark.parametrize("answers", [[[3]], [[-2]], [[0], [0]], [0]])
def test_answers_that_do_not_fit_are_refused(answers: list[object]) -> None:
    with pytest.raises(PocketlensError, match="answers"):
        measure_index_recall(
            np.eye(3, dtype=np.float32)[:1], np.eye(3, dtype=np.float32), np.array(answers)
        )


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_length_of_the_vectors_does_not_matter(vectors: np.ndarray, scale: float) -> None:
    queries = vectors[:20]
    worst = np.argsort(queries @ vectors.T, axis=1)[:, :5]
    scaled = np.float32(scale)
    assert not measure_index_recall(scaled * queries, scaled * vectors, worst).any()
    best = np.argsort(-(queries @ vectors.T), axis=1)[:, :5]
    assert (measure_index_recall(scaled * queries, scaled * vectors, best) == 1).all()


def test_nothing_to_find_and_broken_vectors_are_refused() -> None:
    one = np.ones((1, 2), np.float32)
    with pytest.raises(PocketlensError, match="no neighbours to find"):
        measure_index_recall(one, one[:0], np.array([[-1]]))
    with pytest.raises(PocketlensError, match="no neighbours to find"):
        measure_index_recall(one, one, np.array([[0]]), own=np.array([0]))
    with pytest.raises(PocketlensError, match="finite"):
        measure_index_recall(one * np.nan, one, np.array([[0]]))
