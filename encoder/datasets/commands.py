"""The command line of the data sets: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError
from encoder.options import Overwrite, TestShare
from encoder.wording import counted

app = typer.Typer(
    name="data",
    help="Look at a data source, check it, divide it, or get a published set.",
    no_args_is_help=True,
)

Source = Annotated[
    Path, typer.Argument(help="Folder (a tree or a published set), or a CSV or Parquet table.")
]


@app.command()
def check(
    source: Source,
    decode: Annotated[bool, typer.Option("--decode", help="Also decode every image.")] = False,
    show: Annotated[int, typer.Option(help="Faults to print; all are counted.")] = 50,
) -> None:
    """Name every row that training would refuse, and with --decode every bad image."""
    from encoder.datasets.faults import find_faults, find_missing_counts, find_undecodable
    from encoder.datasets.sources import list_source

    if show < 0:
        raise PocketlensError(f"--show {show} must not be negative")
    table = list_source(source)
    faults = find_faults(table)
    if decode:
        known = {fault.number for fault in faults}
        faults += [fault for fault in find_undecodable(table) if fault.number not in known]
    for fault in faults[:show]:
        print(fault)
    if len(faults) > show:
        print(f"and {len(faults) - show:,} more")
    differences = find_missing_counts(table, source)
    if differences:
        print(differences)
    rows = len({fault.number for fault in faults})
    if faults or differences or not len(table):
        counts = f"; not the published counts: {differences}" if differences else ""
        raise PocketlensError(
            f"{source}: {counted(len(faults), 'fault')} in {rows:,} of {len(table):,} rows{counts}"
        )
    print(f"{source}: {counted(len(table), 'row')}, no faults")


@app.command()
def info(
    source: Source,
    sheet: Annotated[
        Path | None, typer.Option(help="Also draw a few images of some classes into this PNG.")
    ] = None,
) -> None:
    """Count splits, classes, images a class, roles, boxes and sizes."""
    from encoder.atomic import check_output_file
    from encoder.datasets.contact_sheet import write_contact_sheet
    from encoder.datasets.describe import describe_table, format_description
    from encoder.datasets.sources import read_source

    check_output_file(sheet)
    if sheet and sheet.suffix.lower() != ".png":
        raise PocketlensError(f"--sheet {sheet}: is drawn as PNG; name a .png file")
    table = read_source(source)
    print(format_description(describe_table(table)))
    if sheet:
        write_contact_sheet(table, sheet)
        print(f"contact sheet in {sheet}")


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="cub200, cars196, sop or inshop.")],
    folder: Annotated[Path, typer.Argument(help="Folder to keep archives and images in.")],
) -> None:
    """Get a published set; a download that was cut off goes on where it stopped."""
    from encoder.datasets.download import download_set
    from encoder.datasets.layouts import find_official

    official = find_official(name)
    print(f"{official.title}, {official.page}")
    table = download_set(official, folder)
    classes = len(table.class_names())
    print(f"{len(table):,} images of {classes:,} classes in {table.root}, as published")


@app.command()
def split(
    source: Source,
    output: Annotated[Path, typer.Argument(help="Table to write, .csv or .parquet.")],
    test_share: TestShare = None,
    val_share: Annotated[
        float | None, typer.Option(help="Share of the training classes kept to validate.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="Validate on this fold of the training classes, 1 to 4.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the validation classes or folds.")] = 0,
    whole_images: Annotated[
        bool, typer.Option("--whole-images", help="Leave the boxes out.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Write a table in which every class is in train, val or test."""
    from encoder.datasets.folds import FOLDS, make_folds
    from encoder.datasets.sources import (
        check_table_output,
        read_source,
        without_boxes,
        write_source,
    )
    from encoder.datasets.splits import SplitRule, split_classes

    if seed < 0:
        raise PocketlensError(f"--seed {seed} must not be negative")
    if fold is not None and val_share is not None:
        raise PocketlensError("give --val-share or --fold, not both")
    if fold is not None and not 1 <= fold <= FOLDS:
        raise PocketlensError(f"--fold {fold} must be 1 to {FOLDS}")
    rule = SplitRule(
        test=0.5 if test_share is None else test_share,
        val=0.0 if fold is not None else 0.1 if val_share is None else val_share,
        seed=seed,
    )
    check_table_output(output, overwrite=overwrite)
    table = read_source(source)
    if test_share is not None and any(row.split for row in table.rows):
        raise PocketlensError(f"{source}: names its own splits; leave --test-share out")
    if not table.class_names():
        raise PocketlensError(f"{source}: has no labels, so no classes to divide")
    divided = split_classes(table, rule)
    if fold is not None:
        divided = make_folds(divided, seed=seed)[fold - 1]
    if whole_images:
        divided = without_boxes(divided)
    write_source(divided, output)
    for part in ("train", "val", "test"):
        rows = divided.split(part)
        print(f"{part:<6} {len(rows):>8,} images  {len(rows.class_names()):>7,} classes")
    print(f"table in {output}")
