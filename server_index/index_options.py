"""Options that say which kind of index, shared by commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from encoder.errors import PocketlensError

if TYPE_CHECKING:
    from server_index.choose import Targets
    from server_index.faiss_index import Kind, Vectors
    from server_index.writer import IndexWriter

KindOption = Annotated[
    str | None,
    typer.Option("--kind", help="FAISS kind, as HNSW32,SQfp16; chosen by the targets if none."),
]
MinRecall = Annotated[float, typer.Option(help="Share of the 10 nearest that a search must find.")]
MaxMemory = Annotated[
    str | None, typer.Option(help="What the index may hold in memory, as 4G; vectors are on disk.")
]
MaxMs = Annotated[
    float | None, typer.Option(help="p95 of one search on one thread, in milliseconds.")
]


Queries = Annotated[
    Path | None, typer.Option(help="Pictures to tune on, as people ask; with --query-encoder.")
]
QueryEncoderOption = Annotated[
    Path | None, typer.Option("--query-encoder", help="Query encoder of those pictures.")
]


def read_kind(spec: str | None) -> "Kind | None":
    """Read the kind, where one is named."""
    from server_index.faiss_index import Kind

    return Kind(spec) if spec else None


def read_targets(min_recall: float, max_memory: str | None, max_ms: float | None) -> "Targets":
    """Read the targets."""
    from server_index.choose import Targets, read_bytes

    return Targets(min_recall, read_bytes(max_memory) if max_memory else None, max_ms)


def read_queries(
    writer: "IndexWriter", queries: Path | None, encoder: Path | None
) -> "Vectors | None":
    """Encode the pictures to tune on, where there are some."""
    from server_index.search import encode_queries

    if (queries is None) != (encoder is None):
        raise PocketlensError("--queries and --query-encoder belong together")
    if queries is None or encoder is None:
        return None
    return encode_queries(queries, encoder, writer.state.space, writer.state.dim)


def arrange_and_tell(
    writer: "IndexWriter", targets: "Targets", kind: "Kind | None", queries: "Vectors | None"
) -> None:
    """Arrange an index, and print what is being done as it is."""
    from server_index.arrange import arrange

    for line in arrange(writer, targets, kind, queries):
        print(line, flush=True)
