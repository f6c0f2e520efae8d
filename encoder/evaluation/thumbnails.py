"""Small pictures inside a page: an image file becomes a data URI, or the reason why not."""

import base64
import dataclasses
import io
from pathlib import Path

from PIL import Image

from encoder.errors import BadImageError
from encoder.images import decode_image
from encoder.preprocess import Preprocess

SIDE = 112
_QUALITY = 80


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """Hold a picture as a data URI with its sides, or the reason why there is none."""

    uri: str = ""
    width: int = 0
    height: int = 0
    reason: str = ""


def is_there(folder: Path, path: str) -> bool:
    """Return whether the folder has a file at that path. Nothing about it is an error."""
    try:
        return not _leaves(path) and (folder / path).is_file()
    except OSError:
        return False


def _leaves(path: str) -> bool:
    pure = Path(path)
    return not path or pure.is_absolute() or ".." in pure.parts


def make_thumbnail(folder: Path, path: str) -> Thumbnail:
    """Return the image at `path` in the folder, its longer side at most 112 pixels.

    A path that leaves the folder counts as missing. Nothing about an image is an error.
    """
    if _leaves(path):
        return Thumbnail(reason="no such file in the folder of images")
    file = folder / path
    try:
        pixels = decode_image(file, target=Preprocess(SIDE))
    except BadImageError as error:
        return Thumbnail(reason=str(error).removeprefix(f"{file}: "))
    picture = Image.fromarray(pixels)
    scale = min(1, SIDE / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    data = io.BytesIO()
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    small.save(data, "JPEG", quality=_QUALITY, optimize=True)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/jpeg;base64,{text}", width, height)
