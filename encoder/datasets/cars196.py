"""Cars196: cars, the first 98 classes to train on, the others to test on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoder.datasets.official import Archive, OfficialSet, Part, box_between, how_to_get
from encoder.datasets.table import Row
from encoder.errors import PocketlensError, first_line, require_extra

_NAME = "cars196"
_ALL = "cars_annos.mat"
_META = "devkit/cars_meta.mat"
_TRAIN = "devkit/cars_train_annos.mat"
_TEST = "cars_test_annos_withlabels.mat"


def read_rows(folder: Path) -> tuple[Row, ...]:
    """Read `cars_annos.mat` beside `car_ims`, or the development kit of the challenge.

    The kit is `devkit`, `cars_train`, `cars_test` and `cars_test_annos_withlabels.mat` (also found
    in `devkit`). Its own split is of images and is passed over: here classes are divided.
    """
    if (folder / _ALL).is_file():
        found = _load(folder / _ALL)
        names = _list(found, "class_names", folder / _ALL)
        return _rows(folder / _ALL, found, names, "relative_im_path", "")
    meta, test = folder / _META, folder / "devkit" / _TEST
    names = _list(_load(meta), "class_names", meta)
    test = test if test.is_file() else folder / _TEST
    parts = ((folder / _TRAIN, "cars_train/"), (test, "cars_test/"))
    return tuple(
        row for file, place in parts for row in _rows(file, _load(file), names, "fname", place)
    )


def _load(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise PocketlensError(f"{file}: no such file; {how_to_get(_NAME)}")
    require_extra("matlab", "reading Cars196")
    from scipy.io import loadmat

    try:
        found: Mapping[str, Any] = loadmat(str(file), simplify_cells=True)
    except Exception as error:  # SciPy's reader raises many kinds on damaged files
        raise PocketlensError(
            f"{file}: not readable as a MATLAB file ({first_line(error)})"
        ) from None
    return found


def _list(found: Mapping[str, Any], field: str, file: Path) -> list[Any]:
    try:
        return list(found[field])
    except (KeyError, TypeError):
        raise PocketlensError(f"{file}: has no list {field}; {how_to_get(_NAME)}") from None


def _rows(
    file: Path, found: Mapping[str, Any], names: list[Any], path: str, place: str
) -> tuple[Row, ...]:
    rows = []
    for number, entry in enumerate(_list(found, "annotations", file), 1):
        try:
            index = int(entry["class"])
            if not 1 <= index <= len(names):
                raise ValueError(f"class {index} of {len(names)}")
            left, top, right, bottom = (
                float(entry[f"bbox_{side}"]) for side in ("x1", "y1", "x2", "y2")
            )
            row = Row(
                path=f"{place}{entry[path]}",
                # The number keeps the order of the classes, which is not that of their names.
                label=f"{index:03}.{names[index - 1]}",
                split="train" if index <= len(names) // 2 else "test",
                # MATLAB counts pixels from one, and the last one belongs to the box.
                box=box_between(left - 1, top - 1, right, bottom),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PocketlensError(
                f"{file}: annotation {number} is not complete ({first_line(error)}); "
                f"{how_to_get(_NAME)}"
            ) from None
        rows.append(row)
    return tuple(rows)


CARS196 = OfficialSet(
    name=_NAME,
    title="Cars196",
    page="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
    markers=(_ALL, _TRAIN),
    read_rows=read_rows,
    published=(Part("train", 8_054, 98), Part("test", 8_131, 98)),
    archives=(
        Archive("car_ims.tgz", gives="car_ims", md5="d5c8f0aa497503f355e17dc7886c3f14"),
        Archive(_ALL, gives=_ALL, md5="b407c6086d669747186bd1d764ff9dbc"),
    ),
    by_hand="its official page is gone and no other address is its authors'",
)
