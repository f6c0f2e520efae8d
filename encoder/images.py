"""The only decoder: any picture a person may hand in becomes upright 8-bit RGB, or a reason."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from encoder.errors import BadImageError, first_line
from encoder.preprocess import Pixels, Preprocess

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
# MPO, the JPEG of several pictures that phones write, is opened by the JPEG plugin.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# How many pixels per target pixel a reduced JPEG keeps along each side, and by how many target
# pixels an edge may shift where a side is no multiple of the scale: both blur or move what an
# encoder sees (at a shift of a tenth, a vector's cosine to that of the full decode was 0.998).
_MARGIN = 3
_MAX_SHIFT = 0.04
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bound what is decoded, judged from the header before any pixel is read."""

    max_pixels: int = 80_000_000
    max_bytes: int = 128 << 20
    min_side: int = 2


@dataclasses.dataclass(frozen=True)
class BoxedFile:
    """Name a part of an image file: left, top, width, height in pixels of the upright picture."""

    file: Path
    box: tuple[float, float, float, float]

    def __str__(self) -> str:
        """Return the file: messages and tables name that."""
        return str(self.file)


@dataclasses.dataclass(frozen=True)
class PackedFile:
    """Name an image that lies in an uncompressed archive: where its bytes begin, and how many."""

    file: Path
    name: str
    first: int
    size: int

    def __str__(self) -> str:
        """Return the archive and the name in it."""
        return f"{self.file}/{self.name}"


Source = Path | BoxedFile | PackedFile


def file_of(source: Source) -> Path:
    """Return the file that an image is read from."""
    return source if isinstance(source, Path) else source.file


def decode_image(
    source: Source | bytes, *, target: Preprocess | None = None, limits: Limits | None = None
) -> Pixels:
    """Decode a file, a part of one, or its bytes to upright RGB, uint8 `[height, width, 3]`.

    EXIF rotation is applied, transparency laid on white, palette, grey and CMYK converted, 16-bit
    scaled to 8. With `target` a JPEG is decoded at 1/2, 1/4 or 1/8 scale where the crop that the
    target needs still has at least three times its pixels along each side.

    Raises:
        BadImageError: naming the file and the reason.
    """
    limits = limits or Limits()
    name = "image" if isinstance(source, bytes) else str(source)
    box = source.box if isinstance(source, BoxedFile) else None
    with _naming(name, limits):
        data = _read(source, limits, name)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_header(image, limits, name)
            scale = 1
            if target is not None and image.format in ("JPEG", "MPO"):
                scale = _choose_scale(image.size, target, box)
            upright = _decode_upright(image, scale)
            return _to_rgb(upright if box is None else _cut_out(upright, box, scale, name), name)


def convert_image(image: Image.Image, *, limits: Limits | None = None) -> Pixels:
    """Turn a picture that Pillow holds into what `decode_image` makes of its file.

    Raises:
        BadImageError: with the reason.
    """
    limits = limits or Limits()
    with _naming("image", limits):
        _check_header(image, limits, "image")
        return _to_rgb(_decode_upright(image, 1), "image")


