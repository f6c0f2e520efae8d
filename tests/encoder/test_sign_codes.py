"""Sign codes as FAISS reads them."""

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.sign_codes import pack_signs, score_signs, unpack_signs


def test_one_bit_a_component_the_first_one_highest() -> None:
    vectors = np.array([[0.1, -0.2, 0.0, 1, 1, 1, 1, 1, 1]], np.float32)
    assert pack_signs(vectors).tolist() == [[0b10011111, 0b10000000]]
    assert unpack_signs(pack_signs(vectors), 9).tolist() == [[1, -1, -1, 1, 1, 1, 1, 1, 1]]


@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_products_of_signs_are_hamming_distances(width: int, seed: int) -> None:
    dim = 8 * width
    vectors = np.random.default_rng(seed).normal(size=(7, dim)).astype(np.float32)
    index = faiss.IndexBinaryFlat(dim)
    index.add(pack_signs(vectors))
    distances, rows = index.search(pack_signs(vectors[:3]), 7)
    signs = unpack_signs(pack_signs(vectors), dim)
    for query in range(3):
        products = signs[rows[query]] @ signs[query]
        assert np.array_equal(products, dim - 2 * distances[query])


def test_a_query_against_packed_signs() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(n, 13)).astype(np.float32) for n in (30, 4))
    rows = rng.integers(30, size=(4, 6))
    scores = score_signs(queries, pack_signs(vectors)[rows])
    for query in range(4):
        for at, row in enumerate(rows[query]):
            signs = np.where(vectors[row] > 0, 1, -1)
            assert scores[query, at] == pytest.approx(float(signs @ queries[query]), abs=1e-5)
