"""The command line of query encoders: parse, call, print."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Overwrite, Seed
from encoder.progress import report_set_aside, report_student
from encoder.recipe_file import Recipe
from encoder.training_options import (
    Accumulate,
    Average,
    HeadPasses,
    Optimiser,
    Precision,
    Resume,
    Schedule,
    Tensorboard,
    WarmUp,
    WeightDecay,
    Weights,
    check_outputs,
    check_tensorboard,
    divide_known,
    report_checkpoint,
)
from encoder.wording import counted

if TYPE_CHECKING:
    from encoder.views import ViewRecipe

WithValidation = Annotated[
    bool, typer.Option("--with-validation", help="Take the validation images too.")
]
Teacher = Annotated[Path, typer.Argument(help="Checkpoint folder of the teacher.")]
Data = Annotated[Path, typer.Argument(help="Folder or CSV of images; labels are not used.")]
Scale = Annotated[
    float | None,
    typer.Option(help="Smallest share of an image's area that a view shows.", show_default="0.5"),
]
Mix = Annotated[
    float | None, typer.Option(help="Alpha of the mixing, 0 for none.", show_default="0.2")
]


def make_views(
    teacher: Teacher,
    data: Data,
    output: Annotated[Path, typer.Argument(help="Folder of views to write.")],
    views: Annotated[int, typer.Option(help="Views of each image.")] = 16,
    scale: Scale = None,
    mix: Mix = None,
    precision: Annotated[
        str, typer.Option(help="Of the teacher: fp32, bf16, or auto: bf16 where it is fast.")
    ] = "auto",
    with_validation: WithValidation = False,
    seed: Seed = 0,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Let a teacher look at views of every image once, for any number of students."""
    require_extra("train", "make-views")
    check_outputs(output, teacher, data, overwrite=overwrite, resume=resume, marker="views.json")
    from encoder.checkpoint import load_checkpoint
    from encoder.view_making import StoreRecipe
    from encoder.view_making import make_views as run

    recipe = StoreRecipe(
        views,
        _draw_views(scale, mix),
        precision=precision,
        with_validation=with_validation,
        seed=seed,
    )
    loaded = load_checkpoint(teacher)
    layout, quarantined = run(
        loaded, divide_known(data, loaded), recipe, output, overwrite=overwrite, resume=resume
    )
    report_set_aside(entry.reason for entry in quarantined)
    size = sum(layout.sizes(layout.images).values())
    each, images = counted(layout.views, "view"), counted(layout.images, "image")
    print(f"{output}: {each} of each of {images}, {size / 1e6:.0f} MB")


def distill(
    teacher: Teacher,
    data: Data,
    output: Annotated[
        Path, typer.Argument(help="Checkpoint folder to write; of several students, a folder.")
    ],
    recipe: Recipe = None,
    size: Annotated[
        list[int] | None,
        typer.Option(
            help="Input side in pixels. Repeatable: a student for each.", show_default="112"
        ),
    ] = None,
    elastic: Annotated[
        list[int] | None,
        typer.Option(help="Another side that the same weights must serve. Repeatable."),
    ] = None,
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
    trunk: Annotated[
        list[str] | None,
        typer.Option(
            help="Any timm model. Repeatable: a student of each.", show_default="the teacher's"
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="Weights to start from, teacher or imagenet; the teacher's where they fit."
        ),
    ] = "",
    weights: Weights = None,
    keep: Annotated[
        float, typer.Option(help="Share of the teacher's weights mixed back in at the end.")
    ] = 0.0,
    store: Annotated[
        Path | None,
        typer.Option(help="Folder of make-views: its views, in place of new ones in each step."),
    ] = None,
    stored: Annotated[
        int | None,
        typer.Option(
            help="Views of each image that the teacher of several looks at, once.",
            show_default="8, or fewer where fewer are seen",
        ),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Let it look at new views in each step of each.")
    ] = False,
    scale: Scale = None,
    mix: Mix = None,
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
    with_validation: WithValidation = False,
    seed: Seed = 0,
    resume: Resume = False,
    tensorboard: Tensorboard = None,
    overwrite: Overwrite = False,
) -> None:
    """Distil a query encoder, or one for each size and trunk given, without labels."""
    require_extra("train", "distill")
    if online and store is not None:
        raise PocketlensError("give --online or --store, not both")
    if stored is not None and stored < 1:
        raise PocketlensError(f"--stored {stored} must be at least 1; --online stores none")
    sizes, trunks = size or [112], trunk or [""]
    several = len(sizes) * len(trunks) > 1
    if stored is not None and (online or store is not None or not several):
        raise PocketlensError(
            f"--stored {stored} is for several students without --store and --online"
        )
    if weights is not None and len(trunks) > 1:
        raise PocketlensError(f"--weights {weights} are one --trunk's; distil the others apart")
    marker = "family.json" if several else "config.json"
    inputs = (teacher, data, recipe, store, weights)
    check_outputs(output, *inputs, overwrite=overwrite, resume=resume, marker=marker)
    check_tensorboard(tensorboard, output)
    if store is not None and (scale is not None or mix is not None):
        raise PocketlensError(
            f"--store {store}: its views were drawn already; give --scale and --mix to make-views"
        )
    from encoder.checkpoint import load_checkpoint
    from encoder.losses.asymmetric import AsymmetricWeights
    from encoder.optimisation import Optimisation
    from encoder.student import StudentRecipe, distil_student
    from encoder.student_family import distil_family, plan_family
    from encoder.unlabelled_images import training_images
    from encoder.view_store import open_store

    chosen = StudentRecipe(
        size=sizes[0],
        elastic=tuple(elastic or ()),
        trunk=trunks[0],
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
        views=_draw_views(scale, mix),
        keep=keep,
        neighbours_from=neighbours_from,
        nearest=nearest,
        neighbour_temperature=neighbour_temperature,
        weights_file=str(weights) if weights else "",
        start=start,  # type: ignore[arg-type]
        with_validation=with_validation,
        seed=seed,
    )
    members = plan_family(chosen, sizes, trunks) if several else {}
    loaded = load_checkpoint(teacher)
    opened = None if store is None else open_store(store)
    table = divide_known(data, loaded)
    kept = len(training_images(table, with_validation=with_validation))
    others = "; the others validate or test" if kept < len(table) else ""
    print(f"distilling on {kept:,} of {counted(len(table), 'image')}{others}")
    report_student(teacher, loaded.kind)
    if not several:
        checkpoint, quarantined = distil_student(
            loaded,
            table,
            chosen,
            output,
            store=opened,
            overwrite=overwrite,
            resume=resume,
            tensorboard=tensorboard,
        )
        report_checkpoint(output, checkpoint, quarantined)
        return
    students, quarantined = distil_family(
        loaded,
        table,
        members,
        output,
        stored=0 if online else stored or max(views, min(8, math.ceil(views * epochs))),
        store=opened,
        overwrite=overwrite,
        resume=resume,
        tensorboard=tensorboard,
    )
    report_set_aside(entry.reason for entry in quarantined)
    for name, student in students.items():
        report_checkpoint(output / name, student, ())


def _draw_views(scale: float | None, mix: float | None) -> "ViewRecipe":
    """Return how a student's views are drawn."""
    from encoder.views import QUERY_VIEWS

    chosen = QUERY_VIEWS
    if scale is not None:
        chosen = dataclasses.replace(chosen, scale=(scale, 1.0))
    if mix is not None:
        chosen = dataclasses.replace(chosen, mix_alpha=mix)
    return chosen
