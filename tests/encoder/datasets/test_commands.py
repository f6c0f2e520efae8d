"""The commands of the data sets as a user meets them."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from program import refuse, run, succeed

from encoder.datasets import layouts
from encoder.datasets.official import OfficialSet
from encoder.datasets.sources import read_source
from encoder.datasets.table import ImageTable

FakeSet = tuple[OfficialSet, Path]
LABELS = tuple(f"c{number}" for number in range(12))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (20, 10)).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, cub200: FakeSet, inshop: FakeSet) -> None:
    """Make the fakes the published sets."""
    monkeypatch.setattr(layouts, "OFFICIAL", (cub200[0], inshop[0]))


def classes_of(table: ImageTable) -> dict[str, list[str]]:
    return {split: table.split(split).class_names() for split in ("train", "val", "test")}  # type: ignore[arg-type]


def test_check_passes_what_is_sound(
    capsys: pytest.CaptureFixture[str], tree: Path, known: None, cub200: FakeSet
) -> None:
    assert succeed(capsys, "data", "check", tree) == f"{tree}: 24 rows, no faults\n"
    assert "24 rows, no faults" in succeed(capsys, "data", "check", tree, "--decode")
    assert "7 rows, no faults" in succeed(capsys, "data", "check", cub200[1])


def test_check_names_every_row_and_every_rule(
    capsys: pytest.CaptureFixture[str], tree: Path
) -> None:
    lines = ["path,label,split,role", "c0/0.png,c0,train,", "c0/1.png,c0,test,asker"]
    lines += ["gone.png,c1,exam,", "../c1/0.png,c2,train,", "c0/0.png,c3,train,"]
    (tree / "table.csv").write_text("\n".join(lines))
    code, out, errors = run(capsys, "data", "check", tree / "table.csv")
    assert code == 2 and "7 faults in 4 of 5 rows" in errors
    assert [line.split(": ")[0] + ": " + line.split(": ")[-1] for line in out.splitlines()] == [
        "row 2: role is not query or database",
        "row 2: class is in two splits",
        "row 3: split is not train, val or test",
        "row 3: file is missing",
        "row 4: path is empty or leaves the folder",
        "row 4: file is missing",
        "row 5: path appears twice",
    ]


def test_check_prints_some_and_counts_all(capsys: pytest.CaptureFixture[str], tree: Path) -> None:
    lines = ["path,label", *(f"{number}.png,x" for number in range(30))]
    (tree / "table.csv").write_text("\n".join(lines))
    code, out, errors = run(capsys, "data", "check", tree / "table.csv", "--show", 4)
    assert code == 2 and "30 faults in 30 of 30 rows" in errors
    assert len(out.splitlines()) == 5 and out.splitlines()[-1] == "and 26 more"
    assert "--show" in refuse(capsys, "data", "check", tree, "--show", -1)


def test_check_decodes_where_it_is_asked_to(capsys: pytest.CaptureFixture[str], tree: Path) -> None:
    whole = (tree / "c3/0.png").read_bytes()
    (tree / "c3/1.png").write_bytes(whole[: len(whole) // 2])
    (tree / "c4/0.png").write_bytes(b"")
    succeed(capsys, "data", "check", tree)
    code, out, errors = run(capsys, "data", "check", tree, "--decode")
    assert code == 2 and "2 faults in 2 of 24 rows" in errors
    first, second = out.splitlines()
    assert "'c3/1.png'" in first and "not an image that can be read" in first
    assert "'c4/0.png'" in second and second.endswith(": empty file")


def test_check_names_a_box_beside_its_image(capsys: pytest.CaptureFixture[str], tree: Path) -> None:
    (tree / "table.csv").write_text("path,x,y,w,h\nc0/0.png,0,0,20,10\nc1/0.png,400,0,20,10\n")
    code, out, errors = run(capsys, "data", "check", tree / "table.csv", "--decode")
    assert code == 2 and "1 fault in 1 of 2 rows" in errors
    assert out.startswith("row 2: 'c1/0.png'") and "box" in out


def test_check_of_a_link_to_nowhere_and_of_one_class_in_two_splits(
    capsys: pytest.CaptureFixture[str], tree: Path, tmp_path: Path
) -> None:
    (tree / "c0/2.png").symlink_to(tmp_path / "gone.png")
    code, out, _ = run(capsys, "data", "check", tree, "--decode")
    assert code == 2 and out.count("\n") == 1 and "'c0/2.png'" in out and "file is missing" in out
    for split in ("train", "test"):
        shutil.copytree(tree / "c1", tmp_path / "divided" / split / "c1")
    code, out, _ = run(capsys, "data", "check", tmp_path / "divided")
    assert code == 2 and out.count("class is in two splits") == 2


def test_check_of_a_published_set_compares_the_counts(
    capsys: pytest.CaptureFixture[str], known: None, cub200: FakeSet
) -> None:
    file = cub200[1] / "images.txt"
    file.write_text("\n".join(file.read_text().splitlines()[:-1]))
    message = refuse(capsys, "data", "check", cub200[1])
    assert "0 faults in 0 of 6 rows" in message and "expected 4 images of 2 classes" in message


def test_info_of_a_folder_and_a_published_set(
    capsys: pytest.CaptureFixture[str], tree: Path, known: None, inshop: FakeSet
) -> None:
    out = succeed(capsys, "data", "info", tree)
    assert "24 images, 12 classes" in out and "shorter side 10 / 10 / 10 px" in out
    out = succeed(capsys, "data", "info", inshop[1])
    (test,) = (line for line in out.splitlines() if line.startswith("test"))
    assert test.split()[-3:] == ["1", "2", "3"]


def test_info_reads_a_table_with_boxes(capsys: pytest.CaptureFixture[str], tree: Path) -> None:
    (tree / "table.csv").write_text("path,x,y,w,h\nc0/0.png,1,2,3,4\n")
    (row,) = (
        line
        for line in succeed(capsys, "data", "info", tree / "table.csv").splitlines()
        if line.startswith("none")
    )
    assert row.split()[-1] == "1"


def test_info_draws_a_sheet(capsys: pytest.CaptureFixture[str], tree: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert str(sheet) in succeed(capsys, "data", "info", tree, "--sheet", sheet)
    with Image.open(sheet) as image:
        assert image.height == 12 * 166 + 4
    message = refuse(capsys, "data", "info", tree, "--sheet", tmp_path / "none" / "sheet.png")
    assert "its folder does not exist" in message
    assert "name a .png file" in refuse(capsys, "data", "info", tree, "--sheet", tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_split_writes_a_table_that_reads_back(
    capsys: pytest.CaptureFixture[str], tree: Path, suffix: str
) -> None:
    table = tree / f"table.{suffix}"
    out = succeed(
        capsys, "data", "split", tree, table, "--test-share", 0.25, "--val-share", 0.3, "--seed", 3
    )
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [
        ["train", "12"], ["val", "6"], ["test", "6"],
    ]  # fmt: skip
    found = classes_of(read_source(table))
    assert found["test"] == sorted(LABELS)[-3:] and len(found["val"]) == 3
    other = tree / f"other.{suffix}"
    succeed(
        capsys, "data", "split", tree, other, "--test-share", 0.25, "--val-share", 0.3, "--seed", 4
    )
    assert classes_of(read_source(other)) != found


def test_folds_validate_every_training_class_once(
    capsys: pytest.CaptureFixture[str], tree: Path
) -> None:
    validated: list[str] = []
    for fold in range(1, 5):
        table = tree / f"fold{fold}.csv"
        succeed(capsys, "data", "split", tree, table, "--test-share", 0.25, "--fold", fold)
        found = classes_of(read_source(table))
        assert found["test"] == sorted(LABELS)[-3:]
        validated += found["val"]
    assert sorted(validated) == sorted(LABELS)[:-3]


def test_split_keeps_what_a_published_set_says(
    capsys: pytest.CaptureFixture[str], known: None, inshop: FakeSet, cub200: FakeSet
) -> None:
    for (_, folder), table in ((inshop, "up.parquet"), (cub200, "table.csv")):
        written = folder.parent / table
        succeed(capsys, "data", "split", folder, written, "--val-share", 0)
        before, after = read_source(folder), read_source(written)
        assert [(row.label, row.split, row.role, row.box) for row in after.rows] == [
            (row.label, row.split, row.role, row.box) for row in before.rows
        ]
        assert [file.resolve() for file in after.files()] == [
            file.resolve() for file in before.files()
        ]
        message = refuse(
            capsys, "data", "split", folder, folder / "x.csv", "--test-share", 0.5, "--val-share", 0
        )
        assert "names its own splits" in message
        arguments = ("--val-share", 0, "--whole-images", "--overwrite")
        succeed(capsys, "data", "split", folder, written, *arguments)
        assert {row.box for row in read_source(written).rows} == {None}


def test_split_refuses_before_any_work(
    capsys: pytest.CaptureFixture[str], tree: Path, tmp_path: Path
) -> None:
    out = tree / "out.csv"
    assert ".csv or .parquet" in refuse(capsys, "data", "split", tree, tree / "out.txt")
    absent = tree / "no" / "out.csv"
    assert "its folder does not exist" in refuse(capsys, "data", "split", tree, absent)
    assert "not both" in refuse(capsys, "data", "split", tree, out, "--fold", 1, "--val-share", 0.1)
    for flag, value in (("--fold", 0), ("--fold", 5), ("--seed", -1), ("--test-share", 1)):
        assert flag in refuse(capsys, "data", "split", tree, out, flag, value)
    assert "--val-share" in refuse(capsys, "data", "split", tree, out, "--val-share", -0.5)
    (tmp_path / "elsewhere").mkdir()
    message = refuse(capsys, "data", "split", tree, tmp_path / "elsewhere" / "out.csv")
    assert "start from its folder" in message
    message = refuse(capsys, "data", "split", tree, out, "--test-share", 0.9, "--fold", 1)
    assert "1 training classes cannot be divided into 4 folds" in message
    (tree / "flat").mkdir()
    shutil.copy(tree / "c0/0.png", tree / "flat")
    assert "no labels" in refuse(capsys, "data", "split", tree / "flat", tree / "flat" / "out.csv")
    assert not out.exists()


def test_split_keeps_a_file_that_exists(capsys: pytest.CaptureFixture[str], tree: Path) -> None:
    out = tree / "out.csv"
    out.write_text("dear")
    assert "--overwrite" in refuse(capsys, "data", "split", tree, out)
    assert out.read_text() == "dear"
    succeed(capsys, "data", "split", tree, out, "--overwrite")
    assert len(read_source(out)) == 24


def test_download_of_what_is_there_and_of_what_is_not(
    capsys: pytest.CaptureFixture[str], known: None, cub200: FakeSet, tmp_path: Path
) -> None:
    out = succeed(capsys, "data", "download", "cub200", cub200[1].parent)
    assert f"7 images of 4 classes in {cub200[1]}" in out
    assert "agreement" in refuse(capsys, "data", "download", "inshop", tmp_path / "new")
    assert "choose one of cub200, inshop" in refuse(capsys, "data", "download", "flowers", tmp_path)


def test_missing_sources_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in ("check", "info"):
        assert "no such folder" in refuse(capsys, "data", command, tmp_path / "none")
        assert "no such file" in refuse(capsys, "data", command, tmp_path / "none.parquet")
    assert "no such file" in refuse(
        capsys, "data", "split", tmp_path / "none.csv", tmp_path / "out.csv"
    )
