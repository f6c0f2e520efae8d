"""The command line as a user meets it: what works, and one clear line for what does not."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import refuse, run

import cli


@pytest.fixture(scope="module")
def query(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("query") / "bundle"
    sys.argv = ["cli", "export", str(saved / "student"), str(folder)]
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    return folder


@pytest.fixture(scope="module")
def index(saved: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "index"
    sys.argv = ["cli", "build-index", str(drawn), str(folder), "--encoder", str(saved / "teacher")]
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    return folder


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["export", "student"], "cli export [OPTIONS] {checkpoints}... {bundle}"),
        (["export", "--nosuch"], "no such option: --nosuch; see `"),
        (["export", "--nosuch"], "cli export --help`"),
        (["nosuch"], "no such command 'nosuch'; see `"),
        (["bench", "--rounds"], "option '--rounds' requires an argument"),
        (["bench", "--rounds", "x"], "invalid value for '--rounds'"),
    ],
)
def test_a_mistyped_command_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert told in refuse(capsys, *arguments)


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = run(capsys)
    assert code == 2 and errors.startswith("Usage: ") and "error" not in errors


def test_search_answers_ids_scores_and_paths(
    capsys: pytest.CaptureFixture[str], query: Path, index: Path, drawn: Path
) -> None:
    picture = sorted(drawn.rglob("*.jpg"))[5]
    code, out, _ = run(capsys, "search", picture, "--index", index, "--encoder", query, "-k", 3)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 4 and lines[0].split() == ["rank", "score", "id", "path"]
    for line in lines[1:]:
        _, score, identifier, path = line.split()
        assert -1 <= float(score) <= 1
        assert Path(path) == drawn / identifier and Path(path).is_file()


def test_the_teachers_own_export_finds_each_picture_itself(
    capsys: pytest.CaptureFixture[str], saved: Path, index: Path, drawn: Path, tmp_path: Path
) -> None:
    code, _, _ = run(capsys, "export", saved / "teacher", tmp_path / "database")
    assert code == 0
    picture = sorted(drawn.rglob("*.jpg"))[7]
    _, out, _ = run(
        capsys, "search", picture, "--index", index, "--encoder", tmp_path / "database", "-k", 1
    )
    _, score, identifier, _ = out.splitlines()[1].split()
    assert identifier == picture.relative_to(drawn).as_posix() and float(score) > 0.98


def test_an_exported_teacher_builds_the_same_index_without_torch(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, tmp_path: Path
) -> None:
    from server_index.index import Index

    run(capsys, "export", saved / "teacher", tmp_path / "database")
    for name, encoder in (("torch", saved / "teacher"), ("onnx", tmp_path / "database")):
        arguments = ["build-index", drawn, tmp_path / name, "--encoder", encoder]
        assert run(capsys, *arguments, "--precision", "fp32")[0] == 0
    first, second = Index(tmp_path / "torch"), Index(tmp_path / "onnx")
    assert len(first) == len(second) == 32
    (one,), (other,) = first.snapshot.parts, second.snapshot.parts
    assert one.segment and other.segment
    assert one.segment.facts.encoders == other.segment.facts.encoders
    vectors = one.vectors, other.vectors
    assert np.einsum("nd,nd->n", *vectors).min() > 0.9999


def test_bench_prints_every_stage_and_writes_json(
    capsys: pytest.CaptureFixture[str], query: Path, index: Path, drawn: Path, tmp_path: Path
) -> None:
    picture = sorted(drawn.rglob("*.jpg"))[0]
    file = tmp_path / "latency.json"
    code, out, _ = run(
        capsys, "bench", query, "--image", picture, "--index", index, "--rounds", 2,
        "--threads", 1, "--json", file,
    )  # fmt: skip
    assert code == 0 and file.is_file()
    for stage in ("decode", "resize", "network", "search", "total"):
        assert stage in out


def test_another_space_is_refused_naming_both(
    capsys: pytest.CaptureFixture[str], query: Path, saved: Path, drawn: Path, tmp_path: Path
) -> None:
    import dataclasses

    from encoder.checkpoint import load_checkpoint, save_checkpoint
    from encoder.space import mint_space

    teacher = load_checkpoint(saved / "teacher")
    stranger = dataclasses.replace(teacher, space=mint_space("teacher", 32, "else"))
    (tmp_path / "stranger").mkdir()
    save_checkpoint(stranger, tmp_path / "stranger")
    run(capsys, "build-index", drawn, tmp_path / "index", "--encoder", tmp_path / "stranger")
    picture = sorted(drawn.rglob("*.jpg"))[0]
    message = refuse(capsys, "search", picture, "--index", tmp_path / "index", "--encoder", query)
    assert teacher.space.id in message and stranger.space.id in message
    assert "error: " in refuse(
        capsys, "export", saved / "student", tmp_path / "q", "--teacher", tmp_path / "stranger"
    )


def test_missing_and_empty_sources(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no such folder" in refuse(capsys, "train-teacher", tmp_path / "none", out)
    (tmp_path / "empty").mkdir()
    assert "no images" in refuse(capsys, "train-teacher", tmp_path / "empty", out)
    assert "no such file" in refuse(capsys, "train-teacher", tmp_path / "none.csv", out)
    file = tmp_path / "file.txt"
    file.write_text("x")
    assert "not a folder" in refuse(capsys, "train-teacher", file, out)
    assert not out.exists()


def test_classes_that_cannot_train(
    capsys: pytest.CaptureFixture[str], drawn: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    shutil.copytree(sorted(drawn.iterdir())[0], one / "only")
    message = refuse(capsys, "train-teacher", one, tmp_path / "out")
    assert "1 class to train on" in message and "at least two" in message
    single = tmp_path / "single"
    for number, folder in enumerate(sorted(drawn.iterdir())):
        shutil.copytree(folder, single / folder.name)
        if number == 1:
            for extra in sorted((single / folder.name).iterdir())[1:]:
                extra.unlink()
    message = refuse(capsys, "train-teacher", single, tmp_path / "out", "--val-share", 0)
    assert "one image only" in message and sorted(drawn.iterdir())[1].name in message
    assert not (tmp_path / "out").exists()


def test_outputs_that_exist_are_kept(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "photo.txt").write_text("dear")
    commands = (
        ("train-teacher", drawn, theirs),
        ("distill", saved / "teacher", drawn, theirs),
        ("export", saved / "teacher", theirs),
        ("build-index", drawn, theirs, "--encoder", saved / "teacher"),
        ("demo-data", theirs),
    )
    for command in commands:
        assert "--overwrite" in refuse(capsys, *command)
        assert "did not write it" in refuse(capsys, *command, "--overwrite")
    assert (theirs / "photo.txt").read_text() == "dear"


def test_bad_images_are_set_aside_and_named(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = sorted(drawn.rglob("*.jpg"))[0].read_bytes()
    (folder / "good.jpg").write_bytes(good)
    (folder / "cut.jpg").write_bytes(good[: len(good) // 2])
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    Image.fromarray(np.full((40, 40), 30000, np.uint16)).save(folder / "deep.png")
    Image.new("CMYK", (40, 40), (10, 90, 30, 0)).save(folder / "cmyk.jpg")
    Image.new("P", (40, 40), 3).save(folder / "palette.png")
    code, out, errors = run(
        capsys, "build-index", folder, tmp_path / "index", "--encoder", saved / "teacher"
    )
    assert code == 0 and "4 images" in out
    for name in ("cut.jpg", "zero.jpg", "text.jpg"):
        assert errors.count(f"{name}: ") == 1
    for name in ("good.jpg", "deep.png", "cmyk.jpg", "palette.png"):
        (folder / name).unlink()
    message = refuse(
        capsys, "build-index", folder, tmp_path / "none", "--encoder", saved / "teacher"
    )
    assert "none of the 3 images" in message and not (tmp_path / "none").exists()


def test_wrong_artefacts_are_named(
    capsys: pytest.CaptureFixture[str], saved: Path, query: Path, index: Path, drawn: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    picture = sorted(drawn.rglob("*.jpg"))[0]
    assert "not a checkpoint" in refuse(capsys, "export", tmp_path, tmp_path / "out")
    assert "not a checkpoint" in refuse(capsys, "distill", drawn, drawn, tmp_path / "out")
    assert "not an index" in refuse(
        capsys, "search", picture, "--index", tmp_path, "--encoder", query
    )
    assert "no such encoder" in refuse(
        capsys, "search", picture, "--index", index, "--encoder", tmp_path / "none"
    )
    assert "no such file" in refuse(
        capsys, "search", tmp_path / "none.jpg", "--index", index, "--encoder", query
    )
    assert "--count" in refuse(
        capsys, "search", picture, "--index", index, "--encoder", query, "-k", 0
    )
    assert "size 8" in refuse(
        capsys, "distill", saved / "teacher", drawn, tmp_path / "o", "--size", 8
    )
    assert "precision" in refuse(
        capsys, "evaluate", drawn, "--teacher", saved / "teacher", "--precision", "fp8"
    )


def test_evaluate_writes_everything_it_measured(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, tmp_path: Path
) -> None:
    code, out, _ = run(
        capsys, "evaluate", drawn, "--teacher", saved / "teacher", "--student", saved / "student",
        "--storage", "binary", "--dim", 16, "--whole-ranking", "--robustness", "--clusters",
        "--json", tmp_path / "rows.json",
    )  # fmt: skip
    assert code == 0
    for shown in ("mAP", "student 32 → teacher 64, 16-d, binary", "low-resolution", "NMI"):
        assert shown in out
    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["format"] == 1 and found["command"].startswith("cli ")
    assert len(found["rows"]) == 4 * 4 and len(found["differences"]) == 3 * 4
    assert len(found["robustness"]) == 32 and len(found["clusters"]) == 2
    assert {entry["name"] for entry in found["encoders"]} == {"teacher", "student"}
    harmed = {(entry["corruption"], entry["strength"]) for entry in found["robustness"]}
    assert len(harmed) == 32
    for row in found["rows"]:
        for name, value in row["figures"].items():
            assert row["intervals"][name]["low"] <= value <= row["intervals"][name]["high"]
    refused = refuse(capsys, "evaluate", drawn, "--teacher", saved / "teacher", "--dim", 33)
    assert "--dim 33 is not in 1..32" in refused


def test_what_is_easily_mistaken_is_noted(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, tmp_path: Path
) -> None:
    note = f"note: {saved / 'student'} is a student, in the place of a database's encoder"
    build = ("build-index", drawn, tmp_path / "index", "--encoder")
    assert note in run(capsys, *build, saved / "student")[2]
    assert "note:" not in run(capsys, *build, saved / "teacher", "--overwrite")[2]
    assert note in run(capsys, "evaluate", drawn, "--teacher", saved / "student")[2]
    one = tmp_path / "one"
    for folder in sorted(drawn.iterdir())[:2]:
        shutil.copytree(folder, one / folder.name)
    code, _, errors = run(capsys, "evaluate", one, "--teacher", saved / "teacher")
    assert code == 0 and "note: one test class, in which every answer is right" in errors


def test_a_full_disk_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", fill)
    message = refuse(capsys, "export", saved / "student", tmp_path / "query")
    assert "disk is full" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--epochs", "0"), ("--epochs", "nan"), ("--lr", "-1"), ("--batch", "0"), ("--batch", "7"),
        ("--dim", "0"), ("--size", "8"), ("--seed", "-1"), ("--split-seed", "-1"),
        ("--val-share", "1"), ("--test-share", "nan"), ("--small-size", "-5"), ("--fit", "pad"),
        ("--small-size", "224"), ("--head-factor", "0"), ("--proxy-factor", "-1"),
        ("--small-share", "1"), ("--small-share", "nan"),
        ("--temperature", "0"), ("--pooling", "max"), ("--batch-norm", "half"), ("--trunk", "none"),
        ("--trunk", "vit_tiny_patch16_224"), ("--trunk", "resnet18.foo"),
        ("--images-per-class", "1"), ("--loss", "hinge"), ("--margin", "1"), ("--class-share", "0"),
        ("--nested", "512"), ("--schedule", "flat"), ("--accumulate", "0"), ("--average", "1"),
        ("--patience", "-1"), ("--patience", "2", "--val-share", "0"),
        ("--optimiser", "sgd", "--class-share", "0.5"),
        ("--head-passes", "12"), ("--warm-up", "1"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_flags_out_of_range_are_refused(
    capsys: pytest.CaptureFixture[str], drawn: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    refuse(capsys, "train-teacher", drawn, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_are_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, query: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "file"
    file.write_text("x")
    refuse(capsys, "export", saved / "teacher", file / "below")
    refuse(capsys, "export", saved / "teacher", tmp_path / ("n" * 300))
    refuse(capsys, "bench", query, "--json", tmp_path / "none" / "x.json")
    teacher = saved / "teacher"
    assert "input" in refuse(capsys, "distill", teacher, drawn, teacher, "--overwrite")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "in use" in refuse(capsys, "demo-data", ".")


def test_unlabelled_folders_distil_whole(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, tmp_path: Path
) -> None:
    years = tmp_path / "photos"
    for number, file in enumerate(sorted(drawn.rglob("*.jpg"))[:8]):
        place = years / str(2020 + number % 4)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place / f"{number}.jpg")
    code, out, _ = run(
        capsys, "distill", saved / "teacher", years, tmp_path / "student", "--size", 32,
        "--epochs", 0.5, "--images", 4,
    )  # fmt: skip
    assert code == 0 and "distilling on 8 of 8 images" in out


def test_unknown_flags_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "search", "--nope")[0] == 2
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in ("train-teacher", "distill", "export", "build-index", "search", "bench", "demo"):
        assert command in out
