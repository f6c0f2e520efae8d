"""CUB-200-2011: birds, the first hundred classes to train on, the others to test on."""

from pathlib import Path

from encoder.datasets.official import (
    Archive,
    OfficialSet,
    Part,
    look_up,
    read_columns,
    read_numbers,
)
from encoder.datasets.table import Box, Row

_NAME = "cub200"


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Read `images.txt`, `image_class_labels.txt`, `classes.txt` and `bounding_boxes.txt`."""
    classes_file = folder / "classes.txt"
    labels_file = folder / "image_class_labels.txt"
    boxes_file = folder / "bounding_boxes.txt"
    classes = dict(read_columns(classes_file, 2, name=_NAME))
    class_of = dict(read_columns(labels_file, 2, name=_NAME))
    boxes = {
        image: _box(cells, boxes_file) for image, *cells in read_columns(boxes_file, 5, name=_NAME)
    }
    training = set(sorted(classes, key=lambda number: number.zfill(9))[: len(classes) // 2])
    rows = []
    for image, path in read_columns(folder / "images.txt", 2, name=_NAME):
        number = look_up(class_of, image, labels_file)
        rows.append(
            Row(
                path=f"images/{path}",
                label=look_up(classes, number, classes_file),
                split="train" if number in training else "test",
                box=look_up(boxes, image, boxes_file),
            )
        )
    return tuple(rows)


def _box(cells: list[str], file: Path) -> Box:
    left, top, width, height = read_numbers(cells, file)
    return left, top, width, height


CUB200 = OfficialSet(
    name=_NAME,
    title="CUB-200-2011",
    page="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    markers=("image_class_labels.txt",),
    read_rows=read_rows,
    published=(Part("train", 5_864, 100), Part("test", 5_924, 100)),
    archives=(
        Archive(
            "CUB_200_2011.tgz",
            gives="CUB_200_2011",
            address="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            size=1_150_585_339,
            md5="97eceeb196236b17998738112f37df78",
        ),
    ),
    home="CUB_200_2011",
)
