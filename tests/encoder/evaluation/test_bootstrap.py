"""Tests of the bootstrap intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.evaluation import bootstrap
from encoder.evaluation.bootstrap import (
    bootstrap_interval,
    bootstrap_intervals,
    paired_difference,
)

values = st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array)


@given(values, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_interval_contains_the_mean_and_is_deterministic(
    figures: np.ndarray, seed: int
) -> None:
    interval = bootstrap_interval(figures, seed=seed, samples=300)
    mean = 100 * float(figures.mean())
    assert interval.low - 1e-9 <= mean <= interval.high + 1e-9
    assert 100 * figures.min() - 1e-9 <= interval.low <= interval.high
    assert interval.high <= 100 * figures.max() + 1e-9
    assert bootstrap_interval(figures, seed=seed, samples=300) == interval


def test_another_seed_draws_another_interval() -> None:
    figures = np.random.default_rng(0).random(50)
    assert bootstrap_interval(figures, seed=0) != bootstrap_interval(figures, seed=1)


def test_the_interval_is_that_of_the_normal_law() -> None:
    figures = (np.arange(400) < 300).astype(float)
    interval = bootstrap_interval(figures)
    half = 196 * np.sqrt(0.75 * 0.25 / 400)
    assert interval.low == pytest.approx(75 - half, abs=0.6)
    assert interval.high == pytest.approx(75 + half, abs=0.6)


def test_against_drawing_the_queries_one_by_one() -> None:
    figures = np.random.default_rng(1).random(40)
    rng = np.random.default_rng(5)
    means = [figures[rng.integers(0, 40, 40)].mean() for _ in range(200)]
    interval = bootstrap_interval(figures, seed=5, samples=200)
    assert [interval.low, interval.high] == pytest.approx(
        list(100 * np.quantile(means, [0.025, 0.975])), abs=1e-9
    )


def test_figures_share_their_queries_and_chunks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    figures = {"a": rng.random(30), "b": rng.random(30)}
    together = bootstrap_intervals(figures, seed=3)
    assert together["b"] == bootstrap_interval(figures["b"], seed=3)
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 70)
    apart = bootstrap_intervals(figures, seed=3)
    for name, interval in together.items():
        assert [apart[name].low, apart[name].high] == pytest.approx([interval.low, interval.high])


def test_the_difference_of_two_models_is_paired() -> None:
    """Two models that fail on the same hard queries differ surely, if slightly."""
    rng = np.random.default_rng(4)
    baseline = (rng.random(400) < 0.6).astype(float)
    better = baseline.copy()
    better[np.flatnonzero(baseline == 0)[:12]] = 1
    difference = paired_difference(better, baseline)
    assert 0 < difference.low < 3 < difference.high
    one, other = bootstrap_interval(better), bootstrap_interval(baseline)
    assert one.low < other.high
    assert paired_difference(baseline, baseline) == bootstrap.Interval(0.0, 0.0)
    with pytest.raises(ValueError, match="400 and 399 queries"):
        paired_difference(better, baseline[1:])
