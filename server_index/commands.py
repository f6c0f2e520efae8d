"""The command line of the database side: parse, call, print."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, require_extra
from encoder.options import Overwrite
from encoder.wording import counted
from server_index.backfill_commands import backfill
from server_index.index_commands import app as index_app
from server_index.index_options import (
    KindOption,
    MaxMemory,
    MaxMs,
    MinRecall,
    Queries,
    QueryEncoderOption,
    arrange_and_tell,
    read_kind,
    read_queries,
    read_targets,
)

app = typer.Typer(no_args_is_help=True)
app.add_typer(index_app, name="index")
app.command()(backfill)

_DATA = "Folder, .csv, .parquet, .tar, .txt list of paths, or - for a list on standard input."
_ENCODER = "Database encoder: checkpoint folder, encoder file or bundle."
_Precision = Annotated[str, typer.Option(help="Of a checkpoint: auto, fp32 or bf16.")]
_Average = Annotated[
    str, typer.Option("--average", help="Looks at each image: none, flip (2) or crops (7).")
]
_Sha256 = Annotated[bool, typer.Option("--sha256", help="Record the digest of each file.")]


@app.command("build-index")
def build_index(
    data: Annotated[Path, typer.Argument(help=_DATA)],
    output: Annotated[Path, typer.Argument(help="Index folder to write.")],
    encoder: Annotated[Path, typer.Option(help=_ENCODER)],
    precision: _Precision = "auto",
    averaging: _Average = "none",
    dim: Annotated[
        int | None, typer.Option(help="Keep so many of the space's first dimensions.")
    ] = None,
    kind: KindOption = None,
    min_recall: MinRecall = 0.95,
    max_memory: MaxMemory = None,
    max_ms: MaxMs = None,
    queries: Queries = None,
    query_encoder: QueryEncoderOption = None,
    with_sha256: _Sha256 = False,
    overwrite: Overwrite = False,
) -> None:
    """Encode a database and index it. Killed, it goes on where it was when it is run again."""
    require_extra("server", "build-index")
    from encoder.atomic import check_output
    from encoder.progress import report_set_aside, report_student, track
    from server_index.averaging import read_averaging
    from server_index.build import build_index as run
    from server_index.build import name_building
    from server_index.encode import open_encoder
    from server_index.faiss_index import require_enough
    from server_index.manifest import MANIFEST
    from server_index.source import read_entries
    from server_index.writer import IndexWriter

    inputs = [encoder] if str(data) == "-" else [data, encoder]
    check_output(output, marker=MANIFEST, overwrite=overwrite, inputs=inputs)
    wanted, targets = read_kind(kind), read_targets(min_recall, max_memory, max_ms)
    opened = open_encoder(encoder, precision=precision, averaging=read_averaging(averaging))
    report_student(encoder, opened.role)

    def arrange_it(writer: IndexWriter) -> None:
        asked = read_queries(writer, queries, query_encoder)
        arrange_and_tell(writer, targets, wanted, asked)

    total = _count(data)
    # What a build that was stopped holds may be gone from the source.
    if wanted and total and not name_building(output).exists():
        require_enough(wanted, total)
    with track("encoding the database", total) as advance:
        filled = run(
            opened,
            read_entries(data),
            output,
            overwrite=overwrite,
            dim=dim,
            source=str(data if str(data) == "-" else data.resolve()),
            with_sha256=with_sha256,
            arrange=arrange_it,
            advance=advance,
        )
    report_set_aside(filled.set_aside)
    if filled.present:
        print(f"{filled.present} of them were encoded by a run that was stopped")
    images = counted(filled.items, "image")
    print(f"{output}: {images} in space {opened.space.id}, encoder {opened.encoder}")


@app.command()
def add(
    data: Annotated[Path, typer.Argument(help=_DATA)],
    index: Annotated[Path, typer.Option(help="Index folder.")],
    encoder: Annotated[Path, typer.Option(help=_ENCODER)],
    precision: _Precision = "auto",
    averaging: _Average = "none",
    with_sha256: _Sha256 = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Encode again what has changed since.")
    ] = False,
) -> None:
    """Encode the images that an index does not hold yet, and add them; each is then durable."""
    require_extra("server", "add")
    from encoder.progress import report_set_aside, report_student, track
    from server_index.averaging import read_averaging
    from server_index.build import Filling, fill_index
    from server_index.encode import open_encoder
    from server_index.source import read_entries
    from server_index.writer import IndexWriter

    with IndexWriter(index) as writer:
        opened = open_encoder(encoder, precision=precision, averaging=read_averaging(averaging))
        report_student(encoder, opened.role)
        with track("encoding the database", _count(data)) as advance:
            entries = read_entries(data)
            filling = Filling("any" if replace else "", with_sha256)
            filled = fill_index(writer, opened, entries, filling, advance)
        report_set_aside(filled.set_aside)
        print(f"{index}: {filled.encoded} added, {filled.present} there already, {len(writer)} now")
    if filled.changed:
        print(f"{filled.changed} have changed since they were encoded: --replace encodes them anew")


@app.command()
def search(
    image: Annotated[Path, typer.Argument(help="Query picture.")],
    index: Annotated[Path, typer.Option(help="Index folder.")],
    encoder: Annotated[Path, typer.Option(help="Query encoder: exported file or bundle.")],
    count: Annotated[int, typer.Option("--count", "-k", help="Number of answers.")] = 5,
    where: Annotated[
        str | None, typer.Option(help="Filter, as: price < 20 and brand in ('a', 'b').")
    ] = None,
) -> None:
    """Find the images nearest to a picture."""
    require_extra("server", "search")
    from server_index.search import open_pair

    if count < 1:
        raise PocketlensError(f"--count must be at least 1, not {count}")
    opened, query = open_pair(index, encoder)
    space = query.contract.space.id
    hits = opened.search(query.encode(image)[None], count, where=where, space=space)[0]
    if where and not hits:
        unknown = " or ".join(map(repr, opened.missing_fields(where)))
        why = f"; no item has a field {unknown}" if unknown else ""
        print(f"nothing passes the filter{why}", file=sys.stderr)
    width = max((len(hit.item.id) for hit in hits), default=2)
    print(f"{'rank':>4}  {'score':>6}  {'id':<{width}}  path")
    for rank, hit in enumerate(hits, 1):
        print(f"{rank:>4}  {hit.score:6.3f}  {hit.item.id:<{width}}  {hit.item.path}")


@app.command()
def serve(
    index: Annotated[Path, typer.Option(help="Index folder.")],
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token that changes need; else POCKETLENS_TOKEN; none: read only."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; more than one only to read.")] = 1,
    max_body: Annotated[str, typer.Option(help="Largest request, as 8M.")] = "8M",
    max_k: Annotated[int, typer.Option(help="Most answers to one search.")] = 1000,
    waiting: Annotated[int, typer.Option(help="Searches that may wait for a core.")] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds that a search may take.")] = 10.0,
    origin: Annotated[
        list[str] | None, typer.Option(help="Origin whose pages may ask, as https://a.b.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Name that a reverse proxy asks for, as search.example.org. Repeatable."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Query bundle: serve a page, too, that encodes with it in the browser."),
    ] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Serve what is whole of a damaged index.")
    ] = False,
) -> None:
    """Serve an index over HTTP: POST /v1/search; the contract is at /openapi.json."""
    require_extra("serve", "serve")
    from server_index.choose import read_bytes
    from server_index.serve import read_token, serve_index
    from server_index.service import ServiceSettings

    settings = ServiceSettings(
        index,
        token=read_token(token_file),
        max_body=read_bytes(max_body),
        max_k=max_k,
        waiting=waiting,
        timeout=timeout,
        origins=tuple(origin or ()),
        hosts=tuple(allow_host or ()),
        bundle=bundle,
        skip_damaged=skip_damaged,
    )
    serve_index(settings, host, port, workers)


def _count(data: Path) -> int:
    """Return how many images a source has; 0 where only reading it tells."""
    from server_index.source import count_entries

    total = count_entries(data)
    if not total and str(data) != "-":
        raise PocketlensError(f"{data}: no images found")
    return total
