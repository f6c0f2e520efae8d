"""Teachers drawn to an old one's space, on drawn images: trained, stopped, refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from program import refuse, run, succeed

from encoder.checkpoint import load_checkpoint
from encoder.classed_images import open_classed
from encoder.companion import LearntBatch
from encoder.compatibility import load_compatibility
from encoder.compatibility_fit import measure_both, show_to_both
from encoder.compatible import CompatibleRecipe, OldModel, accompany, look_at_images, start_matrix
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.losses.compatible import classifier_loss, map_vectors
from encoder.losses.supervised import LossRecipe, build_loss
from encoder.model import Architecture
from encoder.optimisation import Optimisation
from encoder.teacher import TeacherRecipe, train_teacher

SPLIT = ["--test-share", "0.25", "--val-share", "0.17"]
SMALL = ["--size", "48", "--epochs", "1", "--batch", "8", "--images-per-class", "2"]
RULE = SplitRule(test=0.25, val=0.17)


@pytest.fixture(scope="module")
def old(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An old teacher of 8 dimensions, which learnt two of the classes."""
    made = tmp_path_factory.mktemp("old")
    for name in sorted(path.name for path in drawn.iterdir() if path.is_dir())[:2]:
        shutil.copytree(drawn / name, made / "images" / name)
    recipe = TeacherRecipe(
        architecture=Architecture(dim=8),
        size=48,
        optimisation=Optimisation(epochs=1, lr=5e-4),
        batch=4,
        images_per_class=2,
    )
    rule = SplitRule(test=0.0, val=0.0)
    table = split_classes(read_folder(made / "images"), rule)
    train_teacher(table, recipe, made / "old", split=rule)
    return made / "old"


