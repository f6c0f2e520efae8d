"""Recipes: every one of ours fits its command, and the command line wins."""

import json
import tomllib
from pathlib import Path

import pytest
from program import run

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = [
    "--size",
    "48",
    "--dim",
    "8",
    "--batch",
    "4",
    "--images-per-class",
    "2",
    "--test-share",
    "0.25",
]


def test_a_recipe_gives_defaults_and_the_command_line_wins(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[train-teacher]\nepochs = 1\nlr = 1e-5\nloss = "cosface"\nnested = [4]\n'
        "learn-temperature = false\n[distill]\nviews = 3\n"
    )
    teacher = tmp_path / "teacher"
    flags = (*SMALL, "--recipe", recipe, "--lr", "2e-4")
    assert run(capsys, "train-teacher", drawn, teacher, *flags)[0] == 0
    kept = json.loads((teacher / "config.json").read_text())["provenance"]["recipe"]
    assert kept["optimisation"]["epochs"] == 1 and kept["optimisation"]["lr"] == 2e-4
    assert kept["loss"]["name"] == "cosface" and kept["loss"]["nested"] == [4]
    student = tmp_path / "student"
    flags = ("--recipe", recipe, "--epochs", "0.2", "--size", "32")
    assert run(capsys, "distill", teacher, drawn, student, *flags)[0] == 0
    kept = json.loads((student / "config.json").read_text())["provenance"]["recipe"]
    assert kept["views_per_image"] == 3 and kept["size"] == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train-teacher]\nepoch = 1\n", "'epoch' is no option of train-teacher"),
        ("[train-teacher]\noverwrite = true\n", "'overwrite' is no option of train-teacher"),
        ("[distill]\nlr = 1\n", "a recipe for train-teacher has a table [train-teacher]"),
        ("lr = \n", "not a readable recipe"),
        ('[train-teacher]\nlr = "fast"\n', "lr"),
        ("[train-teacher]\nlr = -1.0\n", "--lr -1.0 must be a positive number"),
    ],
)
def test_what_a_recipe_cannot_hold_is_one_line(
    text: str, message: str, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(text)
    flags = (*SMALL, "--recipe", recipe)
    code, _, error = run(capsys, "train-teacher", drawn, tmp_path / "out", *flags)
    assert code == 2 and message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == [recipe]


def test_a_missing_recipe_is_named(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--recipe", tmp_path / "none.toml")
    code, _, error = run(capsys, "train-teacher", drawn, tmp_path / "out", *flags)
    assert code == 2 and "none.toml" in error


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*-teacher.toml")), ids=lambda f: f.name)
def test_our_teachers_recipes_are_read_to_the_end(
    file: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused, last of all, is the file of the trunk's weights."""
    weights = ("--weights", tmp_path / "resnet50.safetensors")
    command = ("train-teacher", drawn, tmp_path / "out", "--recipe", file, *weights)
    code, _, error = run(capsys, *command)
    assert code == 2 and "resnet50.safetensors: not a safetensors file" in error


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*-student.toml")), ids=lambda f: f.name)
def test_our_students_recipes_are_read_to_the_end(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused, last of all, is that there is no teacher."""
    missing = tmp_path / "missing"
    code, _, error = run(capsys, "distill", missing, missing, tmp_path / "out", "--recipe", file)
    assert code == 2 and "missing: not a checkpoint folder" in error
    given = tomllib.loads(file.read_text())["distill"]
    assert given["images"] * given["accumulate"] == 200 and given["views"] == 8
