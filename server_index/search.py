"""Open what a search needs: an index, and a query encoder of its space."""

import itertools
from pathlib import Path

import numpy as np

from encoder.errors import PocketlensError
from encoder.json_files import read_json
from encoder.space import EmbeddingSpace, require_same_space
from export.runtime import QueryEncoder
from server_index.contract import fit_vectors
from server_index.encode import open_encoder
from server_index.faiss_index import Vectors
from server_index.index import Index
from server_index.source import read_entries

# Enough to tune on.
_MOST_QUERIES = 1000


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


def encode_queries(pictures: Path, encoder: Path, space: EmbeddingSpace, dim: int) -> Vectors:
    """Encode pictures as queries of an index `[n, dim]`; those that cannot be read are left out.

    Raises:
        PocketlensError: when the encoder is of another space, or no picture can be read.
    """
    opened = open_encoder(encoder)
    require_same_space(opened.space, space, what=str(encoder))
    sources = [entry.source for entry in itertools.islice(read_entries(pictures), _MOST_QUERIES)]
    batches = [batch.vectors for batch in opened.encode_files(sources) if len(batch.positions)]
    if not batches:
        raise PocketlensError(f"{pictures}: no query can be read")
    return fit_vectors(np.concatenate(batches), space, dim)


def open_query(index: Index, encoder: Path) -> QueryEncoder:
    """Open a query encoder whose vectors an index can be asked for.

    Raises:
        PocketlensError: when it cannot be opened, or the index does not answer its space.
    """
    query = QueryEncoder(encoder)
    query.contract.require_whole(str(query.file))
    if query.contract.space.id not in index.spaces:
        require_same_space(query.contract.space, index.space, what=str(query.file))
    return query
