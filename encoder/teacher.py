"""Train the database encoder: classification as proxy-based metric learning (Zhai & Wu, 2019)."""

import dataclasses
import functools
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder.atomic import check_output, new_folder
from encoder.backbones import build_trunk, input_statistics, load_imagenet, load_weights_file
from encoder.batches import ClassBalancedBatches
from encoder.centring import centre_projection
from encoder.checkpoint import (
    CONFIG,
    METRICS,
    Checkpoint,
    digest_model,
    save_checkpoint,
)
from encoder.classed_images import ClassedImages, open_classed
from encoder.companion import Begun, Companion, LearntBatch, Term
from encoder.core_workers import CoreWorkers
from encoder.datasets.splits import SplitRule
from encoder.datasets.table import ImageTable, check_trainable
from encoder.embed import Quarantined, embed_all
from encoder.errors import PocketlensError
from encoder.evaluation.metrics import measure_retrieval
from encoder.head_start import HeadStart, start_projection, start_proxies
from encoder.inference import choose_device, prepare_network
from encoder.losses.supervised import LossRecipe, build_loss
from encoder.memory import count_cores
from encoder.model import Architecture, EmbeddingModel
from encoder.optimisation import Optimisation, check_positive, resolve_precision
from encoder.parallel_features import count_ahead, extract_features
from encoder.preprocess import Preprocess
from encoder.space import mint_space
from encoder.training import (
    BatchLoss,
    Training,
    check_seed,
    count_steps,
    run_training,
    seed_everything,
)
from encoder.training_state import StateFolder, identify, is_begun, open_state
from encoder.view_cutter import ViewCutter, divide_views
from encoder.views import ViewRecipe, sample_views

# Validation classes below which the last weights are kept.
FEWEST_CLASSES = 5


