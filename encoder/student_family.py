"""Distil several students of one teacher, which looks at their views once for all of them."""

import dataclasses
import itertools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder.atomic import check_output, new_folder, write_json
from encoder.checkpoint import CONFIG, Checkpoint, digest_model, load_checkpoint
from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined
from encoder.errors import PocketlensError
from encoder.json_files import read_format
from encoder.student import StudentRecipe, distil_student, plan_student
from encoder.training_state import StateFolder, drop_state, identify, mark_started, open_state
from encoder.unlabelled_images import open_unlabelled
from encoder.view_making import MOST_VIEWS, StoreRecipe, make_views
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
    members = dict[str, StudentRecipe]()
    for option, given in (("size", sizes), ("trunk", trunks)):
        for value in given:
            if list(given).count(value) > 1:
                raise PocketlensError(f"--{option} {value}: given twice; give each once")
    for trunk, size in itertools.product(trunks or [""], sizes):
        name = plain = f"student-{size}" + (f"-{_name_trunk(trunk)}" if trunk else "")
        # One trunk may be built in several ways.
        for number in itertools.count(2):
            if name not in members:
                break
            name = f"{plain}-{number}"
        members[name] = dataclasses.replace(recipe, size=size, trunk=trunk)
    return members


def _name_trunk(trunk: str) -> str:
    """Return a trunk's name, without how it is built, as part of a folder's name."""
    names = "+".join(part.partition(":")[0] for part in trunk.split("+"))
    return re.sub(r"[^\w.+-]", "-", names)


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
    used = max(recipe.views_per_image for recipe in members.values())
    if store is None and stored and not used <= stored <= MOST_VIEWS:
        raise PocketlensError(f"--stored {stored} is not between --views {used} and {MOST_VIEWS}")
    starts = {
        name: digest_model(plan_student(teacher, table, recipe, store).model)
        for name, recipe in members.items()
    }
    facts: dict[str, Any] = {
        "members": {name: dataclasses.asdict(recipe) for name, recipe in members.items()},
        "starts": starts,
        "teacher": {"encoder": teacher.encoder, "size": teacher.preprocess.size},
        "stored": store.describe() if store else stored,
    }
    identity = identify(**facts, data=table.describe())
    if resume and _is_finished(output, identity):
        drop_state(output)
    else:
        check_output(output, marker=FAMILY, overwrite=overwrite)
        with open_state(output, identity, resume=resume, overwrite=overwrite) as state:
            mark_started(state)
            if store is None and stored:
                store = _look_once(teacher, table, members, stored, state)
            for name, recipe in members.items():
                place = state.path / name
                if (place / CONFIG).exists():
                    continue
                watched = tensorboard / name if tensorboard else None
                distil_student(
                    teacher, table, recipe, place, store=store, resume=True, tensorboard=watched
                )
            with new_folder(output, marker=FAMILY, overwrite=overwrite) as folder:
                for name in members:
                    shutil.copytree(state.path / name, folder / name)
                described = {"format": FORMAT, "kind": "family", "identity": identity, **facts}
                write_json(folder / FAMILY, described)
    first = next(iter(members.values()))
    # They are decoded already; those that could not be are known again without looking.
    images, _ = open_unlabelled(
        table,
        side=2 * teacher.preprocess.size,
        with_validation=first.with_validation,
        rng=np.random.default_rng(first.seed),
    )
    return {name: load_checkpoint(output / name) for name in members}, images.quarantined


def _is_finished(output: Path, identity: str) -> bool:
    """Return whether this very family ended, and only its state was left behind by a kill."""
    try:
        return bool(read_format(output / FAMILY, FORMAT).get("identity") == identity)
    except PocketlensError:
        return False


def _look_once(
    teacher: Checkpoint,
    table: ImageTable,
    members: dict[str, StudentRecipe],
    stored: int,
    state: StateFolder,
) -> ViewStore:
    """Make views, or go on with making them, in the state; they go with it."""
    first = next(iter(members.values()))
    recipe = StoreRecipe(
        stored,
        first.views,
        precision=first.teacher_precision,
        with_validation=first.with_validation,
        seed=first.seed,
    )
    make_views(teacher, table, recipe, state.path / "views", resume=True)
    return open_store(state.path / "views")
