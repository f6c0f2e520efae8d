"""The vectors that a folder holds, read by key: to write them anew, or to learn from some."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from server_index.faiss_index import Rows, Vectors
from server_index.record import Record
from server_index.segment import Segment, SegmentFacts, rows_of
from server_index.snapshot import Part
from server_index.state import Layer

# Vectors read at a time.
CHUNK = 1 << 14
Chunks = Iterator[tuple[Rows, list[str], Vectors]]


def open_parts(
    folder: Path, record: Record, dim: int, segments: Sequence[SegmentFacts]
) -> list[Part]:
    """Open segments and the recent additions, and say which of their rows live."""
    opened = [Segment(folder, facts, dim) for facts in segments]
    parts = [Part(segment, segment.keys, segment.vectors) for segment in opened]
    keys, ids, vectors = record.recent(0, dim)
    parts.append(Part(None, np.array(keys, np.int64), vectors, ids))
    # Of the recent additions alone few died, of all items perhaps many.
    dead = record.dead_keys(0) if segments else record.dead_recent_keys()
    return [part.without(dead) for part in parts]


def open_layer(folder: Path, record: Record, layer: Layer) -> list[Part]:
    """Open the segments of a layer, and say which of their rows live."""
    dead = record.dead_keys(0)
    opened = [Segment(folder, facts, layer.dim) for facts in record.segments_of(layer.space.id)]
    return [Part(each, each.keys, each.vectors).without(dead) for each in opened]


def living_keys(parts: Sequence[Part]) -> Rows:
    """Return the keys, ascending, of what lives."""
    return np.sort(np.concatenate([part.keys[part.living_rows()] for part in parts]))


def read_chunks(parts: Sequence[Part], keys: Rows, advance: Callable[[int], None]) -> Chunks:
    """Yield keys, ids and vectors `[n, dim]` of these keys, ascending."""
    dim = parts[0].vectors.shape[1]
    for start in range(0, len(keys), CHUNK):
        some = keys[start : start + CHUNK]
        vectors, ids = np.empty((len(some), dim), np.float32), [""] * len(some)
        for part in parts:
            rows, inside = rows_of(part.keys, some)
            vectors[inside] = part.vectors[rows[inside]]
            for place, row in zip(np.flatnonzero(inside), rows[inside].tolist(), strict=True):
                ids[place] = part.id_of(row)
        advance(len(some))
        yield some, ids, vectors


def draw_vectors(parts: Sequence[Part], count: int, seed: int) -> Vectors:
    """Return vectors `[n, dim]` of what lives, drawn at random, each at most once."""
    keys = living_keys(parts)
    if len(keys) > count:
        drawn = np.random.default_rng(seed).choice(len(keys), count, replace=False)
        keys = keys[np.sort(drawn)]
    none = np.empty((0, parts[0].vectors.shape[1]), np.float32)
    chunks = [vectors for _, _, vectors in read_chunks(parts, keys, lambda done: None)]
    return np.concatenate([none, *chunks])