@dataclasses.dataclass(frozen=True)
class TeacherRecipe:
    """Hold every choice of a teacher's training.

    A `small_share` of the steps, drawn at random, runs at `small_size` (0 for none): a quarter of
    the pixels takes a quarter of the time, and a space that is learnt at both sizes is nearer to
    what a student of the small size can reach. `start` says whether projection and proxies start
    at the principal directions of the training images' features and at the classes' means, where
    the images are enough for it, or at random. `centred` moves the finished embedding so that its
    mean is zero and its signs are codes; `whitening` then evens its directions out, 0 to 1.
    """

    architecture: Architecture = Architecture()
    size: int = 224
    fit: str = "squash"
    interpolation: str = "bilinear"
    crop: float = 1.0
    small_size: int = 0
    small_share: float = 0.5
    optimisation: Optimisation = Optimisation(epochs=12, lr=1e-4)
    batch: int = 64
    images_per_class: int = 4
    loss: LossRecipe = LossRecipe()
    proxy_factor: float = 10.0
    views: ViewRecipe = ViewRecipe(mix_alpha=0.0)
    weights: str = ""
    start: HeadStart = "features"
    centred: bool = True
    whitening: float = 0.35
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images_per_class < 2 or self.batch < 2 or self.batch % self.images_per_class:
            raise PocketlensError(
                f"--batch {self.batch} must be a multiple of --images-per-class "
                f"{self.images_per_class}, and that at least 2"
            )
        check_positive("proxy_factor", self.proxy_factor)
        check_seed(self.seed)
        if self.start not in get_args(HeadStart):
            raise PocketlensError(f"--start {self.start!r} is not features or random")
        if not 0 <= self.whitening <= 1:
            raise PocketlensError(f"--whiten {self.whitening} is not in 0..1")
        _ = self.preprocess  # refuses what it cannot do
        if self.loss.class_share < 1 and self.optimisation.optimiser == "sgd":
            raise PocketlensError("--class-share below 1 needs --optimiser adamw")
        if self.loss.nested and max(self.loss.nested) >= self.architecture.dim:
            longest, dim = max(self.loss.nested), self.architecture.dim
            raise PocketlensError(f"--nested {longest} is not below --dim {dim}")
        if self.small_size and not 16 <= self.small_size <= 2048:
            raise PocketlensError(f"--small-size {self.small_size} is not 0 or between 16 and 2048")
        if self.small_size >= self.size:
            raise PocketlensError(f"--small-size {self.small_size} is not below --size {self.size}")
        if not 0 <= self.small_share < 1:
            raise PocketlensError(f"--small-share {self.small_share} is not at least 0 and below 1")

    @property
    def preprocess(self) -> Preprocess:
        """Return the preprocessing, but for what the trunk says of mean and deviation."""
        return Preprocess(
            self.size,
            self.fit,  # type: ignore[arg-type]
            self.crop,
            interpolation=self.interpolation,  # type: ignore[arg-type]
        )


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
    data: dict[str, str | int] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    companion: Companion | None = None,
    tensorboard: Path | None = None,
) -> tuple[Checkpoint, tuple[Quarantined, ...]]:
    """Train on the table's training split and write a checkpoint folder.

    Validation classes, where there are any, are measured after each epoch and never trained on; the
    weights that were best there are kept, where the classes are enough (`may_choose`). `split`, the
    rule that divided the table, is kept with the checkpoint, so that whoever uses it later divides
    alike; where `table` is a fold, `data` describes the table that it was made of, divided by that
    rule. A `companion` adds to the loss.
    With `resume` a training of this output that was stopped goes on, to the same weights as if it
    had not been.
    Returns the checkpoint and the images that could not be read.

    Raises:
        PocketlensError: when the data or the recipe cannot train, or the output must not be
            replaced.
    """
    check_output(output, marker=CONFIG, overwrite=overwrite)
    device = choose_device()
    settings = resolve_precision(recipe.optimisation, device)
    recipe = dataclasses.replace(recipe, loss=recipe.loss.resolved(), optimisation=settings)
    seed_everything(recipe.seed)
    training = select_training(table)
    if recipe.optimisation.patience and not has_pair(table.split("val").labels()):
        raise PocketlensError("--patience needs a validation class with two images")
    if recipe.start == "features":
        with_bias = dataclasses.replace(recipe.architecture, bias=True)
        recipe = dataclasses.replace(recipe, architecture=with_bias)
    model = start_model(recipe.architecture, recipe.weights)
    if device.type == "cpu":
        torch.set_num_threads(count_cores())
    mean, std = input_statistics(recipe.architecture.trunk)
    preprocess = dataclasses.replace(recipe.preprocess, mean=mean, std=std)
    split = split or SplitRule()
    described = table.describe()
    provenance = {**_describe(recipe, table, split), "data": data or described}
    if companion:
        provenance |= companion.provenance
    identity = identify(start=digest_model(model), table=described, **provenance)
    with open_state(output, identity, resume=resume, overwrite=overwrite) as state:
        chosen, quarantined = open_classed(training, side=2 * recipe.size)
        dim = recipe.architecture.dim
        begun = companion.begin(chosen, dim) if companion else Begun()
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        judge = functools.partial(_validate, preprocess, recipe, table.split("val"))
        judging = _Judging(judge, may_choose(table, settings.patience))
        files = [chosen.images.files[position] for position in chosen.positions]
        means = None
        if recipe.start == "features" and not is_begun(state):
            means = start_projection(
                model, recipe.architecture, preprocess, files, chosen.targets, begun.aim
            )
        _optimise(model, chosen, preprocess, recipe, judging, state, begun.term, means, tensorboard)
        model = model.cpu().eval()
        architecture = recipe.architecture
        if recipe.centred:
            architecture = centre_projection(
                model, architecture, preprocess, files, whitening=recipe.whitening
            )
        checkpoint = _mint(model, architecture, preprocess, provenance)
        with new_folder(output, marker=CONFIG, overwrite=overwrite) as folder:
            shutil.copyfile(state.log, folder / METRICS)
            if companion:
                checkpoint = companion.finish(checkpoint, folder)
            save_checkpoint(checkpoint, folder)
    return checkpoint, quarantined


def select_training(table: ImageTable) -> ImageTable:
    """Return the labelled training rows.

    Raises:
        PocketlensError: when no metric can be learnt from them.
    """
    training = table.select(
        index for index, row in enumerate(table.rows) if row.split == "train" and row.label
    )
    check_trainable(training, where=str(table.root))
    return training


@dataclasses.dataclass(frozen=True)
class _Judging:
    """Hold how the network is measured as it learns, and whether that chooses its weights."""

    judge: Callable[[nn.Module], dict[str, float]]
    choose: bool


@dataclasses.dataclass(frozen=True)
class _Shown:
    """Hold what a batch shows: uint8 `[n, h, w, 3]`, and the classes."""

    positions: NDArray[np.int64]
    pixels: Tensor
    targets: Tensor


