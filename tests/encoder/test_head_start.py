"""Where a teacher's head starts: at the features' principal directions and the classes' means."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder.checkpoint import Checkpoint
from encoder.datasets.folder import read_folder
from encoder.embed import embed_all
from encoder.head_start import start_projection, start_proxies
from encoder.inference import prepare_network
from encoder.losses.supervised import LossRecipe, build_loss
from encoder.model import EmbeddingModel

CLASSES, DIM = 5, 8


@pytest.mark.parametrize(
    ("name", "share"),
    [("softmax", 1.0), ("softmax", 0.5), ("arcface", 1.0), ("cosface", 1.0), ("proxy-anchor", 1.0)],
)
def test_proxies_start_at_the_means(name: str, share: float) -> None:
    """The loss of the means themselves is then smaller than of any others."""
    torch.manual_seed(0)
    means = functional.normalize(torch.randn(CLASSES, DIM), dim=1)
    loss = build_loss(LossRecipe(name, class_share=share), CLASSES, DIM)  # type: ignore[arg-type]
    own = torch.arange(CLASSES)
    with torch.no_grad():
        before = float(loss(means, own))
        start_proxies(loss, means)
        assert float(loss(means, own)) < min(before, float(loss(means, own.roll(1))))


def test_prefixes_have_proxies_of_their_own_and_several_a_class_stay() -> None:
    means = functional.normalize(torch.randn(CLASSES, DIM), dim=1)
    nested = build_loss(LossRecipe(nested=(3,)), CLASSES, DIM)
    start_proxies(nested, means)
    short, whole = nested.losses  # type: ignore[union-attr,misc]
    torch.testing.assert_close(whole.W.T, means)
    torch.testing.assert_close(short.W.T, functional.normalize(means[:, :3], dim=1))
    several = build_loss(LossRecipe("subcenter-arcface"), CLASSES, DIM)
    before = several.W.detach().clone()
    start_proxies(several, means)
    assert torch.equal(several.W, before)


@pytest.fixture
def small(teacher: Checkpoint) -> Checkpoint:
    architecture = dataclasses.replace(teacher.architecture, dim=DIM, bias=True)
    torch.manual_seed(1)
    model = EmbeddingModel(architecture).eval()
    model.trunk.load_state_dict(teacher.model.trunk.state_dict())
    return dataclasses.replace(teacher, model=model, architecture=architecture)


def test_the_projection_starts_at_principal_directions(small: Checkpoint, drawn: Path) -> None:
    """Against the definition: uncorrelated components of falling variance, mean zero."""
    table = read_folder(drawn)
    files, targets = table.sources(), table.labels()
    model = small.model
    size = float(model.projection.weight.detach().std())
    means = start_projection(model, small.architecture, small.preprocess, files, targets)
    assert means is not None and means.shape == (len(table.class_names()), DIM)
    assert float(model.projection.weight.detach().std()) == pytest.approx(size, rel=0.01)
    network = prepare_network(model, small.architecture, small.preprocess, precision="fp32")
    features = embed_all(files, small.preprocess, network.feature_extractor).vectors
    projected = model.projection(torch.from_numpy(features)).detach().numpy()
    spread = np.cov(projected.T)
    off = spread - np.diag(np.diag(spread))
    assert np.abs(off).max() < 1e-3 * spread.max() and (np.diff(np.diag(spread)) < 0).all()
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-3 * projected.std())
    unit = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    for number in range(len(means)):
        mean = unit[targets == number].mean(axis=0)
        np.testing.assert_allclose(means[number], mean / np.linalg.norm(mean), atol=1e-3)


def test_with_too_few_images_it_starts_at_random(small: Checkpoint, drawn: Path) -> None:
    table = read_folder(drawn)
    before = small.model.projection.weight.detach().clone()
    few = (table.sources()[:DIM], table.labels()[:DIM])
    assert start_projection(small.model, small.architecture, small.preprocess, *few) is None
    assert torch.equal(small.model.projection.weight, before)
    assert not small.model.projection.bias.any()
