"""The command line of the export room: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import require_extra
from encoder.options import Overwrite

app = typer.Typer(no_args_is_help=True)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder of a student or teacher.")],
    bundle: Annotated[Path, typer.Argument(help="Bundle folder to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder or CSV of pictures for parity and alignment.")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of the teacher: measure the alignment on --images."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Export an encoder to ONNX, checked."""
    require_extra("export", "export")
    from encoder.atomic import check_output
    from encoder.checkpoint import load_checkpoint
    from encoder.datasets.splits import read_table
    from encoder.progress import report_set_aside
    from export.bundle import export_bundle
    from export.runtime import CARD

    check_output(bundle, marker=CARD, overwrite=overwrite, inputs=[checkpoint])
    files = read_table(images).sources() if images else []
    done = export_bundle(
        load_checkpoint(checkpoint),
        bundle,
        files=files,
        teacher=load_checkpoint(teacher) if teacher else None,
        overwrite=overwrite,
    )
    report_set_aside(done.quarantined)
    print(
        f"{done.file}: {done.file.stat().st_size / 2**20:.1f} MiB, space {done.contract.space.id}"
    )
    print(
        f"parity with PyTorch on {done.parity.pictures} pictures: "
        f"cosine at least {done.parity.min_cosine:.6f}"
    )
    if done.contract.alignment:
        print(f"mean cosine to the teacher {done.contract.alignment['mean_cosine']:.3f}")
