"""Wall seconds of a call, on all cores or on one, and what a training's own log says."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from encoder.memory import count_cores, set_library_defaults


def begin_as_command_line() -> None:
    """Start the script again under what the command line sets before torch is imported."""
    before = dict(os.environ)
    set_library_defaults()
    if before != dict(os.environ):
        os.execv(sys.executable, [sys.executable, *sys.argv])


def seconds(run: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def on_one_core(run: Callable[[], object]) -> float:
    """Return the core-seconds of a call that is kept to one thread."""
    torch.set_num_threads(1)
    try:
        return seconds(run)
    finally:
        torch.set_num_threads(count_cores())


def read_rate(checkpoint: Path, images_per_step: int) -> float:
    """Return the images a second of a finished training, from the first logged step on."""
    lines = (checkpoint / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line) for line in lines if '"lr"' in line]
    first, last = logged[0], logged[-1]
    steps = last["step"] - first["step"]
    return images_per_step * steps / float(last["seconds"] - first["seconds"])