def _optimise(
    model: EmbeddingModel,
    chosen: ClassedImages,
    preprocess: Preprocess,
    recipe: TeacherRecipe,
    judging: _Judging,
    state: StateFolder,
    term: Term | None,
    means: Tensor | None,
    tensorboard: Path | None,
) -> None:
    device = next(model.parameters()).device
    bfloat16 = recipe.optimisation.precision == "bf16"
    loss = build_loss(recipe.loss, chosen.classes, recipe.architecture.dim).to(device)
    if means is not None:
        start_proxies(loss, means.to(device))
    count = min(recipe.batch, chosen.classes * recipe.images_per_class)
    batches = ClassBalancedBatches(chosen.targets, count, recipe.images_per_class, recipe.seed)
    steps, steps_per_pass = count_steps(len(chosen.positions), count, recipe.optimisation)

    cutter = ViewCutter(chosen.images, preprocess)

    def show(number: int, rng: np.random.Generator) -> Callable[[], _Shown]:
        drawn = batches.draw(number)
        positions = chosen.positions[drawn]
        views = sample_views(recipe.views, chosen.images.aspects(positions), rng)
        small = recipe.small_size and rng.random() < recipe.small_share
        size = recipe.small_size if small else recipe.size
        started = workers.start(
            [
                functools.partial(cutter.cut, positions[part], views[part], size)
                for part in divide_views(len(views))
            ]
        )
        return lambda: _Shown(
            positions,
            torch.cat([future.result() for future in started]).to(device),
            torch.from_numpy(chosen.targets[drawn]).to(device),
        )

    def compute_loss(number: int, shown: _Shown) -> BatchLoss:
        features = extract_features(model, shown.pixels, preprocess, workers, bfloat16=bfloat16)
        embeddings = model.project(features)
        value = loss(embeddings, shown.targets)
        figures = {"loss": float(value.detach())}
        if term:
            batch = LearntBatch(embeddings, shown.positions, shown.targets, loss)
            added, shown_too = term(batch)
            value, figures = value + added, figures | shown_too
        return BatchLoss(value, figures, chosen.images.paths(shown.positions))

    settings = recipe.optimisation
    modules = [(model.trunk, 1.0), (head_of(model), settings.head_factor)]
    with CoreWorkers(device) as workers:
        training = Training(
            "training the teacher",
            model,
            [*modules, (loss, recipe.proxy_factor)],
            steps,
            steps_per_pass,
            count,
            show,
            compute_loss,
            judging.judge,
            ahead=count_ahead(model, device),
            beside=loss,
            tensorboard=tensorboard,
            choose=judging.choose,
        )
        run_training(training, settings, recipe.seed, state)


def head_of(model: EmbeddingModel) -> nn.Module:
    """Return the layers behind the trunk that have weights."""
    return nn.ModuleList([model.projection, *([model.pool] if model.pool else [])])


def may_choose(table: ImageTable, patience: int) -> bool:
    """Return whether the validation classes are enough to say which weights are best.

    Of a few classes almost any space tells one from the other: what is better there is chance. Who
    asks for patience has judged that they are enough.
    """
    labels = [row.label for row in table.split("val").rows if row.label]
    # A class of one image asks nothing.
    asked = sum(count > 1 for count in Counter(labels).values())
    return patience > 0 or asked >= FEWEST_CLASSES


def has_pair(labels: NDArray[np.int64]) -> bool:
    """Return whether some class has two images."""
    return bool(np.bincount(labels[labels >= 0], minlength=1).max() >= 2)


def _validate(
    preprocess: Preprocess, recipe: TeacherRecipe, validation: ImageTable, model: nn.Module
) -> dict[str, float]:
    """Measure the network as it is now on the validation classes; nothing where none has a pair."""
    assert isinstance(model, EmbeddingModel)
    network = prepare_network(model, recipe.architecture, preprocess, precision="auto")
    embedded = embed_all(validation.sources(), preprocess, network.embedder)
    labels = validation.labels()[embedded.positions]
    vectors = embedded.vectors
    if not has_pair(labels):
        return {}
    if not np.isfinite(vectors).all():
        return {"val_map_at_r": math.nan}
    found = measure_retrieval(vectors, labels, vectors, labels, same_images=True)
    return {f"val_{name}": round(value, 3) for name, value in found.means().items()}


def _describe(recipe: TeacherRecipe, table: ImageTable, split: SplitRule) -> dict[str, Any]:
    return {
        "recipe": dataclasses.asdict(recipe),
        "seed": recipe.seed,
        "split": dataclasses.asdict(split),
        "trained_on": table.split("train").class_names(),
    }


def _mint(
    model: EmbeddingModel,
    architecture: Architecture,
    preprocess: Preprocess,
    provenance: dict[str, Any],
) -> Checkpoint:
    space = mint_space("teacher", architecture.dim, digest_model(model))
    return Checkpoint(model, architecture, preprocess, space, "teacher", None, provenance)
