"""What a master leaves to guide others: its vectors of the training images, stored once."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from encoder.atomic import write_bytes
from encoder.classed_images import ClassedImages
from encoder.companion import Begun, Companion, LearntBatch
from encoder.datasets.table import ImageTable
from encoder.errors import PocketlensError
from encoder.json_files import read_format
from encoder.losses.guided import guidance_loss
from encoder.optimisation import check_positive

FORMAT = 1
MASTER = "master.json"
VECTORS = "vectors.safetensors"


@dataclasses.dataclass(frozen=True)
class Guide:
    """Hold a master's vectors float16 `[n, dim]` of the training images at these positions.

    `weight` and `temperature` say how it guides (`encoder.losses.guided`).
    """

    folder: Path
    vectors: NDArray[np.float16]
    positions: NDArray[np.int64]
    fingerprint: str
    digest: str
    weight: float = 1.0
    temperature: float = 0.2

    def __post_init__(self) -> None:
        check_positive("guide_weight", self.weight)
        check_positive("guide_temperature", self.temperature)

    def describe(self) -> dict[str, str | float]:
        """Return what an artefact keeps of its guide."""
        return {"vectors": self.digest, "weight": self.weight, "temperature": self.temperature}

    def as_companion(self, training: ImageTable) -> Companion:
        """Return what guides the training of a teacher on these images.

        Raises:
            PocketlensError: when the master was trained on other images, labels or classes.
        """
        check_guide(self, training)
        return Companion({"guide": self.describe()}, self._begin)

    def _begin(self, chosen: ClassedImages, dim: int) -> Begun:
        self.check_covers(chosen.positions)
        return Begun(self._guide)

    def _guide(self, batch: LearntBatch) -> tuple[Tensor, dict[str, float]]:
        master = torch.from_numpy(self.take(batch.positions)).to(batch.embeddings.device)
        apart = guidance_loss(batch.embeddings, master, self.temperature)
        return self.weight * apart, {"guidance": float(apart.detach())}

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors `[n, dim]` of training images, which all have one."""
        places = np.searchsorted(self.positions, positions)
        vectors: NDArray[np.float32] = self.vectors[places].astype(np.float32)
        return vectors

    def check_covers(self, positions: NDArray[np.int64]) -> None:
        """Refuse training images that have no vector: the master could not read them."""
        missing = int((~np.isin(positions, self.positions)).sum())
        if missing:
            raise PocketlensError(
                f"{self.folder}: the master has no vector of {missing} training image(s), which it "
                "could not read; train it anew"
            )


def save_guide(
    folder: Path, vectors: NDArray[np.float32], positions: NDArray[np.int64]
) -> dict[str, Any]:
    """Write the vectors of training images at rising positions; return what is kept of the file."""
    data = save({"vectors": vectors.astype(np.float16), "positions": positions})
    write_bytes(folder / VECTORS, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "images": len(positions)}


def load_guide(folder: Path, **settings: float) -> Guide:
    """Read and check what the master in a folder left, to guide with these settings.

    Raises:
        PocketlensError: naming the file that is missing, damaged, or of another format.
    """
    file = folder / MASTER
    if not file.is_file():
        raise PocketlensError(f"{folder}: not the folder of a master (no {MASTER})")
    described = read_format(file, FORMAT)
    stored = folder / VECTORS
    try:
        digest = str(described["vectors"]["sha256"])
        fingerprint = str(described["training"]["fingerprint"])
        if hashlib.sha256(stored.read_bytes()).hexdigest() != digest:
            raise PocketlensError(f"{stored}: not the file that {MASTER} names; train it anew")
        tensors = load_file(stored)
        vectors, positions = tensors["vectors"], tensors["positions"]
    except (KeyError, TypeError, OSError, SafetensorError) as error:
        raise PocketlensError(f"{folder}: missing or damaged ({error!r})") from None
    return Guide(folder, vectors, positions, fingerprint, digest, **settings)


def check_guide(guide: Guide, training: ImageTable) -> None:
    """Refuse a guide that has not seen these training images.

    Raises:
        PocketlensError: when the master was trained on other images, labels or classes.
    """
    if guide.fingerprint != training.fingerprint():
        raise PocketlensError(
            f"{guide.folder}: the master was trained on other images than those of {training.root} "
            "to train on, or on other classes of them; train it on these, with the same "
            "--val-share, --split-seed and test classes"
        )
