"""Latency as a picture: a bar a run, divided into its stages, one SVG file."""

from collections.abc import Sequence

from encoder.evaluation.markup import Html, element
from export.latency_record import STAGES, LatencyRun

_WIDTH, _ROW, _BAR = 860, 40, 16
_LEFT, _TOP, _RIGHT, _BOTTOM = 12, 34, 90, 40
# Told apart by lightness as well as by hue, in the order of the stages.
_COLOURS = ("#0b3c5d", "#328cc1", "#8a5a00", "#c9a227", "#6b6e73")
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1c1d1f; }
.grid { stroke: #dcdcd8; } .tail { stroke: #1c1d1f; stroke-width: 1.5; } svg { background: #fff; }
"""


def draw_latency(runs: Sequence[LatencyRun]) -> str:
    """Return an SVG: each run's median stages end to end, and a line on to p95 of the total."""
    parts = [name for name in STAGES if name != "total" and any(name in r.ms for r in runs)]
    longest = max(max(run.ms["total"]["p95"], _sum_stages(run, parts)) for run in runs)
    height = _TOP + _ROW * len(runs) + _BOTTOM

    def x(ms: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * ms / max(longest, 1e-6), 1)

    def draw(place: int, run: LatencyRun) -> Html:
        top, start = _TOP + _ROW * place, 0.0
        bars: list[Html] = []
        for name in parts:
            ms = run.ms[name]["p50"] if name in run.ms else 0.0
            title = element("title", f"{name}: {ms:.2f} ms")
            bars.append(
                element(
                    "rect", title, x=x(start), y=top + 18, width=round(x(start + ms) - x(start), 1),
                    height=_BAR, fill=_COLOURS[parts.index(name)],
                )
            )  # fmt: skip
            start += ms
        total, middle = run.ms["total"], top + 18 + _BAR / 2
        end = x(max(start, total["p95"]))
        return element(
            "g",
            element("text", run.title, x=_LEFT, y=top + 13),
            *bars,
            element("path", d=f"M{x(start)} {middle}H{end}", class_="tail"),
            element("text", f"{total['p50']:.2f} ms", x=end + 6, y=middle + 4),
        )

    key = [
        element(
            "g",
            element("rect", x=_LEFT + 110 * at, y=10, width=12, height=12, fill=_COLOURS[at]),
            element("text", name, x=_LEFT + 110 * at + 18, y=20),
        )
        for at, name in enumerate(parts)
    ]
    label = "Milliseconds of a warm query: medians of the stages; the line ends at p95 of the total"
    return element(
        "svg",
        element("style", Html(_STYLE)),
        *key,
        *(draw(place, run) for place, run in enumerate(runs)),
        element("text", label, x=_LEFT, y=height - 12),
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {height}",
        width=_WIDTH, height=height, role="img", aria_label=label,
    )  # fmt: skip


def _sum_stages(run: LatencyRun, parts: Sequence[str]) -> float:
    return sum(run.ms[name]["p50"] for name in parts if name in run.ms)
