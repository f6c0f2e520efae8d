"""The whole chain on real images: teacher, student, and the four rows on unseen classes.

    python benchmarks/first_chain.py chain --data FOLDER --runs FOLDER

FOLDER holds one image folder for each set. Finished steps are skipped, so a stopped run goes on
where it was; a step's time is kept beside its output.
"""

import argparse
import json
from pathlib import Path

from record import flatten_row, timed_step, update_result

SEED = 0
# The recipes were chosen on validation classes (carved from the training classes).
SETS = {
    "cars": {
        "teacher": "--epochs 10 --lr 5e-4 --small-size 112",
        "student": "--epochs 6 --lr 2e-4 --with-validation",
    },
    "cub": {
        "teacher": "--epochs 7 --lr 5e-5 --head-factor 12 --proxy-factor 40 --small-size 112 "
        "--interpolation bicubic",
        "student": "--epochs 16 --lr 2e-4 --keep 0.2 --with-validation",
    },
}
ROWS = {
    "teacher.sym": "teacher 224, symmetric",
    "untrained_small.asym": "untrained 112 → teacher 224",
    "student.asym": "student 112 → teacher 224",
    "student.sym": "student 112, symmetric",
}


def run_chain(data: Path, runs: Path, names: list[str]) -> None:
    """Run every step for every set and record the figures."""
    for name in names:
        source, recipe = str(data / name), SETS[name]
        teacher, student = runs / f"{name}-teacher", runs / f"{name}-student"
        rows = runs / f"{name}-rows.json"
        train = f"--size 224 --seed {SEED} {recipe['teacher']}".split()
        distil = f"--size 112 --seed {SEED} {recipe['student']}".split()
        judge = ["--teacher", str(teacher), "--student", str(student), "--json", str(rows)]
        seconds = {
            "train-teacher": timed_step(teacher, "train-teacher", source, str(teacher), *train),
            "distill": timed_step(student, "distill", str(teacher), source, str(student), *distil),
            "evaluate": timed_step(rows, "evaluate", source, *judge),
        }
        record_rows(name, rows, seconds)


def record_rows(name: str, rows: Path, seconds: dict[str, float]) -> None:
    """Write one set's figures, with intervals and the share of the loss won back."""
    found = {row["name"]: row for row in json.loads(rows.read_text())["rows"]}
    figures: dict[str, float] = {}
    for key, row_name in ROWS.items():
        figures |= flatten_row(f"{name}.{key}", found[row_name])
    for metric in ("r1", "map_at_r"):
        top, bottom, won = (
            figures[f"{name}.{key}.{metric}"]
            for key in ("teacher.sym", "untrained_small.asym", "student.asym")
        )
        figures[f"{name}.won_back.{metric}"] = (won - bottom) / (top - bottom)
    for step, value in seconds.items():
        figures[f"{name}.minutes.{step}"] = value / 60
    update_result(
        "first-chain",
        figures,
        part=f"chain.{name}",
        command="python benchmarks/first_chain.py chain --data DATA --runs RUNS",
        seed=SEED,
        commands=[
            f"cli train-teacher DATA/{name} RUNS/{name}-teacher --size 224 --seed {SEED} "
            + SETS[name]["teacher"],
            f"cli distill RUNS/{name}-teacher DATA/{name} RUNS/{name}-student --size 112 "
            f"--seed {SEED} " + SETS[name]["student"],
            f"cli evaluate DATA/{name} --teacher RUNS/{name}-teacher --student RUNS/{name}-student",
        ],
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["chain"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    run_chain(arguments.data, arguments.runs, arguments.sets)


if __name__ == "__main__":
    main()
