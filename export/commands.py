"""The command line of the export room: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Data, Overwrite

app = typer.Typer(no_args_is_help=True)


@app.command()
def export(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoint folders of one space: students, or a teacher.")
    ],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder or CSV of pictures for parity and alignment.")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of the teacher: measure the alignment on --images."),
    ] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(help="Input side, where an encoder was trained for several. Repeatable."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16 weights, or int8. Repeatable.", show_default="fp32"),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="photo (any picture in) or pixels (batches of cut ones). Repeatable.",
            show_default="photo",
        ),
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            help="float, int8 or binary (a bit for each component) vectors out. Repeatable.",
            show_default="float",
        ),
    ] = None,
    dim: Annotated[
        list[int] | None,
        typer.Option(help="Give only so many dimensions (prefix). Repeatable.", show_default="all"),
    ] = None,
    opset: Annotated[int, typer.Option(help="Of kind photo: 18 to 21.")] = 18,
    pixels_opset: Annotated[
        int, typer.Option(help="Of kind pixels: from 13, for old runtimes, to 21.")
    ] = 18,
    data: Annotated[
        Path | None,
        typer.Option(help="Images that int8 is calibrated on, and judged by on other classes."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="Points of R@1 that int8 may lose, at the end of the interval.")
    ] = 1.0,
    min_cosine: Annotated[
        float, typer.Option(help="Mean cosine to fp32 that int8 must keep.")
    ] = 0.99,
    ort: Annotated[
        bool, typer.Option("--ort", help="In ORT format too, for runtimes built without ONNX.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Export encoders to ONNX files of one bundle, checked."""
    require_extra("export", "export")
    from encoder.atomic import check_output
    from encoder.checkpoint import load_checkpoint
    from encoder.datasets.splits import read_table
    from encoder.progress import report_set_aside
    from export.bundle import export_bundle
    from export.card import CARD
    from export.gate import GateLimits
    from export.int8 import plan_quantisation
    from export.variants import plan_variants

    check_output(bundle, marker=CARD, overwrite=overwrite, inputs=checkpoints)
    limits = GateLimits(max_drop, min_cosine)
    files = read_table(images).sources() if images else []
    names = {folder.resolve().name: folder for folder in checkpoints}
    if len(names) < len(checkpoints):
        raise PocketlensError("two checkpoint folders have one name; rename one of them")
    variants = plan_variants(
        {name: load_checkpoint(folder) for name, folder in names.items()},
        sizes=size or (),
        precisions=precision or ("fp32",),
        kinds=kind or ("photo",),
        forms=form or ("float",),
        dims=dim or (),
        opset=opset,
        pixels_opset=pixels_opset,
    )
    first = variants[0].checkpoint
    done = export_bundle(
        variants,
        bundle,
        files=files,
        teacher=load_checkpoint(teacher) if teacher else None,
        quantisation=plan_quantisation(data, first, limits) if data else None,
        with_ort=ort,
        overwrite=overwrite,
    )
    report_set_aside(done.quarantined)
    for each in done.encoders:
        shown = each.contract.alignment
        print(
            f"{each.file}: {each.file.stat().st_size / 2**20:.1f} MiB; parity with PyTorch on "
            f"{each.parity.pictures} pictures: cosine at least {each.parity.min_cosine:.6f}"
            + (f"; mean cosine to the teacher {shown['mean_cosine']:.3f}" if shown else "")
        )
        if each.gate:
            print(f"  {each.gate.tell()}")
    print(f"space {first.space.id}")


@app.command()
def inspect(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, or an encoder file.")],
) -> None:
    """Say what a bundle, or an encoder file, is."""
    from export.inspection import describe_bundle, describe_file

    print(describe_file(bundle) if bundle.is_file() else describe_bundle(bundle))


