"""Check an exported graph against PyTorch before it is written."""

import dataclasses
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from encoder.checkpoint import Checkpoint
from encoder.errors import BadImageError, PocketlensError
from encoder.images import Source, decode_image
from encoder.preprocess import Pixels, Preprocess, enlarge_tiny, normalise, prepare
from export.contract import INPUT
from export.graph import build_front
from export.runtime import QueryEncoder

MIN_COSINE = 0.9999
_MAX_LEVELS = 2.001


@dataclasses.dataclass(frozen=True)
class Parity:
    """Hold the cosine of both runtimes' vectors over the pictures compared."""

    pictures: int
    min_cosine: float
    mean_cosine: float
    worst: str


def gather_pictures(
    files: Iterable[Source], preprocess: Preprocess
) -> tuple[dict[str, Pixels], tuple[str, ...]]:
    """Decode the user's pictures; return them by name, and why some were set aside."""
    pictures: dict[str, Pixels] = {}
    set_aside = []
    for file in files:
        try:
            pictures[str(file)] = decode_image(file, target=preprocess)
        except BadImageError as error:
            set_aside.append(str(error))
    return pictures, tuple(set_aside)


def measure_parity(model: bytes, checkpoint: Checkpoint, pictures: dict[str, Pixels]) -> Parity:
    """Compare the graph, preprocessing included, with PyTorch behind the reference preprocessing.

    An enlarged picture has many values that lie exactly between two grey levels, which Pillow and
    ONNX Runtime round apart. There the graph's own pixels, once they are shown to lie within
    two levels of Pillow's, are what PyTorch is given.

    Raises:
        PocketlensError: when a picture's cosine is below 0.9999 or its pixels are further off,
            naming it.
    """
    front = onnxruntime.InferenceSession(build_front(checkpoint.preprocess).SerializeToString())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "encoder.onnx"
        file.write_bytes(model)
        encoder = QueryEncoder(file)
    cosines: dict[str, float] = {}
    for label, picture in pictures.items():
        expected = normalise(prepare(picture, checkpoint.preprocess)[None], checkpoint.preprocess)
        pixels: NDArray[np.float32] = front.run(None, {INPUT: enlarge_tiny(picture)})[0]
        levels = np.abs(pixels - expected).max() * max(checkpoint.preprocess.std)
        if levels > _MAX_LEVELS:
            raise PocketlensError(
                f"the graph prepares {label} {levels:.0f} grey levels apart from Pillow; "
                "nothing was written"
            )
        enlarged = min(_box_sides(picture, checkpoint.preprocess)) < checkpoint.preprocess.size
        reference = _embed_batch(checkpoint, pixels if enlarged else expected)
        cosines[label] = float(encoder.embed(picture) @ reference)
    worst = min(cosines, key=lambda label: cosines[label])
    parity = Parity(len(cosines), cosines[worst], float(np.mean([*cosines.values()])), worst)
    if not parity.min_cosine >= MIN_COSINE:
        raise PocketlensError(
            f"the exported graph differs from PyTorch on {worst}: cosine {cosines[worst]:.6f} is "
            f"below {MIN_COSINE}; nothing was written"
        )
    return parity


def _box_sides(picture: Pixels, preprocess: Preprocess) -> tuple[int, int]:
    left, top, right, bottom = preprocess.crop_box(picture.shape[1], picture.shape[0])
    return right - left, bottom - top


def embed_reference(checkpoint: Checkpoint, picture: Pixels) -> NDArray[np.float32]:
    """Embed one picture with PyTorch in fp32 behind the PIL preprocessing, unit vector `[dim]`."""
    batch = normalise(prepare(picture, checkpoint.preprocess)[None], checkpoint.preprocess)
    return _embed_batch(checkpoint, batch)


def _embed_batch(checkpoint: Checkpoint, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        vector: NDArray[np.float32] = checkpoint.model(torch.from_numpy(batch))[0].numpy()
    return vector
