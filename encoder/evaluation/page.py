"""The frame of a page that needs nothing else: no network, no scripts, no other files."""

import importlib.resources
from collections.abc import Mapping

from encoder.evaluation.markup import Html, element

_STYLE = "report_page.css"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def frame_page(title: str, lead: str, sections: Mapping[str, tuple[str, Html]]) -> str:
    """Return a page of sections, each under its id with a heading, and links to them."""
    links = (
        element("li", element("a", name, href=f"#{key}")) for key, (name, _) in sections.items()
    )
    header = element(
        "header",
        element("h1", title),
        element("p", lead, class_="lead"),
        element("nav", element("ul", *links), aria_label="Sections"),
    )
    main = (
        element(
            "section",
            element("h2", name, id=f"{key}-title"),
            body,
            id=key,
            aria_labelledby=f"{key}-title",
        )
        for key, (name, body) in sections.items()
    )
    body = element("body", header, element("main", *main))
    return f"<!doctype html>\n{element('html', _draw_head(title), body, lang='en-GB')}\n"


def _draw_head(title: str) -> Html:
    style = importlib.resources.files(__package__).joinpath(_STYLE).read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        # Without it a browser asks the server for an icon.
        element("link", rel="icon", href="data:,"),
        element("style", Html(style)),
    )
