"""Sign codes: one bit for each component of a centred embedding (Zhai & Wu, 2019, §3.3)."""

import numpy as np
from numpy.typing import NDArray


def pack_signs(vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pack the signs of `[n, dim]` to bytes `[n, ⌈dim / 8⌉]`: 1 where a component is above zero.

    The first component is the highest bit of the first byte; bits beyond `dim` are 0. These are the
    bytes that FAISS's binary indexes hold.
    """
    return np.packbits(vectors > 0, axis=1)


def unpack_signs(codes: NDArray[np.uint8], dim: int) -> NDArray[np.float32]:
    """Return packed signs as ±1 `[n, dim]`.

    The inner product of two is `dim` less twice their Hamming distance.
    """
    bits = np.unpackbits(codes, axis=1, count=dim)
    return bits.astype(np.float32) * 2 - 1


def score_signs(queries: NDArray[np.float32], codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the inner products `[n, c]` of queries `[n, dim]` with the signs of their candidates.

    The codes are packed, `[n, c, ⌈dim / 8⌉]`. This is the asymmetric distance: of the query more
    than its signs is known.
    """
    dim = queries.shape[1]
    bits = np.unpackbits(codes, axis=2, count=dim).astype(np.float32)
    ones = np.matmul(bits, queries[:, :, None])[:, :, 0]
    products: NDArray[np.float32] = 2 * ones - queries.sum(axis=1, keepdims=True)
    return products
