"""Recall against cost: real bundles, a real database, and the choice for a budget."""

import dataclasses
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import torch
from program import run
from torch.utils.flop_counter import FlopCounterMode

from encoder.checkpoint import Checkpoint, save_checkpoint
from encoder.datasets.splits import SplitRule, read_table, split_classes
from encoder.errors import PocketlensError
from encoder.evaluate import evaluate_checkpoints
from encoder.evaluation.bootstrap import Interval
from encoder.evaluation.protocol import EvaluationRow
from export import trade_off
from export.bundle import export_bundle
from export.cost import count_macs, time_side_by_side
from export.golden import make_camera_photo
from export.runtime import QueryEncoder, WrongProductsError
from export.trade_off import (
    Candidate,
    mark_front,
    name_encoders,
    open_entries,
    pick_candidate,
    refuse_seen,
    select_asked,
)
from export.trade_off_chart import draw_trade_off
from export.variants import Variant


@pytest.fixture(scope="module")
def bundles(
    teacher: Checkpoint, student: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    folder = tmp_path_factory.mktemp("bundles")
    codes = [Variant(student, form="binary"), Variant(student, prefix=20)]
    export_bundle([Variant(student), *codes], folder / "small")
    export_bundle([Variant(teacher)], folder / "large")
    return [folder / "small", folder / "large"]


def make(name: str, ms: float, recall: float, size: int = 10**6) -> Candidate:
    row = EvaluationRow(
        name,
        {"r1": recall, "map_at_r": recall / 2},
        {"r1": Interval(recall - 2, recall + 2), "map_at_r": Interval(0, 50)},
        queries=100,
        without_answer=0,
    )
    return Candidate(name, "0" * 16, row, ms, 2 * ms, size, 10**8)


def test_multiplications_are_those_that_torch_counts(
    teacher: Checkpoint, student: Checkpoint, bundles: list[Path]
) -> None:
    for checkpoint, bundle in ((student, bundles[0]), (teacher, bundles[1])):
        size = checkpoint.preprocess.size
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            checkpoint.model(torch.zeros(1, 3, size, size))
        assert count_macs(QueryEncoder(bundle).file) == counter.get_total_flops() // 2


def test_an_unknown_shape_is_named(bundles: list[Path], tmp_path: Path) -> None:
    model = onnx.load(QueryEncoder(bundles[0]).file)
    for node in model.graph.node:
        if node.op_type == "Resize":
            node.op_type = "Unheard"
            node.domain = "of"
    model.opset_import.append(onnx.helper.make_opsetid("of", 1))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(PocketlensError, match=r"odd\.onnx: the shape of .*Conv"):
        count_macs(tmp_path / "odd.onnx")


def test_each_round_times_every_encoder(bundles: list[Path]) -> None:
    encoders = [QueryEncoder(bundle, threads=1) for bundle in bundles]
    pictures = [np.zeros((48, 64, 3), np.uint8), np.zeros((96, 128, 3), np.uint8)]
    times = time_side_by_side(encoders, pictures, rounds=3, warm_up=2)
    assert times.shape == (3, 2) and (times > 0).all()


def test_the_front_and_the_budget() -> None:
    slow, fast = make("slow", 9, 80, 5 * 10**6), make("fast", 1, 60)
    beaten, twin = make("beaten", 4, 55), make("twin", 9, 80, 9 * 10**6)
    marked = mark_front([slow, beaten, twin, fast])
    assert [each.name for each in marked] == ["fast", "beaten", "slow", "twin"]
    assert [each.name for each in marked if each.on_front] == ["fast", "slow"]

    def pick(ms: float | None, mb: float | None) -> str | None:
        found = pick_candidate(marked, max_ms=ms, max_mb=mb)
        return found.name if found else None

    assert pick(None, None) == "slow"
    assert pick(5, None) == "fast" and pick(None, 4) == "fast"
    assert pick(0.5, None) is None and pick(20, 5) == "slow"


def test_validation_classes_choose_and_test_classes_report(drawn: Path) -> None:
    table = split_classes(read_table(drawn), SplitRule(test=0.25, val=0.2))
    assert {row.split for row in select_asked(table, "val").rows} == {"val"}
    with pytest.raises(PocketlensError, match="--split 'train'"):
        select_asked(table, "train")
    with pytest.raises(PocketlensError, match="no labelled val images"):
        select_asked(table.split("train"), "val")


def test_a_bundle_that_saw_the_classes_is_refused_by_its_card(
    student: Checkpoint, drawn: Path, tmp_path: Path
) -> None:
    table = read_table(drawn)
    seen = table.class_names()[:1]
    taught = dataclasses.replace(student, provenance={"trained_on": seen})
    file = export_bundle([Variant(taught)], tmp_path / "query").encoders[0].file
    for path in (tmp_path / "query", file):
        with pytest.raises(PocketlensError, match=f"trained on 1 of the classes.*{seen[0]}"):
            refuse_seen(path, table)
    refuse_seen(tmp_path / "query", table.select([len(table) - 1]))


def test_names_are_as_long_as_they_must_be(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "query" / "s.onnx", tmp_path / "b" / "query" / "s.onnx"
    assert name_encoders([first]) == ["query/s.onnx"]
    assert name_encoders([first, second]) == ["a/query/s.onnx", "b/query/s.onnx"]
    with pytest.raises(PocketlensError, match="given twice"):
        name_encoders([first, first])


@pytest.mark.parametrize("ms", [[3.0], [3.0, 3.1], [0.2, 40.0]])
def test_the_picture_has_numbers_on_its_axis(ms: list[float]) -> None:
    candidates = mark_front([make(f"at {value}", value, 50 + value) for value in ms])
    drawing = ElementTree.fromstring(draw_trade_off(candidates))
    texts = {entry.text for entry in drawing.iter() if entry.text}
    assert {f"at {value}, 1.0 MB" for value in ms} <= texts
    assert any(re.fullmatch(r"[\d.]+", text) for text in texts)


def test_the_axis_ends_where_recall_does() -> None:
    every = EvaluationRow(
        "every one",
        {"r1": 100.0, "map_at_r": 90.0},
        {"r1": Interval(100.0, 100.0), "map_at_r": Interval(80, 95)},
        queries=100,
        without_answer=0,
    )
    candidate = dataclasses.replace(make("every one", 3.0, 50), row=every)
    drawing = ElementTree.fromstring(draw_trade_off(mark_front([candidate])))
    levels = [entry.text for entry in drawing.iter() if (entry.text or "").endswith(" %")]
    assert levels == ["95 %", "100 %"]


def test_the_command_compares_draws_and_picks(
    teacher: Checkpoint,
    drawn: Path,
    bundles: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    split = dataclasses.asdict(SplitRule(test=0.25, val=0.25))
    (tmp_path / "teacher").mkdir()
    known = dataclasses.replace(teacher, provenance={"split": split})
    save_checkpoint(known, tmp_path / "teacher")
    found, plot = tmp_path / "found.json", tmp_path / "plot.svg"
    arguments = ["pareto", str(drawn), *map(str, bundles), "--teacher", str(tmp_path / "teacher")]
    flags = ["--rounds", "3", "--json", str(found), "--plot", str(plot)]
    code, out, _ = run(capsys, *arguments, *flags, "--max-mb", "1000")
    assert code == 0 and "queries of val classes" in out
    value = json.loads(found.read_text())
    assert value["split"] == "val" and value["teacher"]["encoder"] == teacher.encoder
    large, small = (
        next(each for each in value["candidates"] if name in each["name"])
        for name in ("large", "small")
    )
    assert [each["bytes"] > 0 for each in value["candidates"]] == [True] * 4
    assert {each["name"].partition("/")[2] for each in value["candidates"]} == {
        "s64.fp32.photo.onnx",
        "s32.fp32.photo.onnx",
        "s32.fp32.photo.binary.onnx",
        "s32.fp32.photo.d20.onnx",
    }
    assert large["macs"] > 3 * small["macs"] and min(large["ms"], small["ms"]) > 0
    assert large["encoder"] == teacher.encoder
    best = max(value["candidates"], key=lambda each: (each["figures"]["r1"], -each["ms"]))
    assert f"best within the budget: {best['name']}" in out
    texts = [entry.text for entry in ElementTree.parse(plot).iter() if entry.text]
    assert any("large/s64" in text for text in texts)
    code, _, error = run(capsys, *arguments, *flags, "--max-ms", "0.000001")
    assert code == 2 and "no encoder fits" in error
    code, _, error = run(capsys, *arguments, "--split", "test", "--max-ms", "5")
    assert code == 2 and "choose by --split val" in error
    code, out, _ = run(capsys, *arguments, *flags, "--split", "test")
    assert code == 0 and "8 queries of test classes" in out
    # The exported teacher asks its own database, so it finds what the checkpoint finds.
    candidates = json.loads(found.read_text())["candidates"]
    (large,) = (each for each in candidates if "large" in each["name"])
    table = split_classes(read_table(drawn), SplitRule(test=0.25, val=0.25))
    (row,) = evaluate_checkpoints(teacher, None, table).rows
    # One of eight may go the other way: the database is encoded in bfloat16 where that is fast.
    assert large["figures"]["r1"] == pytest.approx(row.figures["r1"], abs=12.5)


def test_what_this_cpu_computes_wrongly_takes_no_part(
    student: Checkpoint, bundles: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_some(file: Path, **options: int) -> QueryEncoder:
        if "binary" in file.name:
            raise WrongProductsError(f"{file}: this CPU computes it wrongly")
        return QueryEncoder(file, **options)

    monkeypatch.setattr(trade_off, "QueryEncoder", open_some)
    photo = make_camera_photo(64, 48)
    entries, left_out = open_entries(bundles, student.space, photo)
    assert [entry.encoder.contract.dim for entry in entries] == [32, 20, 32]
    assert len(left_out) == 1 and "binary.onnx: this CPU" in left_out[0]
    code = bundles[0] / "s32.fp32.photo.binary.onnx"
    with pytest.raises(PocketlensError, match="this CPU computes it wrongly"):
        open_entries([code], student.space, photo)


def test_an_encoder_of_another_space_is_refused(
    student: Checkpoint,
    teacher: Checkpoint,
    drawn: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "teacher").mkdir()
    save_checkpoint(teacher, tmp_path / "teacher")
    space = dataclasses.replace(student.space, id="0" * 16)
    export_bundle([Variant(dataclasses.replace(student, space=space))], tmp_path / "other")
    code, _, error = run(
        capsys,
        "pareto",
        str(drawn),
        str(tmp_path / "other"),
        "--teacher",
        str(tmp_path / "teacher"),
        "--split",
        "test",
    )
    assert code == 2 and "0000000000000000" in error
