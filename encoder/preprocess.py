"""The one definition of the way from pixels to network input, as data, with its reference."""

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoder.errors import PocketlensError

Fit = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic"]
Pixels = NDArray[np.uint8]

LARGEST_SIZE = 2048
_RESAMPLINGS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Describe the input of an encoder.

    `fit` squash takes the centred `crop` fraction of both sides; crop takes the centred square of
    `crop` times the shorter side. The box is resized to `size` × `size` (antialiased; bicubic keeps
    more detail and costs half as much again), and channels become (pixel − mean) / std with pixels
    in 0..255.
    """

    size: int
    fit: Fit = "squash"
    crop: float = 1.0
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)
    interpolation: Interpolation = "bilinear"
    antialias: Literal[True] = True

    def __post_init__(self) -> None:
        if not 16 <= self.size <= LARGEST_SIZE:
            raise PocketlensError(f"input size {self.size} is not between 16 and {LARGEST_SIZE}")
        if self.fit not in get_args(Fit):
            raise PocketlensError(f"fit {self.fit!r} is not one of {', '.join(get_args(Fit))}")
        if self.interpolation not in get_args(Interpolation):
            known = ", ".join(get_args(Interpolation))
            raise PocketlensError(f"--interpolation {self.interpolation!r} is not one of {known}")
        if not 0.1 <= self.crop <= 1.0:
            raise PocketlensError(f"crop fraction {self.crop} is not between 0.1 and 1")
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise PocketlensError(f"mean {self.mean} and std {self.std} do not normalise pixels")

    def to_json(self) -> dict[str, Any]:
        """Return the preprocessing as plain JSON values."""
        value = dataclasses.asdict(self)
        numbers = {"mean": list(map(float, self.mean)), "std": list(map(float, self.std))}
        return {**value, "crop": float(self.crop), **numbers}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Self:
        """Read a preprocessing; `where` names the file in an error."""
        try:
            red, green, blue = map(float, value["mean"])
            std_red, std_green, std_blue = map(float, value["std"])
            if value["antialias"] is not True:
                raise ValueError("only antialiased resizing is known")
            return cls(
                size=operator.index(value["size"]),
                fit=value["fit"],
                crop=float(value["crop"]),
                mean=(red, green, blue),
                std=(std_red, std_green, std_blue),
                interpolation=value["interpolation"],
            )
        except PocketlensError as error:
            raise PocketlensError(f"{where}: {error}") from None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise PocketlensError(f"{where}: not a preprocessing ({error!r})") from None

    @property
    def resampling(self) -> Image.Resampling:
        """Return Pillow's name of the interpolation."""
        return _RESAMPLINGS[self.interpolation]

    def resized(self, size: int) -> Self:
        """Return the same preprocessing at another input size."""
        return dataclasses.replace(self, size=size)

    def crop_box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the box that is needed of an image: left, top, right, bottom in whole pixels."""
        if self.fit == "crop":
            width_kept = height_kept = _share(min(width, height), self.crop)
        else:
            width_kept, height_kept = _share(width, self.crop), _share(height, self.crop)
        left, top = (width - width_kept) // 2, (height - height_kept) // 2
        return left, top, left + width_kept, top + height_kept


CROP_STEPS = 1 << 16


def crop_steps(crop: float) -> int:
    """Return the crop fraction in 1/65536, so that every platform rounds alike."""
    return round(crop * CROP_STEPS)


def _share(length: int, crop: float) -> int:
    """Return round(length · crop) in whole-number arithmetic, at least 1."""
    return max(1, (length * crop_steps(crop) + CROP_STEPS // 2) // CROP_STEPS)


MIN_SIDE = 16


def enlarge_tiny(image: Pixels) -> Pixels:
    """Enlarge an RGB picture whose sides are below 16 pixels: no encoder takes less."""
    height, width = image.shape[:2]
    if min(height, width) >= MIN_SIDE:
        return image
    larger = (max(width, MIN_SIDE), max(height, MIN_SIDE))
    return np.asarray(Image.fromarray(image).resize(larger, Image.Resampling.BILINEAR))


def prepare(image: Pixels, preprocess: Preprocess) -> Pixels:
    """Crop and resize one RGB image uint8 `[height, width, 3]` to `[size, size, 3]`.

    Width first, then height, each rounded to bytes: the order that ONNX Runtime's Resize takes.
    Pillow alone takes the other order for tall images, which differs by a grey level.
    """
    image = enlarge_tiny(image)
    height, width = image.shape[:2]
    left, top, right, bottom = preprocess.crop_box(width, height)
    size, how = preprocess.size, preprocess.resampling
    cropped = Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right]))
    return np.asarray(cropped.resize((size, bottom - top), how).resize((size, size), how))


def normalise(batch: Pixels, preprocess: Preprocess) -> NDArray[np.float32]:
    """Normalise uint8 `[n, size, size, 3]` to the network's float32 `[n, 3, size, size]`."""
    mean = np.asarray(preprocess.mean, np.float32)
    std = np.asarray(preprocess.std, np.float32)
    return np.ascontiguousarray(((batch - mean) / std).transpose(0, 3, 1, 2), dtype=np.float32)
