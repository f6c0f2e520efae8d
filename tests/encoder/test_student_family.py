"""Several students of one teacher in one run: the same as each alone, and it can be stopped."""

import dataclasses
import json
from pathlib import Path

import pytest
from program import refuse, succeed

from encoder import student_family
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


def test_what_cannot_be_a_family_is_refused(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path
) -> None:
    with pytest.raises(PocketlensError, match="student-32: given twice"):
        plan_family(RECIPE, [32, 32], [])
    elastic = dataclasses.replace(RECIPE, elastic=(48,))
    with pytest.raises(PocketlensError, match="--elastic is for one student"):
        plan_family(elastic, [32, 48], [])
    with pytest.raises(PocketlensError, match="--stored 1 is less than --views 2"):
        distil_family(teacher, table, plan_family(RECIPE, [32], []), tmp_path / "out", stored=1)
    assert list(tmp_path.iterdir()) == []


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
    assert "--stored 0" in refuse(capsys, *call, *sizes, "--stored", 0, "--overwrite")