@app.command()
def mobile(
    encoder: Annotated[Path, typer.Argument(help="Bundle folder, or an encoder file.")],
) -> None:
    """Say what accelerators of phones take of an encoder, and what to change."""
    require_extra("export", "mobile")
    from export.card import list_encoders
    from export.mobile import report_mobile

    for file in list_encoders(encoder):
        print(file)
        for report in report_mobile(file):
            print(f"  {report.tell()}")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    exact: Annotated[
        bool, typer.Option("--exact", help="Compute int8 exactly, where this CPU does not.")
    ] = False,
) -> None:
    """Check a bundle's bytes, contracts and golden vectors on this machine."""
    from export.verify import verify_bundle

    for each in verify_bundle(bundle, exact=exact):
        print(
            f"{each.file}: cosine at least {each.min_cosine:.6f} on {each.pictures} golden "
            f"pictures (allowed: {each.least})"
        )
    print(f"{bundle}: as it was exported")


@app.command()
def pareto(
    data: Data,
    encoders: Annotated[
        list[Path], typer.Argument(help="Bundles, of which all encoders take part, or files.")
    ],
    teacher: Annotated[Path, typer.Option(help="Checkpoint of the database encoder.")],
    split: Annotated[
        str, typer.Option(help="Classes to ask with: val to choose by, test to report.")
    ] = "val",
    max_ms: Annotated[
        float | None, typer.Option(help="Pick the best that needs at most so many milliseconds.")
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="Pick the best of at most so many million bytes.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Picture to time; one of 640 by 480 is made if none.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Pictures timed with each encoder.")] = 50,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write it here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it into this SVG file.")] = None,
) -> None:
    """Compare exported encoders: recall against milliseconds, bytes and multiplications."""
    require_extra("export", "pareto")
    from encoder.atomic import check_output_file, write_bytes, write_json
    from encoder.checkpoint import load_checkpoint
    from encoder.datasets.splits import known_split, read_table, split_classes
    from encoder.evaluate import encode_images, refuse_changed, refuse_trained
    from encoder.progress import report_set_aside
    from export.golden import make_camera_photo
    from export.trade_off import (
        describe_candidates,
        format_candidates,
        measure_candidates,
        open_entries,
        pick_candidate,
        refuse_seen,
        select_asked,
    )
    from export.trade_off_chart import draw_trade_off

    check_output_file(json_file)
    check_output_file(plot)
    if rounds < 1:
        raise PocketlensError(f"--rounds {rounds} is not at least 1")
    if split == "test" and (max_ms is not None or max_mb is not None):
        raise PocketlensError(
            "--max-ms and --max-mb choose an encoder: choose by --split val, and report with test"
        )
    loaded = load_checkpoint(teacher)
    photo = image or make_camera_photo(640, 480)
    entries, left_out = open_entries(encoders, loaded.space, photo)
    report_set_aside(left_out)
    known = split_classes(read_table(data), known_split(loaded.provenance))
    refuse_changed(loaded, known)
    table = select_asked(known, split)
    refuse_trained(loaded, table)
    for bundle in encoders:
        refuse_seen(bundle, table)
    database, quarantined = encode_images(loaded, loaded.preprocess, table=table, precision="auto")
    report_set_aside(entry.reason for entry in quarantined)
    candidates = measure_candidates(entries, table, database, rounds=rounds)
    print(format_candidates(candidates))
    print(
        f"{database.is_query.sum()} queries of {split} classes against the teacher at "
        f"{loaded.preprocess.size}; ms: resize and network, one thread; * finds more "
        "than all that are faster"
    )
    if json_file:
        write_json(
            json_file,
            describe_candidates(
                candidates, split=split, teacher=loaded, data=known.describe(), rounds=rounds
            ),
        )
    if plot:
        write_bytes(plot, draw_trade_off(candidates).encode())
    if max_ms is not None or max_mb is not None:
        picked = pick_candidate(candidates, max_ms=max_ms, max_mb=max_mb)
        if picked is None:
            raise PocketlensError("no encoder fits --max-ms and --max-mb")
        print(f"best within the budget: {picked.name}")
