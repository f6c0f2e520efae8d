"""Tests of one line of the table: who asks and who answers."""

import dataclasses
import json

import numpy as np
import pytest

from encoder.errors import PocketlensError
from encoder.evaluation.bootstrap import bootstrap_interval
from encoder.evaluation.metrics import measure_retrieval
from encoder.evaluation.protocol import (
    EncodedSet,
    Judging,
    average_rows,
    compare_rows,
    concatenate_encoders,
    evaluate_pair,
    list_judgings,
    mix_databases,
)
from encoder.evaluation.storage import store_both

COUNT = 24
LABELS = np.append(np.arange(COUNT - 1) % 4, 9)
EVERY = np.ones(COUNT, bool)
NONE = np.zeros(COUNT, bool)


def encoded(seed: int, is_query: np.ndarray = EVERY, is_database: np.ndarray = EVERY) -> EncodedSet:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(10, 8))
    vectors = rng.normal(size=(COUNT, 8)) + 0.9 * centres[LABELS]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return EncodedSet(vectors.astype(np.float32), LABELS, np.arange(COUNT), is_query, is_database)


def test_symmetric() -> None:
    one = encoded(0)
    row = evaluate_pair("teacher", one, one)
    expected = measure_retrieval(one.vectors, LABELS, one.vectors, LABELS, same_images=True)
    assert row.name == "teacher"
    assert row.figures == expected.means()
    assert 0 < row.figures["map_at_r"] < 100
    assert list(row.figures) == ["r1", "r2", "r4", "r8", "r_precision", "map_at_r"]
    assert row.queries == COUNT
    assert row.without_answer == 1


def test_asymmetric_removes_each_image_by_its_index() -> None:
    small, large = encoded(1), encoded(0)
    row = evaluate_pair("student", small, large)
    expected = measure_retrieval(small.vectors, LABELS, large.vectors, LABELS, same_images=True)
    assert row.figures == expected.means()
    other_way = evaluate_pair("student", large, small)
    assert row.figures != other_way.figures


def test_intervals_belong_to_their_figures() -> None:
    one = encoded(0)
    row = evaluate_pair("x", one, one, Judging(seed=3))
    assert set(row.intervals) == set(row.figures)
    for name, interval in row.intervals.items():
        assert interval.low <= row.figures[name] <= interval.high
    found = measure_retrieval(one.vectors, LABELS, one.vectors, LABELS, same_images=True)
    assert row.intervals["map_at_r"] == bootstrap_interval(found.map_at_r, seed=3)
    assert row.intervals["r4"] == bootstrap_interval(found.recall[4], seed=3)
    assert evaluate_pair("x", one, one, Judging(seed=3)) == row
    assert evaluate_pair("x", one, one, Judging(seed=4)).intervals != row.intervals


def test_separate_roles() -> None:
    asks = np.arange(COUNT) % 3 == 0
    small, large = encoded(1, asks, ~asks), encoded(0, asks, ~asks)
    row = evaluate_pair("roles", small, large)
    expected = measure_retrieval(
        small.vectors[asks], LABELS[asks], large.vectors[~asks], LABELS[~asks], same_images=False
    )
    assert row.figures == expected.means()
    assert row.queries == int(asks.sum())


def test_images_without_a_role_are_left_out() -> None:
    asks, answers = NONE.copy(), NONE.copy()
    asks[:8], answers[12:] = True, True
    one = encoded(0, asks, answers)
    row = evaluate_pair("roles", one, one)
    expected = measure_retrieval(
        one.vectors[:8], LABELS[:8], one.vectors[12:], LABELS[12:], same_images=False
    )
    assert row.figures == expected.means()
    assert row.queries == 8


@pytest.mark.parametrize("which", ["is_query", "is_database"])
@pytest.mark.parametrize("index", [0, COUNT - 1])
def test_mixed_roles_are_refused(which: str, index: int) -> None:
    some = EVERY.copy()
    some[index] = False
    one = dataclasses.replace(encoded(0), **{which: some})
    with pytest.raises(PocketlensError, match="roles: either every image asks and answers"):
        evaluate_pair("x", one, one)


def test_one_image_in_both_roles_is_refused() -> None:
    asks = np.arange(COUNT) < 10
    answers = np.arange(COUNT) >= 9
    one = encoded(0, asks, answers)
    with pytest.raises(PocketlensError, match="roles"):
        evaluate_pair("x", one, one)


@pytest.mark.parametrize("positions", [np.arange(COUNT)[::-1].copy(), np.arange(COUNT - 1)])
def test_different_images_are_refused(positions: np.ndarray) -> None:
    one = encoded(0)
    kept = slice(len(positions))
    other = EncodedSet(one.vectors[kept], LABELS[kept], positions, EVERY[kept], EVERY[kept])
    with pytest.raises(PocketlensError, match="x: query and database encoders read different"):
        evaluate_pair("x", one, other)


