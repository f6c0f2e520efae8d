"""What an encoder file says of itself: the facts that travel in its `metadata_props`."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np

from encoder.errors import PocketlensError
from encoder.preprocess import Pixels, Preprocess
from encoder.space import EmbeddingSpace

FORMAT = 1
KEY = "pocketlens"
Kind = Literal["photo", "pixels"]
Precision = Literal["fp32", "fp16", "int8"]
# What the input of each kind is called.
INPUTS: dict[str, str] = {"photo": "image", "pixels": "pixels"}
OUTPUT = "embedding"
# Names of the nodes before the network, so that their time can be told apart.
PREPROCESS_PREFIX = "preprocess/"


@dataclasses.dataclass(frozen=True)
class Contract:
    """Describe one encoder file: its space, identity, input and how near it is to its teacher.

    Kind `photo` takes `image`, uint8 `[height, width, 3]` RGB of any size from 16 pixels, and
    gives `embedding`, float32 `[dim]` of unit length. Kind `pixels` takes `pixels`, float32
    `[n, 3, size, size]`, RGB in 0..255 already cropped and resized, and gives `[n, dim]`. `probe`,
    of an int8 file, is the vector of `make_probe()`: CPUs that compute another are no use.
    """

    space: EmbeddingSpace
    encoder: str
    preprocess: Preprocess
    precision: str
    role: str
    kind: Kind = "photo"
    alignment: Mapping[str, Any] | None = None
    probe: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain JSON values."""
        size, dim = self.preprocess.size, self.space.dim
        of_photo = self.kind == "photo"
        return {
            "format": FORMAT,
            "space": self.space.to_json(),
            "encoder": self.encoder,
            "preprocess": self.preprocess.to_json(),
            "precision": self.precision,
            "role": self.role,
            "kind": self.kind,
            "alignment": dict(self.alignment) if self.alignment else None,
            "probe": list(self.probe) if self.probe else None,
            "input": {
                "name": INPUTS[self.kind],
                "type": "uint8" if of_photo else "float32",
                "shape": ["height", "width", 3] if of_photo else ["batch", 3, size, size],
            },
            "output": {
                "name": OUTPUT,
                "type": "float32",
                "shape": [dim] if of_photo else ["batch", dim],
                "norm": 1,
            },
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> Self:
        """Read the contract from a file's metadata; `where` names the file in an error.

        Raises:
            PocketlensError: when the file is not of ours, or of a newer format.
        """
        if KEY not in metadata:
            raise PocketlensError(f"{where}: not an encoder exported by pocketlens (no metadata)")
        try:
            value = json.loads(metadata[KEY])
            if value["format"] != FORMAT:
                raise PocketlensError(
                    f"{where}: format {value['format']!r}; this version reads format {FORMAT}"
                )
            encoder, precision = str(value["encoder"]), str(value["precision"])
            role, kind = str(value["role"]), str(value["kind"])
            space, preprocess = value["space"], value["preprocess"]
            alignment = value["alignment"]
            probe = tuple(map(float, value.get("probe") or ())) or None
        except (KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{where}: its metadata is damaged ({error!r})") from None
        if kind not in INPUTS:
            raise PocketlensError(f"{where}: its metadata is damaged (kind {kind!r})")
        return cls(
            space=EmbeddingSpace.from_json(space, where),
            encoder=encoder,
            preprocess=Preprocess.from_json(preprocess, where),
            precision=precision,
            role=role,
            kind=kind,  # type: ignore[arg-type]
            alignment=alignment,
            probe=probe,
        )


def make_probe() -> Pixels:
    """Return a small picture of smooth colours, uint8 `[64, 80, 3]`, the same everywhere."""
    y, x = np.mgrid[0:64, 0:80]
    planes = (2 * x + y, x * y // 8 + 40, (x - 40) ** 2 // 6 + (y - 32) ** 2 // 4)
    return np.stack([np.clip(plane, 0, 255) for plane in planes], axis=2).astype(np.uint8)
