"""Where a student's training starts: its architecture and its weights."""

import copy
import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from encoder.backbones import input_statistics
from encoder.checkpoint import Checkpoint
from encoder.embed import embed_all
from encoder.errors import PocketlensError
from encoder.images import Source
from encoder.inference import prepare_network
from encoder.model import Architecture, EmbeddingModel
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.projection_fit import fit_projection
from encoder.teacher import start_model

Start = Literal["", "teacher", "imagenet"]


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Hold what a student is before it learns; `of_teacher` says whether its weights are those."""

    architecture: Architecture
    preprocess: Preprocess
    of_teacher: bool
    weights: str = ""

    def build(self, teacher: Checkpoint) -> EmbeddingModel:
        """Return the model."""
        if self.of_teacher:
            return copy.deepcopy(teacher.model)
        return start_model(self.architecture, self.weights)


def plan_start(
    teacher: Checkpoint, size: int, trunk: str, start: Start, weights: str = ""
) -> Beginning:
    """Say where a student of this trunk, the teacher's where it is empty, starts at this size.

    `weights` is a file that takes the place of ImageNet's.

    Raises:
        PocketlensError: when the teacher's weights are asked for and do not fit.
    """
    own = teacher.architecture.trunk
    preprocess = teacher.preprocess.resized(size)
    if weights and start == "teacher":
        raise PocketlensError(f"--start teacher and --weights {weights} exclude each other")
    if trunk in ("", own):
        of_teacher = start != "imagenet" and not weights
        return Beginning(teacher.architecture, preprocess, of_teacher, weights)
    if start == "teacher":
        raise PocketlensError(
            f"--start teacher: the teacher's trunk is {own}, not {trunk}; give --start imagenet"
        )
    mean, std = input_statistics(trunk)
    return Beginning(
        dataclasses.replace(teacher.architecture, trunk=trunk),
        dataclasses.replace(preprocess, mean=mean, std=std),
        of_teacher=False,
        weights=weights,
    )


def fit_start(
    model: EmbeddingModel,
    beginning: Beginning,
    files: list[Source],
    vectors: NDArray[np.float32],
    precision: str,
) -> None:
    """Set the projection so that it comes as near to the teacher's vectors of the files as it can.

    Raises:
        PocketlensError: when one of the files can no longer be read.
    """
    network = prepare_network(
        model, beginning.architecture, beginning.preprocess, precision=precision
    )
    with track("fitting the projection", len(files)) as advance:
        found = embed_all(files, beginning.preprocess, network.feature_extractor, advance=advance)
    for entry in found.quarantined:
        raise PocketlensError(f"{entry.path}: can no longer be read ({entry.reason})")
    fit_projection(model.projection, found.vectors, vectors)
