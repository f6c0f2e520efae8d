import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import PocketlensError
from encoder.views import (
    VIEW,
    ViewRecipe,
    colour_and_mix,
    colour_maps,
    cut_view,
    needs_partner,
    sample_views,
)

RECIPE = ViewRecipe()


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    low=st.floats(0.05, 0.9),
    aspect=st.floats(0.2, 5.0),
    fit=st.sampled_from(["squash", "crop"]),
)
def test_boxes_lie_inside_the_image(seed: int, low: float, aspect: float, fit: str) -> None:
    recipe = ViewRecipe(scale=(low, 1.0), fit=fit)  # type: ignore[arg-type]
    views = sample_views(recipe, np.full(20, aspect), np.random.default_rng(seed), population=9)
    left, top, width, height = views["box"].T
    assert (views["box"] >= 0).all() and (width > 0).all() and (height > 0).all()
    assert (left + width <= 1 + 1e-6).all() and (top + height <= 1 + 1e-6).all()
    assert ((views["partner"] >= 0) & (views["partner"] < 9)).all()
    assert ((views["weight"] >= 0) & (views["weight"] <= 1)).all()


def test_sampling_is_deterministic_by_seed() -> None:
    drawn = [
        sample_views(RECIPE, np.ones(8), np.random.default_rng(seed), population=5)
        for seed in (3, 3, 4)
    ]
    assert drawn[0].tobytes() == drawn[1].tobytes() != drawn[2].tobytes()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), sizes=st.tuples(st.integers(16, 60), st.integers(61, 160)))
def test_a_view_covers_the_same_region_at_every_size(seed: int, sizes: tuple[int, int]) -> None:
    """On a picture whose values are its coordinates, the cut's ends tell the region in pixels."""
    height, width = 200, 250
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    view = sample_views(RECIPE, np.array([width / height]), np.random.default_rng(seed))[0]
    box_width, box_height = view["box"][2] * width, view["box"][3] * height
    for axis, (channel, extent) in enumerate(((0, box_width), (1, box_height))):
        centres = []
        for size in sizes:
            cut = cut_view(image, view, size).astype(float)[..., channel]
            line = cut.mean(axis=axis)
            inner = line[size // 4 : -(size // 4)]
            centres.append(inner.mean())
            slope = abs(np.polyfit(np.arange(len(inner)), inner, 1)[0]) * size
            assert slope == pytest.approx(extent, rel=0.1, abs=2.5)
        assert abs(centres[0] - centres[1]) <= 1.0


def test_flip_mirrors_the_cut() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    views = sample_views(ViewRecipe(flip=0.0), np.array([1.5]), np.random.default_rng(1))
    flipped = views.copy()
    flipped["flip"] = True
    np.testing.assert_array_equal(
        cut_view(image, views[0], 32)[:, ::-1], cut_view(image, flipped[0], 32)
    )


def one_view(**fields: object) -> np.ndarray:
    views = np.zeros(1, VIEW)
    views["box"], views["jitter"] = (0, 0, 1, 1), (1, 1, 1, 0)
    views["partner"], views["weight"] = -1, 1
    for name, value in fields.items():
        views[name] = value
    return views


def colour(pixel: list[float], **fields: object) -> np.ndarray:
    images = torch.tensor(pixel).reshape(1, 1, 1, 3)
    return colour_and_mix(images, None, one_view(**fields)).numpy().ravel()


def test_neutral_factors_change_nothing() -> None:
    np.testing.assert_allclose(colour([10, 100, 250]), [10, 100, 250], atol=1e-3)


def test_each_factor_does_what_its_name_says() -> None:
    np.testing.assert_allclose(
        colour([10, 50, 100], jitter=(1.2, 1, 1, 0)), [12, 60, 120], atol=0.1
    )
    np.testing.assert_allclose(
        colour([127.5, 50, 200], jitter=(1, 0.5, 1, 0)), [127.5, 88.75, 163.75], atol=0.1
    )
    grey = 0.299 * 10 + 0.587 * 50 + 0.114 * 100
    np.testing.assert_allclose(colour([10, 50, 100], jitter=(1, 1, 0, 0)), [grey] * 3, atol=0.1)
    turned = colour([200, 50, 50], jitter=(1, 1, 1, 0.5))
    assert turned[0] < turned[1] and turned[0] < turned[2]
    np.testing.assert_allclose(colour([90, 90, 90], jitter=(1, 1, 1.3, 0.2)), [90] * 3, atol=0.2)


def test_colours_are_clamped() -> None:
    assert colour([250, 0, 0], jitter=(1.3, 1.3, 1, 0)).max() <= 255


def test_maps_agree_with_the_steps_one_by_one() -> None:
    rng = np.random.default_rng(2)
    views = sample_views(RECIPE, np.ones(6), rng)
    matrix, offset = colour_maps(views)
    for view, m, o in zip(views, matrix, offset, strict=True):
        pixel = rng.uniform(60, 200, 3)
        bright, contrast, saturation, hue = map(float, view["jitter"])
        step = pixel * bright
        # The offset is defined on mid-grey: brightness and contrast as one scale about it.
        step = contrast * step + (1 - contrast) * 127.5
        luma = np.array([0.299, 0.587, 0.114])
        step = saturation * step + (1 - saturation) * (luma @ step)
        to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
        y, i, q = to_yiq @ step
        c, s = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue)
        step = np.linalg.inv(to_yiq) @ [y, c * i - s * q, s * i + c * q]
        np.testing.assert_allclose(m @ pixel + o, step, atol=0.3)


def test_mixing_takes_the_weight_of_both() -> None:
    images = torch.full((2, 4, 4, 3), 200.0)
    views = np.concatenate([one_view(), one_view(partner=0, weight=0.25)])
    assert needs_partner(views).tolist() == [False, True]
    mixed = colour_and_mix(images, torch.full((1, 4, 4, 3), 100.0), views)
    np.testing.assert_allclose(mixed[0], 200, atol=1e-3)
    np.testing.assert_allclose(mixed[1], 0.25 * 200 + 0.75 * 100, atol=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        {"scale": (0.9, 0.1)},
        {"scale": (0.0, 1.0)},
        {"ratio": (2, 1)},
        {"hue": 0.6},
        {"contrast": 1.5},
    ],
)
def test_bad_recipes_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(PocketlensError, match=next(iter(bad))):
        ViewRecipe(**bad)  # type: ignore[arg-type]
