"""The command line of the database side: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Overwrite

app = typer.Typer(no_args_is_help=True)


@app.command("build-index")
def build_index(
    data: Annotated[Path, typer.Argument(help="Folder of images, or a CSV or Parquet table.")],
    output: Annotated[Path, typer.Argument(help="Index folder to write.")],
    encoder: Annotated[
        Path, typer.Option(help="Database encoder: checkpoint folder, encoder file or bundle.")
    ],
    precision: Annotated[str, typer.Option(help="Of a checkpoint: auto, fp32 or bf16.")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Encode a database and index it."""
    require_extra("server", "build-index")
    from encoder.atomic import check_output
    from encoder.datasets.splits import read_table
    from encoder.progress import report_set_aside, track
    from server_index.build import build_index as run
    from server_index.encode import open_encoder
    from server_index.store import MANIFEST

    check_output(output, marker=MANIFEST, overwrite=overwrite, inputs=[data, encoder])
    table = read_table(data)
    opened = open_encoder(encoder, precision=precision)
    with track("encoding the database", len(table)) as advance:
        built = run(opened, table, output, overwrite=overwrite, advance=advance)
    report_set_aside(entry.reason for entry in built.quarantined)
    print(f"{output}: {built.items} images in space {opened.space.id}, encoder {opened.encoder}")


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="Query picture.")],
    index: Annotated[Path, typer.Option(help="Index folder.")],
    encoder: Annotated[Path, typer.Option(help="Query encoder: exported file or bundle.")],
    count: Annotated[int, typer.Option("--count", "-k", help="Number of answers.")] = 5,
) -> None:
    """Find the images nearest to a picture."""
    require_extra("server", "search")
    from server_index.search import open_pair

    if count < 1:
        raise PocketlensError(f"--count must be at least 1, not {count}")
    opened, query = open_pair(index, encoder)
    hits = opened.search(query.encode(image)[None], count)[0]
    width = max(len(hit.item.id) for hit in hits)
    print(f"{'rank':>4}  {'score':>6}  {'id':<{width}}  path")
    for rank, hit in enumerate(hits, 1):
        print(f"{rank:>4}  {hit.score:6.3f}  {hit.item.id:<{width}}  {hit.item.path}")
