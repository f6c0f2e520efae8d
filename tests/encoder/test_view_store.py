"""A store of views: the teacher looks once, students learn the same from it."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from program import run

from encoder import view_making, view_writing
from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.compared_views import compare_views
from encoder.core_workers import CoreWorkers
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.datasets.table import ImageTable
from encoder.errors import PocketlensError
from encoder.image_cache import open_images
from encoder.inference import normalise_pixels, prepare_inference
from encoder.optimisation import Optimisation
from encoder.shown_views import DrawnViews, draw_stored_views, start_showing
from encoder.student import StudentRecipe, distil_student
from encoder.view_cutter import ViewCutter
from encoder.view_making import StoreRecipe, make_views
from encoder.view_store import Manifest, ViewStore, check_store, open_store, verify_blocks

ROOT = Path(__file__).parents[2]
RECIPE = StoreRecipe(views=4, precision="fp32")


@pytest.fixture
def table(drawn: Path) -> ImageTable:
    return split_classes(read_folder(drawn), SplitRule(test=0.25, val=0.2))


@pytest.fixture
def store(teacher: Checkpoint, table: ImageTable, tmp_path: Path) -> ViewStore:
    make_views(teacher, table, RECIPE, tmp_path / "views")
    return open_store(tmp_path / "views")


def test_a_store_holds_what_the_teacher_says_of_the_same_views(
    teacher: Checkpoint, student: Checkpoint, table: ImageTable, store: ViewStore
) -> None:
    """The loss of stored views is that of the views shown to the teacher again."""
    training = table.split("train")
    images = open_images(training.sources(), side=2 * teacher.preprocess.size)
    assert store.layout.images == len(training) and store.manifest.recipe.scale == (0.5, 1.0)
    guide = prepare_inference(teacher)
    chosen = np.array([2, 0, 5])
    stored = draw_stored_views(store, 3)(chosen, np.random.default_rng(1))
    cutter = ViewCutter(images, student.preprocess)
    with CoreWorkers(guide.device) as workers:
        shown = [
            start_showing(drawn, student.preprocess.size, cutter, guide, workers)()
            for drawn in (stored, DrawnViews(stored.positions, stored.views))
        ]
    assert shown[0].positions.tolist() == [2, 2, 2, 0, 0, 0, 5, 5, 5]
    assert torch.equal(shown[0].pixels, shown[1].pixels)
    assert not torch.equal(shown[0].features, shown[1].features)
    pixels = normalise_pixels(shown[0].pixels, student.preprocess)
    own = student.model.extract_features(pixels)
    both = [
        compare_views(student.model, own, guide.network, each.features, views=3) for each in shown
    ]
    for name, term in both[1].terms.items():
        found = float(both[0].terms[name].detach())
        assert found == pytest.approx(float(term.detach()), rel=2e-3, abs=1e-6), name
    whole = guide.embed_images(
        np.stack([np.asarray(image) for image in read_whole(table, teacher)])[chosen]
    )
    projected = guide.network.project(torch.from_numpy(store.whole[chosen].astype(np.float32)))
    torch.testing.assert_close(projected, torch.from_numpy(whole), atol=2e-3, rtol=0)


def read_whole(table: ImageTable, teacher: Checkpoint) -> list[np.ndarray]:
    from encoder.embed import prepare_file

    return [prepare_file(file, teacher.preprocess) for file in table.split("train").sources()]


def test_views_of_an_image_are_drawn_without_repetition(store: ViewStore) -> None:
    images = np.arange(store.layout.images)
    rng = np.random.default_rng(0)
    seen = {
        image: {bytes(view) for _ in range(40) for view in store.take(np.array([image]), 2, rng)[0]}
        for image in images[:3]
    }
    for image, views in seen.items():
        assert views == {bytes(view) for view in store.views[image]}
    views, features = store.take(images, store.layout.views, rng)
    for image in images:
        mine = slice(image * store.layout.views, (image + 1) * store.layout.views)
        assert {bytes(v) for v in views[mine]} == {bytes(v) for v in store.views[image]}
        expected = store.features[image].astype(np.float32)
        assert np.array_equal(np.sort(features[mine], axis=0), np.sort(expected, axis=0))


def test_a_student_learns_from_a_store_and_a_command_makes_it(
    saved: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher, views, student = saved / "teacher", tmp_path / "views", tmp_path / "student"
    code, out, _ = run(capsys, "make-views", str(teacher), str(drawn), str(views), "--views", "3")
    assert code == 0 and "3 views of each of 31 images" in out
    flags = ["--size", "32", "--epochs", "4", "--images", "8", "--neighbours-from", "0.5"]
    made = ["distill", str(teacher), str(drawn), str(student), *flags]
    code, out, _ = run(capsys, *made, "--store", str(views))
    assert code == 0 and "cosine to the teacher on 1 held-out" in out
    checkpoint = load_checkpoint(student)
    assert checkpoint.provenance["store"]["views"] == 3
    lines = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert "neighbours" in lines[-1]
    code, _, error = run(capsys, *made, "--overwrite", "--store", str(views), "--views", "4")
    assert code == 2 and "--views 4" in error and "holds 3" in error
    code, _, error = run(capsys, *made, "--overwrite", "--store", str(views), "--scale", "0.3")
    assert code == 2 and "give --scale and --mix to make-views" in error
    other = str(saved / "student")
    code, _, error = run(
        capsys, "distill", other, str(drawn), str(tmp_path / "s2"), *flags, "--store", str(views)
    )
    assert code == 2 and "made by the encoder" in error


def test_what_a_store_lowers_is_learnt(
    teacher: Checkpoint, table: ImageTable, store: ViewStore, tmp_path: Path
) -> None:
    """From the same start the alignment rises as it does with new views."""
    recipe = StudentRecipe(size=32, images=10, optimisation=Optimisation(epochs=6, lr=5e-4))
    still = dataclasses.replace(recipe, optimisation=Optimisation(epochs=0.1, lr=1e-12))
    before, _ = distil_student(teacher, table, still, tmp_path / "before", store=store)
    after, _ = distil_student(teacher, table, recipe, tmp_path / "after", store=store)
    assert before.alignment is not None and after.alignment is not None
    assert after.alignment.mean_cosine > before.alignment.mean_cosine + 0.05


def test_stores_of_others_and_damaged_ones_are_refused(
    teacher: Checkpoint, student: Checkpoint, table: ImageTable, store: ViewStore
) -> None:
    training = table.split("train")
    check_store(store, teacher, training)
    verify_blocks(store)
    with pytest.raises(PocketlensError, match="made by the encoder"):
        check_store(store, student, training)
    with pytest.raises(PocketlensError, match="other images"):
        check_store(store, teacher, table.split("test"))
    file = store.folder / "features.f16"
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(PocketlensError, match="block 0 of 1 is damaged"):
        verify_blocks(open_store(store.folder))
    file.write_bytes(data[:-2])
    with pytest.raises(PocketlensError, match=r"features\.f16: has \d+ bytes, not"):
        open_store(store.folder)
    with pytest.raises(PocketlensError, match=r"no views\.json"):
        open_store(store.folder.parent)
    np.save(store.folder / "positions.npy", store.positions[::-1])
    file.write_bytes(data)
    with pytest.raises(PocketlensError, match=r"positions\.npy: not the file that"):
        open_store(store.folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layout", [1]),
        ("layout", {"images": 1e400, "views": 1, "width": 1, "block": 1}),
        ("layout", {"images": 20, "views": 4, "width": 1280}),
        ("layout", {"images": -1, "views": 4, "width": 1280, "block": 8}),
        ("seed", "x"),
        ("teacher", "t"),
        ("data", []),
        ("recipe", {}),
        ("recipe", {"scale": [3, 1], "ratio": [1, 1]}),
        ("blocks", 7),
        ("format", 2),
    ],
)
def test_damaged_manifests_are_named(tmp_path: Path, field: str, value: object) -> None:
    sound = {
        "format": 1,
        "layout": {"images": 20, "views": 4, "width": 1280, "block": 512},
        "recipe": {"scale": [0.5, 1], "ratio": [0.75, 1.5]},
        "seed": 0,
        "precision": "fp32",
        "teacher": {"encoder": "e"},
        "data": {"fingerprint": "f"},
        "identity": "i",
        "blocks": ["b"],
        "positions": "p",
    }
    (tmp_path / "views.json").write_text(json.dumps(sound))
    assert Manifest.read(tmp_path).recipe.scale == (0.5, 1)
    (tmp_path / "views.json").write_text(json.dumps(sound | {field: value}))
    with pytest.raises(PocketlensError, match=r"views\.json|scale"):
        open_store(tmp_path)


def test_what_the_bytes_follow_from_must_be_the_same_to_go_on(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other numbers of views, precisions and readable images are refused, not mixed in."""
    monkeypatch.setattr(view_making, "_VIEWS_PER_BLOCK", 16)
    output, made = tmp_path / "views", view_making._Maker.make

    def stop(self: object, number: int) -> dict[str, object]:
        if number == 2:
            raise KeyboardInterrupt
        return made(self, number)  # type: ignore[arg-type, return-value]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(view_making._Maker, "make", stop)
        make_views(teacher, table, RECIPE, output)
    for change in ({"views": 8}, {"precision": "bf16"}, {"seed": 1}):
        other = dataclasses.replace(RECIPE, **change)
        with pytest.raises(PocketlensError, match="of other data, options or version"):
            make_views(teacher, table, other, output, resume=True)
    with monkeypatch.context() as patch, pytest.raises(PocketlensError, match="other images could"):
        patch.setattr(view_writing, "pack_positions", lambda positions: b"others")
        make_views(teacher, table, RECIPE, output, resume=True)
    # A kill after the last rename leaves the state; going on only takes it away.
    with monkeypatch.context() as patch:
        patch.setattr("encoder.training_state._clear", lambda path: None)
        make_views(teacher, table, RECIPE, output, resume=True)
    assert (tmp_path / "views.state").exists()
    before = (output / "views.json").stat().st_mtime_ns
    layout, _ = make_views(teacher, table, RECIPE, output, resume=True)
    assert layout.images == 20 and (output / "views.json").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["views"]


