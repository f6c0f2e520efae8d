"""Compatible teachers against each other, in three settings, as a queue of trainings.

    python benchmarks/compatible.py --data FOLDER --weights FOLDER --runs FOLDER [--tables NAME …]

DATA holds one image folder a set, WEIGHTS the ImageNet weights of another architecture
(`mobilenetv2_035.safetensors`). What is done is skipped, so a stopped run goes on where it was.
"""

import argparse
from pathlib import Path

import torch
from command_queue import run_queue
from compatible_queue import SEEDED, TABLES, CompatiblePlace
from compatible_students import measure_students
from timing import begin_as_command_line

from encoder.memory import count_cores, keep_memory

STUDENTS = {"students-cars": lambda place: measure_students(place, "cars")}


def main() -> None:
    """Parse and run."""
    every = {**TABLES, **STUDENTS}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds one image folder a set")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=list(every), choices=list(every))
    asked = parser.parse_args()
    begin_as_command_line()
    keep_memory()
    torch.set_num_threads(count_cores())
    run_queue(
        CompatiblePlace(data=asked.data, runs=asked.runs, weights=asked.weights),
        {name: every[name] for name in asked.tables},
        result="compatible",
        command="python benchmarks/compatible.py --data DATA --weights WEIGHTS --runs RUNS",
        seeded=SEEDED,
    )


if __name__ == "__main__":
    main()
