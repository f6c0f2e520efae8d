"""The checkpoint folder: weights and everything that is known about them."""

import dataclasses
import datetime
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from encoder.atomic import write_json
from encoder.digests import digest_encoder, digest_tensors
from encoder.errors import PocketlensError, first_line
from encoder.json_files import read_format
from encoder.model import Architecture, EmbeddingModel
from encoder.preprocess import Preprocess
from encoder.space import EmbeddingSpace

FORMAT = 1
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
METRICS = "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Show how near an encoder's vectors are to its teacher's, on held-out images."""

    mean_cosine: float
    p5_cosine: float
    images: int
    teacher: str

    @classmethod
    def measure(cls, own: np.ndarray, teacher: np.ndarray, teacher_encoder: str) -> "Alignment":
        """Measure unit vectors `[n, dim]` of the same images against the teacher's."""
        cosine = np.einsum("nd,nd->n", own, teacher)
        return cls(
            float(cosine.mean()), float(np.quantile(cosine, 0.05)), len(own), teacher_encoder
        )


@dataclasses.dataclass
class Checkpoint:
    """Hold a model with its architecture, preprocessing, space and provenance."""

    model: EmbeddingModel
    architecture: Architecture
    preprocess: Preprocess
    space: EmbeddingSpace
    kind: str
    alignment: Alignment | None = None
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def encoder(self) -> str:
        """Return the fp32 encoder digest of the weights as they are now."""
        return self.encoder_at("fp32")

    def encoder_at(self, precision: str) -> str:
        """Return the encoder digest at another precision."""
        return digest_encoder(digest_model(self.model), self.preprocess.to_json(), precision)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Return the input sizes that the weights were trained for, rising."""
        recipe = self.provenance.get("recipe")
        others = recipe.get("elastic", ()) if isinstance(recipe, Mapping) else ()
        return tuple(sorted({self.preprocess.size, *map(int, others)}))

    def at_size(self, size: int) -> "Checkpoint":
        """Return the same encoder at another of its sizes.

        Raises:
            PocketlensError: when it was not trained for that.
        """
        if size not in self.sizes:
            known = ", ".join(map(str, self.sizes))
            raise PocketlensError(
                f"--size {size}: the {self.kind} was trained for {known}; distil one with "
                f"--size {size}, or with --elastic {size} for several"
            )
        if size == self.preprocess.size:
            return self
        # The alignment was measured at the first size.
        return dataclasses.replace(self, preprocess=self.preprocess.resized(size), alignment=None)


def digest_model(model: EmbeddingModel) -> str:
    """Return the digest of the tensors that define the model's output."""
    return digest_tensors(
        {name: value.detach().cpu().numpy() for name, value in _tensors(model).items()}
    )


def _tensors(model: EmbeddingModel) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name: value for name, value in state.items() if "num_batches_tracked" not in name}


def library_versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    names = ("torch", "timm", "numpy", "pillow", "pytorch-metric-learning", "pocketlens")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the checkpoint's files into an existing folder (atomic through `new_folder`)."""
    tensors = {
        name: value.detach().cpu().contiguous()
        for name, value in _tensors(checkpoint.model).items()
    }
    (folder / WEIGHTS).write_bytes(save(tensors))
    alignment = checkpoint.alignment
    write_json(
        folder / CONFIG,
        {
            "format": FORMAT,
            "kind": checkpoint.kind,
            "architecture": dataclasses.asdict(checkpoint.architecture),
            "preprocess": checkpoint.preprocess.to_json(),
            "space": checkpoint.space.to_json(),
            "encoder": checkpoint.encoder,
            "alignment": dataclasses.asdict(alignment) if alignment else None,
            "provenance": {
                **checkpoint.provenance,
                "versions": library_versions(),
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            },
        },
    )


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load a checkpoint folder and verify its encoder digest.

    Raises:
        PocketlensError: naming the file that is missing, damaged, or of a newer format.
    """
    file = folder / CONFIG
    if not folder.is_dir() or not file.is_file():
        raise PocketlensError(f"{folder}: not a checkpoint folder (no {CONFIG})")
    config = read_format(file, FORMAT)
    try:
        architecture = Architecture(**config["architecture"])
        alignment = Alignment(**config["alignment"]) if config["alignment"] else None
        kind, encoder = str(config["kind"]), str(config["encoder"])
        preprocess = Preprocess.from_json(config["preprocess"], str(file))
        space = EmbeddingSpace.from_json(config["space"], str(file))
        provenance = dict(config["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        raise PocketlensError(f"{file}: a field is missing or wrong ({error!r})") from None
    model = EmbeddingModel(architecture)
    _load_tensors(model, folder / WEIGHTS)
    checkpoint = Checkpoint(
        model.eval(), architecture, preprocess, space, kind, alignment, provenance
    )
    if checkpoint.encoder != encoder:
        raise PocketlensError(f"{folder}: weights do not match the digest in {CONFIG}")
    return checkpoint


def _load_tensors(model: EmbeddingModel, file: Path) -> None:
    try:
        state = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise PocketlensError(f"{file}: missing or damaged ({first_line(error)})") from None
    expected = _tensors(model)
    wrong = [
        name
        for name in expected.keys() | state.keys()
        if name not in state or name not in expected or state[name].shape != expected[name].shape
    ]
    if wrong:
        raise PocketlensError(f"{file}: tensor {sorted(wrong)[0]} does not fit the architecture")
    model.load_state_dict(state, strict=False)
