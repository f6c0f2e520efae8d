"""The only batch pipeline: read → decode → batch → embed, with bad images set aside.

On a CPU the phases alternate, each on all cores: decoding and the network would otherwise take
cores from each other. On an accelerator the next batches are prepared while one is embedded.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from encoder.errors import BadImageError
from encoder.images import Source, decode_image
from encoder.memory import count_cores
from encoder.preprocess import Pixels, Preprocess, prepare

Vectors = NDArray[np.float32]
Embed = Callable[[Pixels], Vectors]


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
    embed: Embed,
    *,
    batch_size: int = 32,
    batches_ahead: int = 0,
    alter: Callable[[Pixels], Pixels] | None = None,
) -> Iterator[EmbeddedBatch]:
    """Embed files in order, a batch at a time; memory does not grow with their number.

    `embed` maps uint8 `[n, size, size, 3]` to float32 `[n, dim]`. Unreadable images appear in
    `quarantined` and have no vector. `alter` changes each decoded picture before it is resized.
    """
    with ThreadPoolExecutor(count_cores()) as pool:
        chunks = (
            range(at, min(at + batch_size, len(files))) for at in range(0, len(files), batch_size)
        )

        def submit(chunk: range) -> list[Future[Pixels]]:
            return [
                pool.submit(prepare_file, files[position], preprocess, alter) for position in chunk
            ]

        for chunk, futures in _ahead(chunks, submit, batches_ahead):
            yield _embed_chunk(files, chunk, futures, embed)


def _ahead(
    chunks: Iterable[range], submit: Callable[[range], list[Future[Pixels]]], count: int
) -> Iterator[tuple[range, list[Future[Pixels]]]]:
    waiting: collections.deque[tuple[range, list[Future[Pixels]]]] = collections.deque()
    for chunk in chunks:
        waiting.append((chunk, submit(chunk)))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _embed_chunk(
    files: Sequence[Source], chunk: range, futures: list[Future[Pixels]], embed: Embed
) -> EmbeddedBatch:
    images, positions, quarantined = [], [], []
    for position, future in zip(chunk, futures, strict=True):
        try:
            images.append(future.result())
            positions.append(position)
        except BadImageError as error:
            quarantined.append(Quarantined(position, str(files[position]), str(error)))
    vectors = embed(np.stack(images)) if images else np.empty((0, 0), np.float32)
    return EmbeddedBatch(np.array(positions, np.int64), vectors, tuple(quarantined))


def embed_all(
    files: Sequence[Source],
    preprocess: Preprocess,
    embed: Embed,
    *,
    advance: Callable[[int], None] = lambda count: None,
    batch_size: int = 32,
    batches_ahead: int = 0,
    alter: Callable[[Pixels], Pixels] | None = None,
) -> EmbeddedBatch:
    """Embed files into memory; as `embed_files`, gathered into one batch."""
    batches = []
    for batch in embed_files(
        files,
        preprocess,
        embed,
        batch_size=batch_size,
        batches_ahead=batches_ahead,
        alter=alter,
    ):
        batches.append(batch)
        advance(len(batch.positions) + len(batch.quarantined))
    filled = [batch.vectors for batch in batches if len(batch.positions)]
    return EmbeddedBatch(
        np.concatenate([np.empty(0, np.int64), *(batch.positions for batch in batches)]),
        np.concatenate(filled) if filled else np.empty((0, 0), np.float32),
        tuple(entry for batch in batches for entry in batch.quarantined),
    )
