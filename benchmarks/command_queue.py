"""A queue of commands behind tables: what is done is skipped, each table is recorded when whole."""

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from record import timed_step, update_result
from small_sets import link_training_half

SEEDS = (0, 1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Hold where the sets and the outputs lie, and the commands of the table at hand."""

    data: Path
    runs: Path
    commands: list[str] = dataclasses.field(default_factory=list)

    def small(self, name: str, images: int | None = None) -> Path:
        """Return the training half of a set, perhaps with few images a class."""
        title = f"{name}-small" if images is None else f"{name}-{images}-shot"
        return link_training_half(self.data / name, self.runs / "sets" / title, images=images)

    def make(self, name: str, command: str, *inputs: Path, flags: str = "") -> Path:
        """Run a command whose output lies at this name, unless it is done; return the folder."""
        output = self.runs / name
        output.parent.mkdir(parents=True, exist_ok=True)
        shown = " ".join(part.name for part in inputs)
        self.commands.append(f"cli {command} {shown} {name} {self._shorten(flags)}")
        timed_step(output, command, *map(str, inputs), str(output), *shlex.split(flags))
        return output

    def _shorten(self, flags: str) -> str:
        """Return flags as a record shows them: without where this machine has its folders."""
        for field in dataclasses.fields(self):
            place = getattr(self, field.name)
            if isinstance(place, Path):
                flags = flags.replace(f"{place}/", "")
        return flags


_Place = TypeVar("_Place", bound=Place)


def run_queue(
    place: _Place,
    tables: Mapping[str, Callable[[_Place], dict[str, float]]],
    *,
    result: str,
    command: str,
    seeded: Sequence[str],
) -> None:
    """Measure each table and record it; those `seeded` trained with every seed."""
    for name, measure in tables.items():
        figures = measure(place)
        update_result(
            result,
            figures,
            part=name,
            command=f"{command} --tables {name}",
            seed=SEEDS[0],
            seeds=list(SEEDS) if name in seeded else [SEEDS[0]],
            trainings=list(place.commands),
        )
        place.commands.clear()
        print(f"{name}: recorded", flush=True)
