"""What TensorBoard reads back of a training."""

import importlib.util
import json
from pathlib import Path

import pytest
from program import refuse, succeed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

FLAGS = "--size 48 --epochs 2 --batch 8 --images-per-class 2 --dim 16 --test-share 0.25"


def test_the_figures_of_the_log_are_shown(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, shown = tmp_path / "teacher", tmp_path / "shown"
    succeed(capsys, "train-teacher", drawn, teacher, *FLAGS.split(), "--tensorboard", shown)
    events = EventAccumulator(str(shown)).Reload()
    log = [json.loads(line) for line in (teacher / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "lr", "val_map_at_r"):
        logged = [(line["step"], line[name]) for line in log if name in line]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in logged]
        assert [value for _, value in found] == pytest.approx([value for _, value in logged])
    student, shown = tmp_path / "student", tmp_path / "shown-student"
    flags = ("--size", 32, "--epochs", 1, "--tensorboard", shown)
    succeed(capsys, "distill", teacher, drawn, student, *flags)
    assert "cosine" in EventAccumulator(str(shown)).Reload().Tags()["scalars"]


def test_what_cannot_be_shown_is_refused_before_any_work(
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    command = ("train-teacher", drawn, tmp_path / "teacher", *FLAGS.split(), "--tensorboard")
    assert f"{file}: not a folder" in refuse(capsys, *command, file)
    teacher = tmp_path / "teacher"
    for inside in (teacher, teacher / "shown", tmp_path / "teacher.state/shown"):
        assert f"{inside}: lies in what the training itself" in refuse(capsys, *command, inside)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    line = refuse(capsys, *command, tmp_path / "shown")
    assert "pip install 'pocketlens[tensorboard]'" in line
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
