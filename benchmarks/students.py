"""Students: what a teacher that looks once saves, and a store of very many views.

    python benchmarks/students.py speed --data FOLDER [--rounds N]
    python benchmarks/students.py scale [--views N]
    python benchmarks/students.py queue --data DATA --teachers TEACHERS --weights W --runs RUNS

`speed` times three students (56, 96 and 112 px) under an untrained teacher at 224 and at 384 px.
With s and t the milliseconds of a student's step and of the teacher's look at a view, each alone,
k students that each see N views of an image, of which the teacher looked at M, could be
k (s + t) N ÷ (k s N + t M) times as fast as with the teacher in every step. That is the limit;
cutting views, and all else, keeps us from it. Times are rates of the real loops, as their own logs
tell, and of the real making of views, which looks at whole images too; without a store each student
has the teacher do that. `scale` writes a store of random features, opens it and draws
from it. `queue` distils what `student_queue` lists, skipping what is done; DATA holds one image
folder a set, TEACHERS is the RUNS of the teachers' queue, W has the weights of another architecture
(`mobilenetv2_035.safetensors`).
"""

import argparse
import dataclasses
import functools
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from command_queue import run_queue
from record import update_result
from store_scale import measure_scale
from student_parts import CORES, prepare_parts, time_loop
from student_queue import TABLES, StudentPlace
from timing import begin_as_command_line, seconds

from encoder.checkpoint import Checkpoint, digest_model
from encoder.datasets.folder import read_folder
from encoder.datasets.table import ImageTable
from encoder.embed import embed_all
from encoder.image_cache import open_images
from encoder.inference import prepare_inference
from encoder.memory import keep_memory
from encoder.model import Architecture
from encoder.preprocess import Preprocess
from encoder.space import mint_space
from encoder.student import StudentRecipe
from encoder.teacher import start_model
from encoder.view_making import StoreRecipe, make_views
from encoder.view_store import open_store

TEACHERS = (224, 384)
STUDENTS = (56, 96, 112)
# Views of an image: six passes of two, from eight that the teacher looked at.
SEEN, STORED = 12, 8
_IMAGES = 512


def make_teacher(size: int) -> Checkpoint:
    """Return a teacher whose weights are ImageNet's: speed does not depend on them."""
    torch.manual_seed(0)
    model = start_model(Architecture(), "").eval()
    space = mint_space("teacher", 512, digest_model(model))
    return Checkpoint(model, Architecture(), Preprocess(size), space, "teacher")


def measure_speed(table: ImageTable, work: Path, rounds: int) -> dict[str, float]:
    """Compare a family from a store with one whose teacher looks at every view."""
    figures: dict[str, float] = {"store.seen": SEEN, "store.stored": STORED}
    for size in TEACHERS:
        found = measure_family(make_teacher(size), table, work / str(size), rounds)
        figures |= {f"store.teacher{size}.{name}": value for name, value in found.items()}
    shares = {size: figures[f"store.teacher{size}.vs_limit"] for size in TEACHERS}
    worst = min(shares, key=lambda size: shares[size])
    figures["store.speedup_vs_limit"] = shares[worst]
    figures["store.limit"] = figures[f"store.teacher{worst}.limit"]
    return figures


def measure_family(
    teacher: Checkpoint, table: ImageTable, work: Path, rounds: int
) -> dict[str, float]:
    """Return s, t and the loops' times in core-milliseconds a view, the speed-up and its limit."""
    images = open_images(table.files(), side=2 * teacher.preprocess.size)
    recipes = {size: StudentRecipe(size=size) for size in STUDENTS}
    parts = {size: prepare_parts(teacher, images, recipe) for size, recipe in recipes.items()}
    times: dict[str, list[float]] = {}

    def note(name: str, core_seconds: float) -> None:
        times.setdefault(name, []).append(1e3 * core_seconds)

    looked = functools.partial(
        make_views, teacher, table, StoreRecipe(STORED), work / "views", overwrite=True
    )
    guide = prepare_inference(teacher, precision="auto")
    whole = functools.partial(embed_all, table.files(), teacher.preprocess, guide.embedder)
    for _ in range(rounds):
        # What each student with the teacher beside it does first; a store has it.
        note("whole", CORES * seconds(whole) / len(table))
        taken = seconds(looked)
        note("making", CORES * taken / (STORED * len(table)))
        store = open_store(work / "views")
        for size, recipe in recipes.items():
            note("t", parts[size]["teacher"]())
            note(f"s{size}", parts[size]["student"]())
            note(f"online{size}", time_loop(teacher, table, recipe, work / "student"))
            note(f"stored{size}", time_loop(teacher, table, recipe, work / "student", store))
    each = {name: statistics.median(values) for name, values in times.items()}
    steps = sum(each[f"s{size}"] for size in STUDENTS)
    limit = (steps + len(STUDENTS) * each["t"]) * SEEN / (steps * SEEN + each["t"] * STORED)
    online, stored = (
        SEEN * sum(each[f"{kind}{size}"] for size in STUDENTS) for kind in ("online", "stored")
    )
    speedup = (online + len(STUDENTS) * each["whole"]) / (stored + STORED * each["making"])
    own = {f"{name}_core_ms": value for name, value in each.items()}
    return {**own, "limit": limit, "speedup": speedup, "vs_limit": speedup / limit}


def main() -> None:
    """Parse, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = parser.add_subparsers(dest="part", required=True)
    speed = parts.add_parser("speed")
    speed.add_argument("--data", type=Path, required=True, help="folder of photos, class folders")
    speed.add_argument("--rounds", type=int, default=3)
    scale = parts.add_parser("scale")
    scale.add_argument("--views", type=int, default=1_000_000)
    queue = parts.add_parser("queue")
    for name in ("data", "teachers", "weights", "runs"):
        queue.add_argument(f"--{name}", type=Path, required=True)
    queue.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    arguments = parser.parse_args()
    begin_as_command_line()
    keep_memory()
    torch.set_num_threads(CORES)
    if arguments.part == "queue":
        folders = {
            name: getattr(arguments, name) for name in ("data", "teachers", "weights", "runs")
        }
        run_queue(
            StudentPlace(**folders),
            {name: TABLES[name] for name in arguments.tables},
            result="students",
            command="python benchmarks/students.py queue --data DATA --teachers TEACHERS "
            "--weights WEIGHTS --runs RUNS",
            seeded=("ablation", "conditions"),
        )
        return
    with tempfile.TemporaryDirectory() as work:
        if arguments.part == "speed":
            table = read_folder(arguments.data)
            chosen = np.random.default_rng(0).permutation(len(table))[:_IMAGES]
            table = table.select(sorted(chosen.tolist()))
            # Labels and classes are not used.
            bare = tuple(dataclasses.replace(row, split="train") for row in table.rows)
            figures = measure_speed(ImageTable(table.root, bare), Path(work), arguments.rounds)
            command = "python benchmarks/students.py speed --data DATA/cars"
            details = {"rounds": arguments.rounds, "data": arguments.data.name}
        else:
            figures = measure_scale(Path(work), arguments.views)
            command = f"python benchmarks/students.py scale --views {arguments.views}"
            details = {}
    for name, value in figures.items():
        print(f"{name:<40} {value:12.3f}")
    update_result("students", figures, part=arguments.part, command=command, seed=0, **details)


if __name__ == "__main__":
    main()
