"""The only batch pipeline: read → decode → batch → embed, with bad images set aside.

On a CPU every core decodes and embeds batches of its own: nothing waits for another core. On an
accelerator all cores decode, and the next batches are prepared while one is embedded.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder.errors import BadImageError
from encoder.images import Source, decode_image
from encoder.memory import count_cores
from encoder.preprocess import Pixels, Preprocess, prepare

Vectors = NDArray[np.float32]
Embed = Callable[[Pixels], Vectors]
_Work = TypeVar("_Work")


@dataclasses.dataclass(frozen=True)
class Embedder:
    """Hold the function that embeds a batch, and how it shares the machine with decoding.

    `embed` maps uint8 `[n, size, size, 3]` to float32 `[n, dim]`. Where `one_core` is given, many
    threads call it at once inside that context, which keeps each of them to one core. Else it runs
    alone, while `batches_ahead` further batches are prepared.
    """

    embed: Embed
    one_core: Callable[[], AbstractContextManager[None]] | None = None
    batches_ahead: int = 0


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """Name an image that could not be used, and why."""

    position: int
    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class EmbeddedBatch:
    """Hold the vectors `[n, dim]` of the images at these positions of the input."""

    positions: NDArray[np.int64]
    vectors: Vectors
    quarantined: tuple[Quarantined, ...] = ()


def prepare_file(
    file: Source, preprocess: Preprocess, alter: Callable[[Pixels], Pixels] | None = None
) -> Pixels:
    """Decode a file or a part of it, at reduced scale where that is enough, to the input size.

    `alter` changes the decoded picture first, as a poor camera would.
    """
    image = decode_image(file, target=preprocess)
    return prepare(alter(image) if alter else image, preprocess)


def embed_files(
    files: Sequence[Source],
    preprocess: Preprocess,
    embedder: Embedder,
    *,
    batch_size: int = 32,
    alter: Callable[[Pixels], Pixels] | None = None,
) -> Iterator[EmbeddedBatch]:
    """Embed files in order, a batch at a time; memory does not grow with their number.

    Unreadable images appear in `quarantined` and have no vector. `alter` changes each decoded
    picture before it is resized.
    """

    def decode(position: int) -> Pixels | BadImageError:
        try:
            return prepare_file(files[position], preprocess, alter)
        except BadImageError as error:
            return error

    def start_decoding(chunk: range) -> list[Future[Pixels | BadImageError]]:
        return [pool.submit(decode, position) for position in chunk]

    def start_embedding(chunk: range) -> Future[EmbeddedBatch]:
        return pool.submit(_embed_chunk, files, chunk, map(decode, chunk), embedder.embed)

    cores = count_cores()
    pool = ThreadPoolExecutor(cores)
    try:
        if embedder.one_core is None:
            chunks = _divide(len(files), batch_size)
            for chunk, images in _ahead(chunks, start_decoding, embedder.batches_ahead):
                decoded = (image.result() for image in images)
                yield _embed_chunk(files, chunk, decoded, embedder.embed)
        else:
            # Few files: every core its share.
            chunks = _divide(len(files), min(batch_size, max(1, -(-len(files) // cores))))
            with embedder.one_core():
                for _, batch in _ahead(chunks, start_embedding, 2 * cores):
                    yield batch.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _divide(count: int, size: int) -> Iterator[range]:
    return (range(first, min(first + size, count)) for first in range(0, count, size))


def _ahead(
    chunks: Iterable[range], submit: Callable[[range], _Work], count: int
) -> Iterator[tuple[range, _Work]]:
    waiting: collections.deque[tuple[range, _Work]] = collections.deque()
    for chunk in chunks:
        waiting.append((chunk, submit(chunk)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _embed_chunk(
    files: Sequence[Source],
    chunk: range,
    decoded: Iterable[Pixels | BadImageError],
    embed: Embed,
) -> EmbeddedBatch:
    images, positions, quarantined = [], [], []
    for position, image in zip(chunk, decoded, strict=True):
        if isinstance(image, BadImageError):
            quarantined.append(Quarantined(position, str(files[position]), str(image)))
        else:
            images.append(image)
            positions.append(position)
    vectors = embed(np.stack(images)) if images else np.empty((0, 0), np.float32)
    return EmbeddedBatch(np.array(positions, np.int64), vectors, tuple(quarantined))


def embed_all(
    files: Sequence[Source],
    preprocess: Preprocess,
    embedder: Embedder,
    *,
    advance: Callable[[int], None] = lambda count: None,
    batch_size: int = 32,
    alter: Callable[[Pixels], Pixels] | None = None,
) -> EmbeddedBatch:
    """Embed files into memory; as `embed_files`, gathered into one batch."""
    batches = []
    for batch in embed_files(files, preprocess, embedder, batch_size=batch_size, alter=alter):
        batches.append(batch)
        advance(len(batch.positions) + len(batch.quarantined))
    filled = [batch.vectors for batch in batches if len(batch.positions)]
    return EmbeddedBatch(
        np.concatenate([np.empty(0, np.int64), *(batch.positions for batch in batches)]),
        np.concatenate(filled) if filled else np.empty((0, 0), np.float32),
        tuple(entry for batch in batches for entry in batch.quarantined),
    )
