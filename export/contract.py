"""What an encoder file says of itself: the facts that travel in its `metadata_props`."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np

from encoder.errors import PocketlensError
from encoder.preprocess import Pixels, Preprocess
from encoder.space import EmbeddingSpace
from export.forms import OUTPUTS, Form, count_values

FORMAT = 1
KEY = "pocketlens"
Kind = Literal["photo", "pixels"]
Precision = Literal["fp32", "fp16", "int8"]
# What the input of each kind is called.
INPUTS: dict[str, str] = {"photo": "image", "pixels": "pixels"}
# Names of the nodes before and behind the network, so that their time can be told apart.
PREPROCESS_PREFIX = "preprocess/"
POSTPROCESS_PREFIX = "postprocess/"


@dataclasses.dataclass(frozen=True)
class Contract:
    """Describe one encoder file: its space, identity, input and how near it is to its teacher.

    Kind `photo` takes `image`, uint8 `[height, width, 3]` RGB of any size from 16 pixels, and
    gives one vector. Kind `pixels` takes `pixels`, float32 `[n, 3, size, size]`, RGB in 0..255
    already cropped and resized, and gives `[n, …]`. Form `float` gives `embedding`, float32 `[dim]`
    of unit length; the others give `code` (`export.forms`). `prefix` is how many of the space's
    dimensions are given, where not all are. `probe`, of a network in int8, is the output for
    `make_probe()`, as a unit vector: CPUs that compute another are no use.
    """

    space: EmbeddingSpace
    encoder: str
    preprocess: Preprocess
    precision: str
    role: str
    kind: Kind = "photo"
    alignment: Mapping[str, Any] | None = None
    probe: tuple[float, ...] | None = None
    form: Form = "float"
    prefix: int | None = None

    @property
    def dim(self) -> int:
        """Return how many dimensions the output stands for."""
        return self.prefix or self.space.dim

    def require_whole(self, where: str) -> None:
        """Refuse an encoder of codes or prefixes where vectors of the space are needed.

        Raises:
            PocketlensError: naming the file, which is `where`.
        """
        if self.form != "float" or self.dim < self.space.dim:
            raise PocketlensError(
                f"{where}: gives {self.dim}-d {self.form}; take one that gives float vectors of "
                f"all {self.space.dim} dimensions"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain JSON values."""
        size, values = self.preprocess.size, count_values(self.form, self.dim)
        name, type_ = OUTPUTS[self.form]
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
                "name": name,
                "type": type_,
                "shape": [values] if of_photo else ["batch", values],
                "form": self.form,
                "dim": self.dim,
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
            form, dim = str(value["output"]["form"]), int(value["output"]["dim"])
        except (KeyError, TypeError, ValueError) as error:
            raise PocketlensError(f"{where}: its metadata is damaged ({error!r})") from None
        if kind not in INPUTS:
            raise PocketlensError(f"{where}: its metadata is damaged (kind {kind!r})")
        whole = EmbeddingSpace.from_json(space, where)
        if form not in OUTPUTS or not 1 <= dim <= whole.dim:
            raise PocketlensError(f"{where}: its metadata is damaged (output {dim}-d {form!r})")
        return cls(
            space=whole,
            encoder=encoder,
            preprocess=Preprocess.from_json(preprocess, where),
            precision=precision,
            role=role,
            kind=kind,  # type: ignore[arg-type]
            alignment=alignment,
            probe=probe,
            form=form,  # type: ignore[arg-type]
            prefix=dim if dim < whole.dim else None,
        )


def make_probe() -> Pixels:
    """Return a small picture of smooth colours, uint8 `[64, 80, 3]`, the same everywhere."""
    y, x = np.mgrid[0:64, 0:80]
    planes = (2 * x + y, x * y // 8 + 40, (x - 40) ** 2 // 6 + (y - 32) ** 2 // 4)
    return np.stack([np.clip(plane, 0, 255) for plane in planes], axis=2).astype(np.uint8)
