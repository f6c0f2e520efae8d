"""Maps between spaces: stored, checked, applied; the scale of scores; the doubt of old vectors."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from encoder.checkpoint import Checkpoint
from encoder.compatibility import Compatibility, load_compatibility, save_compatibility
from encoder.compatibility_fit import SeenByBoth, complete_compatibility, show_views_to_both
from encoder.datasets.splits import SplitRule, read_table, split_classes
from encoder.doubt import fit_doubt
from encoder.errors import PocketlensError
from encoder.evaluation.score_scale import ScoreScale, fit_scale
from encoder.forward_transform import ForwardRecipe, fit_line, learn_map
from encoder.perceptron import Perceptron
from encoder.space import mint_space
from encoder.vector_map import VectorMap

OLD, NEW = mint_space("teacher", 6, "old"), mint_space("compatible", 8, "new")
RNG = np.random.default_rng(0)
Vectors = NDArray[np.float32]


def unit(values: NDArray[np.floating]) -> Vectors:
    found: Vectors = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return found


def draw(*shape: int) -> Vectors:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def make_perceptron(inputs: int, outputs: int) -> Perceptron:
    return Perceptron(draw(5, inputs), draw(5), draw(outputs, 5), draw(outputs))


def make_compatibility() -> Compatibility:
    found = VectorMap(draw(6, 8), np.zeros(6, np.float32))
    scale = ScoreScale(0.8, 0.1)
    return Compatibility(NEW, OLD, "backward", found, scale, make_perceptron(6, 1), {"a": 1.5})


def test_a_compatibility_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = make_compatibility()
    save_compatibility(made, tmp_path)
    read = load_compatibility(tmp_path)
    vectors = unit(draw(20, 8))
    np.testing.assert_array_equal(read.map_queries(vectors), made.map_queries(vectors))
    assert read.doubt and made.doubt
    old = unit(draw(20, 6))
    np.testing.assert_array_equal(read.doubt.apply(old), made.doubt.apply(old))
    assert (read.query, read.database, read.scale) == (NEW, OLD, made.scale)
    assert read.shown == {"a": 1.5}
    assert read.map_database(old) is old


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match=r"declares no compatibility"):
        load_compatibility(tmp_path)
    save_compatibility(make_compatibility(), tmp_path)
    file, tensors = tmp_path / "compatibility.json", tmp_path / "compatibility.safetensors"
    value, data = json.loads(file.read_text()), tensors.read_bytes()
    tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PocketlensError, match=r"safetensors: not the file"):
        load_compatibility(tmp_path)
    tensors.write_bytes(data)
    for field, wrong in (
        ("direction", "sideways"),
        ("scale", {"slope": -1, "offset": 0}),
        ("scale", None),
        ("shown", {"a": "b"}),
        ("query", OLD.to_json()),
        ("format", 99),
    ):
        file.write_text(json.dumps({**value, field: wrong}))
        with pytest.raises(PocketlensError, match=r"compatib"):
            load_compatibility(tmp_path)


def test_a_map_and_a_network_against_a_loop() -> None:
    found = VectorMap(draw(3, 4), draw(3), make_perceptron(4, 3))
    assert found.residual and found.dims == (4, 3)
    for vector, mapped in zip(inputs := draw(7, 4), found.apply(inputs), strict=True):
        hidden = [
            max(0.0, float(row @ vector + bias))
            for row, bias in zip(found.residual.first, found.residual.first_bias, strict=True)
        ]
        out = found.matrix @ vector + found.bias
        out = out + found.residual.second @ hidden + found.residual.second_bias
        np.testing.assert_allclose(mapped, out / np.linalg.norm(out), atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: VectorMap(draw(3, 4), draw(4)),
        lambda: VectorMap(draw(3, 4), draw(3), make_perceptron(3, 3)),
        lambda: Perceptron(draw(5, 4), draw(4), draw(2, 5), draw(2)),
        lambda: dataclasses.replace(make_compatibility(), direction="forward"),
        lambda: dataclasses.replace(make_compatibility(), doubt=make_perceptron(8, 1)),
        lambda: ScoreScale(0.0, 1.0),
        lambda: ScoreScale(float("nan"), 1.0),
    ],
)
def test_what_does_not_fit_together_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError):
        wrong()  # type: ignore[operator]


def test_the_scale_reads_an_old_score_as_the_new_one() -> None:
    """New cosines are made to be a line of the old ones, so the line is known."""
    old = unit(draw(60, 5))
    # A shared direction raises every cosine: (cos + 0.5) / 1.5.
    new = unit(np.hstack([old, np.full((60, 1), np.sqrt(0.5))]))
    found = fit_scale(new, old, old)
    assert found.slope == pytest.approx(1 / 1.5, abs=1e-4)
    assert found.offset == pytest.approx(0.5 / 1.5, abs=1e-4)
    scores = np.array([0.3], np.float32)
    assert found.apply(scores)[0] == pytest.approx(0.8 / 1.5, abs=1e-4)
    assert fit_scale(new[:1], old[:1], old[:1]) == ScoreScale()


def make_seen(count: int, start: int, noise: float = 0.0) -> SeenByBoth:
    """Return what both saw: new vectors are a turn of the old ones, bent a little."""
    rng = np.random.default_rng(start)
    old = unit(rng.standard_normal((count, 6)))
    turn = np.linalg.qr(np.random.default_rng(9).standard_normal((8, 6)))[0]
    bent = old @ turn.T + 0.5 * np.abs(old[:, :1]) + noise * rng.standard_normal((count, 8))
    return SeenByBoth(unit(bent), old, np.arange(start, start + count) // 4)


def test_a_forward_map_is_learnt_and_the_network_goes_beyond_the_line() -> None:
    trained, held_out = make_seen(2000, 0), make_seen(200, 4000)
    cosines = {}
    for hidden in (0, 64):
        found, errors = learn_map(trained, held_out, ForwardRecipe(hidden))
        mapped = found.apply(held_out.old)
        cosines[hidden] = float(np.einsum("nd,nd->n", mapped, held_out.new).mean())
        assert (found.residual is None) == (hidden == 0)
        assert errors.shape == (2000,) and (errors > -1e-6).all()
    # What the network has left to learn is the smaller part.
    assert 0.9 < cosines[0] < cosines[64] - 0.3 * (1 - cosines[0])
    line = fit_line(trained.old, trained.new)
    straight, _ = learn_map(trained, held_out, ForwardRecipe(0))
    np.testing.assert_allclose(straight.apply(held_out.old), line.apply(held_out.old), atol=1e-6)


def test_a_forward_map_learns_from_crops_too() -> None:
    # Of the images themselves it sees one half of the space, of their crops the other.
    whole, held_out = make_seen(1200, 0, noise=0.1), make_seen(200, 4000)
    front = whole.old[:, 1] > 0
    trained, crops = (
        SeenByBoth(whole.new[half], whole.old[half], whole.labels[half]) for half in (front, ~front)
    )
    cosines = []
    for more in (None, crops):
        found, errors = learn_map(trained, held_out, ForwardRecipe(0), more)
        assert len(errors) == len(trained)
        mapped = found.apply(held_out.old)
        cosines.append(float(np.einsum("nd,nd->n", mapped, held_out.new).mean()))
    assert cosines[1] > cosines[0]


def test_both_encoders_see_the_same_crops(teacher: Checkpoint, drawn: Path) -> None:
    table = split_classes(read_table(drawn), SplitRule(val=0.0))
    larger = dataclasses.replace(teacher, preprocess=teacher.preprocess.resized(80))
    images = len(table.split("train"))
    seen = show_views_to_both(larger, teacher, table, 3)
    assert seen.new.shape == seen.old.shape == (3 * images, teacher.space.dim)
    np.testing.assert_array_equal(seen.labels, np.repeat(table.split("train").labels(), 3))
    same = np.einsum("nd,nd->n", seen.new, seen.old)
    # Of an image the next crop, of another size or place.
    turned = np.roll(seen.old.reshape(images, 3, -1), 1, axis=1).reshape(3 * images, -1)
    other = np.einsum("nd,nd->n", seen.new, turned)
    assert same.mean() > other.mean() + 0.08
    twice = show_views_to_both(teacher, teacher, table, 3)
    np.testing.assert_array_equal(twice.new, twice.old)
    np.testing.assert_array_equal(twice.old, seen.old)


def test_figures_come_from_images_held_out_alone() -> None:
    trained, held_out = make_seen(400, 0, noise=0.2), make_seen(80, 4000, noise=0.2)
    found, errors = learn_map(trained, held_out, ForwardRecipe(16))
    whole = complete_compatibility(NEW, OLD, "forward", found, trained, held_out, errors=errors)
    assert set(whole.shown) == {
        f"{pair}.{figure}"
        for pair in ("old_old", "new_old", "new_new")
        for figure in ("r1", "map_at_r")
    }
    nothing = SeenByBoth(held_out.new[:0], held_out.old[:0], held_out.labels[:0])
    bare = complete_compatibility(NEW, OLD, "forward", found, trained, nothing, errors=errors)
    assert bare.shown == {} and bare.doubt and bare.scale != whole.scale


def test_the_doubt_orders_old_vectors_by_what_they_err() -> None:
    old = unit(np.random.default_rng(1).standard_normal((3000, 6)))
    # Half of the space is mapped badly.
    errors = np.where(old[:, 0] > 0, 0.5, 0.05) * np.random.default_rng(2).uniform(0.5, 1.5, 3000)
    doubt = fit_doubt(old[:2500], errors[:2500], np.arange(2500) // 5)
    told = doubt.apply(old[2500:])[:, 0]
    bad = old[2500:, 0] > 0
    # A random pair of a bad and a good one is told apart.
    assert np.mean(told[bad][:, None] > told[~bad][None]) > 0.95
