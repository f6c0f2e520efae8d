"""The command line of compatible encoders: parse, call, print."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import (
    Data,
    Overwrite,
    Prefixes,
    Seed,
    Storages,
    TestShare,
    with_options_of,
)
from encoder.progress import report_set_aside
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
    report_division,
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
    crops: Annotated[
        int | None,
        typer.Option(help="Crops of each image that the map learns from too.  [default: 4]"),
    ] = None,
    old_weight: Annotated[
        float | None,
        typer.Option(
            help="Multiplies the terms that draw it to the old space.  [default: the method's own]"
        ),
    ] = None,
    old_temperature: Annotated[
        float, typer.Option(help="What cosines to old classes are divided by.")
    ] = 0.5,
    trim: Annotated[
        float, typer.Option(help="Share of a class's images left out of its old prototype.")
    ] = 0.1,
    weigh: Annotated[
        bool, typer.Option(help="Let a class count by how sure its old prototype is.")
    ] = True,
    turn: Annotated[
        bool, typer.Option(help="Start with the projection turned towards the old vectors.")
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
    for flag, value in (("new", new), ("hidden", hidden), ("crops", crops)):
        if value is not None and not forward:
            raise PocketlensError(f"--{flag} {value} has no meaning without --method forward")
    for flag, given in (("test-share", test_share), ("test-classes", test_classes)):
        if given is not None and new:
            raise PocketlensError(f"--{flag} has no meaning with --new, whose split is known")
    split = read_split(test_share, test_classes, val_share=val_share, seed=split_seed)
    inputs = (data, recipe, old, new, teacher.keywords["weights"], test_classes)
    marker = "compatibility.json" if new else "config.json"
    check_outputs(output, *inputs, overwrite=overwrite, resume=resume, marker=marker)
    check_tensorboard(tensorboard, output)
    from encoder.checkpoint import load_checkpoint
    from encoder.compatibility import load_compatibility
    from encoder.compatible import CompatibleRecipe, accompany
    from encoder.forward_transform import ForwardRecipe, follow_forward, train_forward
    from encoder.teacher import train_teacher

    before = load_checkpoint(old)
    plain = ForwardRecipe(seed=seed)
    mapping = dataclasses.replace(
        plain,
        hidden=plain.hidden if hidden is None else hidden,
        crops=plain.crops if crops is None else crops,
    )
    if new:
        free = load_checkpoint(new)
        table = divide_known(data, free)
        train_forward(free, before, table, mapping, output, overwrite=overwrite)
    else:
        table = divide(data, split)
        report_division(table)
        chosen = teacher(seed=seed)
        if forward:
            companion = follow_forward(before, table, mapping)
        else:
            drawn = CompatibleRecipe(method, old_weight, old_temperature, trim, weigh, turn)  # type: ignore[arg-type]
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


def compat_matrix(
    data: Data,
    query: Annotated[
        list[Path], typer.Option(help="Checkpoint of a query encoder, old or new. Repeatable.")
    ],
    database: Annotated[
        list[Path], typer.Option(help="Checkpoint of a database encoder. Repeatable.")
    ],
    compatibility: Annotated[
        list[Path] | None,
        typer.Option(help="Folder that train-compatible wrote: what is declared. Repeatable."),
    ] = None,
    independent: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of a new encoder trained alone, to see what is lost."),
    ] = None,
    require: Annotated[
        str,
        typer.Option(
            help="What holds: new queries in the old database are better than old ones "
            "(both intervals above zero), higher (both differences), or not-worse."
        ),
    ] = "better",
    storage: Storages = None,
    dim: Prefixes = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto.")] = "fp32",
    test_share: TestShare = None,
    test_classes: TestClasses = None,
    seed: Seed = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it here.")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page to write.")] = None,
) -> None:
    """Measure who may ask which database; exit code 1 where a declared compatibility fails."""
    require_extra("torch", "compat-matrix")
    import shlex
    import sys

    from encoder.atomic import check_output_file, write_bytes, write_json
    from encoder.checkpoint import load_checkpoint
    from encoder.compat_matrix import measure_matrix, name_each
    from encoder.evaluation.console import print_matrix
    from encoder.evaluation.matrix_page import build_matrix_page
    from encoder.evaluation.protocol import list_judgings

    check_output_file(json_file)
    check_output_file(report)
    asked = test_share is not None or test_classes is not None
    matrix, described, bad = measure_matrix(
        data,
        {name: load_checkpoint(folder) for name, folder in name_each(query).items()},
        {name: load_checkpoint(folder) for name, folder in name_each(database).items()},
        compatibility or [],
        independent=load_checkpoint(independent) if independent else None,
        split=read_split(test_share, test_classes, val_share=0.0, seed=0) if asked else None,
        judgings=list_judgings(storage or [], dim or [], seed=seed),
        requirement=require,  # type: ignore[arg-type]
        precision=precision,
    )
    report_set_aside(entry.reason for entry in bad)
    print_matrix(matrix)
    command = shlex.join(["cli", *sys.argv[1:]])
    if json_file:
        write_json(json_file, matrix.to_json() | {"data": described, "command": command})
    if report:
        source, images = str(described["source"]), int(described["images"])
        page = build_matrix_page(matrix, source=source, images=images, command=command)
        write_bytes(report, page.encode())
    if not matrix.holds:
        raise typer.Exit(1)
