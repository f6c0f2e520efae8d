"""Bootstrap intervals over queries: of one model, and of the difference of two (Efron, 1979).

Every figure and every model is resampled with the same queries, so that differences are paired.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Figures = NDArray[np.float64]
SAMPLES = 1000
# Weights held at a time: 64 MB.
_CHUNK_CELLS = 1 << 23


@dataclasses.dataclass(frozen=True)
class Interval:
    """Hold the ends of a 95 % interval, in per cent."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Return half of the width."""
        return (self.high - self.low) / 2


def intervals_to_json(intervals: dict[str, Interval]) -> dict[str, dict[str, float]]:
    """Return named intervals as plain JSON values."""
    return {name: dataclasses.asdict(ends) for name, ends in intervals.items()}


def bootstrap_interval(values: Figures, *, seed: int = 0, samples: int = SAMPLES) -> Interval:
    """Return the 95 % percentile interval of the mean over resampled queries, in per cent."""
    return bootstrap_intervals({"value": values}, seed=seed, samples=samples)["value"]


def bootstrap_intervals(
    figures: dict[str, Figures], *, seed: int = 0, samples: int = SAMPLES
) -> dict[str, Interval]:
    """Return the interval of every figure's mean; the figures share their resampled queries."""
    means: dict[str, list[Figures]] = {name: [] for name in figures}
    for weights in _draw_weights(len(next(iter(figures.values()))), seed, samples):
        for name, values in figures.items():
            means[name].append(weights @ values / len(values))
    return {name: _interval(np.concatenate(parts)) for name, parts in means.items()}


def paired_difference(
    figures: Figures, baseline: Figures, *, seed: int = 0, samples: int = SAMPLES
) -> Interval:
    """Return the interval of the difference of two means over the same queries, in per cent.

    Raises:
        ValueError: when the two are not of the same queries.
    """
    if figures.shape != baseline.shape:
        raise ValueError(f"{len(figures)} and {len(baseline)} queries cannot be paired")
    return bootstrap_interval(figures - baseline, seed=seed, samples=samples)


def _interval(means: Figures) -> Interval:
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(100 * float(low), 100 * float(high))


def _draw_weights(count: int, seed: int, samples: int) -> Iterator[Figures]:
    """Yield how often each query is drawn `[some samples, count]`, from one stream of numbers."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK_CELLS // max(count, 1))
    for start in range(0, samples, step):
        drawn = [
            np.bincount(rng.integers(0, count, count), minlength=count)
            for _ in range(start, min(start + step, samples))
        ]
        yield np.stack(drawn).astype(np.float64)
