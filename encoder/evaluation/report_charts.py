"""Line charts of a report as SVG: told apart by dash and marker, then by colour."""

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Sequence

from encoder.evaluation.markup import Html, element, join

# Numbers of colours, dashes and markers have few common divisors: thirty lines before one repeats.
_HUES = 6
_DASHES = (None, "7 4", "2 3", "10 3 2 3", "4 2")
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-4.8 4.6 3.4h-9.2z",
    "M0-5 5 0 0 5-5 0z",
    "M0 4.8 4.6-3.4h-9.2z",
    "M-4-1.4h2.6v-2.6h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6z",
)
_LINE_HEIGHT = 14
_CHARACTER = 6.6
_LABEL_LINES = 3
_STEPS = (1, 2, 5, 10, 20)


@dataclasses.dataclass(frozen=True)
class Line:
    """Hold one line of a chart: points of x and per cent; `style` is its place in the key."""

    name: str
    style: int
    points: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Plot:
    """Hold the rectangle that is drawn into, in pixels, and the values at its edges."""

    left: float
    top: float
    width: float
    height: float
    first: float
    last: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """Return the pixel of a value; a single value lies in the middle."""
        if self.last == self.first:
            return round(self.left + self.width / 2, 2)
        return round(self.left + self.width * (value - self.first) / (self.last - self.first), 2)

    def y(self, per_cent: float) -> float:
        """Return the pixel of a figure in per cent."""
        share = (per_cent - self.low) / (self.high - self.low)
        return round(self.top + self.height * (1 - share), 2)


def draw_recall(lines: Sequence[Line], *, width: int, label: str) -> Html:
    """Draw recall against k on a log2 axis, each line named at its end.

    Points are (k, per cent). `label` says to those who cannot see the chart what it shows.
    """
    ranks = sorted({rank for line in lines for rank, _ in line.points})
    column = min(220, round(width * 0.32))
    named = [_wrap(line.name, int((column - 24) / _CHARACTER)) for line in lines]
    needed = _LINE_HEIGHT * sum(map(len, named)) + 6 * len(named)
    height = max(round(min(width * 0.5, 320)), 200, needed)
    low, high = _range([figure for line in lines for _, figure in line.points])
    plot = Plot(
        34, 12, width - column - 42, height, math.log2(ranks[0]), math.log2(ranks[-1]), low, high
    )
    logged = [
        dataclasses.replace(line, points=tuple((math.log2(k), y) for k, y in line.points))
        for line in lines
    ]
    ticks = _thin_out([(math.log2(rank), f"{rank:g}") for rank in ranks], plot)
    axis = element(
        "text", "k (log scale)", x=plot.left + plot.width / 2, y=plot.top + height + 34,
        text_anchor="middle",
    )  # fmt: skip
    return _svg(
        width,
        height + 52,
        label,
        _draw_grid(plot),
        _draw_ticks(plot, ticks),
        axis,
        *(_draw_line(plot, line, f"{line.name}: R@") for line in map(_with_rank_names, logged)),
        *_draw_names(plot, logged, named),
    )


def draw_panel(
    lines: Sequence[Line], ticks: Sequence[str], *, high: float, label: str
) -> Html:
    """Draw a small chart from 0 to `high` per cent over evenly spaced, named positions."""
    plot = Plot(30, 10, 196, 112, 0, max(len(ticks) - 1, 0), 0, high)
    named = list(enumerate(ticks))
    return _svg(
        240,
        146,
        label,
        _draw_grid(plot),
        _draw_ticks(plot, named),
        *(_draw_line(plot, line, [f"{line.name}, {tick}" for tick in ticks]) for line in lines),
    )


def draw_sample(style: int) -> Html:
    """Draw a short piece of a line, for the key."""
    return element(
        "svg",
        element("path", d="M2 8h32", class_="curve", stroke_dasharray=_DASHES[style % len(_DASHES)]),
        element("path", d=_marker(style), class_=_fill(style), transform="translate(18 8)"),
        viewBox="0 0 36 16", width=36, height=16, class_=_hue(style), aria_hidden="true",
    )  # fmt: skip


def round_up(per_cent: float) -> float:
    """Return the next whole ten, at least ten: where an axis from 0 ends."""
    return max(10, 10 * math.ceil(per_cent / 10))
