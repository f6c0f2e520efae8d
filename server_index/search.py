"""Open what a search needs: an index, and a query encoder of its space."""

from pathlib import Path

from encoder.space import require_same_space
from export.runtime import QueryEncoder
from server_index.index import Index


def open_pair(index: Path, encoder: Path) -> tuple[Index, QueryEncoder]:
    """Open an index folder and a query encoder.

    Raises:
        PocketlensError: when either cannot be opened, or their spaces differ, naming both.
    """
    opened = Index(index)
    return opened, open_query(opened, encoder)


def open_query(index: Index, encoder: Path) -> QueryEncoder:
    """Open a query encoder whose vectors an index can be asked for.

    Raises:
        PocketlensError: when it cannot be opened, or its space is another, naming both.
    """
    query = QueryEncoder(encoder)
    query.contract.require_whole(str(query.file))
    require_same_space(query.contract.space, index.space, what=str(query.file))
    return query
