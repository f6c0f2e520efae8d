"""How far an old vector may lie from where a new query of its image asks: told by the vector alone.

After the uncertainty of FastFill (Jaeckle et al., 2023), by which it orders a backfill. Ours is
fitted to errors of classes left out, by the logarithm, so that it is robust and only the order
counts.
"""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoder.perceptron import Perceptron
from encoder.perceptron_fit import fit_perceptron

Vectors = NDArray[np.float32]
_HIDDEN = 128
# An error below this is as good as none.
_LEAST_ERROR = 1e-3


def fit_doubt(
    vectors: Vectors, errors: NDArray[np.floating], groups: NDArray[np.int64], *, seed: int = 0
) -> Perceptron:
    """Fit the logarithm of errors `[n]` to vectors `[n, dim]`; a tenth of the groups judges.

    `groups` are class numbers, or any numbers where there are no classes.
    """
    names = np.unique(groups)
    drawn = np.random.default_rng(seed).permutation(names)[: max(1, len(names) // 10)]
    judged = np.isin(groups, drawn)
    aims = np.log(np.maximum(errors, _LEAST_ERROR)).astype(np.float32)[:, None]
    middle = aims[~judged].mean()

    def squared(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(dim=1)

    seen, held_out = (
        (vectors[~judged], aims[~judged] - middle),
        (vectors[judged], aims[judged] - middle),
    )
    found = fit_perceptron(seen, held_out, squared, outputs=1, hidden=_HIDDEN, seed=seed)
    return Perceptron(
        found.first, found.first_bias, found.second, found.second_bias + np.float32(middle)
    )
