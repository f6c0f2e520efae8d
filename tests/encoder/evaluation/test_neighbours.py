"""Tests of the streaming search against sorting whole rows."""

import contextlib
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from encoder.evaluation import best_scores, block_search, neighbours
from encoder.evaluation.neighbours import find_neighbours

# Products of these are exact in float32, so that ties are ties on every machine.
VALUES = st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0])


def collect(*arguments: object, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    parts = list(find_neighbours(*arguments, own=own))  # type: ignore[arg-type]
    assert np.concatenate([part.rows for part in parts]).tolist() == list(range(len(arguments[0])))  # type: ignore[arg-type]
    return (
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.scores for part in parts]),
    )


def sort_rows(
    queries: np.ndarray, database: np.ndarray, count: int, own: np.ndarray | None
) -> list[list[int]]:
    rows = []
    for number, query in enumerate(queries):
        scores = [float(query.astype(float) @ item.astype(float)) for item in database]
        order = sorted(range(len(database)), key=lambda i: (-scores[i], i))
        rows.append([i for i in order if own is None or i != own[number]][:count])
    return rows


@contextlib.contextmanager
def cut_up(tile: int, block: int, safety: float, spare: int, *, wide: bool) -> Iterator[None]:
    """Cut products up smaller; `wide` leaves keys with room for three rows only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_search, "TILE_COLUMNS", tile)
        patch.setattr(block_search, "BLOCK_ROWS", block)
        patch.setattr(best_scores, "_SAFETY", safety)
        patch.setattr(block_search, "_SPARE_KEYS", spare)
        if wide:
            patch.setattr(block_search, "count_bits", lambda _: 30)
            patch.setattr(neighbours, "count_bits", lambda _: 30)
        yield


@settings(deadline=None, max_examples=400)
@given(
    data=st.data(),
    tile=st.integers(1, 7),
    block=st.integers(1, 5),
    safety=st.sampled_from([0.0, 0.5, 4.0]),
    spare=st.integers(0, 9),
    wide=st.booleans(),
)
def test_against_sorting(
    data: st.DataObject, tile: int, block: int, safety: float, spare: int, wide: bool
) -> None:
    """Also where the guess is too high, and where keys have room for three rows only."""
    dim = data.draw(st.integers(1, 3))
    vector = st.lists(VALUES, min_size=dim, max_size=dim)
    database = np.array(data.draw(st.lists(vector, min_size=1, max_size=30)), np.float32)
    queries = np.array(data.draw(st.lists(vector, min_size=1, max_size=9)), np.float32)
    count = data.draw(st.integers(1, 40))
    places = st.lists(
        st.integers(0, len(database) - 1), min_size=len(queries), max_size=len(queries)
    )
    own = np.array(data.draw(places)) if data.draw(st.booleans()) else None
    with cut_up(tile, block, safety, spare, wide=wide):
        indices, scores = collect(queries, database, count, own=own)
    assert indices.tolist() == sort_rows(queries, database, count, own)
    picked = np.take_along_axis(queries @ database.T, indices, axis=1)
    np.testing.assert_array_equal(scores, picked)


@settings(deadline=None, max_examples=400)
@given(
    rows=st.integers(2, 40),
    dim=st.integers(4, 6),
    count=st.integers(1, 45),
    tile=st.integers(1, 12),
    block=st.integers(1, 9),
    safety=st.sampled_from([0.0, 0.5]),
    spare=st.integers(0, 9),
    wide=st.booleans(),
    own=st.booleans(),
    seed=st.integers(0, 999),
)
def test_a_database_against_itself(
    rows: int,
    dim: int,
    count: int,
    tile: int,
    block: int,
    safety: float,
    spare: int,
    wide: bool,
    own: bool,
    seed: int,
) -> None:
    """Both ways agree with sorting, ties and too high guesses among them."""
    rng = np.random.default_rng(seed)
    vectors = np.unique(rng.integers(-2, 3, (rows, dim)) / 2, axis=0).astype(np.float32)
    vectors = rng.permutation(vectors)
    mine = np.arange(len(vectors)) if own else None
    expected = sort_rows(vectors, vectors, count, mine)
    for mutual in (True, False):
        with (
            cut_up(tile, block, safety, spare, wide=wide),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(neighbours, "can_search_mutually", lambda *_, way=mutual: way)
            if block_search._place_in_tile(len(vectors), min(count + own, len(vectors))) < 0:
                continue
            indices, scores = collect(vectors, vectors, count, own=mine)
        assert indices.tolist() == expected
        picked = np.take_along_axis(vectors @ vectors.T, indices, axis=1)
        np.testing.assert_array_equal(scores, picked)


def test_a_large_database_against_itself_takes_half_of_the_products(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A small one, or one asked with other queries, is searched the plain way."""
    cells = []
    add, guess = block_search.BestScores.add, block_search.guess_worst

    def note_add(self: block_search.BestScores, scores: np.ndarray, *place: int) -> None:
        cells.append(scores.size)
        add(self, scores, *place)

    def note_guess(scores: np.ndarray, place: int) -> np.ndarray:
        cells.append(scores.size)
        return guess(scores, place)

    def count_cells(queries: np.ndarray, database: np.ndarray) -> float:
        cells.clear()
        collect(queries, database, 10)
        return float(sum(cells)) / len(database) ** 2

    monkeypatch.setattr(block_search, "TILE_COLUMNS", 256)
    monkeypatch.setattr(block_search, "BLOCK_ROWS", 64)
    monkeypatch.setattr(block_search.BestScores, "add", note_add)
    vectors = np.random.default_rng(0).normal(size=(9000, 8)).astype(np.float32)
    few = vectors[:600]
    assert count_cells(vectors[::-1], vectors) == count_cells(few, few) == 1
    monkeypatch.setattr(block_search, "guess_worst", note_guess)
    assert 0.5 < count_cells(vectors, vectors.copy()) < 0.6


