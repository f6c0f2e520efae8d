"""Pictures that the package makes itself, shaped like what cameras deliver, to check parity on.

Beside an encoder they lie as files with the vectors that it made of them, so that another runtime
can show that it makes the same.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from encoder.datasets.procedural import ProceduralSpec, render_image
from encoder.preprocess import Pixels

# Width and height: VGA, portrait phone, panorama, banner, a thumbnail and the smallest input.
_SIZES = ((640, 480), (720, 1280), (1600, 300), (200, 900), (96, 64), (16, 16), (1999, 1333))


def make_golden_images() -> dict[str, Pixels]:
    """Return named RGB pictures, uint8 `[height, width, 3]`, the same at every call."""
    pictures = {}
    for number, (width, height) in enumerate(_SIZES):
        drawn = Image.fromarray(render_image(ProceduralSpec(), number, 0))
        resized = drawn.resize((width, height), Image.Resampling.BICUBIC)
        pictures[f"{width}x{height}"] = np.asarray(resized)
    grey = np.asarray(Image.fromarray(render_image(ProceduralSpec(), 20, 1)).convert("L"))
    pictures["grey"] = np.repeat(grey[:, :, None], 3, axis=2)
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    pictures["noise"] = noise
    return pictures


def make_camera_photo(width: int = 4000, height: int = 3000) -> bytes:
    """Return a JPEG of camera size, a mosaic of drawn pictures at their own scale."""
    photo = Image.new("RGB", (width, height))
    tiles = [Image.fromarray(render_image(ProceduralSpec(), number, 0)) for number in range(12)]
    side = 256
    for number in range(-(-width // side) * -(-height // side)):
        column, row = number % -(-width // side), number // -(-width // side)
        tile = tiles[(number * 7) % len(tiles)].resize((side, side), Image.Resampling.BICUBIC)
        photo.paste(tile, (column * side, row * side))
    encoded = io.BytesIO()
    photo.save(encoded, "JPEG", quality=92)
    return encoded.getvalue()


def write_golden_images(folder: Path) -> list[str]:
    """Write the pictures as files, and some as cameras and scanners store them; return the names.

    Exact ones are PNG. The others are an ordinary JPEG that EXIF turns upright, one of camera size,
    a grey, a transparent, a palette and a CMYK one.
    """
    folder.mkdir(parents=True)
    names = []

    def save(image: Image.Image, name: str, **options: Any) -> None:
        image.save(folder / name, **options)
        names.append(name)

    drawn = [Image.fromarray(render_image(ProceduralSpec(), number, 2)) for number in range(5)]
    for name, pixels in make_golden_images().items():
        save(Image.fromarray(pixels), f"{name}.png")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    save(drawn[0].resize((640, 480)), "turned.jpg", quality=92, exif=turned)
    save(drawn[1].convert("L"), "grey.jpg", quality=92)
    save(drawn[2].convert("CMYK"), "cmyk.jpg", quality=92)
    transparent = drawn[3].convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    save(transparent, "transparent.png")
    save(drawn[4].quantize(64), "palette.png")
    (folder / "camera.jpg").write_bytes(make_camera_photo(2000, 1500))
    return [*names, "camera.jpg"]
