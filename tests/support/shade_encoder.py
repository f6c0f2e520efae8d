"""An encoder of shades, to build indexes without a network, and pictures for it."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from index_folders import SPACE
from PIL import Image

from encoder.embed import NO_VECTORS, EmbeddedBatch, set_bad_aside
from encoder.errors import BadImageError
from encoder.images import Source, decode_image
from encoder.space import EmbeddingSpace


class Stopped(BaseException):
    """Stand for a kill."""


@dataclasses.dataclass
class ShadeEncoder:
    """Encode a picture as a direction that its mean shade gives; count what was asked."""

    space: EmbeddingSpace = SPACE
    encoder: str = "0123456789abcdef"
    role: str = "teacher"
    stop_after: int = 10**9
    asked: int = 0

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        for first in range(0, len(files), 4):
            chunk = range(first, min(first + 4, len(files)))
            if self.asked + len(chunk) > self.stop_after:
                raise Stopped
            self.asked += len(chunk)
            positions, vectors, bad = set_bad_aside(
                files, chunk, map(self._encode, files[first : chunk.stop])
            )
            yield EmbeddedBatch(positions, np.stack(vectors) if vectors else NO_VECTORS, bad)

    def _encode(self, file: Source) -> np.ndarray | BadImageError:
        try:
            angle = decode_image(file).mean() / 100
        except BadImageError as error:
            return error
        vector = np.zeros(self.space.dim, np.float32)
        vector[:2] = np.cos(angle), np.sin(angle)
        return vector


def draw(folder: Path, count: int, first: int = 0) -> None:
    """Write so many pictures of different shades."""
    folder.mkdir(exist_ok=True)
    for n in range(first, first + count):
        data = io.BytesIO()
        Image.new("RGB", (16, 16), (n * 3 % 256, n, n)).save(data, "PNG")
        (folder / f"{n:03d}.png").write_bytes(data.getvalue())
