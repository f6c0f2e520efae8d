"""Tests of the table as Parquet."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from encoder.datasets.parquet_table import read_parquet, write_parquet
from encoder.datasets.splits import read_table
from encoder.datasets.table import ImageTable, Row
from encoder.errors import PocketlensError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for name in ("a/1.jpg", "a/2.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, columns: dict[str, Any]) -> Path:
    file = folder / "table.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file


def test_the_table_goes_round(data: Path) -> None:
    rows = (
        Row("a/1.jpg", 'finch,\n"common"', "train", "", (0.0, 0.1, 1 / 3, 1e-7)),
        Row("a/2.jpg", "Möwe", "val", "query"),
        Row("b.jpg", "", "", "database", (12.0, 5.0, 100.0, 3.5)),
    )
    write_parquet(ImageTable(data, rows), data / "table.parquet")
    assert read_parquet(data / "table.parquet") == ImageTable(data, rows)
    assert [entry.name for entry in data.iterdir() if entry.name.startswith(".")] == []


def test_a_table_without_boxes_goes_round(data: Path) -> None:
    table = ImageTable(data, (Row("a/1.jpg", "x"), Row("b.jpg")))
    write_parquet(table, data / "table.parquet")
    assert read_parquet(data / "table.parquet") == table
    assert read_table(data / "table.parquet") == table


def test_columns_may_be_left_out_empty_or_encoded(data: Path) -> None:
    paths = ["a/1.jpg", "b.jpg"]
    assert read_parquet(write(data, {"path": paths})).rows == (Row("a/1.jpg"), Row("b.jpg"))
    encoded = pyarrow.array(["x", None]).dictionary_encode()
    large = pyarrow.array(paths, pyarrow.large_string())
    columns = {"label": encoded, "path": large, "role": pyarrow.nulls(2), "x": [1, None]}
    columns |= {"y": [2, None], "w": [3.5, None], "h": [4, None]}
    expected = (Row("a/1.jpg", "x", box=(1, 2, 3.5, 4)), Row("b.jpg"))
    assert read_parquet(write(data, columns)).rows == expected


def test_a_folder_named_like_a_partition_adds_no_column(data: Path) -> None:
    folder = data / "split=train"
    folder.mkdir()
    (folder / "1.jpg").write_bytes(b"x")
    assert read_parquet(write(folder, {"path": ["1.jpg"]})).rows == (Row("1.jpg"),)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": ["x"]}, "the header must name path .*found label"),
        ({"path": ["b.jpg"], "class": ["x"]}, "the header .*found path, class"),
        ({"path": ["b.jpg"], "label": [7]}, "column label holds int64; it must hold text"),
        ({"path": ["b.jpg"], "x": ["1"]}, "column x holds string; it must hold numbers"),
        ({"path": ["b.jpg"], "x": [1]}, "row 1: x, y, w, h must be four numbers"),
        ({"path": ["c.jpg"]}, "file is missing: row 1: 'c.jpg'"),
        ({"path": [None]}, "path is empty"),
        ({"path": ["b.jpg"], "split": ["exam"]}, "split is not train, val or test"),
        ({"path": []}, "no images found"),
    ],
)
def test_a_bad_table_is_named(data: Path, columns: dict[str, Any], message: str) -> None:
    if columns["path" if "path" in columns else "label"] == []:
        columns = {"path": pyarrow.array([], pyarrow.string())}
    with pytest.raises(PocketlensError, match=rf"table\.parquet: .*{message}"):
        read_parquet(write(data, columns))


def test_what_is_no_parquet_is_named(data: Path) -> None:
    with pytest.raises(PocketlensError, match=r"gone\.parquet: no such file"):
        read_parquet(data / "gone.parquet")
    (data / "text.parquet").write_text("path\n1.jpg\n")
    with pytest.raises(PocketlensError, match=r"text\.parquet: not readable as Parquet"):
        read_parquet(data / "text.parquet")


def test_the_missing_extra_is_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PocketlensError, match=r"reading Parquet needs the package pyarrow: .*data"):
        read_parquet(data / "table.parquet")
    with pytest.raises(PocketlensError, match=r"writing Parquet needs .*pocketlens\[data\]"):
        write_parquet(ImageTable(data, (Row("b.jpg"),)), data / "table.parquet")
    assert not (data / "table.parquet").exists()
