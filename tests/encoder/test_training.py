"""Teacher and student train for a few steps on drawn images, really."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import run

from encoder import student as student_module
from encoder import training as training_module
from encoder.checkpoint import CONFIG, WEIGHTS, Checkpoint, load_checkpoint
from encoder.compared_views import compare_views
from encoder.datasets.folder import read_folder
from encoder.datasets.splits import SplitRule, split_classes
from encoder.datasets.table import ImageTable, Row
from encoder.errors import PocketlensError
from encoder.evaluate import evaluate_checkpoints
from encoder.inference import prepare_inference
from encoder.losses.asymmetric import AsymmetricWeights, asymmetric_terms
from encoder.model import Architecture
from encoder.optimisation import Optimisation
from encoder.student import (
    StudentRecipe,
    distil_student,
    measure_alignment,
)
from encoder.teacher import TeacherRecipe, may_choose, start_model, train_teacher
from encoder.unlabelled_images import training_images
from encoder.views import ViewRecipe

RULE = SplitRule(test=0.25, val=0.2)
QUICK = TeacherRecipe(
    architecture=Architecture(dim=32),
    size=64,
    small_size=32,
    optimisation=Optimisation(epochs=2, lr=3e-4),
    batch=8,
    images_per_class=2,
    views=ViewRecipe(mix_alpha=0.0),
)
STUDENT = StudentRecipe(size=32, images=10, optimisation=Optimisation(epochs=6, lr=5e-4))


@pytest.fixture(scope="module")
def table(drawn: Path) -> ImageTable:
    return split_classes(read_folder(drawn), RULE)


@pytest.fixture(scope="module")
def trained(table: ImageTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "teacher"
    train_teacher(table, QUICK, output, split=RULE)
    return output


def read_log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_teacher_learns_and_is_saved_whole(trained: Path) -> None:
    checkpoint = load_checkpoint(trained)
    config = json.loads((trained / CONFIG).read_text())
    assert checkpoint.space.kind == "teacher" and checkpoint.space.dim == 32
    assert checkpoint.encoder == config["encoder"]
    assert config["provenance"]["recipe"]["optimisation"]["lr"] == 3e-4
    log = read_log(trained)
    assert "val_map_at_r" in log[-1] or "val_map_at_r" in log[-2]


def test_training_is_deterministic_by_seed(
    table: ImageTable, trained: Path, tmp_path: Path
) -> None:
    train_teacher(table, QUICK, tmp_path / "again", split=RULE)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()


def test_the_loss_of_a_recipe_is_kept_with_its_settings(trained: Path) -> None:
    kept = load_checkpoint(trained).provenance["recipe"]["loss"]
    assert kept["name"] == "softmax" and kept["temperature"] == 0.07


def test_distilling_brings_the_student_nearer_and_keeps_the_space(
    table: ImageTable, trained: Path, tmp_path: Path
) -> None:
    teacher = load_checkpoint(trained)
    longer = dataclasses.replace(STUDENT.optimisation, epochs=20)
    recipe = dataclasses.replace(STUDENT, optimisation=longer)
    student, quarantined = distil_student(teacher, table, recipe, tmp_path / "student")
    assert quarantined == ()
    assert student.space == teacher.space and student.encoder != teacher.encoder
    untrained = dataclasses.replace(teacher, preprocess=student.preprocess)
    before = measure_alignment(untrained, teacher, table.split("val").files())
    assert before is not None and student.alignment is not None
    assert student.alignment.mean_cosine > before.mean_cosine + 0.05
    rows = evaluate_checkpoints(teacher, student, table).rows
    assert [row.name for row in rows] == [
        "teacher 64, symmetric",
        "untrained 32 → teacher 64",
        "student 32 → teacher 64",
        "student 32, symmetric",
    ]
    assert all(row.queries == len(table.split("test")) for row in rows)


def test_a_student_of_another_trunk_starts_from_a_fitted_projection(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path
) -> None:
    still = Optimisation(epochs=0.1, lr=1e-12)
    recipe = dataclasses.replace(STUDENT, trunk="tf_efficientnet_lite1", optimisation=still)
    student, _ = distil_student(teacher, table, recipe, tmp_path / "student")
    assert student.architecture.trunk == "tf_efficientnet_lite1"
    assert student.space == teacher.space
    fresh = start_model(student.architecture, "")
    unfitted = dataclasses.replace(student, model=fresh.eval(), alignment=None)
    before = measure_alignment(unfitted, teacher, table.split("val").files())
    assert before is not None and student.alignment is not None
    assert abs(before.mean_cosine) < 0.2 < student.alignment.mean_cosine
    with pytest.raises(PocketlensError, match="the teacher's trunk is tf_efficientnet_lite0"):
        given = dataclasses.replace(recipe, start="teacher")
        distil_student(teacher, table, given, tmp_path / "other")


def test_an_elastic_student_serves_each_of_its_sizes(
    teacher: Checkpoint, table: ImageTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = dataclasses.replace(STUDENT.optimisation, epochs=12)
    recipe = dataclasses.replace(STUDENT, elastic=(48, 24), optimisation=longer)
    student, _ = distil_student(teacher, table, recipe, tmp_path / "student")
    assert student.sizes == (24, 32, 48) and student.preprocess.size == 32
    untrained = dataclasses.replace(student, model=teacher.model)
    files = table.split("val").files()
    for size in student.sizes:
        after = measure_alignment(student.at_size(size), teacher, files)
        before = measure_alignment(untrained.at_size(size), teacher, files)
        assert after is not None and before is not None
        assert after.mean_cosine > before.mean_cosine + 0.02, (size, before, after)
    assert student.at_size(48).alignment is None and student.at_size(32) is student
    with pytest.raises(PocketlensError, match="--size 64: the student was trained for 24, 32, 48"):
        student.at_size(64)
    with pytest.raises(PocketlensError, match="--elastic 8 is not between"):
        dataclasses.replace(recipe, elastic=(8,))
    bundle = tmp_path / "bundle"
    assert run(capsys, "export", str(tmp_path / "student"), str(bundle), "--size", "48")[0] == 0
    assert (bundle / "s48.fp32.photo.onnx").is_file()
    other = str(tmp_path / "other")
    code, _, error = run(capsys, "export", str(tmp_path / "student"), other, "--size", "40")
    assert code == 2 and "there are 24, 32, 48" in error


def test_the_untrained_row_shows_the_teacher_its_own_kind_of_pixels(
    teacher: Checkpoint, student: Checkpoint, table: ImageTable
) -> None:
    """Whatever mean and deviation the student's trunk was trained with."""
    other = dataclasses.replace(student.preprocess, mean=(0.0,) * 3, std=(255.0,) * 3)
    rows = [
        evaluate_checkpoints(teacher, dataclasses.replace(student, preprocess=used), table).rows
        for used in (student.preprocess, other)
    ]
    assert rows[0][1].name == rows[1][1].name == "untrained 32 → teacher 64"
    assert rows[0][1].figures == rows[1][1].figures
    assert rows[0][2].figures != rows[1][2].figures


