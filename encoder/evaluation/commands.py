"""The command line of the evaluation: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError
from encoder.options import Overwrite


def report(
    evaluation: Annotated[Path, typer.Argument(help="JSON file that evaluate --json wrote.")],
    output: Annotated[Path, typer.Argument(help="HTML file to write.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the evaluated images, for thumbnails.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn an evaluation into one HTML page that needs no network and no other file."""
    from encoder.atomic import check_output_file, write_bytes
    from encoder.evaluation.report import build_page
    from encoder.evaluation.report_data import read_report

    check_output_file(output, overwrite=overwrite)
    if output.exists() and evaluation.exists() and output.samefile(evaluation):
        raise PocketlensError(f"{output}: is the evaluation itself; name another output")
    if images is not None and not images.is_dir():
        raise PocketlensError(f"--images {images}: not a folder")
    page = build_page(read_report(evaluation), images=images).encode()
    write_bytes(output, page)
    print(f"{output}: {len(page) / 1000:,.0f} kB, opens in any browser")
