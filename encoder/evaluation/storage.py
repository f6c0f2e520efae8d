"""How a database stores its vectors: float, 8-bit integers or bits, whole or as a prefix.

Each way is turned into float32 vectors whose inner product ranks as the stored codes do, so that
one exact search serves all: products of 8-bit codes and Hamming distances are whole numbers below
2²⁴, which float32 holds exactly.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError
from encoder.sign_codes import pack_signs, unpack_signs

Vectors = NDArray[np.float32]
Storage = Literal["float", "int8", "binary", "float-binary"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
# Share of the components that the 8-bit range covers; the few beyond are clipped.
_COVERED = 0.9999


def take_prefix(vectors: Vectors, dim: int) -> Vectors:
    """Return the first `dim` components, unit length again (Matryoshka, Kusupati et al., 2022).

    Raises:
        PocketlensError: when `dim` is not in 1..the vectors' own.
    """
    if not 1 <= dim <= vectors.shape[1]:
        raise PocketlensError(f"prefix of {dim} dimensions of vectors with {vectors.shape[1]}")
    prefix = vectors[:, :dim]
    length = np.linalg.norm(prefix, axis=1, keepdims=True)
    return np.asarray(prefix / np.maximum(length, 1e-12), np.float32)


def fit_scale(database: Vectors) -> float:
    """Return the factor that brings the database's components into −127..127, a few clipped."""
    largest = float(np.quantile(np.abs(database), _COVERED)) if database.size else 0.0
    return 127.0 / max(largest, 1e-12)


def encode_int8(vectors: Vectors, scale: float) -> NDArray[np.int8]:
    """Round scaled components to int8 in −127..127."""
    codes: NDArray[np.int8] = np.clip(np.rint(vectors * scale), -127, 127).astype(np.int8)
    return codes


def store_both(
    queries: Vectors, database: Vectors, storage: Storage, *, dim: int | None = None
) -> tuple[Vectors, Vectors]:
    """Return query and database vectors that rank as the stored codes would.

    int8 codes are compared by inner product, their scale fitted on the database alone; binary
    codes by Hamming distance; with float-binary the query stays float against the database's signs.

    Raises:
        PocketlensError: for a `dim` that the vectors do not have.
    """
    if dim is not None:
        queries, database = take_prefix(queries, dim), take_prefix(database, dim)
    if storage == "float":
        return queries, database
    if storage == "int8":
        scale = fit_scale(database)
        codes = [encode_int8(side, scale).astype(np.float32) for side in (queries, database)]
        return codes[0], codes[1]
    signs = unpack_signs(pack_signs(database), database.shape[1])
    if storage == "float-binary":
        return queries, signs
    return unpack_signs(pack_signs(queries), queries.shape[1]), signs


def bytes_each(dim: int, storage: Storage) -> int:
    """Return the bytes that one database vector takes."""
    return {"float": 4 * dim, "int8": dim}.get(storage, (dim + 7) // 8)
