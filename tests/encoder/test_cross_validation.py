"""Teachers of class-disjoint folds, trained, judged and taken up again, on drawn images."""

import json
from pathlib import Path

import numpy as np
import pytest
from program import run

from encoder import teacher as training
from encoder.checkpoint import load_checkpoint
from encoder.datasets.folds import make_folds
from encoder.datasets.splits import SplitRule, read_table, split_classes

FLAGS = "--size 48 --epochs 1 --batch 4 --images-per-class 2 --dim 8 --test-share 0.25 --folds 2"


def test_every_fold_is_trained_and_judged(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "teachers"
    command = ("train-teacher", drawn, output, *FLAGS.split())
    optimise, begun = training._optimise, list[object]()

    def stop_at_second(*given: object) -> None:
        begun.append(given)
        if len(begun) == 2:
            raise KeyboardInterrupt
        optimise(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training, "_optimise", stop_at_second)
        code, _, errors = run(capsys, *command)
    told = f"the training was stopped; with --resume it goes on from {output}.state\n"
    assert code == 130 and errors.endswith(told)
    assert errors.count("was stopped;") == 1 and not output.exists()
    first = (tmp_path / "teachers.state/fold-1/model.safetensors").read_bytes()
    code, out, _ = run(capsys, *command, "--resume")
    assert code == 0 and "separated: mean of the folds" in out and "concatenated, 16-d" in out
    assert (output / "fold-1/model.safetensors").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["teachers"]

    written = json.loads((output / "folds.json").read_text())
    rows = {row["name"]: row for row in written["rows"]}
    each = [rows[f"fold {n}"]["figures"]["map_at_r"] for n in (1, 2)]
    mean = rows["separated: mean of the folds"]["figures"]["map_at_r"]
    assert mean == pytest.approx(np.mean(each))
    rule = SplitRule(test=0.25)
    parts = make_folds(split_classes(read_table(drawn), rule), folds=2)
    for number, part in enumerate(parts, 1):
        teacher = load_checkpoint(output / f"fold-{number}")
        assert teacher.provenance["trained_on"] == part.split("train").class_names()
        assert written["validation_classes"][number - 1] == part.split("val").class_names()
    assert run(capsys, *command)[0] == 2
    code, out, _ = run(capsys, "evaluate", drawn, "--teacher", output / "fold-1")
    assert code == 0
    figures = rows["fold 1"]["figures"]
    assert f"{figures['r1']:8.1f}" in out and f"{figures['map_at_r']:8.1f}" in out
    assert run(capsys, "report", output / "folds.json", tmp_path / "page.html")[0] == 0


def test_more_folds_than_classes_are_refused(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = FLAGS.replace("--folds 2", "--folds 99").split()
    code, _, error = run(capsys, "train-teacher", drawn, tmp_path / "out", *flags)
    assert code == 2 and "cannot be divided into 99 folds" in error
    assert list(tmp_path.iterdir()) == []
