"""Latency: every stage of every encoder timed, told as a table and a picture, read back whole."""

import dataclasses
import json
from pathlib import Path

import pytest
from program import refuse, succeed

from encoder.checkpoint import Checkpoint
from encoder.errors import PocketlensError
from export.bundle import export_bundle
from export.golden import make_camera_photo
from export.latency import Bench, measure_latency
from export.latency_chart import draw_latency
from export.latency_record import STAGES, LatencyRun, format_runs, read_runs, to_json
from export.runtime import QueryEncoder, find_provider, list_providers
from export.variants import Variant


@pytest.fixture(scope="module")
def bundle(student: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("latency") / "query"
    export_bundle([Variant(student), Variant(student, form="binary")], output)
    return output


def test_every_stage_is_timed_for_every_encoder_and_number_of_threads(bundle: Path) -> None:
    searched: list[tuple[int, ...]] = []
    names = ("s32.fp32.photo.onnx", "s32.fp32.photo.binary.onnx")
    runs = measure_latency(
        [bundle / name for name in names],
        Bench(
            picture=make_camera_photo(800, 600),
            picture_name="camera",
            rounds=3,
            warm_up=1,
            threads=(1, 2),
            search=lambda vectors: searched.append(vectors.shape),
        ),
    )
    assert [(run.file, run.threads) for run in runs] == [
        (name, count) for name in names for count in (1, 2)
    ]
    # In turns: each of the four once a round.
    assert searched == [(1, 32), (1, 32), (1, 4), (1, 4)] * 4
    for run in runs:
        assert list(run.ms) == list(STAGES)
        assert 0 < run.ms["resize"]["p50"] < run.ms["total"]["p50"]
        assert 0 < run.ms["postprocess"]["p50"] < run.ms["network"]["p50"]
        assert all(each["p50"] <= each["p95"] <= each["p99"] for each in run.ms.values())
        assert set(run.cold_ms) == {"import", "load", "first"} and min(run.cold_ms.values()) > 0
        assert run.nodes["CPUExecutionProvider"] > 40 and run.peak_mb and 20 < run.peak_mb < 600
        assert run.size == 32 and run.provider == "CPUExecutionProvider"


def make_run(**changes: object) -> LatencyRun:
    ms = {name: {"p50": 2.0, "p95": 3.0, "p99": 4.0} for name in ("decode", "network", "total")}
    plain = LatencyRun(
        "browser", "a browser", "onnxruntime-web 1.31.1", "wasm", 2, "0" * 16, "s32.onnx", 32,
        "fp32", "camera", 20, ms,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_a_record_is_read_back_whole(tmp_path: Path) -> None:
    runs = [make_run(), make_run(cold_ms={"load": 5.5}, nodes={"wasm": 3}, peak_mb=12.5)]
    file = tmp_path / "latency.json"
    file.write_text(json.dumps(to_json(runs)))
    assert read_runs(file) == runs
    table = format_runs(runs).splitlines()
    assert len(table) == 4 and "need not add up" in table[-1]
    assert "postprocess" not in table[0] and "cold load" in table[0]
    assert "browser: s32.onnx, wasm, 2 threads" in table[1] and "2.00 / 3.00" in table[1]
    drawn = draw_latency(runs)
    assert drawn.count("<rect") == 2 + 2 * 2 and drawn.count("2.00 ms</text>") == 2


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    sound = to_json([make_run()])
    for change in (
        {"runs": []},
        {"runs": [{"platform": "python"}]},
        {"runs": [{**sound["runs"][0], "ms": {"total": {"p50": 1}}}]},
        {"runs": [{**sound["runs"][0], "ms": {"walk": sound["runs"][0]["ms"]["total"]}}]},
        {"runs": [{**sound["runs"][0], "threads": "one"}]},
    ):
        file.write_text(json.dumps({**sound, **change}))
        with pytest.raises(PocketlensError, match=r"latency\.json: not a latency record"):
            read_runs(file)
    file.write_text(json.dumps({**sound, "format": 2}))
    with pytest.raises(PocketlensError, match="this version reads format 1"):
        read_runs(file)


def test_records_of_several_platforms_are_merged(
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(bundle.parent)
    other, both, plot = (tmp_path / name for name in ("browser.json", "both.json", "both.svg"))
    other.write_text(json.dumps(to_json([make_run()])))
    shown = succeed(
        capsys, "bench", bundle.name, "--threads", 1, "--rounds", 2, "--merge", other,
        "--json", both, "--plot", plot,
    )  # fmt: skip
    assert "browser: s32.onnx" in shown and "python: s32.fp32.photo.onnx, 1 thread" in shown
    assert [run.platform for run in read_runs(both)] == ["python", "browser"]
    assert plot.read_text().startswith("<svg")
    assert "browser" in succeed(capsys, "bench", "--merge", both)
    assert "--merge" in refuse(capsys, "bench")


def test_a_provider_is_found_by_its_short_name(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_provider("cpu") == "CPUExecutionProvider" in list_providers()
    assert QueryEncoder(bundle, providers=["CPU"]).session.get_providers() == [
        "CPUExecutionProvider"
    ]
    told = refuse(capsys, "bench", bundle, "--provider", "abacus")
    assert "provider 'abacus' is not in this ONNX Runtime; it has" in told
