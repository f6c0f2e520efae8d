"""Distil the query encoder: the teacher's space at a smaller input (Suma & Tolias, 2023)."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.atomic import check_output, new_folder
from encoder.batches import ShuffledBatches
from encoder.checkpoint import (
    CONFIG,
    METRICS,
    Alignment,
    Checkpoint,
    digest_model,
    save_checkpoint,
)
from encoder.compared_views import compare_views
from encoder.core_workers import CoreWorkers
from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined, embed_all
from encoder.errors import PocketlensError
from encoder.image_cache import DecodedImages
from encoder.images import Source
from encoder.inference import Inference, choose_device, prepare_inference
from encoder.losses.asymmetric import AsymmetricWeights, asymmetric_loss
from encoder.losses.contextual import contextual_term
from encoder.model import EmbeddingModel
from encoder.optimisation import Optimisation, resolve_precision
from encoder.parallel_features import count_ahead, extract_features
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.shown_views import (
    DrawViews,
    ShownViews,
    draw_new_views,
    draw_stored_views,
    start_showing,
)
from encoder.student_start import Beginning, Start, fit_start, plan_start, share_channels
from encoder.teacher import head_of
from encoder.training import (
    BatchLoss,
    Training,
    count_steps,
    mix_in_weights,
    run_training,
    seed_everything,
)
from encoder.training_state import StateFolder, identify, open_state
from encoder.unlabelled_images import open_unlabelled, training_images
from encoder.view_cutter import ViewCutter
from encoder.view_store import ViewStore, check_store, verify_blocks
from encoder.views import QUERY_VIEWS, ViewRecipe

# Enough to hold an image's like; each batch looks at all of them.
_MOST_NEIGHBOURS = 20_000


@dataclasses.dataclass(frozen=True)
class StudentRecipe:
    """Hold every choice of a student's training.

    `elastic` are other sizes that the same weights serve: each batch is shown at one of them all.
    `trunk` is a timm model, or the teacher's where it is empty. `start` says whose weights it
    starts from: where it is empty, the teacher's if the trunk is or stands in it side by side with
    others, else ImageNet's or those of `weights_file`. Any projection but that of the whole teacher
    is then fitted to the teacher's vectors of the training images.

    `keep` is the share of the weights at the start that is mixed back in at the end. Of each view
    the `nearest` training images are the neighbourhood whose ranking is learnt, from a share of
    `neighbours_from` of the training on: a student far from its teacher is held up by it.
    `with_validation` is for the last run, when every choice is made: the validation images are
    trained on too, and the alignment is shown on other images held out.
    """

    size: int = 112
    elastic: tuple[int, ...] = ()
    trunk: str = ""
    views_per_image: int = 2
    images: int = 32
    optimisation: Optimisation = Optimisation(epochs=6, lr=2e-4, head_factor=1.0)
    weights: AsymmetricWeights = AsymmetricWeights()
    views: ViewRecipe = QUERY_VIEWS
    start: Start = ""
    weights_file: str = ""
    keep: float = 0.0
    nearest: int = 128
    neighbours_from: float = 0.7
    neighbour_temperature: float = 0.05
    teacher_precision: str = "auto"
    with_validation: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for size in self.elastic:
            if not 16 <= size <= 2048:
                raise PocketlensError(f"--elastic {size} is not between 16 and 2048")
        if not 1 <= self.views_per_image <= 32 or not 1 <= self.images <= 1024:
            raise PocketlensError("--views must be in 1..32 and --images in 1..1024")
        if self.start not in ("", "teacher", "imagenet"):
            raise PocketlensError(f"--start {self.start!r} is not teacher or imagenet")
        if not 0 <= self.keep < 1:
            raise PocketlensError(f"--keep {self.keep} is not at least 0 and below 1")
        if not 0 <= self.neighbours_from < 1:
            raise PocketlensError(
                f"--neighbours-from {self.neighbours_from} is not at least 0 and below 1"
            )
        if not 2 <= self.nearest <= 4096:
            raise PocketlensError(f"--nearest {self.nearest} is not in 2..4096")
        if not 0.001 <= self.neighbour_temperature <= 1:
            raise PocketlensError(
                f"--neighbour-temperature {self.neighbour_temperature} is not in 0.001..1"
            )


def distil_student(
    teacher: Checkpoint,
    table: ImageTable,
    recipe: StudentRecipe,
    output: Path,
    *,
    store: ViewStore | None = None,
    overwrite: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
) -> tuple[Checkpoint, tuple[Quarantined, ...]]:
    """Train a student of the teacher on the table's training images and write its checkpoint.

    Labels are not used. The student carries the teacher's space; its alignment is measured on
    images held out of the training. With a `store` of the same images the teacher does not look at
    views again. With `resume` a training of this output that was stopped goes on. Returns it and
    the images that could not be read.

    Raises:
        PocketlensError: when there are no images, or the output must not be replaced.
    """
    check_output(output, marker=CONFIG, overwrite=overwrite)
    plan = plan_student(teacher, table, recipe, store)
    recipe, beginning, model = plan.recipe, plan.beginning, plan.model
    preprocess = beginning.preprocess
    identity = identify(start=digest_model(model), **plan.provenance)
    with open_state(output, identity, resume=resume, overwrite=overwrite) as state:
        if store is not None:
            with track("checking the views", store.layout.images) as advance:
                verify_blocks(store, advance)
        images, held_out = open_unlabelled(
            table,
            side=2 * teacher.preprocess.size,
            with_validation=recipe.with_validation,
            rng=plan.rng if store is None else store.source_of_held_out(),
        )
        if store is not None:
            images = _take_stored(store, images)
        guide = prepare_inference(teacher, precision=recipe.teacher_precision)
        database = None
        if recipe.weights.neighbours or not beginning.of_teacher:
            places, database = _embed_database(guide, images, recipe.seed, store)
            if not beginning.of_teacher:
                files = [images.files[position] for position in images.positions[places]]
                fit_start(model, beginning, files, database.cpu().numpy(), guide.precision)
            if not recipe.weights.neighbours:
                database = None
        model = model.to(guide.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        start = {name: weight.clone() for name, weight in model.state_dict().items()}
        channels = share_channels(teacher, beginning.architecture.trunk)
        _optimise(
            model, guide, preprocess, images, recipe, state, database, store, channels, tensorboard
        )
        if recipe.keep:
            mix_in_weights(model, start, recipe.keep)
        student = Checkpoint(
            model.cpu().eval(),
            beginning.architecture,
            preprocess,
            teacher.space,
            "student",
            provenance=plan.provenance,
        )
        student.alignment = measure_alignment(student, teacher, held_out)
        with new_folder(output, marker=CONFIG, overwrite=overwrite) as folder:
            shutil.copyfile(state.log, folder / METRICS)
            save_checkpoint(student, folder)
    return student, images.quarantined


@dataclasses.dataclass(frozen=True)
class StudentPlan:
    """Hold what is settled before an image is read: the recipe as followed, where it starts."""

    recipe: StudentRecipe
    beginning: Beginning
    model: EmbeddingModel
    provenance: dict[str, Any]
    rng: np.random.Generator


def plan_student(
    teacher: Checkpoint, table: ImageTable, recipe: StudentRecipe, store: ViewStore | None
) -> StudentPlan:
    """Check all that can be checked before an image is read, and build the network.

    Seeds every random choice.

    Raises:
        PocketlensError: when options contradict each other, a trunk or its weights cannot be had,
            or the store is another teacher's or of other images.
    """
    rng = seed_everything(recipe.seed)
    training = training_images(table, with_validation=recipe.with_validation)
    if store is not None:
        check_store(store, teacher, training)
        if recipe.views_per_image > store.layout.views:
            raise PocketlensError(
                f"--views {recipe.views_per_image}: {store.folder} holds {store.layout.views} of "
                "each image"
            )
        recipe = dataclasses.replace(recipe, views=store.manifest.recipe)
    beginning = plan_start(teacher, recipe.size, recipe.trunk, recipe.start, recipe.weights_file)
    views = dataclasses.replace(recipe.views, fit=beginning.preprocess.fit)
    settings = resolve_precision(recipe.optimisation, choose_device())
    recipe = dataclasses.replace(recipe, views=views, optimisation=settings)
    if recipe.keep and not (beginning.as_teacher and beginning.architecture.batch_norm == "folded"):
        # The statistics of a mix of two networks are not the mix of their statistics.
        raise PocketlensError(
            f"--keep {recipe.keep} needs --start teacher and a teacher of folded batch norms"
        )
    provenance = _describe(teacher, recipe, table, training, store)
    return StudentPlan(recipe, beginning, beginning.build(teacher), provenance, rng)


def _take_stored(store: ViewStore, images: DecodedImages) -> DecodedImages:
    """Return the images of which views are stored: the others were held out.

    Raises:
        PocketlensError: when one of them can no longer be read.
    """
    if not np.isin(store.positions, images.positions).all():
        raise PocketlensError(
            f"{store.folder}: some of its images can no longer be read, or were held out; make "
            "views anew"
        )
    return dataclasses.replace(images, positions=store.positions)


def _embed_database(
    guide: Inference, images: DecodedImages, seed: int, store: ViewStore | None
) -> tuple[NDArray[np.int64], Tensor]:
    """Return places of the training images, some of very many, and the teacher's vectors there."""
    order = np.random.default_rng(seed).permutation(len(images.positions))
    chosen = np.sort(order[:_MOST_NEIGHBOURS])
    if store is not None:
        whole = torch.from_numpy(store.whole[chosen].astype(np.float32))
        with torch.no_grad():
            return chosen, guide.network.project(whole.to(guide.device))
    files = [images.files[position] for position in images.positions[chosen]]
    with track("encoding the neighbours", len(files)) as advance:
        embedded = embed_all(files, guide.preprocess, guide.embedder, advance=advance)
    return chosen, torch.from_numpy(embedded.vectors).to(guide.device)


