"""Where a student starts when it is of another trunk, with weights of the user's."""

from pathlib import Path

import pytest
import torch
from program import refuse
from safetensors.torch import save_file

from encoder.backbones import build_trunk
from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.errors import PocketlensError
from encoder.model import fold_batch_norm
from encoder.optimisation import Optimisation
from encoder.student import StudentRecipe, distil_student
from encoder.student_start import plan_start

NAME = "mobilenetv2_035:pad_type=same,mean=0.5,std=0.5"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("weights") / "mobilenet.safetensors"
    save_file(build_trunk("mobilenetv2_035").state_dict(), file)
    return file


def test_a_student_starts_from_a_file_of_weights_and_their_pixels(
    teacher: Checkpoint, drawn: Path, weights: Path, tmp_path: Path
) -> None:
    table = split_classes(read_folder(drawn), SplitRule(test=0.25, val=0.2))
    still = Optimisation(epochs=0.1, lr=1e-12)
    recipe = StudentRecipe(
        size=32, images=8, trunk=NAME, weights_file=str(weights), optimisation=still
    )
    distil_student(teacher, table, recipe, tmp_path / "student")
    student = load_checkpoint(tmp_path / "student")
    assert student.architecture.trunk == NAME and student.space == teacher.space
    assert student.preprocess.mean == student.preprocess.std == (127.5,) * 3
    torch.manual_seed(5)
    start = fold_batch_norm(build_trunk(NAME), NAME).state_dict()
    found = student.model.trunk.state_dict()
    assert found.keys() == start.keys()
    for name, weight in start.items():
        torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=1e-6)


def test_the_teachers_own_trunk_may_start_from_a_file_too(
    teacher: Checkpoint, weights: Path
) -> None:
    assert plan_start(teacher, 32, "", "").of_teacher
    assert not plan_start(teacher, 32, "", "", str(weights)).of_teacher
    with pytest.raises(PocketlensError, match="does not hold this trunk's weights"):
        plan_start(teacher, 32, "", "", str(weights)).build(teacher)
    with pytest.raises(PocketlensError, match="exclude each other"):
        plan_start(teacher, 32, "", "teacher", str(weights))


def test_weights_are_for_one_trunk(
    saved: Path, drawn: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ("distill", saved / "teacher", drawn, tmp_path / "out", "--weights", weights)
    trunks = ("--trunk", NAME, "--trunk", "tf_efficientnet_lite1")
    assert "are one --trunk's" in refuse(capsys, *call, *trunks)
