"""How queries of a new space search a database of an old one: a map, and a scale for the scores.

Torch-free: a search server reads it. It is written with a compatible encoder, and holds for every
encoder of the two spaces, students too.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from encoder.atomic import write_bytes, write_json
from encoder.errors import PocketlensError
from encoder.evaluation.score_scale import ScoreScale
from encoder.json_files import read_format
from encoder.perceptron import Perceptron, Vectors
from encoder.space import EmbeddingSpace
from encoder.vector_map import VectorMap

FORMAT = 1
COMPATIBILITY = "compatibility.json"
TENSORS = "compatibility.safetensors"
# Backward: new queries are mapped to the old space, and the database stays. Forward: the old
# vectors of the database are mapped to the new space, once.
Direction = Literal["backward", "forward"]


@dataclasses.dataclass(frozen=True)
class Compatibility:
    """Hold how queries of a space search a database of another.

    `map` is of query vectors (backward) or of database vectors (forward). `scale` says what a score
    against an item as it is then is worth among scores of the query's own space. `doubt` tells of
    a database vector, as it is asked, how far it may be from where a query of its image asks.
    `shown` are figures of images held out, in per cent.
    """

    query: EmbeddingSpace
    database: EmbeddingSpace
    direction: Direction
    map: VectorMap
    scale: ScoreScale
    doubt: Perceptron | None = None
    shown: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        spaces = (self.query, self.database)
        origin, to = spaces if self.direction == "backward" else spaces[::-1]
        if self.map.dims != (origin.dim, to.dim):
            raise ValueError(f"a map of {self.map.dims} dimensions, not {(origin.dim, to.dim)}")
        if self.doubt and self.doubt.first.shape[1] != self._asked.dim:
            raise ValueError("its doubt is not of vectors of the database")

    @property
    def _asked(self) -> EmbeddingSpace:
        """Return the space in which database vectors are asked."""
        return self.database if self.direction == "backward" else self.query

    def turn_back(self) -> VectorMap:
        """Return what maps queries of the database's space to the query's: it, turned around.

        Backward, the product is that of the mapped new vector, but for the length that it lost.
        """
        if self.direction == "forward":
            return self.map
        turned = np.ascontiguousarray(self.map.matrix.T)
        return VectorMap(turned, np.zeros(len(turned), np.float32))

    def pack(self) -> bytes:
        """Return the weights as a safetensors file."""
        doubt = self.doubt.to_tensors("doubt") if self.doubt else {}
        return save(self.map.to_tensors() | doubt)

    def digest(self) -> str:
        """Return the digest of the weights, by which a report names it."""
        return hashlib.sha256(self.pack()).hexdigest()

    def map_queries(self, vectors: Vectors) -> Vectors:
        """Return what is asked of the database `[n, any]`."""
        return self.map.apply(vectors) if self.direction == "backward" else vectors

    def map_database(self, vectors: Vectors) -> Vectors:
        """Return the database's vectors as they are asked `[n, any]`."""
        return self.map.apply(vectors) if self.direction == "forward" else vectors


def save_compatibility(found: Compatibility, folder: Path) -> None:
    """Write a compatibility's files into an existing folder (atomic through `new_folder`)."""
    data = found.pack()
    write_bytes(folder / TENSORS, data)
    write_json(
        folder / COMPATIBILITY,
        {
            "format": FORMAT,
            "query": found.query.to_json(),
            "database": found.database.to_json(),
            "direction": found.direction,
            "sha256": hashlib.sha256(data).hexdigest(),
            "scale": dataclasses.asdict(found.scale),
            "shown": found.shown,
        },
    )


def load_compatibility(folder: Path) -> Compatibility:
    """Read and check how a space is compatible with an older one.

    Raises:
        PocketlensError: naming the file that is missing, damaged, or of another format.
    """
    file, stored = folder / COMPATIBILITY, folder / TENSORS
    if not file.is_file():
        raise PocketlensError(
            f"{folder}: declares no compatibility (no {COMPATIBILITY}); train-compatible writes one"
        )
    value = read_format(file, FORMAT)
    try:
        if hashlib.sha256(stored.read_bytes()).hexdigest() != value["sha256"]:
            raise PocketlensError(f"{stored}: not the file that {COMPATIBILITY} names")
        tensors = load_file(stored)
        if value["direction"] not in get_args(Direction):
            raise ValueError(f"direction {value['direction']!r}")
        doubts = any(name.startswith("doubt.") for name in tensors)
        return Compatibility(
            EmbeddingSpace.from_json(value["query"], str(file)),
            EmbeddingSpace.from_json(value["database"], str(file)),
            value["direction"],
            VectorMap.from_tensors(tensors),
            ScoreScale(float(value["scale"]["slope"]), float(value["scale"]["offset"])),
            Perceptron.from_tensors(tensors, "doubt") if doubts else None,
            {str(name): float(figure) for name, figure in value["shown"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError, SafetensorError) as error:
        raise PocketlensError(f"{folder}: its compatibility is damaged ({error!r})") from None
