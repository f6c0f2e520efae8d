"""The term of neighbourhoods against a slow loop in numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder.losses.contextual import contextual_term


def make_unit(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


def test_the_nearest_of_the_teacher_are_compared() -> None:
    student, teacher = make_unit(3, 2, 6, seed=0), make_unit(3, 2, 6, seed=1)
    database = make_unit(9, 6, seed=2)
    total = 0.0
    for image in range(3):
        for view in range(2):
            own, aim = (side[image, view].double().numpy() for side in (student, teacher))
            rows = database.double().numpy()
            nearest = np.argsort(-(rows @ aim))[:4]
            spreads = []
            for side in (aim, own):
                weights = np.exp(rows[nearest] @ side / 0.3)
                spreads.append(weights / weights.sum())
            total += np.sum(spreads[0] * np.log(spreads[0] / spreads[1])) / 2
    found = contextual_term(student, teacher, database, nearest=4, temperature=0.3)
    assert float(found) == pytest.approx(total, rel=1e-5)
    every = contextual_term(student, teacher, database, nearest=9, temperature=0.3)
    assert float(contextual_term(student, teacher, database, nearest=50, temperature=0.3)) == (
        pytest.approx(float(every))
    )


def test_the_teacher_s_own_vector_is_the_aim() -> None:
    teacher, database = make_unit(3, 2, 6, seed=1), make_unit(9, 6, seed=2)
    same = contextual_term(teacher, teacher, database, nearest=5, temperature=0.1)
    assert float(same) == pytest.approx(0, abs=1e-6)
    student = make_unit(3, 2, 6, seed=0).requires_grad_()
    before = contextual_term(student, teacher, database, nearest=5, temperature=0.1)
    before.backward()
    assert student.grad is not None
    moved = functional.normalize(student.detach() - 0.02 * student.grad, dim=-1)
    after = contextual_term(moved, teacher, database, nearest=5, temperature=0.1)
    assert float(after) < float(before.detach())
