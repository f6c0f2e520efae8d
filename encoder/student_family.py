"""Distil several students of one teacher, which looks at their views once for all of them."""

import dataclasses
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoder.atomic import check_output, new_folder, write_json
from encoder.checkpoint import CONFIG, Checkpoint, load_checkpoint
from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined
from encoder.errors import PocketlensError
from encoder.student import StudentRecipe, distil_student
from encoder.training_state import StateFolder, identify, mark_started, open_state
from encoder.unlabelled_images import training_images
from encoder.view_making import StoreRecipe, make_views
from encoder.view_store import ViewStore, open_store

FAMILY = "family.json"
FORMAT = 1


def plan_family(
    recipe: StudentRecipe, sizes: Sequence[int], trunks: Sequence[str]
) -> dict[str, StudentRecipe]:
    """Return a recipe for each size of each trunk, under the name of its folder.

    Raises:
        PocketlensError: when one is given twice, or each of them were to serve other sizes too.
    """
    if recipe.elastic:
        raise PocketlensError(
            "--elastic is for one student: distil it apart, from the same --store"
        )
    members = [
        (f"student-{size}" + (f"-{_name_trunk(trunk)}" if trunk else ""), size, trunk)
        for trunk, size in itertools.product(trunks or [""], sizes)
    ]
    names = [name for name, _, _ in members]
    for name in names:
        if names.count(name) > 1:
            raise PocketlensError(f"{name}: given twice; give each --size and --trunk once")
    return {
        name: dataclasses.replace(recipe, size=size, trunk=trunk) for name, size, trunk in members
    }


def _name_trunk(trunk: str) -> str:
    """Return a trunk's name without how it is built."""
    return "+".join(part.partition(":")[0] for part in trunk.split("+"))


def distil_family(
    teacher: Checkpoint,
    table: ImageTable,
    members: dict[str, StudentRecipe],
    output: Path,
    *,
    stored: int,
    store: ViewStore | None = None,
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
) -> tuple[dict[str, Checkpoint], tuple[Quarantined, ...]]:
    """Distil the members, one after another, and write a checkpoint folder of each into `output`.

    The teacher looks at `stored` views of each image before, unless a `store` of them is given; at
    0 it looks at new views in every step of every student. With `resume` finished members are taken
    as they are and the one that was stopped goes on. Returns the students and the images that could
    not be read.

    Raises:
        PocketlensError: as `distil_student` and `make_views` do.
    """
    check_output(output, marker=FAMILY, overwrite=overwrite)
    used = max(recipe.views_per_image for recipe in members.values())
    if store is None and 0 < stored < used:
        raise PocketlensError(f"--stored {stored} is less than --views {used}")
    facts: dict[str, Any] = {
        "members": {name: dataclasses.asdict(recipe) for name, recipe in members.items()},
        "teacher": {"encoder": teacher.encoder, "size": teacher.preprocess.size},
        "stored": store.describe() if store else stored,
    }
    identity = identify(**facts, data=table.describe())
    aside: list[Quarantined] = []
    students: dict[str, Checkpoint] = {}
    with open_state(output, identity, resume=resume, overwrite=overwrite) as state:
        mark_started(state)
        if store is None and stored:
            store, unread = _look_once(teacher, table, members, stored, state)
            aside += unread
        for name, recipe in members.items():
            place = state.path / name
            if (place / CONFIG).exists():
                students[name] = load_checkpoint(place)
                continue
            watched = tensorboard / name if tensorboard else None
            students[name], unread = distil_student(
                teacher, table, recipe, place, store=store, resume=True, tensorboard=watched
            )
            aside += unread
        with new_folder(output, marker=FAMILY, overwrite=overwrite) as folder:
            for name in members:
                shutil.copytree(state.path / name, folder / name)
            kept = len(training_images(table, with_validation=_first(members).with_validation))
            described = {"format": FORMAT, "kind": "family", "images": kept, **facts}
            write_json(folder / FAMILY, described)
    return students, tuple({entry.path: entry for entry in aside}.values())


def _first(members: dict[str, StudentRecipe]) -> StudentRecipe:
    return next(iter(members.values()))


def _look_once(
    teacher: Checkpoint,
    table: ImageTable,
    members: dict[str, StudentRecipe],
    stored: int,
    state: StateFolder,
) -> tuple[ViewStore, tuple[Quarantined, ...]]:
    """Make views, or go on with making them, in the state; they go with it."""
    first = _first(members)
    recipe = StoreRecipe(
        stored,
        first.views,
        precision=first.teacher_precision,
        with_validation=first.with_validation,
        seed=first.seed,
    )
    _, unread = make_views(teacher, table, recipe, state.path / "views", resume=True)
    return open_store(state.path / "views"), unread
