"""Asymmetric distillation over the coupled views of each image (Suma & Tolias, 2023, §3.3).

The three terms compare a student's and a teacher's unit vectors of the same views. Relations are
over the views of one image, never across images; no labels and no negatives are used.
"""

import dataclasses
import math

import torch
from torch import Tensor

from encoder.errors import PocketlensError


@dataclasses.dataclass(frozen=True)
class AsymmetricWeights:
    """Weigh the relational terms against the absolute one."""

    teacher_student: float = 0.7
    student_student: float = 0.7

    def __post_init__(self) -> None:
        for name in ("teacher_student", "student_student"):
            if not 0 <= getattr(self, name) < math.inf:
                raise PocketlensError(f"weight of the {name} term must not be negative")


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


def asymmetric_loss(terms: dict[str, Tensor], weights: AsymmetricWeights) -> Tensor:
    """Return the weighted sum of the three terms."""
    return (
        terms["absolute"]
        + weights.teacher_student * terms["teacher_student"]
        + weights.student_student * terms["student_student"]
    )
