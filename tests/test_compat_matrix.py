"""The compatibility matrix on drawn images, and on vectors whose answers are known."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from program import refuse, run, succeed

from encoder.compatibility import Compatibility
from encoder.errors import PocketlensError
from encoder.evaluation.backfill_curves import join_layers
from encoder.evaluation.matrix import Matrix, fill_matrix
from encoder.evaluation.matrix_page import build_matrix_page
from encoder.evaluation.protocol import EncodedSet, EncoderVectors, Judging
from encoder.evaluation.score_scale import ScoreScale
from encoder.perceptron import Perceptron
from encoder.space import mint_space
from encoder.vector_map import VectorMap

OLD, NEW = mint_space("teacher", 8, "old"), mint_space("compatible", 12, "new")
COUNT, EACH = 40, 8
LABELS = np.arange(COUNT * EACH) // EACH


def unit(values: NDArray[np.floating]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return found.astype(np.float32)


def encode(name: str, space: str, spread: float, dim: int, seed: int = 0) -> EncoderVectors:
    """Return vectors that spread so far around their classes' centres, the same for all."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((COUNT, 12))[:, :dim]
    vectors = unit(centres[LABELS] + spread * rng.standard_normal((len(LABELS), dim)))
    both = np.ones(len(LABELS), bool)
    return EncoderVectors(
        name, space, name, EncodedSet(vectors, LABELS, np.arange(len(LABELS)), both, both)
    )


def declare(direction: str = "backward") -> Compatibility:
    backward = direction == "backward"
    found = VectorMap(
        np.eye(8, 12, dtype=np.float32) if backward else np.eye(12, 8, dtype=np.float32),
        np.zeros(8 if backward else 12, np.float32),
    )
    dim = 8 if backward else 12
    doubt = Perceptron(
        np.eye(1, dim, dtype=np.float32),
        np.ones(1, np.float32),
        *([np.ones((1, 1), np.float32)]),
        np.zeros(1, np.float32),
    )
    return Compatibility(NEW, OLD, direction, found, ScoreScale(0.9, 0.05), doubt)  # type: ignore[arg-type]


def fill(**changes: object) -> Matrix:
    old, new = encode("old", OLD.id, 0.9, 8), encode("new", NEW.id, 0.5, 12, seed=1)
    given = {
        "queries": [old, new],
        "databases": [old, new],
        "compatibilities": [declare()],
        "judgings": [Judging()],
        **changes,
    }
    return fill_matrix(**given)  # type: ignore[arg-type]


def test_pairs_meet_within_a_space_or_where_it_is_declared() -> None:
    ways = {(cell.query, cell.database): cell.how for cell in fill().cells}
    assert ways == {
        ("old", "old"): "same space",
        ("new", "new"): "same space",
        ("new", "old"): "backward",
        ("old", "new"): "reverse",
    }
    ways = {(c.query, c.database): c.how for c in fill(compatibilities=[]).cells}
    assert set(ways) == {("old", "old"), ("new", "new")}
    ways = {(c.query, c.database): c.how for c in fill(compatibilities=[declare("forward")]).cells}
    assert ways["new", "old"] == "forward" and ways["old", "new"] == "reverse"


def test_a_better_query_encoder_holds_and_one_that_is_none_does_not() -> None:
    (found,) = fill(independent=encode("alone", "f" * 16, 0.4, 12, seed=2)).declared
    assert found.holds and found.gain["r1"] > 0 and found.intervals["map_at_r"].low > 0
    cells = {(c.query, c.database): c.row.figures for c in fill().cells}
    gain = cells["new", "old"]["r1"] - cells["old", "old"]["r1"]
    assert found.gain["r1"] == pytest.approx(gain)
    assert 0 < found.update_gain["r1"] < 1 and found.self_loss["r1"] > 0
    worse = encode("new", NEW.id, 3.0, 12, seed=1)
    for requirement in ("better", "higher", "not-worse"):
        asked = [encode("old", OLD.id, 0.9, 8), worse]
        matrix = fill(queries=asked, databases=asked, requirement=requirement)
        assert not matrix.holds and matrix.declared[0].gain["r1"] < 0
    # The old vectors themselves are no better, and not worse.
    twin = dataclasses.replace(encode("old", OLD.id, 0.9, 8), name="new", space=NEW.id)
    twin = dataclasses.replace(
        twin,
        vectors=dataclasses.replace(
            twin.vectors, vectors=np.pad(twin.vectors.vectors, ((0, 0), (0, 4)))
        ),
    )
    asked = [encode("old", OLD.id, 0.9, 8), twin]
    assert not fill(queries=asked, databases=asked).holds
    assert fill(queries=asked, databases=asked, requirement="not-worse").holds


