"""A teacher without labels: a pretrained trunk, and PCA-whitening learnt from unlabelled images.

What varies most among the images is kept, and what varies much is turned down, so that no direction
outweighs the others (Jégou & Chum, 2012, "Negative evidences and co-occurrences in image
retrieval: the benefit of PCA and whitening"). Whoever has no labels distils from this teacher.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from encoder.atomic import new_folder
from encoder.backbones import input_statistics
from encoder.checkpoint import CONFIG, Checkpoint, digest_model, save_checkpoint
from encoder.datasets.splits import SplitRule
from encoder.datasets.table import ImageTable
from encoder.embed import Embedder, Quarantined, Vectors, embed_files
from encoder.errors import PocketlensError
from encoder.inference import prepare_network
from encoder.model import Architecture
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.space import mint_space
from encoder.teacher import start_model
from encoder.training import seed_everything
from encoder.unlabelled_images import training_images
from encoder.whitening import Moments, gather_moments, whiten


@dataclasses.dataclass(frozen=True)
class LabelFreeRecipe:
    """Hold every choice of a teacher without labels.

    Each direction kept is divided by its standard deviation to the power `whitening`: 0 is PCA
    alone, 1 whitens wholly. `shrinkage` is the share of the mean variance that is added to each
    first, so that what hardly varies among few images is not blown up.
    """

    architecture: Architecture = Architecture(bias=True)
    size: int = 224
    fit: str = "squash"
    interpolation: str = "bilinear"
    whitening: float = 0.5
    shrinkage: float = 0.1
    precision: str = "auto"
    weights: str = ""

    def __post_init__(self) -> None:
        for name in ("whitening", "shrinkage"):
            if not 0 <= getattr(self, name) <= 1:
                raise PocketlensError(f"--{name} {getattr(self, name)} is not in 0..1")
        if not self.architecture.bias:
            raise ValueError("the projection of a teacher without labels has a bias")


def init_teacher(
    table: ImageTable,
    recipe: LabelFreeRecipe,
    output: Path,
    *,
    split: SplitRule | None = None,
    overwrite: bool = False,
) -> tuple[Checkpoint, tuple[Quarantined, ...]]:
    """Learn the projection from the table's images and write a checkpoint folder.

    Labels are not used, but images of test classes are left out where the table has some. Returns
    the checkpoint and the images that could not be read.

    Raises:
        PocketlensError: when the images are too few, or the output must not be replaced.
    """
    chosen = training_images(table, with_validation=True)
    mean, std = input_statistics(recipe.architecture.trunk)
    preprocess = Preprocess(
        recipe.size,
        recipe.fit,  # type: ignore[arg-type]
        mean=mean,
        std=std,
        interpolation=recipe.interpolation,  # type: ignore[arg-type]
    )
    seed_everything(0)  # of what is overwritten below
    model = start_model(recipe.architecture, recipe.weights)
    dim, width = recipe.architecture.dim, model.projection.in_features
    if dim > width:
        raise PocketlensError(f"--dim {dim} is above the {width} features of the trunk")
    _refuse_few(table, len(chosen), dim)
    with new_folder(output, marker=CONFIG, overwrite=overwrite) as folder:
        network = prepare_network(
            model, recipe.architecture, preprocess, precision=recipe.precision
        )
        moments, quarantined = _measure(chosen, preprocess, network.feature_extractor, width)
        _refuse_few(table, moments.count, dim)
        weight, bias = whiten(moments, dim, recipe.whitening, recipe.shrinkage)
        projection = model.projection
        with torch.no_grad():
            projection.weight.copy_(torch.from_numpy(weight))
            projection.bias.copy_(torch.from_numpy(bias))
        space = mint_space("teacher", dim, digest_model(model))
        checkpoint = Checkpoint(
            model.eval(),
            recipe.architecture,
            preprocess,
            space,
            "teacher",
            provenance=_describe(recipe, table, chosen, split or SplitRule()),
        )
        save_checkpoint(checkpoint, folder)
    return checkpoint, quarantined


def _refuse_few(table: ImageTable, count: int, dim: int) -> None:
    if count <= dim:
        raise PocketlensError(
            f"{table.root}: {count} images to learn from are too few for --dim {dim}; give more, "
            "or a smaller --dim (test images are left out: --test-share)"
        )


def _measure(
    table: ImageTable, preprocess: Preprocess, embedder: Embedder, width: int
) -> tuple[Moments, tuple[Quarantined, ...]]:
    files, quarantined = table.sources(), list[Quarantined]()

    def extract() -> Iterator[Vectors]:
        with track("looking at images", len(files)) as advance:
            for batch in embed_files(files, preprocess, embedder):
                quarantined.extend(batch.quarantined)
                if len(batch.positions):
                    yield batch.vectors
                advance(len(batch.positions) + len(batch.quarantined))

    return gather_moments(extract(), width), tuple(quarantined)


def _describe(
    recipe: LabelFreeRecipe, table: ImageTable, chosen: ImageTable, split: SplitRule
) -> dict[str, Any]:
    return {
        "recipe": dataclasses.asdict(recipe),
        "seed": 0,
        "split": dataclasses.asdict(split),
        "trained_on": chosen.class_names(),
        "data": table.describe(),
    }
