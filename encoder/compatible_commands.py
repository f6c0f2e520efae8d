"""The command line of compatible encoders: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Data, Overwrite, Seed, TestShare, with_options_of
from encoder.recipe_file import Recipe
from encoder.teacher_options import TeacherOptions, read_teacher_recipe
from encoder.training_options import (
    Output,
    Resume,
    SplitSeed,
    Tensorboard,
    TestClasses,
    ValShare,
    check_outputs,
    check_tensorboard,
    divide,
    divide_known,
    read_split,
    report_checkpoint,
)


@with_options_of(read_teacher_recipe, into="teacher")
def train_compatible(
    data: Data,
    output: Output,
    old: Annotated[
        Path, typer.Option(help="Checkpoint of the encoder whose database will be searched.")
    ],
    teacher: TeacherOptions,
    recipe: Recipe = None,
    method: Annotated[
        str, typer.Option(help="dual-tuning, bct, lce, regression, or forward for a new encoder.")
    ] = "dual-tuning",
    new: Annotated[
        Path | None,
        typer.Option(help="With --method forward: checkpoint that old vectors are mapped to."),
    ] = None,
    hidden: Annotated[
        int | None,
        typer.Option(help="Width of the network that maps them; 0 for a line.  [default: 1024]"),
    ] = None,
    old_weight: Annotated[
        float, typer.Option(help="Multiplies the terms that draw it to the old space.")
    ] = 1.0,
    old_temperature: Annotated[
        float, typer.Option(help="What cosines to old classes are divided by.")
    ] = 0.2,
    trim: Annotated[
        float, typer.Option(help="Share of a class's images left out of its old prototype.")
    ] = 0.1,
    weigh: Annotated[
        bool, typer.Option(help="Let a class count by how sure its old prototype is.")
    ] = True,
    test_share: TestShare = None,
    test_classes: TestClasses = None,
    val_share: ValShare = 0.1,
    split_seed: SplitSeed = 0,
    seed: Seed = 0,
    resume: Resume = False,
    tensorboard: Tensorboard = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a database encoder whose queries search an older one's database too."""
    require_extra("train", "train-compatible")
    forward = method == "forward"
    for flag, value in (("new", new), ("hidden", hidden)):
        if value is not None and not forward:
            raise PocketlensError(f"--{flag} {value} has no meaning without --method forward")
    for flag, given in (("test-share", test_share), ("test-classes", test_classes)):
        if given is not None and new:
            raise PocketlensError(f"--{flag} has no meaning with --new, whose split is known")
    split = read_split(test_share, test_classes, val_share=val_share, seed=split_seed)
    inputs = (data, recipe, old, new, teacher.keywords["weights"], test_classes)
    marker = "compatibility.json" if new else "config.json"
    check_outputs(output, *inputs, overwrite=overwrite, marker=marker)
    check_tensorboard(tensorboard, output)
    from encoder.checkpoint import load_checkpoint
    from encoder.compatibility import load_compatibility
    from encoder.compatible import CompatibleRecipe, accompany
    from encoder.forward_transform import ForwardRecipe, follow_forward, train_forward
    from encoder.teacher import train_teacher

    before, mapping = load_checkpoint(old), ForwardRecipe(1024 if hidden is None else hidden, seed)
    if new:
        free = load_checkpoint(new)
        table = divide_known(data, free)
        train_forward(free, before, table, mapping, output, overwrite=overwrite)
    else:
        table = divide(data, split)
        chosen = teacher(seed=seed)
        if forward:
            companion = follow_forward(before, table, mapping)
        else:
            drawn = CompatibleRecipe(method, old_weight, old_temperature, trim, weigh)  # type: ignore[arg-type]
            companion = accompany(before, table, drawn, chosen.loss)
        checkpoint, quarantined = train_teacher(
            table,
            chosen,
            output,
            split=split,
            companion=companion,
            overwrite=overwrite,
            resume=resume,
            tensorboard=tensorboard,
        )
        report_checkpoint(output, checkpoint, quarantined)
    found = load_compatibility(output)
    print(f"{found.direction}: space {found.query.id} searches space {found.database.id}")
    for name in ("old_old", "new_old", "new_new"):
        if f"{name}.r1" in found.shown:
            asks, answers = name.split("_")
            print(
                f"validation classes, {asks} → {answers}: R@1 {found.shown[f'{name}.r1']:.1f}, "
                f"MAP@R {found.shown[f'{name}.map_at_r']:.1f}"
            )