def test_students_are_judged_against_old_students() -> None:
    old, new = encode("old", OLD.id, 0.9, 8), encode("new", NEW.id, 0.5, 12, seed=1)
    small = dataclasses.replace(encode("small", NEW.id, 0.8, 12, seed=3), role="student")
    before = dataclasses.replace(encode("before", OLD.id, 1.2, 8, seed=4), role="student")
    databases = [old, new]
    matrix = fill(queries=[small, old, new], databases=databases)
    assert [each.names[0] for each in matrix.declared] == ["new"]
    matrix = fill(queries=[before, small, old, new], databases=databases)
    assert [each.names[0] for each in matrix.declared] == ["small", "new"]
    gains = {each.names[0]: each.gain["r1"] for each in matrix.declared}
    cells = {(c.query, c.database): c.row.figures["r1"] for c in matrix.cells}
    assert gains["small"] == pytest.approx(cells["small", "old"] - cells["before", "old"])
    assert gains["new"] == pytest.approx(cells["new", "old"] - cells["old", "old"])


def test_curves_go_from_the_old_database_to_the_new_one() -> None:
    matrix = fill()
    cells = {(c.query, c.database): c.row.figures for c in matrix.cells}
    assert [curve.order for curve in matrix.curves] == ["random", "margin", "doubt"]
    for curve in matrix.curves:
        assert curve.shares[0] == 0 and curve.shares[-1] == 1
        assert curve.rows[0].figures["r1"] == pytest.approx(cells["new", "old"]["r1"])
        assert curve.rows[-1].figures["r1"] == pytest.approx(cells["new", "new"]["r1"])
        values = [row.figures["map_at_r"] for row in curve.rows]
        assert curve.area.figures["map_at_r"] == pytest.approx(
            np.trapezoid(values, curve.shares), rel=1e-6
        )
    random = matrix.curves[0]
    assert (random.over_random["r1"].low, random.over_random["r1"].high) == (0, 0)
    assert fill(databases=[encode("old", OLD.id, 0.9, 8)]).curves == ()


@pytest.mark.parametrize("direction", ["backward", "forward"])
def test_joined_vectors_score_as_a_search_of_both_layers(direction: str) -> None:
    found = declare(direction)
    old, new = encode("old", OLD.id, 0.9, 8).vectors, encode("new", NEW.id, 0.5, 12).vectors
    fresh = np.random.default_rng(0).random(len(LABELS)) < 0.5
    asking, answers = join_layers(found, new, old, new, fresh)
    scores = asking.vectors @ answers.vectors.T
    for query, item in ((0, 3), (5, 9), (17, 200), (100, 31)):
        own = new.vectors[query] @ new.vectors[item]
        mapped = found.map_queries(new.vectors[query : query + 1])[0]
        before = mapped @ found.map_database(old.vectors[item : item + 1])[0]
        worth = 0.9 * before + 0.05 if direction == "backward" else before
        assert scores[query, item] == pytest.approx(own if fresh[item] else worth, abs=1e-5)


def test_what_is_declared_must_be_among_the_encoders() -> None:
    old = encode("old", OLD.id, 0.9, 8)
    with pytest.raises(PocketlensError, match=r"--query: none is of space"):
        fill(queries=[old])
    with pytest.raises(PocketlensError, match=r"--database: none is of space"):
        fill(databases=[encode("new", NEW.id, 0.5, 12)])
    with pytest.raises(PocketlensError, match="--require 'best'"):
        fill(requirement="best")


def test_the_page_tells_all_and_needs_nothing_else() -> None:
    matrix = fill(judgings=[Judging(), Judging("binary"), Judging(dim=4)])
    page = build_matrix_page(matrix, source="<images>", images=320, command="cli compat-matrix")
    assert "&lt;images&gt;" in page and "<images>" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "new → old" in page and "holds" in page and "<svg" in page
    assert json.loads(json.dumps(matrix.to_json()))["holds"] == matrix.holds


SPLIT = ["--test-share", "0.25", "--val-share", "0.17"]
SMALL = ["--size", "48", "--epochs", "1", "--batch", "8", "--images-per-class", "2", "--dim", "8"]


