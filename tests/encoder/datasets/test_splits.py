"""Tests of dividing classes between training, validation and test."""

import dataclasses
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.datasets.splits import (
    SplitRule,
    check_test_names,
    read_class_list,
    read_table,
    rule_from_json,
    split_classes,
)
from encoder.datasets.table import ImageTable, Row, Split
from encoder.errors import PocketlensError

names = st.lists(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=20)
shares = st.floats(0, 0.99)
seeds = st.integers(0, 100)


def table_of(*labels: str, split: Split = "") -> ImageTable:
    rows = tuple(Row(f"{number}.jpg", label, split) for number, label in enumerate(labels))
    return ImageTable(Path("data"), rows)


def classes_by_split(table: ImageTable) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in table.rows:
        if row.label:
            found[row.split].add(row.label)
    return dict(found)


def check_division(before: ImageTable, after: ImageTable) -> None:
    of_class: dict[str, set[str]] = defaultdict(set)
    for old, new in zip(before.rows, after.rows, strict=True):
        assert dataclasses.replace(new, split=old.split) == old
        if new.label:
            of_class[new.label].add(new.split)
        else:
            assert new.split == old.split
    assert all(len(splits) == 1 for splits in of_class.values())
    assert set().union(*of_class.values(), {"train"}) <= {"train", "val", "test"}


@given(names, shares, shares, seeds)
@settings(max_examples=150, deadline=None)
def test_classes_are_divided_whole(labels: list[str], test: float, val: float, seed: int) -> None:
    table = table_of(*labels, "")
    rule = SplitRule(test, val, seed)
    divided = split_classes(table, rule)
    check_division(table, divided)
    assert split_classes(table, rule) == divided
    ordered = sorted(set(labels))
    found = classes_by_split(divided)
    # The last share by name tests; validation is carved from the others and leaves two of them.
    count = round(len(ordered) * test)
    assert sorted(found.get("test", set())) == ordered[len(ordered) - count :]
    others = ordered[: len(ordered) - count]
    val_names, train_names = found.get("val", set()), found.get("train", set())
    assert val_names | train_names == set(others)
    assert len(val_names) == min(round(len(others) * val), max(0, len(others) - 2))


@given(names, st.permutations(range(20)), seeds)
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_does_not_matter(labels: list[str], order: list[int], seed: int) -> None:
    table = table_of(*labels)
    shuffled = table.select(index for index in order if index < len(labels))
    rule = SplitRule(0.3, 0.4, seed)
    one, other = split_classes(table, rule), split_classes(shuffled, rule)
    assert classes_by_split(one) == classes_by_split(other)


def test_the_seed_draws_other_validation_classes_and_the_same_test() -> None:
    table = table_of(*(f"c{number:02}" for number in range(40)))
    divisions = [classes_by_split(split_classes(table, SplitRule(0.5, 0.3, s))) for s in range(5)]
    assert len({frozenset(found["val"]) for found in divisions}) > 1
    assert len({frozenset(found["test"]) for found in divisions}) == 1
    assert {len(found["val"]) for found in divisions} == {6}


def test_the_default_division_is_golden() -> None:
    # A teacher and its student are divided apart, by the rule alone: this draw never changes.
    table = table_of(*(f"c{number:02}" for number in range(40)))
    found = classes_by_split(split_classes(table, SplitRule()))
    assert sorted(found["test"]) == [f"c{number}" for number in range(20, 40)]
    assert sorted(found["val"]) == ["c12", "c16"]


def test_validation_leaves_two_classes_to_train_on() -> None:
    found = classes_by_split(split_classes(table_of("a", "b", "c"), SplitRule(test=0, val=0.99)))
    assert {name: len(found[name]) for name in found} == {"train": 2, "val": 1}
    found = classes_by_split(split_classes(table_of("a", "b"), SplitRule(test=0, val=0.99)))
    assert found == {"train": {"a", "b"}}


