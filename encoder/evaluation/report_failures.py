"""What goes wrong, shown: the worst classes, and example queries with their answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from encoder.evaluation.details import Answer, ClassFailure, Example
from encoder.evaluation.markup import Html, breakable, element, join
from encoder.evaluation.report_data import Report
from encoder.evaluation.report_table import (
    draw_row,
    draw_table,
    number_cell,
    show_number,
    text_cell,
)
from encoder.evaluation.thumbnails import Thumbnail

_SHOWN_CLASSES = 20
_SHOWN_EXAMPLES = 12
_SHOWN_ANSWERS = 10
_Item = TypeVar("_Item")
# Returns the thumbnail of a path; None where no thumbnails are shown.
MakeThumbnail = Callable[[str], Thumbnail] | None


def draw_classes(report: Report) -> Html | None:
    """Return a table of the worst classes for each row."""
    groups = _group_by_row(report.classes)
    if not groups:
        return None
    tables = (
        element("div", element("h3", name), _draw_worst(f"classes-{number}", failures))
        for number, (name, failures) in enumerate(groups.items())
    )
    return element("div", *tables, class_="columns")


def _draw_worst(key: str, failures: Sequence[ClassFailure]) -> Html:
    worst = sorted(failures, key=lambda each: (each.r1, each.label))[:_SHOWN_CLASSES]
    rows = (
        draw_row(
            each.label,
            number_cell(show_number(each.r1)),
            number_cell(f"{each.queries:,}"),
            text_cell(each.confused_with),
        )
        for each in worst
    )
    caption, taken = "The classes with the lowest R@1, in per cent", "Most often taken for"
    return draw_table(key, caption, ["Class", "R@1", "Queries", taken], rows, words=[taken])


def draw_examples(report: Report, make: MakeThumbnail) -> Html | None:
    """Return example queries, each followed by its answers, marked right or wrong."""
    groups = _group_by_row(report.examples)
    if not groups:
        return None
    parts = []
    for name, examples in groups.items():
        shown = examples[:_SHOWN_EXAMPLES]
        parts.append(element("h3", name))
        parts += [_draw_example(number, each, make) for number, each in enumerate(shown, 1)]
        if len(shown) < len(examples):
            more = f"{len(examples) - len(shown):,} more examples are in the JSON file."
            parts.append(element("p", more, class_="note"))
    return join(*parts)


def list_pictures(report: Report) -> set[str]:
    """Return the paths of all pictures that the examples show."""
    return {
        path
        for examples in _group_by_row(report.examples).values()
        for each in examples[:_SHOWN_EXAMPLES]
        for path in (each.query, *(answer.path for answer in each.answers[:_SHOWN_ANSWERS]))
    }


def _draw_example(number: int, example: Example, make: MakeThumbnail) -> Html:
    answers = example.answers[:_SHOWN_ANSWERS]
    alt = f"Query {number}: {example.label}"
    query = element(
        "figure",
        _draw_picture(example.query, alt, make),
        element(
            "figcaption",
            element("b", f"Query {number}"),
            " ",
            element("span", breakable(example.label)),
        ),
        class_="query",
    )
    listed = (
        element("li", _draw_answer(rank, answer, make)) for rank, answer in enumerate(answers, 1)
    )
    return element(
        "article",
        query,
        element("ol", *listed, class_="answers"),
        class_="example",
        aria_label=f"{alt}, {len(answers)} answers",
    )


def _draw_answer(rank: int, answer: Answer, make: MakeThumbnail) -> Html:
    sign, word = ("✓", "right") if answer.right else ("✗", "wrong")
    verdict = element("b", element("span", sign, aria_hidden="true"), f" {word}", class_=word)
    score = element("span", f"score {answer.score:.2f}".replace("-", "\N{MINUS SIGN}"))
    return element(
        "figure",
        _draw_picture(answer.path, f"Answer {rank}, {word}: {answer.label}", make),
        element("figcaption", verdict, " ", score, " ", element("span", breakable(answer.label))),
        class_=word,
    )


def _draw_picture(path: str, alt: str, make: MakeThumbnail) -> Html:
    if make is None:
        return element("code", breakable(path), class_="path")
    made = make(path)
    if made.reason:
        return element(
            "div",
            element("b", "no picture"),
            element("span", made.reason),
            element("code", breakable(path)),
            class_="missing",
        )
    return element(
        "div",
        element("img", src=made.uri, width=made.width, height=made.height, alt=alt, title=path),
        class_="picture",
    )


def _group_by_row(entries: Sequence[tuple[str, _Item]]) -> Mapping[str, list[_Item]]:
    groups: dict[str, list[_Item]] = {}
    for name, item in entries:
        groups.setdefault(name, []).append(item)
    return groups
