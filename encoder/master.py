"""Train a master: branches that learnt different classes, fused, frozen, to guide a teacher.

Our reconstruction of the master of Guided DML (Gonzalez-Zapata et al., 2022), of which neither code
nor architecture is published. The choices are ours: each branch is an embedding model of its own;
branch k learns by prototypical episodes all classes but the k-th of as many class-disjoint folds as
there are branches, and keeps the weights that were best on that fold; the fused embedding is the
branches' unit vectors side by side. What guides is `encoder.losses.guided`.
"""

import dataclasses
import shutil
from pathlib import Path

from encoder.atomic import check_output, new_folder, write_json
from encoder.checkpoint import Checkpoint, digest_model, library_versions
from encoder.cross_validation import train_each
from encoder.datasets.folds import make_folds
from encoder.datasets.splits import SplitRule
from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined
from encoder.errors import PocketlensError
from encoder.evaluate import encode_with_each
from encoder.evaluation.protocol import (
    EncodedSet,
    EvaluationRow,
    concatenate_encoders,
    evaluate_pair,
)
from encoder.guide import FORMAT, MASTER, save_guide
from encoder.losses.supervised import LossRecipe
from encoder.optimisation import Optimisation
from encoder.teacher import TeacherRecipe, has_pair, select_training, start_model
from encoder.training import check_seed, seed_everything
from encoder.training_state import identify, mark_started, open_state


@dataclasses.dataclass(frozen=True)
class MasterRecipe:
    """Hold every choice of a master's training: how many branches, and how each is trained.

    Branch k takes the seed `branch.seed` + k.
    """

    branches: int = 4
    branch: TeacherRecipe = TeacherRecipe(
        optimisation=Optimisation(epochs=12, lr=1e-4), loss=LossRecipe("prototypical")
    )

    def __post_init__(self) -> None:
        if not 2 <= self.branches <= 32:
            raise PocketlensError(f"--branches {self.branches} is not in 2..32")
        check_seed(self.branch.seed + self.branches)


def train_master(
    table: ImageTable,
    recipe: MasterRecipe,
    output: Path,
    *,
    split: SplitRule,
    overwrite: bool = False,
    resume: bool = False,
) -> tuple[tuple[EvaluationRow, ...], tuple[Quarantined, ...]]:
    """Train the branches on the table's training split and store their fused vectors of it.

    Writes `branch-N/`, `vectors.safetensors` and `master.json`. Returns the rows of each branch and
    of all fused on the validation classes, which no branch learns; none where there are none. Also
    returns the images that could not be read. With `resume` finished branches are taken as they
    are and the one that was stopped goes on.

    Raises:
        PocketlensError: when the classes are too few, or the output must not be replaced.
    """
    check_output(output, marker=MASTER, overwrite=overwrite)
    training = select_training(table)
    if recipe.branches > len(training.class_names()):
        raise PocketlensError(
            f"--branches {recipe.branches}: each leaves out classes of its own, and {table.root} "
            f"has {len(training.class_names())} to train on"
        )
    parts = make_folds(training, folds=recipe.branches, seed=split.seed)
    for part in parts:
        select_training(part)
    seed_everything(recipe.branch.seed)
    start = digest_model(start_model(recipe.branch.architecture, recipe.branch.weights))
    described, facts = training.describe(), {"recipe": dataclasses.asdict(recipe)}
    identity = identify(split=dataclasses.asdict(split), start=start, data=described, **facts)
    with open_state(output, identity, resume=resume, overwrite=overwrite) as state:
        mark_started(state)
        names = [f"branch-{number}" for number in range(1, recipe.branches + 1)]
        branches, aside = train_each(
            {
                name: (part, dataclasses.replace(recipe.branch, seed=recipe.branch.seed + number))
                for number, (name, part) in enumerate(zip(names, parts, strict=True), 1)
            },
            state,
            split=split,
            data=table.describe(),
        )
        fused, bad = fuse_branches(branches, training)
        rows, unread = _judge(branches, table.split("val"))
        aside += (*bad, *unread)
        with new_folder(output, marker=MASTER, overwrite=overwrite) as folder:
            for name in names:
                shutil.copytree(state.path / name, folder / name)
            stored = save_guide(folder, fused.vectors, fused.positions)
            write_json(
                folder / MASTER,
                {
                    "format": FORMAT,
                    "kind": "master",
                    "branches": names,
                    "training": described,
                    "trained_on": training.class_names(),
                    "split": dataclasses.asdict(split),
                    "vectors": {**stored, "dim": fused.vectors.shape[1]},
                    "validation": [row.to_json() for row in rows],
                    "versions": library_versions(),
                    **facts,
                },
            )
    return rows, tuple({entry.path: entry for entry in aside}.values())


def fuse_branches(
    branches: list[Checkpoint], table: ImageTable
) -> tuple[EncodedSet, tuple[Quarantined, ...]]:
    """Return the branches' unit vectors side by side, unit length again, and what is unreadable."""
    each, unread = encode_with_each(branches, table=table, precision="auto")
    return concatenate_encoders(each), unread


def _judge(
    branches: list[Checkpoint], validation: ImageTable
) -> tuple[tuple[EvaluationRow, ...], tuple[Quarantined, ...]]:
    """Return the rows of the labelled images, none where no class has two that can be read."""
    labelled = validation.select(n for n, row in enumerate(validation.rows) if row.label)
    if not len(labelled):
        return (), ()
    each, unread = encode_with_each(branches, table=labelled, precision="auto")
    if not has_pair(each[0].labels):
        return (), unread
    fused = concatenate_encoders(each)
    rows = [evaluate_pair(f"branch {n}", part, part) for n, part in enumerate(each, 1)]
    return (*rows, evaluate_pair(f"fused, {fused.vectors.shape[1]}-d", fused, fused)), unread
