"""Whatever is done to a picture's bytes, it decodes or is refused, soon and in little memory."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


def test_a_thousand_damaged_pictures_decode_or_are_refused() -> None:
    """In a process of its own: a crash would take the tests along, and memory is its own."""
    done = subprocess.run(
        [sys.executable, "mutated_pictures.py", "--images", "1000", "--seed", "1"],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["decoded"] > 100 and found["refused"] > 100 and not found["failures"]
    # Pictures of 8 million pixels are allowed: 24 MB, and a few copies.
    assert found["grown_mb"] < 200
