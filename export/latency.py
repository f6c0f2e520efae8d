"""Time a query honestly: decode, resize, network, postprocess and search apart; cold and warm."""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.memory import count_cores
from encoder.preprocess import Pixels
from export.contract import POSTPROCESS_PREFIX, PREPROCESS_PREFIX
from export.runtime import QueryEncoder

Search = Callable[[NDArray[np.float32]], Any]
STAGES = ("decode", "resize", "network", "postprocess", "search", "total")
# The stages inside the graph, by how the names of their nodes begin; the rest is the network.
_BEFORE, _NETWORK, _BEHIND = range(3)


@dataclasses.dataclass(frozen=True)
class StageTimes:
    """Hold the median and 95th percentile of each stage in milliseconds."""

    threads: int
    cold_load_ms: float
    cold_first_ms: float
    p50_ms: dict[str, float]
    p95_ms: dict[str, float]


def measure_latency(
    encoder: Path,
    picture: bytes,
    *,
    search: Search | None = None,
    threads: Sequence[int] = (),
    rounds: int = 50,
    warm_up: int = 5,
) -> list[StageTimes]:
    """Time one picture's way from its bytes to an answer, for each number of threads.

    Cold is a session opened anew, in a running process, and its first picture; warm is `rounds`
    pictures after `warm_up`. Resizing happens inside the graph: it and the network are told apart
    by ONNX Runtime's profiler in runs of their own, so that profiling does not slow the total.
    """
    wanted = list(threads) or sorted({1, count_cores()})
    return [_measure(encoder, picture, search, count, rounds, warm_up) for count in wanted]


def _measure(
    path: Path, picture: bytes, search: Search | None, threads: int, rounds: int, warm_up: int
) -> StageTimes:
    started = time.perf_counter()
    encoder = QueryEncoder(path, threads=threads)
    loaded = time.perf_counter()
    encoder.encode(picture)
    first = time.perf_counter()
    times = [_time_once(encoder, picture, search) for _ in range(warm_up + rounds)][warm_up:]
    decode, graph, searched = np.array(times).T * 1e3
    profiled = _profile_graph(path, encoder.decode(picture), threads, rounds, warm_up)
    stages = {"decode": decode, **dict(zip(STAGES[1:4], profiled, strict=True))}
    if search is not None:
        stages["search"] = searched
    stages["total"] = decode + graph + searched
    return StageTimes(
        threads=threads,
        cold_load_ms=1e3 * (loaded - started),
        cold_first_ms=1e3 * (first - loaded),
        p50_ms={name: float(np.quantile(values, 0.5)) for name, values in stages.items()},
        p95_ms={name: float(np.quantile(values, 0.95)) for name, values in stages.items()},
    )


def _time_once(
    encoder: QueryEncoder, picture: bytes, search: Search | None
) -> tuple[float, float, float]:
    at = [time.perf_counter()]
    pixels = encoder.decode(picture)
    at.append(time.perf_counter())
    vector = encoder.embed(pixels)
    at.append(time.perf_counter())
    if search is not None:
        search(vector[None])
    at.append(time.perf_counter())
    return at[1] - at[0], at[2] - at[1], at[3] - at[2]


def _profile_graph(
    path: Path, pixels: Pixels, threads: int, rounds: int, warm_up: int
) -> NDArray[np.float64]:
    """Return the milliseconds `[3, rounds]` before, in and behind the network, run by run."""
    with tempfile.TemporaryDirectory() as folder:
        profiled = QueryEncoder(path, threads=threads, profile_prefix=str(Path(folder) / "profile"))
        for _ in range(warm_up + rounds):
            profiled.embed(pixels)
        events = json.loads(Path(profiled.session.end_profiling()).read_text())
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    times = np.zeros((3, len(runs)))
    for event in kernels:
        run = np.searchsorted(runs, event["ts"], side="right") - 1
        times[_find_stage(event["name"]), run] += event["dur"] / 1e3
    return times[:, warm_up:]


def _find_stage(node: str) -> int:
    if node.startswith(PREPROCESS_PREFIX):
        return _BEFORE
    return _BEHIND if node.startswith(POSTPROCESS_PREFIX) else _NETWORK


def to_json(times: Sequence[StageTimes], encoder: Path, picture: str) -> dict[str, Any]:
    """Return the latency record: one schema, whatever the platform that measured it."""
    runtime = QueryEncoder(encoder)
    return {
        "schema": 1,
        "platform": "python",
        "encoder": runtime.contract.encoder,
        "precision": runtime.contract.precision,
        "size": runtime.contract.preprocess.size,
        "picture": picture,
        "runs": [dataclasses.asdict(entry) for entry in times],
    }


def format_table(times: Sequence[StageTimes]) -> str:
    """Return a table with a line for each number of threads."""
    names = [name for name in STAGES if name in times[0].p50_ms]
    head = f"{'threads':>7}  {'load':>7}  {'first':>7}  " + "".join(f"{n:>18}" for n in names)
    lines = [
        head,
        f"{'':>7}  {'cold ms':>7}  {'cold ms':>7}  " + f"{'p50 / p95 ms':>18}" * len(names),
    ]
    for entry in times:
        cells = [f"{entry.p50_ms[n]:.2f} / {entry.p95_ms[n]:.2f}" for n in names]
        lines.append(
            f"{entry.threads:>7}  {entry.cold_load_ms:7.1f}  {entry.cold_first_ms:7.1f}  "
            + "".join(f"{cell:>18}" for cell in cells)
        )
    return "\n".join(lines)
