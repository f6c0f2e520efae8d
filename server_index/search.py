"""Open what a search needs: an index, and a query encoder of its space."""

from pathlib import Path

from encoder.json_files import read_json
from encoder.space import EmbeddingSpace, require_same_space
from export.runtime import QueryEncoder
from server_index.index import Index


def open_pair(index: Path, encoder: Path) -> tuple[Index, QueryEncoder]:
    """Open an index folder and a query encoder.

    Raises:
        PocketlensError: when either cannot be opened, or their spaces differ, naming both.
    """
    opened = Index(index)
    return opened, open_query(opened, encoder)


def read_space(encoder: Path) -> EmbeddingSpace:
    """Return the space of a checkpoint folder, an encoder file or a bundle."""
    config = encoder / "config.json"
    if config.is_file():
        return EmbeddingSpace.from_json(read_json(config).get("space", {}), str(config))
    return QueryEncoder(encoder).contract.space


def open_query(index: Index, encoder: Path) -> QueryEncoder:
    """Open a query encoder whose vectors an index can be asked for.

    Raises:
        PocketlensError: when it cannot be opened, or its space is another, naming both.
    """
    query = QueryEncoder(encoder)
    query.contract.require_whole(str(query.file))
    require_same_space(query.contract.space, index.space, what=str(query.file))
    return query