def test_listed_classes_test_instead() -> None:
    table = table_of(*"abcdefgh")
    rule = SplitRule(test=0.5, val=0.5, test_names=("a", "h"))
    divided = split_classes(table, rule)
    check_division(table, divided)
    found = classes_by_split(divided)
    assert found["test"] == {"a", "h"}
    assert len(found["val"]) == 3
    assert found["val"] | found["train"] == set("bcdefg")


def test_every_class_may_be_listed() -> None:
    found = classes_by_split(split_classes(table_of("a", "b"), SplitRule(test_names=("b", "a"))))
    assert found == {"test": {"a", "b"}}


def test_an_unknown_listed_class_is_named() -> None:
    with pytest.raises(PocketlensError, match=r"no such class to test on: x, y$"):
        check_test_names(table_of("a", "b"), SplitRule(test_names=("y", "a", "x")))


def test_listed_classes_that_other_data_does_not_have_are_passed_over() -> None:
    """A teacher's rule serves other images too."""
    found = classes_by_split(split_classes(table_of("b", "c"), SplitRule(test_names=("a", "b"))))
    assert found["test"] == {"b"}


def with_splits(**splits: str) -> ImageTable:
    rows = tuple(
        Row(f"{label}{number}.jpg", label, split)  # type: ignore[arg-type]
        for label, split in splits.items()
        for number in range(2)
    )
    return ImageTable(Path("data"), rows)


def test_a_table_with_all_splits_keeps_them() -> None:
    table = with_splits(a="test", b="val", c="train", d="train", e="train", f="train")
    assert split_classes(table, SplitRule(val=0.5)) == table


def test_validation_is_carved_from_training_classes_only() -> None:
    table = with_splits(a="test", b="test", c="train", d="train", e="train", f="train")
    for seed in range(10):
        found = classes_by_split(split_classes(table, SplitRule(val=0.5, seed=seed)))
        assert found["test"] == {"a", "b"}
        assert len(found["val"]) == 2
        assert found["val"] | found["train"] == set("cdef")


def test_classes_without_a_split_train_where_others_have_one() -> None:
    table = with_splits(a="test", b="val", c="", d="train")
    found = classes_by_split(split_classes(table, SplitRule()))
    assert found == {"test": {"a"}, "val": {"b"}, "train": {"c", "d"}}


def test_a_table_without_labels_stays() -> None:
    table = ImageTable(Path("data"), (Row("1.jpg"), Row("2.jpg", split="train")))
    assert split_classes(table, SplitRule()) == table


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_bad_shares_are_refused(share: float) -> None:
    with pytest.raises(PocketlensError, match="--test-share"):
        SplitRule(test=share)
    with pytest.raises(PocketlensError, match="--val-share"):
        SplitRule(val=share)


def test_the_rule_goes_round() -> None:
    rule = SplitRule(0.25, 0.2, 7, ("b", "ä"))
    assert rule_from_json(json.loads(json.dumps(dataclasses.asdict(rule)))) == rule


def test_a_list_of_classes(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("  finch\n\nMöwe \r\nauk", encoding="utf-8")
    assert read_class_list(file) == ("finch", "Möwe", "auk")


@pytest.mark.parametrize("content", [b"", b" \n\n", b"M\xf6we\n"], ids=["empty", "blank", "Latin"])
def test_a_bad_list_of_classes_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes(content)
    with pytest.raises(PocketlensError, match=r"classes\.txt: (names no class|not a readable)"):
        read_class_list(file)


def test_a_missing_list_of_classes_is_named(tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match=r"gone\.txt: not a readable list"):
        read_class_list(tmp_path / "gone.txt")


def test_sources_are_folders_or_tables(tmp_path: Path) -> None:
    for label in "abcd":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.jpg").write_bytes(b"x")
    lines = ["path,label", *(f"{label}/1.jpg,{label}" for label in "abcd")]
    (tmp_path / "table.CSV").write_text("\n".join(lines))
    from_folder, from_csv = read_table(tmp_path), read_table(tmp_path / "table.CSV")
    assert from_folder == from_csv
    assert classes_by_split(split_classes(read_table(tmp_path), SplitRule(test=0.5, val=0))) == {
        "train": {"a", "b"},
        "test": {"c", "d"},
    }
