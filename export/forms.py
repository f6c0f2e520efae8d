"""The forms in which an encoder gives a vector: float, 8-bit integers, or a bit for each component.

A query needs no scale of its own: the answers to it are ranked alike at any length. So 8-bit codes
are scaled by each vector's largest component, and need no calibration.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from encoder.evaluation.storage import take_prefix
from encoder.sign_codes import pack_signs, unpack_signs

Form = Literal["float", "int8", "binary"]
# How a file's output is called, and its element type, in each form.
OUTPUTS: dict[str, tuple[str, str]] = {
    "float": ("embedding", "float32"),
    "int8": ("code", "int8"),
    "binary": ("code", "uint8"),
}


def count_values(form: Form, dim: int) -> int:
    """Return how many values an output of so many dimensions has."""
    return -(-dim // 8) if form == "binary" else dim


def express(vectors: NDArray[np.float32], form: Form, dim: int) -> NDArray[Any]:
    """Return the form of vectors `[n, dim or more]`, as a graph gives it: `[n, values]`.

    Float is of unit length. int8 is the vector, rounded, at the length at which its largest
    component is ±127. Binary is packed signs, as FAISS reads them.
    """
    prefix = vectors[:, :dim]
    if form == "binary":
        return pack_signs(prefix)
    if form == "int8":
        largest = np.abs(prefix).max(axis=1, keepdims=True)
        scaled = 127 * (prefix / np.maximum(largest, 1e-12))
        return np.asarray(np.rint(scaled), np.int8)
    return take_prefix(vectors, dim)


def read_vectors(values: NDArray[Any], form: Form, dim: int) -> NDArray[np.float32]:
    """Return the unit vectors `[n, dim]` that an encoder's outputs `[n, values]` stand for.

    The inner product of two binary ones falls as their Hamming distance grows.
    """
    vectors = unpack_signs(values, dim) if form == "binary" else values.astype(np.float32)
    found: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found
