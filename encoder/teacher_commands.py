"""The command line of database encoders: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Data, Overwrite, Seed, TestShare, with_options_of
from encoder.progress import report_set_aside
from encoder.recipe_file import Recipe
from encoder.teacher_options import TeacherOptions, build_views, read_teacher_recipe
from encoder.training_options import (
    Batch,
    Dim,
    Fit,
    ImagesPerClass,
    Interpolation,
    Jitter,
    Output,
    Pooling,
    Precision,
    Resume,
    Scale,
    SplitSeed,
    Tensorboard,
    TestClasses,
    Trunk,
    ValShare,
    Weights,
    check_outputs,
    check_tensorboard,
    divide,
    read_split,
    report_checkpoint,
    report_division,
)


@with_options_of(read_teacher_recipe, into="teacher")
def train_teacher(
    data: Data,
    output: Output,
    teacher: TeacherOptions,
    recipe: Recipe = None,
    guide: Annotated[
        Path | None, typer.Option(help="Folder of a master of these images, to be guided by.")
    ] = None,
    guide_weight: Annotated[
        float | None, typer.Option(help="Weight of the guidance.  [default: 1]")
    ] = None,
    guide_temperature: Annotated[
        float | None, typer.Option(help="What it divides cosines by.  [default: 0.2]")
    ] = None,
    test_share: TestShare = None,
    test_classes: TestClasses = None,
    val_share: ValShare = 0.1,
    split_seed: SplitSeed = 0,
    folds: Annotated[
        int,
        typer.Option(
            help="Train one on each of so many class-disjoint folds, every class validating once, "
            "and judge all of them; 0 for a single one."
        ),
    ] = 0,
    seed: Seed = 0,
    resume: Resume = False,
    tensorboard: Tensorboard = None,
    overwrite: Overwrite = False,
) -> None:
    """Train the database encoder."""
    require_extra("train", "train-teacher")
    asked = {"weight": guide_weight, "temperature": guide_temperature}
    guidance = {name: value for name, value in asked.items() if value is not None}
    if guidance and not guide:
        raise PocketlensError(f"--guide-{min(guidance)} has no meaning without --guide")
    if folds and guide:
        raise PocketlensError("--guide is not for --folds: a master knows one division of classes")
    split = read_split(test_share, test_classes, val_share=val_share, seed=split_seed)
    marker = "folds.json" if folds else "config.json"
    inputs = (data, recipe, teacher.keywords["weights"], test_classes, guide)
    check_outputs(output, *inputs, overwrite=overwrite, resume=resume, marker=marker)
    check_tensorboard(tensorboard, output)
    table = divide(data, split)
    if not folds:
        report_division(table)
    from encoder.checkpoint import METRICS
    from encoder.guide import load_guide
    from encoder.metric_log import read_best, read_last
    from encoder.teacher import may_choose, select_training
    from encoder.teacher import train_teacher as run
    from encoder.training import JUDGED_BY

    chosen = teacher(seed=seed)
    if folds:
        from encoder.cross_validation import train_folds
        from encoder.evaluation.console import print_rows

        rows, bad = train_folds(
            table,
            chosen,
            output,
            folds=folds,
            split=split,
            overwrite=overwrite,
            resume=resume,
            tensorboard=tensorboard,
        )
        report_set_aside(entry.reason for entry in bad)
        print_rows(rows)
        return
    companion = None
    if guide:
        companion = load_guide(guide, **guidance).as_companion(select_training(table))
    checkpoint, quarantined = run(
        table,
        chosen,
        output,
        split=split,
        overwrite=overwrite,
        resume=resume,
        companion=companion,
        tensorboard=tensorboard,
    )
    report_checkpoint(output, checkpoint, quarantined)
    choose = may_choose(table, chosen.optimisation.patience)
    kept = (read_best if choose else read_last)(output / METRICS, JUDGED_BY)
    if kept:
        why = "" if choose else " (too few classes to choose by: the last)"
        print(
            f"validation classes after step {kept['step']}, whose weights are kept{why}: "
            f"R@1 {kept['val_r1']:.1f}, MAP@R {kept[JUDGED_BY]:.1f}"
        )


def init_teacher(
    data: Annotated[
        Path, typer.Argument(help="Folder or CSV of images; labels only keep test images out.")
    ],
    output: Output,
    size: Annotated[int, typer.Option(help="Input side in pixels.")] = 224,
    trunk: Trunk = "tf_efficientnet_lite0",
    weights: Weights = None,
    dim: Dim = 512,
    pooling: Pooling = "avg",
    fit: Fit = "squash",
    interpolation: Interpolation = "bilinear",
    whitening: Annotated[
        float, typer.Option(help="0 for PCA alone, 1 for directions that all vary as much.")
    ] = 0.5,
    shrinkage: Annotated[
        float, typer.Option(help="Share of the mean variance that each direction is given more.")
    ] = 0.1,
    test_share: TestShare = None,
    test_classes: TestClasses = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a database encoder without labels: PCA-whitening of a pretrained trunk."""
    require_extra("train", "init-teacher")
    check_outputs(output, data, weights, test_classes, overwrite=overwrite)
    split = read_split(test_share, test_classes, val_share=0.0, seed=0)
    table = divide(data, split)
    from encoder.label_free import LabelFreeRecipe
    from encoder.label_free import init_teacher as run
    from encoder.model import Architecture

    recipe = LabelFreeRecipe(
        architecture=Architecture(trunk, pooling, dim, bias=True),  # type: ignore[arg-type]
        size=size,
        fit=fit,
        interpolation=interpolation,
        whitening=whitening,
        shrinkage=shrinkage,
        weights=str(weights) if weights else "",
    )
    checkpoint, quarantined = run(table, recipe, output, split=split, overwrite=overwrite)
    report_checkpoint(output, checkpoint, quarantined)


