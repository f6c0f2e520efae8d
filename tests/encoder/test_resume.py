"""A training killed outright and taken up again, as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from program import run

ROOT = Path(__file__).parents[2]


def list_arguments(data: Path, output: Path) -> list[str]:
    flags = "--size 48 --epochs 6 --batch 8 --images-per-class 2 --dim 16 --lr 1e-4 --average 0.8"
    return ["train-teacher", str(data), str(output), *flags.split(), "--test-share", "0.25"]


def kill_when_saved(arguments: list[str], state: Path) -> int:
    """Start a training, kill it once it has saved a state, return the step of that state."""
    command = [sys.executable, str(ROOT / "cli.py"), *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        for _ in range(2400):
            if state.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    return int(json.loads(state.read_text())["step"])


def test_a_killed_training_goes_on_to_the_same_weights(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, _, errors = run(capsys, *list_arguments(drawn, whole), "--resume")
    assert code == 0 and f"nothing of {whole} was stopped; it begins anew" in errors
    step = kill_when_saved(list_arguments(drawn, killed), tmp_path / "killed.state/state.json")
    assert not killed.exists()
    code, _, error = run(capsys, *list_arguments(drawn, killed))
    assert code == 2 and "killed.state: a stopped training lies here" in error
    code, _, error = run(capsys, *list_arguments(drawn, killed), "--resume", "--seed", "5")
    assert code == 2 and "of other data, options or version" in error
    assert run(capsys, *list_arguments(drawn, killed), "--resume")[0] == 0
    name = "model.safetensors"
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
    steps = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert step < max(line["step"] for line in steps)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
