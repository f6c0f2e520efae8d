"""A million vectors like real ones, to measure an index on.

Of real embeddings of photos, each vector is one moved to a random place on the way to one of its 20
nearest, and from there along the difference of two others until its cosine to that place is 0.9: it
lies where real ones lie, and in the directions in which they spread. A thousand real embeddings are
kept out, as queries.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.datasets.folder import read_folder
from server_index.encode import open_encoder

QUERIES = 1000
_NEAR, _COSINE = 20, 0.9
_CHUNK = 1 << 15

Vectors = NDArray[np.float32]


def encode_sets(data: list[Path], encoder: Path) -> Vectors:
    """Encode every image of some folders."""
    opened = open_encoder(encoder)
    files = [file for folder in data for file in read_folder(folder).files()]
    return np.concatenate([batch.vectors for batch in opened.encode_files(files)])


def make_vectors(real: Vectors, count: int, seed: int = 0) -> tuple[Vectors, Vectors]:
    """Return so many jittered vectors `[count, dim]`, and real queries that they do not come from.

    The same seed and count give the same bytes.
    """
    chance = np.random.default_rng(seed)
    order = chance.permutation(len(real))
    queries, seeds = real[order[:QUERIES]], real[order[QUERIES:]]
    near = _find_near(seeds)
    made = np.empty((count, real.shape[1]), np.float32)
    for first in range(0, count, _CHUNK):
        size = min(_CHUNK, count - first)
        start = chance.integers(len(seeds), size=size)
        goal = near[start, chance.integers(_NEAR, size=size)]
        share = chance.random((size, 1), dtype=np.float32)
        place = _unit(seeds[start] + share * (seeds[goal] - seeds[start]))
        way = seeds[chance.integers(len(seeds), size=size)]
        way = way - seeds[chance.integers(len(seeds), size=size)]
        way -= np.einsum("nd,nd->n", way, place)[:, None] * place
        made[first : first + size] = _unit(
            np.float32(_COSINE) * place + np.float32((1 - _COSINE**2) ** 0.5) * _unit(way)
        )
    return made, queries


def _find_near(vectors: Vectors) -> NDArray[np.int64]:
    rows = []
    for first in range(0, len(vectors), 1024):
        scores = vectors[first : first + 1024] @ vectors.T
        scores[np.arange(len(scores)), np.arange(first, first + len(scores))] = -np.inf
        rows.append(np.argpartition(-scores, _NEAR, axis=1)[:, :_NEAR])
    return np.concatenate(rows)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.float32(1e-6))