def test_views_are_compared_image_by_image(teacher: Checkpoint, student: Checkpoint) -> None:
    """Against the whole models and a slow loop; only the student learns."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(6, 3, 32, 32, generator=generator)
    large = torch.randint(0, 256, (6, 64, 64, 3), generator=generator, dtype=torch.uint8)
    guide = prepare_inference(teacher)
    aim = guide.extract_features(large).clone()
    seen = student.model.extract_features(small)
    compared = compare_views(student.model, seen, guide.network, aim, views=3)
    terms, cosine = compared.terms, compared.cosine
    other = compare_views(student.model, seen, guide.network, aim, views=3, channels=None)
    assert terms.keys() - other.terms.keys() == {"feature"}
    own, target = student.model(small).detach(), guide.embed_pixels(large)
    assert cosine == pytest.approx(float((own * target).sum(-1).mean()), abs=1e-5)
    whole = asymmetric_terms(own.reshape(2, 3, -1), target.reshape(2, 3, -1))
    for name, term in whole.items():
        assert float(terms[name].detach()) == pytest.approx(float(term), rel=1e-4, abs=1e-6)
    features = student.model.pool_features(student.model.trunk(small)).detach()
    slow = sum(
        (1 - float(f @ g) / float(f.norm() * g.norm())) ** 2 / 3
        for f, g in zip(features, aim, strict=True)
    )
    assert float(terms["feature"].detach()) == pytest.approx(slow, rel=1e-4)
    terms["feature"].backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is None for weight in guide.network.parameters())
    student.model.zero_grad(set_to_none=True)


def test_every_term_changes_what_is_learnt(
    table: ImageTable, trained: Path, tmp_path: Path
) -> None:
    teacher = load_checkpoint(trained)
    quick = Optimisation(epochs=0.5, lr=1e-4)
    encoders = set()
    for name in ("", *(field.name for field in dataclasses.fields(AsymmetricWeights))):
        weights = AsymmetricWeights(**({name: 0.0} if name else {}))
        chosen = {"weights": weights, "neighbours_from": 0.0}
        recipe = StudentRecipe(size=32, images=8, optimisation=quick, **chosen)  # type: ignore[arg-type]
        folder = tmp_path / f"without-{name}"
        made, _ = distil_student(teacher, table, recipe, folder)
        assert made.provenance["recipe"]["weights"] == dataclasses.asdict(weights)
        encoders.add(made.encoder)
        logged = [line for line in read_log(folder) if "absolute" in line]
        assert [("neighbours" in line) for line in logged] == [name != "neighbours"]
    assert len(encoders) == 1 + len(dataclasses.fields(AsymmetricWeights))


def test_neighbours_count_from_a_share_of_the_training_on(
    table: ImageTable, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_module, "_LOG_EVERY", 1)
    settings = dataclasses.replace(STUDENT.optimisation, epochs=2)
    recipe = dataclasses.replace(STUDENT, images=4, optimisation=settings, neighbours_from=0.5)
    distil_student(load_checkpoint(trained), table, recipe, tmp_path / "student")
    logged = ["neighbours" in line for line in read_log(tmp_path / "student") if "lr" in line]
    assert logged == sorted(logged) and sum(logged) == len(logged) // 2 > 1


def test_the_neighbours_of_very_many_images_are_some_of_them(
    table: ImageTable, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[int, ...]]()
    term = student_module.contextual_term

    def watch(own: torch.Tensor, aim: torch.Tensor, database: torch.Tensor, **named: Any) -> object:
        seen.append(tuple(database.shape))
        return term(own, aim, database, **named)

    monkeypatch.setattr(student_module, "_MOST_NEIGHBOURS", 5)
    monkeypatch.setattr(student_module, "contextual_term", watch)
    distil_student(load_checkpoint(trained), table, STUDENT, tmp_path / "student")
    assert set(seen) == {(5, 32)}


def test_a_share_of_the_teacher_is_kept(table: ImageTable, trained: Path, tmp_path: Path) -> None:
    """The same training mixed to two shares: the weights lie on one line from the teacher's."""
    teacher = load_checkpoint(trained)
    quick = Optimisation(epochs=0.5, lr=1e-3)
    made = {}
    for keep in (0.0, 0.2, 0.75):
        recipe = StudentRecipe(size=32, images=8, optimisation=quick, keep=keep)
        student, _ = distil_student(teacher, table, recipe, tmp_path / str(keep))
        share = student.provenance["recipe"]["keep"]
        made[share] = student.model.state_dict()
    assert list(made) == [0.0, 0.2, 0.75]
    for name, start in teacher.model.state_dict().items():
        way = made[0.0][name] - start
        for share, weights in made.items():
            torch.testing.assert_close(weights[name] - start, (1 - share) * way)


