"""Small index folders of random unit vectors, and the plain ranking they are held against."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoder.space import mint_space
from server_index.index import Index
from server_index.items import Item, Value
from server_index.writer import IndexWriter, create_index

DIM = 16
SPACE = mint_space("teacher", DIM, "some tensors")
ENCODER = "0123456789abcdef"


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Return random unit vectors."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def name_items(ids: Sequence[str]) -> list[Item]:
    """Return items of these ids."""
    return [Item(name, f"/images/{name}") for name in ids]


def name_picture(id_: str, path: str, **metadata: Value) -> Item:
    """Return an item as encoding records it: with size and time of its file, where there is one."""
    file = Path(path.partition("#")[0])
    found = file.stat() if path and file.exists() else None
    size, time = (found.st_size, found.st_mtime_ns) if found else (1, 1)
    return Item(id_, path, metadata, size, time)


def make_index(folder: Path, vectors: np.ndarray, ids: Sequence[str] | None = None) -> Index:
    """Write an index of these vectors in two parts, and open it."""
    ids = ids or [str(n) for n in range(len(vectors))]
    create_index(folder, SPACE)
    with IndexWriter(folder) as writer:
        half = len(ids) // 2
        for part in (slice(0, half), slice(half, None)):
            writer.add(vectors[part], name_items(ids[part]), ENCODER)
    return Index(folder)


def rank(vectors: np.ndarray, ids: Sequence[str], query: np.ndarray, count: int) -> list[str]:
    """Return the ids by cosine, the earlier first among equals."""
    scores = (vectors * query).sum(axis=1)
    return [ids[row] for row in np.argsort(-scores, kind="stable")[:count]]
