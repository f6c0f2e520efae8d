"""Two spaces of one set of images: the old vectors, the new ones, and what joins them."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from index_folders import DIM, SPACE, unit_vectors
from numpy.typing import NDArray

from encoder.compatibility import Compatibility, Direction, save_compatibility
from encoder.embed import EmbeddedBatch, Quarantined
from encoder.evaluation.score_scale import ScoreScale
from encoder.images import Source
from encoder.perceptron import Perceptron
from encoder.space import EmbeddingSpace, mint_space
from encoder.vector_map import VectorMap

Vectors = NDArray[np.float32]
NEW_DIM = DIM + 4
NEW = mint_space("compatible", NEW_DIM, "new tensors", parents=(SPACE.id,))
NEW_ENCODER = "fedcba9876543210"
SCALE = ScoreScale(0.8, 0.1)
MATRIX = np.linalg.qr(np.random.default_rng(7).standard_normal((NEW_DIM, DIM)))[0].T


def make_compatibility(folder: Path, direction: Direction = "backward") -> Path:
    """Write a compatibility whose map is a projection, and whose doubt is the first component."""
    forward = direction == "forward"
    matrix = (MATRIX.T if forward else MATRIX).astype(np.float32)
    found = VectorMap(matrix, np.zeros(len(matrix), np.float32))
    asked = NEW_DIM if forward else DIM
    doubt = Perceptron(
        np.eye(1, asked, dtype=np.float32),
        np.full(1, 2, np.float32),
        np.ones((1, 1), np.float32),
        np.zeros(1, np.float32),
    )
    folder.mkdir(exist_ok=True)
    made = Compatibility(NEW, SPACE, direction, found, SCALE, doubt, {"new_old.r1": 50.0})
    save_compatibility(made, folder)
    return folder


def map_new(vectors: Vectors) -> Vectors:
    """Return what new vectors ask of the old space."""
    mapped = vectors @ MATRIX.T.astype(np.float32)
    return np.asarray(mapped / np.linalg.norm(mapped, axis=1, keepdims=True), np.float32)


def draw_new(count: int, seed: int = 5) -> Vectors:
    """Return random unit vectors of the new space."""
    return unit_vectors(count, seed=seed, dim=NEW_DIM)


@dataclasses.dataclass
class NamedEncoder:
    """Give each file the new vector of its name; a file it does not know cannot be read."""

    known: dict[str, Vectors]
    space: EmbeddingSpace = NEW
    encoder: str = NEW_ENCODER
    role: str = "teacher"
    asked: list[str] = dataclasses.field(default_factory=list)

    def encode_files(self, files: Sequence[Source]) -> Iterator[EmbeddedBatch]:
        """Encode files in order."""
        for start in range(0, len(files), 8):
            some = range(start, min(start + 8, len(files)))
            names = {at: Path(str(files[at])).name for at in some}
            self.asked += names.values()
            good = [at for at in some if names[at] in self.known]
            bad = tuple(
                Quarantined(at, names[at], f"{files[at]}: is no picture")
                for at in some
                if names[at] not in self.known
            )
            vectors = np.array([self.known[names[at]] for at in good], np.float32)
            yield EmbeddedBatch(np.array(good, np.int64), vectors.reshape(-1, NEW_DIM), bad)
