"""Whitening, whole or in part: scale the directions of a cloud of vectors by their variance."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
# Added to each direction's variance, as a share of their mean: small ones are mostly noise.
SHRINKAGE = 0.1


@dataclasses.dataclass
class Moments:
    """Hold the count, sum `[width]` and products `[width, width]` of features seen so far."""

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]


def gather_moments(batches: Iterable[Vectors], width: int) -> Moments:
    """Return the moments of features `[n, width]` that come in batches; memory does not grow."""
    moments = Moments(0, np.zeros(width), np.zeros((width, width)))
    for batch in batches:
        exact = batch.astype(np.float64)
        moments.count += len(exact)
        moments.total += exact.sum(axis=0)
        moments.products += exact.T @ exact
    return moments


def whiten(
    moments: Moments, dim: int, whitening: float, shrinkage: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weight `[dim, width]` and bias `[dim]` of PCA with whitening.

    The directions of most variance come first, so a prefix of the vectors is the PCA of fewer
    dimensions. Each direction's sign is such that its largest weight is positive.
    """
    mean = moments.total / moments.count
    covariance = moments.products / moments.count - np.outer(mean, mean)
    variances, directions = np.linalg.eigh(covariance)
    kept = np.argsort(variances)[::-1][:dim]
    variances, directions = np.maximum(variances[kept], 0), directions[:, kept]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(len(kept))]
    floor = shrinkage * np.trace(covariance) / len(covariance)
    scale = (variances + max(floor, 1e-12)) ** (-whitening / 2)
    weight = (directions * np.sign(largest) * scale).T
    return weight.astype(np.float32), (-weight @ mean).astype(np.float32)


def whiten_symmetrically(centred: NDArray[np.float64], whitening: float) -> NDArray[np.float64]:
    """Return the symmetric matrix `[dim, dim]` that whitens centred vectors `[n, dim]` in part.

    Its scale is such that it keeps the mean variance.
    """
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    floor = SHRINKAGE * max(float(variances.mean()), 1e-12)
    scale = (np.maximum(variances, 0) + floor) ** (-whitening / 2)
    kept = np.sqrt(variances.mean() / max(float((scale**2 * variances).mean()), 1e-12))
    found: NDArray[np.float64] = (directions * (kept * scale)) @ directions.T
    return found
