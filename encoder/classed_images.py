"""The decoded images of a training, each with its class number."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined
from encoder.errors import PocketlensError
from encoder.image_cache import DecodedImages, open_images
from encoder.progress import track


@dataclasses.dataclass(frozen=True)
class ClassedImages:
    """Hold the decoded images, the positions trained on and each one's class number."""

    images: DecodedImages
    positions: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.targets.max()) + 1


def open_classed(
    training: ImageTable, *, side: int
) -> tuple[ClassedImages, tuple[Quarantined, ...]]:
    """Decode the images to train on, at most so large, and keep the classes with two readable ones.

    Returns them and those set aside.

    Raises:
        PocketlensError: when fewer than two classes are left.
    """
    with track("reading images", len(training)) as advance:
        images = open_images(training.sources(), side=side, advance=advance)
    labels = training.labels()[images.positions]
    enough = np.bincount(labels, minlength=1)[labels] >= 2
    positions = images.positions[enough]
    kept, targets = np.unique(labels[enough], return_inverse=True)
    if len(kept) < 2:
        raise PocketlensError(f"{training.root}: fewer than two classes have two readable images")
    dropped = tuple(
        Quarantined(int(position), str(file), f"{file}: the only readable image of its class")
        for position in images.positions[~enough]
        for file in [training.files()[position]]
    )
    return ClassedImages(images, positions, targets), (*images.quarantined, *dropped)
