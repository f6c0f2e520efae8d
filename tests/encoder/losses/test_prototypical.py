"""Prototypical episodes against a slow loop in numpy, written from the paper."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder.losses.supervised import LossRecipe, build_loss

LABELS = np.array([0, 0, 0, 2, 2, 5, 5, 5, 9])


def make_vectors() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return functional.normalize(torch.randn(len(LABELS), 6, generator=generator), dim=1)


def test_each_image_asks_the_others_of_its_class() -> None:
    vectors = make_vectors()
    rows, losses = vectors.double().numpy(), []
    for asked, label in enumerate(LABELS):
        others = [n for n in range(len(LABELS)) if n != asked]
        if not any(LABELS[n] == label for n in others):
            continue
        classes = np.unique(LABELS[others])
        distances = np.array(
            [
                np.sum((rows[asked] - rows[[n for n in others if LABELS[n] == c]].mean(0)) ** 2)
                for c in classes
            ]
        )
        chances = np.exp(-distances / 0.2)
        losses.append(-np.log(chances[classes == label][0] / chances.sum()))
    assert len(losses) == 8  # the last image is alone of its class
    loss = build_loss(LossRecipe("prototypical", 0.2), 10, 6)
    assert float(loss(vectors, torch.from_numpy(LABELS))) == pytest.approx(
        np.mean(losses), rel=1e-5
    )
    assert not list(loss.parameters())


def test_a_batch_in_which_nobody_can_ask_teaches_nothing() -> None:
    vectors = make_vectors()[:3].requires_grad_()
    value = build_loss(LossRecipe("prototypical"), 3, 6)(vectors, torch.arange(3))
    value.backward()
    assert float(value.detach()) == 0 and not vectors.grad.any()
