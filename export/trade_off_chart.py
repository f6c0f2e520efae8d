"""The trade-off as a picture: recall against milliseconds, one SVG file."""

import math
from collections.abc import Sequence

from encoder.evaluation.markup import Html, element
from export.trade_off import Candidate

_WIDTH, _HEIGHT = 760, 420
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 20, 24, 48
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1c1d1f; }
.grid { stroke: #dcdcd8; } .bar { stroke: #5b5e63; } .mark { fill: #5b5e63; }
.front { stroke: #0068a8; fill: none; stroke-width: 1.5; } .best { fill: #0068a8; }
svg { background: #fff; }
"""


def draw_trade_off(candidates: Sequence[Candidate]) -> str:
    """Return an SVG of R@1 with intervals against milliseconds on a log axis; the front is a line.

    Candidates come from fast to slow.
    """
    first, last = (math.log2(each.ms) for each in (candidates[0], candidates[-1]))
    room = max(0.25, 0.08 * (last - first))
    first, last = first - room, last + room
    intervals = [each.row.intervals["r1"] for each in candidates]
    low = 5 * math.floor(min(each.low for each in intervals) / 5)
    high = 5 * math.ceil(max(each.high for each in intervals) / 5)
    low = min(low, high - 5)

    def x(ms: float) -> float:
        share = (math.log2(ms) - first) / (last - first)
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(per_cent: float) -> float:
        share = (per_cent - low) / (high - low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    def draw(each: Candidate) -> Html:
        at, interval = x(each.ms), each.row.intervals["r1"]
        # The front rises to the right: below it there, and above it on the left, names are clear.
        left = at > 0.6 * _WIDTH
        return element(
            "g",
            element("path", d=f"M{at} {y(interval.low)}V{y(interval.high)}", class_="bar"),
            element("circle", cx=at, cy=y(each.recall), r=4, class_=_mark(each)),
            element(
                "text", f"{each.name}, {each.bytes / 1e6:.1f} MB",
                x=at - 8 if left else at + 8, y=y(each.recall) + (-6 if left else 16),
                text_anchor="end" if left else "start",
            ),
        )  # fmt: skip

    step = 5 if high - low <= 40 else 10
    levels = range(low, high + 1, step)
    grid = [
        element("path", d=f"M{_LEFT} {y(level)}H{_WIDTH - _RIGHT}", class_="grid")
        for level in levels
    ]
    marks = [
        element("text", f"{level} %", x=_LEFT - 6, y=y(level) + 4, text_anchor="end")
        for level in levels
    ]
    ticks = [
        element("text", f"{ms:.3g}", x=x(ms), y=_HEIGHT - _BOTTOM + 18, text_anchor="middle")
        for ms in _list_ticks(first, last) or [candidates[0].ms]
    ]
    way = "L".join(f"{x(each.ms)} {y(each.recall)}" for each in candidates if each.on_front)
    label = "R@1 against milliseconds from decoded pixels to the vector, one thread (log scale)"
    return element(
        "svg",
        element("style", Html(_STYLE)),
        *grid,
        *marks,
        *ticks,
        element("path", d=f"M{way}", class_="front"),
        *map(draw, candidates),
        element("text", label, x=_WIDTH / 2, y=_HEIGHT - 10, text_anchor="middle"),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH, height=_HEIGHT, role="img", aria_label=label,
    )  # fmt: skip


def _mark(each: Candidate) -> str:
    return "best" if each.on_front else "mark"


def _list_ticks(first: float, last: float) -> list[float]:
    """Return one, two and five times powers of ten between two logarithms of base two."""
    return [
        digit * 10.0**power
        for power in range(-4, 6)
        for digit in (1, 2, 5)
        if first <= math.log2(digit * 10.0**power) <= last
    ]
