"""Tests of the decoder: every odd picture becomes upright RGB or a reason."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from encoder import images
from encoder.errors import BadImageError
from encoder.images import BoxedFile, Limits, decode_image
from encoder.preprocess import Fit, Preprocess, prepare

ORIENTATION = 0x0112


def photo(height: int, width: int) -> np.ndarray:
    # Smooth, with no symmetry, so that any turn or flip shows.
    y, x = np.mgrid[0:height, 0:width]
    y, x = y / height, x / width
    red = 40 + 150 * x + 40 * np.sin(9 * y + 2 * x)
    green = 200 - 140 * y + 30 * np.cos(7 * x * y + 1)
    blue = 60 + 120 * x * y + 50 * np.exp(-20 * ((x - 0.3) ** 2 + (y - 0.6) ** 2))
    return np.stack([red, green, blue], axis=2).clip(0, 255).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


def store(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels as a camera stores them so that `orientation` makes them upright."""
    stored: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(stored[orientation](upright))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def check_rgb(image: np.ndarray) -> None:
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    upright = photo(48, 80)
    stored = Image.fromarray(store(upright, orientation))
    if kind == "TIFF":
        data = encode(stored, kind, tiffinfo={ORIENTATION: orientation})
    else:
        options = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}}[kind]
        data = encode(stored, kind, exif=exif(orientation), **options)
    decoded = decode_image(data)
    check_rgb(decoded)
    assert difference(decoded, upright) < (2.0 if kind == "JPEG" else 1e-9)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    upright = photo(48, 80)
    data = encode(Image.fromarray(upright), "PNG", exif=exif(orientation))
    assert np.array_equal(decode_image(data), upright)


def raw_exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    body = b"".join(
        struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries
    )
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