def _optimise(
    model: EmbeddingModel,
    guide: Inference,
    preprocess: Preprocess,
    images: DecodedImages,
    recipe: StudentRecipe,
    state: StateFolder,
    database: Tensor | None,
    store: ViewStore | None,
    channels: slice | None,
    tensorboard: Path | None,
) -> None:
    device = guide.device
    batch = min(recipe.images, len(images.positions))
    batches = ShuffledBatches(len(images.positions), batch, recipe.seed)
    steps, steps_per_pass = count_steps(len(images.positions), batch, recipe.optimisation)
    count = recipe.views_per_image
    with_neighbours = recipe.neighbours_from * steps * recipe.optimisation.accumulate
    bfloat16 = recipe.optimisation.precision == "bf16"
    sizes = sorted({recipe.size, *recipe.elastic})

    cutter = ViewCutter(images, preprocess)
    draw: DrawViews
    if store is None:
        draw = draw_new_views(images, recipe.views, count)
    else:
        draw = draw_stored_views(store, count)

    def show(number: int, rng: np.random.Generator) -> Callable[[], ShownViews]:
        drawn = draw(batches.draw(number), rng)
        size = int(rng.choice(sizes)) if recipe.elastic else preprocess.size
        return start_showing(drawn, size, cutter, guide, workers)

    def compute_loss(number: int, shown: ShownViews) -> BatchLoss:
        own = extract_features(model, shown.pixels, preprocess, workers, bfloat16=bfloat16)
        compared = compare_views(
            model, own, guide.network, shown.features, views=count, channels=channels
        )
        terms, cosine = compared.terms, compared.cosine
        if database is not None and with_neighbours <= number:
            terms["neighbours"] = contextual_term(
                compared.student,
                compared.teacher,
                database,
                nearest=recipe.nearest,
                temperature=recipe.neighbour_temperature,
            )
        loss = asymmetric_loss(terms, recipe.weights) / batch
        figures = {name: float(term.detach()) / batch for name, term in terms.items()}
        names = images.paths(shown.positions[::count])
        return BatchLoss(loss, {**figures, "cosine": cosine}, names)

    settings = recipe.optimisation
    with CoreWorkers(device) as workers:
        training = Training(
            f"distilling the {preprocess.size} px student",
            model,
            [(model.trunk, 1.0), (head_of(model), settings.head_factor)],
            steps,
            steps_per_pass,
            batch,
            show,
            compute_loss,
            ahead=count_ahead(model, device),
            tensorboard=tensorboard,
        )
        run_training(training, settings, recipe.seed, state)


def measure_alignment(
    student: Checkpoint, teacher: Checkpoint, files: list[Source]
) -> Alignment | None:
    """Measure the cosine of both vectors of the same whole images; None where none can be read."""
    own = embed_all(files, student.preprocess, prepare_inference(student).embedder)
    reference = embed_all(files, teacher.preprocess, prepare_inference(teacher).embedder)
    common, first, second = np.intersect1d(own.positions, reference.positions, return_indices=True)
    if not len(common):
        return None
    return Alignment.measure(own.vectors[first], reference.vectors[second], teacher.encoder)


def _describe(
    teacher: Checkpoint,
    recipe: StudentRecipe,
    table: ImageTable,
    training: ImageTable,
    store: ViewStore | None,
) -> dict[str, Any]:
    seen = {*teacher.provenance.get("trained_on", []), *training.class_names()}
    return {
        "recipe": dataclasses.asdict(recipe),
        "seed": recipe.seed,
        "split": teacher.provenance.get("split"),
        "trained_on": sorted(seen),
        "teacher": {"encoder": teacher.encoder, "size": teacher.preprocess.size},
        "data": table.describe(),
        **({} if store is None else {"store": store.describe()}),
    }
