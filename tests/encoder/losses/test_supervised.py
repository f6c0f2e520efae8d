"""Every loss of a teacher against a slow loop in numpy, written from its paper."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder.errors import PocketlensError
from encoder.losses.sampled import SampledSoftmax
from encoder.losses.supervised import DEFAULTS, LossName, LossRecipe, build_loss

CLASSES, DIM = 5, 8
LABELS = np.array([0, 0, 1, 1, 3, 3, 4, 4])


def make_vectors() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return functional.normalize(torch.randn(len(LABELS), DIM, generator=generator), dim=1)


def run(recipe: LossRecipe) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the loss, the vectors and the proxies `[centres, dim]` of unit length."""
    torch.manual_seed(0)
    loss = build_loss(recipe, CLASSES, DIM)
    vectors = make_vectors()
    value = float(loss(vectors, torch.from_numpy(LABELS)).detach())
    proxies = [weight.detach().double().numpy() for weight in loss.parameters() if weight.ndim > 1]
    found = proxies[0] if proxies else np.zeros((0, DIM))
    return value, vectors.double().numpy(), found if found.shape[1] == DIM else found.T


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total += np.log(np.exp(row).sum()) - row[label]
    return total / len(labels)


def test_softmax_of_zhai_and_wu() -> None:
    value, vectors, proxies = run(LossRecipe(temperature=0.07))
    assert value == pytest.approx(cross_entropy(vectors @ proxies.T / 0.07, LABELS), rel=1e-4)


def test_nested_prefixes_are_vectors_of_their_own() -> None:
    torch.manual_seed(0)
    loss = build_loss(LossRecipe(temperature=0.1, nested=(5, 2)), CLASSES, DIM)
    vectors = make_vectors()
    value = float(loss(vectors, torch.from_numpy(LABELS)).detach())
    total = 0.0
    for proxies in (weight.detach().double().numpy().T for weight in loss.parameters()):
        prefix = vectors.double().numpy()[:, : proxies.shape[1]]
        prefix = prefix / np.linalg.norm(prefix, axis=1, keepdims=True)
        total += cross_entropy(prefix @ proxies.T / 0.1, LABELS) / 3
    assert [weight.shape[0] for weight in loss.parameters()] == [2, 5, DIM]
    assert value == pytest.approx(total, rel=1e-4)


def test_a_learnt_temperature_starts_as_the_fixed_one_and_learns() -> None:
    value, vectors, proxies = run(LossRecipe(temperature=0.2, learn_temperature=True))
    assert value == pytest.approx(cross_entropy(vectors @ proxies.T / 0.2, LABELS), rel=1e-4)
    loss = build_loss(LossRecipe(learn_temperature=True), CLASSES, DIM)
    assert isinstance(loss, SampledSoftmax) and loss.sparse_parameters() == []
    loss(make_vectors(), torch.from_numpy(LABELS)).backward()
    gradient = loss.log_temperature.grad
    assert gradient is not None and float(gradient) != 0


@pytest.mark.parametrize("start", [0.01, 1.0, 0.2])
def test_a_learnt_temperature_comes_back_from_its_bounds(start: float) -> None:
    loss = build_loss(LossRecipe(temperature=start, learn_temperature=True), CLASSES, DIM)
    assert isinstance(loss, SampledSoftmax)
    for pushed in (-9.0, 3.0, None):
        if pushed is not None:
            torch.nn.init.constant_(loss.log_temperature, pushed)
        loss.zero_grad()
        loss(make_vectors(), torch.from_numpy(LABELS)).backward()
        assert 0.0099 < float(loss.temperature().detach()) < 1.0001
        assert loss.log_temperature.grad is not None and float(loss.log_temperature.grad) != 0


@pytest.mark.parametrize("name", ["arcface", "subcenter-arcface"])
def test_arcface(name: LossName) -> None:
    value, vectors, proxies = run(LossRecipe(name, margin=20, temperature=1 / 16))
    cosines = (vectors @ proxies.T).reshape(len(vectors), CLASSES, -1).max(axis=2)
    for row, label in zip(cosines, LABELS, strict=True):
        row[label] = math.cos(math.acos(row[label]) + math.radians(20))
    assert value == pytest.approx(cross_entropy(16 * cosines, LABELS), rel=1e-3)


