"""An hour of searches while items are added and deleted: nothing fails, nothing grows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from index_folders import unit_vectors

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "index_service.py"


def soak(work: Path, minutes: float, **options: float) -> dict[str, float]:
    file = work / "vectors.npy"
    np.save(file, unit_vectors(3000, dim=128))
    given = [str(each) for name, value in options.items() for each in (f"--{name}", value)]
    arguments = ["soak", "--vectors", str(file), "--minutes", str(minutes), "--json", *given]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures: dict[str, float] = json.loads(done.stdout)
    assert not figures["soak.failures"], done.stderr
    return figures


@pytest.mark.slow
def test_an_hour_holds_memory_flat_and_answers_as_fast_as_it_did(tmp_path: Path) -> None:
    found = soak(tmp_path, 60, searches=50, changes=20)
    # A minute's additions live beside what was there, the others are deleted again.
    assert found["soak.deleted"] > 1_000_000 and found["soak.items"] == 50_000 + 60 * 20 * 20
    assert found["soak.searches"] > 100_000
    assert found["soak.rss_growth_mb"] < 0.1 * found["soak.rss_mb"]
    assert found["soak.p99_late_ms"] < 2 * found["soak.p99_early_ms"]
