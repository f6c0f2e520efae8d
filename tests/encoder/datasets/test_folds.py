"""Tests of the class-disjoint folds."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.datasets.folds import FOLDS, divide_folds, make_folds
from encoder.datasets.table import ImageTable, Row, Split
from encoder.errors import PocketlensError

splits = st.sampled_from(["train", "val", "test", ""])
divisions = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), splits, max_size=25)
seeds = st.integers(0, 1000)


def table_of(split_of: dict[str, Split]) -> ImageTable:
    rows = [
        Row(f"{label}/{number}.jpg", label, split)
        for label, split in sorted(split_of.items())
        for number in range(1 + len(label))
    ]
    return ImageTable(Path("data"), (*rows, Row("loose.jpg"), Row("more.jpg", "", "train")))


def training(split_of: dict[str, Split]) -> set[str]:
    return {label for label, split in split_of.items() if split != "test"}


@given(divisions, seeds, st.integers(2, 6))
@settings(max_examples=150, deadline=None)
def test_folds_are_disjoint_balanced_and_whole(
    split_of: dict[str, Split], seed: int, folds: int
) -> None:
    table, names = table_of(split_of), training(split_of)
    if len(names) < folds:
        with pytest.raises(PocketlensError, match=f"{len(names)} training classes"):
            make_folds(table, folds=folds, seed=seed)
        return
    made = make_folds(table, folds=folds, seed=seed)
    held_out = [set(fold.split("val").class_names()) for fold in made]
    assert len(made) == folds
    assert sorted(name for names in held_out for name in names) == sorted(names)
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
    for fold, held in zip(made, held_out, strict=True):
        assert set(fold.split("train").class_names()) == names - held
        assert fold.split("test") == table.split("test")
        assert [(row.path, row.label) for row in fold.rows] == [
            (row.path, row.label) for row in table.rows
        ]
        loose = [row for row in fold.rows if not row.label]
        assert loose == [row for row in table.rows if not row.label]


@given(divisions, seeds, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_folds_follow_from_the_classes_and_the_seed(
    split_of: dict[str, Split], seed: int, random: object
) -> None:
    if len(training(split_of)) < FOLDS:
        return
    table = table_of(split_of)
    order = list(range(len(table)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert divide_folds(table.select(order), seed=seed) == divide_folds(table, seed=seed)


def test_the_seed_draws_other_folds() -> None:
    table = table_of({f"c{number:02}": "train" for number in range(40)})
    drawn = [tuple(map(tuple, divide_folds(table, seed=seed))) for seed in range(5)]
    assert len(set(drawn)) == 5


def test_the_default_folds_are_golden() -> None:
    # Results are quoted for a fold by its number: this draw never changes.
    table = table_of({f"c{number}": "train" for number in range(8)})
    assert divide_folds(table) == [["c2", "c5"], ["c0", "c4"], ["c1", "c3"], ["c6", "c7"]]


def test_one_fold_is_refused() -> None:
    with pytest.raises(PocketlensError, match="at least 2 folds"):
        divide_folds(table_of({"a": "train", "b": "train"}), folds=1)
