"""Tests of the mutual information of clusters."""

import numpy as np
import pytest

from encoder.errors import PocketlensError
from encoder.evaluation.clusters import measure_nmi


def clouds(spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 20)
    vectors = 4 * np.eye(5, 8)[labels] + spread * rng.normal(size=(100, 8))
    return vectors.astype(np.float32), labels


def test_clear_clouds_are_found_and_noise_is_not() -> None:
    assert measure_nmi(*clouds(0.1)) == pytest.approx(100)
    blurred = measure_nmi(*clouds(2.0))
    vectors, labels = clouds(0.1)
    shuffled = measure_nmi(vectors, np.random.default_rng(1).permutation(labels))
    assert shuffled < 20 < blurred < 95


def test_the_seed_decides() -> None:
    assert measure_nmi(*clouds(2.0), seed=1) == measure_nmi(*clouds(2.0), seed=1)


def test_one_class_is_refused() -> None:
    with pytest.raises(PocketlensError, match="fewer than two classes"):
        measure_nmi(np.ones((4, 3), np.float32), np.zeros(4, np.int64))