def test_the_command_measures_and_gates(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    succeed(capsys, "train-teacher", drawn, old, *SMALL, *SPLIT)
    succeed(capsys, "train-compatible", drawn, new, "--old", old, "--seed", 1, *SMALL, *SPLIT)
    student = tmp_path / "student"
    succeed(capsys, "distill", new, drawn, student, "--size", 32, "--epochs", 1)
    page, file = tmp_path / "matrix.html", tmp_path / "matrix.json"
    given = ["compat-matrix", drawn, "--database", old, "--database", new, "--compatibility", new]
    given += ["--query", old, "--query", new, "--query", student]
    code, out, errors = run(
        capsys, *given, "--independent", old, "--json", file, "--report", page, "--storage", "int8"
    )
    value = json.loads(file.read_text())
    assert code == int(not value["holds"]) and "declared: new → old" in out, errors
    assert len(value["cells"]) == 2 * (2 * 2 + 1 * 2) and len(value["curves"]) == 3
    assert {cell["how"] for cell in value["cells"]} == {"same space", "backward", "reverse"}
    assert page.read_text().startswith("<!doctype html>")
    # Two of eight classes, eight images: no difference can be shown, and none is required.
    assert run(capsys, *given, "--require", "not-worse")[0] in (0, 1)
    assert "learnt" not in refuse(capsys, *given, "--require", "best")
    line = refuse(capsys, *given, "--test-share", 0.5)
    assert "was trained on" in line
    line = refuse(capsys, *given, "--compatibility", old)
    assert "declares no compatibility" in line
    line = refuse(capsys, *given, "--query", old)
    assert "given twice" in line


def test_an_index_is_told_of_a_space_with_what_shows_it(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, index = tmp_path / "old", tmp_path / "new", tmp_path / "index"
    succeed(capsys, "train-teacher", drawn, old, *SMALL, *SPLIT)
    succeed(capsys, "train-compatible", drawn, new, "--old", old, "--seed", 1, *SMALL, *SPLIT)
    images = tmp_path / "images"
    shutil.copytree(drawn, images)
    succeed(capsys, "build-index", images, index, "--encoder", old)
    file = tmp_path / "matrix.json"
    given = ["compat-matrix", drawn, "--database", old, "--compatibility", new, "--json", file]
    run(capsys, *given, "--query", old, "--query", new, "--database", new)
    value = json.loads(file.read_text())
    for each in value["declared"]:
        each["holds"] = False
    file.write_text(json.dumps(value))
    assert "does not hold" in refuse(capsys, "index", "accept", index, new, "--report", file)
    for each in value["declared"]:
        each["holds"] = True
    file.write_text(json.dumps(value))
    shown = succeed(capsys, "index", "accept", index, new, "--report", file)
    assert "answers queries of" in shown
    torn = [{**curve, "rows": []} for curve in value["curves"]]
    for curves in ([{"order": 3}], torn):
        file.write_text(json.dumps({**value, "curves": curves}))
        line = refuse(capsys, "index", "accept", index, new, "--report", file)
        assert "not a report of compat-matrix" in line
    value["declared"] = []
    file.write_text(json.dumps(value))
    assert "does not show" in refuse(capsys, "index", "accept", index, new, "--report", file)
    bundle = tmp_path / "bundle"
    succeed(capsys, "export", new, bundle, "--kind", "photo")
    picture = sorted(images.rglob("*.jpg"))[0]
    asked = ["search", picture, "--index", index, "--encoder", bundle]
    assert "rank" in succeed(capsys, *asked)
    # Brought into the new space in two runs; what cannot be read holds up the end.
    dry = succeed(capsys, "backfill", index, new, "--encoder", new, "--dry-run")
    assert "32 of 32 items would be encoded anew" in dry
    shown = succeed(capsys, "backfill", index, new, "--encoder", new, "--most", 10)
    assert "10 of 32 items (31.2%) are new" in shown
    assert "the report that was accepted shows R@1" in shown
    assert "rank" in succeed(capsys, *asked)
    picture.unlink()
    shown = succeed(capsys, "backfill", index, new, "--encoder", new, "--order", "margin")
    assert "delete them" in shown or "in space" in shown
    succeed(capsys, "index", "delete", index, picture.relative_to(images))
    shown = succeed(capsys, "backfill", index, new, "--encoder", new)
    assert "in space" in shown and "Flat" in shown
    picture = sorted(images.rglob("*.jpg"))[1]
    found = succeed(capsys, "search", picture, "--index", index, "--encoder", bundle)
    assert picture.name in found.splitlines()[1]
    assert "sound" in succeed(capsys, "index", "verify", index)
    assert "already" in refuse(capsys, "backfill", index, new, "--encoder", new)
    assert "--encoder is needed" in refuse(capsys, "backfill", index, new)
    assert "not being brought" in refuse(capsys, "backfill", index, new, "--give-up")
    for flags, expected in (
        (["--order", "other"], "--order 'other'"),
        (["--most", 0], "--most 0"),
        (["--rate", -1], "--rate -1"),
        (["--traffic", file], "--traffic has no meaning"),
    ):
        assert expected in refuse(capsys, "backfill", index, new, "--encoder", new, *flags)
