"""What a phone does to a picture, at stated strengths: the query side of a robustness table."""

import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from encoder.errors import PocketlensError
from encoder.preprocess import Pixels

# From mild to harsh, in `UNITS`. Lengths are relative to the picture, so that a large photo and a
# small one are harmed alike.
STRENGTHS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "blur": (0.004, 0.008, 0.016, 0.032),
        "jpeg": (50, 30, 15, 8),
        "rotation": (5, 10, 20, 45),
        "crop": (0.9, 0.75, 0.5, 0.3),
        "dark": (0.7, 0.5, 0.3, 0.15),
        "bright": (1.3, 1.6, 2.0, 3.0),
        "noise": (8, 16, 32, 64),
        "low-resolution": (112, 80, 56, 32),
    }
)
UNITS: Mapping[str, str] = MappingProxyType(
    {
        "blur": "standard deviation ÷ shorter side",
        "jpeg": "quality",
        "rotation": "degrees",
        "crop": "share of the area that is left",
        "dark": "factor on every value",
        "bright": "factor on every value",
        "noise": "standard deviation in grey levels",
        "low-resolution": "pixels of the shorter side",
    }
)


def corrupt(image: Pixels, name: str, strength: float, *, seed: int = 0) -> Pixels:
    """Return the picture uint8 `[height, width, 3]` as a phone might have taken it.

    Only noise is random: the same seed gives the same noise.

    Raises:
        PocketlensError: for a name that is not in `STRENGTHS`.
    """
    if name == "noise":
        drawn = np.random.default_rng(seed).normal(0, strength, image.shape)
        return _to_bytes(image + drawn)
    if name in ("dark", "bright"):
        return _to_bytes(image * strength)
    changes: dict[str, Callable[[Image.Image, float], Image.Image]] = {
        "blur": _blur,
        "jpeg": _compress,
        "rotation": _rotate,
        "crop": _crop,
        "low-resolution": _shrink,
    }
    if name not in changes:
        raise PocketlensError(f"corruption {name!r} is not one of {', '.join(STRENGTHS)}")
    return np.asarray(changes[name](Image.fromarray(image), strength))


def _to_bytes(values: NDArray[np.floating]) -> Pixels:
    clipped: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped


def _blur(image: Image.Image, strength: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(strength * min(image.size)))


def _compress(image: Image.Image, quality: float) -> Image.Image:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=int(quality))
    return Image.open(data).convert("RGB")


def _rotate(image: Image.Image, degrees: float) -> Image.Image:
    # What turns in from outside is grey.
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(127, 127, 127))


def _crop(image: Image.Image, share: float) -> Image.Image:
    width, height = (max(1, round(side * share**0.5)) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _shrink(image: Image.Image, shorter: float) -> Image.Image:
    scale = shorter / min(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)
