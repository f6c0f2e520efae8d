"""Tests of the corruptions: each does what it says, harsher with strength, alike by seed."""

import numpy as np
import pytest

from encoder.errors import PocketlensError
from encoder.evaluation.robustness import STRENGTHS, corrupt


def photo(height: int, width: int) -> np.ndarray:
    """Draw a slope, which a turn changes, with waves of many lengths, which blurs take away."""
    _, x = np.mgrid[0:height, 0:width]
    waves = sum(8 * np.sin(2 * np.pi * x / length) for length in (3, 6, 12, 24, 48))
    planes = [40 + 0.6 * x + waves + 10 * k for k in range(3)]
    return np.stack(planes, axis=2).clip(0, 255).astype(np.uint8)


IMAGE = photo(150, 200)
SAME_SIZE = [name for name in STRENGTHS if name not in ("crop", "low-resolution")]


@pytest.mark.parametrize("name", SAME_SIZE)
def test_harm_grows_with_strength(name: str) -> None:
    harms = []
    for strength in STRENGTHS[name]:
        harmed = corrupt(IMAGE, name, strength)
        assert harmed.shape == IMAGE.shape and harmed.dtype == np.uint8
        harms.append(np.abs(harmed.astype(float) - IMAGE).mean())
    assert harms[0] > 0.3
    assert harms == sorted(harms)


@pytest.mark.parametrize("share", STRENGTHS["crop"])
def test_a_crop_leaves_the_middle(share: float) -> None:
    cropped = corrupt(IMAGE, "crop", share)
    height, width = cropped.shape[:2]
    assert height * width == pytest.approx(share * 150 * 200, rel=0.02)
    top, left = (150 - height) // 2, (200 - width) // 2
    np.testing.assert_array_equal(cropped, IMAGE[top : top + height, left : left + width])


def test_low_resolution_shrinks_and_never_enlarges() -> None:
    assert corrupt(IMAGE, "low-resolution", 56).shape == (56, 75, 3)
    np.testing.assert_array_equal(corrupt(IMAGE, "low-resolution", 400), IMAGE)


def test_brightness_scales_and_clips() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert (corrupt(grey, "dark", 0.3) == 30).all()
    assert (corrupt(grey, "bright", 3.0) == 255).all()


def test_noise_is_that_of_its_seed() -> None:
    one = corrupt(IMAGE, "noise", 16, seed=3)
    np.testing.assert_array_equal(one, corrupt(IMAGE, "noise", 16, seed=3))
    assert (one != corrupt(IMAGE, "noise", 16, seed=4)).any()
    flat = corrupt(np.full((200, 200, 3), 127, np.uint8), "noise", 16)
    assert flat.std() == pytest.approx(16, rel=0.02)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(PocketlensError, match="'fog' is not one of blur, jpeg"):
        corrupt(IMAGE, "fog", 1)
