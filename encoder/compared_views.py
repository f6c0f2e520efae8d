"""What student and teacher make of the same views, and the terms that compare it."""

import dataclasses

import torch
from torch import Tensor

from encoder.losses.asymmetric import asymmetric_terms, feature_term
from encoder.model import EmbeddingModel


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
    images: Tensor,
    teacher: EmbeddingModel,
    aim: Tensor,
    *,
    views: int,
    features: bool = True,
    bfloat16: bool = False,
) -> Compared:
    """Return what both encoders make of the same views, and the terms that compare it.

    `images` are the student's `[images × views, 3, h, w]`, the views of an image together; `aim`
    are the teacher's features of the same views `[images × views, width]`. With `features` both
    have the same channels, and a term compares them.
    """

    def by_image(rows: Tensor) -> Tensor:
        return rows.reshape(len(rows) // views, views, -1)

    pooled = student.extract_features(images, bfloat16=bfloat16)
    own = by_image(student.project(pooled))
    with torch.no_grad():
        target = by_image(teacher.project(aim))
    terms = asymmetric_terms(own, target)
    if features:
        terms["feature"] = feature_term(by_image(pooled), by_image(aim))
    return Compared(own, target, terms)
