"""A teacher without labels: PCA-whitening against numpy, and the command from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
from program import run

from encoder.checkpoint import load_checkpoint
from encoder.embed import embed_all
from encoder.errors import PocketlensError
from encoder.inference import prepare_inference
from encoder.label_free import LabelFreeRecipe
from encoder.model import Architecture
from encoder.whitening import gather_moments, whiten


def make_features() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)


def project(features: np.ndarray, dim: int, whitening: float, shrinkage: float) -> np.ndarray:
    moments = gather_moments(np.array_split(features, 7), features.shape[1])
    weight, bias = whiten(moments, dim, whitening, shrinkage)
    return features @ weight.T + bias


def test_whole_whitening_leaves_directions_that_vary_alike() -> None:
    vectors = project(make_features(), 4, 1.0, 0.0)
    np.testing.assert_allclose(vectors.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(vectors.T, bias=True), np.eye(4), atol=1e-3)


def test_none_is_pca() -> None:
    features = make_features()
    vectors = project(features, 6, 0.0, 0.1)
    centred = features - features.mean(axis=0)
    _, deviations, _ = np.linalg.svd(centred)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), deviations, rtol=1e-3)
    # Rotated, not stretched: distances stay.
    np.testing.assert_allclose(vectors @ vectors.T, centred @ centred.T, rtol=1e-2, atol=1e-2)


def test_a_prefix_is_the_pca_of_fewer_dimensions() -> None:
    features = make_features()
    np.testing.assert_allclose(
        project(features, 6, 0.5, 0.1)[:, :3], project(features, 3, 0.5, 0.1), atol=1e-5
    )


def test_shrinkage_holds_back_what_hardly_varies() -> None:
    features = make_features()
    features[:, 0] *= 1e-4
    narrow = [np.std(project(features, 6, 1.0, share)[:, -1]) for share in (0.0, 0.1)]
    assert narrow[0] == pytest.approx(1, abs=0.1) and narrow[1] < 0.2


def test_the_command_makes_a_teacher(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--size", 48, "--dim", 12, "--test-share", 0.25)
    code, out, _ = run(capsys, "init-teacher", drawn, tmp_path / "teacher", *flags)
    assert code == 0 and "teacher, 48 px, 12-d" in out
    checkpoint = load_checkpoint(tmp_path / "teacher")
    config = json.loads((tmp_path / "teacher/config.json").read_text())
    assert config["architecture"]["bias"] and config["provenance"]["recipe"]["whitening"] == 0.5
    assert checkpoint.model.projection.bias.abs().max() > 0
    files = sorted(drawn.rglob("*.jpg"))
    vectors = embed_all(files, checkpoint.preprocess, prepare_inference(checkpoint).embedder)
    np.testing.assert_allclose(np.linalg.norm(vectors.vectors, axis=1), 1, atol=1e-5)
    assert np.abs(vectors.vectors.mean(axis=0)).max() < 0.3
    code, out, _ = run(capsys, "evaluate", drawn, "--teacher", tmp_path / "teacher")
    assert code == 0 and "teacher 48, symmetric" in out


def test_too_few_images_are_refused(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, "init-teacher", drawn, tmp_path / "teacher", "--size", 48)
    assert code == 2 and "too few for --dim 512" in error
    assert list(tmp_path.iterdir()) == []


def test_more_dimensions_than_features_are_refused(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--size", 48, "--dim", 2048)
    code, _, error = run(capsys, "init-teacher", drawn, tmp_path / "teacher", *flags)
    assert code == 2 and "--dim 2048 is above the 1280 features" in error


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PocketlensError, match="--whitening 2"):
        LabelFreeRecipe(whitening=2)
    with pytest.raises(ValueError, match="bias"):
        LabelFreeRecipe(architecture=Architecture())
