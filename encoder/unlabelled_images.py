"""The decoded images that a student learns from, and those held out of its training."""

import dataclasses

import numpy as np

from encoder.datasets.table import ImageTable
from encoder.errors import PocketlensError
from encoder.image_cache import DecodedImages, open_images
from encoder.images import Source
from encoder.progress import track

# Enough for a mean cosine to three digits.
_HELD_OUT = 500


def training_images(table: ImageTable, *, with_validation: bool) -> ImageTable:
    """Return the rows that a student learns from."""
    splits = ("", "train", "val") if with_validation else ("", "train")
    return table.select(i for i, row in enumerate(table.rows) if row.split in splits)


def open_unlabelled(
    table: ImageTable, *, side: int, with_validation: bool, rng: np.random.Generator
) -> tuple[DecodedImages, list[Source]]:
    """Decode the images to learn from, at most so large, and name files never learnt from.

    These are the validation files, or where there are none a twentieth of the images.

    Raises:
        PocketlensError: when fewer than two images can be read.
    """
    training = training_images(table, with_validation=with_validation)
    if len(training) < 2:
        raise PocketlensError(f"{table.root}: {len(training)} training images to distil on")
    with track("reading images", len(training)) as advance:
        images = open_images(training.sources(), side=side, advance=advance)
    if len(images.positions) < 2:
        raise PocketlensError(f"{len(images.positions)} of the training images can be read")
    validation = [] if with_validation else table.split("val").sources()
    if validation:
        return images, validation
    order = rng.permutation(images.positions)
    count = max(1, min(_HELD_OUT, len(order) // 20))
    held_out = [images.files[position] for position in order[:count]]
    return dataclasses.replace(images, positions=np.sort(order[count:])), held_out
