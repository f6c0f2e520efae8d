"""Terms of other papers, each put in the place of one of ours for the length of a distillation."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from encoder import student
from encoder.compared_views import Compared, compare_views

# D3still (2024): the nearest compared, and what a pair in the wrong order counts.
_NEAREST, _WRONG, _LEAST = 10, 5.0, 0.1


def compare_linearly(*given: Any, **options: Any) -> Compared:
    """Compare views as ever, but with 1 − cos for the absolute term in place of its square."""
    compared = compare_views(*given, **options)
    cosines = (compared.student * compared.teacher).sum(-1)
    compared.terms["absolute"] = (1 - cosines).mean(dim=1).sum()
    return compared


def difference_term(student: Tensor, teacher: Tensor, database: Tensor, **_: Any) -> Tensor:
    """Return how far the differences of a view's best cosines are off, summed over images.

    After D3still: of the ten images that the teacher finds for a view, each two cosines have a
    difference; the student's is off by a share of the teacher's, and counts five times where the
    two are in the wrong order. (There the neighbours are of the batch and labels train along.)
    """
    with torch.no_grad():
        found, places = (teacher @ database.T).topk(min(_NEAREST, len(database)), dim=-1)
    cosines = (student @ database.T).gather(-1, places)
    aim, own = (each[..., :, None] - each[..., None, :] for each in (found, cosines))
    first, second = torch.triu_indices(found.shape[-1], found.shape[-1], 1).unbind()
    aim, own = aim[..., first, second], own[..., first, second]
    weight = torch.where(aim * own < 0, _WRONG, 1.0)
    off = weight * ((own - aim) / (_LEAST + aim.abs())).square()
    return off.mean(-1).mean(dim=1).sum()


REPLACED = {
    "1 - cos, not its square": ("compare_views", compare_linearly),
    "D3still's term on neighbours": ("contextual_term", difference_term),
}


@contextlib.contextmanager
def put_in_place(title: str) -> Iterator[None]:
    """Let students be distilled with another term while the block runs."""
    name, term = REPLACED[title]
    with mock.patch.object(student, name, term):
        yield
