"""In-Shop Clothes Retrieval: training items, and test items as queries and database."""

from pathlib import Path

from encoder.datasets.official import (
    Archive,
    OfficialSet,
    Part,
    box_between,
    look_up,
    read_columns,
    read_numbers,
)
from encoder.datasets.table import Box, Role, Row, Split

_NAME = "inshop"
_PARTITION = "Eval/list_eval_partition.txt"
_BOXES = "Anno/list_bbox_inshop.txt"
_PARTS: dict[str, tuple[Split, Role]] = {
    "train": ("train", ""),
    "query": ("test", "query"),
    "gallery": ("test", "database"),
}


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Read `Eval/list_eval_partition.txt` and, where it is there, `Anno/list_bbox_inshop.txt`.

    Images lie in `img`, or in `Img/img` as the archives are laid out.
    """
    place = "" if (folder / "img").is_dir() or not (folder / "Img").is_dir() else "Img/"
    boxes = _read_boxes(folder / _BOXES)
    rows = []
    for path, item, part in read_columns(folder / _PARTITION, 3, name=_NAME, header=2):
        split, role = look_up(_PARTS, part, folder / _PARTITION)
        rows.append(Row(f"{place}{path}", item, split, role, boxes.get(path)))
    return tuple(rows)


def _read_boxes(file: Path) -> dict[str, Box | None]:
    if not file.exists():
        return {}
    lines = read_columns(file, 7, name=_NAME, header=2)
    return {path: box_between(*read_numbers(corners, file)) for path, _, _, *corners in lines}


INSHOP = OfficialSet(
    name=_NAME,
    title="In-Shop Clothes Retrieval",
    page="https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    markers=(_PARTITION,),
    # Other benchmarks of its authors have a file of the same name with other columns.
    marker_text="image_name item_id evaluation_status",
    read_rows=read_rows,
    published=(
        Part("train", 25_882, 3_997),
        Part("test", 14_218, 3_985, "query"),
        Part("test", 12_612, 3_985, "database"),
    ),
    archives=(Archive("img.zip", gives="img"), Archive(_PARTITION, gives=_PARTITION)),
    by_hand="its authors ask for an agreement first",
)
