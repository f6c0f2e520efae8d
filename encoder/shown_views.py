"""What a batch of a student's training shows: coupled views, and the teacher's features of them.

The teacher looks at new views in each step, or left what it saw in a store.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.image_cache import DecodedImages
from encoder.inference import Inference
from encoder.view_cutter import ViewCutter
from encoder.view_store import ViewStore
from encoder.views import ViewRecipe, Views, sample_views


@dataclasses.dataclass(frozen=True)
class ShownViews:
    """Hold views of the images at these positions, those of an image adjacent.

    `features` `[n, width]` are the teacher's, before its projection.
    """

    positions: NDArray[np.int64]
    views: Views
    features: Tensor


# Given places among the images' positions and a source of random numbers.
ShowViews = Callable[[NDArray[np.int64], np.random.Generator], ShownViews]


def show_new_views(
    images: DecodedImages, cutter: ViewCutter, guide: Inference, recipe: ViewRecipe, count: int
) -> ShowViews:
    """Return a function that draws `count` new views an image and lets the teacher look at them."""

    def show(chosen: NDArray[np.int64], rng: np.random.Generator) -> ShownViews:
        positions = np.repeat(images.positions[chosen], count)
        aspects = images.aspects(positions)
        views = sample_views(recipe, aspects, rng, population=len(images.positions))
        large = cutter.cut(positions, views, guide.preprocess.size, guide.device)
        # Cloned out of inference mode, so that autograd may save it.
        return ShownViews(positions, views, cutter.look(guide, large).clone())

    return show


def show_stored_views(store: ViewStore, device: torch.device, count: int) -> ShowViews:
    """Return a function that draws `count` of the stored views of each image."""

    def show(chosen: NDArray[np.int64], rng: np.random.Generator) -> ShownViews:
        views, features = store.take(chosen, count, rng)
        positions = np.repeat(store.positions[chosen], count)
        return ShownViews(positions, views, torch.from_numpy(features).to(device))

    return show
