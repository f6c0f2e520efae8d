"""Tests of the cache of decoded images."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder import image_cache
from encoder.errors import BadImageError
from encoder.image_cache import DecodedImages, cache_folder, open_images
from encoder.images import decode_image

SIDE = 40
SIZES = [(64, 48), (30, 90), (200, 170), (16, 16)]


def draw(width: int, height: int, seed: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    channels = [128 + 100 * np.sin(seed + k + x / 30 + y / (20 + k)) for k in range(3)]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "photos"
    folder.mkdir()
    made = []
    for number, size in enumerate(SIZES):
        made.append(folder / f"{number}.{'png' if number % 2 else 'jpg'}")
        draw(*size, number).save(made[-1])
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entries(home: Path) -> set[str]:
    return {path.name for path in (home / "decoded").iterdir()}


def stored_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in home.rglob("*") if path.is_file())


def check_images(images: DecodedImages, files: list[Path]) -> None:
    for position in images.positions:
        image = images[int(position)]
        expected = image_cache._decode(files[position], SIDE)
        assert image.dtype == np.uint8
        assert np.array_equal(image, expected)
        assert image.shape[:2] == tuple(images.shapes[position])


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(image_cache, "decode_image", refuse)


def test_the_cache_equals_the_decoder(files: list[Path], home: Path) -> None:
    images = open_images(files, side=SIDE, folder=home)
    assert images.pixels is not None
    assert images.files == tuple(files)
    assert images.positions.tolist() == [0, 1, 2, 3]
    assert images.quarantined == ()
    check_images(images, files)


def test_what_is_kept_is_the_picture_with_a_bounded_shorter_side(
    files: list[Path], home: Path
) -> None:
    images = open_images(files, side=SIDE, folder=home)
    for position, (width, height) in enumerate(SIZES):
        kept_height, kept_width = images[position].shape[:2]
        assert min(kept_height, kept_width) == min(SIDE, width, height)
        assert kept_width / kept_height == pytest.approx(width / height, rel=0.03)
        full = Image.fromarray(decode_image(files[position])).resize((kept_width, kept_height))
        assert np.abs(np.asarray(full, float) - images[position]).mean() < 5
    # A picture that is small enough is kept as it is.
    assert np.array_equal(images[3], decode_image(files[3]))


def test_aspects_are_width_by_height(files: list[Path], home: Path) -> None:
    images = open_images(files, side=SIDE, folder=home)
    ratios = images.aspects(np.array([1, 0]))
    assert ratios == pytest.approx([30 / 90, 64 / 48], rel=0.03)


def test_the_second_time_no_image_is_read(
    files: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_images(files, side=SIDE, folder=home)
    forbid_decoding(monkeypatch)
    advanced: list[int] = []
    second = open_images(files, side=SIDE, folder=home, advance=advanced.append)
    assert sum(advanced) == len(files)
    assert second.pixels is not None
    assert second.quarantined == first.quarantined
    for position in range(len(files)):
        assert np.array_equal(second[position], first[position])
    assert len(entries(home)) == 1


def test_the_bar_reaches_its_end_once(
    files: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "_CHUNK", 1)
    advanced: list[int] = []
    open_images(files, side=SIDE, folder=home, advance=advanced.append)
    assert advanced == [1] * len(files)


def test_the_bar_reaches_its_end_once_where_the_pixels_do_not_fit(
    files: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "_CHUNK", 1)
    advanced: list[int] = []
    largest = SIDE * SIDE * 2 * 3
    open_images(files, side=SIDE, folder=home, max_bytes=largest, advance=advanced.append)
    assert sum(advanced) == len(files)


@pytest.mark.parametrize("change", ["content", "time", "side", "order", "fewer", "gone"])
def test_another_set_of_files_has_another_key(files: list[Path], home: Path, change: str) -> None:
    open_images(files, side=SIDE, folder=home)
    side, now = SIDE, list(files)
    stat = files[1].stat()
    if change == "content":
        draw(31, 90, 9).save(files[1])
        os.utime(files[1], ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert files[1].stat().st_size != stat.st_size
    elif change == "time":
        os.utime(files[1], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    elif change == "side":
        side = SIDE + 2
    elif change == "order":
        now.reverse()
    elif change == "fewer":
        now.pop()
    else:
        files[1].unlink()
    images = open_images(now, side=side, folder=home)
    assert len(entries(home)) == 2
    for position in images.positions:
        assert np.array_equal(images[int(position)], image_cache._decode(now[position], side))


@pytest.mark.parametrize("max_bytes", [1 << 30, 1000])
def test_bad_images_are_set_aside(files: list[Path], home: Path, max_bytes: int) -> None:
    files[0].write_bytes(b"no picture")
    files[2].unlink()
    for _ in range(2):
        images = open_images(files, side=SIDE, folder=home, max_bytes=max_bytes)
        assert images.positions.tolist() == [1, 3]
        assert [bad.position for bad in images.quarantined] == [0, 2]
        assert [bad.path for bad in images.quarantined] == [str(files[0]), str(files[2])]
        assert "not an image" in images.quarantined[0].reason
        assert "no such file" in images.quarantined[1].reason
        assert images.shapes[[0, 2]].tolist() == [[0, 0], [0, 0]]
        check_images(images, files)


def test_nothing_but_bad_images(files: list[Path], home: Path) -> None:
    for file in files:
        file.write_bytes(b"")
    for _ in range(2):
        images = open_images(files, side=SIDE, folder=home)
        assert len(images.positions) == 0
        assert len(images.quarantined) == len(files)


def test_no_files_at_all(home: Path) -> None:
    for _ in range(2):
        images = open_images([], side=SIDE, folder=home)
        assert len(images.positions) == 0
        assert images.quarantined == ()


def test_pixels_above_the_bound_are_decoded_at_each_use(files: list[Path], home: Path) -> None:
    images = open_images(files, side=SIDE, folder=home, max_bytes=1000)
    assert images.pixels is None
    assert entries(home) == set()
    check_images(images, files)
    files[0].unlink()
    with pytest.raises(BadImageError, match="no such file"):
        images[0]


@pytest.mark.parametrize("where", ["file", "below a file"])
def test_a_folder_that_cannot_be_made_means_no_cache(
    files: list[Path], tmp_path: Path, where: str
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("mine")
    folder = blocked if where == "file" else blocked / "deep"
    images = open_images(files, side=SIDE, folder=folder)
    assert images.pixels is None
    check_images(images, files)
    assert blocked.read_text() == "mine"


def test_a_full_disk_means_no_cache(
    files: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(image_cache, "write_array", fail)
    images = open_images(files, side=SIDE, folder=home)
    assert images.pixels is None
    assert entries(home) == set()
    check_images(images, files)


def age(entry: Path, seconds: int) -> None:
    os.utime(entry, (1_000_000_000 + seconds, 1_000_000_000 + seconds))


def fill(files: list[Path], home: Path) -> tuple[str, str, str]:
    """Make three caches of one size, `old`, `used` and `new`, in this order of last use."""
    known: set[str] = set()
    made = []
    for number in range(3):
        for file in files:
            os.utime(file, (number, number))
        open_images(files, side=SIDE, folder=home)
        (name,) = entries(home) - known
        known.add(name)
        age(home / "decoded" / name, number)
        made.append(name)
    return made[0], made[1], made[2]


def test_the_oldest_caches_go_first(files: list[Path], home: Path) -> None:
    old, used, new = fill(files, home)
    size = stored_bytes(home) // 3
    for file in files:
        os.utime(file, (9, 9))
    open_images(files, side=SIDE, folder=home, max_bytes=4 * size + 100)
    assert old not in entries(home)
    assert {used, new} < entries(home)
    assert len(entries(home)) == 3


def test_a_cache_that_was_used_is_kept(files: list[Path], home: Path) -> None:
    old, used, new = fill(files, home)
    size = stored_bytes(home) // 3
    for file in files:
        os.utime(file, (0, 0))
    open_images(files, side=SIDE, folder=home)
    for file in files:
        os.utime(file, (9, 9))
    open_images(files, side=SIDE, folder=home, max_bytes=4 * size + 100)
    assert used not in entries(home)
    assert {old, new} < entries(home)


def test_caches_below_half_of_the_bound_are_kept(files: list[Path], home: Path) -> None:
    fill(files, home)
    bound = 2 * stored_bytes(home)
    for file in files:
        os.utime(file, (9, 9))
    open_images(files, side=SIDE, folder=home, max_bytes=bound)
    assert len(entries(home)) == 4


def test_all_caches_together_stay_within_the_bound(files: list[Path], home: Path) -> None:
    open_images(files[:1], side=SIDE, folder=home)
    small = stored_bytes(home)
    open_images(files, side=SIDE, folder=home)
    large = stored_bytes(home) - small
    shutil.rmtree(home)
    # The small one takes less than half, but there is no room for both.
    bound = large + small // 2
    assert small < bound // 2
    for some in (files[:1], files):
        images = open_images(some, side=SIDE, folder=home, max_bytes=bound)
        assert images.pixels is not None
        check_images(images, some)
        assert stored_bytes(home) <= bound


def test_a_cache_half_removed_is_built_again(files: list[Path], home: Path) -> None:
    # A kill while an old cache is removed leaves a folder without its manifest.
    open_images(files, side=SIDE, folder=home)
    (name,) = entries(home)
    (home / "decoded" / name / "cache.json").unlink()
    images = open_images(files, side=SIDE, folder=home)
    check_images(images, files)


def test_removed_while_open_is_still_readable(files: list[Path], home: Path) -> None:
    images = open_images(files, side=SIDE, folder=home)
    shutil.rmtree(home)
    check_images(images, files)


def test_the_place_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POCKETLENS_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"
    monkeypatch.delenv("POCKETLENS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "pocketlens"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "pocketlens"


def test_the_named_place_is_used(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POCKETLENS_CACHE", str(tmp_path / "named"))
    open_images(files, side=SIDE)
    assert len(entries(tmp_path / "named")) == 1
