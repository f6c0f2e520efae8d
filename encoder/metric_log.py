"""The metric log of a training: one JSON object a line."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class MetricLog:
    """Append one JSON object a line, flushed, so that a killed run leaves what it measured.

    `length` bytes of an earlier log are kept, those written up to the state that goes on. What is
    logged is shown to the `watcher` too.
    """

    def __init__(
        self,
        file: Path,
        *,
        length: int = 0,
        seconds: float = 0.0,
        watcher: "SummaryWriter | None" = None,
    ) -> None:
        self._watcher = watcher
        self._file = file.open("ab")
        self._file.truncate(min(length, file.stat().st_size))
        self._file.seek(0, os.SEEK_END)
        self._started = time.monotonic() - seconds

    @property
    def length(self) -> int:
        """Return how many bytes are written."""
        return self._file.tell()

    @property
    def seconds(self) -> float:
        """Return the seconds since the start, those before a stop among them."""
        return round(time.monotonic() - self._started, 2)

    def write(self, step: int, **values: Any) -> None:
        """Write the values of a step with the seconds since the start."""
        line = {"seconds": self.seconds, "step": step, **values}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        if self._watcher:
            for name, value in values.items():
                self._watcher.add_scalar(name, value, step)
            self._watcher.flush()

    def sync(self) -> None:
        """Flush what is written to the disk, before a state says how much that is."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file, and what watches it."""
        self._file.close()
        if self._watcher:
            self._watcher.close()


def read_last(file: Path, figure: str) -> dict[str, float] | None:
    """Return the last line that has the figure; None where none has it."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return next((line for line in reversed(lines) if figure in line), None)


def read_best(file: Path, figure: str) -> dict[str, float] | None:
    """Return the line whose figure is highest, the last of several; None where none has it."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    found = [line for line in reversed(lines) if figure in line]
    return max(found, key=lambda line: line[figure], default=None)