def test_each_method_makes_a_space_that_names_the_old_one(
    drawn: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_checkpoint(old)
    table = split_classes(read_folder(drawn), RULE)
    for method, dim in (("dual-tuning", 16), ("bct", 10), ("lce", 16), ("regression", 8)):
        output = tmp_path / method
        given = ["--old", old, "--method", method, "--dim", dim, *SMALL, *SPLIT]
        shown = succeed(capsys, "train-compatible", drawn, output, *given)
        new, found = load_checkpoint(output), load_compatibility(output)
        assert new.space.kind == new.kind == "compatible" and new.space.dim == dim
        assert new.space.parents == new.space.compatible_with == (first.space.id,)
        assert (found.query, found.database) == (new.space, first.space)
        assert new.provenance["old"]["method"] == method
        assert found.shown == measure_both(found, show_to_both(new, first, table, "val"))
        assert f"backward: space {new.space.id} searches space {first.space.id}" in shown
        assert "new → old: R@1" in shown
        # A student of it writes into the same space.
    student = tmp_path / "student"
    flags = ["--size", 32, "--epochs", 1]
    succeed(capsys, "distill", tmp_path / "bct", drawn, student, *flags)
    assert load_checkpoint(student).space == load_checkpoint(tmp_path / "bct").space


def test_a_stopped_training_ends_with_the_same_weights(
    drawn: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from encoder import training

    given = ["--old", old, "--dim", 16, *SMALL, *SPLIT, "--epochs", 2]
    succeed(capsys, "train-compatible", drawn, tmp_path / "whole", *given)
    steps = 0
    take = training._Run._take_step

    def stop(run: object, step: int) -> dict[str, float]:
        nonlocal steps
        steps += 1
        if steps == 5:
            raise KeyboardInterrupt
        return take(run, step)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training._Run, "_take_step", stop)
        assert run(capsys, "train-compatible", drawn, tmp_path / "stopped", *given)[0] != 0
    line = refuse(
        capsys, "train-compatible", drawn, tmp_path / "stopped", *given, "--trim", 0.2, "--resume"
    )
    assert "--overwrite" in line or "another" in line
    succeed(capsys, "train-compatible", drawn, tmp_path / "stopped", *given, "--resume")
    ended, whole = (load_checkpoint(tmp_path / name) for name in ("stopped", "whole"))
    assert ended.encoder == whole.encoder
    first, second = (load_compatibility(tmp_path / name) for name in ("stopped", "whole"))
    np.testing.assert_array_equal(first.map.matrix, second.map.matrix)


def test_a_new_encoder_is_left_free_and_old_vectors_are_mapped_to_it(
    drawn: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--dim", 16, *SMALL, *SPLIT]
    succeed(capsys, "train-teacher", drawn, tmp_path / "alone", *given)
    forward = ["--old", old, "--method", "forward", "--hidden", 32]
    succeed(capsys, "train-compatible", drawn, tmp_path / "both", *forward, *given)
    succeed(
        capsys, "train-compatible", drawn, tmp_path / "map", *forward, "--new", tmp_path / "alone"
    )
    alone, both = (load_checkpoint(tmp_path / name) for name in ("alone", "both"))
    assert alone.encoder == both.encoder and alone.space == both.space
    assert not (tmp_path / "map" / "config.json").exists()
    first, second = (load_compatibility(tmp_path / name) for name in ("both", "map"))
    vectors = np.eye(8, dtype=np.float32)
    np.testing.assert_array_equal(first.map_database(vectors), second.map_database(vectors))
    assert first.direction == "forward" and first.map.dims == (8, 16)
    assert first.map_queries(vectors) is vectors


def test_the_finished_teacher_is_turned_to_the_old_vectors(
    drawn: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, first = split_classes(read_folder(drawn), RULE), load_checkpoint(old)
    # Without validation images nothing is shown.
    for name, more in (("plain", ["--val-share", 0]), ("nested", ["--nested", 4])):
        given = ["--old", old, "--dim", 12, *SMALL, *SPLIT, *more]
        succeed(capsys, "train-compatible", drawn, tmp_path / name, *given)
        found = load_compatibility(tmp_path / name)
        seen = show_to_both(load_checkpoint(tmp_path / name), first, table, "train")
        assert bool(found.shown) == (name == "nested")
        if name == "plain":
            np.testing.assert_array_equal(found.map.matrix, np.eye(8, 12))
            trained = split_classes(read_folder(drawn), SplitRule(test=0.25, val=0.0))
            seen = show_to_both(load_checkpoint(tmp_path / name), first, trained, "train")
        # No other rotation brings the queries nearer: that one's sum is the nuclear norm.
        asked = seen.new @ found.map.matrix.T
        best = np.linalg.svd(seen.new.T @ seen.old, compute_uv=False).sum()
        assert np.einsum("nd,nd->", asked, seen.old) == pytest.approx(best, rel=1e-3)


def look(old: Path, drawn: Path, dim: int, recipe: CompatibleRecipe) -> tuple[OldModel, np.ndarray]:
    checkpoint = load_checkpoint(old)
    training = split_classes(read_folder(drawn), RULE).split("train")
    chosen, _ = open_classed(training, side=64)
    trained = checkpoint.provenance["trained_on"]
    known = np.isin(training.class_names(), trained)
    assert 0 < known.sum() < len(known)
    return look_at_images(checkpoint, chosen, known, dim, recipe), chosen.targets


def test_the_term_of_dual_tuning_is_the_sum_of_its_three_parts(drawn: Path, old: Path) -> None:
    recipe = CompatibleRecipe("dual-tuning", weight=2.0, temperature=0.1)
    seen, targets = look(old, drawn, 12, recipe)
    checkpoint = load_checkpoint(old)
    table = split_classes(read_folder(drawn), RULE)
    companion = accompany(checkpoint, table, recipe, LossRecipe())
    chosen, _ = open_classed(table.split("train"), side=64)
    term = companion.begin(chosen, 12).term
    assert term
    rows = np.array([0, 3, 5, len(targets) - 1, 9])
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(5, 12), dim=1).requires_grad_()
    loss = build_loss(LossRecipe(), classes=seen.prototypes.shape[0], dim=12)
    batch = LearntBatch(vectors, chosen.positions[rows], torch.from_numpy(targets[rows]), loss)
    value, figures = term(batch)
    mapped = map_vectors(vectors, torch.eye(8, 12))
    parts = {
        "prototypes": 0.1
        * classifier_loss(mapped, seen.prototypes, batch.targets, 0.1, seen.weights),
        "old_by_new": 0.2
        * loss(torch.nn.functional.pad(seen.vectors[rows], (0, 4)), batch.targets),
    }
    known = seen.known[batch.targets]
    assert 0 < int(known.sum()) < 5
    numbers = torch.cumsum(seen.known, 0)[batch.targets[known]] - 1
    own = seen.classifier[seen.known]
    parts["new_by_old"] = 0.2 * classifier_loss(mapped[known], own, numbers, 0.1)
    for name, part in parts.items():
        assert figures[name] == pytest.approx(float(part.detach()), rel=1e-4)
    assert float(value.detach()) == pytest.approx(2 * sum(figures.values()), rel=1e-4)
    value.backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None and float(vectors.grad.abs().sum()) > 0
    # Old vectors teach the new proxies alone.
    assert any(weight.grad is not None for weight in loss.parameters())
    assert not seen.vectors.requires_grad


def test_without_a_known_class_the_old_classifier_is_left_out(drawn: Path, old: Path) -> None:
    checkpoint = load_checkpoint(old)
    stranger = dataclasses.replace(checkpoint, provenance={"trained_on": ["other"]})
    table = split_classes(read_folder(drawn), RULE)
    chosen, _ = open_classed(table.split("train"), side=64)
    term = accompany(stranger, table, CompatibleRecipe(), LossRecipe()).begin(chosen, 12).term
    assert term
    loss = build_loss(LossRecipe(), classes=chosen.classes, dim=12)
    vectors = torch.nn.functional.normalize(torch.ones(4, 12), dim=1)
    batch = LearntBatch(vectors, chosen.positions[:4], torch.from_numpy(chosen.targets[:4]), loss)
    assert set(term(batch)[1]) == {"prototypes", "old_by_new"}
    triplets = dataclasses.replace(batch, loss=build_loss(LossRecipe("triplet"), 3, 12))
    assert set(term(triplets)[1]) == {"prototypes"}


def test_fewer_dimensions_lie_along_the_principal_directions_of_the_old_vectors() -> None:
    rng = np.random.default_rng(0)
    old = (rng.standard_normal((200, 6)) * [0.1, 5, 0.1, 3, 0.1, 0.1]).astype(np.float32)
    matrix = start_matrix(old, 2)
    assert matrix.shape == (6, 2)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(2), atol=1e-5)
    assert abs(matrix[1, 0]) > 0.99 < 0.99 + abs(matrix[3, 1])
    np.testing.assert_array_equal(start_matrix(old, 8), np.eye(6, 8))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--new", "somewhere"], "--new somewhere has no meaning without --method forward"),
        (["--method", "forward", "--new", "somewhere"], "--test-share has no meaning with --new"),
        (["--method", "other"], "--method 'other' is not one of"),
        (["--method", "lce", "--loss", "triplet"], "--method lce needs one proxy a class"),
        (["--method", "lce", "--nested", 4], "--method lce needs one proxy a class"),
        (["--old-weight", 0], "--old-weight"),
        (["--old-temperature", 2], "--old-temperature 2.0"),
        (["--trim", 0.5], "--trim 0.5"),
        (["--hidden", 8], "--hidden 8 has no meaning without --method forward"),
        (["--method", "forward", "--hidden", -1], "--hidden -1"),
        (["--crops", 2], "--crops 2 has no meaning without --method forward"),
        (["--method", "forward", "--crops", 65], "--crops 65 is not in 0..64"),
        (["--old", "nowhere"], "nowhere: not a checkpoint folder"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    drawn: Path,
    old: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[object],
    expected: str,
) -> None:
    given = ["--old", old, "--dim", 8, *SMALL, *SPLIT, *flags]
    assert expected in refuse(capsys, "train-compatible", drawn, tmp_path / "new", *given)
    assert list(tmp_path.iterdir()) == []


def test_an_old_checkpoint_of_another_format_is_refused(
    drawn: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(old, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "format": 99}))
    line = refuse(capsys, "train-compatible", drawn, tmp_path / "new", "--old", other, *SMALL)
    assert "config.json" in line and "99" in line