def test_nobody_asking_is_refused() -> None:
    for asks, answers in ((NONE, EVERY), (EVERY, NONE)):
        one = encoded(0, asks, answers)
        with pytest.raises(PocketlensError, match="no query has an item of its class"):
            evaluate_pair("x", one, one)


def test_a_row_is_plain_json() -> None:
    one = encoded(0)
    row = evaluate_pair("x", one, one)
    value = json.loads(json.dumps(row.to_json()))
    assert value["figures"] == row.figures
    assert value["intervals"]["r1"] == {
        "low": row.intervals["r1"].low,
        "high": row.intervals["r1"].high,
    }
    assert (value["name"], value["queries"], value["without_answer"]) == ("x", COUNT, 1)


@pytest.mark.parametrize("storage", ["int8", "binary", "float-binary"])
def test_storage_and_prefix_are_applied_to_both_sides(storage: str) -> None:
    small, large = encoded(1), encoded(0)
    judging = Judging(storage=storage, dim=6, ranks=(1, 3), whole_ranking=True)  # type: ignore[arg-type]
    row = evaluate_pair("student", small, large, judging)
    sides = store_both(small.vectors, large.vectors, storage, dim=6)  # type: ignore[arg-type]
    expected = measure_retrieval(
        sides[0], LABELS, sides[1], LABELS, same_images=True, ranks=(1, 3), whole_ranking=True
    )
    assert row.figures == expected.means()
    assert set(row.figures) == {"r1", "r3", "r_precision", "map_at_r", "map"}
    assert json.loads(json.dumps(row.to_json()))["judging"]["storage"] == storage


def test_rows_are_compared_query_by_query() -> None:
    one, other = encoded(0), encoded(1)
    rows = [evaluate_pair("a", one, one), evaluate_pair("b", other, other)]
    difference = compare_rows(rows[1], rows[0])
    for name, interval in difference.items():
        change = rows[1].figures[name] - rows[0].figures[name]
        assert interval.low <= change <= interval.high
    backwards = compare_rows(rows[0], rows[1])["map_at_r"]
    assert backwards.low == pytest.approx(-difference["map_at_r"].high)
    halves = encoded(0, is_query=EVERY & (np.arange(COUNT) < 9), is_database=np.arange(COUNT) >= 9)
    with pytest.raises(PocketlensError, match="answer different queries"):
        compare_rows(evaluate_pair("c", halves, halves), rows[0])


def test_mixed_databases_are_nested_and_seeded() -> None:
    old, new = encoded(0), encoded(1)
    fresh = []
    for share in (0.0, 0.3, 0.6, 1.0):
        mixed = mix_databases(old, new, share, seed=2)
        is_new = (mixed.vectors == new.vectors).all(axis=1)
        assert (is_new | (mixed.vectors == old.vectors).all(axis=1)).all()
        fresh.append(is_new)
    assert not fresh[0].any() and fresh[3].all() and 0 < fresh[1].sum() < COUNT
    assert (fresh[1] <= fresh[2]).all()
    again = mix_databases(old, new, 0.3, seed=2)
    np.testing.assert_array_equal((again.vectors == new.vectors).all(axis=1), fresh[1])
    with pytest.raises(PocketlensError, match=r"share 1.5"):
        mix_databases(old, new, 1.5)
    with pytest.raises(PocketlensError, match="different images"):
        mix_databases(old, dataclasses.replace(new, positions=new.positions + 1), 0.5)


def test_folds_separated_and_concatenated() -> None:
    parts = [encoded(seed) for seed in range(4)]
    joined = concatenate_encoders(parts)
    assert joined.vectors.shape == (COUNT, 32)
    np.testing.assert_allclose(
        joined.vectors @ joined.vectors.T,
        np.mean([part.vectors @ part.vectors.T for part in parts], axis=0),
        atol=1e-6,
    )
    rows = [evaluate_pair("fold", part, part) for part in parts]
    mean = average_rows("separated", rows)
    for name, value in mean.figures.items():
        assert value == pytest.approx(np.mean([row.figures[name] for row in rows]))
        assert mean.intervals[name].low <= value <= mean.intervals[name].high
    other = dataclasses.replace(parts[1], positions=parts[1].positions + 1)
    with pytest.raises(PocketlensError, match="different images"):
        concatenate_encoders([parts[0], other])


def test_judgings_of_storages_and_prefixes() -> None:
    assert list_judgings([], []) == (Judging(),)
    found = list_judgings(["binary", "int8"], [64, 128, 64], seed=2)
    assert [(judging.dim, judging.storage) for judging in found] == [
        (dim, storage) for dim in (None, 64, 128) for storage in ("float", "int8", "binary")
    ]
    assert {judging.seed for judging in found} == {2}
    with pytest.raises(PocketlensError, match="--storage 'int4' is not one of float, int8"):
        list_judgings(["int4"], [])
