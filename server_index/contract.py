"""What an index demands of the vectors that it is given, and of who made them."""

import math

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from encoder.space import EmbeddingSpace

_UNIT_TOLERANCE = 1e-3


class VectorError(PocketlensError):
    """Say what is wrong with a vector that was given."""


class SpaceError(PocketlensError):
    """Say that vectors of a space are not answered."""


def check_vectors(vectors: NDArray[np.float32], dim: int) -> None:
    """Refuse vectors that are not float32 `[n, dim]` of unit length.

    Raises:
        VectorError: naming the row.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise VectorError(f"vectors must be [n, {dim}] in this index, not {vectors.shape}")
    # Of one vector, as a device asks, in fewer steps.
    if len(vectors) == 1 and abs(math.sqrt(np.vdot(vectors, vectors)) - 1) <= _UNIT_TOLERANCE:
        return
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    # Not "too far from one": what is not a number is far from nothing.
    good = np.abs(lengths - 1) <= _UNIT_TOLERANCE
    if not good.all():
        bad = np.flatnonzero(~good)
        raise VectorError(
            f"vector {bad[0]} has length {lengths[bad[0]]:.4g}; vectors must be finite and of unit "
            "length (divide them by their length)"
        )


def fit_vectors(
    vectors: NDArray[np.float32], space: EmbeddingSpace, dim: int
) -> NDArray[np.float32]:
    """Return a space's vectors as an index of `dim` dimensions keeps them: its prefix, unit length.

    Raises:
        VectorError: when they are not `[n, dim]`, or longer, and of unit length.
    """
    longer = vectors.ndim == 2 and dim < vectors.shape[1] <= space.dim
    check_vectors(vectors, vectors.shape[1] if longer else dim)
    if not longer:
        return vectors
    prefix = np.ascontiguousarray(vectors[:, :dim])
    lengths = np.linalg.norm(prefix, axis=1, keepdims=True)
    np.divide(prefix, lengths, out=prefix, where=lengths > 0)
    check_vectors(prefix, dim)
    return prefix
