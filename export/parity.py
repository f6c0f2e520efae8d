"""Check an exported graph against PyTorch before it is written."""

import dataclasses
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from encoder.checkpoint import Checkpoint
from encoder.errors import BadImageError, PocketlensError
from encoder.images import decode_image
from encoder.preprocess import Pixels, Preprocess, normalise, prepare
from export.runtime import QueryEncoder

MIN_COSINE = 0.9999


@dataclasses.dataclass(frozen=True)
class Parity:
    """Hold the cosine of both runtimes' vectors over the pictures compared."""

    pictures: int
    min_cosine: float
    mean_cosine: float
    worst: str


def gather_pictures(
    files: Iterable[Path], preprocess: Preprocess
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

    Raises:
        PocketlensError: when a picture's cosine is below 0.9999, naming it.
    """
    handle, name = tempfile.mkstemp(suffix=".onnx")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(model)
        encoder = QueryEncoder(name)
        cosines = {
            label: float(encoder.embed(picture) @ embed_reference(checkpoint, picture))
            for label, picture in pictures.items()
        }
    finally:
        Path(name).unlink()
    worst = min(cosines, key=lambda label: cosines[label])
    parity = Parity(len(cosines), cosines[worst], float(np.mean([*cosines.values()])), worst)
    if not parity.min_cosine >= MIN_COSINE:
        raise PocketlensError(
            f"the exported graph differs from PyTorch on {worst}: cosine {cosines[worst]:.6f} is "
            f"below {MIN_COSINE}; nothing was written"
        )
    return parity


def embed_reference(checkpoint: Checkpoint, picture: Pixels) -> np.ndarray:
    """Embed one picture with PyTorch in fp32 behind the PIL preprocessing, unit vector `[dim]`."""
    batch = normalise(prepare(picture, checkpoint.preprocess)[None], checkpoint.preprocess)
    with torch.inference_mode():
        vector: np.ndarray = checkpoint.model(torch.from_numpy(batch))[0].numpy()
    return vector
