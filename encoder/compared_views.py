"""What student and teacher make of the same views, and the terms that compare it."""

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from encoder.losses.asymmetric import asymmetric_terms, feature_term
from encoder.model import EmbeddingModel

_ALL = slice(None)


@dataclasses.dataclass(frozen=True)
class Compared:
    """Hold unit vectors `[images, views, dim]` of both, and terms summed over images."""

    student: Tensor
    teacher: Tensor
    terms: dict[str, Tensor]

    @property
    def cosine(self) -> float:
        """Return the mean cosine of the vectors."""
        return float((self.student * self.teacher).detach().sum(-1).mean())


def compare_views(
    student: EmbeddingModel,
    features: Tensor,
    teacher: EmbeddingModel,
    aim: Tensor,
    *,
    views: int,
    channels: slice | None = _ALL,
) -> Compared:
    """Return what both encoders make of the same views, and the terms that compare it.

    `features` `[images × views, width]` are the student's, before its projection, the views of an
    image together; `aim` are the teacher's. Of these, `channels` are those of the student's trunk,
    and a term compares them; None where the teacher has no such trunk.
    """

    def by_image(rows: Tensor) -> Tensor:
        return rows.reshape(len(rows) // views, views, -1)

    own = by_image(student.project(features))
    with torch.no_grad():
        target = by_image(teacher.project(aim))
    terms = asymmetric_terms(own, target)
    if channels is not None:
        shown = aim[:, channels]
        if shown.shape != aim.shape:
            # As that trunk alone would be normalised.
            shown = functional.layer_norm(shown, shown.shape[1:])
        terms["feature"] = feature_term(by_image(features), by_image(shown))
    return Compared(own, target, terms)
