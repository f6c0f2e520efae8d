"""Tests of the softmax over some of the classes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from encoder.losses.sampled import SampledSoftmax, draw_others
from encoder.losses.supervised import LossRecipe, build_loss

CLASSES, DIM = 12, 8


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    vectors = functional.normalize(torch.randn(6, DIM, generator=generator), dim=1)
    return vectors, torch.tensor([7, 2, 2, 11, 0, 7])


def make_loss(share: float, *, corrected: bool = False) -> SampledSoftmax:
    torch.manual_seed(0)
    return SampledSoftmax(CLASSES, DIM, 0.1, share, corrected=corrected)


@pytest.mark.parametrize("corrected", [False, True])
def test_all_classes_give_the_plain_loss(corrected: bool) -> None:
    raw, targets = make_batch()
    raw.requires_grad_()
    sampled = make_loss(1.0, corrected=corrected)
    plain = build_loss(LossRecipe(temperature=0.1), CLASSES, DIM)
    with torch.no_grad():
        plain.W.copy_(sampled.proxies.T)  # type: ignore[operator, union-attr]
    values = [loss(functional.normalize(raw, dim=1), targets) for loss in (sampled, plain)]
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, raw)[0] for value in values))


@pytest.mark.parametrize("corrected", [False, True])
def test_some_classes_against_a_slow_loop(corrected: bool) -> None:
    vectors, targets = make_batch()
    loss = make_loss(0.5, corrected=corrected)
    value = loss(vectors, targets)
    value.backward()
    gradient = loss.proxies.grad
    assert gradient is not None and gradient.is_sparse
    touched = sorted(gradient.coalesce().indices()[0].tolist())
    own = {0, 2, 7, 11}
    others = [row for row in touched if row not in own]
    assert own < set(touched) and len(others) == 4  # half of the eight others
    proxies = loss.proxies.detach().double().numpy()
    proxies /= np.linalg.norm(proxies, axis=1, keepdims=True)
    weight = 2.0 if corrected else 1.0
    slow = 0.0
    for vector, target in zip(vectors.double().numpy(), targets.tolist(), strict=True):
        scores = {row: np.exp(proxies[row] @ vector / 0.1) for row in touched}
        total = sum(score * (1 if row in own else weight) for row, score in scores.items())
        slow -= np.log(scores[target] / total) / len(targets)
    assert float(value.detach()) == pytest.approx(slow, rel=1e-5)


def test_the_corrected_sum_is_unbiased() -> None:
    """Over many draws, the mean of the sum of the softmax is that over all classes."""
    vectors, targets = make_batch()
    loss = make_loss(0.25, corrected=True)
    # No class outweighs the others, so that the mean settles.
    torch.nn.init.zeros_(loss.log_temperature)
    scores = torch.exp(vectors[:1] @ loss.proxies.detach().T)[0]
    target = int(targets[0])
    with torch.no_grad():
        values = torch.stack([loss(vectors[:1], targets[:1]) for _ in range(4000)])
    sums = scores[target] * values.exp()
    assert float(sums.mean() / scores.sum()) == pytest.approx(1, abs=0.01)


@given(st.data())
def test_what_is_drawn_is_of_the_others_and_distinct(data: st.DataObject) -> None:
    classes = data.draw(st.integers(1, 40))
    own = np.array(sorted(data.draw(st.sets(st.integers(0, classes - 1)))), np.int64)
    rest = classes - len(own)
    count = data.draw(st.integers(0, rest))
    drawn = draw_others(own, rest, count, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert len(set(drawn.tolist())) == count == len(drawn)
    assert not set(drawn.tolist()) & set(own.tolist())
    assert all(0 <= number < classes for number in drawn)
    everything = draw_others(own, rest, rest, np.random.default_rng(0))
    assert sorted([*everything.tolist(), *own.tolist()]) == list(range(classes))


def test_each_other_class_is_as_likely() -> None:
    own, rng = np.array([1, 4, 5]), np.random.default_rng(0)
    drawn = np.concatenate([draw_others(own, 7, 3, rng) for _ in range(7000)])
    counts = np.bincount(drawn, minlength=10)
    assert set(np.flatnonzero(counts)) == {0, 2, 3, 6, 7, 8, 9}
    assert np.abs(counts[counts > 0] / 3000 - 1).max() < 0.1
