"""The command line of trainings: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Data, Overwrite, Seed, TestShare
from encoder.progress import report_set_aside
from encoder.recipe_file import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from encoder.checkpoint import Checkpoint
    from encoder.datasets.splits import SplitRule
    from encoder.datasets.table import ImageTable
    from encoder.embed import Quarantined

Output = Annotated[Path, typer.Argument(help="Checkpoint folder to write.")]
Trunk = Annotated[str, typer.Option(help="Any timm model.")]
Weights = Annotated[
    Path | None, typer.Option(help="Safetensors file of the trunk, in place of ImageNet's.")
]
Dim = Annotated[int, typer.Option(help="Dimension of the embedding.")]
Pooling = Annotated[str, typer.Option(help="avg or gem.")]
Fit = Annotated[str, typer.Option(help="squash the picture to the square, or crop it.")]
TestClasses = Annotated[
    Path | None, typer.Option(help="Text file naming the test classes, one a line.")
]
ValShare = Annotated[float, typer.Option(help="Share of the training classes kept to validate.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")]
Optimiser = Annotated[str, typer.Option(help="adamw, or sgd with momentum 0.9.")]
WeightDecay = Annotated[float, typer.Option(help="Biases are not decayed.")]
WarmUp = Annotated[float, typer.Option(help="Share of the steps in which the rate rises.")]
Schedule = Annotated[str, typer.Option(help="one-cycle, cosine or step.")]
HeadPasses = Annotated[float, typer.Option(help="Passes at the start in which the trunk rests.")]
Accumulate = Annotated[int, typer.Option(help="Batches whose gradients make one step.")]
Average = Annotated[
    float, typer.Option(help="Decay of a moving average of the weights, kept instead; 0 for none.")
]


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
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 12,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the trunk.")] = 5e-4,
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
    batch: Annotated[int, typer.Option(help="Images a batch.")] = 64,
    images_per_class: Annotated[int, typer.Option(help="Images of a class in a batch.")] = 4,
    loss: Annotated[
        str,
        typer.Option(
            help="softmax, arcface, cosface, subcenter-arcface, soft-triple, proxy-anchor, "
            "multi-similarity or triplet."
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
    scale: Annotated[
        float, typer.Option(help="Smallest share of an image's area that a view shows.")
    ] = 0.25,
    jitter: Annotated[
        float, typer.Option(help="Strength of a view's changes of colour; 0 for none.")
    ] = 1.0,
    small_size: Annotated[
        int, typer.Option(help="Size of the coming student, taught along; 0 for none. Saves time.")
    ] = 0,
    small_share: Annotated[float, typer.Option(help="Share of the steps at that size.")] = 0.5,
    test_share: TestShare = None,
    test_classes: TestClasses = None,
    val_share: ValShare = 0.1,
    split_seed: Annotated[int, typer.Option(help="Seed of the validation classes.")] = 0,
    folds: Annotated[
        int,
        typer.Option(
            help="Train one on each of so many class-disjoint folds, every class validating once, "
            "and judge all of them; 0 for a single one."
        ),
    ] = 0,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train the database encoder."""
    require_extra("train", "train-teacher")
    split = _read_split(test_share, test_classes, val_share=val_share, seed=split_seed)
    marker = "folds.json" if folds else "config.json"
    _check_output(output, data, recipe, weights, test_classes, overwrite=overwrite, marker=marker)
    table = _divide(data, split)
    from encoder.losses.supervised import LossRecipe
    from encoder.model import Architecture
    from encoder.optimisation import Optimisation
    from encoder.teacher import TeacherRecipe
    from encoder.teacher import train_teacher as run
    from encoder.views import ViewRecipe, colour_views

    chosen = TeacherRecipe(
        architecture=Architecture(trunk, pooling, dim, batch_norm),  # type: ignore[arg-type]
        size=size,
        fit=fit,
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
        views=colour_views(
            ViewRecipe(scale=(scale, 1.0), mix_alpha=0.0, fit=fit),  # type: ignore[arg-type]
            jitter,
        ),
        weights=str(weights) if weights else "",
        seed=seed,
    )
    if folds:
        from encoder.cross_validation import train_folds
        from encoder.evaluation.console import print_rows

        flags = {"overwrite": overwrite, "resume": resume}
        rows, bad = train_folds(table, chosen, output, folds=folds, split=split, **flags)
        report_set_aside(entry.reason for entry in bad)
        print_rows(rows)
        return
    checkpoint, quarantined = run(
        table, chosen, output, split=split, overwrite=overwrite, resume=resume
    )
    _report(output, checkpoint, quarantined)


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
    _check_output(output, data, weights, test_classes, overwrite=overwrite)
    split = _read_split(test_share, test_classes, val_share=0.0, seed=0)
    table = _divide(data, split)
    from encoder.label_free import LabelFreeRecipe
    from encoder.label_free import init_teacher as run
    from encoder.model import Architecture

    recipe = LabelFreeRecipe(
        architecture=Architecture(trunk, pooling, dim, bias=True),  # type: ignore[arg-type]
        size=size,
        fit=fit,
        whitening=whitening,
        shrinkage=shrinkage,
        weights=str(weights) if weights else "",
    )
    checkpoint, quarantined = run(table, recipe, output, split=split, overwrite=overwrite)
    _report(output, checkpoint, quarantined)