@pytest.mark.parametrize(
    "entries",
    [
        [(0x8769, 2, 4, b"abc\0")],
        [(0x011A, 7, 4, b"\1\2\3\4")],
        [(0x011A, 5, 1, b"\xff\xff\xff\x7f")],
        [(0x0100, 2, 4, b"abc\0")],
        [(0x010F, 3, 2, b"\1\0\2\0")],
        [(0x8825, 9, 1, b"\xff\xff\xff\xff")],
    ],
    ids=["pointer as text", "ratio as bytes", "ratio outside", "width as text", "maker", "gps"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_beside_a_sound_orientation(
    entries: list[tuple[int, int, int, bytes]],
) -> None:
    upright = photo(48, 80)
    block = raw_exif(*sorted([*entries, (ORIENTATION, 3, 1, b"\6\0\0\0")]))
    stored = Image.fromarray(store(upright, 6))
    decoded = decode_image(encode(stored, "JPEG", quality=95, exif=block))
    assert difference(decoded, upright) < 2.0


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0garbage" * 3])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_an_exif_block_of_garbage_is_ignored(block: bytes) -> None:
    upright = photo(48, 80)
    decoded = decode_image(encode(Image.fromarray(upright), "JPEG", quality=95, exif=block))
    assert difference(decoded, upright) < 2.0


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_opens_in_a_fresh_process(kind: str, tmp_path: Path) -> None:
    # Pillow registers its formats by and by; other tests of this process may have done so.
    file = tmp_path / "picture"
    file.write_bytes(encode(Image.fromarray(photo(20, 30)), kind))
    code = (
        "import pathlib, sys; from encoder.images import decode_image;"
        "print(decode_image(pathlib.Path(sys.argv[1])).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        cwd=Path(images.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("(20, 30, 3)", "")


@pytest.mark.parametrize(
    ("kind", "options", "allowed"),
    [
        ("JPEG", {"quality": 95}, 2.0),
        ("JPEG", {"quality": 95, "progressive": True}, 2.0),
        ("PNG", {}, 0.0),
        ("WEBP", {"lossless": True}, 0.0),
        ("WEBP", {"quality": 95}, 3.0),
        ("BMP", {}, 0.0),
        ("TIFF", {}, 0.0),
        ("TIFF", {"compression": "tiff_lzw"}, 0.0),
        ("GIF", {}, 8.0),
    ],
)
def test_formats_keep_their_pixels(kind: str, options: dict[str, Any], allowed: float) -> None:
    original = photo(60, 90)
    data = encode(Image.fromarray(original), kind, **options)
    decoded = decode_image(data)
    check_rgb(decoded)
    assert difference(decoded, original) <= allowed


def test_a_file_and_its_bytes_are_the_same_picture(tmp_path: Path) -> None:
    data = encode(Image.fromarray(photo(60, 90)), "JPEG")
    # The content counts, not the name.
    (tmp_path / "picture.png").write_bytes(data)
    assert np.array_equal(decode_image(tmp_path / "picture.png"), decode_image(data))


def test_a_picture_of_two_views_gives_the_first() -> None:
    first, second = photo(40, 60), 255 - photo(40, 60)
    data = encode(
        Image.fromarray(first),
        "MPO",
        save_all=True,
        append_images=[Image.fromarray(second)],
        quality=95,
    )
    assert difference(decode_image(data), first) < 2.0
    assert decode_image(data, target=Preprocess(16)).shape == (40, 60, 3)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("P", (8, 8), index) for index in range(3)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:], optimize=False)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 3  # type: ignore[attr-defined]
    assert np.array_equal(decode_image(data), np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG"])
def test_grey(kind: str) -> None:
    grey = photo(30, 40)[:, :, 0]
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98}}.get(kind, {})
    decoded = decode_image(encode(Image.fromarray(grey), kind, **options))
    check_rgb(decoded)
    assert difference(decoded, np.repeat(grey[:, :, None], 3, axis=2)) < 1.0


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(float) / 255
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_on_white(kind: str) -> None:
    colour = photo(32, 40)
    alpha = np.linspace(0, 255, 40).astype(np.uint8)[None].repeat(32, axis=0)
    data = encode(
        Image.fromarray(np.dstack([colour, alpha])),
        kind,
        **({"lossless": True, "exact": True} if kind == "WEBP" else {}),
    )
    decoded = decode_image(data)
    check_rgb(decoded)
    assert np.abs(decoded - over_white(colour, alpha)).max() <= 1
    assert (decoded[:, 0] == 255).all()
    assert np.array_equal(decoded[:, -1], colour[:, -1])


def test_grey_with_alpha_is_laid_on_white() -> None:
    grey = photo(32, 40)[:, :, 1]
    alpha = np.linspace(255, 0, 40).astype(np.uint8)[None].repeat(32, axis=0)
    decoded = decode_image(encode(Image.fromarray(np.dstack([grey, alpha])), "PNG"))
    check_rgb(decoded)
    assert np.abs(decoded - over_white(grey[:, :, None], alpha)).max() <= 1


def palette_picture() -> Image.Image:
    indices = np.zeros((6, 8), np.uint8)
    indices[:, 4:] = 1
    indices[3:] += 2
    image = Image.fromarray(indices)
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    return image


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(kind: str) -> None:
    decoded = decode_image(encode(palette_picture(), kind, transparency=1))
    check_rgb(decoded)
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[0, 7].tolist() == [255, 255, 255]
    assert decoded[5, 0].tolist() == [0, 200, 0]


def test_palette_with_an_alpha_for_each_colour() -> None:
    decoded = decode_image(encode(palette_picture(), "PNG", transparency=b"\xff\x00\x80"))
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[0, 7].tolist() == [255, 255, 255]
    assert np.abs(decoded[5, 0].astype(int) - [127, 227, 127]).max() <= 1
    assert decoded[5, 7].tolist() == [0, 0, 200]


def test_palette_without_transparency() -> None:
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        decoded = decode_image(encode(palette_picture(), kind))
        assert decoded[0, 7].tolist() == [200, 0, 0], kind