def train_master(
    data: Data,
    output: Annotated[Path, typer.Argument(help="Folder to write the master into.")],
    recipe: Recipe = None,
    branches: Annotated[
        int, typer.Option(help="Models that each learn all classes but a part of their own.")
    ] = 4,
    size: Annotated[int, typer.Option(help="Input side in pixels.")] = 224,
    trunk: Trunk = "tf_efficientnet_lite0",
    weights: Weights = None,
    dim: Dim = 512,
    pooling: Pooling = "avg",
    fit: Fit = "squash",
    interpolation: Interpolation = "bilinear",
    epochs: Annotated[float, typer.Option(help="Passes of each branch over its images.")] = 12,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the trunk.")] = 1e-4,
    head_factor: Annotated[
        float, typer.Option(help="How much faster the projection learns than the trunk.")
    ] = 3.0,
    precision: Precision = "auto",
    batch: Batch = 64,
    images_per_class: ImagesPerClass = 4,
    temperature: Annotated[
        float, typer.Option(help="What squared distances to the prototypes are divided by.")
    ] = 0.1,
    scale: Scale = 0.25,
    jitter: Jitter = 1.0,
    test_share: TestShare = None,
    test_classes: TestClasses = None,
    val_share: ValShare = 0.1,
    split_seed: SplitSeed = 0,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a master: branches of few-shot episodes, fused and frozen, to guide a teacher."""
    require_extra("train", "train-master")
    split = read_split(test_share, test_classes, val_share=val_share, seed=split_seed)
    inputs = (data, recipe, weights, test_classes)
    check_outputs(output, *inputs, overwrite=overwrite, resume=resume, marker="master.json")
    table = divide(data, split)
    report_division(table)
    from encoder.evaluation.console import print_rows
    from encoder.losses.supervised import LossRecipe
    from encoder.master import MasterRecipe
    from encoder.master import train_master as run
    from encoder.model import Architecture
    from encoder.optimisation import Optimisation
    from encoder.teacher import TeacherRecipe

    branch = TeacherRecipe(
        architecture=Architecture(trunk, pooling, dim),  # type: ignore[arg-type]
        size=size,
        fit=fit,
        interpolation=interpolation,
        optimisation=Optimisation(
            epochs=epochs,
            lr=lr,
            head_factor=head_factor,
            precision=precision,  # type: ignore[arg-type]
        ),
        batch=batch,
        images_per_class=images_per_class,
        loss=LossRecipe("prototypical", temperature),
        views=build_views(scale, jitter, fit),
        weights=str(weights) if weights else "",
        seed=seed,
    )
    rows, bad = run(
        table,
        MasterRecipe(branches, branch),
        output,
        split=split,
        overwrite=overwrite,
        resume=resume,
    )
    report_set_aside(entry.reason for entry in bad)
    if rows:
        print("on the validation classes:")
        print_rows(rows)
    print(f"{output}: master of {branches} branches; guide a teacher with --guide {output}")
