"""Learn to map the old vectors of a database into a new space, so that no image is encoded anew.

The forward transformation of FCT (Ramanujan et al., 2022): the new encoder is trained freely, and a
small network learns to turn old vectors into new ones. Ours starts at the ridge regression, whose
errors it learns, and is kept where it was best on images held out. It learns from crops of the
training images too: of whole ones, both encoders know the class too well. The side information of
the paper, a vector of another encoder stored beside the old one, is not used.
"""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from encoder.atomic import check_output, new_folder
from encoder.checkpoint import Checkpoint
from encoder.companion import Begun, Companion
from encoder.compatibility import COMPATIBILITY, Compatibility, save_compatibility
from encoder.compatibility_fit import (
    SeenByBoth,
    complete_compatibility,
    show_to_both,
    show_views_to_both,
)
from encoder.datasets.table import ImageTable
from encoder.embed import Vectors
from encoder.errors import PocketlensError
from encoder.perceptron_fit import fit_perceptron
from encoder.projection_fit import fit_projection
from encoder.training import check_seed, seed_everything
from encoder.vector_map import VectorMap


@dataclasses.dataclass(frozen=True)
class ForwardRecipe:
    """Choose how the map is learnt; `hidden` 0 leaves it at the ridge regression.

    It learns from each training image and `crops` of it.
    """

    hidden: int = 1024
    crops: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hidden <= 1 << 14:
            raise PocketlensError(f"--hidden {self.hidden} is not in 0..16384")
        if not 0 <= self.crops <= 64:
            raise PocketlensError(f"--crops {self.crops} is not in 0..64")
        check_seed(self.seed)


def train_forward(
    new: Checkpoint,
    old: Checkpoint,
    table: ImageTable,
    recipe: ForwardRecipe,
    output: Path,
    *,
    overwrite: bool = False,
) -> Compatibility:
    """Learn to map the old encoder's vectors into the new one's space; write the compatibility.

    Labels are not used but to hold images out and to show what queries find.

    Raises:
        PocketlensError: when both write into one space, the images are too few, or the output must
            not be replaced.
    """
    check_output(output, marker=COMPATIBILITY, overwrite=overwrite)
    made = map_forward(new, old, table, recipe)
    with new_folder(output, marker=COMPATIBILITY, overwrite=overwrite) as folder:
        save_compatibility(made, folder)
    return made


def follow_forward(old: Checkpoint, table: ImageTable, recipe: ForwardRecipe) -> Companion:
    """Return what leaves a teacher's training free, and maps the old vectors to it in the end."""

    def finish(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
        save_compatibility(map_forward(checkpoint, old, table, recipe), folder)
        return checkpoint

    described = {"encoder": old.encoder, "space": old.space.id, "method": "forward"}
    provenance = {"old": described | dataclasses.asdict(recipe)}
    return Companion(provenance, lambda chosen, dim: Begun(), finish)


def map_forward(
    new: Checkpoint, old: Checkpoint, table: ImageTable, recipe: ForwardRecipe
) -> Compatibility:
    """Learn the map from vectors of the same images; as `train_forward`."""
    if new.space.id == old.space.id:
        raise PocketlensError(f"both encoders write into space {new.space.id}: nothing to map")
    trained = show_to_both(new, old, table, "train")
    held_out = show_to_both(new, old, table, "val")
    if len(trained) < 2:
        raise PocketlensError(f"{table.root}: no two readable training images")
    seed_everything(recipe.seed)
    crops = None
    if recipe.crops:
        crops = show_views_to_both(new, old, table, recipe.crops, seed=recipe.seed)
    found, errors = learn_map(trained, held_out, recipe, crops)
    return complete_compatibility(
        new.space, old.space, "forward", found, trained, held_out, errors=errors, seed=recipe.seed
    )


def learn_map(
    trained: SeenByBoth,
    held_out: SeenByBoth,
    recipe: ForwardRecipe,
    crops: SeenByBoth | None = None,
) -> tuple[VectorMap, NDArray[np.float32]]:
    """Return the map of old vectors to new ones, and what maps of the other classes err by.

    The errors `[n]` are of the training images, each mapped by the regression of the half of the
    classes that it is not of.
    """
    seen = trained.followed_by(crops) if crops else trained
    line = fit_line(seen.old, seen.new)
    half, known = trained.labels % 2 == 0, seen.labels % 2 == 0
    errors = np.empty(len(trained), np.float32)
    for own, others in ((half, ~known), (~half, known)):
        judge = fit_line(seen.old[others], seen.new[others]) if others.any() else line
        mapped = judge.apply(trained.old[own])
        errors[own] = 1 - np.einsum("nd,nd->n", mapped, trained.new[own])
    if not recipe.hidden or len(held_out) < 2:
        return line, errors

    def apart(outputs: Tensor, targets: Tensor) -> Tensor:
        start, aim = targets.tensor_split(2, dim=1)
        return 1 - (functional.normalize(outputs + start, dim=1) * aim).sum(dim=1)

    def pair(of: SeenByBoth) -> tuple[Vectors, Vectors]:
        return of.old, np.hstack([of.old @ line.matrix.T + line.bias, of.new])

    residual = fit_perceptron(
        pair(seen),
        pair(held_out),
        apart,
        outputs=trained.new.shape[1],
        hidden=recipe.hidden,
        seed=recipe.seed,
    )
    return dataclasses.replace(line, residual=residual), errors


def fit_line(old: Vectors, new: Vectors) -> VectorMap:
    """Return the ridge regression of new vectors on old ones."""
    line = nn.Linear(old.shape[1], new.shape[1])
    fit_projection(line, old, new)
    return VectorMap(line.weight.detach().numpy(), line.bias.detach().numpy())
