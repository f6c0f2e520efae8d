"""Stanford Online Products: items for sale, divided into training and test as published."""

from pathlib import Path

from encoder.datasets.official import Archive, OfficialSet, Part, read_columns
from encoder.datasets.table import Row, Split

_NAME = "sop"
_LISTS: tuple[tuple[str, Split], ...] = (("Ebay_train.txt", "train"), ("Ebay_test.txt", "test"))


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Read `Ebay_train.txt` and `Ebay_test.txt`."""
    return tuple(
        Row(path=path, label=f"{_kind(path)}-{item:0>5}", split=split)
        for file, split in _LISTS
        for _, item, _, path in read_columns(folder / file, 4, name=_NAME, header=1)
    )


def _kind(path: str) -> str:
    return path.split("/")[0].removesuffix("_final")


ONLINE_PRODUCTS = OfficialSet(
    name=_NAME,
    title="Stanford Online Products",
    page="https://cvgl.stanford.edu/projects/lifted_struct/",
    markers=("Ebay_train.txt", "Ebay_test.txt"),
    marker_text="image_id class_id super_class_id path",
    read_rows=read_rows,
    published=(Part("train", 59_551, 11_318), Part("test", 60_502, 11_316)),
    archives=(
        Archive(
            "Stanford_Online_Products.zip",
            gives="Stanford_Online_Products",
            address="http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
            md5="7f73d41a2f44250d4779881525aea32e",
        ),
    ),
    home="Stanford_Online_Products",
)
