"""The command line of an index folder: look at it, check it, change it."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import PocketlensError, first_line, require_extra
from encoder.options import Overwrite
from encoder.wording import counted
from server_index.backfill_commands import accept, refuse
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

app = typer.Typer(no_args_is_help=True, help="Look at an index folder, check it, change it.")
app.command()(accept)
app.command()(refuse)
_Replace = Annotated[
    bool, typer.Option("--replace", help="Take the new one where an id is there already.")
]
_Index = Annotated[Path, typer.Argument(help="Index folder.")]


@app.command()
def info(
    index: _Index,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Name the images that could not be used.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with every fact.")] = False,
) -> None:
    """Say what an index holds."""
    require_extra("server", "index info")
    import json

    from server_index.manifest import describe
    from server_index.record import Record

    with Record(index) as record, record.view():
        facts = describe(record)
        reasons, recent = record.set_aside(), record.count_recent()
    if set_aside:
        print("\n".join(reasons))
    elif as_json:
        print(json.dumps({**facts, "recent": recent, "set_aside": len(reasons)}, indent=2))
    else:
        space, segments = facts["space"], facts["segments"]
        sizes = [file["bytes"] for each in segments for file in each["files"].values()]
        print(f"{'items':<12} {facts['items']} ({recent} recent, {len(reasons)} set aside)")
        print(f"{'space':<12} {space['id']} ({space['kind']}), {facts['dim']} dimensions")
        print(f"{'encoders':<12} {', '.join(facts['encoders'])}")
        print(f"{'kind':<12} {facts['kind']}")
        print(f"{'segments':<12} {len(segments)}, {sum(sizes) / 1e6:.1f} MB")
        print(f"{'generation':<12} {facts['generation']}")


@app.command("verify")
def verify_index(index: _Index) -> None:
    """Check every byte of an index; exit code 1 where something is wrong."""
    require_extra("server", "index verify")
    from server_index.verify import verify

    found = verify(index)
    for line in found:
        print(line)
    if found:
        raise typer.Exit(1)
    print(f"{index}: sound")


@app.command()
def compact(
    index: _Index,
    kind: KindOption = None,
    min_recall: MinRecall = 0.95,
    max_memory: MaxMemory = None,
    max_ms: MaxMs = None,
    queries: Queries = None,
    query_encoder: QueryEncoderOption = None,
    choose: Annotated[
        bool, typer.Option("--choose", help="Choose the kind anew, by the targets.")
    ] = False,
) -> None:
    """Write an index anew without what was deleted, as it is or as another kind."""
    require_extra("server", "index compact")
    from server_index.writer import IndexWriter

    wanted, targets = read_kind(kind), read_targets(min_recall, max_memory, max_ms)
    with IndexWriter(index) as writer:
        asked = read_queries(writer, queries, query_encoder)
        if wanted or choose or max_memory or max_ms or asked is not None:
            arrange_and_tell(writer, targets, wanted, asked)
        else:
            writer.compact()
        print(f"{index}: {counted(len(writer), 'item')}, {writer.state.kind.spec}")


@app.command("export")
def export_vectors(
    index: _Index,
    output: Annotated[Path, typer.Argument(help=".parquet, or .npy with .jsonl beside it.")],
    overwrite: Overwrite = False,
) -> None:
    """Write vectors, ids and metadata for other tools."""
    require_extra("server", "index export")
    from encoder.progress import track
    from server_index.index import Index
    from server_index.portable import check_export

    write = check_export(output, overwrite=overwrite)
    with Index(index) as opened, track("exporting", len(opened)) as advance:
        write(opened, output, advance)
        print(f"{output}: {counted(len(opened), 'vector')} of {opened.state.dim} dimensions")


@app.command("import")
def import_vectors(
    vectors: Annotated[
        Path, typer.Argument(help="Parquet file with columns id, vector, path, metadata, encoder.")
    ],
    index: Annotated[Path, typer.Argument(help="Index folder; made where there is none.")],
    space_of: Annotated[
        Path | None, typer.Option(help="Encoder of the vectors, where the file does not say.")
    ] = None,
    replace: _Replace = False,
) -> None:
    """Add vectors that were encoded elsewhere, such as those of `index export`."""
    require_extra("server", "index import")
    from encoder.progress import track
    from server_index.portable import count_parquet, import_parquet, read_parquet_space
    from server_index.record import is_index
    from server_index.search import read_space
    from server_index.writer import IndexWriter, create_index

    space, dim = read_parquet_space(vectors)
    space = space or (read_space(space_of) if space_of else None)
    if not is_index(index):
        if space is None:
            raise PocketlensError(f"{vectors}: does not name its space; give --space-of ENCODER")
        create_index(index, space, dim=dim)
    with IndexWriter(index) as writer, track("importing", count_parquet(vectors)) as advance:
        added = import_parquet(writer, vectors, replace=replace, advance=advance)
        print(f"{index}: {added} added, {len(writer)} now")


@app.command()
def merge(
    index: _Index,
    sources: Annotated[list[Path], typer.Argument(help="Index folders to take items from.")],
    replace: _Replace = False,
) -> None:
    """Add all items of other indexes of the same space."""
    require_extra("server", "index merge")
    from encoder.progress import track
    from server_index.index import Index
    from server_index.portable import merge_index
    from server_index.writer import IndexWriter

    with IndexWriter(index) as writer:
        for source in sources:
            with Index(source) as opened, track(f"merging {source}", len(opened)) as advance:
                merge_index(writer, opened, replace=replace, advance=advance)
        print(f"{index}: {counted(len(writer), 'item')}")


@app.command()
def delete(
    index: _Index,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the items.")] = None,
    listed: Annotated[
        Path | None, typer.Option("--from", help="File with an id a line; - is standard input.")
    ] = None,
) -> None:
    """Delete items by id; they are found no more from then on."""
    require_extra("server", "index delete")
    import sys

    from server_index.writer import IndexWriter

    names = list(ids or ())
    if listed:
        try:
            text = sys.stdin.read() if str(listed) == "-" else listed.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PocketlensError(
                f"{listed}: not a readable list of ids ({first_line(error)})"
            ) from None
        names += [line for line in text.splitlines() if line]
    if not names:
        raise PocketlensError("name the ids to delete, or a file of them with --from")
    with IndexWriter(index) as writer:
        gone = writer.delete(names)
        print(f"{index}: {gone} deleted, {len(set(names)) - gone} not there, {len(writer)} left")
