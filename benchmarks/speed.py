"""How near encoding and training are to their limit, and what start-up costs.

    python benchmarks/speed.py --data FOLDER --teacher CHECKPOINT

The limit is cores ÷ (core-seconds of decoding and augmenting + core-seconds of the network), each
measured alone: the network at its fastest precision, on all cores or on one, whichever costs
fewer core-seconds. Training runs in fp32, which is its fastest on a CPU. Parts are timed in
alternating rounds, so that a noisy machine disturbs all of them alike; the medians are compared.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from record import update_result
from student_parts import CORES, prepare_parts, time_loop
from timing import begin_as_command_line, on_one_core, seconds

from encoder.checkpoint import Checkpoint, load_checkpoint
from encoder.datasets.folder import read_folder
from encoder.embed import prepare_file
from encoder.image_cache import open_images
from encoder.inference import prepare_inference
from encoder.memory import keep_memory
from encoder.student import StudentRecipe
from server_index.encode import open_encoder


def measure_encoding(checkpoint: Path, files: list[Path], rounds: int) -> dict[str, float]:
    """Compare database encoding with its parts measured alone, a second an image on all cores."""
    loaded = load_checkpoint(checkpoint)
    networks = {name: prepare_inference(loaded, precision=name) for name in ("fp32", "bf16")}
    images = np.stack([prepare_file(file, loaded.preprocess) for file in files])
    batches = [images[at : at + 32] for at in range(0, len(images), 32)]
    encoder = open_encoder(checkpoint)
    parts: dict[str, list[float]] = {name: [] for name in ("decode", "pipeline", *networks)}
    for network in networks.values():
        network.embed_images(batches[0])
    for _ in range(rounds):
        decode = on_one_core(lambda: [prepare_file(file, loaded.preprocess) for file in files])
        parts["decode"].append(decode)
        for name, network in networks.items():
            run = network.embed_images
            together = lambda run=run: [run(batch) for batch in batches]  # noqa: E731
            parts[name].append(min(CORES * seconds(together), on_one_core(together)))
        parts["pipeline"].append(CORES * seconds(lambda: list(encoder.encode_files(files))))
    each = {name: statistics.median(values) / len(files) for name, values in parts.items()}
    network_alone = min(each[name] for name in networks)
    return {
        "encode.images_per_s": CORES / each["pipeline"],
        "encode.limit_images_per_s": CORES / (each["decode"] + network_alone),
        "encode.vs_limit": (each["decode"] + network_alone) / each["pipeline"],
        "encode.decode_core_ms": 1e3 * each["decode"],
        "encode.network_core_ms": 1e3 * network_alone,
        "encode.outside_core_ms": 1e3 * (each["pipeline"] - network_alone),
    }


def measure_training(teacher: Checkpoint, data: Path, work: Path, rounds: int) -> dict[str, float]:
    """Compare distilling with cutting views, the teacher and a student's step, each alone."""
    recipe = StudentRecipe()
    table = read_folder(data)
    table = table.select(range(min(len(table), 1000)))
    images = open_images(table.files(), side=2 * teacher.preprocess.size)
    parts = prepare_parts(teacher, images, recipe)
    parts["loop"] = lambda: time_loop(teacher, table, recipe, work / "student")
    times = [{name: run() for name, run in parts.items()} for _ in range(rounds)]
    each = {name: statistics.median(time[name] for time in times) for name in parts}
    alone = each["views"] + each["teacher"] + each["student"]
    return {
        "train.views_per_s": CORES / each["loop"],
        "train.limit_views_per_s": CORES / alone,
        "train.vs_limit": alone / each["loop"],
        "train.views_core_ms": 1e3 * each["views"],
        "train.teacher_core_ms": 1e3 * each["teacher"],
        "train.student_core_ms": 1e3 * each["student"],
        "train.outside_core_ms": 1e3 * (each["loop"] - each["teacher"] - each["student"]),
    }


def measure_help() -> dict[str, float]:
    """Time `cli --help` from a cold interpreter."""
    cli = Path(__file__).parent.parent / "cli.py"
    command = [sys.executable, str(cli), "--help"]
    run = lambda: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
    return {"cli.help_s": statistics.median(seconds(run) for _ in range(7))}


def main() -> None:
    """Parse, measure and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of photos, class folders")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    begin_as_command_line()
    keep_memory()
    torch.set_num_threads(CORES)
    files = read_folder(arguments.data).files()
    chosen = [files[at] for at in np.random.default_rng(0).permutation(len(files))[:512]]
    figures = measure_help() | measure_encoding(arguments.teacher, chosen, arguments.rounds)
    with tempfile.TemporaryDirectory() as work:
        teacher = load_checkpoint(arguments.teacher)
        figures |= measure_training(teacher, arguments.data, Path(work), arguments.rounds)
    for name, value in figures.items():
        print(f"{name:<28} {value:8.3f}")
    command = "python benchmarks/speed.py --data DATA --teacher RUNS/cars-teacher"
    update_result(
        "first-chain",
        figures,
        part="speed",
        command=command,
        seed=0,
        rounds=arguments.rounds,
        data=arguments.data.name,
    )


if __name__ == "__main__":
    main()
