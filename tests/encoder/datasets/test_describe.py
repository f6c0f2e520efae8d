"""Tests of describing a table in figures and as a picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder.datasets.contact_sheet import draw_contact_sheet, write_contact_sheet
from encoder.datasets.describe import Spread, describe_table, format_description
from encoder.datasets.table import ImageTable, Row

SIZES = {"a/1.png": (30, 20), "a/2.png": (10, 40), "b/1.png": (50, 60), "c.png": (90, 80)}
ROWS = (
    Row("a/1.png", "auk", "train", box=(15, 0, 15, 20)),
    Row("a/2.png", "auk", "train"),
    Row("b/1.png", "gull", "test", "query"),
    Row("b/2.png", "gull", "test", "database"),
    Row("c.png"),
)


@pytest.fixture
def table(tmp_path: Path) -> ImageTable:
    for number, (path, size) in enumerate(SIZES.items()):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", size, (50 * number, 200, 0)).save(tmp_path / path)
    (tmp_path / "b/2.png").write_bytes(b"no picture")
    return ImageTable(tmp_path, ROWS)


def test_the_figures(table: ImageTable) -> None:
    found = describe_table(table)
    assert (found.images, found.classes) == (5, 2)
    train, test, none = found.splits
    assert (train.split, train.images, train.classes, train.boxes) == ("train", 2, 1, 1)
    assert (test.split, test.queries, test.database, test.per_class) == (
        "test", 1, 1, Spread(2, 2, 2),
    )  # fmt: skip
    assert (none.split, none.unlabelled, none.per_class) == ("", 1, None)
    assert found.short_side == Spread(10, 50, 80)
    assert found.long_side == Spread(30, 60, 90)
    assert found.unreadable == (table.root / "b/2.png",)


def test_the_figures_as_text(table: ImageTable) -> None:
    lines = format_description(describe_table(table)).splitlines()
    assert lines[0] == "5 images, 2 classes"
    assert [line.split()[0] for line in lines[2:6]] == ["split", "train", "test", "none"]
    assert lines[3].split() == ["train", "2", "1", "2", "/", "2", "/", "2", "0", "0", "0", "1"]
    assert "shorter side 10 / 50 / 80 px, longer 30 / 60 / 90 px" in lines
    assert lines[-1].startswith("1 images without a readable header") and "b/2.png" in lines[-1]


def test_headers_are_enough(table: ImageTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", refuse)
    assert describe_table(table).short_side == Spread(10, 50, 80)


def test_the_sheet_shows_every_split_and_frames_boxes(table: ImageTable) -> None:
    sheet = np.asarray(draw_contact_sheet(table, classes=3, images=2))
    assert sheet.shape == (3 * 166 + 4, 2 * 148 + 4, 3)

    def tile(row: int, column: int) -> np.ndarray:
        top, left = row * 166 + 18, 4 + column * 148
        return sheet[top : top + 144, left : left + 144]

    # Sorted by split and label: no split, test, train.
    assert tile(0, 0)[72, 72].tolist() == [150, 200, 0]
    assert (tile(0, 1) == 255).all()
    assert tile(1, 0)[72, 72].tolist() == [100, 200, 0]
    assert (tile(1, 1) == 228).all()
    framed = (tile(2, 0) == (230, 60, 30)).all(axis=2)
    columns = np.flatnonzero(framed.any(axis=0))
    assert (columns.min(), columns.max()) == (72, 143)
    assert not (tile(2, 1) == (230, 60, 30)).all(axis=2).any()
    for row in range(3):
        assert (sheet[row * 166 : row * 166 + 18] < 128).any()


def test_classes_and_images_are_spread_evenly(tmp_path: Path) -> None:
    rows = []
    for label in range(10):
        for number in range(9):
            path = f"{label}-{number}.png"
            Image.new("RGB", (8, 8), (label * 20, number * 20, 7)).save(tmp_path / path)
            rows.append(Row(path, f"c{label}"))
    sheet = draw_contact_sheet(ImageTable(tmp_path, tuple(rows)), classes=5, images=3)
    middles = [
        sheet.getpixel((4 + column * 148 + 72, row * 166 + 18 + 72))
        for row in range(5)
        for column in range(3)
    ]
    assert middles == [
        (label * 20, number * 20, 7) for label in range(0, 10, 2) for number in range(0, 9, 3)
    ]


def test_the_sheet_is_written_whole(table: ImageTable, tmp_path: Path) -> None:
    write_contact_sheet(table, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG" and image.size[1] == 3 * 166 + 4
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
