"""A centred embedding: zero mean over its training images, kept with the checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from program import run, succeed

from encoder import centring
from encoder.checkpoint import load_checkpoint
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.embed import embed_all
from encoder.inference import prepare_inference
from encoder.whitening import whiten_symmetrically

FLAGS = "--size 48 --epochs 1 --batch 8 --images-per-class 2 --dim 16 --test-share 0.25"


def measure_mean(data: Path, folder: Path) -> float:
    """Return the length of the mean vector of the training images."""
    checkpoint = load_checkpoint(folder)
    training = split_classes(read_folder(data), SplitRule(test=0.25)).split("train")
    network = prepare_inference(checkpoint)
    vectors = embed_all(training.sources(), checkpoint.preprocess, network.embedder).vectors
    return float(np.linalg.norm(vectors.mean(0)))


def test_the_mean_of_a_teacher_is_zero_unless_asked_otherwise(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    centred, plain = tmp_path / "centred", tmp_path / "plain"
    start = ("--start", "random")
    succeed(capsys, "train-teacher", drawn, centred, *FLAGS.split(), *start)
    shown = succeed(capsys, "train-teacher", drawn, plain, *FLAGS.split(), "--no-centre", *start)
    assert "validation classes after step" in shown and "MAP@R" in shown
    assert load_checkpoint(centred).architecture.bias
    assert not load_checkpoint(plain).architecture.bias
    # Not to the last digit: vectors are brought to unit length after they are centred.
    assert measure_mean(drawn, centred) < 0.1 < 0.2 < measure_mean(drawn, plain)
    student = tmp_path / "student"
    succeed(capsys, "distill", centred, drawn, student, "--size", 32, "--epochs", 1, "--keep", 0.2)
    assert load_checkpoint(student).architecture.bias
    assert run(capsys, "export", student, tmp_path / "bundle")[0] == 0


@pytest.mark.parametrize("whitening", [0.25, 1.0])
def test_whitening_scales_each_direction_by_a_power_of_its_variance(whitening: float) -> None:
    """Against the definition, direction by direction; the axes stay where they were."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    spread = np.array([9.0, 4.0, 2.0, 1.0, 0.5, 0.1])
    vectors = rng.standard_normal((4000, 6)) * spread @ turn.T
    vectors -= vectors.mean(axis=0)
    matrix = whiten_symmetrically(vectors, whitening)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9)
    before = np.linalg.svd(vectors, compute_uv=False) ** 2 / len(vectors)
    expected = before * (before + 0.1 * before.mean()) ** -whitening
    after = np.sort(np.linalg.eigvalsh(matrix @ (vectors.T @ vectors / len(vectors)) @ matrix.T))
    np.testing.assert_allclose(after[::-1], expected * before.sum() / expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(whiten_symmetrically(vectors, 0.0), np.eye(6), atol=1e-9)


def test_a_teacher_is_whitened_where_images_are_enough(
    drawn: Path, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = read_folder(drawn).sources() * 2
    weights = []
    for whitening in (0.0, 0.5):
        for count in (len(files), 8):
            teacher = load_checkpoint(saved / "teacher")
            centring.centre_projection(
                teacher.model,
                teacher.architecture,
                teacher.preprocess,
                files[:count],
                whitening=whitening,
            )
            weights.append(teacher.model.projection.weight.detach().clone())
    plain, few, whitened, too_few = weights
    assert len(files) > len(plain) > 8
    assert torch.equal(plain, few) and torch.equal(plain, too_few)
    assert not torch.allclose(plain, whitened, rtol=0.01)


def test_of_very_many_images_a_part_is_looked_at(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    files = read_folder(drawn).sources()
    looked_at = list[int]()
    embed = centring.embed_all

    def watch(chosen: list[Path], *given: object, **named: object) -> object:
        looked_at.append(len(chosen))
        return embed(chosen, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(centring, "_ENOUGH", 10)
    monkeypatch.setattr(centring, "embed_all", watch)
    teacher = load_checkpoint(saved / "teacher")
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    architecture = centring.centre_projection(
        teacher.model, teacher.architecture, teacher.preprocess, [bad, *files]
    )
    assert architecture.bias and looked_at == [9]
    assert bool(teacher.model.projection.bias.isfinite().all())
