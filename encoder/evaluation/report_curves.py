"""The charts of a report, each with its table: recall by rank, and robustness by strength."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from encoder.evaluation.markup import Html, element, join
from encoder.evaluation.metrics import figure_title
from encoder.evaluation.report_charts import (
    Line,
    Point,
    draw_panel,
    draw_recall,
    draw_sample,
    round_up,
)
from encoder.evaluation.report_data import Corrupted, Report
from encoder.evaluation.report_table import (
    draw_row,
    draw_table,
    figure_cell,
    list_figures,
    number_cell,
    show_number,
    text_cell,
)
from encoder.evaluation.robustness import UNITS

# One drawing for telephones, one for wide screens and paper; the style sheet shows one of them.
_WIDTHS = MappingProxyType({"narrow": 340, "wide": 960})
_CLEAN = "none"


def draw_curves(report: Report) -> Html | None:
    """Return recall against rank as a chart and as a table."""
    if not report.curves:
        return None
    styles = _choose_styles(report)
    lines = [
        Line(
            name,
            styles[name],
            tuple(
                Point(rank, recall, f"{name}: R@{rank} {show_number(recall)} %")
                for rank, recall in zip(curve.ranks, curve.recall, strict=True)
            ),
        )
        for name, curve in report.curves
    ]
    label = f"Recall at k in per cent of {len(lines)} rows; the table below has the numbers"
    charts = (
        element("div", draw_recall(lines, width=width, label=label), class_=name)
        for name, width in _WIDTHS.items()
    )
    caption = "The share of queries with a right answer among the first k, in per cent"
    ranks = sorted({rank for _, curve in report.curves for rank in curve.ranks})
    rows = []
    for name, curve in report.curves:
        recall = dict(zip(curve.ranks, curve.recall, strict=True))
        cells = (show_number(recall[rank]) if rank in recall else "" for rank in ranks)
        rows.append(draw_row(name, *map(number_cell, cells)))
    head = ["Row", *(f"R@{rank}" for rank in ranks)]
    figure = element("figure", *charts, element("figcaption", caption))
    return join(figure, draw_table("curves", "The same as numbers", head, rows))


def draw_robustness(report: Report) -> Html | None:
    """Return a small chart for each corruption, their key, and a table of all."""
    if not report.robustness:
        return None
    figure = list_figures(each.measured for each in report.robustness)[0]
    entries = [each for each in report.robustness if figure in each.measured.figures]
    # Where a row was also measured without corruption, its lines begin there.
    clean = {
        row.name: row.measured.figures[figure]
        for row in report.rows
        if figure in row.measured.figures
    }
    names = list(dict.fromkeys(each.row for each in entries))
    shown = [each.measured.figures[figure] for each in entries]
    high = round_up(max(shown + [clean[name] for name in names if name in clean]))
    styles = _choose_styles(report)
    keys = (element("li", draw_sample(styles[name]), " ", name) for name in names)
    title = figure_title(figure)
    panels = []
    for corruption in dict.fromkeys(each.corruption for each in entries):
        group = [each for each in entries if each.corruption == corruption]
        ticks, lines = _draw_lines(group, figure, clean, styles)
        label = f"{title} in per cent against {corruption}; the table below has the numbers"
        unit = element("small", f" {UNITS[corruption]}") if corruption in UNITS else ""
        heading = element("figcaption", element("strong", corruption), unit)
        panels.append(element("figure", heading, draw_panel(lines, ticks, high=high, label=label)))
    note = (
        f"{title} in per cent, from mild to harsh; only the query is harmed. “{_CLEAN}” is the row "
        "without corruption."
    )
    return join(
        element("p", note, class_="note"),
        element("ul", *keys, class_="key"),
        element("div", *panels, class_="panels"),
        _draw_strengths(entries, figure, names),
    )


def _choose_styles(report: Report) -> dict[str, int]:
    """Give every row a dash, marker and colour, the same in all charts."""
    names = [row.name for row in report.rows]
    names += [name for name, _ in report.curves]
    names += [each.row for each in report.robustness]
    return {name: style for style, name in enumerate(dict.fromkeys(names))}


def _draw_lines(
    entries: Sequence[Corrupted],
    figure: str,
    clean: Mapping[str, float],
    styles: Mapping[str, int],
) -> tuple[list[str], list[Line]]:
    """Return the names of the strengths of one corruption, and a line for each row."""
    names = list(dict.fromkeys(each.row for each in entries))
    strengths = list(dict.fromkeys(each.strength for each in entries))
    first = int(any(name in clean for name in names))
    place = {strength: number + first for number, strength in enumerate(strengths)}
    lines = []
    for name in names:
        points = [(0, _CLEAN, clean[name])] if name in clean else []
        points += [
            (place[each.strength], f"{each.strength:g}", each.measured.figures[figure])
            for each in entries
            if each.row == name
        ]
        named = (Point(x, y, f"{name}, {tick}: {show_number(y)} %") for x, tick, y in points)
        lines.append(Line(name, styles[name], tuple(named)))
    return [_CLEAN] * first + [f"{strength:g}" for strength in strengths], lines


def _draw_strengths(entries: Sequence[Corrupted], figure: str, names: Sequence[str]) -> Html:
    """Return the table: a line for each corruption and strength, a column for each row."""
    measured = {(each.corruption, each.strength, each.row): each.measured for each in entries}
    rows = []
    for corruption, strength in dict.fromkeys((each.corruption, each.strength) for each in entries):
        found = (measured.get((corruption, strength, name)) for name in names)
        rows.append(
            draw_row(
                f"{corruption} {strength:g}",
                *(figure_cell(each, figure) if each else text_cell("") for each in found),
            )
        )
    caption = f"{figure_title(figure)} in per cent, and below it the 95 % interval"
    return draw_table("robustness", caption, ["Corruption", *names], rows)
