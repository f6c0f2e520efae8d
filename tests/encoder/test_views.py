import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from encoder.errors import PocketlensError
from encoder.views import (
    VIEW,
    ViewRecipe,
    colour_map,
    forget_colour,
    needs_partner,
    render_view,
    sample_views,
)

RECIPE = ViewRecipe()
GEOMETRY = ViewRecipe(brightness=0, contrast=0, saturation=0, hue=0, mix_alpha=0)


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
    view = sample_views(GEOMETRY, np.array([width / height]), np.random.default_rng(seed))[0]
    box_width, box_height = view["box"][2] * width, view["box"][3] * height
    for axis, (channel, extent) in enumerate(((0, box_width), (1, box_height))):
        centres = []
        for size in sizes:
            cut = render_view(image, None, view, size).astype(float)[..., channel]
            line = cut.mean(axis=axis)
            inner = line[size // 4 : -(size // 4)]
            centres.append(inner.mean())
            slope = abs(np.polyfit(np.arange(len(inner)), inner, 1)[0]) * size
            assert slope == pytest.approx(extent, rel=0.1, abs=2.5)
        assert abs(centres[0] - centres[1]) <= 1.0


def test_a_cut_is_resized_as_asked() -> None:
    """As Pillow resizes the part alone, but for its last columns, which see beyond it."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    view = one_view(box=(0.0, 0.0, 0.5, 1.0))[0]
    cuts = []
    for how in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
        cuts.append(render_view(image, None, view, 20, how).astype(int))
        expected = Image.fromarray(image[:, :30]).resize((20, 20), how)
        assert np.abs(cuts[-1] - np.asarray(expected))[:, :-2].max() <= 1
    assert np.abs(cuts[0] - cuts[1]).max() > 10


def test_flip_mirrors_the_cut() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    views = sample_views(ViewRecipe(flip=0.0), np.array([1.5]), np.random.default_rng(1))
    flipped = views.copy()
    flipped["flip"] = True
    np.testing.assert_array_equal(
        render_view(image, None, views[0], 32)[:, ::-1], render_view(image, None, flipped[0], 32)
    )


def one_view(**fields: object) -> np.ndarray:
    views = np.zeros(1, VIEW)
    views["box"], views["jitter"] = (0, 0, 1, 1), (1, 1, 1, 0)
    views["partner"], views["weight"] = -1, 1
    for name, value in fields.items():
        views[name] = value
    return views


def colour(pixel: list[int], **fields: object) -> np.ndarray:
    image = np.full((4, 4, 3), pixel, np.uint8)
    rendered = render_view(image, None, one_view(**fields)[0], 4)
    assert (rendered == rendered[0, 0]).all()
    return rendered[0, 0].astype(float)


def test_neutral_factors_change_nothing() -> None:
    assert colour([10, 100, 250]).tolist() == [10, 100, 250]
    almost = colour([10, 100, 250], jitter=(1 + 1e-6, 1, 1, 0))
    assert almost.tolist() == [10, 100, 250]


def test_each_factor_does_what_its_name_says() -> None:
    assert colour([10, 50, 100], jitter=(1.2, 1, 1, 0)).tolist() == [12, 60, 120]
    contrast = colour([127, 50, 200], jitter=(1, 0.5, 1, 0))
    np.testing.assert_allclose(contrast, [127.25, 88.75, 163.75], atol=0.5)
    grey = 0.299 * 10 + 0.587 * 50 + 0.114 * 100
    np.testing.assert_allclose(colour([10, 50, 100], jitter=(1, 1, 0, 0)), [grey] * 3, atol=0.5)
    turned = colour([200, 50, 50], jitter=(1, 1, 1, 0.5))
    assert turned[0] < turned[1] and turned[0] < turned[2]
    np.testing.assert_allclose(colour([90, 90, 90], jitter=(1, 1, 1.3, 0.2)), [90] * 3, atol=0.5)


def test_views_of_any_colour_show_all_hues_and_nothing_else_is_changed() -> None:
    plain = ViewRecipe(mix_alpha=0.0)
    recipe = forget_colour(plain)
    drawn = sample_views(recipe, np.ones(4000), np.random.default_rng(0))
    same = sample_views(plain, np.ones(4000), np.random.default_rng(0))
    hues, saturations = drawn["jitter"][:, 3], drawn["jitter"][:, 2]
    assert np.histogram(hues, 10, (-0.5, 0.5))[0].min() > 300
    assert saturations.min() < 0.15 and saturations.max() > 1.85
    assert np.array_equal(drawn["box"], same["box"])
    assert np.array_equal(drawn["jitter"][:, :2], same["jitter"][:, :2])


def test_colours_are_clamped() -> None:
    assert colour([250, 0, 0], jitter=(1.3, 1.3, 1, 0)).tolist()[0] == 255
    assert colour([250, 0, 0], jitter=(1.3, 1.3, 1, 0)).min() == 0


def test_maps_agree_with_the_steps_one_by_one() -> None:
    rng = np.random.default_rng(2)
    views = sample_views(RECIPE, np.ones(6), rng)
    for view in views:
        rows = np.reshape(colour_map(view), (3, 4))
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
        np.testing.assert_allclose(rows @ [*pixel, 1], step, atol=0.3)


def test_mixing_takes_the_weight_of_both() -> None:
    bright, dark = np.full((4, 4, 3), 200, np.uint8), np.full((8, 6, 3), 100, np.uint8)
    alone, mixed = one_view()[0], one_view(partner=0, weight=0.25)[0]
    assert not needs_partner(alone) and needs_partner(mixed)
    assert not needs_partner(one_view(partner=0, weight=0.9999)[0])
    assert (render_view(bright, None, alone, 4) == 200).all()
    assert (render_view(bright, dark, mixed, 4) == 0.25 * 200 + 0.75 * 100).all()


def test_a_partner_goes_through_the_same_box_flip_and_colours() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    view = sample_views(RECIPE, np.array([1.5]), rng, population=3)[0]
    view["weight"] = 0.0
    np.testing.assert_array_equal(
        render_view(255 - image, image, view, 32), render_view(image, None, view, 32)
    )


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
