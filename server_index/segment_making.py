"""Make segments of a layer: what it is trained on, which keys go into which, and writing one."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from encoder.atomic import new_file
from server_index import faiss_index
from server_index.faiss_index import Rows, Vectors
from server_index.segment import SegmentFacts, SegmentWriter, read_file_facts
from server_index.state import Layer
from server_index.stored import CHUNK, Chunks

QUANTISERS = "quantisers"
# Bytes of one segment of vectors as they are: what FAISS writes at once.
_SEGMENT_BYTES = 2 << 30


def write_segment(
    folder: Path, layer: Layer, number: int, source: Chunks, count: int, encoders: Sequence[str]
) -> SegmentFacts:
    """Write a segment of so many rows; it counts once it is recorded."""
    return fill_segment(folder, layer, number, source, count).finish(layer.space.id, encoders)


def fill_segment(
    folder: Path, layer: Layer, number: int, source: Chunks, count: int
) -> SegmentWriter:
    """Add so many rows to a segment that is still to be finished."""
    empty = (
        faiss_index.read(layer.kind, folder / layer.quantiser, mapped=False)
        if layer.quantiser
        else faiss_index.make_index(layer.kind, layer.dim)
    )
    writer = SegmentWriter(folder, number, layer.kind, empty, count)
    try:
        for keys, ids, vectors in source:
            writer.add(keys, ids, vectors)
    except BaseException:
        writer.give_up()
        raise
    return writer


def train_layer(folder: Path, layer: Layer, number: int, draw: Callable[[], Vectors]) -> Layer:
    """Return the layer with a quantiser trained on what is drawn, where its kind needs one.

    `number` names the file.

    Raises:
        PocketlensError: when what is drawn is too little.
    """
    empty = faiss_index.make_index(layer.kind, layer.dim)
    if empty.is_trained:
        return dataclasses.replace(layer, quantiser="", quantiser_sha256="")
    faiss_index.train(empty, layer.kind, draw())
    name = f"{QUANTISERS}/{number:04d}.faiss"
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    with new_file(file) as scratch:
        faiss_index.write(empty, layer.kind, scratch)
    digest = read_file_facts(file).sha256
    return dataclasses.replace(layer, quantiser=name, quantiser_sha256=digest)


def divide(keys: Rows, layer: Layer) -> list[Rows]:
    """Divide keys between segments that FAISS can hold in memory while it writes them."""
    most = max(1, len(keys))
    if layer.kind.keeps_vectors:
        most = max(1, _SEGMENT_BYTES // (4 * layer.dim))
    return [keys[first : first + most] for first in range(0, len(keys), most)]


def chunk(keys: Rows, ids: Sequence[str], vectors: Vectors) -> Chunks:
    """Yield rows that are at hand, some at a time."""
    for start in range(0, len(ids), CHUNK):
        some = slice(start, start + CHUNK)
        yield np.asarray(keys[some]), list(ids[some]), vectors[some]
