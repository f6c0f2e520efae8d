"""The parts of a distillation, each to be timed alone: cutting views, the teacher, the student."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import on_one_core, read_rate, seconds

from encoder.checkpoint import Checkpoint
from encoder.compared_views import compare_views
from encoder.datasets.table import ImageTable
from encoder.image_cache import DecodedImages
from encoder.inference import normalise_pixels, prepare_inference
from encoder.losses.asymmetric import asymmetric_loss
from encoder.memory import count_cores
from encoder.optimisation import Optimisation
from encoder.student import StudentRecipe, distil_student
from encoder.student_start import plan_start
from encoder.view_cutter import ViewCutter
from encoder.view_store import ViewStore
from encoder.views import sample_views

CORES = count_cores()
_STEPS = 30


def prepare_parts(
    teacher: Checkpoint, images: DecodedImages, recipe: StudentRecipe
) -> dict[str, Callable[[], float]]:
    """Return what times each part once, in core-seconds a view."""
    repeats = recipe.views_per_image
    rng = np.random.default_rng(0)
    positions = np.repeat(rng.permutation(images.positions)[: recipe.images], repeats)
    aspects = images.aspects(positions)
    views = sample_views(recipe.views, aspects, rng, population=len(images.positions))
    sizes = (teacher.preprocess.size, recipe.size)
    cut = functools.partial(ViewCutter(images, teacher.preprocess).cut, positions, views)
    large, small = (cut(size) for size in sizes)
    guides = [prepare_inference(teacher, precision=name) for name in ("fp32", "bf16")]
    for network in guides:
        network.embed_pixels(large)
    guide = min(guides, key=lambda network: seconds(lambda: network.embed_pixels(large)))
    model = plan_start(teacher, recipe.size, recipe.trunk, recipe.start).build(teacher).train()
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    aim = guide.extract_features(large).clone()

    def step() -> None:
        own = model.extract_features(normalise_pixels(small, teacher.preprocess))
        compared = compare_views(model, own, guide.network, aim, views=repeats)
        loss = asymmetric_loss(compared.terms, recipe.weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def at_its_fastest(run: Callable[[], object]) -> float:
        return min(CORES * seconds(run), on_one_core(run)) / len(views)

    step()
    return {
        "views": lambda: on_one_core(lambda: [cut(size) for size in sizes]) / len(views),
        "teacher": lambda: at_its_fastest(lambda: guide.embed_pixels(large)),
        "student": lambda: at_its_fastest(step),
    }


def time_loop(
    teacher: Checkpoint,
    table: ImageTable,
    recipe: StudentRecipe,
    output: Path,
    store: ViewStore | None = None,
) -> float:
    """Return core-seconds a view of the real distillation: thirty steps, read from its own log."""
    epochs = _STEPS * recipe.images / len(table)
    short = Optimisation(epochs=epochs, lr=1e-6, head_factor=1.0)
    distil_student(
        teacher,
        table,
        dataclasses.replace(recipe, optimisation=short),
        output,
        store=store,
        overwrite=True,
    )
    return CORES / (recipe.views_per_image * read_rate(output, recipe.images))
