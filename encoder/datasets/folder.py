"""Read a folder of images: one sub-folder a class, or any folder without labels."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from encoder.datasets.table import ImageTable, Row, Split, check_table
from encoder.errors import PocketlensError
from encoder.images import SUFFIXES

_SPLITS = {"train": "train", "val": "val", "valid": "val", "test": "test"}


def read_folder(folder: Path) -> ImageTable:
    """Read every image below `folder`, sorted by path.

    `CLASS/…/image.jpg` gives the label CLASS; where the sub-folders are named train, val or test,
    `train/CLASS/image.jpg` gives split and label; images directly in the folder have no label.
    Hidden files and files without an image suffix are passed over.

    Raises:
        PocketlensError: when the folder is missing, not a folder, or has no image.
    """
    table = list_folder(folder)
    check_table(table, where=str(folder), require_files=False)
    return table


def list_folder(folder: Path) -> ImageTable:
    """Read a folder as `read_folder` does, without the strict check of its rows."""
    if not folder.exists():
        raise PocketlensError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise PocketlensError(f"{folder}: not a folder")
    found = sorted(_walk(folder))
    if not found:
        raise PocketlensError(f"{folder}: no images ({', '.join(sorted(SUFFIXES))}) found below")
    splits = _find_splits(folder, {parts[0] for parts in found if len(parts) > 1})
    return ImageTable(folder, tuple(_row(parts, splits) for parts in found))


def walk_folder(folder: Path) -> Iterator[Row]:
    """Yield the rows of `read_folder` one by one, folder by folder, holding none of them.

    Raises:
        PocketlensError: when the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."}
    splits = _find_splits(folder, names)
    return (_row(parts, splits) for parts in _walk(folder))


def _find_splits(folder: Path, top: set[str]) -> bool:
    """Return whether the sub-folders are splits; refuse a mixture."""
    splits = top & _SPLITS.keys()
    if splits and splits != top:
        raise PocketlensError(
            f"{folder}: {min(splits)!r} beside {min(top - splits)!r}: the sub-folders must all be "
            "splits (train, val, test) or all be classes"
        )
    return bool(splits)


def _walk(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the parts of every image's path; links are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    for parent, names, files in os.walk(folder, followlinks=True, onerror=_refuse_unreadable):
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in seen:
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names[:] = sorted(name for name in names if not name.startswith("."))
        parts = Path(parent).relative_to(folder).parts
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES:
                yield (*parts, file)


def _refuse_unreadable(error: OSError) -> None:
    raise PocketlensError(f"{error.filename}: cannot be listed ({error.strerror})")


def _row(parts: tuple[str, ...], has_splits: bool) -> Row:
    path = "/".join(parts)
    if has_splits and len(parts) > 1:
        split = cast(Split, _SPLITS[parts[0]])
        return Row(path, label=parts[1] if len(parts) > 2 else "", split=split)
    return Row(path, label=parts[0] if len(parts) > 1 else "")
