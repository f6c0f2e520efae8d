"""The query bundle: a folder with one encoder file and the card that describes it."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder.atomic import new_folder, write_json
from encoder.checkpoint import Alignment, Checkpoint
from encoder.errors import PocketlensError
from encoder.images import Source
from encoder.preprocess import Pixels
from encoder.space import require_same_space
from export.contract import FORMAT, Contract
from export.golden import make_golden_images
from export.graph import IR_VERSION, OPSET, build_photo_model, to_bytes
from export.parity import Parity, embed_reference, gather_pictures, measure_parity
from export.runtime import CARD


@dataclasses.dataclass(frozen=True)
class Exported:
    """Name the encoder file written and what was measured of it."""

    file: Path
    contract: Contract
    parity: Parity
    quarantined: tuple[str, ...] = ()


def export_bundle(
    checkpoint: Checkpoint,
    output: Path,
    *,
    files: Sequence[Source] = (),
    teacher: Checkpoint | None = None,
    overwrite: bool = False,
) -> Exported:
    """Export a checkpoint to a bundle folder once its graph agrees with PyTorch.

    Compared on pictures the package makes and on `files`. With `teacher` the alignment is
    measured on `files`; else the checkpoint's own is passed on.

    Raises:
        PocketlensError: when the graph differs (nothing is then written), the teacher is of
            another space or has no pictures to be compared on, or the output must not be replaced.
    """
    own_pictures, quarantined = gather_pictures(files, checkpoint.preprocess)
    pictures = make_golden_images() | own_pictures
    alignment = checkpoint.alignment
    if teacher is not None:
        require_same_space(checkpoint.space, teacher.space, what="the checkpoint")
        if not own_pictures:
            raise PocketlensError("--teacher needs --images: pictures to show the alignment on")
        alignment = _align(checkpoint, teacher, own_pictures)
    contract = Contract(
        space=checkpoint.space,
        encoder=checkpoint.encoder,
        preprocess=checkpoint.preprocess,
        precision="fp32",
        role=checkpoint.kind,
        alignment=dataclasses.asdict(alignment) if alignment else None,
    )
    model = to_bytes(build_photo_model(checkpoint, contract))
    parity = measure_parity(model, checkpoint, pictures)
    name = f"s{checkpoint.preprocess.size}.fp32.photo.onnx"
    with new_folder(output, marker=CARD, overwrite=overwrite) as folder:
        (folder / name).write_bytes(model)
        trained_on = sorted(checkpoint.provenance.get("trained_on", []))
        write_json(folder / CARD, _describe(name, model, contract, parity, trained_on))
    return Exported(output / name, contract, parity, quarantined)


def _align(checkpoint: Checkpoint, teacher: Checkpoint, pictures: dict[str, Pixels]) -> Alignment:
    own = np.stack([embed_reference(checkpoint, picture) for picture in pictures.values()])
    reference = np.stack([embed_reference(teacher, picture) for picture in pictures.values()])
    return Alignment.measure(own, reference, teacher.encoder)


def _describe(
    name: str, model: bytes, contract: Contract, parity: Parity, trained_on: list[str]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "space": contract.space.to_json(),
        "trained_on": trained_on,
        "opset": OPSET,
        "ir_version": IR_VERSION,
        "encoders": [
            {
                "file": name,
                "bytes": len(model),
                "sha256": hashlib.sha256(model).hexdigest(),
                "input": contract.kind,
                "size": contract.preprocess.size,
                "dim": contract.space.dim,
                "precision": contract.precision,
                "role": contract.role,
                "encoder": contract.encoder,
                "alignment": dict(contract.alignment) if contract.alignment else None,
                "parity": {
                    "pictures": parity.pictures,
                    "min_cosine": parity.min_cosine,
                    "mean_cosine": parity.mean_cosine,
                },
            }
        ],
    }
