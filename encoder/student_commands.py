"""The command line of query encoders: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import require_extra
from encoder.options import Overwrite, Seed
from encoder.recipe_file import Recipe
from encoder.training_options import (
    Accumulate,
    Average,
    HeadPasses,
    Optimiser,
    Output,
    Precision,
    Resume,
    Schedule,
    Tensorboard,
    WarmUp,
    WeightDecay,
    check_outputs,
    check_tensorboard,
    divide_known,
    report_checkpoint,
)


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
    precision: Precision = "auto",
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
    neighbours: Annotated[
        float, typer.Option(help="Weight of the term on how an image's neighbours rank.")
    ] = 1.0,
    neighbours_from: Annotated[
        float, typer.Option(help="Share of the training after which that term counts.")
    ] = 0.7,
    nearest: Annotated[int, typer.Option(help="Training images in a neighbourhood.")] = 128,
    neighbour_temperature: Annotated[
        float, typer.Option(help="What that term divides cosines by.")
    ] = 0.05,
    with_validation: Annotated[
        bool, typer.Option("--with-validation", help="Train on the validation images too.")
    ] = False,
    seed: Seed = 0,
    resume: Resume = False,
    tensorboard: Tensorboard = None,
    overwrite: Overwrite = False,
) -> None:
    """Distil a query encoder, without labels."""
    require_extra("train", "distill")
    check_outputs(output, teacher, data, recipe, overwrite=overwrite)
    check_tensorboard(tensorboard, output)
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
            precision=precision,  # type: ignore[arg-type]
        ),
        weights=AsymmetricWeights(teacher_student, student_student, feature, neighbours),
        views=ViewRecipe(scale=(scale, 1.0), mix_alpha=mix),
        keep=keep,
        neighbours_from=neighbours_from,
        nearest=nearest,
        neighbour_temperature=neighbour_temperature,
        start=start,  # type: ignore[arg-type]
        with_validation=with_validation,
        seed=seed,
    )
    loaded = load_checkpoint(teacher)
    table = divide_known(data, loaded)
    kept = len(training_images(table, with_validation=with_validation))
    print(f"distilling on {kept} of {len(table)} images; the others validate or test")
    checkpoint, quarantined = distil_student(
        loaded,
        table,
        chosen,
        output,
        overwrite=overwrite,
        resume=resume,
        tensorboard=tensorboard,
    )
    report_checkpoint(output, checkpoint, quarantined)
