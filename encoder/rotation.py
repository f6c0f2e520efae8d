"""Turn a space so that the first components of its vectors say the most, and serve alone.

A rotation changes no cosine of whole vectors, so nothing is lost but the name of the space: turned
vectors are compared with turned ones. Old vectors need no encoding anew, only the same turn.
"""

import copy
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from encoder.atomic import check_output, new_folder
from encoder.checkpoint import CONFIG, Checkpoint, digest_model, load_checkpoint, save_checkpoint
from encoder.datasets.table import ImageTable
from encoder.digests import digest_tensors
from encoder.embed import Quarantined, Vectors, embed_all
from encoder.errors import PocketlensError, first_line
from encoder.inference import prepare_inference
from encoder.model import EmbeddingModel
from encoder.progress import track
from encoder.space import EmbeddingSpace, mint_space
from encoder.unlabelled_images import training_images

ROTATION = "rotation.safetensors"


def learn_rotation(vectors: Vectors) -> NDArray[np.float32]:
    """Return the rotation `[dim, dim]` whose first rows hold the most of unit vectors `[n, dim]`.

    Principal axes of the second moment about zero, as cosines are about zero; each one's sign is
    such that its largest component is positive.
    """
    exact = vectors.astype(np.float64)
    shares, axes = np.linalg.eigh(exact.T @ exact / len(exact))
    axes = axes[:, np.argsort(shares)[::-1]]
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(len(axes))]
    rotation: NDArray[np.float32] = (axes * np.sign(largest)).T.astype(np.float32)
    return rotation


def share_kept(vectors: Vectors, dims: Iterable[int]) -> dict[int, float]:
    """Return the share of the squared length that prefixes of unit vectors keep, on average."""
    return {dim: float(np.square(vectors[:, :dim]).sum(axis=1).mean()) for dim in dims}


def turn_model(model: EmbeddingModel, rotation: NDArray[np.float32]) -> EmbeddingModel:
    """Return a copy of a model whose vectors are turned."""
    turned = copy.deepcopy(model)
    turn = torch.from_numpy(rotation)
    with torch.no_grad():
        turned.projection.weight.copy_(turn @ turned.projection.weight)
        if turned.projection.bias is not None:
            turned.projection.bias.copy_(turn @ turned.projection.bias)
    return turned


def rotate_checkpoint(
    checkpoint: Checkpoint,
    rotation: NDArray[np.float32],
    space: EmbeddingSpace | None = None,
    *,
    data: dict[str, Any] | None = None,
    classes: Iterable[str] = (),
) -> Checkpoint:
    """Return the encoder with its projection turned: in the space given, or in one minted for it.

    `data` describes the images of the rotation; their `classes` count as trained on from then on.

    The vectors of an image and of its teacher turn alike, so a student's alignment is as before,
    but names the encoder that it was measured with: it is left out.
    """
    model = turn_model(checkpoint.model, rotation)
    if space is None:
        space = _mint(model, checkpoint.space.id, rotation)
    origin = {"encoder": checkpoint.encoder, "space": checkpoint.space.id, "data": data}
    known = {*checkpoint.provenance.get("trained_on", []), *classes}
    return dataclasses.replace(
        checkpoint,
        model=model,
        space=space,
        alignment=None,
        provenance={
            **checkpoint.provenance,
            "trained_on": sorted(known),
            "rotated_from": origin,
        },
    )


def rotate_space(
    teacher: Checkpoint, table: ImageTable, output: Path, *, overwrite: bool = False
) -> tuple[Checkpoint, Vectors, tuple[Quarantined, ...]]:
    """Learn a rotation from the teacher's vectors of the training images; write the turned teacher.

    Labels are not used. The rotation lies beside the checkpoint, so that students and stored
    vectors of the old space can follow. Returns the turned teacher, its vectors of the images and
    those that could not be read.

    Raises:
        PocketlensError: when the images are fewer than the dimensions.
    """
    check_output(output, marker=CONFIG, overwrite=overwrite)
    training = training_images(table, with_validation=True)
    sources = training.sources()
    network = prepare_inference(teacher, precision="fp32")
    with track("looking at images", len(sources)) as advance:
        found = embed_all(sources, teacher.preprocess, network.embedder, advance=advance)
    dim = teacher.space.dim
    if len(found.vectors) < dim:
        raise PocketlensError(
            f"{table.root}: {len(found.vectors)} readable images are too few to turn {dim} "
            "dimensions; give more"
        )
    rotation = learn_rotation(found.vectors)
    classes = training.class_names()
    turned = rotate_checkpoint(teacher, rotation, data=training.describe(), classes=classes)
    with new_folder(output, marker=CONFIG, overwrite=overwrite) as folder:
        (folder / ROTATION).write_bytes(save({"rotation": rotation}))
        save_checkpoint(turned, folder)
    return turned, found.vectors @ rotation.T, found.quarantined


def follow_rotation(
    checkpoint: Checkpoint, turned: Path, output: Path, *, overwrite: bool = False
) -> Checkpoint:
    """Turn an encoder of the space that a teacher's was turned from, and write it.

    Raises:
        PocketlensError: when that was turned from another space or not at all, or is damaged.
    """
    check_output(output, marker=CONFIG, overwrite=overwrite)
    first = load_checkpoint(turned)
    space = first.space
    if space.kind != "rotated" or checkpoint.space.id not in space.parents:
        raise PocketlensError(
            f"{turned}: its space {space.id} was not turned from {checkpoint.space.id}, which this "
            "encoder writes into"
        )
    file = turned / ROTATION
    try:
        rotation: NDArray[np.float32] = load_file(file)["rotation"]
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise PocketlensError(
            f"{file}: missing or damaged ({first_line(error)}); give the checkpoint that was "
            "turned first"
        ) from None
    if _mint(first.model, checkpoint.space.id, rotation) != space:
        raise PocketlensError(f"{file}: not the rotation that made the space {space.id}")
    followed = rotate_checkpoint(
        checkpoint,
        rotation,
        space,
        data=first.provenance["rotated_from"]["data"],
        classes=first.provenance["trained_on"],
    )
    with new_folder(output, marker=CONFIG, overwrite=overwrite) as folder:
        save_checkpoint(followed, folder)
    return followed


def _mint(model: EmbeddingModel, parent: str, rotation: NDArray[np.float32]) -> EmbeddingSpace:
    """Mint the space of a turned model: its id names the rotation."""
    return mint_space(
        "rotated",
        len(rotation),
        digest_model(model),
        parents=(parent,),
        transform_digest=digest_tensors({"rotation": rotation}),
    )
