"""Divide classes, never images, between training, validation and test."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from encoder.datasets.sources import read_source, without_boxes
from encoder.datasets.table import ImageTable, Split
from encoder.errors import PocketlensError, first_line


@dataclasses.dataclass(frozen=True)
class SplitRule:
    """Say how classes are divided where the data set does not say so itself.

    Classes sorted by name: the last `test` share is the test set. Of the others, a `val` share
    drawn with `seed` is the validation set. Names listed in `test_names` are the test set instead.
    """

    test: float = 0.5
    val: float = 0.1
    seed: int = 0
    test_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("test", "val"):
            if not 0 <= getattr(self, name) < 1:
                raise PocketlensError(f"--{name}-share must be at least 0 and below 1")
        if self.seed < 0:
            raise PocketlensError(f"--split-seed {self.seed} must not be negative")


def check_test_names(table: ImageTable, rule: SplitRule) -> None:
    """Refuse a rule that lists a class the table does not have."""
    unknown = sorted(set(rule.test_names) - set(table.class_names()))
    if unknown:
        raise PocketlensError(f"{table.root}: no such class to test on: {', '.join(unknown[:5])}")


def rule_from_json(value: Mapping[str, Any]) -> SplitRule:
    """Read the rule that a checkpoint was trained under."""
    try:
        return SplitRule(**{**value, "test_names": tuple(value["test_names"])})
    except (KeyError, TypeError) as error:
        raise PocketlensError(
            f"the split kept with the checkpoint is damaged ({first_line(error)})"
        ) from None


def known_split(provenance: Mapping[str, Any]) -> SplitRule:
    """Return the rule that an encoder was trained under, from what is kept of its making."""
    split = provenance.get("split")
    return rule_from_json(split) if split else SplitRule()


def read_class_list(file: Path) -> tuple[str, ...]:
    """Read class names from a text file, one a line.

    Raises:
        PocketlensError: when the file is missing or names no class.
    """
    try:
        names = tuple(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise PocketlensError(
            f"{file}: not a readable list of classes ({first_line(error)})"
        ) from None
    if not names:
        raise PocketlensError(f"{file}: names no class")
    return names


def read_table(source: Path) -> ImageTable:
    """Read a folder tree, a published set in its own layout, or a CSV or Parquet file.

    A published set is read as whole images, as its published results are; a table's boxes are
    meant, and are cut out.
    """
    table = read_source(source)
    return without_boxes(table) if source.is_dir() else table


def split_classes(table: ImageTable, rule: SplitRule) -> ImageTable:
    """Return the table with a split for every labelled row that has none.

    A table that names its own splits keeps them, except that validation classes are carved from
    its training classes where it has none.
    """
    own = {row.label: row.split for row in table.rows if row.split}
    names = table.class_names()
    if own:
        split = dict(own)
        training = [name for name in names if own.get(name, "train") == "train"]
        carve = "val" not in own.values()
    else:
        test = _test_classes(names, rule)
        split = {name: "test" if name in test else "train" for name in names}
        training = [name for name in names if name not in test]
        carve = True
    if carve:
        for name in _draw(training, rule):
            split[name] = "val"
    rows = [
        dataclasses.replace(row, split=_of(split.get(row.label, row.split or "train")))
        if row.label
        else row
        for row in table.rows
    ]
    return dataclasses.replace(table, rows=tuple(rows))


def _of(name: str) -> Split:
    assert name in ("", "train", "val", "test")
    return name  # type: ignore[return-value]


def _test_classes(names: list[str], rule: SplitRule) -> set[str]:
    if not rule.test_names:
        return set(names[len(names) - round(len(names) * rule.test) :])
    return set(rule.test_names) & set(names)


def _draw(training: list[str], rule: SplitRule) -> list[str]:
    count = min(round(len(training) * rule.val), max(0, len(training) - 2))
    drawn = np.random.default_rng(rule.seed).choice(len(training), count, replace=False)
    return [training[index] for index in sorted(drawn)]
