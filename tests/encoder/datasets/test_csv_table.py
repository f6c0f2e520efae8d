"""Tests of the table as CSV."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoder.datasets.csv_table import COLUMNS, read_csv, write_csv
from encoder.datasets.table import ImageTable, Row
from encoder.errors import PocketlensError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "a").mkdir()
    for name in ("a/1.jpg", "a/2.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "table.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_the_table_goes_round(data: Path) -> None:
    awkward = 'ä, "quoted"\nand more.jpg'
    (data / awkward).write_bytes(b"x")
    rows = (
        Row("a/1.jpg", "finch, common", "train", "", (0.0, 0.1, 1 / 3, 1e-7)),
        Row("a/2.jpg", 'the "auk"', "val", "query"),
        Row("b.jpg", "", "", "database", (12.0, 5.0, 100.0, 3.5)),
        Row(awkward, "Möwe"),
    )
    write_csv(ImageTable(data, rows), data / "table.csv")
    assert read_csv(data / "table.csv") == ImageTable(data, rows)
    first = (data / "table.csv").read_text(encoding="utf-8").splitlines()[0]
    assert first == "path,label,split,role,x,y,w,h"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_label_goes_round(data: Path, label: str) -> None:
    table = ImageTable(data, (Row("a/1.jpg", label, "train"),))
    write_csv(table, data / "table.csv")
    assert read_csv(data / "table.csv") == table


@pytest.mark.parametrize("label", ["a\rb", "a\r\nb", "\r", " a ", "'", "#", ";"])
def test_awkward_labels_go_round(data: Path, label: str) -> None:
    table = ImageTable(data, (Row("a/1.jpg", label),))
    write_csv(table, data / "table.csv")
    assert read_csv(data / "table.csv").rows[0].label == label


def test_only_the_path_is_required(data: Path) -> None:
    table = read_csv(write(data, "path\na/1.jpg\nb.jpg\n"))
    assert table == ImageTable(data, (Row("a/1.jpg"), Row("b.jpg")))


def test_columns_in_any_order_with_a_mark_and_windows_lines(data: Path) -> None:
    text = "\ufefflabel,path\r\nfinch,a/1.jpg\r\n\r\nauk,b.jpg"
    assert read_csv(write(data, text)).rows == (Row("a/1.jpg", "finch"), Row("b.jpg", "auk"))


def test_a_box_is_read(data: Path) -> None:
    table = read_csv(write(data, "path,x,y,w,h\na/1.jpg,1,2.5,3e1,4\nb.jpg,,,,\n"))
    assert [row.box for row in table.rows] == [(1.0, 2.5, 30.0, 4.0), None]


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", "nothing"),
        ("label,split", "label, split"),
        ("path,class", "path, class"),
        ("Path", "Path"),
        ("path;label", "path;label"),
        ("path,", "path, "),
        ("a/1.jpg", r"a/1\.jpg"),
        ("path,label,label", "label, label"),
    ],
)
def test_a_bad_header_says_what_was_found(data: Path, header: str, found: str) -> None:
    with pytest.raises(PocketlensError, match=rf"table\.csv: the header .*found .*{found}"):
        read_csv(write(data, f"{header}\na/1.jpg\n" if header else ""))


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["a/1.jpg,finch,1,2,3,4", "b.jpg,auk"], 3),
        (["a/1.jpg,finch,1,2,3,4,5"], 2),
        (["a/1.jpg"], 2),
        (["", "a/1.jpg,finch,1,2,3,4", "", "b.jpg,auk,1,2,3"], 5),
        (['a/1.jpg,"two\nlines",1,2,3,4', "b.jpg"], 4),
    ],
    ids=["short", "long", "path only", "after blanks", "after two lines"],
)
def test_cells_that_do_not_match_the_header_name_the_line(
    data: Path, lines: list[str], line: int
) -> None:
    text = "\n".join(["path,label,x,y,w,h", *lines])
    with pytest.raises(PocketlensError, match=rf"table\.csv: line {line}: its cells do not match"):
        read_csv(write(data, text))


@pytest.mark.parametrize("box", ["1,2,3,", "1,2,,4", ",,,4", "a,2,3,4", "1,2,3,4px"])
def test_a_bad_box_names_the_line(data: Path, box: str) -> None:
    text = f"path,x,y,w,h\na/1.jpg,1,2,3,4\nb.jpg,{box}\n"
    with pytest.raises(PocketlensError, match=r"table\.csv: line 3: x, y, w, h must be four"):
        read_csv(write(data, text))


def test_a_box_needs_all_its_columns(data: Path) -> None:
    with pytest.raises(PocketlensError, match=r"line 2: x, y, w, h must be four"):
        read_csv(write(data, "path,x,y\na/1.jpg,1,2\n"))


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("b.jpg,auk,tset,,,,,", "split is not train, val or test"),
        ("b.jpg,auk,test,asker,,,,", "role is not query or database"),
        ("b.jpg,auk,test,,-1,0,4,4", "box is not inside any image"),
        ("b.jpg,auk,test,,nan,0,4,4", "box is not inside any image"),
        ("a/1.jpg,finch,train,,,,,", "path appears twice"),
        ("b.jpg,finch,test,,,,,", "class is in two splits"),
        ("../b.jpg,auk,test,,,,,", "path is empty or leaves the folder"),
        (",auk,test,,,,,", "path is empty or leaves the folder"),
        ("c.jpg,auk,test,,,,,", "file is missing"),
    ],
)
def test_the_strict_check_is_made(data: Path, line: str, rule: str) -> None:
    text = f"{','.join(COLUMNS)}\na/1.jpg,finch,train,,,,,\n{line}\n"
    with pytest.raises(PocketlensError, match=rf"table\.csv: {rule}: row 2: ") as caught:
        read_csv(write(data, text))
    assert "\n" not in str(caught.value)


def test_a_table_without_rows_is_refused(data: Path) -> None:
    with pytest.raises(PocketlensError, match=r"table\.csv: no images found"):
        read_csv(write(data, "path,label\n"))


@pytest.mark.parametrize(
    "content",
    [b"path,label\na/1.jpg,M\xf6we\n", b"path\n" + b"x" * 200_000, b"PK\x03\x04\xff\xfe"],
    ids=["Latin-1", "endless cell", "archive"],
)
def test_what_is_no_csv_is_named(data: Path, content: bytes) -> None:
    with pytest.raises(PocketlensError, match=r"table\.csv: not a UTF-8 CSV file"):
        read_csv(write(data, content))


def test_a_missing_file_and_a_folder_are_named(data: Path) -> None:
    with pytest.raises(PocketlensError, match=r"gone\.csv: no such file"):
        read_csv(data / "gone.csv")
    (data / "folder.csv").mkdir()
    with pytest.raises(PocketlensError, match=r"folder\.csv: "):
        read_csv(data / "folder.csv")
