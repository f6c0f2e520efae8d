"""Which encoder files a bundle holds: sizes, precisions and kinds of input of its checkpoints."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import get_args

from encoder.checkpoint import Checkpoint
from encoder.errors import PocketlensError
from encoder.space import require_same_space
from export.contract import Kind, Precision


@dataclasses.dataclass(frozen=True)
class Variant:
    """Describe one encoder file; `title` tells encoders of one size apart."""

    checkpoint: Checkpoint
    precision: Precision = "fp32"
    kind: Kind = "photo"
    title: str = ""

    @property
    def file(self) -> str:
        """Return the name of the file: what it is."""
        title = f"-{self.title}" if self.title else ""
        return f"s{self.checkpoint.preprocess.size}{title}.{self.precision}.{self.kind}.onnx"


def plan_variants(
    checkpoints: Mapping[str, Checkpoint],
    *,
    sizes: Sequence[int] = (),
    precisions: Sequence[str] = ("fp32",),
    kinds: Sequence[str] = ("photo",),
) -> tuple[Variant, ...]:
    """Return the files of a bundle of named checkpoints: each one's sizes in every precision.

    Of `sizes` each checkpoint takes those that it was trained for; without any, its own.

    Raises:
        PocketlensError: when there are two spaces, or a size, precision or kind that none has.
    """
    for known, given, flag in (
        (get_args(Precision), precisions, "--precision"),
        (get_args(Kind), kinds, "--kind"),
    ):
        for value in given:
            if value not in known:
                raise PocketlensError(f"{flag} {value!r} is not one of {', '.join(known)}")
    (first_name, first), *others = checkpoints.items()
    for name, other in others:
        require_same_space(other.space, first.space, what=f"{name} (beside {first_name})")
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
        )
        for (name, checkpoint), precision, kind in itertools.product(
            taken, dict.fromkeys(precisions), dict.fromkeys(kinds)
        )
    )


def _choose_sizes(checkpoint: Checkpoint, sizes: Sequence[int]) -> list[int]:
    if not sizes:
        return [checkpoint.preprocess.size]
    return [size for size in dict.fromkeys(sizes) if size in checkpoint.sizes]