def test_what_is_guessed_keeps_nothing_of_the_sample() -> None:
    scores = np.random.default_rng(0).random((5, 900), np.float32)
    worst = best_scores.guess_worst(scores, 890)
    np.testing.assert_array_equal(worst, np.sort(scores, axis=1)[:, 890])
    assert worst.base is None and worst.nbytes == 20


def test_what_waits_is_bounded_where_the_sample_misleads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows sampled are far from all the others, so that every other score looks good enough."""
    held = []
    hold = block_search.BestScores._hold

    def note(self: block_search.BestScores, *parts: np.ndarray) -> None:
        hold(self, *parts)
        held.append(self._held - self._most)

    monkeypatch.setattr(block_search, "TILE_COLUMNS", 100)
    monkeypatch.setattr(block_search, "BLOCK_ROWS", 50)
    monkeypatch.setattr(block_search.BestScores, "_hold", note)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1000, 4)).astype(np.float32) + np.float32(9)
    vectors[::10] *= -1
    indices, _ = collect(vectors, vectors, 5)
    scores = vectors @ vectors.T
    found = np.take_along_axis(scores, indices, axis=1)
    np.testing.assert_allclose(found, -np.sort(-scores, axis=1)[:, :5], rtol=1e-5)
    assert max(held) <= 0


def test_threads_that_add_at_once_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_search, "count_cores", lambda: 8)
    monkeypatch.setattr(block_search, "TILE_COLUMNS", 64)
    monkeypatch.setattr(block_search, "BLOCK_ROWS", 16)
    monkeypatch.setattr(block_search, "_most_waiting", lambda count: count)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        vectors = np.unique(np.random.default_rng(0).integers(-3, 4, (700, 5)), axis=0) / 2
        vectors = np.random.default_rng(1).permutation(vectors).astype(np.float32)
        indices, _ = collect(vectors, vectors, 7)
    finally:
        sys.setswitchinterval(switch)
    assert indices.tolist() == sort_rows(vectors, vectors, 7, None)


def test_a_search_that_is_left_gives_the_products_back() -> None:
    vectors = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    before = [pool["num_threads"] for pool in threadpool_info()]
    search = find_neighbours(vectors, vectors, 3)
    next(search)
    assert not block_search._PRODUCTS.locked()
    search.close()
    assert [pool["num_threads"] for pool in threadpool_info()] == before


@pytest.mark.parametrize("count", [1, 10, 200, 1000])
def test_many_random_vectors(count: int) -> None:
    rng = np.random.default_rng(count)
    vectors = rng.normal(size=(9000, 16)).astype(np.float32)
    own = np.arange(600)
    indices, _ = collect(vectors[:600], vectors, count, own=own)
    scores = vectors[:600] @ vectors.T
    scores[own, own] = -np.inf
    expected = -np.sort(-scores, axis=1)[:, :count]
    np.testing.assert_allclose(np.take_along_axis(scores, indices, axis=1), expected, rtol=1e-5)
    assert not (indices == own[:, None]).any()


def test_worsening_and_bettering_order_of_the_database() -> None:
    """Every tile of a rising database beats what is kept, none of a falling one does."""
    line = np.linspace(-1, 1, 10000, dtype=np.float32)[:, None]
    query = np.ones((3, 1), np.float32)
    rising, _ = collect(query, line, 5)
    falling, _ = collect(query, line[::-1].copy(), 5)
    assert rising.tolist() == [[9999, 9998, 9997, 9996, 9995]] * 3
    assert falling.tolist() == [[0, 1, 2, 3, 4]] * 3


def test_a_database_of_one_vector() -> None:
    same = np.ones((50, 4), np.float32)
    indices, _ = collect(same, same, 6, own=np.arange(50))
    assert indices[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert indices[3].tolist() == [0, 1, 2, 4, 5, 6]
