"""Tables of a report: captioned, in a box of their own that scrolls where the screen is narrow."""

from collections.abc import Collection, Iterable

from encoder.evaluation.bootstrap import Interval
from encoder.evaluation.markup import Html, breakable, element, join
from encoder.evaluation.report_data import Measured, order_figures

_MINUS = "\N{MINUS SIGN}"


def draw_table(
    key: str,
    caption: str,
    head: Iterable[str],
    rows: Iterable[Html],
    *,
    words: Collection[str] = (),
) -> Html:
    """Return a table under its caption; `key` is its own in the page.

    `words` are the headings of columns that hold no numbers.
    """
    heading = element(
        "tr",
        *(
            element("th", breakable(cell), scope="col", class_="words" if cell in words else None)
            for cell in head
        ),
    )
    named = element("span", caption, id=f"caption-{key}")
    table = element(
        "table",
        element("caption", named),
        element("thead", heading),
        element("tbody", *rows),
    )
    return element(
        "div", table, class_="scroll", role="region", tabindex=0, aria_labelledby=f"caption-{key}"
    )


def draw_row(name: str, *cells: Html) -> Html:
    """Return a row under its name."""
    return element("tr", element("th", breakable(name), scope="row"), *cells)


def text_cell(text: str) -> Html:
    """Return a cell of words."""
    return element("td", breakable(text))


def number_cell(text: str, *notes: str) -> Html:
    """Return a cell of a number over smaller notes."""
    small = (element("small", note) for note in notes)
    return element("td", join(text, *(join(" ", note) for note in small)), class_="number")


def figure_cell(measured: Measured, name: str, *, signed: bool = False, word: str = "") -> Html:
    """Return a cell of a figure over its interval; an empty one where it was not measured."""
    if name not in measured.figures:
        return element("td", "not measured", class_="number")
    figure = show_number(measured.figures[name], signed=signed)
    ends = show_interval(measured.intervals[name], signed=signed)
    return number_cell(figure, ends, *([word] if word else []))


def show_number(value: float, *, signed: bool = False) -> str:
    """Return a number with one decimal and a typographic minus."""
    rounded = round(value, 1) or 0.0
    sign = "+" if signed and rounded > 0 else _MINUS if rounded < 0 else ""
    return f"{sign}{abs(rounded):.1f}"


def show_interval(interval: Interval, *, signed: bool = False) -> str:
    """Return the ends of an interval: 70.2 to 73.0."""
    low, high = (show_number(end, signed=signed) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def list_figures(several: Iterable[Measured]) -> list[str]:
    """Return the names of all figures, in the order of a table."""
    return order_figures({name for measured in several for name in measured.figures})
