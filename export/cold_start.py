"""Time a first picture in a fresh process, as a device does when an app starts.

    python -m export.cold_start ENCODER PICTURE THREADS PROVIDER

prints what it took as JSON; `measure_cold_start` runs it.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from encoder.errors import PocketlensError
from encoder.memory import read_peak_mb


def measure_cold_start(
    encoder: Path, picture: bytes, threads: int, provider: str
) -> tuple[dict[str, float], float | None]:
    """Return the milliseconds of imports, session and first picture, and the peak memory in MB.

    The memory is that of the whole process; None where the system does not say.

    Raises:
        PocketlensError: when the process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "picture"
        photo.write_bytes(picture)
        # It runs where our packages lie.
        arguments = (str(encoder.resolve()), str(photo), str(threads), provider)
        done = subprocess.run(
            [sys.executable, "-m", "export.cold_start", *arguments],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
    if done.returncode:
        reason = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise PocketlensError(f"{encoder}: a fresh process cannot encode with it ({reason})")
    found = json.loads(done.stdout)
    return found["ms"], found["peak_mb"]


def _main(encoder: str, picture: str, threads: str, provider: str) -> None:
    at = [time.perf_counter()]
    from export.runtime import QueryEncoder

    at.append(time.perf_counter())
    opened = QueryEncoder(encoder, threads=int(threads), providers=[provider])
    at.append(time.perf_counter())
    opened.encode(picture)
    at.append(time.perf_counter())
    steps = zip(("import", "load", "first"), at[:-1], at[1:], strict=True)
    ms = {name: 1e3 * (end - start) for name, start, end in steps}
    print(json.dumps({"ms": ms, "peak_mb": read_peak_mb()}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
