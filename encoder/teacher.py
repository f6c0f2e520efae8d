"""Train the database encoder: classification as proxy-based metric learning (Zhai & Wu, 2019)."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import Tensor, nn

from encoder.atomic import new_folder
from encoder.backbones import build_trunk, input_statistics, load_imagenet, load_weights_file
from encoder.checkpoint import (
    CONFIG,
    METRICS,
    Checkpoint,
    digest_model,
    save_checkpoint,
)
from encoder.datasets.splits import SplitRule
from encoder.datasets.table import ImageTable, check_trainable
from encoder.embed import Quarantined, embed_all
from encoder.errors import PocketlensError
from encoder.evaluation.metrics import measure_retrieval
from encoder.image_cache import DecodedImages, open_images
from encoder.inference import choose_device, embed_with, normalise_pixels
from encoder.losses.classification import normalised_softmax
from encoder.memory import count_cores
from encoder.model import Architecture, EmbeddingModel
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.space import EmbeddingSpace, mint_space
from encoder.training import (
    MetricLog,
    Optimisation,
    ViewCutter,
    parameter_groups,
    run_training,
    seed_everything,
)
from encoder.views import ViewRecipe, sample_views


@dataclasses.dataclass(frozen=True)
class TeacherRecipe:
    """Hold every choice of a teacher's training.

    The first `early_share` of the steps runs at `early_size` (0 for the teacher's own size): half
    the pixels take half the time, and the last steps settle the network at its size.
    """

    architecture: Architecture = Architecture()
    size: int = 224
    fit: str = "squash"
    crop: float = 1.0
    early_size: int = 0
    early_share: float = 0.6
    optimisation: Optimisation = Optimisation(epochs=12, lr=5e-4)
    batch: int = 64
    images_per_class: int = 4
    temperature: float = 0.07
    proxy_factor: float = 10.0
    views: ViewRecipe = ViewRecipe(mix_alpha=0.0)
    weights: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images_per_class < 2 or self.batch % self.images_per_class:
            raise PocketlensError(
                f"--batch {self.batch} must be a multiple of --images-per-class "
                f"{self.images_per_class}, and that at least 2"
            )
        if not 0.01 <= self.temperature <= 1:
            raise PocketlensError(f"--temperature {self.temperature} is not between 0.01 and 1")
        if not 0 <= self.early_share < 1:
            raise PocketlensError(f"--early-share {self.early_share} is not at least 0 and below 1")


def start_model(architecture: Architecture, weights: str) -> EmbeddingModel:
    """Build a model with ImageNet weights, or those of a safetensors file, in its trunk."""
    trunk = build_trunk(architecture.trunk)
    if weights:
        load_weights_file(trunk, Path(weights))
    else:
        load_imagenet(trunk, architecture.trunk)
    return EmbeddingModel(architecture, trunk)


def train_teacher(
    table: ImageTable,
    recipe: TeacherRecipe,
    output: Path,
    *,
    split: SplitRule | None = None,
    overwrite: bool = False,
) -> tuple[Checkpoint, tuple[Quarantined, ...]]:
    """Train on the table's training split and write a checkpoint folder.

    Validation classes, where there are any, are measured after each epoch and never trained on.
    `split`, the rule that divided the table, is kept with the checkpoint, so that whoever uses it
    later divides alike.
    Returns the checkpoint and the images that could not be read.

    Raises:
        PocketlensError: when the data or the recipe cannot train, or the output must not be
            replaced.
    """
    rng = seed_everything(recipe.seed)
    training = table.split("train")
    check_trainable(training, where=str(table.root))
    device = choose_device()
    if device.type == "cpu":
        torch.set_num_threads(count_cores())
    mean, std = input_statistics(recipe.architecture.trunk)
    preprocess = Preprocess(recipe.size, recipe.fit, recipe.crop, mean, std)  # type: ignore[arg-type]
    with new_folder(output, marker=CONFIG, overwrite=overwrite) as folder:
        with track("reading images", len(training)) as advance:
            images = open_images(training.files(), side=2 * recipe.size, advance=advance)
        labels = training.labels()[images.positions]
        check_trainable(training.select(images.positions), where=f"{table.root} (readable images)")
        model = start_model(recipe.architecture, recipe.weights)
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        log = MetricLog(folder / METRICS)
        _optimise(model, images, labels, preprocess, recipe, rng, table.split("val"), log, device)
        checkpoint = _mint(model.cpu().eval(), preprocess, recipe, table, split or SplitRule())
        save_checkpoint(checkpoint, folder)
        log.close()
    return checkpoint, images.quarantined


def _optimise(
    model: EmbeddingModel,
    images: DecodedImages,
    labels: NDArray[np.int64],
    preprocess: Preprocess,
    recipe: TeacherRecipe,
    rng: np.random.Generator,
    validation: ImageTable,
    log: MetricLog,
    device: torch.device,
) -> None:
    names, targets = np.unique(labels, return_inverse=True)
    loss = normalised_softmax(len(names), recipe.architecture.dim, recipe.temperature).to(device)
    batch = _batch_size(recipe, len(names))
    steps = max(1, round(recipe.optimisation.epochs * len(labels) / batch))
    steps_early = round(steps * recipe.early_share) if recipe.early_size else 0
    cutter = ViewCutter(images)
    drawn = _draw_batches(targets, batch, recipe.images_per_class)
    step_now = 0

    def compute_loss(chosen: NDArray[np.int64]) -> tuple[Tensor, dict[str, float], int]:
        nonlocal step_now
        size = recipe.early_size if step_now < steps_early else recipe.size
        step_now += 1
        positions = images.positions[chosen]
        views = sample_views(recipe.views, images.aspects(positions), rng)
        pixels = cutter.cut(positions, views, size, device)
        embeddings = model(normalise_pixels(pixels, preprocess))
        value = loss(embeddings, torch.from_numpy(targets[chosen]).to(device))
        return value, {"loss": float(value.detach())}, len(chosen)

    steps_per_epoch = max(1, len(labels) // batch)

    def validate(step: int) -> None:
        if len(validation) and (step % steps_per_epoch == 0 or step == steps):
            model.eval()
            log.write(step=step, **_validate(model, preprocess, recipe, validation))
            model.train()

    model.train()
    settings = recipe.optimisation
    modules = [(model.trunk, 1.0), (head_of(model), settings.head_factor)]
    groups = parameter_groups([*modules, (loss, recipe.proxy_factor)], settings)
    with track("training the teacher", steps * batch) as advance:
        run_training(
            steps,
            drawn,
            compute_loss,
            groups,
            recipe.optimisation,
            log,
            advance,
            after_step=validate,
        )
    cutter.close()


def head_of(model: EmbeddingModel) -> nn.Module:
    """Return the layers behind the trunk that have weights."""
    return nn.ModuleList([model.projection, *([model.pool] if model.pool else [])])


def _batch_size(recipe: TeacherRecipe, classes: int) -> int:
    """Return the batch size, smaller where there are too few classes to fill it."""
    return min(recipe.batch, classes * recipe.images_per_class)


def _draw_batches(
    targets: NDArray[np.int64], batch: int, per_class: int
) -> Iterator[NDArray[np.int64]]:
    sampler = MPerClassSampler(
        targets, per_class, batch_size=batch, length_before_new_iter=max(batch, len(targets))
    )
    while True:
        order = np.fromiter(sampler, np.int64)
        for start in range(0, len(order) - batch + 1, batch):
            yield order[start : start + batch]


def _validate(
    model: EmbeddingModel, preprocess: Preprocess, recipe: TeacherRecipe, validation: ImageTable
) -> dict[str, float]:
    placeholder = EmbeddingSpace("0" * 16, recipe.architecture.dim, "teacher")
    snapshot = Checkpoint(model, recipe.architecture, preprocess, placeholder, "teacher")
    embedded = embed_all(validation.files(), preprocess, embed_with(snapshot, precision="auto"))
    labels = validation.labels()[embedded.positions]
    vectors = embedded.vectors
    found = measure_retrieval(vectors, labels, vectors, labels, same_images=True)
    return {f"val_{name}": round(value, 3) for name, value in found.means().items()}


def _mint(
    model: EmbeddingModel,
    preprocess: Preprocess,
    recipe: TeacherRecipe,
    table: ImageTable,
    split: SplitRule,
) -> Checkpoint:
    space = mint_space("teacher", recipe.architecture.dim, digest_model(model))
    provenance: dict[str, Any] = {
        "recipe": dataclasses.asdict(recipe),
        "seed": recipe.seed,
        "split": dataclasses.asdict(split),
        "trained_on": table.split("train").class_names(),
        "data": {
            "source": table.root.name,
            "images": len(table),
            "fingerprint": table.fingerprint(),
        },
    }
    return Checkpoint(model, recipe.architecture, preprocess, space, "teacher", None, provenance)
