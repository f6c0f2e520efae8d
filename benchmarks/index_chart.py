"""What an index costs as it grows, as a picture: milliseconds and bytes, one SVG file."""

import math
from collections.abc import Sequence

from encoder.evaluation.markup import Html, element

_WIDTH, _HEIGHT, _GAP = 360, 300, 40
_LEFT, _TOP, _BOTTOM = 52, 34, 44
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1c1d1f; } .title { font-weight: 600; }
.grid { stroke: #dcdcd8; } .first { stroke: #0068a8; } .second { stroke: #b4551c; }
.line { fill: none; stroke-width: 2; } svg { background: #fff; }
"""


def draw_sizes(figures: dict[str, float], sizes: Sequence[int]) -> str:
    """Return an SVG of two panels over the number of vectors, both axes logarithmic."""
    label = "One search on one thread, and bytes a vector, by the number of vectors"
    panels = (
        ("milliseconds a search", (("p50_ms", "p50"), ("p95_ms", "p95"))),
        ("bytes a vector", (("bytes_per_vector", "held"), ("disk_bytes_per_vector", "on disk"))),
    )
    width = _WIDTH * len(panels) + _GAP
    drawn = [
        element(
            "g", *_draw_panel(title, lines, figures, sizes),
            transform=f"translate({at * (_WIDTH + _GAP)} 0)",
        )
        for at, (title, lines) in enumerate(panels)
    ]  # fmt: skip
    return element(
        "svg", element("style", Html(_STYLE)), *drawn,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {_HEIGHT}",
        width=width, height=_HEIGHT, role="img", aria_label=label,
    )  # fmt: skip


def _draw_panel(
    title: str,
    lines: Sequence[tuple[str, str]],
    figures: dict[str, float],
    sizes: Sequence[int],
) -> list[Html]:
    values = {name: [figures[f"size.{size}.{name}"] for size in sizes] for name, _ in lines}
    every = [value for found in values.values() for value in found]
    ticks = _list_ticks(min(every), max(every))
    low, high = (math.log10(end) for end in (ticks[0], ticks[-1]))
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])
    right = _WIDTH - 64

    def x(size: float) -> float:
        return round(_LEFT + (math.log10(size) - first) / (last - first) * (right - _LEFT), 1)

    def y(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = [element("text", title, x=_LEFT, y=18, class_="title")]
    for tick in ticks:
        parts += [
            element("path", d=f"M{_LEFT} {y(tick)}H{right}", class_="grid"),
            element("text", f"{tick:g}", x=_LEFT - 6, y=y(tick) + 4, text_anchor="end"),
        ]
    for size in sizes:
        if math.log10(size).is_integer():
            parts.append(
                element(
                    "text", f"{size:,}", x=x(size), y=_HEIGHT - _BOTTOM + 18, text_anchor="middle"
                )
            )
    ends = _spread([y(values[name][-1]) for name, _ in lines])
    for (name, said), mark, end in zip(lines, ("first", "second"), ends, strict=True):
        way = "L".join(
            f"{x(size)} {y(value)}" for size, value in zip(sizes, values[name], strict=True)
        )
        parts += [
            element("path", d=f"M{way}", class_=f"line {mark}"),
            element("text", said, x=right + 6, y=end + 4),
        ]
    middle = (_LEFT + right) / 2
    parts.append(element("text", "vectors", x=middle, y=_HEIGHT - 8, text_anchor="middle"))
    return parts


def _spread(ends: list[float], apart: float = 14) -> list[float]:
    """Move two names from each other where they would overlap."""
    first, second = ends
    missing = max(0.0, apart - abs(first - second)) / 2
    way = 1 if first > second else -1
    return [first + way * missing, second - way * missing]


def _list_ticks(low: float, high: float) -> list[float]:
    """Return one, two and five times powers of ten around what is shown."""
    every = [digit * 10.0**power for power in range(-3, 7) for digit in (1, 2, 5)]
    first = max(at for at, tick in enumerate(every) if tick <= low)
    last = min(at for at, tick in enumerate(every) if tick >= high)
    return every[first : last + 1]