def test_a_share_that_cannot_be_kept_is_refused(
    table: ImageTable, trained: Path, tmp_path: Path
) -> None:
    teacher = load_checkpoint(trained)
    fresh = StudentRecipe(size=32, keep=0.5, start="imagenet")
    with pytest.raises(PocketlensError, match="needs --start teacher"):
        distil_student(teacher, table, fresh, tmp_path / "out")
    unfolded = dataclasses.replace(teacher, architecture=Architecture(dim=32, batch_norm="trained"))
    with pytest.raises(PocketlensError, match="folded batch norms"):
        distil_student(unfolded, table, StudentRecipe(size=32, keep=0.5), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_features_and_vectors_agree_over_chunks(teacher: Checkpoint) -> None:
    pixels = torch.randint(0, 256, (9, 448, 448, 3), dtype=torch.uint8)
    guide = prepare_inference(teacher)
    features = guide.extract_features(pixels)
    assert features.shape == (9, 1280)
    with torch.inference_mode():
        assert torch.equal(guide.network.project(features), guide.embed_pixels(pixels))
    assert float(features.mean()) == pytest.approx(0, abs=1e-5)


def test_labels_are_not_used_in_distilling(
    table: ImageTable, trained: Path, drawn: Path, tmp_path: Path
) -> None:
    """Without labels every image trains; with labels hidden the loss is still computed."""
    teacher = load_checkpoint(trained)
    unlabelled = ImageTable(
        table.root, tuple(type(row)(row.path) for row in table.split("train").rows)
    )
    recipe = StudentRecipe(size=32, images=8, optimisation=Optimisation(epochs=0.5, lr=1e-4))
    first, _ = distil_student(teacher, unlabelled, recipe, tmp_path / "first")
    second, _ = distil_student(teacher, table.split("train"), recipe, tmp_path / "second")
    assert first.encoder == second.encoder


def test_validation_images_train_only_when_told_and_test_images_never(
    table: ImageTable, trained: Path, tmp_path: Path
) -> None:
    teacher = load_checkpoint(trained)
    count = {name: len(table.split(name)) for name in ("train", "val")}
    assert len(training_images(table, with_validation=False)) == count["train"]
    both = training_images(table, with_validation=True)
    assert len(both) == count["train"] + count["val"]
    assert not {row.path for row in both.rows} & {row.path for row in table.split("test").rows}
    recipe = StudentRecipe(
        size=32, images=8, optimisation=Optimisation(epochs=0.3, lr=1e-4), with_validation=True
    )
    student, _ = distil_student(teacher, table, recipe, tmp_path / "student")
    assert set(table.split("val").class_names()) <= set(student.provenance["trained_on"])
    assert student.alignment is not None
    assert student.alignment.images == max(1, len(both) // 20)


def test_queries_and_database_apart(table: ImageTable, trained: Path) -> None:
    """As In-Shop has them; a query whose class is not in the database is counted."""
    rows = []
    for row in table.rows:
        first = row.path == min(other.path for other in table.rows if other.label == row.label)
        rows.append(dataclasses.replace(row, role="query" if first else "database"))
    lonely = table.split("test").class_names()[-1]
    kept = [row for row in rows if row.label != lonely or row.role == "query"]
    # Another root, so that it is not the set trained on, changed.
    apart = ImageTable(table.root / "..", tuple(
        dataclasses.replace(row, path=f"{table.root.name}/{row.path}") for row in kept
    ))  # fmt: skip
    (row,) = evaluate_checkpoints(load_checkpoint(trained), None, apart).rows
    classes = len(table.split("test").class_names())
    assert row.queries == classes and row.without_answer == 1
    assert len(row.values["r1"]) == classes - 1


def test_classes_trained_on_are_never_evaluated(table: ImageTable, trained: Path) -> None:
    other = split_classes(read_folder(table.root), SplitRule(test=0.9))
    with pytest.raises(PocketlensError, match="trained on"):
        evaluate_checkpoints(load_checkpoint(trained), None, other)


def test_a_data_set_that_changed_since_the_training_is_named(
    table: ImageTable, trained: Path, tmp_path: Path
) -> None:
    teacher = load_checkpoint(trained)
    changed = table.select(range(1, len(table)))
    with pytest.raises(PocketlensError, match="its images or classes changed since the teacher"):
        evaluate_checkpoints(teacher, None, changed)
    other = dataclasses.replace(changed, root=shutil.copytree(table.root, tmp_path / "other"))
    assert len(evaluate_checkpoints(teacher, None, other).rows) == 1


def test_a_diverging_run_stops_and_leaves_nothing(table: ImageTable, tmp_path: Path) -> None:
    recipe = TeacherRecipe(
        architecture=Architecture(dim=32),
        size=32,
        optimisation=Optimisation(epochs=4, lr=1e30),
        batch=8,
        images_per_class=2,
    )
    with pytest.raises(PocketlensError, match=r"not a number at step \d+ .*--lr"):
        train_teacher(table, recipe, tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_images_and_what_they_leave_alone_are_set_aside(
    drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    for file in sorted(drawn.rglob("*.jpg")):
        copy = folder / file.relative_to(drawn)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    table = split_classes(read_folder(folder), RULE)
    *bad, lonely = sorted((folder / table.split("train").class_names()[0]).iterdir())
    for file in bad:
        file.write_bytes(b"no image")
    recipe = TeacherRecipe(
        architecture=Architecture(dim=32),
        size=32,
        optimisation=Optimisation(epochs=0.5, lr=1e-4),
        batch=8,
        images_per_class=2,
    )
    _, quarantined = train_teacher(table, recipe, tmp_path / "teacher")
    assert [entry.path for entry in quarantined] == [*map(str, bad), str(lonely)]
    assert "only readable image" in quarantined[-1].reason


def test_a_damaged_checkpoint_is_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match="not a checkpoint"):
        load_checkpoint(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (saved / "teacher").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    weights = bytearray((broken / WEIGHTS).read_bytes())
    weights[-5] ^= 0x40
    (broken / WEIGHTS).write_bytes(weights)
    with pytest.raises(PocketlensError, match="digest"):
        load_checkpoint(broken)
    (broken / WEIGHTS).write_bytes(weights[:1000])
    with pytest.raises(PocketlensError, match="damaged"):
        load_checkpoint(broken)


def test_bfloat16_stays_near_fp32(teacher: Checkpoint) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    exact = prepare_inference(teacher, precision="fp32").embed_images(images)
    fast = prepare_inference(teacher, precision="bf16").embed_images(images)
    assert np.einsum("nd,nd->n", exact, fast).min() > 0.99
    for vectors in (exact, fast):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with torch.no_grad():
        batch = (torch.from_numpy(images).float() - 127) / 128
        plain = teacher.model(batch.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(exact, plain, atol=1e-4)


def test_few_validation_classes_do_not_choose_the_weights() -> None:
    rows = tuple(Row(f"{n:02d}/{k}.jpg", f"{n:02d}") for n in range(40) for k in range(2))
    table = ImageTable(Path("/photos"), rows)
    few = split_classes(table, SplitRule(test=0.5, val=0.2))
    enough = split_classes(table, SplitRule(test=0.5, val=0.25))
    assert [len(each.split("val").class_names()) for each in (few, enough)] == [4, 5]
    assert not may_choose(few, patience=0) and may_choose(few, patience=2)
    assert may_choose(enough, patience=0)