@pytest.mark.parametrize(("mode", "key"), [("L", 0), ("RGB", (0, 0, 0)), ("1", 0)])
def test_a_colour_named_transparent_is_laid_on_white(mode: str, key: Any) -> None:
    image = Image.new("RGB", (8, 8), "white")
    image.paste("black", (0, 0, 4, 8))
    image.paste((90, 90, 90), (0, 4, 8, 8))
    data = encode(image.convert(mode), "PNG", transparency=key)
    decoded = decode_image(data)
    check_rgb(decoded)
    assert (decoded[:4] == 255).all()
    if mode != "1":
        assert (decoded[4:] == 90).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_cmyk_jpeg(orientation: int) -> None:
    upright = photo(48, 64)
    stored = Image.fromarray(store(upright, orientation)).convert("CMYK")
    decoded = decode_image(encode(stored, "JPEG", quality=95, exif=exif(orientation)))
    check_rgb(decoded)
    assert difference(decoded, upright) < 4.0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey(kind: str) -> None:
    wide = np.linspace(0, 65535, 64 * 16).astype(np.uint16).reshape(16, 64)
    decoded = decode_image(encode(Image.fromarray(wide), kind))
    check_rgb(decoded)
    assert np.abs(decoded[:, :, 0].astype(float) - wide / 257).max() < 1
    assert decoded[0, 0, 0] == 0
    assert decoded[-1, -1].tolist() == [255, 255, 255]
    assert np.array_equal(decoded[:, :, 0], decoded[:, :, 2])


def test_dark_16_bit_stays_dark() -> None:
    dark = np.full((8, 8), 255, np.uint16)
    assert (decode_image(encode(Image.fromarray(dark), "PNG")) == 0).all()


def test_16_bit_colour_png() -> None:
    wide = np.zeros((4, 5, 3), ">u2")
    wide[:, :, 0], wide[:, :, 2] = 65535, 0x8080
    assert np.array_equal(decode_image(png(5, 4, 16, 2, wide)), np.full((4, 5, 3), (255, 0, 128)))


