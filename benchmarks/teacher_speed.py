"""How near the training of a teacher is to its limit.

The limit is cores ÷ (core-seconds of cutting a view + core-seconds of the network's step on it),
each measured alone, in fp32, which is the fastest on a CPU. Decoding is done once, before.
"""

import dataclasses
import functools
import statistics
from pathlib import Path

import numpy as np
import torch
from timing import on_one_core, read_rate, seconds

from encoder.classed_images import open_classed
from encoder.datasets.splits import SplitRule, read_table, split_classes
from encoder.datasets.table import ImageTable
from encoder.inference import normalise_pixels
from encoder.losses.supervised import build_loss
from encoder.memory import count_cores
from encoder.optimisation import Optimisation, build_optimisers
from encoder.preprocess import Preprocess
from encoder.teacher import TeacherRecipe, head_of, start_model, train_teacher
from encoder.view_cutter import ViewCutter
from encoder.views import sample_views

CORES = count_cores()
RECIPE = TeacherRecipe(optimisation=Optimisation(epochs=1, lr=1e-6), centred=False)
_STEPS = 40


def measure_teacher_speed(data: Path, work: Path, rounds: int) -> dict[str, float]:
    """Compare the real loop with its parts, in alternating rounds; the medians count."""
    table = split_classes(read_table(data), SplitRule(val=0.0))
    classed, _ = open_classed(table.split("train"), side=2 * RECIPE.size)
    preprocess = Preprocess(RECIPE.size)
    batch = RECIPE.batch
    chosen = np.random.default_rng(0).permutation(len(classed.positions))[:batch]
    positions, targets = classed.positions[chosen], torch.from_numpy(classed.targets[chosen])
    views = sample_views(RECIPE.views, classed.images.aspects(positions), np.random.default_rng(0))
    cutter = ViewCutter(classed.images, preprocess)

    cut = functools.partial(cutter.cut, positions, views, RECIPE.size)
    pixels = cut()
    model = start_model(RECIPE.architecture, "").train()
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = build_loss(RECIPE.loss, classed.classes, RECIPE.architecture.dim)
    modules = [(model.trunk, 1.0), (head_of(model), 3.0), (loss, 10.0)]
    optimisers = build_optimisers(modules, RECIPE.optimisation, 10**6)

    def step() -> None:
        optimisers.clear()
        loss(model(normalise_pixels(pixels, preprocess)), targets).backward()
        optimisers.step()

    parts: dict[str, list[float]] = {"views": [], "network": [], "loop": []}
    step()
    for _ in range(rounds):
        parts["views"].append(on_one_core(cut) / batch)
        parts["network"].append(min(CORES * seconds(step), on_one_core(step)) / batch)
        parts["loop"].append(CORES / _loop_images_per_s(table, work))
    each = {name: statistics.median(values) for name, values in parts.items()}
    limit = each["views"] + each["network"]
    return {
        "train.images_per_s": CORES / each["loop"],
        "train.limit_images_per_s": CORES / limit,
        "train.vs_limit": limit / each["loop"],
        "train.view_core_ms": 1e3 * each["views"],
        "train.network_core_ms": 1e3 * each["network"],
        "train.outside_core_ms": 1e3 * (each["loop"] - each["network"]),
    }


def _loop_images_per_s(table: ImageTable, work: Path) -> float:
    """Run the real training for some steps and read its own log."""
    epochs = _STEPS * RECIPE.batch / len(table.split("train"))
    settings = dataclasses.replace(RECIPE.optimisation, epochs=epochs)
    recipe = dataclasses.replace(RECIPE, optimisation=settings)
    train_teacher(table, recipe, work / "teacher", overwrite=True)
    return read_rate(work / "teacher", RECIPE.batch)
