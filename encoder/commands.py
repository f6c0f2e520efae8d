"""The command line of the encoder room: parse, call, print."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.datasets.commands import app as data_app
from encoder.errors import PocketlensError, require_extra
from encoder.evaluation.commands import report
from encoder.options import Overwrite, TestShare
from encoder.progress import report_set_aside

if TYPE_CHECKING:
    from encoder.checkpoint import Checkpoint
    from encoder.datasets.splits import SplitRule
    from encoder.datasets.table import ImageTable
    from encoder.evaluation.protocol import EvaluationRow, HarmedRow

app = typer.Typer(no_args_is_help=True)
app.add_typer(data_app)
app.command()(report)

Data = Annotated[Path, typer.Argument(help="Folder with one sub-folder a class, or a CSV table.")]
Output = Annotated[Path, typer.Argument(help="Checkpoint folder to write.")]
ValShare = Annotated[float, typer.Option(help="Share of the training classes kept to validate.")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]


@app.command("demo-data")
def demo_data(
    output: Annotated[Path, typer.Argument(help="Folder to write the images into.")],
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 64,
    images: Annotated[int, typer.Option(help="Images a class.")] = 24,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw the embedded data set."""
    from encoder.atomic import new_folder, write_json
    from encoder.datasets.procedural import ProceduralSpec, write_images
    from encoder.memory import count_cores
    from encoder.progress import track

    if classes < 4:
        raise PocketlensError("--classes must be at least 4: two to train on, two to test on")
    try:
        spec = ProceduralSpec(classes=classes, images_per_class=images, seed=seed)
    except ValueError as error:
        raise PocketlensError(str(error)) from None
    marker = ".procedural.json"
    with (
        new_folder(output, marker=marker, overwrite=overwrite) as folder,
        track("drawing images", classes * images) as advance,
    ):
        write_images(
            spec, folder, processes=count_cores(), progress=lambda done, total: advance(images)
        )
        write_json(folder / marker, {"format": 1, **dataclasses.asdict(spec)})
    print(f"{classes * images} images of {classes} classes in {output}")