def test_cosface() -> None:
    value, vectors, proxies = run(LossRecipe("cosface", margin=0.3, temperature=1 / 16))
    cosines = vectors @ proxies.T
    cosines[np.arange(len(LABELS)), LABELS] -= 0.3
    assert value == pytest.approx(cross_entropy(16 * cosines, LABELS), rel=1e-4)


def test_soft_triple() -> None:
    value, vectors, proxies = run(LossRecipe("soft-triple", margin=0.02, temperature=0.1))
    centres = (vectors @ proxies.T).reshape(len(vectors), CLASSES, 10)
    weights = np.exp(centres / 0.1)
    similarity = (centres * weights).sum(axis=2) / weights.sum(axis=2)
    similarity[np.arange(len(LABELS)), LABELS] -= 0.02
    assert value == pytest.approx(cross_entropy(10 * similarity, LABELS), rel=1e-4)


def test_proxy_anchor() -> None:
    value, vectors, proxies = run(LossRecipe("proxy-anchor", margin=0.2, temperature=1 / 8))
    cosines = vectors @ proxies.T
    near, far = 0.0, 0.0
    for number in range(CLASSES):
        own, others = cosines[number == LABELS, number], cosines[number != LABELS, number]
        near += np.log1p(np.exp(-8 * (own - 0.2)).sum()) / len(set(LABELS))
        far += np.log1p(np.exp(8 * (others + 0.2)).sum()) / CLASSES
    assert value == pytest.approx(near + far, rel=1e-4)


def test_multi_similarity() -> None:
    value, vectors, _ = run(LossRecipe("multi-similarity"))
    cosines, total = vectors @ vectors.T, 0.0
    for row, label in enumerate(LABELS):
        near = [cosines[row, i] for i in np.flatnonzero(label == LABELS) if i != row]
        far = cosines[row, label != LABELS]
        # Mined: positives below the best negative and negatives above the worst positive, by 0.1.
        hard_near = np.array([c for c in near if c - 0.1 < far.max()])
        hard_far = np.array([c for c in far if c + 0.1 > min(near)])
        total += np.log1p(np.exp(-2 * (hard_near - 0.5)).sum()) / 2
        total += np.log1p(np.exp(50 * (hard_far - 0.5)).sum()) / 50
    assert value == pytest.approx(total / len(LABELS), rel=1e-4)


def test_triplet() -> None:
    value, vectors, _ = run(LossRecipe("triplet", margin=0.3))
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    losses = []
    for a, label in enumerate(LABELS):
        for p in np.flatnonzero(label == LABELS):
            for n in np.flatnonzero(label != LABELS):
                if p != a and 0 < apart[a, n] - apart[a, p] <= 0.3:
                    losses.append(apart[a, p] - apart[a, n] + 0.3)
    assert len(losses) > 3
    assert value == pytest.approx(np.mean(losses), rel=1e-3)


@pytest.mark.parametrize("name", get_args(LossName))
def test_proxies_start_at_unit_length(name: LossName) -> None:
    _, _, proxies = run(LossRecipe(name))
    np.testing.assert_allclose(np.linalg.norm(proxies, axis=1), 1, rtol=1e-6)
    assert (len(proxies) > 0) == (name not in ("multi-similarity", "triplet", "prototypical"))


def test_defaults_are_filled_in() -> None:
    assert set(DEFAULTS) == set(get_args(LossName))
    assert LossRecipe("cosface").resolved() == LossRecipe("cosface", 1 / 64, 0.35)
    assert LossRecipe("cosface", margin=0.0).resolved().margin == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "hinge"}, "--loss 'hinge' is not one of softmax, arcface"),
        ({"temperature": 2.0}, "--temperature 2.0 is not between"),
        ({"margin": 0.1}, "--margin 0.1 has no meaning for --loss softmax"),
        ({"name": "triplet", "temperature": 0.1}, "has no meaning for --loss triplet"),
        ({"name": "cosface", "margin": -1.0}, "--margin -1.0 must not be negative"),
        ({"nested": (1,)}, "--nested [1] must differ and be at least 2"),
        ({"nested": (8, 8)}, "--nested [8, 8] must differ"),
        ({"class_share": 0.0}, "--class-share 0.0 is not above 0"),
        ({"name": "arcface", "class_share": 0.5}, "are for --loss softmax, not arcface"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(PocketlensError) as caught:
        LossRecipe(**settings)  # type: ignore[arg-type]
    assert message in str(caught.value)
