"""The command line of the evaluation: parse, call, print."""

import sys
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
    from encoder.evaluation.report_failures import list_pictures
    from encoder.evaluation.thumbnails import is_there

    check_output_file(output, overwrite=overwrite)
    if output.exists() and evaluation.exists() and output.samefile(evaluation):
        raise PocketlensError(f"{output}: is the evaluation itself; name another output")
    if images is not None and not images.is_dir():
        raise PocketlensError(f"--images {images}: not a folder")
    shown = read_report(evaluation)
    page = build_page(shown, images=images).encode()
    write_bytes(output, page)
    if images is not None:
        pictures = list_pictures(shown)
        missing = sum(not is_there(images, path) for path in pictures)
        if missing:
            print(
                f"note: {missing} of {len(pictures)} pictures are not in --images {images}; give "
                "the folder that was evaluated",
                file=sys.stderr,
            )
    print(f"{output}: {len(page) / 1000:,.0f} kB, opens in any browser")
