"""Teachers: the tables of many trainings, and what very many classes cost a step.

    python benchmarks/teachers.py queue --data FOLDER --runs FOLDER [--tables NAME …]
    python benchmarks/teachers.py speed --data FOLDER/cars
    python benchmarks/teachers.py extreme

`queue` trains what `teacher_queue` lists and skips what is done, so a stopped run goes on where it
was. `extreme`: vectors of random images learn against a million proxies of 512 dimensions, of which
each step draws a share: the loss, its gradients and the sparse update are timed, without a network.
"""

import argparse
import resource
import statistics
import tempfile
from pathlib import Path

import torch
from command_queue import Place, run_queue
from record import update_result
from teacher_queue import SEEDED, TABLES
from teacher_speed import measure_teacher_speed
from timing import begin_as_command_line, seconds
from torch import nn
from torch.nn import functional

from encoder.losses.supervised import LossRecipe, build_loss
from encoder.memory import count_cores, keep_memory
from encoder.optimisation import Optimisation, build_optimisers

CLASSES, DIM, BATCH = 1_000_000, 512, 64
SHARES = (0.001, 0.01, 0.1)


def measure_step(share: float, steps: int) -> float:
    """Return the median milliseconds of a step that compares with a share of the classes."""
    torch.manual_seed(0)
    loss = build_loss(LossRecipe(class_share=share), CLASSES, DIM)
    head = nn.Linear(DIM, DIM, bias=False)
    settings = Optimisation(epochs=1, lr=1e-3)
    optimisers = build_optimisers([(head, 1.0), (loss, 10.0)], settings, steps)
    inputs, targets = torch.randn(BATCH, DIM), torch.randint(CLASSES, (BATCH,))

    def step() -> None:
        optimisers.clear()
        loss(functional.normalize(head(inputs), dim=1), targets).backward()
        optimisers.step()

    times = [seconds(step) for _ in range(steps)]
    # The first allocates the moments.
    return 1000 * statistics.median(times[2:])


def measure_extreme(steps: int) -> dict[str, float]:
    """Time a step of a million classes at several shares of them."""
    figures: dict[str, float] = {"subsampled.classes": CLASSES}
    for share in SHARES:
        figures[f"subsampled.{share:g}.step_ms"] = measure_step(share, steps)
    figures["subsampled.step_ms"] = figures[f"subsampled.{SHARES[1]:g}.step_ms"]
    figures["subsampled.peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return figures


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    extreme = parts.add_parser("extreme")
    extreme.add_argument("--steps", type=int, default=20)
    queue = parts.add_parser("queue")
    queue.add_argument("--data", type=Path, required=True, help="holds one image folder a set")
    queue.add_argument("--runs", type=Path, required=True)
    queue.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    speed = parts.add_parser("speed")
    speed.add_argument("--data", type=Path, required=True, help="an image folder")
    speed.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    begin_as_command_line()
    keep_memory()
    torch.set_num_threads(count_cores())
    if arguments.part == "queue":
        run_queue(
            Place(data=arguments.data, runs=arguments.runs),
            {name: TABLES[name] for name in arguments.tables},
            result="teachers",
            command="python benchmarks/teachers.py queue --data DATA --runs RUNS",
            seeded=SEEDED,
        )
        return
    if arguments.part == "speed":
        with tempfile.TemporaryDirectory() as work:
            figures = measure_teacher_speed(arguments.data, Path(work), arguments.rounds)
        details = {"rounds": arguments.rounds, "data": arguments.data.name}
        command = f"python benchmarks/teachers.py speed --data DATA/{arguments.data.name}"
    else:
        figures, details = measure_extreme(arguments.steps), {"steps": arguments.steps}
        command = f"python benchmarks/teachers.py extreme --steps {arguments.steps}"
    for name, value in figures.items():
        print(f"{name:<32} {value:12.3f}")
    update_result("teachers", figures, part=arguments.part, command=command, seed=0, **details)


if __name__ == "__main__":
    main()
