"""The latency record: one schema for what Python, a browser and Android measured."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from encoder.errors import PocketlensError, first_line
from encoder.json_files import read_format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
# Before, in and behind the network: inside the graph, so a profiler tells them apart.
IN_GRAPH = ("resize", "network", "postprocess")
STAGES = ("decode", *IN_GRAPH, "search", "total")
COLD = ("import", "load", "first")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclasses.dataclass(frozen=True)
class LatencyRun:
    """Hold what one encoder took on one device, by one provider, on so many threads.

    `ms` has p50, p95 and p99 of each stage that was measured, over `rounds` warm pictures.
    `cold_ms` is what a fresh process takes for its imports, the session, and the first picture;
    `peak_mb` its memory by then. `nodes` says how many of the graph's nodes each provider took.
    """

    platform: str
    device: str
    runtime: str
    provider: str
    threads: int
    encoder: str
    file: str
    size: int
    precision: str
    picture: str
    rounds: int
    ms: dict[str, dict[str, float]]
    cold_ms: dict[str, float] = dataclasses.field(default_factory=dict)
    nodes: dict[str, int] = dataclasses.field(default_factory=dict)
    peak_mb: float | None = None

    @property
    def title(self) -> str:
        """Return how a table or a chart calls the run."""
        by = "" if self.provider.startswith("CPU") else f", {self.provider}"
        return f"{self.platform}: {self.file}{by}, {self.threads} thread{'s'[: self.threads - 1]}"

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> Self:
        """Read a run; `where` names the file in an error.

        Raises:
            PocketlensError: when a field is missing or not of its kind.
        """
        try:
            run = cls(**value)
            texts = (run.platform, run.device, run.runtime, run.provider, run.encoder, run.file)
            numbers = [run.threads, run.size, run.rounds, *run.cold_ms.values()]
            numbers += [each[name] for each in run.ms.values() for name in QUANTILES]
            known = set(run.ms) <= set(STAGES) and "total" in run.ms
            sound = all(isinstance(text, str) for text in texts) and known
            if not sound or not all(number >= 0 for number in numbers):
                raise ValueError("a field is not what it should be")
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise PocketlensError(f"{where}: not a latency record ({first_line(error)})") from None
        return run


def summarise(values: "NDArray[np.float64]") -> dict[str, float]:
    """Return the quantiles of times as a record has them."""
    import numpy as np

    return {name: float(np.quantile(values, share)) for name, share in QUANTILES.items()}


def to_json(runs: Sequence[LatencyRun]) -> dict[str, Any]:
    """Return the record as plain JSON values (`docs/formats.md`)."""
    return {"format": FORMAT, "runs": [dataclasses.asdict(run) for run in runs]}


def read_runs(file: Path) -> list[LatencyRun]:
    """Read the runs of a record that Python, a browser or Android wrote.

    Raises:
        PocketlensError: when the file is missing, damaged, of another format or no such record.
    """
    runs = read_format(file, FORMAT).get("runs")
    if not isinstance(runs, list) or not runs:
        raise PocketlensError(f"{file}: not a latency record (it lists no runs)")
    return [LatencyRun.from_json(run, str(file)) for run in runs]


def format_runs(runs: Sequence[LatencyRun]) -> str:
    """Return a table with a line for each run, and what none has to say left out."""
    stages = [name for name in STAGES if any(name in run.ms for run in runs)]
    cold = [name for name in COLD if any(name in run.cold_ms for run in runs)]
    width = max(len(run.title) for run in runs)
    head = f"{'p50 / p95 ms':<{width}}" + "".join(f"{name:>16}" for name in stages)
    head += f"{'p99':>8}" + "".join(f"{'cold ' + name:>13}" for name in cold) + f"{'peak MB':>9}"
    note = "stages are timed apart, each a median of its own: they need not add up to the total"
    return "\n".join([head, *(_format_run(run, width, stages, cold) for run in runs), note])


def _format_run(run: LatencyRun, width: int, stages: Sequence[str], cold: Sequence[str]) -> str:
    cells = []
    for name in stages:
        found = run.ms.get(name)
        cells.append(f"{found['p50']:.2f} / {found['p95']:.2f}" if found else "-")
    line = f"{run.title:<{width}}" + "".join(f"{cell:>16}" for cell in cells)
    line += f"{run.ms['total']['p99']:>8.2f}"
    line += "".join(
        f"{run.cold_ms[name]:>13.1f}" if name in run.cold_ms else f"{'-':>13}" for name in cold
    )
    line += f"{run.peak_mb:>9.0f}" if run.peak_mb is not None else f"{'-':>9}"
    shared = ", ".join(f"{name} {count}" for name, count in run.nodes.items())
    return f"{line}  nodes: {shared}" if len(run.nodes) > 1 else line
