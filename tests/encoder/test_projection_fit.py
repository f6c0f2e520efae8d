import numpy as np
import pytest
import torch
from torch import nn

from encoder.projection_fit import fit_projection


@pytest.mark.parametrize("bias", [True, False])
def test_the_fit_equals_least_squares_with_rows_of_shrinkage(bias: bool) -> None:
    """Ridge as ordinary least squares over rows added, solved by another routine."""
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (40, 6)).astype(np.float32)
    vectors = rng.normal(1, 1, (40, 3)).astype(np.float32)
    projection = nn.Linear(6, 3, bias=bias)
    fit_projection(projection, features, vectors)
    middle = features.mean(0) if bias else np.zeros(6)
    aim = vectors.mean(0) if bias else np.zeros(3)
    inputs, targets = features - middle, vectors - aim
    variance = np.mean(np.sum(inputs**2, axis=0) / 40)
    added = np.sqrt(40 * 0.1 * variance) * np.eye(6)
    expected, *_ = np.linalg.lstsq(
        np.vstack([inputs, added]), np.vstack([targets, np.zeros((6, 3))]), rcond=None
    )
    with torch.no_grad():
        found = projection(torch.from_numpy(features)).numpy()
    assert found == pytest.approx(inputs @ expected + aim, abs=1e-4)


def test_more_features_than_images_can_be_fitted() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(10, 64)).astype(np.float32)
    vectors = rng.normal(size=(10, 4)).astype(np.float32)
    projection = nn.Linear(64, 4)
    fit_projection(projection, features, vectors)
    assert torch.isfinite(projection.weight).all()
