"""HTML from nested elements: text is escaped unless an element made it."""

import html
import re

_VOID = frozenset({"br", "img", "link", "meta"})
# Control characters but tab and newline, and halves of surrogate pairs: no text of a page.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# Between letters or digits, so that no minus and no entity is cut.
_JOINT = re.compile(r"(?<=\w)([_/.-])(?=\w)")


class Html(str):
    """Hold markup, which is not escaped again."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return text as markup; markup as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(_UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)))


def breakable(text: str) -> Html:
    """Return text that may wrap after the joints of a file or class name."""
    return Html(_JOINT.sub(r"\1<wbr>", escape(text)))


def join(*parts: str) -> Html:
    """Return the parts one after another."""
    return Html("".join(map(escape, parts)))


def element(tag: str, /, *children: str, **attributes: str | float | None) -> Html:
    """Return an element with children and attributes; an attribute that is None is left out.

    A trailing underscore keeps a name from being Python's (`class_`), others become hyphens.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{join(*children)}</{tag}>")
