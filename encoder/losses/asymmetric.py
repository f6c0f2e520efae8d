"""Asymmetric distillation over the coupled views of each image (Suma & Tolias, 2023, §3.3).

Three terms compare a student's and a teacher's unit vectors of the same views. Relations are
over the views of one image, never across images; no labels and no negatives are used.

A fourth term, not the paper's, compares the features before the projection. A trained teacher's
vectors say little more than the class, so a student can learn the classes in place of the space,
and errs on classes it has not seen; the features tell more about each image (as in SimKD, Chen et
al., 2022, which matches features under the teacher's own classifier). A fifth term, of
neighbourhoods, is in `contextual`.
"""

import dataclasses
import math

import torch
from torch import Tensor
from torch.nn import functional

from encoder.errors import PocketlensError


@dataclasses.dataclass(frozen=True)
class AsymmetricWeights:
    """Weigh the other terms against the absolute one; each is named as its term."""

    teacher_student: float = 0.7
    student_student: float = 0.7
    feature: float = 25.0
    neighbours: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise PocketlensError(f"weight of the {field.name} term must not be negative")


def asymmetric_terms(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """Return the three terms, each summed over images.

    `student` and `teacher` are unit vectors `[images, views, dim]`:

    - absolute: mean over views of (1 − s_a·t_a)²
    - teacher_student: mean over pairs a ≠ b of (s_a·t_b − t_a·t_b)²
    - student_student: mean over pairs a ≠ b of (s_a·s_b − t_a·t_b)²

    The relational terms are zero for a single view.
    """
    views = student.shape[1]
    absolute = (1 - (student * teacher).sum(-1)).square().mean(dim=1).sum()
    if views == 1:
        zero = absolute.new_zeros(())
        return {"absolute": absolute, "teacher_student": zero, "student_student": zero}
    off_diagonal = ~torch.eye(views, dtype=torch.bool, device=student.device)
    target = teacher @ teacher.mT
    cross = ((student @ teacher.mT - target) * off_diagonal).square()
    own = ((student @ student.mT - target) * off_diagonal).square()
    pairs = views * (views - 1)
    return {
        "absolute": absolute,
        "teacher_student": cross.sum() / pairs,
        "student_student": own.sum() / pairs,
    }


def feature_term(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean over views of (1 − cos(f_a, g_a))², summed over images.

    `student` and `teacher` are features `[images, views, width]` of any length.
    """
    cosine = functional.cosine_similarity(student, teacher, dim=-1)
    return (1 - cosine).square().mean(dim=1).sum()


def asymmetric_loss(terms: dict[str, Tensor], weights: AsymmetricWeights) -> Tensor:
    """Return the sum of the absolute term and of the others given, weighted."""
    others = (
        weight * terms[name]
        for name, weight in dataclasses.asdict(weights).items()
        if weight and name in terms
    )
    return sum(others, start=terms["absolute"])
