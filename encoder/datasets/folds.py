"""Class-disjoint folds of the training classes: every class validates once."""

import dataclasses

import numpy as np

from encoder.datasets.table import ImageTable, Row
from encoder.errors import PocketlensError

FOLDS = 4


def divide_folds(table: ImageTable, *, folds: int = FOLDS, seed: int = 0) -> list[list[str]]:
    """Draw the training classes into folds whose numbers of classes differ by one at most.

    Every labelled class that is not in the test split is drawn; a table without splits is divided
    by `split_classes` first.

    Raises:
        PocketlensError: when some fold would have no class.
    """
    names = sorted({row.label for row in table.rows if _trains(row)})
    if not 2 <= folds <= len(names):
        raise PocketlensError(
            f"{table.root}: {len(names)} training classes cannot be divided into {folds} folds; "
            "there must be at least 2 folds and a class for each"
        )
    drawn = np.random.default_rng(seed).permutation(len(names))
    return [sorted(names[index] for index in drawn[fold::folds]) for fold in range(folds)]


def make_folds(table: ImageTable, *, folds: int = FOLDS, seed: int = 0) -> list[ImageTable]:
    """Return one table a fold: its classes validate, the other training classes train."""
    return [_hold_out(table, set(names)) for names in divide_folds(table, folds=folds, seed=seed)]


def _trains(row: Row) -> bool:
    return bool(row.label) and row.split != "test"


def _hold_out(table: ImageTable, names: set[str]) -> ImageTable:
    rows = tuple(
        dataclasses.replace(row, split="val" if row.label in names else "train")
        if _trains(row)
        else row
        for row in table.rows
    )
    return dataclasses.replace(table, rows=rows)
