"""A master of few-shot branches, trained, stopped, and guiding a teacher, on drawn images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from program import refuse, run, succeed

from encoder import cross_validation
from encoder.checkpoint import load_checkpoint
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.errors import PocketlensError
from encoder.guide import load_guide
from encoder.losses.supervised import LossRecipe
from encoder.master import MasterRecipe, fuse_branches, train_master
from encoder.model import Architecture
from encoder.optimisation import Optimisation
from encoder.teacher import TeacherRecipe

SPLIT = ["--test-share", "0.25", "--val-share", "0.17"]
SMALL = ["--size", "48", "--epochs", "1", "--batch", "8", "--images-per-class", "2", "--dim", "8"]
RULE = SplitRule(test=0.25, val=0.17)
RECIPE = MasterRecipe(
    branches=2,
    branch=TeacherRecipe(
        architecture=Architecture(dim=8),
        size=48,
        optimisation=Optimisation(epochs=1, lr=5e-4),
        batch=8,
        images_per_class=2,
        loss=LossRecipe("prototypical"),
    ),
)


@pytest.fixture(scope="module")
def master(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A master that was stopped at its second branch and went on."""
    output = tmp_path_factory.mktemp("made") / "master"
    table = split_classes(read_folder(drawn), RULE)
    train = cross_validation.train_teacher

    def stop_at_second(*given: object, **named: object) -> object:
        if str(given[2]).endswith("branch-2"):
            raise KeyboardInterrupt
        return train(*given, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cross_validation, "train_teacher", stop_at_second)
        train_master(table, RECIPE, output, split=RULE)
    assert not output.exists()
    trained = list[str]()

    def note(*given: object, **named: object) -> object:
        trained.append(Path(str(given[2])).name)
        return train(*given, **named)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "train_teacher", note)
        train_master(table, RECIPE, output, split=RULE, resume=True)
    assert trained == ["branch-2"]
    assert [path.name for path in output.parent.iterdir()] == ["master"]
    return output


def test_branches_learn_different_classes_and_their_vectors_are_stored(
    drawn: Path, master: Path
) -> None:
    described = json.loads((master / "master.json").read_text())
    training = split_classes(read_folder(drawn), RULE).split("train")
    branches = [load_checkpoint(master / name) for name in described["branches"]]
    learnt = [set(branch.provenance["trained_on"]) for branch in branches]
    assert learnt[0] != learnt[1] and learnt[0] | learnt[1] == set(training.class_names())
    assert described["trained_on"] == training.class_names()
    guide = load_guide(master)
    fused, _ = fuse_branches(branches, training)
    assert guide.vectors.shape == (len(training), 16)
    rows = guide.take(np.arange(len(training)))
    assert np.allclose(rows, fused.vectors, atol=2e-3)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=2e-3)
    names = [row["name"] for row in described["validation"]]
    assert names == ["branch 1", "branch 2", "fused, 16-d"]


def test_a_guided_teacher_differs_and_says_who_guided_it(
    drawn: Path, master: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train-teacher", drawn)
    succeed(capsys, *command, tmp_path / "alone", *SMALL, *SPLIT)
    flags = ("--guide", master, "--guide-weight", 3)
    succeed(capsys, *command, tmp_path / "guided", *SMALL, *SPLIT, *flags)
    alone, guided = (load_checkpoint(tmp_path / name) for name in ("alone", "guided"))
    assert alone.encoder != guided.encoder
    known = load_guide(master, weight=3.0)
    assert guided.provenance["guide"] == known.describe()
    assert "guide" not in alone.provenance
    log = (tmp_path / "guided/metrics.jsonl").read_text()
    assert "guidance" in json.loads(log.splitlines()[0])


def test_a_master_of_other_images_or_classes_is_refused(
    drawn: Path, master: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "teacher"
    guide = ("--guide", master)
    line = refuse(capsys, "train-teacher", drawn, output, *SMALL, *guide, "--test-share", 0.5)
    assert f"{master}: the master was trained on other images" in line
    line = refuse(capsys, "train-teacher", drawn, output, *SMALL, *SPLIT, *guide, "--folds", 2)
    assert "--guide is not for --folds" in line
    line = refuse(capsys, "train-teacher", drawn, output, *SMALL, *SPLIT, "--guide", drawn)
    assert "not the folder of a master" in line
    assert not output.exists()
    flags = ("--guide-weight", 2)
    line = refuse(capsys, "train-teacher", drawn, output, *SMALL, *SPLIT, *flags)
    assert "--guide-weight has no meaning without --guide" in line
    known = load_guide(master)
    known.check_covers(np.array([1, 0]))
    with pytest.raises(PocketlensError, match=r"no vector of 2 training image\(s\)"):
        known.check_covers(np.array([0, 998, 999]))


def test_a_damaged_master_is_refused(master: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(master, copy)
    stored = copy / "vectors.safetensors"
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    with pytest.raises(PocketlensError, match=r"vectors\.safetensors: not the file"):
        load_guide(copy)
    stored.unlink()
    with pytest.raises(PocketlensError, match="missing or damaged"):
        load_guide(copy)
    described = json.loads((copy / "master.json").read_text())
    (copy / "master.json").write_text(json.dumps({**described, "format": 99}))
    with pytest.raises(PocketlensError, match="reads format 1"):
        load_guide(copy)


def test_too_many_branches_are_refused(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train-master", drawn, tmp_path / "master", *SMALL, *SPLIT, "--branches")
    assert "--branches 6: each leaves out classes of its own" in refuse(capsys, *command, 6)
    assert "--branches 1 is not in 2..32" in refuse(capsys, *command, 1)
    assert run(capsys, *command, 2, "--temperature", 5)[0] == 2
    line = refuse(capsys, *command, 2, "--interpolation", "nearest")
    assert "--interpolation 'nearest' is not one of bilinear, bicubic" in line
    assert list(tmp_path.iterdir()) == []


def test_the_options_reach_the_branches(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "master"
    flags = "--branches 2 --temperature 0.3 --pooling gem --interpolation bicubic --jitter 0.5"
    shown = succeed(capsys, "train-master", drawn, output, *SMALL, *SPLIT, *flags.split())
    assert "fused, 16-d" in shown and f"guide a teacher with --guide {output}" in shown
    branch = load_checkpoint(output / "branch-2")
    assert branch.architecture.pooling == "gem" and branch.preprocess.interpolation == "bicubic"
    recipe = branch.provenance["recipe"]
    assert recipe["loss"]["name"] == "prototypical" and recipe["loss"]["temperature"] == 0.3
    assert recipe["views"]["hue"] == 0.025 and recipe["seed"] == 2
