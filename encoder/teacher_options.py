"""The options of a teacher's recipe, for every command that trains one."""

import functools
from typing import TYPE_CHECKING, Annotated

import typer

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
    Pooling,
    Precision,
    Scale,
    Schedule,
    Trunk,
    WarmUp,
    WeightDecay,
    Weights,
)

if TYPE_CHECKING:
    from encoder.teacher import TeacherRecipe
    from encoder.views import ViewRecipe

# What a command is given in place of these options: it returns the recipe, given the seed.
TeacherOptions = functools.partial["TeacherRecipe"]


def read_teacher_recipe(
    *,
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
    seed: int = 0,
) -> "TeacherRecipe":
    """Return the recipe that the options give."""
    from encoder.losses.supervised import LossRecipe
    from encoder.model import Architecture
    from encoder.optimisation import Optimisation
    from encoder.teacher import TeacherRecipe
    from encoder.views import forget_colour

    views = build_views(scale, jitter, fit)
    return TeacherRecipe(
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


def build_views(scale: float, jitter: float, fit: str) -> "ViewRecipe":
    """Return how a teacher's views are drawn: nothing is mixed, as their classes are told."""
    from encoder.views import ViewRecipe, colour_views

    recipe = ViewRecipe(scale=(scale, 1.0), mix_alpha=0.0, fit=fit)  # type: ignore[arg-type]
    return colour_views(recipe, jitter)
