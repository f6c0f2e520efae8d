"""Which encoder files a bundle holds: sizes, precisions and kinds of input of its checkpoints."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import get_args

from encoder.checkpoint import Checkpoint
from encoder.errors import PocketlensError
from encoder.space import require_same_space
from export.contract import Kind, Precision
from export.forms import Form
from export.graph_part import OPSET
from export.opsets import NEWEST, OLDEST, OLDEST_PHOTO


@dataclasses.dataclass(frozen=True)
class Variant:
    """Describe one encoder file; `title` tells encoders of one size apart."""

    checkpoint: Checkpoint
    precision: Precision = "fp32"
    kind: Kind = "photo"
    title: str = ""
    form: Form = "float"
    prefix: int | None = None
    opset: int = OPSET

    @property
    def file(self) -> str:
        """Return the name of the file: what it is."""
        title = f"-{self.title}" if self.title else ""
        parts = [f"s{self.checkpoint.preprocess.size}{title}", self.precision, self.kind]
        parts += [f"d{self.prefix}"] if self.prefix else []
        parts += [self.form] if self.form != "float" else []
        return ".".join([*parts, "onnx"])


def plan_variants(
    checkpoints: Mapping[str, Checkpoint],
    *,
    sizes: Sequence[int] = (),
    precisions: Sequence[str] = ("fp32",),
    kinds: Sequence[str] = ("photo",),
    forms: Sequence[str] = ("float",),
    dims: Sequence[int] = (),
    opset: int = OPSET,
    pixels_opset: int = OPSET,
) -> tuple[Variant, ...]:
    """Return the files of a bundle of named checkpoints: each one's sizes in every precision.

    Of `sizes` each checkpoint takes those that it was trained for; without any, its own. `dims` are
    prefixes of the vectors, or their whole length; without any, the whole.

    Raises:
        PocketlensError: when there are two spaces, or a size, precision, kind, form, dimension or
            opset that none has.
    """
    for at_least, asked, flag in (
        (OLDEST_PHOTO, opset, "--opset"),
        (OLDEST, pixels_opset, "--pixels-opset"),
    ):
        if not at_least <= asked <= NEWEST:
            raise PocketlensError(f"{flag} {asked} is not in {at_least}..{NEWEST}")
    for known, given, flag in (
        (get_args(Precision), precisions, "--precision"),
        (get_args(Kind), kinds, "--kind"),
        (get_args(Form), forms, "--form"),
    ):
        for value in given:
            if value not in known:
                raise PocketlensError(f"{flag} {value!r} is not one of {', '.join(known)}")
    (first_name, first), *others = checkpoints.items()
    for name, other in others:
        require_same_space(other.space, first.space, what=f"{name} (beside {first_name})")
    native = first.space.dim
    for dim in dims:
        if not 1 <= dim <= native:
            raise PocketlensError(f"--dim {dim} is not in 1..{native}")
    taken = [
        (name, checkpoint if size == checkpoint.preprocess.size else checkpoint.at_size(size))
        for name, checkpoint in checkpoints.items()
        for size in _choose_sizes(checkpoint, sizes)
    ]
    every = sorted({checkpoint.preprocess.size for _, checkpoint in taken})
    for size in sizes:
        if size not in every:
            known_sizes = sorted({each for c in checkpoints.values() for each in c.sizes})
            raise PocketlensError(
                f"--size {size}: no checkpoint was trained for it; there are "
                f"{', '.join(map(str, known_sizes))}"
            )
    of_size = [checkpoint.preprocess.size for _, checkpoint in taken]
    return tuple(
        Variant(
            checkpoint,
            precision,
            kind,
            name if of_size.count(checkpoint.preprocess.size) > 1 else "",
            form,
            dim if dim < native else None,
            opset if kind == "photo" else pixels_opset,
        )
        for (name, checkpoint), precision, kind, dim, form in itertools.product(
            taken,
            dict.fromkeys(precisions),
            dict.fromkeys(kinds),
            dict.fromkeys(dims or (native,)),
            dict.fromkeys(forms),
        )
    )


def _choose_sizes(checkpoint: Checkpoint, sizes: Sequence[int]) -> list[int]:
    if not sizes:
        return [checkpoint.preprocess.size]
    return [size for size in dict.fromkeys(sizes) if size in checkpoint.sizes]
