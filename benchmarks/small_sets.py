"""Small data sets for tables of many short trainings: links to some images of a class folder."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoder.datasets.splits import SplitRule, read_table, split_classes
from encoder.datasets.table import ImageTable, Row


def link_training_half(source: Path, target: Path, *, images: int | None = None) -> Path:
    """Link the images of a set's training classes, so that its test classes are never touched.

    Of these classes the first half trains and the second tests, by the usual split. With `images`
    only so many images of each class to train on are linked, drawn with seed 0: the few-shot
    regime. A class with fewer keeps all.
    """
    if target.exists():
        return target
    rule = SplitRule(val=0.0)
    half = split_classes(read_table(source), rule).split("train")
    bare = tuple(Row(row.path, row.label) for row in half.rows)
    divided = split_classes(ImageTable(half.root, bare), rule)
    rng = np.random.default_rng(0)
    chosen = list[str]()
    for name in divided.class_names():
        rows = [row for row in divided.rows if row.label == name]
        kept = range(len(rows))
        if images is not None and rows[0].split == "train" and images < len(rows):
            kept = sorted(rng.choice(len(rows), images, replace=False))
        chosen += [rows[at].path for at in kept]
    scratch = target.with_name(f"{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    for path in chosen:
        link = scratch / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((half.root / path).resolve())
    scratch.rename(target)
    return target


def link_classes(source: Path, target: Path, names: Sequence[str]) -> Path:
    """Link some classes of a folder of classes."""
    if target.exists():
        return target
    scratch = target.with_name(f"{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name in names:
        (scratch / name).symlink_to((source / name).resolve(), target_is_directory=True)
    scratch.rename(target)
    return target
