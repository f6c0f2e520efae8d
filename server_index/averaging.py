"""Several looks at a database picture, averaged: it is encoded once, so it may cost more."""

from typing import Literal, get_args

import numpy as np

from encoder.embed import Vectors
from encoder.errors import PocketlensError
from encoder.preprocess import Pixels

Averaging = Literal["none", "flip", "crops"]
# Of each side, around the middle and at each corner.
_PART = 0.85


def read_averaging(name: str) -> Averaging:
    """Return the averaging of this name.

    Raises:
        PocketlensError: when there is none.
    """
    if name not in get_args(Averaging):
        raise PocketlensError(f"--average {name!r} is not {', '.join(get_args(Averaging))}")
    return name  # type: ignore[return-value]


def count_looks(averaging: Averaging) -> int:
    """Return how many vectors are averaged."""
    return {"none": 1, "flip": 2, "crops": 7}[averaging]


def look(picture: Pixels, averaging: Averaging) -> list[Pixels]:
    """Return the picture; with `flip` its mirror image too, with `crops` five parts as well."""
    looks = [picture]
    if averaging != "none":
        looks.append(np.ascontiguousarray(picture[:, ::-1]))
    if averaging == "crops":
        height, width = picture.shape[:2]
        high, wide = max(1, round(height * _PART)), max(1, round(width * _PART))
        down, right = height - high, width - wide
        corners = [(0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)]
        looks += [picture[top : top + high, left : left + wide] for top, left in corners]
    return looks


def average(vectors: Vectors) -> Vectors:
    """Return the mean direction `[n, dim]` of unit vectors `[n, looks, dim]`."""
    mean: Vectors = vectors.mean(axis=1)
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    # Looks that cancel out leave no direction: the picture itself has one.
    return np.where(length > 1e-3, mean / np.maximum(length, 1e-3), vectors[:, 0])
