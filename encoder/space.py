"""The embedding space that an encoder writes into, and the identity of the encoder itself.

A space is minted once, by the training or the transform that made it, and copied ever after:
a student carries its teacher's space. Vectors of two spaces are never compared.
"""

import dataclasses
import hashlib
import json
import operator
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError

SpaceKind = Literal["teacher", "rotated", "compatible", "transformed", "student"]
ID_LENGTH = 16


def canonical_json(value: Any) -> bytes:
    """Encode `value` as JSON with sorted keys and no spaces: equal values, equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest_tensors(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 (hex) over sorted name, dtype, shape and little-endian bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(canonical_json([name, array.dtype.name, list(array.shape)]))
        digest.update(array.tobytes())
    return digest.hexdigest()


def digest_encoder(
    tensors_digest: str, preprocess: Mapping[str, Any], precision: str, averaging: str = "none"
) -> str:
    """Return the 16-hex identity of an encoder: weights, preprocessing, precision, averaging."""
    identity = {
        "tensors": tensors_digest,
        "preprocess": dict(preprocess),
        "precision": precision,
        "averaging": averaging,
    }
    return hashlib.sha256(canonical_json(identity)).hexdigest()[:ID_LENGTH]


@dataclasses.dataclass(frozen=True)
class EmbeddingSpace:
    """Name a space: its id, native dimension, metric and where it comes from."""

    id: str
    dim: int
    kind: SpaceKind
    metric: Literal["cosine"] = "cosine"
    parents: tuple[str, ...] = ()
    compatible_with: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the space as plain JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Self:
        """Read a space; `where` names the file in an error.

        Raises:
            PocketlensError: when a field is missing or of the wrong kind.
        """
        try:
            space = cls(
                id=str(value["id"]),
                dim=operator.index(value["dim"]),
                kind=value["kind"],
                metric=value["metric"],
                parents=_read_ids(value["parents"]),
                compatible_with=_read_ids(value["compatible_with"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{where}: not an embedding space ({error!r})") from None
        if space.kind not in get_args(SpaceKind) or space.metric != "cosine":
            raise PocketlensError(f"{where}: space of kind {space.kind!r}, {space.metric!r} metric")
        if len(space.id) != ID_LENGTH or space.dim < 1:
            raise PocketlensError(f"{where}: space id {space.id!r} or dim {space.dim} is not valid")
        return space


def _read_ids(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("ids must be a list")
    return tuple(map(str, value))


def mint_space(
    kind: SpaceKind,
    dim: int,
    tensors_digest: str,
    *,
    parents: tuple[str, ...] = (),
    transform_digest: str = "",
) -> EmbeddingSpace:
    """Mint a space from the digest of the tensors that define it (see `docs/formats.md`)."""
    identity = {
        "kind": kind,
        "parents": list(parents),
        "tensors": tensors_digest,
        "transform": transform_digest,
        "dim": dim,
        "metric": "cosine",
    }
    identifier = hashlib.sha256(canonical_json(identity)).hexdigest()[:ID_LENGTH]
    return EmbeddingSpace(identifier, dim, kind, parents=parents)


def require_same_space(query: EmbeddingSpace, database: EmbeddingSpace, *, what: str) -> None:
    """Refuse to compare vectors of two spaces.

    Raises:
        PocketlensError: naming both spaces; `what` names the query side.
    """
    if query.id != database.id:
        raise PocketlensError(
            f"{what} writes into space {query.id} but the database is in space {database.id}; "
            "use an encoder of the database's space or build the index anew"
        )
