"""Small fakes of the published sets, in their official layouts."""

import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from encoder.datasets.cars196 import CARS196
from encoder.datasets.cub200 import CUB200
from encoder.datasets.inshop import INSHOP
from encoder.datasets.official import OfficialSet, Part
from encoder.datasets.online_products import ONLINE_PRODUCTS

FakeSet = tuple[OfficialSet, Path]


def draw(folder: Path, paths: Iterable[str]) -> None:
    data = io.BytesIO()
    Image.new("RGB", (24, 16), (90, 120, 40)).save(data, format="JPEG")
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data.getvalue())


def write_lines(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def cub200(tmp_path: Path) -> FakeSet:
    """Four classes of 2, 1, 3 and 1 images; the class numbers sort otherwise as text."""
    folder = tmp_path / "birds" / "CUB_200_2011"
    names = {2: "002.Auk", 9: "009.Finch", 10: "010.Gull", 101: "101.Wren"}
    classes = [2, 2, 9, 10, 10, 10, 101]
    paths = [f"{names[number]}/{image}.jpg" for image, number in enumerate(classes, 1)]
    draw(folder / "images", paths)
    write_lines(folder / "classes.txt", *(f"{number} {name}" for number, name in names.items()))
    write_lines(folder / "images.txt", *(f"{image} {path}" for image, path in enumerate(paths, 1)))
    write_lines(
        folder / "image_class_labels.txt",
        *(f"{image} {number}" for image, number in enumerate(classes, 1)),
    )
    write_lines(
        folder / "bounding_boxes.txt",
        *(f"{image} {image}.0 0.0 {10 + image}.5 12.0" for image in range(1, 8)),
    )
    return dataclasses.replace(CUB200, published=(Part("train", 3, 2), Part("test", 4, 2))), folder


def write_annotations(file: Path, rows: list[tuple[object, ...]], *fields: str) -> None:
    """Write a struct array of one row, the numbers as small as MATLAB saved them."""
    kinds = [(field, object) for field in fields]
    values = [
        tuple(cell if isinstance(cell, str) else np.uint8(cell) for cell in row)  # type: ignore[call-overload]
        for row in rows
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {"annotations": np.array([values], dtype=kinds)}, appendmat=False)


def add_class_names(file: Path, *names: str) -> None:
    from scipy.io import loadmat

    held = loadmat(file) if file.exists() else {}
    kept = {name: value for name, value in held.items() if not name.startswith("__")}
    cells = np.array([list(names)], dtype=object)
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {**kept, "class_names": cells}, appendmat=False)


CARS_COUNTS = (Part("train", 3, 2), Part("test", 3, 2))
CARS_NAMES = ("Ram C/V Van 2012", "Acura RL 2012", "smart fortwo 2012", "Audi TT 2011")


@pytest.fixture
def cars196(tmp_path: Path) -> FakeSet:
    folder = tmp_path / "cars"
    rows: list[tuple[object, ...]] = [
        ("car_ims/000001.jpg", 1, 2, 20, 14, 1, 0),
        ("car_ims/000002.jpg", 3, 1, 200, 150, 2, 1),
        ("car_ims/000003.jpg", 0, 0, 9, 9, 1, 0),
        ("car_ims/000004.jpg", 5, 5, 5, 5, 3, 0),
        ("car_ims/000005.jpg", 5, 5, 4, 9, 4, 1),
        ("car_ims/000006.jpg", 2, 2, 9, 9, 4, 0),
    ]
    draw(folder, (str(row[0]) for row in rows))
    fields = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    write_annotations(folder / "cars_annos.mat", rows, *fields)
    add_class_names(folder / "cars_annos.mat", *CARS_NAMES)
    return dataclasses.replace(CARS196, published=CARS_COUNTS), folder


@pytest.fixture
def cars196_kit(tmp_path: Path) -> FakeSet:
    """The same cars as the development kit has them, with the kit's own split of images."""
    folder = tmp_path / "kit"
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    train: list[tuple[object, ...]] = [(1, 2, 20, 14, 1, "00001.jpg"), (1, 2, 9, 9, 3, "00002.jpg")]
    test: list[tuple[object, ...]] = [
        (3, 1, 200, 150, 2, "00001.jpg"), (1, 1, 9, 9, 1, "00002.jpg"),
        (5, 5, 8, 9, 4, "00003.jpg"), (2, 2, 9, 9, 4, "00004.jpg"),
    ]  # fmt: skip
    draw(folder / "cars_train", (str(row[-1]) for row in train))
    draw(folder / "cars_test", (str(row[-1]) for row in test))
    write_annotations(folder / "devkit/cars_train_annos.mat", train, *fields)
    write_annotations(folder / "cars_test_annos_withlabels.mat", test, *fields)
    add_class_names(folder / "devkit/cars_meta.mat", *CARS_NAMES)
    return dataclasses.replace(CARS196, published=CARS_COUNTS), folder


@pytest.fixture
def sop(tmp_path: Path) -> FakeSet:
    folder = tmp_path / "products" / "Stanford_Online_Products"
    header = "image_id class_id super_class_id path"
    train = ["1 1 1 bicycle_final/11_0.JPG", "2 1 1 bicycle_final/11_1.JPG"]
    train += ["3 2 4 coffee_maker_final/12_0.JPG", "4 2 4 coffee_maker_final/12_1.JPG"]
    test = ["1 11319 1 bicycle_final/13_0.JPG", "2 11319 1 bicycle_final/13_1.JPG"]
    draw(folder, (line.split()[3] for line in train + test))
    write_lines(folder / "Ebay_train.txt", header, *train)
    write_lines(folder / "Ebay_test.txt", header, *test)
    small = (Part("train", 4, 2), Part("test", 2, 1))
    return dataclasses.replace(ONLINE_PRODUCTS, published=small), folder


@pytest.fixture
def inshop(tmp_path: Path) -> FakeSet:
    folder = tmp_path / "clothes"
    lines = [
        "img/WOMEN/Dresses/id_00000002/02_1_front.jpg                   id_00000002 train",
        "img/WOMEN/Dresses/id_00000002/02_2_side.jpg                    id_00000002 train",
        "img/MEN/Denim/id_00000080/01_1_front.jpg                       id_00000080 query",
        "img/MEN/Denim/id_00000080/01_2_side.jpg                        id_00000080 gallery",
        "img/MEN/Denim/id_00000080/01_3_back.jpg                        id_00000080 gallery",
    ]
    paths = [line.split()[0] for line in lines]
    draw(folder, paths)
    header = "image_name item_id evaluation_status"
    write_lines(folder / "Eval/list_eval_partition.txt", "5", header, *lines)
    boxes = [f"{path} 3 1 {place:03} 010 020 016" for place, path in enumerate(paths)]
    names = "image_name clothes_type pose_type x_1 y_1 x_2 y_2"
    write_lines(folder / "Anno/list_bbox_inshop.txt", "5", names, *boxes)
    small = (Part("train", 2, 1), Part("test", 1, 1, "query"), Part("test", 2, 1, "database"))
    return dataclasses.replace(INSHOP, published=small), folder
