"""The command line of the encoder room: parse, call, print."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from encoder.compatible_commands import compat_matrix, train_compatible
from encoder.datasets.commands import app as data_app
from encoder.errors import PocketlensError, require_extra
from encoder.evaluation.commands import report
from encoder.options import Data, Overwrite, Prefixes, Seed, Storages
from encoder.progress import report_set_aside, report_student
from encoder.space_commands import rotate_space
from encoder.student_commands import distill, make_views
from encoder.teacher_commands import init_teacher, train_master, train_teacher

app = typer.Typer(no_args_is_help=True)
app.add_typer(data_app)
app.command()(report)


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


app.command("train-teacher")(train_teacher)
app.command("init-teacher")(init_teacher)
app.command("train-master")(train_master)
app.command("train-compatible")(train_compatible)
app.command("compat-matrix")(compat_matrix)
app.command("rotate-space")(rotate_space)
app.command("make-views")(make_views)
app.command()(distill)


@app.command()
def evaluate(
    data: Data,
    teacher: Annotated[Path, typer.Option(help="Checkpoint of the database encoder.")],
    student: Annotated[Path | None, typer.Option(help="Checkpoint of the query encoder.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Input side of a student that was trained for several.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto.")] = "fp32",
    storage: Storages = None,
    dim: Prefixes = None,
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
    from encoder.datasets.splits import known_split, read_table, split_classes
    from encoder.evaluate import evaluate_checkpoints, labelled_test
    from encoder.evaluation.console import print_harmed, print_rows
    from encoder.evaluation.document import EncoderFacts, to_document
    from encoder.evaluation.protocol import list_judgings

    check_output_file(json_file)
    judgings = list_judgings(storage or [], dim or [], whole_ranking=whole_ranking, seed=seed)
    loaded = load_checkpoint(teacher)
    report_student(teacher, loaded.kind)
    query = load_checkpoint(student) if student else None
    if size is not None:
        if query is None:
            raise PocketlensError("--size needs --student")
        query = query.at_size(size)
    table = split_classes(read_table(data), known_split(loaded.provenance))
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
    print_rows(found.rows)
    if len(labelled_test(table).class_names()) == 1:
        print("note: one test class, in which every answer is right; test on more", file=sys.stderr)
    for name, value in found.clusters.items():
        print(f"{name}: NMI of k-means {value:.1f}")
    print_harmed(found.harmed)
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
