"""Time queries honestly: stage by stage, cold and warm, several encoders side by side."""

import dataclasses
import itertools
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from encoder.memory import count_cores, name_processor
from encoder.preprocess import Pixels
from export.cold_start import measure_cold_start
from export.contract import POSTPROCESS_PREFIX, PREPROCESS_PREFIX
from export.latency_record import COLD, IN_GRAPH, STAGES, LatencyRun, summarise
from export.runtime import QueryEncoder, list_providers

Search = Callable[[NDArray[np.float32]], Any]
_COLD_STARTS = 3


@dataclasses.dataclass(frozen=True)
class Bench:
    """Hold what is timed how often: a picture's bytes, warm rounds behind `warm_up` others.

    Threads none: one, and all. Providers none: all there are.
    """

    picture: bytes
    picture_name: str
    rounds: int = 50
    warm_up: int = 5
    threads: tuple[int, ...] = ()
    providers: tuple[str, ...] = ()
    search: Search | None = None


@dataclasses.dataclass(frozen=True)
class _Place:
    """Hold an encoder opened as it is to be timed, and the file it was opened from."""

    encoder: QueryEncoder
    threads: int
    provider: str


def measure_latency(encoders: Sequence[Path], bench: Bench) -> list[LatencyRun]:
    """Time every encoder by every provider on every number of threads.

    Warm pictures are timed in rounds in which each has its turn, so that a noisy machine is fair
    to all. What happens inside the graph is told apart by ONNX Runtime's profiler in runs of their
    own, so that profiling does not slow the total. Cold is a fresh process, the median of three.
    """
    threads = bench.threads or choose_threads()
    providers = bench.providers or list_providers()
    places = [
        _Place(QueryEncoder(file, threads=count, providers=[provider]), count, provider)
        for file, provider, count in itertools.product(encoders, providers, threads)
    ]
    times = np.empty((bench.warm_up + bench.rounds, len(places), 3))
    for row in times:
        for place, found in zip(places, row, strict=True):
            found[:] = _time_once(place.encoder, bench)
    warm = 1e3 * times[bench.warm_up :]
    return [_describe(place, bench, warm[:, at]) for at, place in enumerate(places)]


def choose_threads() -> tuple[int, ...]:
    """Return the numbers of threads that are timed where none are named: one, and all."""
    return tuple(sorted({1, count_cores()}))


def identify(encoder: QueryEncoder, bench: Bench) -> dict[str, Any]:
    """Return what a run's record says of this machine, the encoder and the picture."""
    contract = encoder.contract
    return {
        "device": f"{name_processor()}, {count_cores()} cores",
        "encoder": contract.encoder,
        "file": encoder.file.name,
        "size": contract.preprocess.size,
        "precision": contract.precision,
        "picture": bench.picture_name,
        "rounds": bench.rounds,
    }


def _time_once(encoder: QueryEncoder, bench: Bench) -> tuple[float, float, float]:
    """Return the seconds of decoding, of the graph, and of the search."""
    at = [time.perf_counter()]
    pixels = encoder.decode(bench.picture)
    at.append(time.perf_counter())
    vector = encoder.embed(pixels)
    at.append(time.perf_counter())
    if bench.search is not None:
        bench.search(vector[None])
    at.append(time.perf_counter())
    return at[1] - at[0], at[2] - at[1], at[3] - at[2]


def _describe(place: _Place, bench: Bench, warm: NDArray[np.float64]) -> LatencyRun:
    encoder = place.encoder
    profiled, nodes = _profile_graph(place, encoder.decode(bench.picture), bench)
    stages = {"decode": warm[:, 0], **dict(zip(IN_GRAPH, profiled, strict=True))}
    if bench.search is not None:
        stages["search"] = warm[:, 2]
    stages["total"] = warm.sum(axis=1)
    cold = [
        measure_cold_start(encoder.file, bench.picture, place.threads, place.provider)
        for _ in range(_COLD_STARTS)
    ]
    return LatencyRun(
        **identify(encoder, bench),
        platform="python",
        runtime=f"onnxruntime {onnxruntime.__version__}",
        provider=place.provider,
        threads=place.threads,
        ms={name: summarise(stages[name]) for name in STAGES if name in stages},
        cold_ms={name: statistics.median(ms[name] for ms, _ in cold) for name in COLD},
        nodes=nodes,
        peak_mb=max((peak for _, peak in cold if peak is not None), default=None),
    )


def _profile_graph(
    place: _Place, pixels: Pixels, bench: Bench
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """Return the milliseconds `[3, rounds]` before, in and behind the network, and whose nodes."""
    with tempfile.TemporaryDirectory() as folder:
        profiled = QueryEncoder(
            place.encoder.file,
            threads=place.threads,
            providers=[place.provider],
            profile_prefix=str(Path(folder) / "profile"),
        )
        for _ in range(bench.warm_up + bench.rounds):
            profiled.embed(pixels)
        events = json.loads(Path(profiled.session.end_profiling()).read_text())
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    times = np.zeros((len(IN_GRAPH), len(runs)))
    nodes: Counter[str] = Counter()
    for event in kernels:
        run = np.searchsorted(runs, event["ts"], side="right") - 1
        times[_find_stage(event["name"]), run] += event["dur"] / 1e3
        nodes[event["args"]["provider"]] += int(run == len(runs) - 1)
    return times[:, bench.warm_up :], dict(nodes)


def _find_stage(node: str) -> int:
    """Return which stage inside the graph a node belongs to, by how its name begins."""
    if node.startswith(PREPROCESS_PREFIX):
        return 0
    return 2 if node.startswith(POSTPROCESS_PREFIX) else 1
