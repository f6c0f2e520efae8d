"""Write what a benchmark measured to `results/NAME.json`: one schema for all of them."""

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from encoder.memory import name_processor, read_cpuinfo

RESULTS = Path(__file__).parent / "results"
_LIBRARIES = ("torch", "timm", "onnxruntime", "faiss-cpu", "numpy", "pillow")


def describe_machine() -> dict[str, Any]:
    """Return processor, cores and memory, without any name or path of the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    return {
        "processor": name_processor(),
        "features": [name for name in known if name in read_cpuinfo("flags").split()],
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": platform.system(),
    }


def update_result(
    name: str, figures: dict[str, float], *, part: str, command: str, seed: int, **details: Any
) -> Path:
    """Merge figures into a result file; each part keeps its own provenance."""
    file = RESULTS / f"{name}.json"
    result = json.loads(file.read_text()) if file.exists() else {"figures": {}, "parts": {}}
    result["figures"].update({key: round(value, 4) for key, value in figures.items()})
    result["figures"] = dict(sorted(result["figures"].items()))
    versions = {library: metadata.version(library) for library in _LIBRARIES}
    facts = {
        "command": command,
        "machine": describe_machine(),
        "versions": {"python": platform.python_version(), **versions},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": seed,
    }
    # The whole file says what its latest part says; each part keeps what was true for it.
    result.update(facts)
    result["parts"][part] = {**facts, **details}
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    return file


def flatten_row(key: str, row: dict[str, Any]) -> dict[str, float]:
    """Return R@1 and MAP@R of an evaluation's row with their intervals, by dotted names."""
    figures: dict[str, float] = {}
    for metric in ("r1", "map_at_r"):
        figures[f"{key}.{metric}"] = row["figures"][metric]
        for end in ("low", "high"):
            figures[f"{key}.{metric}.{end}"] = row["intervals"][metric][end]
    return figures


def run_cli(*arguments: str) -> None:
    """Run the project's command line as a user would, and stop if it fails."""
    cli = Path(__file__).parent.parent / "cli.py"
    subprocess.run([sys.executable, str(cli), *arguments], check=True)


def timed_step(output: Path, *arguments: str) -> float:
    """Run one command unless this very command's output is there; return its seconds.

    A training that was stopped goes on; its seconds are then those of its log, which counts
    through stops.
    """
    note = output.with_name(f"{output.name}.step.json")
    command = " ".join(arguments)
    if output.exists() and note.exists():
        done = json.loads(note.read_text())
        if done["command"] != command:
            raise SystemExit(f"{output}: made by another command; remove it to run\n  {command}")
        return float(done["seconds"])
    if output.is_dir():
        arguments = (*arguments, "--overwrite")  # finished, but stopped before its note
    elif output.with_name(f"{output.name}.state").exists():
        arguments = (*arguments, "--resume")
    started = time.monotonic()
    run_cli(*arguments)
    seconds = round(time.monotonic() - started, 1)
    if "--resume" in arguments:
        last = (output / "metrics.jsonl").read_text().splitlines()[-1]
        seconds = float(json.loads(last)["seconds"])
    scratch = note.with_name(f"{note.name}.partial")
    scratch.write_text(json.dumps({"command": command, "seconds": seconds}) + "\n")
    scratch.replace(note)
    return seconds


def read_seconds(output: Path) -> float:
    """Return how long the command took whose output this is."""
    note = output.with_name(f"{output.name}.step.json")
    return float(json.loads(note.read_text())["seconds"])
