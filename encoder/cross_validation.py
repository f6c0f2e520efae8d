"""Train a teacher on each of some class-disjoint folds and judge them (Musgrave et al., 2020).

Every training class validates once, so no fold's best weights are chosen on classes it trained on.
On the test classes the models stand alone (separated: their mean) and side by side (concatenated).
"""

import dataclasses
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from encoder.atomic import check_output, new_folder, write_json
from encoder.checkpoint import CONFIG, Checkpoint, digest_model, load_checkpoint
from encoder.datasets.folds import make_folds
from encoder.datasets.splits import SplitRule
from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined
from encoder.evaluate import encode_with_each, labelled_test
from encoder.evaluation.document import EncoderFacts, to_document
from encoder.evaluation.protocol import (
    EvaluationRow,
    average_rows,
    concatenate_encoders,
    evaluate_pair,
)
from encoder.teacher import TeacherRecipe, select_training, start_model, train_teacher
from encoder.training import seed_everything
from encoder.training_state import StateFolder, identify, mark_started, open_state

FOLDS = "folds.json"
_PRECISION = "fp32"


def train_folds(
    table: ImageTable,
    recipe: TeacherRecipe,
    output: Path,
    *,
    folds: int,
    split: SplitRule,
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
) -> tuple[tuple[EvaluationRow, ...], tuple[Quarantined, ...]]:
    """Train a teacher a fold and write `fold-N/` and `folds.json`.

    Returns the test's rows (each fold's, their mean, all of them side by side) and the images that
    could not be read. With `resume` finished folds are taken as they are and the one that was
    stopped goes on.

    Raises:
        PocketlensError: when the classes are too few, or the output must not be replaced.
    """
    check_output(output, marker=FOLDS, overwrite=overwrite)
    test = labelled_test(table)
    parts = make_folds(table, folds=folds, seed=split.seed)
    for part in parts:
        select_training(part)
    seed_everything(recipe.seed)
    start = digest_model(start_model(recipe.architecture, recipe.weights))
    data = table.describe()
    facts = {"recipe": dataclasses.asdict(recipe), "folds": folds, "data": data}
    identity = identify(split=dataclasses.asdict(split), start=start, **facts)
    with open_state(output, identity, resume=resume, overwrite=overwrite) as state:
        mark_started(state)
        names = [f"fold-{number}" for number in range(1, folds + 1)]
        teachers, aside = train_each(
            {name: (part, recipe) for name, part in zip(names, parts, strict=True)},
            state,
            split=split,
            data=data,
            tensorboard=tensorboard,
        )
        rows, bad = judge_folds(teachers, test)
        aside += bad
        with new_folder(output, marker=FOLDS, overwrite=overwrite) as folder:
            for name in names:
                shutil.copytree(state.path / name, folder / name)
            classes = [part.split("val").class_names() for part in parts]
            write_json(folder / FOLDS, _describe(rows, teachers, classes, data))
    return rows, tuple({entry.path: entry for entry in aside}.values())


def train_each(
    parts: dict[str, tuple[ImageTable, TeacherRecipe]],
    state: StateFolder,
    *,
    split: SplitRule,
    data: dict[str, str | int],
    tensorboard: Path | None = None,
) -> tuple[list[Checkpoint], list[Quarantined]]:
    """Train a teacher on each table in a folder of its name within the state.

    Those that are finished there are taken as they are, and one that was stopped goes on. `data`
    describes the table that the parts are of. Returns them and the images that could not be read.
    """
    teachers, aside = [], list[Quarantined]()
    for name, (table, recipe) in parts.items():
        place = state.path / name
        if (place / CONFIG).exists():
            teachers.append(load_checkpoint(place))
            continue
        watched = tensorboard / name if tensorboard else None
        made, bad = train_teacher(
            table, recipe, place, split=split, data=data, resume=True, tensorboard=watched
        )
        teachers.append(made)
        aside += bad
    return teachers, aside


def judge_folds(
    teachers: list[Checkpoint], test: ImageTable
) -> tuple[tuple[EvaluationRow, ...], tuple[Quarantined, ...]]:
    """Return the rows of the folds' models on one test table, and what could not be read there."""
    encoded, unread = encode_with_each(teachers, table=test, precision=_PRECISION)
    each = [evaluate_pair(f"fold {n}", part, part) for n, part in enumerate(encoded, 1)]
    joined = concatenate_encoders(encoded)
    dim = joined.vectors.shape[1]
    rows = (
        *each,
        average_rows("separated: mean of the folds", each),
        evaluate_pair(f"concatenated, {dim}-d", joined, joined),
    )
    return rows, unread


def _describe(
    rows: tuple[EvaluationRow, ...],
    teachers: list[Checkpoint],
    classes: list[list[str]],
    data: dict[str, str | int],
) -> dict[str, Any]:
    document = to_document(
        rows,
        {},
        data=data,
        encoders=[
            EncoderFacts(f"fold-{n}", used.encoder, used.space.id, used.preprocess.size, _PRECISION)
            for n, used in enumerate(teachers, 1)
        ],
        command=shlex.join(["cli", *sys.argv[1:]]),
    )
    return {**document, "validation_classes": classes}
