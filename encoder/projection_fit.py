"""Start a projection from least squares: features of any trunk, mapped to a teacher's vectors."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

# Fewer images than features would else be learnt by heart.
_SHRINKAGE = 0.1


def fit_projection(
    projection: nn.Linear, features: NDArray[np.float32], vectors: NDArray[np.float32]
) -> None:
    """Set the projection to the ridge regression of vectors `[n, dim]` on features `[n, width]`.

    Each weight is held back by a tenth of the features' mean variance.
    """
    inputs, targets = features.astype(np.float64), vectors.astype(np.float64)
    biased = projection.bias is not None
    middle, aim = (
        (part.mean(axis=0) if biased else np.zeros(part.shape[1])) for part in (inputs, targets)
    )
    inputs, targets = inputs - middle, targets - aim
    moments = inputs.T @ inputs / len(inputs)
    moments[np.diag_indices_from(moments)] += _SHRINKAGE * np.trace(moments) / len(moments)
    weights = np.linalg.solve(moments, inputs.T @ targets / len(inputs)).T
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(weights))
        if biased:
            projection.bias.copy_(torch.from_numpy(aim - weights @ middle))
