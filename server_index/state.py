"""What an index folder is, at one generation: its space, kind and numbers, as JSON and back."""

import dataclasses
from pathlib import Path
from typing import Any, Self

from encoder.digests import digest_json
from encoder.errors import PocketlensError
from encoder.json_files import require_format
from encoder.space import EmbeddingSpace
from server_index.faiss_index import Kind, SearchEffort

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Layer:
    """Hold how the vectors of one space are kept.

    `quantiser` names the file that new segments of a trained kind are copied from.
    """

    space: EmbeddingSpace
    dim: int
    kind: Kind = dataclasses.field(default_factory=lambda: Kind("Flat"))
    effort: SearchEffort = dataclasses.field(default_factory=SearchEffort)
    quantiser: str = ""
    quantiser_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the layer as plain JSON values."""
        return {
            **dataclasses.asdict(self),
            "space": self.space.to_json(),
            "kind": self.kind.spec,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], where: Path) -> Self:
        """Read a layer.

        Raises:
            KeyError, TypeError, ValueError, PocketlensError: when it is damaged.
        """
        return cls(
            space=EmbeddingSpace.from_json(value["space"], str(where)),
            dim=int(value["dim"]),
            kind=Kind(value["kind"]),
            effort=SearchEffort(**value["effort"]),
            quantiser=str(value["quantiser"]),
            quantiser_sha256=str(value["quantiser_sha256"]),
        )


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """Name a space whose queries are answered, and what shows that they find enough.

    `files` are the digests of the files of its compatibility, which lie in a `folder` of their own
    under `accepts/`. `evidence` is what was known when it was accepted: figures, and the report's
    digest.
    """

    space: str
    files: dict[str, str]
    evidence: dict[str, Any]

    @property
    def folder(self) -> str:
        """Return the name of the folder, which follows from what is in it."""
        return f"{self.space}-{digest_json(self.files)[:8]}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read it.

        Raises:
            KeyError, TypeError: when it is damaged.
        """
        return cls(str(value["space"]), dict(value["files"]), dict(value["evidence"]))


@dataclasses.dataclass(frozen=True)
class State:
    """Hold what a folder is, at one generation.

    Its own layer is the first fields; `next` is that of another space, while the items are encoded
    anew for it. `building` names what the folder is being built of, until all of that is in it.
    Keys below `next_key` have been given out. Items that died up to `forgotten` may no longer
    be recorded. `accepts` are other spaces whose queries are answered.
    """

    space: EmbeddingSpace
    dim: int
    kind: Kind = dataclasses.field(default_factory=lambda: Kind("Flat"))
    effort: SearchEffort = dataclasses.field(default_factory=SearchEffort)
    generation: int = 0
    next_key: int = 0
    next_segment: int = 1
    building: str = ""
    quantiser: str = ""
    quantiser_sha256: str = ""
    forgotten: int = 0
    accepts: tuple[Acceptance, ...] = ()
    next: Layer | None = None

    @property
    def own(self) -> Layer:
        """Return how the vectors of the folder's own space are kept."""
        return Layer(**{part.name: getattr(self, part.name) for part in dataclasses.fields(Layer)})

    def with_own(self, layer: Layer) -> "State":
        """Return the state with its own vectors kept so."""
        parts = {part.name: getattr(layer, part.name) for part in dataclasses.fields(Layer)}
        return dataclasses.replace(self, **parts)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return the layers there are."""
        return (self.own, self.next) if self.next else (self.own,)

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        plain = dataclasses.asdict(self)
        del plain["next"]
        return {
            **plain,
            **({"next": self.next.to_json()} if self.next else {}),
            "format": FORMAT,
            "space": self.space.to_json(),
            "kind": self.kind.spec,
            "accepts": [each.to_json() for each in self.accepts],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], where: Path) -> Self:
        """Read a state.

        Raises:
            PocketlensError: when it is of another format or damaged, naming the file.
        """
        require_format(value, where, FORMAT)
        try:
            known = {key: part for key, part in value.items() if key != "format"}
            return cls(
                **{
                    **known,
                    "space": EmbeddingSpace.from_json(value["space"], str(where)),
                    "kind": Kind(value["kind"]),
                    "effort": SearchEffort(**value["effort"]),
                    "accepts": tuple(map(Acceptance.from_json, value["accepts"])),
                    "next": Layer.from_json(value["next"], where) if value.get("next") else None,
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{where}: its facts are damaged ({error!r})") from None