@pytest.mark.parametrize("top", [255, 65535])
def test_32_bit_grey(top: int) -> None:
    values = np.array([[0, top // 2], [top, top]], np.int32)
    decoded = decode_image(encode(Image.fromarray(values), "TIFF"))
    check_rgb(decoded)
    assert decoded[:, :, 0].tolist() == [[0, 127], [255, 255]]


def test_floating_point_pixels_are_refused() -> None:
    values = np.ones((4, 4), np.float32)
    with pytest.raises(BadImageError, match="floating-point"):
        decode_image(encode(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit(kind: str) -> None:
    board = np.indices((9, 13)).sum(axis=0) % 2 == 0
    decoded = decode_image(encode(Image.fromarray(board), kind))
    check_rgb(decoded)
    assert np.array_equal(decoded[:, :, 1], np.where(board, 255, 0))


def chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def png(width: int, height: int, depth: int, colour: int, rows: np.ndarray | None) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    raw = b"" if rows is None else b"".join(b"\0" + row.tobytes() for row in rows)
    body = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("side", [9_000, 9_600, 20_000, 60_000])
def test_a_header_of_too_many_pixels_is_refused_before_decoding(side: int) -> None:
    with pytest.raises(BadImageError, match=r"80,000,000 pixels"):
        decode_image(png(side, side, 8, 2, None))


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_the_bound_on_pixels_holds_for_every_format(kind: str) -> None:
    data = encode(Image.new("RGB", (40, 25)), kind)
    with pytest.raises(BadImageError, match=r"40×25 is more than 999 pixels"):
        decode_image(data, limits=Limits(max_pixels=999))


def test_the_bound_on_pixels_is_inclusive() -> None:
    data = encode(Image.new("RGB", (40, 25)), "PNG")
    assert decode_image(data, limits=Limits(max_pixels=1000)).shape == (25, 40, 3)


def test_a_file_above_the_bound_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise AssertionError("the file was read")

    file = tmp_path / "large.png"
    with file.open("wb") as sparse:
        sparse.truncate((3 << 20) + 1)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadImageError, match=r"large\.png: larger than 3 MiB"):
        decode_image(file, limits=Limits(max_bytes=3 << 20))


def test_bytes_above_the_bound_are_refused() -> None:
    data = encode(Image.new("RGB", (8, 8)), "PNG")
    with pytest.raises(BadImageError, match="larger than"):
        decode_image(data, limits=Limits(max_bytes=len(data) - 1))
    assert decode_image(data, limits=Limits(max_bytes=len(data))).shape == (8, 8, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_a_side_of_one_pixel_is_too_small(size: tuple[int, int]) -> None:
    data = encode(Image.new("RGB", size, "red"), "PNG")
    with pytest.raises(BadImageError, match=f"{size[0]}×{size[1]} is too small"):
        decode_image(data)
    decoded = decode_image(data, limits=Limits(min_side=1))
    assert decoded.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_file_cut_short_is_refused_and_named(kind: str, tmp_path: Path) -> None:
    data = encode(Image.fromarray(photo(100, 120)), kind)
    file = tmp_path / f"cut.{kind.lower()}"
    for share in (0.9, 0.5, 0.05):
        file.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(BadImageError, match=rf"cut\.{kind.lower()}: ") as caught:
            decode_image(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"These are words and no picture.\n" * 9, "not an image"),
        (b"\0" * 1000, "not an image"),
        (b"\xff\xd8\xff", "not an image|damaged"),
        (b"%PDF-1.4 " * 30, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "not an image"),
        (b"P6 2 2 255 abcdefghijkl", "not an image"),
    ],
    ids=["nothing", "words", "zeros", "JPEG head", "PDF", "SVG", "PPM"],
)
def test_what_is_no_picture_is_refused_and_named(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "picture.jpg"
    file.write_bytes(content)
    with pytest.raises(BadImageError, match=rf"picture\.jpg: ({reason})"):
        decode_image(file)
    with pytest.raises(BadImageError, match=rf"^image: ({reason})"):
        decode_image(content)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match=r"gone\.jpg: no such file"):
        decode_image(tmp_path / "gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(BadImageError, match=r"folder\.jpg: "):
        decode_image(tmp_path / "folder.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore")
def test_random_damage_gives_a_picture_or_a_reason(kind: str) -> None:
    rng = np.random.default_rng(0)
    data = encode(Image.fromarray(photo(40, 30)), kind, exif=exif(6))
    for _ in range(300):
        damaged = bytearray(data)
        span = int(rng.choice([64, 256, len(data)]))
        for at in rng.integers(0, min(span, len(data)), rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        try:
            check_rgb(decode_image(bytes(damaged), limits=Limits(max_pixels=1_000_000)))
        except BadImageError as error:
            assert "\n" not in str(error)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tag", [0x0111, 0x0117, 0x0100, 0x0102])
def test_a_tiff_field_of_the_wrong_kind_is_a_reason(tag: int) -> None:
    data = bytearray(encode(Image.fromarray(photo(40, 30)), "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    places = [directory + 2 + 12 * index for index in range(count)]
    (place,) = [at for at in places if struct.unpack_from("<H", data, at) == (tag,)]
    for kind in range(1, 13):
        struct.pack_into("<H", data, place + 2, kind)
        try:
            check_rgb(decode_image(bytes(data)))
        except BadImageError as error:
            assert "\n" not in str(error)


TARGETS = [
    (Preprocess(56), (1024, 768)),
    (Preprocess(56, fit="crop", crop=0.875), (1001, 777)),
    (Preprocess(112), (1000, 1000)),
    (Preprocess(112, fit="crop"), (1333, 905)),
    (Preprocess(64, crop=0.5), (641, 1203)),
    (Preprocess(224), (1400, 930)),
    (Preprocess(32, fit="crop", crop=0.1), (900, 1200)),
]


@pytest.mark.parametrize(("target", "size"), TARGETS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_reduced_decode_is_enough_and_close(
    target: Preprocess, size: tuple[int, int], orientation: int
) -> None:
    upright = photo(size[1], size[0])
    stored = Image.fromarray(store(upright, orientation))
    data = encode(stored, "JPEG", quality=92, exif=exif(orientation))
    full, reduced = decode_image(data), decode_image(data, target=target)
    assert full.shape == (size[1], size[0], 3)
    left, top, right, bottom = target.crop_box(reduced.shape[1], reduced.shape[0])
    full_box = target.crop_box(*size)
    needed = min(3 * target.size, full_box[2] - full_box[0], full_box[3] - full_box[1])
    # The cropped side is rounded again at the reduced scale.
    assert min(right - left, bottom - top) >= needed - 1
    assert difference(prepare(full, target), prepare(reduced, target)) < 1.5


@pytest.mark.parametrize(
    ("size", "target", "scale"),
    [
        ((1024, 1024), 40, 8),
        # A pixel less of a thousand is no shift to speak of; of 777 it is.
        ((1001, 1001), 40, 8),
        ((999, 777), 32, 1),
        ((1020, 1028), 80, 4),
        ((802, 804), 120, 2),
        ((1000, 960), 160, 2),
        ((447, 640), 112, 1),
        ((640, 480), 300, 1),
    ],
)
def test_the_smallest_scale_that_is_enough_is_taken(
    size: tuple[int, int], target: int, scale: int
) -> None:
    data = encode(Image.fromarray(photo(size[1], size[0])), "JPEG")
    decoded = decode_image(data, target=Preprocess(target))
    assert decoded.shape == (round(size[1] / scale), round(size[0] / scale), 3)


@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_only_jpeg_is_reduced(fit: Fit) -> None:
    original = photo(512, 640)
    decoded = decode_image(encode(Image.fromarray(original), "PNG"), target=Preprocess(16, fit=fit))
    assert np.array_equal(decoded, original)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_box_is_cut_from_the_upright_picture(orientation: int, tmp_path: Path) -> None:
    upright = photo(120, 200)
    file = tmp_path / "photo.png"
    Image.fromarray(store(upright, orientation)).save(file, exif=exif(orientation))
    boxed = BoxedFile(file, (30.0, 20.0, 50.0, 40.0))
    np.testing.assert_array_equal(decode_image(boxed), upright[20:60, 30:80])
    assert str(boxed) == str(file)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_reduced_decode_keeps_the_boxes_pixels(orientation: int, tmp_path: Path) -> None:
    """The picture could be read at 1/8, its box at 1/2 only."""
    upright = photo(1600, 2400)
    file = tmp_path / "photo.jpg"
    Image.fromarray(store(upright, orientation)).save(file, quality=95, exif=exif(orientation))
    preprocess = Preprocess(size=40)
    for left, height, width in ((402, 140, 150), (401, 280, 300)):
        boxed = BoxedFile(file, (float(left), 300.0, 300.0, 280.0))
        part = decode_image(boxed, target=preprocess)
        # Whole, where an edge would move.
        assert part.shape[:2] == (height, width)
        expected = prepare(upright[300:580, left : left + 300], preprocess).astype(int)
        assert np.abs(prepare(part, preprocess) - expected).mean() < 1.5


@pytest.mark.parametrize("box", [(300.0, 0.0, 10.0, 10.0), (-20.0, 0.0, 10.0, 10.0)])
def test_a_box_outside_the_picture_is_refused(
    box: tuple[float, float, float, float], tmp_path: Path
) -> None:
    file = tmp_path / "small.png"
    Image.fromarray(photo(40, 60)).save(file)
    with pytest.raises(BadImageError, match="box lies outside the picture of 60×40"):
        decode_image(BoxedFile(file, box))


def test_a_box_is_cut_at_the_edge_of_the_picture(tmp_path: Path) -> None:
    file = tmp_path / "small.png"
    picture = photo(40, 60)
    Image.fromarray(picture).save(file)
    np.testing.assert_array_equal(
        decode_image(BoxedFile(file, (50.0, -5.0, 30.0, 20.0))), picture[:15, 50:]
    )
