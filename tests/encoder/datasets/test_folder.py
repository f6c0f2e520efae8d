"""Tests of reading a folder of images."""

from pathlib import Path

import pytest

from encoder.datasets.folder import read_folder
from encoder.errors import PocketlensError


def fill(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def rows_of(root: Path) -> list[tuple[str, str, str]]:
    return [(row.path, row.label, row.split) for row in read_folder(root).rows]


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    fill(tmp_path, "finch/2.jpg", "finch/1.jpg", "auk/1.png", "loose.webp")
    assert rows_of(tmp_path) == [
        ("auk/1.png", "auk", ""),
        ("finch/1.jpg", "finch", ""),
        ("finch/2.jpg", "finch", ""),
        ("loose.webp", "", ""),
    ]
    assert read_folder(tmp_path).files()[0] == tmp_path / "auk" / "1.png"
    assert {row.role for row in read_folder(tmp_path).rows} == {""}


def test_folders_for_splits(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "train/finch/1.jpg",
        "train/finch/deep/2.jpg",
        "val/auk/1.jpg",
        "test/gull/1.jpg",
        "test/unknown.jpg",
        "loose.jpg",
    )
    assert rows_of(tmp_path) == [
        ("loose.jpg", "", ""),
        ("test/gull/1.jpg", "gull", "test"),
        ("test/unknown.jpg", "", "test"),
        ("train/finch/1.jpg", "finch", "train"),
        ("train/finch/deep/2.jpg", "finch", "train"),
        ("val/auk/1.jpg", "auk", "val"),
    ]


def test_valid_is_another_name_of_val(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "valid/b/1.jpg")
    assert [split for _, _, split in rows_of(tmp_path)] == ["train", "val"]


def test_splits_beside_classes_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "bus/1.jpg")
    with pytest.raises(PocketlensError, match="'train' beside 'bus'"):
        read_folder(tmp_path)


def test_folders_without_images_do_not_hide_the_splits(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "test/b/1.jpg", "teacher/config.json")
    assert [split for _, _, split in rows_of(tmp_path)] == ["test", "train"]


def test_a_link_into_its_own_parent_is_followed_once(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [path for path, _, _ in rows_of(tmp_path)] == ["a/1.jpg", "b/2.jpg"]


def test_hidden_folders_do_not_hide_the_splits(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "test/b/1.jpg", ".git/c/1.jpg")
    assert [split for _, _, split in rows_of(tmp_path)] == ["test", "train"]


def test_the_same_class_in_two_split_folders_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "train/a/1.jpg", "train/a/2.jpg", "test/a/3.jpg")
    with pytest.raises(PocketlensError, match=r"class is in two splits: .*'train/a/1\.jpg'"):
        read_folder(tmp_path)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    fill(tmp_path, "b.jpg", "a.JPG", "c.TiFf")
    assert rows_of(tmp_path) == [("a.JPG", "", ""), ("b.jpg", "", ""), ("c.TiFf", "", "")]


def test_nested_folders_take_the_outermost_label(tmp_path: Path) -> None:
    fill(tmp_path, "finch/wild/2020/1.jpg", "finch/cage/1.jpg", "auk/1.jpg")
    assert rows_of(tmp_path) == [
        ("auk/1.jpg", "auk", ""),
        ("finch/cage/1.jpg", "finch", ""),
        ("finch/wild/2020/1.jpg", "finch", ""),
    ]


def test_hidden_and_other_files_are_passed_over(tmp_path: Path) -> None:
    fill(
        tmp_path,
        "a/1.jpg",
        "a/.hidden.jpg",
        "a/._1.jpg",
        "a/.thumbnails/1.jpg",
        ".cache/1.jpg",
        "a/notes.txt",
        "a/1.jpg.partial",
        "a/jpg",
        "README.md",
    )
    assert rows_of(tmp_path) == [("a/1.jpg", "a", "")]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"])
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, f"a/1.{suffix}", f"a/2.{suffix.upper()}")
    assert len(read_folder(tmp_path)) == 2


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = [f"{label}/{number}.jpg" for label in ("b", "a-b", "a") for number in (10, 9, 1)]
    fill(tmp_path / "x", *names)
    fill(tmp_path / "y", *reversed(names))
    assert rows_of(tmp_path / "x") == rows_of(tmp_path / "y")
    assert [path for path, _, _ in rows_of(tmp_path / "x")][:3] == [
        "a/1.jpg",
        "a/10.jpg",
        "a/9.jpg",
    ]


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "store", "1.jpg")
    fill(tmp_path / "data", "a/1.jpg")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "store")
    assert rows_of(tmp_path / "data") == [("a/1.jpg", "a", ""), ("b/1.jpg", "b", "")]


def test_a_link_to_nowhere_is_left_to_be_set_aside(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
    assert [path for path, _, _ in rows_of(tmp_path)] == ["a/1.jpg", "a/2.jpg"]


@pytest.mark.parametrize("paths", [(), ("a/notes.txt",), (".hidden/1.jpg",)])
def test_a_folder_without_images_is_refused(tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(PocketlensError, match=r"no images \(.*\.jpg.*\) found below"):
        read_folder(fill(tmp_path, *paths))


def test_a_missing_folder_and_a_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match="gone: no such folder"):
        read_folder(tmp_path / "gone")
    fill(tmp_path, "1.jpg")
    with pytest.raises(PocketlensError, match=r"1\.jpg: not a folder"):
        read_folder(tmp_path / "1.jpg")
