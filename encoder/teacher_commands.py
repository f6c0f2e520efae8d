"""The command line of database encoders: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Data, Overwrite, Seed, TestShare
from encoder.progress import report_set_aside
from encoder.recipe_file import Recipe
from encoder.training_options import (
    Accumulate,
    Average,
    Batch,
    Dim,
    Fit,
    HeadPasses,
    ImagesPerClass,
    Interpolation,
    Jitter,
    Optimiser,
    Output,
    Pooling,
    Precision,
    Resume,
    Scale,
    Schedule,
    SplitSeed,
    Tensorboard,
    TestClasses,
    Trunk,
    ValShare,
    WarmUp,
    WeightDecay,
    Weights,
    check_outputs,
    check_tensorboard,
    divide,
    read_split,
    report_checkpoint,
)

if TYPE_CHECKING:
    from encoder.views import ViewRecipe


def train_teacher(
    data: Data,
    output: Output,
    recipe: Recipe = None,
    size: Annotated[int, typer.Option(help="Input side in pixels.")] = 224,
    trunk: Trunk = "tf_efficientnet_lite0",
    weights: Weights = None,
    dim: Dim = 512,
    pooling: Pooling = "avg",
    batch_norm: Annotated[str, typer.Option(help="folded (frozen) or trained.")] = "folded",
    fit: Fit = "squash",
    interpolation: Interpolation = "bilinear",
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 12,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the trunk.")] = 1e-4,
    head_factor: Annotated[
        float, typer.Option(help="How much faster the projection learns than the trunk.")
    ] = 3.0,
    proxy_factor: Annotated[
        float, typer.Option(help="How much faster the class proxies learn than the trunk.")
    ] = 10.0,
    optimiser: Optimiser = "adamw",
    weight_decay: WeightDecay = 1e-4,
    warm_up: WarmUp = 0.2,
    schedule: Schedule = "one-cycle",
    head_passes: HeadPasses = 0.0,
    accumulate: Accumulate = 1,
    average: Average = 0.0,
    patience: Annotated[
        int, typer.Option(help="Stop after so many passes without a better MAP@R; 0 for never.")
    ] = 0,
    precision: Precision = "auto",
    batch: Batch = 64,
    images_per_class: ImagesPerClass = 4,
    loss: Annotated[
        str,
        typer.Option(
            help="softmax, arcface, cosface, subcenter-arcface, soft-triple, proxy-anchor, "
            "multi-similarity, triplet or prototypical."
        ),
    ] = "softmax",
    temperature: Annotated[
        float | None, typer.Option(help="What cosines are divided by.  [default: the loss's own]")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(help="Of the losses that have one.  [default: the loss's own]")
    ] = None,
    learn_temperature: Annotated[
        bool, typer.Option("--learn-temperature", help="Learn the softmax's temperature.")
    ] = False,
    class_share: Annotated[
        float,
        typer.Option(help="Share of the other classes that a softmax step compares with."),
    ] = 1.0,
    corrected: Annotated[
        bool, typer.Option("--corrected", help="Count each of that share for all others.")
    ] = False,
    nested: Annotated[
        list[int] | None,
        typer.Option(help="Prefix of the vector taught to stand alone (Matryoshka). Repeatable."),
    ] = None,
    crop: Annotated[
        float, typer.Option(help="Share of the side that the centre crop keeps of whole images.")
    ] = 1.0,
    scale: Scale = 0.25,
    jitter: Jitter = 1.0,
    any_colour: Annotated[
        bool,
        typer.Option("--any-colour", help="Every hue, where colour does not tell classes apart."),
    ] = False,
    small_size: Annotated[
        int, typer.Option(help="Size of the coming student, taught along; 0 for none. Saves time.")
    ] = 0,
    small_share: Annotated[float, typer.Option(help="Share of the steps at that size.")] = 0.5,
    start: Annotated[
        str,
        typer.Option(
            help="Where projection and proxies start: at what features already tell, or random."
        ),
    ] = "features",
    centre: Annotated[
        bool, typer.Option(help="Move the finished embedding so that its signs are codes.")
    ] = True,
    whiten: Annotated[
        float,
        typer.Option(help="How far a centred embedding's directions are made alike, 0 to 1."),
    ] = 0.35,
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
    inputs = (data, recipe, weights, test_classes, guide)
    check_outputs(output, *inputs, overwrite=overwrite, marker=marker)
    check_tensorboard(tensorboard, output)
    table = divide(data, split)
    from encoder.checkpoint import METRICS
    from encoder.guide import load_guide
    from encoder.losses.supervised import LossRecipe
    from encoder.metric_log import read_best
    from encoder.model import Architecture
    from encoder.optimisation import Optimisation
    from encoder.teacher import TeacherRecipe
    from encoder.teacher import train_teacher as run
    from encoder.training import JUDGED_BY
    from encoder.views import forget_colour

    views = _build_views(scale, jitter, fit)
    chosen = TeacherRecipe(
        architecture=Architecture(trunk, pooling, dim, batch_norm),  # type: ignore[arg-type]
        size=size,
        fit=fit,
        interpolation=interpolation,
        small_size=small_size,
        small_share=small_share,
        optimisation=Optimisation(
            epochs=epochs,
            lr=lr,
            head_factor=head_factor,
            optimiser=optimiser,  # type: ignore[arg-type]
            weight_decay=weight_decay,
            warm_up=warm_up,
            schedule=schedule,  # type: ignore[arg-type]
            head_passes=head_passes,
            accumulate=accumulate,
            average=average,
            patience=patience,
            precision=precision,  # type: ignore[arg-type]
        ),
        proxy_factor=proxy_factor,
        batch=batch,
        images_per_class=images_per_class,
        loss=LossRecipe(
            loss,  # type: ignore[arg-type]
            temperature,
            margin,
            learn_temperature,
            class_share,
            corrected,
            tuple(nested or ()),
        ),
        crop=crop,
        views=forget_colour(views) if any_colour else views,
        weights=str(weights) if weights else "",
        start=start,  # type: ignore[arg-type]
        centred=centre,
        whitening=whiten,
        seed=seed,
    )
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
    checkpoint, quarantined = run(
        table,
        chosen,
        output,
        split=split,
        overwrite=overwrite,
        resume=resume,
        guide=load_guide(guide, **guidance) if guide else None,
        tensorboard=tensorboard,
    )
    report_checkpoint(output, checkpoint, quarantined)
    best = read_best(output / METRICS, JUDGED_BY)
    if best:
        print(
            f"validation classes after step {best['step']}, whose weights are kept: "
            f"R@1 {best['val_r1']:.1f}, MAP@R {best[JUDGED_BY]:.1f}"
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
    check_outputs(output, *inputs, overwrite=overwrite, marker="master.json")
    table = divide(data, split)
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
        views=_build_views(scale, jitter, fit),
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


def _build_views(scale: float, jitter: float, fit: str) -> "ViewRecipe":
    """Return how a teacher's views are drawn: nothing is mixed, as their classes are told."""
    from encoder.views import ViewRecipe, colour_views

    recipe = ViewRecipe(scale=(scale, 1.0), mix_alpha=0.0, fit=fit)  # type: ignore[arg-type]
    return colour_views(recipe, jitter)
