"""The tables of figures: the rows, and how they differ from the first."""

from collections.abc import Iterator, Sequence

from encoder.evaluation.markup import Html, breakable, element, join
from encoder.evaluation.metrics import figure_title
from encoder.evaluation.report_data import Difference, Measured, Report, ReportRow
from encoder.evaluation.report_table import (
    draw_row,
    draw_table,
    figure_cell,
    list_figures,
    number_cell,
    show_interval,
    show_number,
)

_MEANINGS = {
    "r_precision": "of the R images of the query's class, the share among its first R answers",
    "map_at_r": "R-prec that also rewards right answers for coming early",
    "map": "mean average precision over the whole ranking",
}


def draw_rows(report: Report) -> Html:
    """Return the table of all rows, each figure over its interval."""
    names = list_figures(row.measured for row in report.rows)
    rows = (
        element(
            "tr",
            element("th", join(breakable(row.name), *_judged(row)), scope="row"),
            *(figure_cell(row.measured, name) for name in names),
            *_clusters_cell(report, row),
            _queries_cell(row),
        )
        for row in report.rows
    )
    caption = "Mean over queries in per cent, and below it the 95 % bootstrap interval"
    head = ["Row", *map(figure_title, names), *(["NMI"] if report.clusters else []), "Queries"]
    note = _explain(names, clusters=bool(report.clusters))
    return join(draw_table("rows", caption, head, rows), element("p", note, class_="note"))


def _judged(row: ReportRow) -> Iterator[Html]:
    stored = [] if row.storage == "float" else [row.storage]
    if row.dim is not None:
        stored.append(f"{row.dim:,} dimensions")
    if stored:
        yield join(" ", element("small", ", ".join(stored)))


def _clusters_cell(report: Report, row: ReportRow) -> Iterator[Html]:
    if row.name in report.clusters:
        yield number_cell(show_number(report.clusters[row.name]), "no interval")
    elif report.clusters:
        yield number_cell("not measured")


def _queries_cell(row: ReportRow) -> Html:
    left = [f"{row.without_answer:,} left out"] if row.without_answer else []
    return number_cell(f"{row.queries:,}", *left)


def _explain(names: Sequence[str], *, clusters: bool) -> str:
    parts = ["R@k: the share of queries with an image of their class among the first k answers"]
    parts += [f"{figure_title(name)}: {_MEANINGS[name]}" for name in names if name in _MEANINGS]
    if clusters:
        parts.append(
            "NMI: normalised mutual information of the classes with k-means clusters, which differ "
            "from run to run by more than most methods do"
        )
    parts.append("queries left out: those of which the database holds no other image")
    return "; ".join(parts) + "."


def draw_differences(report: Report) -> Html | None:
    """Return how rows differ, in words and as a table for each baseline."""
    baselines = dict.fromkeys(difference.baseline for difference in report.differences)
    if not baselines:
        return None
    groups = [
        [each for each in report.differences if each.baseline == baseline] for baseline in baselines
    ]
    return join(
        *(_draw_group(f"differences-{number}", group) for number, group in enumerate(groups))
    )


def _draw_group(key: str, differences: Sequence[Difference]) -> Html:
    names = list_figures(each.measured for each in differences)
    rows = (
        draw_row(
            each.row,
            *(
                figure_cell(each.measured, name, signed=True, word=_judge(each.measured, name))
                for name in names
            ),
        )
        for each in differences
    )
    caption = (
        f"Difference from “{differences[0].baseline}” in percentage points, paired by query, and "
        "below it the 95 % interval; unclear: the interval includes zero"
    )
    said = element("ul", *map(_say, differences), class_="said")
    return join(said, draw_table(key, caption, ["Row", *map(figure_title, names)], rows))


def _say(difference: Difference) -> Html:
    """Say the first figure's difference as a sentence."""
    measured = difference.measured
    name = list_figures([measured])[0]
    title, word = figure_title(name), _judge(measured, name)
    beginning = {
        "higher": f" has a higher {title} than {difference.baseline}",
        "lower": f" has a lower {title} than {difference.baseline}",
        "unclear": f" is not clearly different in {title} from {difference.baseline}",
    }
    figure = show_number(measured.figures[name], signed=True)
    ends = show_interval(measured.intervals[name], signed=True)
    zero = "includes" if word == "unclear" else "excludes"
    end = f": {figure} points, interval {ends}, which {zero} zero."
    return element("li", element("strong", difference.row), beginning[word], end)


def _judge(measured: Measured, name: str) -> str:
    """Say on which side of zero the interval lies."""
    interval = measured.intervals[name]
    return "higher" if interval.low > 0 else "lower" if interval.high < 0 else "unclear"
