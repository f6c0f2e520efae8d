"""Class prototypes of an old model: the mean vectors of all images of each class.

Over all new training images, so that classes the old model never saw have one too (Dual-Tuning, Bai
et al., 2023). An old space is imperfect: outliers are left out of their class's mean, and a class
counts for less where it has few images or they lie far apart (our choice: the paper names the
problem, its published code takes plain means).
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
# Images of a class that are worth half of a sure prototype.
_HALF_SURE = 3.0


@dataclasses.dataclass(frozen=True)
class Prototypes:
    """Hold unit prototypes `[c, dim]`, how much each class counts, and how far its images reach.

    `weights` have a mean of 1 over the images. `least_cosines` are those of the outermost image
    that was not left out.
    """

    vectors: Vectors
    weights: Vectors
    least_cosines: Vectors


def find_prototypes(
    vectors: Vectors, targets: NDArray[np.int64], *, trim: float = 0.1, weighted: bool = True
) -> Prototypes:
    """Return the prototypes of unit vectors `[n, dim]` of classes numbered from 0, all present.

    The share `trim` of a class's images that lie farthest from its mean is left out, rounded down.
    A class of n images with a mean cosine r to their prototype weighs r · n / (n + 3).
    """
    classes = int(targets.max()) + 1
    found = np.empty((classes, vectors.shape[1]), np.float32)
    weights, least = np.ones(classes, np.float32), np.ones(classes, np.float32)
    order = np.argsort(targets, kind="stable")
    counts = np.bincount(targets)
    for number, rows in enumerate(np.split(order, np.cumsum(counts)[:-1])):
        own = vectors[rows].astype(np.float64)
        cosines = own @ _unit(own.mean(axis=0))
        kept = np.argsort(-cosines, kind="stable")[: len(own) - int(trim * len(own))]
        found[number] = _unit(own[kept].mean(axis=0))
        cosines = own[kept] @ found[number]
        least[number] = cosines.min()
        weights[number] = max(float(cosines.mean()), 0.0) * len(kept) / (len(kept) + _HALF_SURE)
    mean = float((weights * counts).sum() / counts.sum())
    weights = weights / mean if weighted and mean > 0 else np.ones_like(weights)
    return Prototypes(found, weights, least)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = max(float(np.linalg.norm(vector)), 1e-12)
    return vector / length
