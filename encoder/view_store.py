"""What a teacher leaves for its students: coupled views of every image and its features of them.

A folder: `views.json` says whose and of what; `views.bin` holds the views' numbers, those of an
image adjacent; `features.f16` the teacher's features of each view before its projection, in the
same order; `whole.f16` those of the whole images; `positions.npy` the images' rows in the table.
"""

import dataclasses
import hashlib
import io
import operator
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable
from encoder.errors import PocketlensError, first_line
from encoder.json_files import read_format
from encoder.memory import count_cores
from encoder.views import VIEW, ViewRecipe, Views

FORMAT = 1
MANIFEST = "views.json"
VIEWS, FEATURES, WHOLE, POSITIONS = "views.bin", "features.f16", "whole.f16", "positions.npy"
_HALF = np.dtype("<f2")


@dataclasses.dataclass(frozen=True)
class StoreLayout:
    """Say how many images, views of each and features of each view there are.

    Views are made and checked in blocks of `block` images.
    """

    images: int
    views: int
    width: int
    block: int

    @property
    def blocks(self) -> int:
        """Return the number of blocks; the last may be smaller."""
        return -(-self.images // self.block)

    def span(self, number: int) -> range:
        """Return the images of a block."""
        return range(self.images_in(number), self.images_in(number + 1))

    def images_in(self, blocks: int) -> int:
        """Return how many images the first so many blocks hold."""
        return min(blocks * self.block, self.images)

    def sizes(self, images: int) -> dict[str, int]:
        """Return how many bytes of each file belong to the first so many images."""
        return {
            VIEWS: images * self.views * VIEW.itemsize,
            FEATURES: images * self.views * self.width * _HALF.itemsize,
            WHOLE: images * self.width * _HALF.itemsize,
        }


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Hold what `views.json` says.

    `identity` digests all that the bytes follow from, `blocks` and `positions` are sha256 (hex).
    """

    layout: StoreLayout
    recipe: ViewRecipe
    seed: int
    precision: str
    encoder: str
    fingerprint: str
    identity: str
    blocks: tuple[str, ...]
    positions: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the manifest of a store.

        Raises:
            PocketlensError: when there is none, or a field is missing or wrong.
        """
        file = folder / MANIFEST
        if not file.is_file():
            raise PocketlensError(f"{folder}: not a folder of views (no {MANIFEST})")
        value = read_format(file, FORMAT)
        try:
            fields = dict(value["recipe"])
            pairs = {name: tuple(map(float, fields[name])) for name in ("scale", "ratio")}
            layout = StoreLayout(**{key: operator.index(n) for key, n in value["layout"].items()})
            found = cls(
                layout,
                ViewRecipe(**(fields | pairs)),
                operator.index(value["seed"]),
                str(value["precision"]),
                str(value["teacher"]["encoder"]),
                str(value["data"]["fingerprint"]),
                str(value["identity"]),
                tuple(map(str, value["blocks"])),
                str(value["positions"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{file}: a field is missing or wrong ({error!r})") from None
        if min(dataclasses.astuple(layout)) < 1 or len(found.blocks) != layout.blocks:
            raise PocketlensError(f"{file}: does not describe what lies beside it")
        return found


@dataclasses.dataclass(frozen=True)
class ViewStore:
    """Hold an open store: memory-mapped arrays, and what its manifest says.

    `views` is `[images, views]`, `features` float16 `[images, views, width]`, `whole` float16
    `[images, width]`; `positions` the rows of the images in the table, rising.
    """

    folder: Path
    manifest: Manifest
    views: Views
    features: NDArray[np.float16]
    whole: NDArray[np.float16]
    positions: NDArray[np.int64]

    @property
    def layout(self) -> StoreLayout:
        """Return how many images, views and features there are."""
        return self.manifest.layout

    def source_of_held_out(self) -> np.random.Generator:
        """Return what drew the images held out, at its start."""
        return np.random.default_rng(self.manifest.seed)

    def take(
        self, images: NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> tuple[Views, NDArray[np.float32]]:
        """Draw so many different views of each of these images, by their place in the store.

        Returns the views `[images × count]` and the teacher's features of them
        `[images × count, width]`, those of an image adjacent.
        """
        order = rng.random((len(images), self.layout.views)).argsort(axis=1)[:, :count]
        rows = np.repeat(images, count), order.ravel()
        return self.views[rows], self.features[rows].astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """Return what an artefact keeps of the store it was made from."""
        parts = (*self.manifest.blocks, self.manifest.positions)
        digest = hashlib.sha256("".join(parts).encode()).hexdigest()
        return {"views": self.layout.views, "precision": self.manifest.precision, "digest": digest}


def open_store(folder: Path) -> ViewStore:
    """Open a store that was finished.

    Raises:
        PocketlensError: naming the file that is missing, damaged, cut short or of another format.
    """
    manifest = Manifest.read(folder)
    layout = manifest.layout
    images, views, width = layout.images, layout.views, layout.width
    file = folder / POSITIONS
    try:
        data = file.read_bytes()
        for name, size in layout.sizes(images).items():
            found = (folder / name).stat().st_size
            if found != size:
                raise PocketlensError(
                    f"{folder / name}: has {found} bytes, not {size}; make the views anew"
                )
        mapped = (
            np.memmap(folder / VIEWS, VIEW, "r", shape=(images, views)),
            np.memmap(folder / FEATURES, _HALF, "r", shape=(images, views, width)),
            np.memmap(folder / WHOLE, _HALF, "r", shape=(images, width)),
        )
    except (OSError, ValueError, OverflowError) as error:
        place = getattr(error, "filename", None) or folder
        raise PocketlensError(f"{place}: missing or damaged ({first_line(error)})") from None
    if hashlib.sha256(data).hexdigest() != manifest.positions:
        raise PocketlensError(f"{file}: not the file that {MANIFEST} names; make the views anew")
    return ViewStore(folder, manifest, *mapped, unpack_positions(data))


def pack_positions(positions: NDArray[np.int64]) -> bytes:
    """Return positions as the bytes of their file."""
    buffer = io.BytesIO()
    np.save(buffer, positions, allow_pickle=False)
    return buffer.getvalue()


def unpack_positions(data: bytes) -> NDArray[np.int64]:
    """Return what `pack_positions` packed."""
    positions: NDArray[np.int64] = np.load(io.BytesIO(data), allow_pickle=False)
    return positions


def check_store(store: ViewStore, teacher: Checkpoint, training: ImageTable) -> None:
    """Refuse a store of another teacher or of other images.

    Raises:
        PocketlensError: naming the store and what differs.
    """
    found = store.manifest.encoder
    if found != teacher.encoder:
        raise PocketlensError(
            f"{store.folder}: made by the encoder {found}, the teacher is {teacher.encoder}; "
            "make views with this teacher"
        )
    if store.manifest.fingerprint != training.fingerprint():
        raise PocketlensError(
            f"{store.folder}: made of other images than those of {training.root} to train on; "
            "make views of these, with the same split and --with-validation"
        )


def verify_blocks(store: ViewStore, advance: Callable[[int], None] = lambda count: None) -> None:
    """Compare every block with its checksum.

    Raises:
        PocketlensError: naming the folder and the first damaged block.
    """
    layout = store.layout

    def digest(number: int) -> str:
        span = layout.span(number)
        rows = slice(span.start, span.stop)
        return digest_block(store.views[rows], store.features[rows], store.whole[rows])

    with ThreadPoolExecutor(count_cores()) as pool:
        for number, found in enumerate(pool.map(digest, range(layout.blocks))):
            if found != store.manifest.blocks[number]:
                raise PocketlensError(
                    f"{store.folder}: block {number} of {layout.blocks} is damaged; "
                    "make the views anew"
                )
            advance(len(layout.span(number)))


def digest_block(views: Views, features: NDArray[np.float16], whole: NDArray[np.float16]) -> str:
    """Return the sha256 (hex) of what a block holds."""
    digest = hashlib.sha256()
    for part in (views, features, whole):
        digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    return digest.hexdigest()
