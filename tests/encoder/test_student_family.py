"""Several students of one teacher in one run: the same as each alone, and it can be stopped."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from program import refuse, succeed
from safetensors.torch import save_file

from encoder import student_family, training_state
from encoder.backbones import DEFAULT_TRUNK, build_trunk
from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.datasets.table import ImageTable
from encoder.errors import PocketlensError
from encoder.optimisation import Optimisation
from encoder.student import StudentRecipe, distil_student
from encoder.student_family import FAMILY, distil_family, plan_family
from encoder.view_making import StoreRecipe, make_views
from encoder.view_store import open_store

RECIPE = StudentRecipe(images=8, optimisation=Optimisation(epochs=1, lr=1e-4))


@pytest.fixture(scope="module")
def table(drawn: Path) -> ImageTable:
    return split_classes(read_folder(drawn), SplitRule(test=0.25, val=0.2))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_each_student_is_what_it_would_be_alone(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the run is stopped within the second one; the views do not stay."""
    members = plan_family(RECIPE, [32, 48], [])
    assert list(members) == ["student-32", "student-48"]
    make_views(teacher, table, StoreRecipe(4, RECIPE.views), tmp_path / "views")
    for name, recipe in members.items():
        store = open_store(tmp_path / "views")
        distil_student(teacher, table, recipe, tmp_path / "alone" / name, store=store)
    begun: list[int] = []

    def stop_at_second(*given: object, **options: object) -> object:
        begun.append(given[2].size)  # type: ignore[attr-defined]
        if len(begun) == 2:
            raise KeyboardInterrupt
        return distil_student(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(student_family, "distil_student", stop_at_second)
    output = tmp_path / "family"
    with pytest.raises(KeyboardInterrupt):
        distil_family(teacher, table, members, output, stored=4)
    assert not output.exists()
    with pytest.raises(PocketlensError, match="of other data, options or version"):
        distil_family(teacher, table, members, output, stored=5, resume=True)
    students, _ = distil_family(teacher, table, members, output, stored=4, resume=True)
    assert begun == [32, 48, 48]
    assert sorted(entry.name for entry in output.iterdir()) == [FAMILY, *members]
    assert not (tmp_path / "family.state").exists()
    for name, student in students.items():
        assert weights(output / name) == weights(tmp_path / "alone" / name)
        assert student.space == teacher.space
        assert load_checkpoint(output / name).encoder == student.encoder
    described = json.loads((output / FAMILY).read_text())
    assert described["stored"] == 4 and described["members"]["student-48"]["size"] == 48


def test_online_each_student_is_shown_new_views(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path
) -> None:
    members = plan_family(RECIPE, [32], ["", "tf_efficientnet_lite1"])
    assert list(members) == ["student-32", "student-32-tf_efficientnet_lite1"]
    distil_family(teacher, table, members, tmp_path / "family", stored=0)
    first = "student-32"
    distil_student(teacher, table, members[first], tmp_path / "alone")
    assert weights(tmp_path / "family" / first) == weights(tmp_path / "alone")


def test_what_cannot_be_a_family_is_refused_before_any_work(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path
) -> None:
    with pytest.raises(PocketlensError, match="--size 32: given twice"):
        plan_family(RECIPE, [32, 32], [])
    elastic = dataclasses.replace(RECIPE, elastic=(48,))
    with pytest.raises(PocketlensError, match="--elastic is for one student"):
        plan_family(elastic, [32, 48], [])
    output = tmp_path / "out"
    for stored in (1, 1025):
        with pytest.raises(PocketlensError, match=f"--stored {stored} is not between --views 2"):
            distil_family(teacher, table, plan_family(RECIPE, [32], []), output, stored=stored)
    keep = dataclasses.replace(RECIPE, keep=0.3)
    for members, message in (
        (plan_family(RECIPE, [32], ["", "no_such_net"]), "no_such_net"),
        (plan_family(RECIPE, [32, 8], []), "input size 8"),
        (plan_family(keep, [32], ["", "tf_efficientnet_lite1"]), "--keep 0.3 needs"),
    ):
        with pytest.raises(PocketlensError, match=message):
            distil_family(teacher, table, members, output, stored=4)
    assert list(tmp_path.iterdir()) == []


def test_one_trunk_may_be_built_in_several_ways() -> None:
    trunks = ["mobilenetv2_035", "mobilenetv2_035:pad_type=same", "hf-hub:owner/net"]
    assert list(plan_family(RECIPE, [32], trunks)) == [
        "student-32-mobilenetv2_035",
        "student-32-mobilenetv2_035-2",
        "student-32-hf-hub",
    ]


def test_other_weights_are_another_family(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only another file: what it holds may change between a stop and `--resume`."""
    file = tmp_path / "trunk.safetensors"
    trunk = {name: value.clone() for name, value in build_trunk(DEFAULT_TRUNK).state_dict().items()}
    save_file(trunk, file)
    members = plan_family(dataclasses.replace(RECIPE, weights_file=str(file)), [32, 48], [])

    def stop(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(student_family, "distil_student", stop)
        with pytest.raises(KeyboardInterrupt):
            distil_family(teacher, table, members, tmp_path / "family", stored=0)
    name = next(key for key in trunk if trunk[key].is_floating_point())
    save_file({**trunk, name: trunk[name] + 1}, file)
    with pytest.raises(PocketlensError, match="of other data, options or version"):
        distil_family(teacher, table, members, tmp_path / "family", stored=0, resume=True)


def test_a_family_that_is_finished_can_be_resumed(
    teacher: Checkpoint, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill may leave its state behind; what could not be read is told again."""
    shutil.copytree(drawn, tmp_path / "data")
    damaged = sorted((tmp_path / "data").rglob("*.jpg"))[0]
    damaged.write_bytes(b"not a picture")
    table = split_classes(read_folder(tmp_path / "data"), SplitRule(test=0.25, val=0.2))
    members, output = plan_family(RECIPE, [32], []), tmp_path / "family"
    copied: list[Path] = []

    def keep_state(path: Path) -> None:
        copied.append(path)

    with monkeypatch.context() as patched:
        patched.setattr(training_state, "_clear", keep_state)
        _, unread = distil_family(teacher, table, members, output, stored=2)
    assert [entry.path for entry in unread] == [str(damaged)]
    before, state = weights(output / "student-32"), tmp_path / "family.state"
    assert state.exists()
    students, unread = distil_family(teacher, table, members, output, stored=2, resume=True)
    assert [entry.path for entry in unread] == [str(damaged)]
    assert list(students) == ["student-32"] and weights(output / "student-32") == before
    assert not state.exists()


def test_the_command_line_distils_several(
    saved: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("[distill]\nsize = 48\nepochs = 0.5\nimages = 8\n")
    teacher, recipe = saved / "teacher", ("--recipe", file)
    assert "48 px" in succeed(capsys, "distill", teacher, drawn, tmp_path / "one", *recipe)
    call = ("distill", teacher, drawn, tmp_path / "several", *recipe)
    sizes = ("--size", 32, "--size", 64, "--stored", 2)
    shown = succeed(capsys, *call, *sizes)
    assert "student-32: student, 32 px" in shown and "student-64: student, 64 px" in shown
    assert "several" in refuse(capsys, *call, *sizes)
    assert "--online or --store" in refuse(capsys, *call, "--online", "--store", tmp_path)
    one = ("distill", teacher, drawn, tmp_path / "single", "--stored", 3)
    assert "--stored 3 is for several students" in refuse(capsys, *one)
    assert "--stored 3 is for" in refuse(capsys, *call, *sizes[:4], "--stored", 3, "--online")
    assert "--stored 0" in refuse(capsys, *call, *sizes, "--stored", 0, "--overwrite")
