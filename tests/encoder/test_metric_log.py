"""The log of a training: what it says was best."""

from pathlib import Path

from encoder.metric_log import MetricLog, read_best


def test_the_best_judgement_is_found_and_the_last_of_equals(tmp_path: Path) -> None:
    log = MetricLog(tmp_path / "metrics.jsonl")
    log.write(1, loss=9.0)
    assert read_best(tmp_path / "metrics.jsonl", "val_map_at_r") is None
    for step, value in ((2, 10.0), (4, 30.0), (6, 30.0), (8, 20.0)):
        log.write(step, val_map_at_r=value)
    log.close()
    best = read_best(tmp_path / "metrics.jsonl", "val_map_at_r")
    assert best is not None and (best["step"], best["val_map_at_r"]) == (6, 30.0)
