"""Where a student starts when it is of another trunk, with weights of the user's."""

from pathlib import Path

import pytest
import torch
from program import refuse
from safetensors.torch import save_file

from encoder.backbones import build_trunk
from encoder.checkpoint import Checkpoint, digest_model, load_checkpoint
from encoder.compared_views import compare_views
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.errors import PocketlensError
from encoder.model import Architecture, fold_batch_norm, list_trunks
from encoder.optimisation import Optimisation
from encoder.preprocess import Preprocess
from encoder.space import mint_space
from encoder.student import StudentRecipe, distil_student
from encoder.student_start import plan_start, share_channels
from encoder.teacher import start_model

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


def test_a_student_starts_as_one_of_the_trunks_that_stand_side_by_side(
    drawn: Path, tmp_path: Path
) -> None:
    """Its features, and those of the teacher's that it is compared with, are that trunk's alone."""
    trunks = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
    torch.manual_seed(0)
    architecture = Architecture(trunk="+".join(trunks), dim=16, pooling="gem")
    model = start_model(architecture, "").eval()
    with torch.no_grad():
        model.pool.exponent.fill_(2.5)  # type: ignore[union-attr]
    space = mint_space("teacher", 16, digest_model(model))
    teacher = Checkpoint(model, architecture, Preprocess(64), space, "teacher")
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for part, trunk in enumerate(trunks):
        beginning = plan_start(teacher, 64, trunk, "")
        assert beginning.as_teacher and beginning.part == part and not beginning.of_teacher
        own = beginning.build(teacher).eval()
        channels = share_channels(teacher, trunk)
        assert channels is not None and (channels.start > 0) == (part == 1)
        with torch.no_grad():
            aim, features = model.extract_features(images), own.extract_features(images)
            compared = compare_views(own, features, model, aim, views=1, channels=channels)
        assert float(compared.terms["feature"]) == pytest.approx(0, abs=1e-6)
        assert not plan_start(teacher, 64, trunk, "imagenet").as_teacher
    assert share_channels(teacher, "mobilenetv2_035") is None
    with pytest.raises(PocketlensError, match="give --start imagenet"):
        plan_start(teacher, 64, "mobilenetv2_035", "teacher")
    table = split_classes(read_folder(drawn), SplitRule(test=0.25, val=0.2))
    still = Optimisation(epochs=0.1, lr=1e-12)
    recipe = StudentRecipe(size=64, images=8, trunk=trunks[1], keep=0.5, optimisation=still)
    student, _ = distil_student(teacher, table, recipe, tmp_path / "student")
    found = list_trunks(model)[1].state_dict()
    for name, weight in student.model.trunk.state_dict().items():
        torch.testing.assert_close(weight, found[name])
    # The projection was fitted: not as good as that of both, far better than none.
    assert student.alignment is not None and student.alignment.mean_cosine > 0.5
