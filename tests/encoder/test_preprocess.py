"""Tests of the way from pixels to network input."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import PocketlensError
from encoder.preprocess import Fit, Interpolation, Preprocess, crop_steps, normalise, prepare

FITS: tuple[Fit, ...] = ("squash", "crop")
crops = st.floats(0.1, 1.0) | st.sampled_from([0.1, 0.5, 0.875, 1 / 3, 1.0])
sides = st.integers(1, 20_000)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(st.sampled_from(FITS), crops, sides, sides)
@settings(max_examples=300, deadline=None)
def test_crop_box_is_inside_and_centred(fit: Fit, crop: float, width: int, height: int) -> None:
    box = Preprocess(64, fit=fit, crop=crop).crop_box(width, height)
    assert all(type(edge) is int for edge in box)
    left, top, right, bottom = box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert 0 <= (width - right) - left <= 1
    assert 0 <= (height - bottom) - top <= 1
    kept = (right - left, bottom - top)
    wanted = (min(width, height),) * 2 if fit == "crop" else (width, height)
    # The fraction is rounded to 1/65536 and the length to a pixel.
    for length, side in zip(kept, wanted, strict=True):
        assert abs(length - max(1.0, side * crop)) <= 0.5 + side / 131_072 + 1e-9
    if fit == "crop":
        assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("fit", "crop", "size", "box"),
    [
        ("squash", 1.0, (640, 480), (0, 0, 640, 480)),
        ("squash", 0.5, (640, 480), (160, 120, 480, 360)),
        ("squash", 0.5, (7, 5), (1, 1, 5, 4)),
        ("crop", 1.0, (640, 480), (80, 0, 560, 480)),
        ("crop", 1.0, (480, 641), (0, 80, 480, 560)),
        ("crop", 0.875, (640, 480), (110, 30, 530, 450)),
        ("crop", 0.1, (3, 4), (1, 1, 2, 2)),
    ],
)
def test_crop_boxes_are_golden(
    fit: Fit, crop: float, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert Preprocess(64, fit=fit, crop=crop).crop_box(*size) == box


def test_crop_steps_are_whole() -> None:
    assert [crop_steps(crop) for crop in (1.0, 0.5, 0.875, 0.1)] == [65536, 32768, 57344, 6554]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (17, 401), (333, 64)])
def test_prepare_gives_the_input_size(fit: Fit, shape: tuple[int, int]) -> None:
    image = picture(*shape)
    for crop in (1.0, 0.3):
        prepared = prepare(image, Preprocess(32, fit=fit, crop=crop))
        assert prepared.shape == (32, 32, 3)
        assert prepared.dtype == np.uint8


def test_prepare_takes_views_and_leaves_them() -> None:
    image = picture(90, 120)
    before = image.copy()
    flipped = image[:, ::-1]
    preprocess = Preprocess(48, fit="crop", crop=0.8)
    expected = prepare(np.ascontiguousarray(flipped), preprocess)
    assert np.array_equal(prepare(flipped, preprocess), expected)
    assert np.array_equal(image, before)


def test_prepare_keeps_pixels_of_the_right_size() -> None:
    image = picture(32, 32)
    assert np.array_equal(prepare(image, Preprocess(32)), image)
    wide = picture(32, 50)
    assert np.array_equal(prepare(wide, Preprocess(32, fit="crop")), wide[:, 9:41])


def triangle(distance: float) -> float:
    return max(0.0, 1 - abs(distance))


def catmull_rom(distance: float) -> float:
    x = abs(distance)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def naive_halves(image: np.ndarray, kernel: Callable[[float], float]) -> np.ndarray:
    # Antialiased at one half: the kernel is twice as wide in the image, and cut at its edges.
    length = len(image)
    out = np.empty((length // 2, *image.shape[1:]))
    for index in range(length // 2):
        weights = [kernel((at + 0.5) / 2 - (index + 0.5)) for at in range(length)]
        parts = [image[at].astype(float) * weight for at, weight in enumerate(weights)]
        out[index] = sum(parts) / sum(weights)
    return np.clip(np.floor(out + 0.5), 0, 255)


@pytest.mark.parametrize(
    ("interpolation", "kernel"), [("bilinear", triangle), ("bicubic", catmull_rom)]
)
def test_prepare_interpolates_with_antialiasing_width_first(
    interpolation: Interpolation, kernel: Callable[[float], float]
) -> None:
    image = picture(64, 64, seed=3)
    width_first = naive_halves(naive_halves(image.swapaxes(0, 1), kernel).swapaxes(0, 1), kernel)
    found = prepare(image, Preprocess(32, interpolation=interpolation)).astype(float)
    # Pillow's weights are fixed-point: an exact half may fall to either side.
    assert np.abs(found - width_first).max() <= 1
    assert (found != width_first).mean() < 0.02


def test_squash_and_crop_see_what_they_say() -> None:
    image = np.zeros((40, 120, 3), np.uint8)
    image[:, 40:80] = 200
    cropped = prepare(image, Preprocess(40, fit="crop"))
    assert (cropped == 200).all()
    squashed = prepare(image, Preprocess(30))[:, :, 0]
    assert (squashed[:, :9] == 0).all()
    assert (squashed[:, 11:19] == 200).all()
    assert (squashed[:, 21:] == 0).all()


def test_normalise_against_a_loop() -> None:
    preprocess = Preprocess(16, mean=(127.0, 120.5, 3.0), std=(128.0, 57.5, 2.0))
    batch = np.stack([picture(16, 16, seed) for seed in range(3)])
    found = normalise(batch, preprocess)
    assert found.shape == (3, 3, 16, 16)
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    for n in range(3):
        for channel in range(3):
            for y in range(16):
                for x in range(16):
                    pixel = float(batch[n, y, x, channel])
                    expected = (pixel - preprocess.mean[channel]) / preprocess.std[channel]
                    assert found[n, channel, y, x] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_normalise_of_nothing() -> None:
    assert normalise(np.empty((0, 16, 16, 3), np.uint8), Preprocess(16)).shape == (0, 3, 16, 16)


@given(
    st.builds(
        Preprocess,
        size=st.integers(16, 2048),
        fit=st.sampled_from(FITS),
        crop=crops,
        mean=st.tuples(*[st.floats(0, 255)] * 3),
        std=st.tuples(*[st.floats(0.5, 255)] * 3),
    )
)
@settings(max_examples=50, deadline=None)
def test_json_goes_round(preprocess: Preprocess) -> None:
    value = json.loads(json.dumps(preprocess.to_json()))
    assert Preprocess.from_json(value, "x") == preprocess


def test_resized_changes_the_size_only() -> None:
    given_one = Preprocess(224, fit="crop", crop=0.9, mean=(1.0, 2.0, 3.0))
    resized = given_one.resized(112)
    assert resized == Preprocess(112, fit="crop", crop=0.9, mean=(1.0, 2.0, 3.0))
    with pytest.raises(PocketlensError, match="input size 8"):
        given_one.resized(8)


BAD_FIELDS: list[dict[str, Any]] = [
    {"size": 15},
    {"size": 2049},
    {"size": -1},
    {"fit": "stretch"},
    {"fit": None},
    {"crop": 0.0},
    {"crop": 0.05},
    {"crop": 1.01},
    {"crop": float("nan")},
    {"std": (0.0, 1.0, 1.0)},
    {"std": (1.0, 1.0, float("nan"))},
    {"mean": (float("inf"), 0.0, 0.0)},
]


@pytest.mark.parametrize("change", BAD_FIELDS, ids=str)
def test_bad_values_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(PocketlensError):
        Preprocess(**{"size": 64, **change})


@pytest.mark.parametrize(
    "change",
    [
        *BAD_FIELDS,
        {"size": "big"},
        {"size": None},
        {"size": 64.5},
        {"size": float("inf")},
        {"crop": "most"},
        {"mean": [1.0, 2.0]},
        {"mean": 127.0},
        {"mean": None},
        {"std": [1.0, 2.0, 3.0, 4.0]},
        {"interpolation": "nearest"},
        {"antialias": False},
        {"antialias": 1},
    ],
    ids=str,
)
def test_bad_json_names_the_file(change: dict[str, Any]) -> None:
    value = {**Preprocess(64).to_json(), **change}
    with pytest.raises(PocketlensError, match=r"^card\.json: "):
        Preprocess.from_json(value, "card.json")


@pytest.mark.parametrize("field", Preprocess(64).to_json())
def test_a_missing_json_field_is_named(field: str) -> None:
    value = Preprocess(64).to_json()
    del value[field]
    with pytest.raises(PocketlensError, match=rf"^card\.json: .*{field}"):
        Preprocess.from_json(value, "card.json")
