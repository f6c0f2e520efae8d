"""The embedding space that an encoder writes into, and the identity of the encoder itself.

A space is minted once, by the training or the transform that made it, and copied ever after:
a student carries its teacher's space. Vectors of two spaces are never compared.
"""

import dataclasses
import json
import operator
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from encoder.errors import PocketlensError

SpaceKind = Literal["teacher", "rotated", "compatible", "transformed", "student"]
# Hexadecimal digits of an identity.
ID_LENGTH = 16


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
    # Here, because a device that only reads spaces is spared the import of what hashes.
    from encoder.digests import digest_json

    identity = {
        "kind": kind,
        "parents": list(parents),
        "tensors": tensors_digest,
        "transform": transform_digest,
        "dim": dim,
        "metric": "cosine",
    }
    return EmbeddingSpace(digest_json(identity)[:ID_LENGTH], dim, kind, parents=parents)


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
