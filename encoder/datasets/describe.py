"""What a table holds, in figures: splits, classes, images a class, roles, boxes, sizes."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from encoder.datasets.table import ImageTable
from encoder.progress import track

_HEADINGS = (
    "split",
    "images",
    "classes",
    "images a class",
    "unlabelled",
    "query",
    "database",
    "boxes",
)


@dataclasses.dataclass(frozen=True)
class Spread:
    """Hold the lowest, the median and the highest of some numbers."""

    low: int
    median: int
    high: int

    def __str__(self) -> str:
        return f"{self.low} / {self.median} / {self.high}"


@dataclasses.dataclass(frozen=True)
class SplitFigures:
    """Describe the rows of one split; `split` is empty for rows that name none."""

    split: str
    images: int
    classes: int
    per_class: Spread | None
    unlabelled: int
    queries: int
    database: int
    boxes: int


@dataclasses.dataclass(frozen=True)
class Description:
    """Describe a table. Sides are in pixels, without the images whose header cannot be read."""

    images: int
    classes: int
    splits: tuple[SplitFigures, ...]
    short_side: Spread | None
    long_side: Spread | None
    unreadable: tuple[Path, ...]


def describe_table(table: ImageTable) -> Description:
    """Count the rows and read every image's size from its header."""
    sides: list[tuple[int, int]] = []
    unreadable = []
    with track("reading headers", len(table)) as advance:
        for row in table.rows:
            file = table.root / row.path
            size = _read_size(file)
            if size:
                sides.append((min(size), max(size)))
            else:
                unreadable.append(file)
            advance(1)
    order = ("train", "val", "test", "")
    present = sorted({row.split for row in table.rows}, key=order.index)
    return Description(
        images=len(table),
        classes=len(table.class_names()),
        splits=tuple(_describe_split(table.split(split), split) for split in present),
        short_side=_spread(short for short, _ in sides),
        long_side=_spread(long for _, long in sides),
        unreadable=tuple(unreadable),
    )


def format_description(description: Description) -> str:
    """Return the figures as a table for the terminal."""
    lines = [f"{description.images:,} images, {description.classes:,} classes", ""]
    cells: list[tuple[str, ...]] = [_HEADINGS]
    for figures in description.splits:
        counts = (figures.unlabelled, figures.queries, figures.database, figures.boxes)
        cells.append(
            (
                figures.split or "none",
                f"{figures.images:,}",
                f"{figures.classes:,}",
                str(figures.per_class or "-"),
                *(f"{count:,}" for count in counts),
            )
        )
    lines += _align(cells)
    if description.short_side:
        lines += [
            "",
            f"shorter side {description.short_side} px, longer {description.long_side} px",
        ]
    lines.append("three numbers are the lowest, the median and the highest")
    if description.unreadable:
        lines.append(
            f"{len(description.unreadable):,} images without a readable header, the first "
            f"{description.unreadable[0]}"
        )
    return "\n".join(lines)


def _describe_split(table: ImageTable, split: str) -> SplitFigures:
    counts = Counter(row.label for row in table.rows if row.label)
    roles = Counter(row.role for row in table.rows)
    return SplitFigures(
        split=split,
        images=len(table),
        classes=len(counts),
        per_class=_spread(counts.values()),
        unlabelled=sum(not row.label for row in table.rows),
        queries=roles["query"],
        database=roles["database"],
        boxes=sum(row.box is not None for row in table.rows),
    )


def _spread(values: Iterable[int]) -> Spread | None:
    ordered = sorted(values)
    if not ordered:
        return None
    return Spread(ordered[0], ordered[len(ordered) // 2], ordered[-1])


def _read_size(file: Path) -> tuple[int, int] | None:
    try:
        with Image.open(file) as image:
            return image.size
    except Exception:  # Pillow's readers raise many kinds on damaged files
        return None


def _align(cells: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
