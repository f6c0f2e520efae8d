"""What the readers of published sets share: counts, lists in text files, and the strict reading."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from encoder.datasets.table import Box, ImageTable, Role, Row, Split, check_table
from encoder.errors import PocketlensError, first_line

_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True)
class Part:
    """Count the images and classes of one split, or of one role in it, as published."""

    split: Split
    images: int
    classes: int
    role: Role = ""


@dataclasses.dataclass(frozen=True)
class Archive:
    """Name a file of a set and what unpacking it puts into the folder.

    Where `gives` is the file itself it is not unpacked. An empty `address` means that it can only
    be had by hand; a size of 0 or an empty `md5` that none is published.
    """

    file: str
    gives: str
    address: str = ""
    size: int = 0
    md5: str = ""


@dataclasses.dataclass(frozen=True)
class OfficialSet:
    """Describe a published set: how its folder is recognised, read, checked and had.

    Any of `markers` with `marker_text` near its beginning shows the layout. `home` is the set's
    folder below the one that its archives are unpacked in.
    """

    name: str
    title: str
    page: str
    markers: tuple[str, ...]
    read_rows: Callable[[Path], tuple[Row, ...]]
    published: tuple[Part, ...]
    archives: tuple[Archive, ...]
    home: str = ""
    by_hand: str = ""
    marker_text: str = ""

    def recognises(self, folder: Path) -> bool:
        """Say whether the folder has this set's layout."""
        return any(_begins_with(folder / marker, self.marker_text) for marker in self.markers)


def read_official(official: OfficialSet, folder: Path) -> ImageTable:
    """Read a published set and check its counts and that every file is there.

    Raises:
        PocketlensError: naming what is missing or differs, and how to get the set.
    """
    table = ImageTable(folder, official.read_rows(folder))
    differences = compare_counts(table, official.published)
    try:
        if differences:
            raise PocketlensError(f"{folder}: not all of {official.title}: {differences}")
        check_table(table, where=str(folder))
    except PocketlensError as error:
        raise PocketlensError(f"{error}; {how_to_get(official.name)}") from None
    return table


def how_to_get(name: str) -> str:
    """Return the end of a message: the command that gets the set."""
    return f"get the set with: cli data download {name} FOLDER"


def compare_counts(table: ImageTable, published: Sequence[Part]) -> str:
    """Return what differs from the published counts, or nothing."""
    images: dict[tuple[str, str], int] = defaultdict(int)
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in table.rows:
        images[row.split, row.role] += 1
        labels[row.split, row.role].add(row.label)
    return "; ".join(
        f"{part.role or part.split}: expected {part.images:,} images of {part.classes:,} classes, "
        f"found {images[key]:,} of {len(labels[key]):,}"
        for part in published
        for key in [(part.split, part.role)]
        if (images[key], len(labels[key])) != (part.images, part.classes)
    )


def read_columns(file: Path, columns: int, *, name: str, header: int = 0) -> list[list[str]]:
    """Read a list of space-separated cells, one row a line, after the lines of its header.

    Raises:
        PocketlensError: naming the file, the line, and how to get the set.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise PocketlensError(f"{file}: no such file; {how_to_get(name)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PocketlensError(
            f"{file}: not readable ({first_line(error)}); {how_to_get(name)}"
        ) from None
    rows = []
    for number, line in enumerate(lines[header:], header + 1):
        cells = line.split()
        if cells and len(cells) != columns:
            raise PocketlensError(
                f"{file}: line {number}: expected {columns} cells, found {len(cells)}; "
                f"{how_to_get(name)}"
            )
        if cells:
            rows.append(cells)
    return rows


def look_up(values: Mapping[str, _Value], key: str, file: Path) -> _Value:
    """Return the value that a file gives for a key."""
    try:
        return values[key]
    except KeyError:
        raise PocketlensError(f"{file}: says nothing of {key!r}") from None


def read_numbers(cells: Sequence[str], file: Path) -> list[float]:
    """Return the cells as numbers."""
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        raise PocketlensError(f"{file}: not a number in {' '.join(cells)!r}") from None


def box_between(left: float, top: float, right: float, bottom: float) -> Box | None:
    """Return the box between two corners; none, which means the whole image, where it is empty."""
    left, top = max(left, 0.0), max(top, 0.0)
    if right <= left or bottom <= top:
        return None
    return left, top, right - left, bottom - top


def _begins_with(file: Path, text: str) -> bool:
    try:
        with file.open("rb") as data:
            return text.encode() in data.read(256)
    except OSError:
        return False
