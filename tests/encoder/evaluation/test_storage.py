"""Tests of the codes against their plain definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from encoder.errors import PocketlensError
from encoder.evaluation.storage import (
    STORAGES,
    bytes_each,
    encode_int8,
    fit_scale,
    store_both,
    take_prefix,
)


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


SIGNED = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 40)),
    elements=st.floats(-1, 1, width=32),
)


@settings(deadline=None, max_examples=100)
@given(SIGNED)
def test_binary_scores_are_hamming_distances(vectors: np.ndarray) -> None:
    queries, database = store_both(vectors, vectors, "binary")
    scores = queries @ database.T
    for i, one in enumerate(vectors):
        for j, other in enumerate(vectors):
            differing = sum((a > 0) != (b > 0) for a, b in zip(one, other, strict=True))
            assert scores[i, j] == vectors.shape[1] - 2 * differing


def test_a_float_query_against_signs() -> None:
    vectors = unit(5, 16, 0)
    queries, database = store_both(vectors, vectors, "float-binary")
    np.testing.assert_array_equal(queries, vectors)
    np.testing.assert_array_equal(database, np.where(vectors > 0, 1, -1))


def test_int8_codes_round_within_half_a_step_and_clip() -> None:
    vectors = unit(400, 32, 1)
    scale = fit_scale(vectors)
    codes = encode_int8(vectors, scale)
    inside = np.abs(vectors * scale) <= 127
    assert inside.mean() > 0.999 and not inside.all()
    assert np.abs(codes - vectors * scale)[inside].max() <= 0.5 + 1e-4
    assert set(np.abs(codes[~inside]).tolist()) == {127}
    queries, database = store_both(vectors[:3], vectors, "int8")
    expected = codes[:3].astype(int) @ codes.astype(int).T
    np.testing.assert_array_equal(queries @ database.T, expected)


def test_the_scale_is_the_databases_alone() -> None:
    small, large = unit(50, 16, 2) / 10, unit(50, 16, 3)
    _, database = store_both(large, small, "int8")
    assert np.abs(database).max() == 127


@pytest.mark.parametrize("storage", STORAGES)
def test_prefixes_are_unit_vectors_of_the_first_components(storage: str) -> None:
    vectors = unit(6, 32, 4)
    prefix = take_prefix(vectors, 8)
    np.testing.assert_allclose(np.linalg.norm(prefix, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        prefix, vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1)[:, None], rtol=1e-6
    )
    cut = store_both(vectors, vectors, storage, dim=8)  # type: ignore[arg-type]
    whole = store_both(prefix, prefix, storage)  # type: ignore[arg-type]
    for one, other in zip(cut, whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dim", [0, 33])
def test_a_prefix_that_is_not_there_is_refused(dim: int) -> None:
    with pytest.raises(PocketlensError, match=f"prefix of {dim} dimensions"):
        take_prefix(unit(2, 32, 0), dim)


def test_bytes() -> None:
    assert [bytes_each(512, storage) for storage in STORAGES] == [2048, 512, 64, 64]
    assert bytes_each(9, "binary") == 2
