"""Train the database encoder: classification as proxy-based metric learning (Zhai & Wu, 2019)."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
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
from encoder.inference import choose_device, normalise_pixels, prepare_network
from encoder.losses.supervised import LossRecipe, build_loss
from encoder.memory import count_cores
from encoder.model import Architecture, EmbeddingModel
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.space import mint_space
from encoder.training import (
    MetricLog,
    Optimisation,
    ViewCutter,
    check_positive,
    diverged,
    parameter_groups,
    run_training,
    seed_everything,
)
from encoder.views import ViewRecipe, sample_views


@dataclasses.dataclass(frozen=True)
class TeacherRecipe:
    """Hold every choice of a teacher's training.

    A `small_share` of the steps, drawn at random, runs at `small_size` (0 for none): a quarter of
    the pixels takes a quarter of the time, and a space that is learnt at both sizes is nearer to
    what a student of the small size can reach.
    """

    architecture: Architecture = Architecture()
    size: int = 224
    fit: str = "squash"
    crop: float = 1.0
    small_size: int = 0
    small_share: float = 0.5
    optimisation: Optimisation = Optimisation(epochs=12, lr=5e-4)
    batch: int = 64
    images_per_class: int = 4
    loss: LossRecipe = LossRecipe()
    proxy_factor: float = 10.0
    views: ViewRecipe = ViewRecipe(mix_alpha=0.0)
    weights: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images_per_class < 2 or self.batch < 2 or self.batch % self.images_per_class:
            raise PocketlensError(
                f"--batch {self.batch} must be a multiple of --images-per-class "
                f"{self.images_per_class}, and that at least 2"
            )
        check_positive("proxy_factor", self.proxy_factor)
        if self.small_size and not 16 <= self.small_size <= 2048:
            raise PocketlensError(f"--small-size {self.small_size} is not 0 or between 16 and 2048")
        if self.small_size >= self.size:
            raise PocketlensError(f"--small-size {self.small_size} is not below --size {self.size}")
        if not 0 <= self.small_share < 1:
            raise PocketlensError(f"--small-share {self.small_share} is not at least 0 and below 1")


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
    recipe = dataclasses.replace(recipe, loss=recipe.loss.resolved())
    rng = seed_everything(recipe.seed)
    training = table.select(
        index for index, row in enumerate(table.rows) if row.split == "train" and row.label
    )
    check_trainable(training, where=str(table.root))
    model = start_model(recipe.architecture, recipe.weights)
    device = choose_device()
    if device.type == "cpu":
        torch.set_num_threads(count_cores())
    mean, std = input_statistics(recipe.architecture.trunk)
    preprocess = Preprocess(recipe.size, recipe.fit, recipe.crop, mean, std)  # type: ignore[arg-type]
    with (
        new_folder(output, marker=CONFIG, overwrite=overwrite) as folder,
        contextlib.closing(MetricLog(folder / METRICS)) as log,
    ):
        with track("reading images", len(training)) as advance:
            images = open_images(training.sources(), side=2 * recipe.size, advance=advance)
        chosen, dropped = _choose_images(training, images)
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        validate = functools.partial(_validate, model, preprocess, recipe, table.split("val"))
        _optimise(model, chosen, preprocess, recipe, rng, validate, log)
        checkpoint = _mint(model.cpu().eval(), preprocess, recipe, table, split or SplitRule())
        save_checkpoint(checkpoint, folder)
    return checkpoint, (*images.quarantined, *dropped)


@dataclasses.dataclass(frozen=True)
class _TrainingImages:
    """Hold the decoded images, the positions trained on and each one's class number."""

    images: DecodedImages
    positions: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def classes(self) -> int:
        return int(self.targets.max()) + 1


def _choose_images(
    training: ImageTable, images: DecodedImages
) -> tuple[_TrainingImages, tuple[Quarantined, ...]]:
    """Keep the classes that still have two readable images; name the images of the others."""
    labels = training.labels()[images.positions]
    enough = np.bincount(labels, minlength=1)[labels] >= 2
    positions = images.positions[enough]
    kept, targets = np.unique(labels[enough], return_inverse=True)
    if len(kept) < 2:
        raise PocketlensError(f"{training.root}: fewer than two classes have two readable images")
    dropped = tuple(
        Quarantined(int(position), str(file), f"{file}: the only readable image of its class")
        for position in images.positions[~enough]
        for file in [training.files()[position]]
    )
    return _TrainingImages(images, positions, targets), dropped


def _optimise(
    model: EmbeddingModel,
    chosen: _TrainingImages,
    preprocess: Preprocess,
    recipe: TeacherRecipe,
    rng: np.random.Generator,
    validate: Callable[[], dict[str, float]],
    log: MetricLog,
) -> None:
    device = next(model.parameters()).device
    loss = build_loss(recipe.loss, chosen.classes, recipe.architecture.dim, rng).to(device)
    count = len(chosen.positions)
    batch = min(recipe.batch, chosen.classes * recipe.images_per_class)
    steps = max(1, round(recipe.optimisation.epochs * count / batch))
    steps_per_epoch = max(1, count // batch)

    def compute_loss(
        cutter: ViewCutter, drawn: NDArray[np.int64]
    ) -> tuple[Tensor, dict[str, float], int]:
        positions = chosen.positions[drawn]
        views = sample_views(recipe.views, chosen.images.aspects(positions), rng)
        small = recipe.small_size and rng.random() < recipe.small_share
        size = recipe.small_size if small else recipe.size
        pixels = cutter.cut(positions, views, size, device)
        embeddings = model(normalise_pixels(pixels, preprocess))
        value = loss(embeddings, torch.from_numpy(chosen.targets[drawn]).to(device))
        return value, {"loss": float(value.detach())}, len(drawn)

    def after_step(step: int) -> None:
        if step % steps_per_epoch == 0 or step == steps:
            model.eval()
            figures = validate()
            if not all(map(math.isfinite, figures.values())):
                raise diverged("the embedding of a validation image", step, steps)
            if figures:
                log.write(step=step, **figures)
            model.train()

    model.train()
    settings = recipe.optimisation
    modules = [(model.trunk, 1.0), (head_of(model), settings.head_factor)]
    groups = parameter_groups([*modules, (loss, recipe.proxy_factor)], settings)
    batches = _draw_batches(chosen.targets, batch, recipe.images_per_class)
    with (
        track("training the teacher", steps * batch) as advance,
        contextlib.closing(ViewCutter(chosen.images)) as cutter,
    ):
        loss_of = functools.partial(compute_loss, cutter)
        run_training(steps, batches, loss_of, groups, settings, log, advance, after_step=after_step)


def head_of(model: EmbeddingModel) -> nn.Module:
    """Return the layers behind the trunk that have weights."""
    return nn.ModuleList([model.projection, *([model.pool] if model.pool else [])])


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
    """Measure the network as it is now on the validation classes; nothing where none has a pair."""
    network = prepare_network(model, recipe.architecture, preprocess, precision="auto")
    embedded = embed_all(validation.sources(), preprocess, network.embedder)
    labels = validation.labels()[embedded.positions]
    vectors = embedded.vectors
    if np.bincount(labels[labels >= 0], minlength=1).max() < 2:
        return {}
    if not np.isfinite(vectors).all():
        return {"val_map_at_r": math.nan}
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
        "data": table.describe(),
    }
    return Checkpoint(model, recipe.architecture, preprocess, space, "teacher", None, provenance)