@contextlib.contextmanager
def _naming(name: str, limits: Limits) -> Iterator[None]:
    """Say in one line of which picture, and why, nothing can be made."""
    try:
        yield
    except BadImageError:
        raise
    except UnidentifiedImageError:
        raise BadImageError(f"{name}: not an image that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(f"{name}: more than {limits.max_pixels:,} pixels") from None
    except FileNotFoundError:
        raise BadImageError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise BadImageError(f"{name}: a folder, not an image") from None
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        raise BadImageError(f"{name}: damaged image ({first_line(error)})") from None


def _read(source: Source | bytes, limits: Limits, name: str) -> bytes:
    if isinstance(source, bytes):
        size = len(source)
    elif isinstance(source, PackedFile):
        size = source.size
    else:
        size = file_of(source).stat().st_size
    if size > limits.max_bytes:
        raise BadImageError(f"{name}: larger than {limits.max_bytes >> 20} MiB")
    data = source if isinstance(source, bytes) else read_source_bytes(source)
    if not data:
        raise BadImageError(f"{name}: empty file")
    return data


def read_source_bytes(source: Source) -> bytes:
    """Return the bytes of the file, or of the part of an archive, that an image is decoded from."""
    if not isinstance(source, PackedFile):
        return file_of(source).read_bytes()
    with source.file.open("rb") as archive:
        archive.seek(source.first)
        return archive.read(source.size)


def _check_header(image: Image.Image, limits: Limits, name: str) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise BadImageError(f"{name}: {width}×{height} is more than {limits.max_pixels:,} pixels")
    if min(width, height) < limits.min_side:
        raise BadImageError(f"{name}: {width}×{height} is too small")


def _choose_scale(
    full: tuple[int, int], target: Preprocess, box: tuple[float, float, float, float] | None
) -> int:
    """Return what the sides may be divided by: the most that keeps what is needed, where it is."""
    part, edges = full, list[float](full)
    if box is not None:
        part = (int(box[2]), int(box[3]))
        edges += [box[0], box[1], box[0] + box[2], box[1] + box[3]]
    left, top, right, bottom = target.crop_box(max(part[0], 1), max(part[1], 1))
    needed = min(right - left, bottom - top)
    for scale in (8, 4, 2):
        # Edges that are no multiples move by part of a pixel.
        off = max(abs(round(edge / scale) * scale - edge) for edge in edges)
        shift = off * target.size / max(min(part), 1)
        if needed // scale >= _MARGIN * target.size and shift <= _MAX_SHIFT:
            return scale
    return 1


def _decode_upright(image: Any, scale: int) -> Image.Image:
    """Decode, a JPEG at that part of its scale, and apply the EXIF rotation."""
    kept = (round(image.width / scale), round(image.height / scale))
    if scale > 1:
        # Rounded down: Pillow takes the largest scale that still gives this size.
        image.draft(None, (image.width // scale, image.height // scale))
    image.load()
    turn = _read_turn(image)
    # A last column or row of which the picture fills less than half.
    upright: Image.Image = image if image.size == kept else image.crop((0, 0, *kept))
    return upright if turn is None else upright.transpose(turn)


def _read_turn(image: Image.Image) -> Image.Transpose | None:
    """Return the EXIF rotation; ignore EXIF that is damaged, as viewers do."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Pillow's EXIF reader raises many kinds on damaged blocks
        return None
    # Not ImageOps.exif_transpose: it rewrites the EXIF block and fails on damaged ones.
    return _TURNS.get(orientation)


def _cut_out(
    image: Image.Image, box: tuple[float, float, float, float], scale: int, name: str
) -> Image.Image:
    """Cut the box out of an upright picture that was decoded at a reduced scale."""
    left, top = max(round(box[0] / scale), 0), max(round(box[1] / scale), 0)
    right = min(round((box[0] + box[2]) / scale), image.width)
    bottom = min(round((box[1] + box[3]) / scale), image.height)
    if right <= left or bottom <= top:
        size = f"{image.width * scale}×{image.height * scale}"
        raise BadImageError(f"{name}: its box lies outside the picture of {size}")
    return image.crop((left, top, right, bottom))


def _to_rgb(image: Image.Image, name: str) -> Pixels:
    if image.mode in ("RGB", "L") and "transparency" not in image.info:
        return np.asarray(image.convert("RGB"))
    if image.mode.startswith("I"):
        image = _from_16_bit(image)
    elif image.mode == "F":
        raise BadImageError(f"{name}: floating-point pixels have no stated range; save as 8-bit")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(white, layer)
    return np.asarray(image.convert("RGB"))


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    # A 32-bit mode may hold plain 8-bit values.
    scale = 257 if image.mode != "I" or values.max(initial=0) > 255 else 1
    return Image.fromarray((values.clip(0, 255 * scale) // scale).astype(np.uint8))