def distill(
    teacher: Annotated[Path, typer.Argument(help="Checkpoint folder of the teacher.")],
    data: Annotated[Path, typer.Argument(help="Folder or CSV of images; labels are not used.")],
    output: Output,
    recipe: Recipe = None,
    size: Annotated[int, typer.Option(help="Input side of the student in pixels.")] = 112,
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 6,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-4,
    optimiser: Optimiser = "adamw",
    weight_decay: WeightDecay = 1e-4,
    warm_up: WarmUp = 0.2,
    schedule: Schedule = "one-cycle",
    head_passes: HeadPasses = 0.0,
    accumulate: Accumulate = 1,
    average: Average = 0.0,
    images: Annotated[int, typer.Option(help="Images a batch.")] = 32,
    views: Annotated[int, typer.Option(help="Coupled views of each image in a step.")] = 2,
    start: Annotated[
        str, typer.Option(help="Weights to start from: teacher or imagenet.")
    ] = "teacher",
    keep: Annotated[
        float, typer.Option(help="Share of the teacher's weights mixed back in at the end.")
    ] = 0.0,
    scale: Annotated[
        float, typer.Option(help="Smallest share of an image's area that a view shows.")
    ] = 0.5,
    mix: Annotated[float, typer.Option(help="Alpha of the mixing, 0 for none.")] = 0.2,
    teacher_student: Annotated[float, typer.Option(help="Weight of that relational term.")] = 0.7,
    student_student: Annotated[float, typer.Option(help="Weight of that relational term.")] = 0.7,
    feature: Annotated[
        float, typer.Option(help="Weight of the term on features before the projection.")
    ] = 25.0,
    with_validation: Annotated[
        bool, typer.Option("--with-validation", help="Train on the validation images too.")
    ] = False,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Distil a query encoder, without labels."""
    require_extra("train", "distill")
    _check_output(output, teacher, data, recipe, overwrite=overwrite)
    from encoder.checkpoint import load_checkpoint
    from encoder.losses.asymmetric import AsymmetricWeights
    from encoder.optimisation import Optimisation
    from encoder.student import StudentRecipe, distil_student, training_images
    from encoder.views import ViewRecipe

    chosen = StudentRecipe(
        size=size,
        views_per_image=views,
        images=images,
        optimisation=Optimisation(
            epochs=epochs,
            lr=lr,
            head_factor=1.0,
            optimiser=optimiser,  # type: ignore[arg-type]
            weight_decay=weight_decay,
            warm_up=warm_up,
            schedule=schedule,  # type: ignore[arg-type]
            head_passes=head_passes,
            accumulate=accumulate,
            average=average,
        ),
        weights=AsymmetricWeights(teacher_student, student_student, feature),
        views=ViewRecipe(scale=(scale, 1.0), mix_alpha=mix),
        keep=keep,
        start=start,  # type: ignore[arg-type]
        with_validation=with_validation,
        seed=seed,
    )
    loaded = load_checkpoint(teacher)
    table = _divide_known(data, loaded)
    kept = len(training_images(table, with_validation=with_validation))
    print(f"distilling on {kept} of {len(table)} images; the others validate or test")
    checkpoint, quarantined = distil_student(
        loaded, table, chosen, output, overwrite=overwrite, resume=resume
    )
    _report(output, checkpoint, quarantined)


def _read_split(
    test_share: float | None, test_classes: Path | None, *, val_share: float, seed: int
) -> "SplitRule":
    """Return the rule that the options give."""
    if test_share is not None and test_classes is not None:
        raise PocketlensError("give --test-share or --test-classes, not both")
    from encoder.datasets.splits import SplitRule, read_class_list

    return SplitRule(
        test=0.5 if test_share is None else test_share,
        val=val_share,
        seed=seed,
        test_names=read_class_list(test_classes) if test_classes else (),
    )


def _divide(data: Path, split: "SplitRule") -> "ImageTable":
    """Read images and divide their classes."""
    from encoder.datasets.splits import check_test_names, read_table, split_classes

    table = read_table(data)
    check_test_names(table, split)
    return split_classes(table, split)


def _divide_known(data: Path, teacher: "Checkpoint") -> "ImageTable":
    """Read images to distil on; where the teacher knows their classes, keep its test images out."""
    from encoder.datasets.splits import known_split, read_table, split_classes

    table = read_table(data)
    if set(teacher.provenance.get("trained_on", [])) & set(table.class_names()):
        table = split_classes(table, known_split(teacher.provenance))
    return table


def _check_output(
    output: Path, *inputs: Path | None, overwrite: bool, marker: str = "config.json"
) -> None:
    """Refuse an output that must not be written, or that holds one of the inputs given."""
    from encoder.atomic import check_output

    given = [path for path in inputs if path]
    check_output(output, marker=marker, overwrite=overwrite, inputs=given)


def _report(output: Path, checkpoint: "Checkpoint", quarantined: "Iterable[Quarantined]") -> None:
    """Name the images that could not be used, and say what was made."""
    report_set_aside(entry.reason for entry in quarantined)
    print(f"{output}: {checkpoint.kind}, {checkpoint.preprocess.size} px, {checkpoint.space.dim}-d")
    print(f"space {checkpoint.space.id}, encoder {checkpoint.encoder}")
    if checkpoint.alignment:
        shown = checkpoint.alignment
        print(
            f"cosine to the teacher on {shown.images} held-out images: "
            f"mean {shown.mean_cosine:.3f}, 5th percentile {shown.p5_cosine:.3f}"
        )
