"""A compatibility matrix as one page that needs nothing else, in the reports' style."""

from collections.abc import Sequence

from encoder.evaluation.backfill_curves import Curve
from encoder.evaluation.markup import Html, element, join
from encoder.evaluation.matrix import Cell, Matrix
from encoder.evaluation.metrics import figure_title
from encoder.evaluation.page import frame_page
from encoder.evaluation.protocol import COMPARED
from encoder.evaluation.report_charts import Line, Point, draw_panel, draw_sample, round_up
from encoder.evaluation.report_table import (
    draw_row,
    draw_table,
    number_cell,
    show_interval,
    show_number,
    text_cell,
)


def build_matrix_page(matrix: Matrix, *, source: str, images: int, command: str) -> str:
    """Return the page."""
    verdict = "what is declared holds" if matrix.holds else "not all that is declared holds"
    drawn = {
        "declared": ("Declared", _draw_declared(matrix)),
        "pairs": ("Who asks which database", _draw_cells(matrix.cells)),
        "anew": ("Encoding anew, share by share", _draw_curves(matrix.curves)),
        "measured": ("What was measured", element("p", element("code", command))),
    }
    sections = {key: (name, body) for key, (name, body) in drawn.items() if body}
    lead = f"{images:,} images · {verdict}"
    return frame_page(f"Compatibility on {source}", lead, sections)


def _draw_declared(matrix: Matrix) -> Html | None:
    if not matrix.declared:
        return None
    rows = []
    for each in matrix.declared:
        cells = [
            number_cell(
                show_number(each.gain[name], signed=True),
                show_interval(each.intervals[name], signed=True),
            )
            for name in COMPARED
        ]
        cells += [
            number_cell(show_number(100 * each.update_gain[name]) if each.update_gain else "")
            for name in COMPARED
        ]
        cells += [
            number_cell(
                show_number(each.self_loss[name], signed=True),
                show_interval(each.self_intervals[name], signed=True),
            )
            if each.self_loss
            else number_cell("")
            for name in COMPARED
        ]
        verdict = text_cell("holds" if each.holds else "does not hold")
        rows.append(draw_row(f"{each.names[0]} → {each.names[1]}", *cells, verdict))
    named = [figure_title(name) for name in COMPARED]
    head = [
        "New query → old database",
        *(f"{name} over old queries" for name in named),
        *(f"Update gain in {name}, %" for name in named),
        *(f"{name} lost against independent" for name in named),
        "Verdict",
    ]
    caption = "Differences in per cent, with their 95 % intervals, paired by query"
    return draw_table("declared", caption, head, rows, words=["Verdict"])


def _draw_cells(cells: Sequence[Cell]) -> Html:
    rows = []
    for cell in cells:
        judging = cell.row.judging
        stored = f"{judging.dim or 'all'}, {judging.storage}"
        figures = (
            number_cell(
                show_number(cell.row.figures[name]), show_interval(cell.row.intervals[name])
            )
            for name in COMPARED
        )
        name = f"{cell.query} → {cell.database}"
        rows.append(draw_row(name, text_cell(cell.how), text_cell(stored), *figures))
    words = ["Through", "Dimensions, storage"]
    head = ["Query → database", *words, *map(figure_title, COMPARED)]
    caption = "Recall in per cent, with 95 % intervals; pairs that may not meet are left out"
    return draw_table("cells", caption, head, rows, words=words)


def _draw_curves(curves: Sequence[Curve]) -> Html | None:
    if not curves:
        return None
    figures = []
    for pair in dict.fromkeys((curve.query, curve.database) for curve in curves):
        group = [curve for curve in curves if (curve.query, curve.database) == pair]
        for name in COMPARED:
            figures.append(_draw_panel(group, name, " → ".join(pair)))
    keys = [
        element("li", draw_sample(at), " ", order)
        for at, order in enumerate(dict.fromkeys(curve.order for curve in curves))
    ]
    rows = []
    for curve in curves:
        cells = [
            number_cell(
                show_number(curve.area.figures[name]),
                ""
                if curve.order == "random"
                else show_interval(curve.over_random[name], signed=True),
            )
            for name in COMPARED
        ]
        rows.append(draw_row(f"{curve.query} → {curve.database}, {curve.order}", *cells))
    head = ["Order", *(f"{figure_title(name)}, mean over the shares" for name in COMPARED)]
    caption = "The mean over the shares, and the interval of its gain over a random order"
    return join(
        element("ul", *keys, class_="key"),
        element("div", *figures, class_="panels"),
        draw_table("areas", caption, head, rows),
    )


def _show_gain(curve: Curve, name: str) -> list[str]:
    if curve.order == "random":
        return []
    return [show_interval(curve.over_random[name], signed=True)]


def _draw_panel(curves: Sequence[Curve], name: str, pair: str) -> Html:
    ticks = [f"{share:.0%}" for share in curves[0].shares]
    lines = [
        Line(
            curve.order,
            at,
            tuple(
                Point(place, row.figures[name], f"{curve.order}, {tick} anew")
                for place, (row, tick) in enumerate(zip(curve.rows, ticks, strict=True))
            ),
        )
        for at, curve in enumerate(curves)
    ]
    high = round_up(max(point.per_cent for line in lines for point in line.points))
    title = figure_title(name)
    label = f"{title} in per cent against the share encoded anew, {pair}"
    heading = element("figcaption", element("strong", f"{pair}, {title}"))
    return element("figure", heading, draw_panel(lines, ticks, high=high, label=label))
