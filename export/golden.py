"""Pictures that the package makes itself, shaped like what cameras deliver, to check parity on."""

import numpy as np
from PIL import Image

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
