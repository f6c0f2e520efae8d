"""The guidance against a slow loop in numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder.losses.guided import guidance_loss


def make_unit(count: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, dim, generator=generator), dim=1)


def test_the_divergence_of_each_image_s_neighbours() -> None:
    own, master = make_unit(5, 4, seed=0), make_unit(5, 9, seed=1)
    total = 0.0
    for row in range(5):
        others = [n for n in range(5) if n != row]
        spread = []
        for sides in (master.double().numpy(), own.double().numpy()):
            weights = np.exp(sides[others] @ sides[row] / 0.3)
            spread.append(weights / weights.sum())
        total += np.sum(spread[0] * np.log(spread[0] / spread[1])) / 5 * 0.3**2
    assert float(guidance_loss(own, master, 0.3)) == pytest.approx(total, rel=1e-5)


def test_what_sees_the_same_neighbours_is_left_alone() -> None:
    own = make_unit(6, 4, seed=0)
    turned = own @ torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(2)))[0]
    assert float(guidance_loss(own, turned, 0.2)) == pytest.approx(0, abs=1e-6)


def test_learning_moves_towards_the_master() -> None:
    own, master = make_unit(6, 4, seed=0).requires_grad_(), make_unit(6, 4, seed=1)
    before = guidance_loss(own, master, 0.2)
    before.backward()
    assert own.grad is not None
    after = guidance_loss(functional.normalize(own - own.grad, dim=1), master, 0.2)
    assert float(after.detach()) < float(before.detach())