@app.command("train-teacher")
def train_teacher(
    data: Data,
    output: Output,
    size: Annotated[int, typer.Option(help="Input side in pixels.")] = 224,
    trunk: Annotated[str, typer.Option(help="Any timm model.")] = "tf_efficientnet_lite0",
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file of the trunk, in place of ImageNet's.")
    ] = None,
    dim: Annotated[int, typer.Option(help="Dimension of the embedding.")] = 512,
    pooling: Annotated[str, typer.Option(help="avg or gem.")] = "avg",
    batch_norm: Annotated[str, typer.Option(help="folded (frozen) or trained.")] = "folded",
    fit: Annotated[
        str, typer.Option(help="squash the picture to the square, or crop it.")
    ] = "squash",
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 12,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the trunk.")] = 5e-4,
    head_factor: Annotated[
        float, typer.Option(help="How much faster the projection learns than the trunk.")
    ] = 3.0,
    proxy_factor: Annotated[
        float, typer.Option(help="How much faster the class proxies learn than the trunk.")
    ] = 10.0,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 64,
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
    small_size: Annotated[
        int, typer.Option(help="Size of the coming student, taught along; 0 for none. Saves time.")
    ] = 0,
    small_share: Annotated[float, typer.Option(help="Share of the steps at that size.")] = 0.5,
    test_share: TestShare = None,
    test_classes: Annotated[
        Path | None, typer.Option(help="Text file naming the test classes, one a line.")
    ] = None,
    val_share: ValShare = 0.1,
    split_seed: Annotated[int, typer.Option(help="Seed of the validation classes.")] = 0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Train the database encoder."""
    require_extra("train", "train-teacher")
    if test_share is not None and test_classes is not None:
        raise PocketlensError("give --test-share or --test-classes, not both")
    from encoder.datasets.splits import (
        SplitRule,
        check_test_names,
        read_class_list,
        read_table,
        split_classes,
    )

    split = SplitRule(
        test=0.5 if test_share is None else test_share,
        val=val_share,
        seed=split_seed,
        test_names=read_class_list(test_classes) if test_classes else (),
    )
    from encoder.atomic import check_output

    check_output(output, marker="config.json", overwrite=overwrite, inputs=[data])
    table = read_table(data)
    check_test_names(table, split)
    table = split_classes(table, split)
    from encoder.losses.supervised import LossRecipe
    from encoder.model import Architecture
    from encoder.teacher import TeacherRecipe
    from encoder.teacher import train_teacher as run
    from encoder.training import Optimisation
    from encoder.views import ViewRecipe

    recipe = TeacherRecipe(
        architecture=Architecture(trunk, pooling, dim, batch_norm),  # type: ignore[arg-type]
        size=size,
        fit=fit,
        small_size=small_size,
        small_share=small_share,
        optimisation=Optimisation(epochs=epochs, lr=lr, head_factor=head_factor),
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
        ),
        views=ViewRecipe(mix_alpha=0.0, fit=fit),  # type: ignore[arg-type]
        weights=str(weights) if weights else "",
        seed=seed,
    )
    checkpoint, quarantined = run(table, recipe, output, split=split, overwrite=overwrite)
    report_set_aside(entry.reason for entry in quarantined)
    _report_checkpoint(output, checkpoint)


@app.command()
def distill(
    teacher: Annotated[Path, typer.Argument(help="Checkpoint folder of the teacher.")],
    data: Annotated[Path, typer.Argument(help="Folder or CSV of images; labels are not used.")],
    output: Output,
    size: Annotated[int, typer.Option(help="Input side of the student in pixels.")] = 112,
    epochs: Annotated[float, typer.Option(help="Passes over the training images.")] = 6,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-4,
    images: Annotated[int, typer.Option(help="Images a step.")] = 32,
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
    overwrite: Overwrite = False,
) -> None:
    """Distil a query encoder, without labels."""
    require_extra("train", "distill")
    from encoder.atomic import check_output

    check_output(output, marker="config.json", overwrite=overwrite, inputs=[teacher, data])
    from encoder.checkpoint import load_checkpoint
    from encoder.losses.asymmetric import AsymmetricWeights
    from encoder.student import StudentRecipe, distil_student, training_images
    from encoder.training import Optimisation
    from encoder.views import ViewRecipe

    recipe = StudentRecipe(
        size=size,
        views_per_image=views,
        images=images,
        optimisation=Optimisation(epochs=epochs, lr=lr, head_factor=1.0),
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
    checkpoint, quarantined = distil_student(loaded, table, recipe, output, overwrite=overwrite)
    report_set_aside(entry.reason for entry in quarantined)
    _report_checkpoint(output, checkpoint)


@app.command()
def evaluate(
    data: Data,
    teacher: Annotated[Path, typer.Option(help="Checkpoint of the database encoder.")],
    student: Annotated[Path | None, typer.Option(help="Checkpoint of the query encoder.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto.")] = "fp32",
    storage: Annotated[
        list[str] | None,
        typer.Option(help="Also judge stored vectors: int8, binary, float-binary. Repeatable."),
    ] = None,
    dim: Annotated[
        list[int] | None, typer.Option(help="Also judge this prefix of the vectors. Repeatable.")
    ] = None,
    whole_ranking: Annotated[
        bool, typer.Option("--whole-ranking", help="Add the mean average precision (mAP).")
    ] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also harm the queries as phones do.")
    ] = False,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="Add the mutual information of k-means (NMI).")
    ] = False,
    seed: Seed = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write everything here, for `report`.")
    ] = None,
) -> None:
    """Measure recall on classes nobody trained on."""
    require_extra("torch", "evaluate")
    from encoder.atomic import check_output_file, write_json
    from encoder.checkpoint import load_checkpoint
    from encoder.datasets.splits import read_table, split_classes
    from encoder.evaluate import evaluate_checkpoints
    from encoder.evaluation.document import EncoderFacts, to_document
    from encoder.evaluation.protocol import list_judgings

    check_output_file(json_file)
    judgings = list_judgings(storage or [], dim or [], whole_ranking=whole_ranking, seed=seed)
    loaded = load_checkpoint(teacher)
    query = load_checkpoint(student) if student else None
    table = split_classes(read_table(data), _split_of(loaded))
    found = evaluate_checkpoints(
        loaded,
        query,
        table,
        precision=precision,
        judgings=judgings,
        harm=robustness,
        clusters=clusters,
        describe=json_file is not None,
    )
    report_set_aside(entry.reason for entry in found.quarantined)
    _print_rows(found.rows)
    for name, value in found.clusters.items():
        print(f"{name}: NMI of k-means {value:.1f}")
    _print_harmed(found.harmed)
    if json_file:
        measured = {"teacher": loaded, **({"student": query} if query else {})}
        document = to_document(
            found.rows,
            found.details,
            data=table.describe(),
            encoders=[
                EncoderFacts(name, used.encoder, used.space.id, used.preprocess.size, precision)
                for name, used in measured.items()
            ],
            command=shlex.join(["cli", *sys.argv[1:]]),
            robustness=found.harmed,
            clusters=found.clusters,
            quarantined=[entry.reason for entry in found.quarantined],
        )
        write_json(json_file, document)


def _print_harmed(harmed: "Sequence[HarmedRow]") -> None:
    if harmed:
        print(f"\n{harmed[0].row.name}: R@1 and MAP@R with harmed queries")
    for entry in harmed:
        row = entry.row
        half = row.intervals["r1"].half
        shown = f"{row.figures['r1']:6.1f} ±{half:4.1f} {row.figures['map_at_r']:6.1f}"
        print(f"  {entry.corruption:<15}{entry.strength:>8g}{shown}")


def _divide_known(data: Path, teacher: "Checkpoint") -> "ImageTable":
    """Read images to distil on; where the teacher knows their classes, keep its test images out."""
    from encoder.datasets.splits import read_table, split_classes

    table = read_table(data)
    if set(teacher.provenance.get("trained_on", [])) & set(table.class_names()):
        table = split_classes(table, _split_of(teacher))
    return table


def _split_of(checkpoint: "Checkpoint") -> "SplitRule":
    from encoder.datasets.splits import SplitRule, rule_from_json

    split = checkpoint.provenance.get("split")
    return rule_from_json(split) if split else SplitRule()


def _report_checkpoint(output: Path, checkpoint: "Checkpoint") -> None:
    print(f"{output}: {checkpoint.kind}, {checkpoint.preprocess.size} px, {checkpoint.space.dim}-d")
    print(f"space {checkpoint.space.id}, encoder {checkpoint.encoder}")
    if checkpoint.alignment:
        shown = checkpoint.alignment
        print(
            f"cosine to the teacher on {shown.images} held-out images: "
            f"mean {shown.mean_cosine:.3f}, 5th percentile {shown.p5_cosine:.3f}"
        )


def _print_rows(rows: "Sequence[EvaluationRow]") -> None:
    from encoder.evaluation.metrics import figure_title

    names = list(rows[0].figures)
    width = max(len(row.name) for row in rows)
    print(" " * width + "".join(f"{figure_title(name):>8}" for name in names))
    for row in rows:
        print(row.name.ljust(width) + "".join(f"{row.figures[name]:8.1f}" for name in names))
        half = [row.intervals[n].half for n in names]
        print(" " * width + "".join(f"   ±{value:4.1f}" for value in half))
    shown = rows[0]
    note = f"{shown.queries} queries; ± is half of the 95 % bootstrap interval"
    if shown.without_answer:
        note += f"; {shown.without_answer} queries without an answer left out"
    print(note)
