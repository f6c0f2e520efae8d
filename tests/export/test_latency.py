from pathlib import Path

from encoder.checkpoint import Checkpoint
from export.bundle import export_bundle
from export.golden import make_camera_photo
from export.latency import STAGES, format_table, measure_latency, to_json
from export.variants import Variant


def test_every_stage_is_timed_for_every_number_of_threads(
    student: Checkpoint, tmp_path: Path
) -> None:
    file = export_bundle([Variant(student)], tmp_path / "query").encoders[0].file
    searched: list[tuple[int, ...]] = []
    times = measure_latency(
        file,
        make_camera_photo(800, 600),
        search=lambda vectors: searched.append(vectors.shape),
        threads=[1, 2],
        rounds=3,
        warm_up=1,
    )
    assert [entry.threads for entry in times] == [1, 2]
    assert searched == [(1, 32)] * 8
    for entry in times:
        assert set(entry.p50_ms) == set(STAGES)
        assert 0 < entry.p50_ms["resize"] < entry.p50_ms["total"]
        assert entry.p50_ms["network"] > 0 and entry.cold_load_ms > 0
        assert all(entry.p50_ms[name] <= entry.p95_ms[name] for name in entry.p50_ms)
    record = to_json(times, file, "camera")
    assert record["size"] == 32 and len(record["runs"]) == 2
    assert format_table(times).count("\n") == 3


def test_without_an_index_no_search_is_shown(student: Checkpoint, tmp_path: Path) -> None:
    file = export_bundle([Variant(student)], tmp_path / "query").encoders[0].file
    (entry,) = measure_latency(file, make_camera_photo(64, 64), threads=[1], rounds=2, warm_up=0)
    assert set(entry.p50_ms) == {"decode", "resize", "network", "postprocess", "total"}
    assert min(entry.p50_ms.values()) > 0
