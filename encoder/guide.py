"""What a master leaves to guide others: its vectors of the training images, stored once."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from encoder.atomic import read_json, write_bytes
from encoder.datasets.table import ImageTable
from encoder.errors import PocketlensError

FORMAT = 1
MASTER = "master.json"
VECTORS = "vectors.safetensors"


@dataclasses.dataclass(frozen=True)
class Guide:
    """Hold a master's vectors float16 `[n, dim]` of the training images at these positions."""

    vectors: NDArray[np.float16]
    positions: NDArray[np.int64]
    fingerprint: str
    digest: str

    def of(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors `[n, dim]` of training images, which all have one."""
        places = np.searchsorted(self.positions, positions)
        vectors: NDArray[np.float32] = self.vectors[places].astype(np.float32)
        return vectors

    def covers(self, positions: NDArray[np.int64]) -> bool:
        """Return whether each of these training images has a vector."""
        return bool(np.isin(positions, self.positions).all())


def save_guide(
    folder: Path, vectors: NDArray[np.float32], positions: NDArray[np.int64]
) -> dict[str, Any]:
    """Write the vectors of training images at rising positions; return what is kept of the file."""
    data = save({"vectors": vectors.astype(np.float16), "positions": positions})
    write_bytes(folder / VECTORS, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "images": len(positions)}


def load_guide(folder: Path) -> Guide:
    """Read and check what the master in a folder left.

    Raises:
        PocketlensError: naming the file that is missing, damaged, or of another format.
    """
    file = folder / MASTER
    if not file.is_file():
        raise PocketlensError(f"{folder}: not the folder of a master (no {MASTER})")
    described = read_json(file)
    if described.get("format") != FORMAT:
        raise PocketlensError(
            f"{file}: format {described.get('format')!r}; this version reads format {FORMAT}"
        )
    stored = folder / VECTORS
    try:
        digest = str(described["vectors"]["sha256"])
        fingerprint = str(described["training"]["fingerprint"])
        if hashlib.sha256(stored.read_bytes()).hexdigest() != digest:
            raise PocketlensError(f"{stored}: not the file that {MASTER} names; train it anew")
        tensors = load_file(stored)
        return Guide(tensors["vectors"], tensors["positions"], fingerprint, digest)
    except (KeyError, TypeError, OSError, SafetensorError) as error:
        raise PocketlensError(f"{folder}: missing or damaged ({error!r})") from None


def check_guide(guide: Guide, training: ImageTable, positions: NDArray[np.int64]) -> None:
    """Refuse a guide that has not seen these training images.

    Raises:
        PocketlensError: when the master was trained on other images, labels or classes.
    """
    if guide.fingerprint != training.fingerprint() or not guide.covers(positions):
        raise PocketlensError(
            f"{training.root}: the master was trained on other images, or on other classes of "
            "them; train it on these, with the same --val-share, --split-seed and test classes"
        )
