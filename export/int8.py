"""Make an int8 encoder of a checkpoint: pictures to calibrate on, and questions to judge it by."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable
from encoder.digests import digest_encoder, digest_tensors
from encoder.errors import BadImageError, PocketlensError
from encoder.evaluate import encode_images
from encoder.images import Source, decode_image
from encoder.preprocess import Preprocess, prepare
from encoder.training_options import divide_known
from encoder.unlabelled_images import training_images
from export.gate import GateLimits, GateReport, GateSet, quantise_gated
from export.quantise import Quantiser

# Ranges hardly change beyond; the mean cosine needs no more either.
CALIBRATED_ON, ASKED = 256, 1024
_FEWEST = 16


@dataclasses.dataclass(frozen=True)
class Quantisation:
    """Hold the images that int8 may be made from: those trained on, and those of other classes.

    Without labels, or other classes, what is `asked` shows the cosine alone.
    """

    training: ImageTable
    asked: ImageTable
    split: str = "val"
    limits: GateLimits = GateLimits()
    seed: int = 0


def plan_quantisation(data: Path, checkpoint: Checkpoint, limits: GateLimits) -> Quantisation:
    """Read images to make int8 from, divided as the checkpoint's were; test classes stay unread.

    Raises:
        PocketlensError: when the data cannot be read, or has nothing but test images.
    """
    table = divide_known(data, checkpoint)
    training = training_images(table, with_validation=False)
    validation = table.split("val")
    if len(validation):
        return Quantisation(training, validation, "val", limits)
    return Quantisation(training, training, "train", limits)


def make_int8(
    checkpoint: Checkpoint,
    network: onnx.ModelProto,
    settings: Quantisation,
    teacher: Checkpoint | None,
) -> tuple[onnx.ModelProto, GateReport]:
    """Return a checkpoint's network in int8, as far as the gate lets it, and what it lost.

    Its queries ask the teacher's vectors, or where there is none the checkpoint's own in fp32.

    Raises:
        PocketlensError: when too few images can be read, or the gate refuses.
    """
    rng = np.random.default_rng(settings.seed)
    preprocess = checkpoint.preprocess
    training = _draw(settings.training, CALIBRATED_ON, rng).sources()
    images, _ = read_cut(training, preprocess)
    if len(images) < _FEWEST:
        raise PocketlensError(
            f"{settings.training.root}: {len(images)} readable training images are too few to "
            f"calibrate int8 on; give at least {_FEWEST}"
        )
    asked = _draw(settings.asked, ASKED, rng)
    cut, read = read_cut(asked.sources(), preprocess)
    questions = GateSet(cut, preprocess, split=settings.split)
    if any(row.label for row in asked.rows):
        by = teacher or checkpoint
        database, _ = encode_images(by, by.preprocess, table=asked, precision="fp32")
        both = np.isin(read, database.positions)
        if both.sum() == len(database.positions):
            questions = GateSet(cut[both], preprocess, database, settings.split)
    if len(questions.images) < _FEWEST:
        raise PocketlensError(
            f"{settings.asked.root}: {len(questions.images)} readable images are too few to judge "
            f"int8 by; give at least {_FEWEST}"
        )
    with Quantiser(network, images, preprocess) as quantiser:
        return quantise_gated(network, quantiser, questions, settings.limits)


def digest_int8(network: onnx.ModelProto, preprocess: Preprocess) -> str:
    """Return the encoder digest of a quantised network: its calibration is part of it."""
    tensors = {each.name: onnx.numpy_helper.to_array(each) for each in network.graph.initializer}
    return digest_encoder(digest_tensors(tensors), preprocess.to_json(), "int8")


def read_cut(
    sources: Sequence[Source], preprocess: Preprocess
) -> tuple[NDArray[np.uint8], list[int]]:
    """Return the readable pictures cut for the network, `[n, size, size, 3]`, and their places."""
    size = preprocess.size
    images, read = np.empty((len(sources), size, size, 3), np.uint8), list[int]()
    for place, source in enumerate(sources):
        try:
            images[len(read)] = prepare(decode_image(source, target=preprocess), preprocess)
        except BadImageError:
            continue
        read.append(place)
    return images[: len(read)], read


def _draw(table: ImageTable, count: int, rng: np.random.Generator) -> ImageTable:
    chosen = rng.permutation(len(table))[:count]
    return table.select(sorted(chosen.tolist()))