def test_too_small_a_disk_is_named_before_work(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr(view_writing.shutil, "disk_usage", lambda path: full)
    with pytest.raises(PocketlensError, match="fewer --views"):
        make_views(teacher, table, RECIPE, tmp_path / "views")
    assert not list(tmp_path.iterdir())


def test_a_making_killed_at_any_moment_goes_on_to_the_same_bytes(
    saved: Path, drawn: Path, tmp_path: Path
) -> None:
    """Small blocks, so that a kill falls between them and within them."""
    code = (
        "import sys; from encoder import view_making; view_making._VIEWS_PER_BLOCK = 40\n"
        "import cli; sys.argv[0] = 'cli'; cli.main()"
    )

    def start(name: str, *flags: str) -> subprocess.Popen[bytes]:
        arguments = ["make-views", str(saved / "teacher"), str(drawn), str(tmp_path / name)]
        return subprocess.Popen(
            [sys.executable, "-c", code, *arguments, "--views", "20", *flags],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    assert start("whole").wait() == 0
    state = tmp_path / "killed.state" / "made.json"
    flags: tuple[str, ...] = ()
    for more in (1, 3):
        process = start("killed", *flags)
        begun = count_blocks(state)
        while count_blocks(state) < begun + more and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed").exists()
        flags = ("--resume",)
    assert 4 <= count_blocks(state) < 16
    assert start("killed", "--resume").wait() == 0
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == ["features.f16", "positions.npy", "views.bin", "views.json", "whole.f16"]
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


def count_blocks(file: Path) -> int:
    try:
        return len(json.loads(file.read_text())["blocks"])
    except FileNotFoundError:
        return 0
