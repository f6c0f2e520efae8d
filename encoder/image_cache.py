"""Decoded training images on disk, memory-mapped: decoded once, read at memory speed.

Used where a run reads every image many times. A cache is keyed by the files (path, size, time of
change) and the side kept, written atomically, and the oldest caches go when the bound is reached.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoder.array_files import write_array
from encoder.atomic import new_folder, write_json
from encoder.digests import canonical_json
from encoder.embed import Quarantined
from encoder.errors import BadImageError
from encoder.images import BoxedFile, Source, decode_image, file_of
from encoder.json_files import read_json
from encoder.memory import count_cores
from encoder.preprocess import Pixels, Preprocess

_MANIFEST, _PIXELS, _SHAPES = "cache.json", "pixels.bin", "shapes.npy"
_CHUNK = 256


def cache_folder() -> Path:
    """Return where caches lie: `POCKETLENS_CACHE`, else the user's cache folder."""
    named = os.environ.get("POCKETLENS_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pocketlens"


@dataclass(frozen=True)
class DecodedImages:
    """Give decoded images by position: from the cache where there is one, else from the files.

    `positions` are the rows that could be read; the others are in `quarantined`.
    """

    files: tuple[Source, ...]
    side: int
    positions: NDArray[np.int64]
    quarantined: tuple[Quarantined, ...]
    shapes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    pixels: NDArray[np.uint8] | None

    def __getitem__(self, position: int) -> Pixels:
        """Return uint8 `[height, width, 3]`; the shorter side is at most `side`."""
        if self.pixels is None:
            return _decode(self.files[position], self.side)
        height, width = self.shapes[position]
        start = self.offsets[position]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)

    def paths(self, positions: NDArray[np.int64]) -> list[str]:
        """Return the files of the images at these positions."""
        return [str(file_of(self.files[position])) for position in positions]

    def aspects(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return width ÷ height of the images at these positions."""
        heights, widths = self.shapes[positions].astype(np.float64).T
        ratios: NDArray[np.float64] = widths / heights
        return ratios


def open_images(
    files: Sequence[Source],
    *,
    side: int,
    folder: Path | None = None,
    max_bytes: int = 16 << 30,
    advance: Callable[[int], None] = lambda count: None,
) -> DecodedImages:
    """Open the cache of these files, building it first where it is missing.

    Where the pixels exceed `max_bytes`, or the disk is full, images are decoded at each use.
    """
    home = (folder or cache_folder()) / "decoded"
    entry = home / _key(files, side)
    if (entry / _MANIFEST).is_file():
        advance(len(files))
        with contextlib.suppress(OSError):  # a cache that may only be read is as good
            os.utime(entry)
    else:
        try:
            home.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(entry, ignore_errors=True)  # what a killed eviction left
            _evict(home, max_bytes // 2)
            _build(files, side, entry, max_bytes, advance)
            _evict(home, max_bytes, keep=entry)
        except _NotStoredError as error:
            return _gather(files, side, error.shapes, error.quarantined, None)
        except OSError:
            found = _decode_into(None, files, side, 0, advance)
            return _gather(files, side, found.shapes, found.quarantined, None)
    shapes: NDArray[np.int64] = np.load(entry / _SHAPES, allow_pickle=False)
    listed = read_json(entry / _MANIFEST)["quarantined"]
    pixels = np.memmap(entry / _PIXELS, np.uint8, "r") if shapes.any() else None
    return _gather(files, side, shapes, [Quarantined(*fields) for fields in listed], pixels)


def _gather(
    files: Sequence[Source],
    side: int,
    shapes: NDArray[np.int64],
    quarantined: list[Quarantined],
    pixels: NDArray[np.uint8] | None,
) -> DecodedImages:
    sizes = shapes.prod(axis=1) * 3
    return DecodedImages(
        files=tuple(files),
        side=side,
        positions=np.flatnonzero(shapes[:, 0]),
        quarantined=tuple(quarantined),
        shapes=shapes,
        offsets=sizes.cumsum() - sizes,
        pixels=None if pixels is None else np.asarray(pixels),
    )


class _NotStoredError(Exception):
    """The pixels exceed the bound or the disk; what was learnt of the images is kept."""

    def __init__(self, shapes: NDArray[np.int64], quarantined: list[Quarantined]) -> None:
        super().__init__()
        self.shapes, self.quarantined = shapes, quarantined


def _key(files: Sequence[Source], side: int) -> str:
    digest = hashlib.sha256(canonical_json(["v1", side]))
    for file in files:
        path = file_of(file)
        try:
            stat = path.stat()
            facts: list[str | float] = [str(path.resolve()), stat.st_size, stat.st_mtime_ns]
        except OSError:
            facts = [str(path), -1, -1]
        if isinstance(file, BoxedFile):
            facts.extend(file.box)
        digest.update(canonical_json(facts))
    return digest.hexdigest()[:32]


def _decode(file: Source, side: int) -> Pixels:
    # A reduced decode keeps twice its target, so half the side keeps the side.
    image = decode_image(file, target=Preprocess(size=max(16, side // 2), fit="crop"))
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return image
    smaller = (round(width * side / shorter), round(height * side / shorter))
    return np.asarray(Image.fromarray(image).resize(smaller, Image.Resampling.BILINEAR))


def _decode_all(
    files: Sequence[Source], side: int, advance: Callable[[int], None]
) -> Iterator[tuple[int, Pixels | str]]:
    """Yield position and image, or the reason why there is none, in order."""

    def attempt(file: Source) -> Pixels | str:
        try:
            return _decode(file, side)
        except BadImageError as error:
            return str(error)

    with ThreadPoolExecutor(count_cores()) as pool:
        for first in range(0, len(files), _CHUNK):
            chunk = files[first : first + _CHUNK]
            yield from enumerate(pool.map(attempt, chunk), first)
            advance(len(chunk))


def _build(
    files: Sequence[Source],
    side: int,
    entry: Path,
    max_bytes: int,
    advance: Callable[[int], None],
) -> None:
    with new_folder(entry, marker=_MANIFEST, overwrite=True) as scratch:
        with (scratch / _PIXELS).open("wb") as pixels:
            found = _decode_into(pixels, files, side, max_bytes, advance)
        if not found.stored:
            raise _NotStoredError(found.shapes, found.quarantined)
        write_array(scratch / _SHAPES, found.shapes)
        listed = [dataclasses.astuple(entry) for entry in found.quarantined]
        write_json(scratch / _MANIFEST, {"format": 1, "images": len(files), "quarantined": listed})


@dataclass(frozen=True)
class _Decoded:
    shapes: NDArray[np.int64]
    quarantined: list[Quarantined]
    stored: bool


def _decode_into(
    pixels: BinaryIO | None,
    files: Sequence[Source],
    side: int,
    max_bytes: int,
    advance: Callable[[int], None],
) -> _Decoded:
    """Decode everything once, in order; keep the pixels while they fit."""
    shapes = np.zeros((len(files), 2), np.int64)
    quarantined: list[Quarantined] = []
    written, stored = 0, pixels is not None
    for position, image in _decode_all(files, side, advance):
        if isinstance(image, str):
            quarantined.append(Quarantined(position, str(files[position]), image))
            continue
        shapes[position] = image.shape[:2]
        written += image.nbytes
        if stored and pixels is not None:
            stored = written <= max_bytes and _append(pixels, image)
    return _Decoded(shapes, quarantined, stored)


def _append(pixels: BinaryIO, image: Pixels) -> bool:
    try:
        pixels.write(np.ascontiguousarray(image).data)
    except OSError:
        return False
    return True


def _evict(home: Path, max_bytes: int, *, keep: Path | None = None) -> None:
    """Remove the caches used longest ago until the rest fits."""
    ours = (path for path in home.iterdir() if (path / _MANIFEST).is_file())
    entries = sorted(ours, key=lambda path: path.stat().st_mtime)
    sizes = [sum(file.stat().st_size for file in entry.iterdir()) for entry in entries]
    total = sum(sizes)
    for entry, size in zip(entries, sizes, strict=True):
        if total <= max_bytes:
            return
        if entry != keep:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size
