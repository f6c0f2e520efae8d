"""What a batch of a student's training shows: coupled views, and the teacher's features of them.

The teacher looks at new views in each step, or left what it saw in a store.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.core_workers import CoreWorkers
from encoder.image_cache import DecodedImages
from encoder.inference import Inference
from encoder.view_cutter import ViewCutter, divide_views
from encoder.view_store import ViewStore
from encoder.views import ViewRecipe, Views, sample_views


@dataclasses.dataclass(frozen=True)
class DrawnViews:
    """Hold views of the images at these positions, those of an image adjacent.

    `features` `[n, width]` are the teacher's, before its projection, where they are known.
    """

    positions: NDArray[np.int64]
    views: Views
    features: NDArray[np.float32] | None = None


# Given places among the images' positions and a source of random numbers.
DrawViews = Callable[[NDArray[np.int64], np.random.Generator], DrawnViews]


@dataclasses.dataclass(frozen=True)
class ShownViews:
    """Hold views as the student sees them, uint8 `[n, h, w, 3]`, and the teacher's features."""

    positions: NDArray[np.int64]
    pixels: Tensor
    features: Tensor


def draw_new_views(images: DecodedImages, recipe: ViewRecipe, count: int) -> DrawViews:
    """Return a function that draws `count` new views an image."""

    def draw(chosen: NDArray[np.int64], rng: np.random.Generator) -> DrawnViews:
        positions = np.repeat(images.positions[chosen], count)
        aspects = images.aspects(positions)
        views = sample_views(recipe, aspects, rng, population=len(images.positions))
        return DrawnViews(positions, views)

    return draw


def draw_stored_views(store: ViewStore, count: int) -> DrawViews:
    """Return a function that draws `count` of the stored views of each image."""

    def draw(chosen: NDArray[np.int64], rng: np.random.Generator) -> DrawnViews:
        views, features = store.take(chosen, count, rng)
        return DrawnViews(np.repeat(store.positions[chosen], count), views, features)

    return draw


def start_showing(
    drawn: DrawnViews, size: int, cutter: ViewCutter, guide: Inference, workers: CoreWorkers
) -> Callable[[], ShownViews]:
    """Let the workers cut views and the teacher look at them; return what waits for the result."""
    device = guide.device

    def prepare(part: slice) -> tuple[Tensor, Tensor | None]:
        positions, views = drawn.positions[part], drawn.views[part]
        small = cutter.cut(positions, views, size)
        if drawn.features is not None:
            return small, None
        large = cutter.cut(positions, views, guide.preprocess.size)
        # An accelerator looks at all of them at once.
        return small, guide.extract_features(large) if device.type == "cpu" else large

    parts = divide_views(len(drawn.views))
    started = workers.start([functools.partial(prepare, part) for part in parts])

    def wait() -> ShownViews:
        small, seen = zip(*(future.result() for future in started), strict=True)
        if drawn.features is not None:
            features = torch.from_numpy(drawn.features).to(device)
        elif device.type == "cpu":
            features = torch.cat(seen)
        else:
            features = guide.extract_features(torch.cat(seen).to(device)).clone()
        return ShownViews(drawn.positions, torch.cat(small).to(device), features)

    return wait
