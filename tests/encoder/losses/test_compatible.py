"""What draws to an old space, against slow loops in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from encoder.errors import PocketlensError
from encoder.losses.compatible import (
    alignment_loss,
    boundary_loss,
    classifier_loss,
    fit_classifier,
    map_vectors,
    read_proxies,
    regression_loss,
)
from encoder.losses.supervised import LossRecipe, build_loss

TARGETS = torch.tensor([0, 2, 1, 2, 0])


def make_unit(count: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, dim, generator=generator), dim=1)


def exact(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.double().numpy()


def test_the_cross_entropy_under_a_fixed_classifier() -> None:
    vectors, classifier = make_unit(5, 4, seed=0), make_unit(3, 4, seed=1)
    weights = torch.tensor([0.5, 1.0, 2.0])
    plain = weighted = 0.0
    for vector, target in zip(exact(vectors), TARGETS.tolist(), strict=True):
        scores = np.exp(exact(classifier) @ vector / 0.2)
        loss = -np.log(scores[target] / scores.sum())
        plain, weighted = plain + loss / 5, weighted + loss * float(weights[target]) / 5
    assert float(classifier_loss(vectors, classifier, TARGETS, 0.2)) == pytest.approx(plain)
    found = classifier_loss(vectors, classifier, TARGETS, 0.2, weights)
    assert float(found) == pytest.approx(weighted)


def test_vectors_are_mapped_to_unit_length_and_only_their_first_ones_counted() -> None:
    vectors = make_unit(5, 6, seed=0)
    mapped = exact(map_vectors(vectors, torch.eye(4, 6)))
    for own, found in zip(exact(vectors), mapped, strict=True):
        np.testing.assert_allclose(found, own[:4] / np.linalg.norm(own[:4]), atol=1e-6)


def test_centres_and_boundaries() -> None:
    vectors, centres, proxies = (make_unit(n, 4, seed=n) for n in (5, 3, 3))
    least = torch.tensor([0.9, 0.1, -0.5])
    squares = [(exact(proxies)[c] - exact(centres)[c]) ** 2 for c in range(3)]
    assert float(alignment_loss(proxies, centres)) == pytest.approx(np.mean(squares), abs=1e-7)
    beyond = [
        max(0.0, float(least[target]) - exact(centres)[target] @ vector)
        for vector, target in zip(exact(vectors), TARGETS.tolist(), strict=True)
    ]
    found = boundary_loss(vectors, centres, least, TARGETS)
    assert float(found) == pytest.approx(np.mean(beyond)) and 0 < sum(x > 0 for x in beyond) < 5


def test_regression_is_the_mean_of_one_less_the_cosine() -> None:
    own, old = make_unit(5, 4, seed=0), make_unit(5, 4, seed=1)
    cosines = [a @ b for a, b in zip(exact(own), exact(old), strict=True)]
    assert float(regression_loss(own, old)) == pytest.approx(1 - np.mean(cosines))
    assert float(regression_loss(own, own)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["softmax", "arcface", "cosface", "proxy-anchor"])
def test_proxies_are_read_one_a_class(name: str) -> None:
    loss = build_loss(LossRecipe(name), classes=3, dim=4)  # type: ignore[arg-type]
    proxies = read_proxies(loss)
    assert proxies is not None and proxies.shape == (3, 4) and proxies.requires_grad
    torch.testing.assert_close(proxies.norm(dim=1), torch.ones(3))


def test_a_loss_without_proxies_has_none() -> None:
    assert read_proxies(build_loss(LossRecipe("triplet"), classes=3, dim=4)) is None
    with pytest.raises(PocketlensError, match="--loss"):
        LossRecipe("other")  # type: ignore[arg-type]


def test_a_fitted_classifier_tells_the_classes_better_than_where_it_starts() -> None:
    centres = make_unit(3, 8, seed=3)
    targets = torch.arange(3).repeat(20)
    noise = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    vectors = functional.normalize(centres[targets] + 0.3 * noise, dim=1)
    start = make_unit(3, 8, seed=9)
    fitted = fit_classifier(vectors, targets, start, 0.1)
    torch.testing.assert_close(fitted.norm(dim=1), torch.ones(3))
    before, after = (
        float(classifier_loss(vectors, each, targets, 0.1)) for each in (start, fitted)
    )
    assert after < 0.3 * before
    assert bool(((vectors @ fitted.T).argmax(dim=1) == targets).float().mean() > 0.9)
