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
from encoder.model import Architecture, EmbeddingModel, list_trunks
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.projection_fit import fit_projection
from encoder.teacher import start_model

Start = Literal["", "teacher", "imagenet"]


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Hold what a student is before it learns.

    `of_teacher` says whether all of its weights are the teacher's; `part` which of the teacher's
    trunks that stand side by side its trunk is, if it is one of them.
    """

    architecture: Architecture
    preprocess: Preprocess
    of_teacher: bool = False
    part: int | None = None
    weights: str = ""

    @property
    def as_teacher(self) -> bool:
        """Return whether the trunk starts as the teacher's, or as one of them."""
        return self.of_teacher or self.part is not None

    def build(self, teacher: Checkpoint) -> EmbeddingModel:
        """Return the model; the projection of one that is not the teacher's is yet to be fitted."""
        if self.of_teacher:
            return copy.deepcopy(teacher.model)
        if self.part is None:
            return start_model(self.architecture, self.weights)
        model = EmbeddingModel(self.architecture)
        model.trunk.load_state_dict(list_trunks(teacher.model)[self.part].state_dict())
        if model.pool is not None and teacher.model.pool is not None:
            model.pool.load_state_dict(teacher.model.pool.state_dict())
        return model


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
    as_teacher = start != "imagenet" and not weights
    if trunk in ("", own):
        return Beginning(teacher.architecture, preprocess, as_teacher, weights=weights)
    architecture = dataclasses.replace(teacher.architecture, trunk=trunk)
    parts = own.split("+")
    if trunk in parts and as_teacher:
        return Beginning(architecture, preprocess, part=parts.index(trunk))
    if start == "teacher":
        raise PocketlensError(
            f"--start teacher: the teacher's trunk is {own}, not {trunk}; give --start imagenet"
        )
    mean, std = input_statistics(trunk)
    preprocess = dataclasses.replace(preprocess, mean=mean, std=std)
    return Beginning(architecture, preprocess, weights=weights)


def share_channels(teacher: Checkpoint, trunk: str) -> slice | None:
    """Return which of the teacher's features are those of this trunk; None where none are."""
    own = teacher.architecture.trunk
    if trunk == own:
        return slice(None)
    parts = own.split("+")
    if trunk not in parts:
        return None
    widths = [int(part.num_features) for part in list_trunks(teacher.model)]
    at = parts.index(trunk)
    return slice(sum(widths[:at]), sum(widths[: at + 1]))


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
