"""The only batch pipeline: read → decode → batch → embed, with bad images set aside.

A network on the CPU lets every core decode and embed batches of its own: none waits for another. A
network on an accelerator has all cores decode the next batches while it embeds one. Any other
function runs alone, between batches that all cores decode.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder.errors import BadImageError
from encoder.images import Source, decode_image
from encoder.memory import count_cores
from encoder.preprocess import Pixels, Preprocess, prepare

Vectors = NDArray[np.float32]
Embed = Callable[[Pixels], Vectors]
_Item = TypeVar("_Item")
# Measured on two cores: smaller loses speed, larger does not gain any.
BATCH_SIZE = 32
NO_VECTORS: Vectors = np.empty((0, 0), np.float32)


@dataclasses.dataclass(frozen=True)
class Embedder:
    """Hold the function that embeds a batch, and how it shares the machine with decoding.

    `embed` maps uint8 `[n, size, size, 3]` to float32 `[n, dim]`. Where `use_one_core` is given,
    several threads call `embed` at once, each of which called that first. Else `embed` runs alone,
    while `batches_ahead` further batches are decoded.
    """

    embed: Embed
    use_one_core: Callable[[], None] | None = None
    batches_ahead: int = 0

    def __post_init__(self) -> None:
        if self.use_one_core and self.batches_ahead:
            raise ValueError("batches are prepared ahead only where embed runs alone")


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
    batch_size: int = BATCH_SIZE,
    alter: Callable[[Pixels], Pixels] | None = None,
) -> Iterator[EmbeddedBatch]:
    """Embed files in order, a batch at a time; memory does not grow with their number.

    Unreadable images appear in `quarantined` and have no vector. `alter` changes each decoded
    picture before it is resized.
    """
    if embedder.use_one_core:
        batch_size = _share_out(len(files), count_cores(), batch_size)
    return embed_pictures(
        files, lambda at: prepare_file(files[at], preprocess, alter), embedder, batch_size
    )


def embed_pictures(
    files: Sequence[Source], read: Callable[[int], Pixels], embedder: Embedder, batch_size: int
) -> Iterator[EmbeddedBatch]:
    """Embed what `read` returns for the position of each file, in order and in batches so large.

    It is called from several threads, and may raise a `BadImageError`: the file is set aside.
    """

    def decode(position: int) -> Pixels | BadImageError:
        try:
            return read(position)
        except BadImageError as error:
            return error

    def start_decoding(chunk: range) -> tuple[range, list[Future[Pixels | BadImageError]]]:
        return chunk, [pool.submit(decode, position) for position in chunk]

    def start_embedding(chunk: range) -> Future[EmbeddedBatch]:
        return pool.submit(_embed_chunk, files, chunk, map(decode, chunk), embedder.embed)

    cores, chunks = count_cores(), _divide(len(files), batch_size)
    pool = ThreadPoolExecutor(cores, initializer=embedder.use_one_core)
    try:
        if embedder.use_one_core:
            for batch in _ahead(map(start_embedding, chunks), 2 * cores):
                yield batch.result()
        else:
            for chunk, images in _ahead(map(start_decoding, chunks), embedder.batches_ahead):
                decoded = (image.result() for image in images)
                yield _embed_chunk(files, chunk, decoded, embedder.embed)
    finally:
        pool.shutdown(cancel_futures=True)


def embed_looks(
    files: Sequence[Source],
    read: Callable[[int], Pixels],
    embedder: Embedder,
    count: int,
    combine: Callable[[Vectors], Vectors],
) -> Iterator[EmbeddedBatch]:
    """Embed several looks at each file, as `embed_pictures`.

    `read` returns them stacked, uint8 `[count, size, size, 3]`; `combine` maps their vectors
    `[n, count, dim]` to those of the files `[n, any]`.
    """

    def embed(looks: Pixels) -> Vectors:
        vectors = embedder.embed(looks.reshape(-1, *looks.shape[2:]))
        return combine(vectors.reshape(*looks.shape[:2], -1))

    several = dataclasses.replace(embedder, embed=embed)
    return embed_pictures(files, read, several, max(1, BATCH_SIZE // count))


def _share_out(count: int, cores: int, most: int) -> int:
    """Return the size of batch, up to the most, at which every core gets as many."""
    rounds = max(1, math.ceil(count / (cores * most)))
    return max(1, math.ceil(count / (cores * rounds)))


def _divide(count: int, size: int) -> Iterator[range]:
    return (range(first, min(first + size, count)) for first in range(0, count, size))


def _ahead(started: Iterable[_Item], count: int) -> Iterator[_Item]:
    """Yield in order, having taken as many more as asked: what is taken has been started."""
    waiting: collections.deque[_Item] = collections.deque()
    for item in started:
        waiting.append(item)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def _embed_chunk(
    files: Sequence[Source],
    chunk: range,
    decoded: Iterable[Pixels | BadImageError],
    embed: Embed,
) -> EmbeddedBatch:
    positions, images, quarantined = set_bad_aside(files, chunk, decoded)
    return EmbeddedBatch(positions, embed(np.stack(images)) if images else NO_VECTORS, quarantined)


def set_bad_aside(
    files: Sequence[Source], chunk: range, results: Iterable[_Item | BadImageError]
) -> tuple[NDArray[np.int64], list[_Item], tuple[Quarantined, ...]]:
    """Divide the results of these files: positions and results of the good, and the bad ones."""
    positions, good, bad = [], [], []
    for position, result in zip(chunk, results, strict=True):
        if isinstance(result, BadImageError):
            bad.append(Quarantined(position, str(files[position]), str(result)))
        else:
            positions.append(position)
            good.append(result)
    return np.array(positions, np.int64), good, tuple(bad)


def embed_all(
    files: Sequence[Source],
    preprocess: Preprocess,
    embedder: Embedder,
    *,
    advance: Callable[[int], None] = lambda count: None,
    batch_size: int = BATCH_SIZE,
    alter: Callable[[Pixels], Pixels] | None = None,
) -> EmbeddedBatch:
    """Embed files into memory; as `embed_files`, gathered into one batch."""
    made = embed_files(files, preprocess, embedder, batch_size=batch_size, alter=alter)
    return gather_batches(made, advance)


def gather_batches(
    made: Iterable[EmbeddedBatch], advance: Callable[[int], None] = lambda count: None
) -> EmbeddedBatch:
    """Return batches of one embedding as one."""
    batches = []
    for batch in made:
        batches.append(batch)
        advance(len(batch.positions) + len(batch.quarantined))
    filled = [batch.vectors for batch in batches if len(batch.positions)]
    return EmbeddedBatch(
        np.concatenate([np.empty(0, np.int64), *(batch.positions for batch in batches)]),
        np.concatenate(filled) if filled else NO_VECTORS,
        tuple(entry for batch in batches for entry in batch.quarantined),
    )
