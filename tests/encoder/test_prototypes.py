"""Prototypes of an old space: outliers left out, classes weighed."""

import numpy as np
import pytest
from numpy.typing import NDArray

from encoder.prototypes import find_prototypes


def draw(
    spread: list[float], each: int, dim: int = 8
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return unit vectors of classes that spread so far around their centres, and the classes."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(len(spread)), each)
    centres = rng.standard_normal((len(spread), dim))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.standard_normal((len(targets), dim)) * np.array(spread)[targets, None]
    vectors = centres[targets] + noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), targets


def test_plain_prototypes_are_means_of_unit_length() -> None:
    vectors, targets = draw([0.1, 0.3], 10)
    found = find_prototypes(vectors, targets, trim=0.0, weighted=False)
    for number in range(2):
        own = vectors[targets == number].astype(np.float64)
        mean = own.mean(axis=0) / np.linalg.norm(own.mean(axis=0))
        np.testing.assert_allclose(found.vectors[number], mean, atol=1e-6)
        assert found.least_cosines[number] == pytest.approx((own @ mean).min(), abs=1e-6)
    assert found.weights.tolist() == [1.0, 1.0]


def test_an_outlier_moves_neither_the_prototype_nor_its_boundary() -> None:
    vectors, targets = draw([0.1, 0.1], 10)
    clean = find_prototypes(vectors[targets == 0], np.zeros(10, np.int64), trim=0.0)
    spoilt = np.concatenate([vectors, vectors[-1:]])
    labels = np.append(targets, 0)
    trimmed = find_prototypes(spoilt, labels, trim=0.1)
    plain = find_prototypes(spoilt, labels, trim=0.0)
    assert trimmed.vectors[0] @ clean.vectors[0] > 0.9999 > plain.vectors[0] @ clean.vectors[0]
    assert trimmed.least_cosines[0] > 0.8 and plain.least_cosines[0] < 0.6


def test_sure_classes_count_for_more_and_the_images_mean_is_one() -> None:
    vectors, targets = draw([0.1, 0.6], 12)
    found = find_prototypes(vectors, targets)
    assert found.weights[0] > 1 > found.weights[1] > 0
    assert found.weights[targets].mean() == pytest.approx(1, abs=1e-5)
    # The same spread, from fewer images.
    vectors, targets = draw([0.2, 0.2], 12)
    some = np.arange(15)
    found = find_prototypes(vectors[some], targets[some])
    assert found.weights[0] > found.weights[1]
