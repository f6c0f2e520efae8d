"""Check an exported graph against PyTorch before it is written."""

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from encoder.checkpoint import Checkpoint
from encoder.errors import BadImageError, PocketlensError
from encoder.images import Source, decode_image
from encoder.preprocess import Pixels, Preprocess, enlarge_tiny, normalise, prepare
from export.contract import INPUTS, Contract
from export.forms import Form, express, read_vectors
from export.front import build_front
from export.runtime import QueryEncoder

# Below these nothing is written; what int8 may lose the gate decides, on real pictures.
MIN_COSINE: dict[str, float] = {"fp32": 0.9999, "fp16": 0.999, "int8": -1.0}
# Signs of components near zero differ: of one bit in twenty, the cosine is 0.9.
MIN_COSINE_OF_FORM: dict[Form, float] = {"float": 1.0, "int8": 0.999, "binary": 0.9}
# Grey levels that the graph's pixels may be off Pillow's; where a picture is enlarged, many values
# lie half-way between two levels, which the two round apart, twice.
_MAX_LEVELS, _MAX_LEVELS_ENLARGED = 1.001, 2.001


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
    """Compare the graph with PyTorch: its pixels with Pillow's, and what both make of its pixels.

    Values half-way between two grey levels are rounded apart by Pillow and ONNX Runtime, and a
    whitened embedding of a smooth picture can tell: so the graph's own pixels, once they are shown
    to lie within a level of Pillow's (two where it enlarges), are what PyTorch is given.

    Raises:
        PocketlensError: when a picture's cosine is below what its precision allows or its pixels
            are further off, naming it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "encoder.onnx"
        file.write_bytes(model)
        encoder = QueryEncoder(file, exact=True)
    form, dim = encoder.contract.form, encoder.contract.dim

    def expect(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        vectors = _embed_batch(checkpoint, batch)[None]
        return np.asarray(read_vectors(express(vectors, form, dim), form, dim)[0])

    cosines = {
        label: float(encoder.read(encoder.embed(picture)) @ expect(batch))
        for label, picture, batch in _prepare_both(encoder.contract, pictures)
    }
    worst = min(cosines, key=lambda label: cosines[label])
    parity = Parity(len(cosines), cosines[worst], float(np.mean([*cosines.values()])), worst)
    least = min(MIN_COSINE[encoder.contract.precision], MIN_COSINE_OF_FORM[form])
    if not parity.min_cosine >= least:
        raise PocketlensError(
            f"the exported graph differs from PyTorch on {worst}: cosine {cosines[worst]:.6f} is "
            f"below {least}; nothing was written"
        )
    return parity


def _prepare_both(
    contract: Contract, pictures: dict[str, Pixels]
) -> Iterator[tuple[str, Pixels, NDArray[np.float32]]]:
    """Yield each picture with what PyTorch is to be given, once the graph's own is near it."""
    preprocess = contract.preprocess
    front = onnxruntime.InferenceSession(build_front(preprocess).SerializeToString())
    for label, picture in pictures.items():
        expected = normalise(prepare(picture, preprocess)[None], preprocess)
        if contract.kind == "pixels":
            yield label, picture, expected
            continue
        found: NDArray[np.float32] = front.run(None, {INPUTS["photo"]: enlarge_tiny(picture)})[0]
        levels = np.abs(found - expected).max() * max(preprocess.std)
        enlarged = min(_box_sides(picture, preprocess)) < preprocess.size
        if levels > (_MAX_LEVELS_ENLARGED if enlarged else _MAX_LEVELS):
            raise PocketlensError(
                f"the graph prepares {label} {levels:.0f} grey levels apart from Pillow; "
                "nothing was written"
            )
        yield label, picture, found


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
