"""What a teacher's batches are compared with besides its loss: a master, or an older model."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder.checkpoint import Checkpoint
from encoder.classed_images import ClassedImages


@dataclasses.dataclass(frozen=True)
class LearntBatch:
    """Hold what a term is computed of.

    `embeddings` are unit vectors `[n, dim]` with a gradient, `positions` and `targets` say which
    images and classes they are of, `loss` is the teacher's, with its proxies.
    """

    embeddings: Tensor
    positions: NDArray[np.int64]
    targets: Tensor
    loss: nn.Module


# A term to add to the loss, and figures to show.
Term = Callable[[LearntBatch], tuple[Tensor, dict[str, float]]]


@dataclasses.dataclass(frozen=True)
class Begun:
    """Hold the term, if there is one, and vectors `[n, up to dim]` to start the projection at.

    The vectors are of the images to train on, in order.
    """

    term: Term | None = None
    aim: NDArray[np.float32] | None = None


# Is given the finished teacher and the folder it will be written to; returns what is written.
Finish = Callable[[Checkpoint, Path], Checkpoint]


@dataclasses.dataclass(frozen=True)
class Companion:
    """Add a term to a teacher's loss, and perhaps to what is written in the end.

    `begin` is given the training images and the embedding's dimension, once, before the first step.
    `provenance` is kept with the checkpoint.
    """

    provenance: Mapping[str, Any]
    begin: Callable[[ClassedImages, int], Begun]
    finish: Finish = lambda checkpoint, folder: checkpoint
