"""Tests of reading the published sets in their official layouts."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from encoder.datasets import sources
from encoder.datasets.cars196 import CARS196
from encoder.datasets.cub200 import CUB200
from encoder.datasets.inshop import INSHOP
from encoder.datasets.layouts import OFFICIAL, find_official, recognise_layout
from encoder.datasets.official import OfficialSet, read_official
from encoder.datasets.online_products import ONLINE_PRODUCTS
from encoder.datasets.splits import SplitRule, read_table, split_classes
from encoder.datasets.table import Row
from encoder.errors import PocketlensError
from encoder.images import decode_image

FakeSet = tuple[OfficialSet, Path]
NAMES = ("cub200", "cars196", "cars196_kit", "sop", "inshop")


@pytest.fixture(params=NAMES)
def fake(request: pytest.FixtureRequest) -> FakeSet:
    made: FakeSet = request.getfixturevalue(request.param)
    return made


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_cub200(cub200: FakeSet) -> None:
    official, folder = cub200
    rows = read_official(official, folder).rows
    assert rows[0] == Row(
        "images/002.Auk/1.jpg", "002.Auk", "train", "", box=(1.0, 0.0, 11.5, 12.0)
    )
    splits = {row.label: row.split for row in rows}
    assert splits == {
        "002.Auk": "train", "009.Finch": "train", "010.Gull": "test", "101.Wren": "test",
    }  # fmt: skip
    assert [row.path for row in rows][5:] == ["images/010.Gull/6.jpg", "images/101.Wren/7.jpg"]


def test_cars196(cars196: FakeSet) -> None:
    official, folder = cars196
    rows = read_official(official, folder).rows
    # Corners of MATLAB, counted from one and the last pixel in, become pixels from nought.
    assert [(row.path[-7:], row.label, row.split, row.box) for row in rows] == [
        ("001.jpg", "001.Ram C/V Van 2012", "train", (0, 1, 20, 13)),
        ("002.jpg", "002.Acura RL 2012", "train", (2, 0, 198, 150)),
        ("003.jpg", "001.Ram C/V Van 2012", "train", (0, 0, 9, 9)),
        ("004.jpg", "003.smart fortwo 2012", "test", (4, 4, 1, 1)),
        ("005.jpg", "004.Audi TT 2011", "test", None),
        ("006.jpg", "004.Audi TT 2011", "test", (1, 1, 8, 8)),
    ]


@pytest.mark.parametrize("place", ["", "devkit"])
def test_the_development_kit_is_divided_by_class_too(cars196_kit: FakeSet, place: str) -> None:
    official, folder = cars196_kit
    labels = "cars_test_annos_withlabels.mat"
    shutil.move(folder / labels, folder / place / labels)
    found = [(row.path, row.split) for row in read_official(official, folder).rows]
    assert found == [
        ("cars_train/00001.jpg", "train"), ("cars_train/00002.jpg", "test"),
        ("cars_test/00001.jpg", "train"), ("cars_test/00002.jpg", "train"),
        ("cars_test/00003.jpg", "test"), ("cars_test/00004.jpg", "test"),
    ]  # fmt: skip


def test_online_products(sop: FakeSet) -> None:
    official, folder = sop
    rows = read_official(official, folder).rows
    assert rows[0] == Row("bicycle_final/11_0.JPG", "bicycle-00001", "train")
    assert rows[2].label == "coffee_maker-00002"
    assert rows[-1] == Row("bicycle_final/13_1.JPG", "bicycle-11319", "test")


def test_inshop(inshop: FakeSet) -> None:
    official, folder = inshop
    rows = read_official(official, folder).rows
    assert [(row.split, row.role) for row in rows] == [
        ("train", ""), ("train", ""), ("test", "query"), ("test", "database"), ("test", "database"),
    ]  # fmt: skip
    assert rows[2].label == rows[4].label == "id_00000080"
    assert rows[3].box == (3, 10, 17, 6)


def test_inshop_as_its_archives_are_laid_out_and_without_boxes(inshop: FakeSet) -> None:
    official, folder = inshop
    (folder / "Img").mkdir()
    shutil.move(folder / "img", folder / "Img" / "img")
    shutil.rmtree(folder / "Anno")
    row = read_official(official, folder).rows[0]
    assert row.path.startswith("Img/img/WOMEN/") and row.box is None


def test_validation_classes_are_carved_from_the_training_classes(inshop: FakeSet) -> None:
    official, folder = inshop
    table = split_classes(read_official(official, folder), SplitRule(val=0.5))
    assert Counter(row.role for row in table.split("test").rows) == {"query": 1, "database": 2}


def test_layouts_are_recognised_by_their_own_name_only(fake: FakeSet) -> None:
    official, folder = fake
    known = [other.name for other in OFFICIAL if other.recognises(folder)]
    assert known == [official.name]
    found = recognise_layout(folder)
    assert found is not None and found.name == official.name
    assert recognise_layout(folder.parent) is None


def test_a_list_of_another_benchmark_is_not_in_shop(inshop: FakeSet) -> None:
    _, folder = inshop
    change(
        folder / "Eval/list_eval_partition.txt",
        "image_name item_id", "image_pair_name_1 image_pair_name_2 item_id",
    )  # fmt: skip
    assert recognise_layout(folder) is None


def test_a_source_with_a_layout_is_read_by_it(fake: FakeSet) -> None:
    """The fake is far smaller than the published set, which is said before anything else."""
    official, folder = fake
    with pytest.raises(PocketlensError, match=rf"not all of {official.title}: train: expected "):
        read_table(folder)


def test_the_published_counts() -> None:
    images = {one.name: [part.images for part in one.published] for one in OFFICIAL}
    assert images == {
        "cub200": [5_864, 5_924],
        "cars196": [8_054, 8_131],
        "sop": [59_551, 60_502],
        "inshop": [25_882, 14_218, 12_612],
    }
    totals = {name: sum(counts) for name, counts in images.items()}
    assert totals == {"cub200": 11_788, "cars196": 16_185, "sop": 120_053, "inshop": 52_712}
    classes = {one.name: [part.classes for part in one.published] for one in OFFICIAL}
    assert classes == {
        "cub200": [100, 100],
        "cars196": [98, 98],
        "sop": [11_318, 11_316],
        "inshop": [3_997, 3_985, 3_985],
    }
    assert (CUB200, CARS196, ONLINE_PRODUCTS, INSHOP) == OFFICIAL


def test_a_missing_image_is_named_and_how_to_get_the_set(fake: FakeSet) -> None:
    official, folder = fake
    row = read_official(official, folder).rows[1]
    (folder / row.path).unlink()
    with pytest.raises(PocketlensError) as caught:
        read_official(official, folder)
    message = str(caught.value)
    assert row.path in message and "file is missing: row 2" in message
    assert message.endswith(f"cli data download {official.name} FOLDER")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cub200", "images.txt"),
        ("cub200", "classes.txt"),
        ("cub200", "bounding_boxes.txt"),
        ("cars196_kit", "devkit/cars_meta.mat"),
        ("cars196_kit", "cars_test_annos_withlabels.mat"),
        ("sop", "Ebay_test.txt"),
        ("inshop", "Eval/list_eval_partition.txt"),
    ],
)
def test_a_missing_list_is_named(request: pytest.FixtureRequest, name: str, file: str) -> None:
    official, folder = request.getfixturevalue(name)
    (folder / file).unlink()
    with pytest.raises(PocketlensError, match=rf"{file}: no such file; .*download {official.name}"):
        read_official(official, folder)


def test_other_counts_say_what_was_expected_and_found(cub200: FakeSet, inshop: FakeSet) -> None:
    official, folder = cub200
    change(folder / "images.txt", "7 101.Wren/7.jpg\n", "")
    with pytest.raises(
        PocketlensError, match="test: expected 4 images of 2 classes, found 3 of 1; get"
    ):
        read_official(official, folder)
    official, folder = inshop
    change(folder / "Eval/list_eval_partition.txt", " query", " gallery")
    expected = "query: expected 1 images .*, found 0 of 0; database: expected 2 .*, found 3 of 1"
    with pytest.raises(PocketlensError, match=expected):
        read_official(official, folder)


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("cub200", "images.txt", "3 009", "3 x 009", "line 3: expected 2 cells, found 3"),
        ("cub200", "image_class_labels.txt", "4 10\n", "", "says nothing of '4'"),
        ("cub200", "classes.txt", "9 009.Finch\n", "", "says nothing of '9'"),
        ("cub200", "bounding_boxes.txt", "1.0 0.0", "1.0 zero", "not a number in '1.0 zero"),
        ("sop", "Ebay_train.txt", "1 1 1 b", "1 1 b", "line 2: expected 4 cells, found 3"),
        ("inshop", "Eval/list_eval_partition.txt", "train", "exam", "says nothing of 'exam'"),
        ("inshop", "Anno/list_bbox_inshop.txt", "020", "x", "not a number in '000 010 x 016'"),
    ],
)
def test_a_damaged_list_is_named(
    request: pytest.FixtureRequest, name: str, file: str, old: str, new: str, message: str
) -> None:
    official, folder = request.getfixturevalue(name)
    change(folder / file, old, new)
    with pytest.raises(PocketlensError, match=rf"{file}: .*{message}"):
        read_official(official, folder)


def test_damaged_annotations_are_named(cars196: FakeSet, cars196_kit: FakeSet) -> None:
    official, folder = cars196_kit
    shutil.copy(folder / "devkit/cars_meta.mat", folder / "devkit/cars_train_annos.mat")
    with pytest.raises(PocketlensError, match=r"cars_train_annos\.mat: has no list annotations"):
        read_official(official, folder)
    official, folder = cars196
    shutil.copy(cars196_kit[1] / "cars_test_annos_withlabels.mat", folder / "cars_annos.mat")
    with pytest.raises(PocketlensError, match=r"cars_annos\.mat: has no list class_names"):
        read_official(official, folder)
    (folder / "cars_annos.mat").write_bytes(b"not MATLAB" * 50)
    with pytest.raises(PocketlensError, match=r"cars_annos\.mat: not readable as a MATLAB file"):
        read_official(official, folder)


def test_a_class_that_has_no_name_is_refused(cars196: FakeSet) -> None:
    from scipy.io import loadmat, savemat

    official, folder = cars196
    held = loadmat(folder / "cars_annos.mat")
    savemat(
        folder / "cars_annos.mat",
        {"annotations": held["annotations"], "class_names": held["class_names"][:, :3]},
    )
    with pytest.raises(PocketlensError, match=r"annotation 5 is not complete \(class 4 of 3\)"):
        read_official(official, folder)


def test_matlab_files_need_the_extra(cars196: FakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PocketlensError, match=r"Cars196 needs the package scipy: .*\[data\]"):
        read_official(*cars196)


def test_an_unknown_name_lists_the_known() -> None:
    assert find_official("sop") is ONLINE_PRODUCTS
    with pytest.raises(PocketlensError, match=r"flowers: .* cub200, cars196, sop, inshop"):
        find_official("flowers")


def test_a_folder_is_read_whole_and_a_tables_boxes_are_cut_out(
    cub200: FakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    official, folder = cub200
    monkeypatch.setattr(sources, "recognise_layout", lambda place: official)
    assert all(isinstance(source, Path) for source in read_table(folder).sources())
    file = folder / "boxes.csv"
    sources.write_source(sources.read_source(folder), file)
    cut = [decode_image(source).shape for source in read_table(file).sources()]
    assert cut[0] == (12, 11, 3)  # from 1 to 12.5, rounded
