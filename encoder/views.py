"""Coupled views: an augmentation sampled once as numbers and applied at any size.

Teacher and student must see the same view (Suma & Tolias, 2023, §3.2): the same region, flip,
colours and mixing partner, differing in resolution only. The published code reseeds generators to
get there; here a view is data, so it can be stored, tested and applied again.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoder.errors import PocketlensError
from encoder.preprocess import Fit, Pixels

# box: left, top, width, height as fractions of the image; jitter: brightness, contrast,
# saturation (factors) and hue (turns); partner: row to mix in, −1 for none; weight: share of the
# image itself in the mix.
VIEW = np.dtype(
    [
        ("box", "<f4", 4),
        ("flip", "?"),
        ("jitter", "<f4", 4),
        ("partner", "<i8"),
        ("weight", "<f4"),
    ]
)
Views = NDArray[np.void]

_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)
# A partner weighing less than half a grey level cannot be seen.
_UNSEEN = 0.5 / 255


@dataclasses.dataclass(frozen=True)
class ViewRecipe:
    """Bound the random numbers of a view; defaults after torchvision and the paper's recipe.

    With `fit` squash the box keeps the image's own aspect times a factor from `ratio`; with crop
    its aspect in pixels is drawn from `ratio`. `mix_alpha` 0 mixes nothing.
    """

    scale: tuple[float, float] = (0.25, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3
    hue: float = 0.05
    mix_alpha: float = 0.2
    fit: Fit = "squash"

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise PocketlensError(f"view scale {self.scale} must rise within 0..1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise PocketlensError(f"view ratio {self.ratio} must rise and be positive")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise PocketlensError(f"view {name} {getattr(self, name)} is not in 0..1")
        for name, most in (("hue", 0.5), ("flip", 1.0), ("mix_alpha", 100.0)):
            if not 0 <= getattr(self, name) <= most:
                raise PocketlensError(f"view {name} {getattr(self, name)} is not in 0..{most:g}")


# Milder than a teacher's own: queries are whole pictures, and small crops cost recall there.
QUERY_VIEWS = ViewRecipe(scale=(0.5, 1.0))


def colour_views(recipe: ViewRecipe, strength: float) -> ViewRecipe:
    """Return the recipe with its changes of colour made so many times as strong."""
    if not 0 <= strength <= 3:
        raise PocketlensError(f"--jitter {strength} is not in 0..3")
    names = ("brightness", "contrast", "saturation", "hue")
    return dataclasses.replace(recipe, **{n: strength * getattr(recipe, n) for n in names})


def forget_colour(recipe: ViewRecipe) -> ViewRecipe:
    """Return the recipe with views of every hue and almost any saturation.

    For classes that colour does not tell apart: a car's model is not its paint.
    """
    return dataclasses.replace(recipe, hue=0.5, saturation=0.9)


def sample_views(
    recipe: ViewRecipe,
    aspects: NDArray[np.floating],
    rng: np.random.Generator,
    *,
    population: int = 0,
) -> Views:
    """Draw one view for each image of the given aspect (width ÷ height).

    Mixing partners are drawn from `range(population)`.
    """
    count = len(aspects)
    views = np.zeros(count, VIEW)
    area = rng.uniform(*recipe.scale, count)
    ratio = np.exp(rng.uniform(math.log(recipe.ratio[0]), math.log(recipe.ratio[1]), count))
    if recipe.fit == "crop":
        ratio = ratio / aspects
    width = np.minimum(np.sqrt(area * ratio), 1.0)
    height = np.minimum(np.sqrt(area / ratio), 1.0)
    left, top = rng.uniform(0, 1, (2, count)) * (1 - np.stack([width, height]))
    views["box"] = np.stack([left, top, width, height], axis=1)
    views["flip"] = rng.random(count) < recipe.flip
    spread = np.array([recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue])
    views["jitter"] = np.array([1, 1, 1, 0]) + rng.uniform(-1, 1, (count, 4)) * spread
    views["partner"], views["weight"] = -1, 1.0
    if recipe.mix_alpha > 0 and population > 0:
        views["partner"] = rng.integers(0, population, count)
        views["weight"] = rng.beta(recipe.mix_alpha, recipe.mix_alpha, count)
    return views


def needs_partner(view: np.void) -> bool:
    """Return whether the view has a partner that can be seen."""
    return bool(view["partner"] >= 0 and view["weight"] < 1 - _UNSEEN)


def render_view(
    image: Pixels,
    partner: Pixels | None,
    view: np.void,
    size: int,
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> Pixels:
    """Apply a view to its image at a size: uint8 `[size, size, 3]`.

    `partner`, given where `needs_partner` holds, goes through the same box and flip and is mixed
    in before the colours change.
    """
    picture = _cut(image, view, size, resampling)
    if partner is not None:
        mixed_in = _cut(partner, view, size, resampling)
        picture = Image.blend(mixed_in, picture, float(view["weight"]))
    if not _is_neutral(view):
        picture = picture.convert("RGB", colour_map(view))
    if view["flip"]:
        # In Pillow, where it takes a tenth of the time of copying a mirrored array.
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture)


def _cut(image: Pixels, view: np.void, size: int, resampling: Image.Resampling) -> Image.Image:
    height, width = image.shape[:2]
    left, top, box_width, box_height = (float(value) for value in view["box"])
    right, bottom = min(left + box_width, 1.0), min(top + box_height, 1.0)
    box = (left * width, top * height, right * width, bottom * height)
    return Image.fromarray(image).resize((size, size), resampling, box=box)


def _is_neutral(view: np.void) -> bool:
    return tuple(view["jitter"]) == (1.0, 1.0, 1.0, 0.0)


def colour_map(view: np.void) -> tuple[float, ...]:
    """Return a view's colour change on 0..255 as three rows of four: matrix and offset.

    Brightness, contrast around mid-grey, saturation around luma and a hue rotation in YIQ are all
    affine, so one map holds them and means the same at every size.
    """
    brightness, contrast, saturation, hue = (float(value) for value in view["jitter"])
    cosine, sine = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    saturate = saturation * np.eye(3) + (1 - saturation) * _LUMA
    colour = _TO_RGB @ rotation @ _TO_YIQ @ saturate
    # Mid-grey is neutral, so neither saturation nor hue moves the offset's direction.
    offset = colour @ np.full(3, 127.5) * (1 - contrast)
    rows = np.column_stack([colour * (brightness * contrast), offset])
    return tuple(rows.ravel().tolist())
