"""A turned space: the same cosines, prefixes that say more, and a name of its own."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from program import refuse, succeed
from safetensors.numpy import load_file, save

from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.datasets.table import ImageTable
from encoder.embed import embed_all
from encoder.errors import PocketlensError
from encoder.evaluate import refuse_trained
from encoder.inference import prepare_inference
from encoder.rotation import (
    ROTATION,
    follow_rotation,
    learn_rotation,
    rotate_space,
    share_kept,
)
from encoder.unlabelled_images import training_images


@pytest.fixture(scope="module")
def table(drawn: Path) -> ImageTable:
    # With fewer images than dimensions there would be no rotation to learn.
    return split_classes(read_folder(drawn), SplitRule(test=0.0, val=0.0))


@pytest.fixture(scope="module")
def small(teacher: Checkpoint) -> Checkpoint:
    """The teacher with the first 16 of its components and a bias."""
    import torch

    from encoder.model import EmbeddingModel

    torch.manual_seed(3)
    architecture = dataclasses.replace(teacher.architecture, dim=16, bias=True)
    model = EmbeddingModel(architecture).eval()
    model.trunk.load_state_dict(teacher.model.trunk.state_dict())
    space = dataclasses.replace(teacher.space, dim=16)
    return dataclasses.replace(teacher, model=model, architecture=architecture, space=space)


def embed(checkpoint: Checkpoint, table: ImageTable) -> np.ndarray:
    return embed_all(
        table.sources(), checkpoint.preprocess, prepare_inference(checkpoint).embedder
    ).vectors


def test_it_is_the_principal_axes_and_orthonormal() -> None:
    """Against the eigenvectors found by power iteration, one after another."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 6)) * [1, 5, 2, 0.5, 3, 0.1]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rotation = learn_rotation(vectors)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(6), atol=1e-6)
    moment = vectors.T.astype(np.float64) @ vectors / len(vectors)
    for row in rotation:
        axis = np.ones(6)
        for _ in range(3000):
            axis = moment @ axis
            axis /= np.linalg.norm(axis)
        assert abs(axis @ row) == pytest.approx(1, abs=1e-4)
        moment = moment - (axis @ moment @ axis) * np.outer(axis, axis)
        assert row[np.abs(row).argmax()] > 0
    turned = vectors @ rotation.T
    kept, before = (share_kept(each, (1, 3, 6)) for each in (turned, vectors))
    assert kept[1] > before[1] and kept[3] > before[3] and kept[6] == pytest.approx(1, abs=1e-5)


def test_cosines_stay_and_the_space_is_a_new_one(
    small: Checkpoint, table: ImageTable, tmp_path: Path
) -> None:
    turned, vectors, unread = rotate_space(small, table, tmp_path / "turned")
    assert unread == ()
    before, after = embed(small, table), embed(load_checkpoint(tmp_path / "turned"), table)
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-4)
    np.testing.assert_allclose(vectors, after, atol=1e-4)
    rotation = load_file(tmp_path / "turned" / ROTATION)["rotation"]
    np.testing.assert_allclose(after, before @ rotation.T, atol=1e-4)
    assert share_kept(after, (4,))[4] > share_kept(before, (4,))[4]
    assert turned.space.id != small.space.id and turned.space.dim == 16
    assert (turned.space.kind, turned.space.parents) == ("rotated", (small.space.id,))
    origin = json.loads((tmp_path / "turned/config.json").read_text())["provenance"]["rotated_from"]
    learnt = training_images(table, with_validation=True)
    data = learnt.describe()
    assert origin == {"encoder": small.encoder, "space": small.space.id, "data": data}
    with pytest.raises(PocketlensError, match="was trained on"):
        refuse_trained(turned, learnt)


def test_an_encoder_of_the_old_space_follows(
    small: Checkpoint, table: ImageTable, tmp_path: Path
) -> None:
    turned, _, _ = rotate_space(small, table, tmp_path / "turned")
    student = dataclasses.replace(small, preprocess=small.preprocess.resized(32), kind="student")
    followed = follow_rotation(student, tmp_path / "turned", tmp_path / "student")
    assert followed.space == turned.space and followed.kind == "student"
    with pytest.raises(PocketlensError, match="was trained on"):
        refuse_trained(dataclasses.replace(followed), table)
    before = embed(student, table) @ embed(small, table).T
    after = embed(load_checkpoint(tmp_path / "student"), table) @ embed(turned, table).T
    np.testing.assert_allclose(after, before, atol=1e-4)
    with pytest.raises(PocketlensError, match="was not turned from"):
        follow_rotation(followed, tmp_path / "turned", tmp_path / "again")
    with pytest.raises(PocketlensError, match="give the checkpoint that was turned first"):
        follow_rotation(student, tmp_path / "student", tmp_path / "again")
    shutil.copytree(tmp_path / "turned", tmp_path / "damaged")
    other = np.eye(16, dtype=np.float32)
    (tmp_path / "damaged" / ROTATION).write_bytes(save({"rotation": other}))
    with pytest.raises(PocketlensError, match="not the rotation that made the space"):
        follow_rotation(student, tmp_path / "damaged", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_prefixes_that_were_taught_are_said_to_be_replaced(
    saved: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(saved / "teacher", tmp_path / "nested")
    config = tmp_path / "nested/config.json"
    described = json.loads(config.read_text())
    described["provenance"]["recipe"] = {"nested": [8]}
    config.write_text(json.dumps(described))
    shown = succeed(
        capsys, "rotate-space", tmp_path / "nested", tmp_path / "turned", "--data", drawn
    )
    assert "the first 8 components are no longer those that were taught" in shown


def test_too_few_images_are_refused(small: Checkpoint, table: ImageTable, tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match="15 readable images are too few to turn 16"):
        rotate_space(small, table.select(range(15)), tmp_path / "turned")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_turns_a_teacher_and_its_student(
    saved: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = tmp_path / "turned"
    call = ("rotate-space", saved / "teacher", turned)
    assert "give --data" in refuse(capsys, *call)
    assert "give --data" in refuse(capsys, *call, "--data", drawn, "--like", saved / "teacher")
    shown = succeed(capsys, *call, "--data", drawn)
    assert "the first 16 of 32 components hold" in shown and "turned from" in shown
    assert "exists already" in refuse(capsys, *call, "--data", drawn)
    like = succeed(
        capsys, "rotate-space", saved / "student", tmp_path / "student", "--like", turned
    )
    assert load_checkpoint(turned).space.id in like
