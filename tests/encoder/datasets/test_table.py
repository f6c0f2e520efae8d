"""Tests of the table of images and its strict check."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoder.datasets.table import ImageTable, Row, check_table, check_trainable
from encoder.errors import PocketlensError

ROWS = (
    Row("a/1.jpg", "a", "train"),
    Row("a/2.jpg", "a", "train", box=(0.0, 0.0, 10.0, 5.5)),
    Row("b/1.jpg", "b", "test", "query"),
    Row("b/2.jpg", "b", "test", "database"),
    Row("c/1.jpg", "c", "val"),
    Row("loose.jpg"),
)


def make(root: Path, rows: tuple[Row, ...] = ROWS) -> ImageTable:
    for number, row in enumerate(rows):
        file = root / row.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * (number + 1))
    return ImageTable(root, rows)


def changed(table: ImageTable, index: int, **fields: Any) -> ImageTable:
    rows = list(table.rows)
    rows[index] = dataclasses.replace(rows[index], **fields)
    return dataclasses.replace(table, rows=tuple(rows))


def test_a_sound_table_passes(tmp_path: Path) -> None:
    table = make(tmp_path)
    check_table(table, where="x")
    assert len(table) == 6
    assert table.files()[2] == tmp_path / "b" / "1.jpg"


def test_views_of_a_table(tmp_path: Path) -> None:
    table = make(tmp_path)
    assert table.class_names() == ["a", "b", "c"]
    assert table.labels().tolist() == [0, 0, 1, 1, 2, -1]
    assert table.labels().dtype == np.int64
    assert [row.path for row in table.split("test").rows] == ["b/1.jpg", "b/2.jpg"]
    assert [row.path for row in table.split("").rows] == ["loose.jpg"]
    picked = table.select([4, 0])
    assert [row.path for row in picked.rows] == ["c/1.jpg", "a/1.jpg"]
    assert picked.root == tmp_path
    assert picked.labels().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"path": ""}, "path is empty or leaves the folder"),
        ({"path": "../a/1.jpg"}, "path is empty or leaves the folder"),
        ({"path": "b/../../secret.jpg"}, "path is empty or leaves the folder"),
        ({"path": "/etc/passwd"}, "path is empty or leaves the folder"),
        ({"split": "training"}, "split is not train, val or test"),
        ({"role": "gallery"}, "role is not query or database"),
        ({"box": (-1.0, 0.0, 5.0, 5.0)}, "box is not inside any image"),
        ({"box": (0.0, -0.5, 5.0, 5.0)}, "box is not inside any image"),
        ({"box": (0.0, 0.0, 0.0, 5.0)}, "box is not inside any image"),
        ({"box": (0.0, 0.0, 5.0, -5.0)}, "box is not inside any image"),
        ({"box": (0.0, 0.0, float("nan"), 5.0)}, "box is not inside any image"),
        ({"box": (0.0, 0.0, float("inf"), 5.0)}, "box is not inside any image"),
        ({"path": "a/2.jpg"}, "path appears twice"),
        ({"label": "a"}, "class is in two splits"),
        ({"split": "train"}, "class is in two splits"),
        ({"path": "gone.jpg"}, "file is missing"),
        ({"path": "b"}, "file is missing"),
        ({"path": "x" * 300}, "file is missing"),
    ],
)
def test_the_offending_row_is_named(tmp_path: Path, fields: dict[str, Any], rule: str) -> None:
    table = changed(make(tmp_path), 3, **fields)
    with pytest.raises(PocketlensError) as caught:
        check_table(table, where="my.csv")
    message = str(caught.value)
    assert message.startswith(f"my.csv: {rule}: row 4: {table.rows[3].path!r}")
    assert "\n" not in message


def test_one_file_under_two_spellings_appears_twice(tmp_path: Path) -> None:
    for spelling in ("a//2.jpg", "./a/2.jpg", "a/./2.jpg"):
        table = changed(make(tmp_path), 5, path=spelling)
        with pytest.raises(PocketlensError, match="path appears twice: row 6"):
            check_table(table, where="x")


def test_only_the_first_rows_are_listed(tmp_path: Path) -> None:
    rows = tuple(Row(f"{number}.jpg") for number in range(9))
    with pytest.raises(PocketlensError) as caught:
        check_table(ImageTable(tmp_path, rows), where="x")
    message = str(caught.value)
    assert [f"row {number}:" in message for number in range(1, 8)] == [True] * 5 + [False] * 2
    assert message.endswith("and 4 more")


def test_exactly_the_bad_rows_are_listed(tmp_path: Path) -> None:
    table = make(tmp_path)
    (tmp_path / "a" / "2.jpg").unlink()
    (tmp_path / "c" / "1.jpg").unlink()
    with pytest.raises(PocketlensError, match=r"file is missing: row 2: .*; row 5: [^;]*\)$"):
        check_table(table, where="x")


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match="x: no images found"):
        check_table(ImageTable(tmp_path, ()), where="x")


def test_unlabelled_rows_may_be_in_any_split(tmp_path: Path) -> None:
    rows = (Row("1.jpg", "", "train"), Row("2.jpg", "", "test"), Row("3.jpg"))
    check_table(make(tmp_path, rows), where="x")


CHANGES: list[tuple[str, Callable[[ImageTable], ImageTable]]] = [
    ("label", lambda table: changed(table, 0, label="z")),
    ("split", lambda table: changed(table, 0, split="")),
    ("role", lambda table: changed(table, 0, role="query")),
    ("box", lambda table: changed(table, 0, box=(0.0, 0.0, 1.0, 1.0))),
    ("other box", lambda table: changed(table, 1, box=(0.0, 0.0, 10.0, 5.0))),
    ("no box", lambda table: changed(table, 1, box=None)),
    ("path", lambda table: changed(table, 0, path="a/2.jpg")),
    ("order", lambda table: table.select([1, 0, 2, 3, 4, 5])),
    ("one less", lambda table: table.select(range(5))),
    ("one twice", lambda table: table.select([0, 1, 2, 3, 4, 5, 5])),
]


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[n for n, _ in CHANGES])
def test_the_fingerprint_changes_with_any_row(
    tmp_path: Path, change: Callable[[ImageTable], ImageTable]
) -> None:
    table = make(tmp_path)
    assert table.fingerprint() == make(tmp_path).fingerprint()
    assert change(table).fingerprint() != table.fingerprint()


@pytest.mark.parametrize("index", range(len(ROWS)))
def test_the_fingerprint_changes_with_any_file_size(tmp_path: Path, index: int) -> None:
    table = make(tmp_path)
    before = table.fingerprint()
    file = table.files()[index]
    content = file.read_bytes()
    file.write_bytes(content + b"y")
    larger = table.fingerprint()
    file.unlink()
    gone = table.fingerprint()
    file.write_bytes(content)
    assert len({before, larger, gone}) == 3
    assert table.fingerprint() == before


def test_the_fingerprint_does_not_depend_on_the_place(tmp_path: Path) -> None:
    assert make(tmp_path / "x").fingerprint() == make(tmp_path / "y").fingerprint()


def test_trainable_sets_pass(tmp_path: Path) -> None:
    rows = tuple(Row(f"{label}{number}", label) for label in "ab" for number in range(2))
    check_trainable(ImageTable(tmp_path, (*rows, Row("loose"))), where="x")


@pytest.mark.parametrize("labels", ["", "aaa"])
def test_fewer_than_two_classes_are_refused(tmp_path: Path, labels: str) -> None:
    rows = (*(Row(f"{number}.jpg", label) for number, label in enumerate(labels)), Row("loose"))
    with pytest.raises(PocketlensError, match=rf"^x: {len(set(labels))} class(es)? to train on"):
        check_trainable(ImageTable(tmp_path, rows), where="x")


def test_classes_of_one_image_are_named(tmp_path: Path) -> None:
    rows = tuple(Row(f"{number}.jpg", label) for number, label in enumerate("aabbcd"))
    with pytest.raises(PocketlensError, match=r"x: 2 class\(es\) with one image only \(c, d\)"):
        check_trainable(ImageTable(tmp_path, rows), where="x")
