"""Evaluate a teacher and its student on test classes: the four rows a reader asks for."""

import dataclasses

import numpy as np

from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined, embed_all
from encoder.errors import PocketlensError
from encoder.evaluation.protocol import EncodedSet, EvaluationRow, evaluate_pair
from encoder.inference import embed_with
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.space import require_same_space


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Hold the rows, and the images that could not be read."""

    rows: tuple[EvaluationRow, ...]
    quarantined: tuple[Quarantined, ...]


def evaluate_checkpoints(
    teacher: Checkpoint, student: Checkpoint | None, table: ImageTable, *, precision: str = "fp32"
) -> Evaluation:
    """Measure on the test split: teacher, student on teacher, student, and the untrained row.

    The untrained row feeds the small image to the teacher's own weights: what distillation has to
    beat.

    Raises:
        PocketlensError: when there is no labelled test image, or the spaces differ.
    """
    test = table.select(i for i, row in enumerate(table.rows) if row.split == "test" and row.label)
    if not len(test):
        raise PocketlensError(f"{table.root}: no labelled test images")
    for checkpoint in (teacher, student):
        if checkpoint is not None:
            _refuse_trained(checkpoint, test)
    large, quarantined = _encode(teacher, teacher.preprocess, test, precision)
    size = teacher.preprocess.size
    rows = [evaluate_pair(f"teacher {size}, symmetric", large, large)]
    if student is not None:
        require_same_space(student.space, teacher.space, what="the student")
        own = student.preprocess.size
        untrained, _ = _encode(teacher, student.preprocess, test, precision)
        small, _ = _encode(student, student.preprocess, test, precision)
        rows += [
            evaluate_pair(f"untrained {own} → teacher {size}", untrained, large),
            evaluate_pair(f"student {own} → teacher {size}", small, large),
            evaluate_pair(f"student {own}, symmetric", small, small),
        ]
    return Evaluation(tuple(rows), quarantined)


def _refuse_trained(checkpoint: Checkpoint, test: ImageTable) -> None:
    """Refuse test classes that an encoder was trained on, by name."""
    seen = set(checkpoint.provenance.get("trained_on", [])) & set(test.class_names())
    if seen:
        raise PocketlensError(
            f"{test.root}: the {checkpoint.kind} was trained on {len(seen)} of the test classes, "
            f"{min(seen)!r} among them; evaluate with the split it was trained under, or rename "
            "the classes of another data set"
        )


def _encode(
    checkpoint: Checkpoint, preprocess: Preprocess, test: ImageTable, precision: str
) -> tuple[EncodedSet, tuple[Quarantined, ...]]:
    files = test.sources()
    with track(f"encoding {len(files)} test images at {preprocess.size}", len(files)) as advance:
        resized = dataclasses.replace(checkpoint, preprocess=preprocess)
        embed = embed_with(resized, precision=precision)
        embedded = embed_all(files, preprocess, embed, advance=advance)
    roles = np.array([test.rows[position].role for position in embedded.positions])
    encoded = EncodedSet(
        embedded.vectors,
        test.labels()[embedded.positions],
        embedded.positions,
        is_query=roles != "database",
        is_database=roles != "query",
    )
    return encoded, embedded.quarantined
