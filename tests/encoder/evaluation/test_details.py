"""Tests of what a report shows behind a row, and of the JSON that carries it."""

import json

import numpy as np
import pytest

from encoder.evaluation.details import CURVE_RANKS, describe_pair
from encoder.evaluation.document import EncoderFacts, to_document
from encoder.evaluation.metrics import measure_retrieval
from encoder.evaluation.protocol import EncodedSet, HarmedRow, Judging, evaluate_pair

COUNT, CLASSES = 90, 9
LABELS = np.append(np.arange(COUNT - 1) % (CLASSES - 1), CLASSES - 1)
PATHS = [f"c{label}/{number:03d}.jpg" for number, label in enumerate(LABELS)]
NAMES = [f"c{label}" for label in range(CLASSES)]
EVERY = np.ones(COUNT, bool)


def encoded(seed: int, *, split: bool = False) -> EncodedSet:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, 12))
    vectors = rng.normal(size=(COUNT, 12)) + 0.8 * centres[LABELS]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asks = np.arange(COUNT) < 40 if split else EVERY
    answers = np.arange(COUNT) >= 40 if split else EVERY
    return EncodedSet(vectors.astype(np.float32), LABELS, np.arange(COUNT), asks, answers)


@pytest.mark.parametrize("split", [False, True])
def test_curve_and_classes_agree_with_the_figures(split: bool) -> None:
    query, database = encoded(0, split=split), encoded(1, split=split)
    details = describe_pair(query, database, paths=PATHS, names=NAMES)
    row = evaluate_pair("row", query, database, Judging(ranks=CURVE_RANKS))
    for rank, recall in zip(details.curve.ranks, details.curve.recall, strict=True):
        assert recall == pytest.approx(row.figures[f"r{rank}"])
    labels = LABELS[row.asked]
    for failure in details.classes:
        own = row.values["r1"][labels == NAMES.index(failure.label)]
        assert failure.queries == len(own)
        assert failure.r1 == pytest.approx(100 * own.mean(), abs=0.01)
        assert failure.confused_with != failure.label
    rates = [failure.r1 for failure in details.classes]
    assert rates == sorted(rates) and rates[-1] < 100


def test_examples_show_real_answers_half_of_them_wrong() -> None:
    query, database = encoded(0), encoded(1)
    details = describe_pair(query, database, paths=PATHS, names=NAMES, seed=3)
    assert len(details.examples) == 12
    assert [example.answers[0].right for example in details.examples] == [False] * 6 + [True] * 6
    for example in details.examples:
        at = PATHS.index(example.query)
        scores = query.vectors[at] @ database.vectors.T
        scores[at] = -np.inf
        best = np.argsort(-scores, kind="stable")[:5]
        assert [answer.path for answer in example.answers] == [PATHS[item] for item in best]
        for answer in example.answers:
            assert answer.right == (answer.label == example.label)
            assert answer.score == pytest.approx(scores[PATHS.index(answer.path)], abs=1e-4)
    again = describe_pair(query, database, paths=PATHS, names=NAMES, seed=3)
    assert again == details
    assert describe_pair(query, database, paths=PATHS, names=NAMES, seed=4) != details


def test_the_document_compares_rows_that_were_judged_alike() -> None:
    large, small = encoded(0), encoded(1)
    pairs = {"teacher": (large, large), "student": (small, large)}
    binary = Judging(storage="binary")
    rows = [evaluate_pair(name, *sides) for name, sides in pairs.items()]
    rows += [evaluate_pair(f"{name}, binary", *sides, binary) for name, sides in pairs.items()]
    details = {
        name: describe_pair(*sides, paths=PATHS, names=NAMES) for name, sides in pairs.items()
    }
    document = to_document(
        rows,
        details,
        data={"source": "set", "images": COUNT, "fingerprint": "00"},
        encoders=[EncoderFacts("teacher", "aa", "bb", 224, "fp32")],
        command="cli evaluate",
        robustness=[HarmedRow("blur", 0.004, rows[1])],
        quarantined=["x.jpg: empty file"],
    )
    assert json.loads(json.dumps(document))["rows"][3]["judging"]["storage"] == "binary"
    assert document["format"] == 1 and document["encoders"][0]["size"] == 224
    assert [(entry["row"], entry["baseline"]) for entry in document["differences"]] == [
        ("student", "teacher"), ("student, binary", "teacher, binary"),
    ]  # fmt: skip
    first = document["differences"][0]
    assert first["figures"]["r1"] == pytest.approx(rows[1].figures["r1"] - rows[0].figures["r1"])
    assert first["intervals"]["r1"]["low"] <= first["figures"]["r1"]
    assert document["robustness"][0]["figures"] == rows[1].figures
    assert len(document["examples"]) == 24 and document["quarantined"] == ["x.jpg: empty file"]


def test_queries_without_an_answer_are_left_out_of_the_details() -> None:
    one = encoded(0)
    details = describe_pair(one, one, paths=PATHS, names=NAMES)
    found = measure_retrieval(one.vectors, LABELS, one.vectors, LABELS, same_images=True)
    assert found.without_answer == 1
    assert details.curve.recall[0] == pytest.approx(found.means()["r1"])
    assert all(failure.label != NAMES[-1] for failure in details.classes)
