"""An evaluation as one page that needs nothing else: no network, no scripts, no other files."""

import functools
from pathlib import Path

from encoder.evaluation.document import EncoderFacts
from encoder.evaluation.markup import Html, breakable, element, join
from encoder.evaluation.page import frame_page
from encoder.evaluation.report_curves import draw_curves, draw_robustness
from encoder.evaluation.report_data import Report
from encoder.evaluation.report_failures import draw_classes, draw_examples
from encoder.evaluation.report_figures import draw_differences, draw_rows
from encoder.evaluation.report_table import draw_row, draw_table, number_cell, text_cell
from encoder.evaluation.thumbnails import make_thumbnail

_SHOWN_QUARANTINED = 50


def build_page(report: Report, *, images: Path | None = None) -> str:
    """Return the page; thumbnails are made from `images`, the folder that paths start from.

    A section of which the report has no data is left out.
    """
    make = functools.cache(functools.partial(make_thumbnail, images)) if images else None
    drawn = {
        "results": ("Results", draw_rows(report)),
        "differences": ("Differences", draw_differences(report)),
        "curves": ("Recall by rank", draw_curves(report)),
        "robustness": ("Robustness", draw_robustness(report)),
        "classes": ("Worst classes", draw_classes(report)),
        "examples": ("Examples", draw_examples(report, make)),
        "quarantined": ("Images set aside", _draw_quarantined(report)),
        "measured": ("What was measured", _draw_facts(report)),
    }
    sections = {key: (name, body) for key, (name, body) in drawn.items() if body}
    return frame_page(f"Retrieval on {report.data.source}", _summarise(report), sections)


def _summarise(report: Report) -> str:
    parts = [f"{report.data.images:,} images", f"{report.rows[0].queries:,} queries"]
    parts += [f"{each.name} at {each.size} px" for each in report.encoders]
    parts += [report.date] if report.date else []
    return " · ".join(parts)


def _draw_facts(report: Report) -> Html:
    """Return everything that is needed to measure again."""
    data = report.data
    facts: dict[str, Html | str] = {
        "Data": f"{data.source}, {data.images:,} images",
        "Fingerprint": element("code", data.fingerprint),
    }
    if report.date:
        facts["Date"] = report.date
    if report.seed is not None:
        facts["Seed"] = str(report.seed)
    if report.versions:
        facts["Versions"] = ", ".join(f"{name} {text}" for name, text in report.versions.items())
    if report.command:
        facts["Command"] = element("code", report.command)
    named = (
        element("div", element("dt", name), element("dd", value)) for name, value in facts.items()
    )
    listed = element("dl", *named)
    return join(listed, _draw_encoders(report.encoders)) if report.encoders else listed


def _draw_encoders(encoders: tuple[EncoderFacts, ...]) -> Html:
    rows = (
        draw_row(
            each.name,
            number_cell(f"{each.size} px"),
            text_cell(each.precision),
            element("td", element("code", each.encoder)),
            element("td", element("code", each.space)),
        )
        for each in encoders
    )
    caption, words = "The encoders, by their digests", ["Precision", "Digest", "Space"]
    return draw_table("encoders", caption, ["Encoder", "Input", *words], rows, words=words)


def _draw_quarantined(report: Report) -> Html | None:
    """Return the images that could not be read."""
    names = report.quarantined
    if not names:
        return None
    shown = names[:_SHOWN_QUARANTINED]
    listed = element("ul", *(element("li", element("code", breakable(name))) for name in shown))
    said = element("p", f"Could not be read, and are in no figure: {len(names):,}.")
    if len(shown) == len(names):
        return join(said, listed)
    more = f"and {len(names) - len(shown):,} more, named in the JSON file"
    return join(said, listed, element("p", more, class_="note"))
