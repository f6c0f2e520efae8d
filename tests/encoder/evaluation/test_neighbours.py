"""Tests of the streaming search against sorting whole rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.evaluation import neighbours
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "TILE_COLUMNS", tile)
        patch.setattr(neighbours, "BLOCK_ROWS", block)
        patch.setattr(neighbours, "_SAFETY", safety)
        patch.setattr(neighbours, "_SPARE_KEYS", spare)
        if wide:
            patch.setattr(neighbours, "_count_bits", lambda _: 30)
        indices, scores = collect(queries, database, count, own=own)
    assert indices.tolist() == sort_rows(queries, database, count, own)
    picked = np.take_along_axis(queries @ database.T, indices, axis=1)
    np.testing.assert_array_equal(scores, picked)


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
