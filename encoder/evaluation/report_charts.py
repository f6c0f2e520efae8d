"""Line charts of a report as SVG: lines differ in dash and marker, and in colour besides."""

import dataclasses
import math
import textwrap
from collections.abc import Iterable, Sequence

from encoder.evaluation.markup import Html, element

# Five dashes and six markers: thirty lines before two are alike.
_DASHES = (None, "7 4", "2 3", "10 3 2 3", "4 2")
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-4.8 4.6 3.4h-9.2z",
    "M0-5 5 0 0 5-5 0z",
    "M0 4.8 4.6-3.4h-9.2z",
    "M-1.4-4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
)
_HUES = 6
# Pixels of the font that the style sheet sets in charts.
_LINE_HEIGHT, _CHARACTER = 14, 6.6
_NAME_LINES, _NAME_GAP = 3, 6
_STEPS = (2, 5, 10, 20)
_MOST_STEPS = 6


@dataclasses.dataclass(frozen=True)
class Point:
    """Hold a point of a line, and how it is named where one points at it."""

    x: float
    per_cent: float
    title: str


@dataclasses.dataclass(frozen=True)
class Line:
    """Hold one line of a chart; `style` is its place in the key."""

    name: str
    style: int
    points: tuple[Point, ...]


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
        """Return the pixel of a value; a value that is alone lies in the middle."""
        share = (value - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return round(self.left + self.width * share, 2)

    def y(self, per_cent: float) -> float:
        """Return the pixel of a figure in per cent."""
        share = (per_cent - self.low) / (self.high - self.low)
        return round(self.top + self.height * (1 - share), 2)


def draw_recall(lines: Sequence[Line], *, width: int, label: str) -> Html:
    """Draw recall against k on a log2 axis, each line named at its end.

    `label` says what the chart shows to those who cannot see it.
    """
    ranks = sorted({point.x for line in lines for point in line.points})
    column = min(230, round(width * 0.33))
    names = [_wrap(line.name, column - 26) for line in lines]
    needed = sum(_name_height(name) + _NAME_GAP for name in names)
    height = max(200, min(width // 2, 320), needed)
    low, high = _range([point.per_cent for line in lines for point in line.points])
    ends = math.log2(ranks[0]), math.log2(ranks[-1])
    plot = Plot(50, 12, width - column - 60, height, *ends, low, high)
    logged = [
        dataclasses.replace(line, points=tuple(map(_take_log, line.points))) for line in lines
    ]
    ticks = [(math.log2(rank), f"{rank:g}") for rank in ranks]
    middle = plot.left + plot.width / 2
    return _draw_chart(
        (width, height + 54),
        label,
        *_draw_axes(plot, _thin_out(ticks, plot)),
        element("text", "k (log scale)", x=middle, y=height + 48, text_anchor="middle"),
        *(_draw_line(plot, line) for line in logged),
        *_draw_names(plot, logged, names),
    )


def draw_panel(lines: Sequence[Line], ticks: Sequence[str], *, high: float, label: str) -> Html:
    """Draw a small chart from 0 to `high` per cent; point x lies above tick number x."""
    plot = Plot(40, 10, 196, 110, 0, len(ticks) - 1, 0, high)
    return _draw_chart(
        (256, 142),
        label,
        *_draw_axes(plot, [(number, tick) for number, tick in enumerate(ticks)]),
        *(_draw_line(plot, line) for line in lines),
    )


def draw_sample(style: int) -> Html:
    """Draw a short piece of a line, for a key."""
    return element(
        "svg",
        element("path", d="M2 8h36", class_="curve", stroke_dasharray=_dash(style)),
        _draw_marker(style, 20, 8),
        viewBox="0 0 40 16", width=40, height=16, class_=_hue(style), aria_hidden="true",
    )  # fmt: skip


def round_up(per_cent: float) -> float:
    """Return the next whole ten, at least ten: where an axis from 0 ends."""
    return max(10, 10 * math.ceil(per_cent / 10))


def _take_log(point: Point) -> Point:
    return dataclasses.replace(point, x=math.log2(point.x))


def _range(figures: Sequence[float]) -> tuple[float, float]:
    """Return the whole tens around the figures, at least ten apart."""
    high = round_up(max(figures))
    return min(10 * math.floor(min(figures) / 10), high - 10), high


def _draw_chart(size: tuple[float, float], label: str, *parts: Html) -> Html:
    width, height = size
    return element(
        "svg", *parts, viewBox=f"0 0 {width} {height}", width=width, height=height,
        class_="chart", role="img", aria_label=label,
    )  # fmt: skip


def _draw_axes(plot: Plot, ticks: Iterable[tuple[float, str]]) -> list[Html]:
    span = plot.high - plot.low
    step = next((step for step in _STEPS if span / step <= _MOST_STEPS), _STEPS[-1])
    levels = [plot.low + step * number for number in range(int(span / step) + 1)]
    right, bottom = plot.left + plot.width, plot.top + plot.height
    grid = (
        element("path", d=f"M{plot.left:g} {plot.y(level):g}H{right:g}", class_="grid")
        for level in levels
    )
    # The topmost level says what they all are.
    marks = (
        element(
            "text", f"{level:g}" + (" %" if level == levels[-1] else ""),
            x=plot.left - 6, y=round(plot.y(level) + 4, 2), text_anchor="end",
        )
        for level in levels
    )  # fmt: skip
    below = (
        element("text", text, x=plot.x(value), y=bottom + 18, text_anchor="middle")
        for value, text in ticks
    )
    return [*grid, *marks, *below]


def _thin_out(ticks: Sequence[tuple[float, str]], plot: Plot) -> list[tuple[float, str]]:
    """Leave out ticks whose texts would touch, counted from the first."""
    kept: list[tuple[float, str]] = []
    for value, text in ticks:
        room = _CHARACTER * max(len(text), 2) + 4
        if not kept or plot.x(value) - plot.x(kept[-1][0]) >= room:
            kept.append((value, text))
    return kept


def _draw_line(plot: Plot, line: Line) -> Html:
    way = "L".join(f"{plot.x(at.x):g} {plot.y(at.per_cent):g}" for at in line.points)
    marks = (
        _draw_marker(line.style, plot.x(point.x), plot.y(point.per_cent), point.title)
        for point in line.points
    )
    curve = element("path", d=f"M{way}", class_="curve", stroke_dasharray=_dash(line.style))
    return element("g", curve, *marks, class_=_hue(line.style))


def _draw_marker(style: int, x: float, y: float, title: str = "") -> Html:
    shape = _MARKERS[style % len(_MARKERS)]
    named = [element("title", title)] if title else []
    return element("path", *named, d=shape, class_="mark", transform=f"translate({x:g} {y:g})")


def _draw_names(plot: Plot, lines: Sequence[Line], names: Sequence[list[str]]) -> list[Html]:
    """Name each line beside its end, moved apart where the ends are close."""
    ends = [plot.y(line.points[-1].per_cent) for line in lines]
    heights = [_name_height(name) + _NAME_GAP for name in names]
    centres = _move_apart(ends, heights, plot.top, plot.top + plot.height)
    start = plot.left + plot.width
    return [
        element(
            "g",
            element(
                "path", class_="leader",
                d=f"M{plot.x(line.points[-1].x) + 6:g} {end:g}L{start + 16:g} {centre:g}",
            ),
            element(
                "text",
                *(
                    element("tspan", text, x=start + 20, dy=_LINE_HEIGHT if number else 0)
                    for number, text in enumerate(name)
                ),
                y=round(centre - _name_height(name) / 2 + 10.5, 2), class_="name",
            ),
            class_=_hue(line.style),
        )
        for line, name, end, centre in zip(lines, names, ends, centres, strict=True)
    ]  # fmt: skip


def _move_apart(
    wanted: Sequence[float], heights: Sequence[float], top: float, bottom: float
) -> list[float]:
    """Return centres near those wanted, in their order, whose heights do not overlap."""
    placed = [0.0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    edge = top
    for index in order:
        placed[index] = max(wanted[index], edge + heights[index] / 2)
        edge = placed[index] + heights[index] / 2
    edge = bottom
    for index in reversed(order):
        placed[index] = min(placed[index], edge - heights[index] / 2)
        edge = placed[index] - heights[index] / 2
    return [round(centre, 2) for centre in placed]


def _wrap(name: str, width: float) -> list[str]:
    characters = max(4, int(width / _CHARACTER))
    lines = textwrap.wrap(name, characters, max_lines=_NAME_LINES, placeholder="…")
    return lines or ["(no name)"]


def _name_height(name: Sequence[str]) -> int:
    return _LINE_HEIGHT * len(name)


def _dash(style: int) -> str | None:
    return _DASHES[style % len(_DASHES)]


def _hue(style: int) -> str:
    return f"hue-{style % _HUES}"
