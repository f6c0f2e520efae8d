"""Train a teacher whose queries search a database that an older one encoded.

Dual-Tuning (Bai et al., 2023) and its rivals. The published code of Dual-Tuning lacks the file with
its losses, so its terms are our reconstruction, from its configuration and description:

- the old model looks at every training image once, whole: its vectors are what the terms ask for;
- a checkpoint holds no classifier, so the old one is fitted anew to the old vectors of the classes
  that the old model knew; where it knew none of them, the terms that need it are left out;
- vectors of more dimensions than the old ones are compared by their first ones, of fewer in the
  principal directions of the old vectors;
- the projection starts turned so that its vectors are nearest to the old ones, and the finished
  embedding, which is whitened in part, is turned so once more: a rotation costs it nothing among
  its own kind.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.checkpoint import Checkpoint, digest_model
from encoder.classed_images import ClassedImages
from encoder.companion import Begun, Companion, LearntBatch
from encoder.compatibility import save_compatibility
from encoder.compatibility_fit import complete_compatibility, show_to_both
from encoder.datasets.table import ImageTable
from encoder.embed import Vectors, embed_all
from encoder.errors import PocketlensError
from encoder.head_start import find_turn
from encoder.inference import prepare_inference
from encoder.losses.compatible import (
    alignment_loss,
    boundary_loss,
    classifier_loss,
    fit_classifier,
    map_vectors,
    read_proxies,
    regression_loss,
)
from encoder.losses.supervised import LossRecipe
from encoder.optimisation import check_positive
from encoder.progress import track
from encoder.prototypes import find_prototypes
from encoder.rotation import learn_rotation, turn_model
from encoder.space import mint_space
from encoder.teacher import select_training
from encoder.vector_map import VectorMap

Method = Literal["dual-tuning", "bct", "lce", "regression"]
# Weights of the terms, as the papers have them.
_PROTOTYPES, _MUTUAL, _ALIGNMENT = 0.1, 0.2, 100.0
# What multiplies them all: chosen on classes carved from a training half.
WEIGHTS: dict[str, float] = {"dual-tuning": 10.0, "bct": 2.0, "lce": 1.0, "regression": 0.3}
_ONE_PROXY = ("softmax", "arcface", "cosface", "proxy-anchor")


@dataclasses.dataclass(frozen=True)
class CompatibleRecipe:
    """Choose how a new teacher is drawn to the old space.

    `weight` multiplies all of the method's terms, None as `WEIGHTS` has it; `temperature` divides
    the cosines to prototypes and classifier. `trim` and `weighted` are as in `encoder.prototypes`.
    Where the teacher's projection starts at features, `turned` turns it towards the old vectors.
    """

    method: Method = "dual-tuning"
    weight: float | None = None
    temperature: float = 0.5
    trim: float = 0.1
    weighted: bool = True
    turned: bool = True

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            known = ", ".join(get_args(Method))
            raise PocketlensError(f"--method {self.method!r} is not one of {known}")
        if self.weight is not None:
            check_positive("old_weight", self.weight)
        if not 0.01 <= self.temperature <= 1:
            raise PocketlensError(f"--old-temperature {self.temperature} is not in 0.01..1")
        if not 0 <= self.trim < 0.5:
            raise PocketlensError(f"--trim {self.trim} is not at least 0 and below 0.5")


@dataclasses.dataclass(frozen=True)
class OldModel:
    """Hold what the old model says of the images to train on.

    `vectors` are at the rising `positions`. `known` `[c]` tells the classes that it was trained on;
    `classifier` `[c, dim]` is its own for those, their prototypes for the others. `matrix`
    `[dim, new dim]` maps new embeddings to its space.
    """

    positions: NDArray[np.int64]
    vectors: Tensor
    prototypes: Tensor
    weights: Tensor
    least_cosines: Tensor
    known: Tensor
    classifier: Tensor
    matrix: Tensor


def accompany(
    old: Checkpoint, table: ImageTable, recipe: CompatibleRecipe, loss: LossRecipe
) -> Companion:
    """Return what makes a teacher of this loss, trained on this table, compatible with an old one.

    The table's validation images show the compatibility and set its scale.

    Raises:
        PocketlensError: when the method needs what the loss does not have.
    """
    if recipe.method == "lce" and (loss.nested or loss.name not in _ONE_PROXY):
        raise PocketlensError(
            "--method lce needs one proxy a class: no --nested, and a --loss of "
            + ", ".join(_ONE_PROXY)
        )
    weight = WEIGHTS[recipe.method] if recipe.weight is None else recipe.weight
    recipe = dataclasses.replace(recipe, weight=weight)
    provenance = {"encoder": old.encoder, "space": old.space.id, **dataclasses.asdict(recipe)}
    drawn = _Drawn(old, table, recipe, nested=bool(loss.nested))
    return Companion({"old": provenance}, drawn.begin, drawn.finish)


class _Drawn:
    """Hold the old model while a new one is drawn to its space."""

    def __init__(
        self, old: Checkpoint, table: ImageTable, recipe: CompatibleRecipe, *, nested: bool
    ) -> None:
        self.old, self.table, self.recipe, self.nested = old, table, recipe, nested
        self.matrix: Vectors = np.empty((0, 0), np.float32)

    def begin(self, chosen: ClassedImages, dim: int) -> Begun:
        """Let the old model look at the images; return the term, and where to start."""
        training = select_training(self.table)
        names = np.array(training.class_names())
        present = names[np.unique(training.labels()[chosen.positions])]
        trained = self.old.provenance.get("trained_on", [])
        looked = look_at_images(self.old, chosen, np.isin(present, trained), dim, self.recipe)
        self.matrix = looked.matrix.cpu().numpy()
        term = functools.partial(_TERMS[self.recipe.method], looked, self.recipe)
        aim = (looked.vectors @ looked.matrix).cpu().numpy() if self.recipe.turned else None
        return Begun(term, aim)

    def finish(self, checkpoint: Checkpoint, folder: Path) -> Checkpoint:
        """Turn it to the old vectors, write the compatibility, and name the space that it is in."""
        trained = show_to_both(checkpoint, self.old, self.table, "train")
        held_out = show_to_both(checkpoint, self.old, self.table, "val")
        turn = find_turn(trained.new, trained.old @ self.matrix)
        matrix = self.matrix
        if self.nested:
            # Its prefixes stay as they were taught: the query is turned where it arrives.
            matrix = matrix @ turn
        else:
            checkpoint = dataclasses.replace(checkpoint, model=turn_model(checkpoint.model, turn))
            trained, held_out = (seen.turned(turn) for seen in (trained, held_out))
        first = self.old.space
        space = mint_space(
            "compatible",
            checkpoint.space.dim,
            digest_model(checkpoint.model),
            parents=(first.id,),
        )
        space = dataclasses.replace(space, compatible_with=(first.id,))
        checkpoint = dataclasses.replace(checkpoint, space=space, kind="compatible")
        bias = np.zeros(len(matrix), np.float32)
        found = complete_compatibility(
            space, first, "backward", VectorMap(matrix, bias), trained, held_out
        )
        save_compatibility(found, folder)
        return checkpoint


def look_at_images(
    old: Checkpoint,
    chosen: ClassedImages,
    known: NDArray[np.bool_],
    dim: int,
    recipe: CompatibleRecipe,
) -> OldModel:
    """Let the old model look at the images to train on; `known` `[c]` are classes it learnt."""
    network = prepare_inference(old, precision="auto")
    files = [chosen.images.files[position] for position in chosen.positions]
    with track("asking the old model", len(files)) as advance:
        found = embed_all(files, old.preprocess, network.embedder, advance=advance)
    if found.quarantined:
        raise PocketlensError(f"{found.quarantined[0].reason}; remove it and train again")
    vectors, targets = found.vectors, chosen.targets
    prototypes = find_prototypes(vectors, targets, trim=recipe.trim, weighted=recipe.weighted)
    send = functools.partial(torch.as_tensor, device=network.device)
    classifier = send(prototypes.vectors).clone()
    if known.any():
        own = known[targets]
        numbers = np.cumsum(known)[targets[own]] - 1
        classifier[send(known)] = fit_classifier(
            send(vectors[own]), send(numbers), classifier[send(known)], recipe.temperature
        )
    return OldModel(
        chosen.positions,
        send(vectors),
        send(prototypes.vectors),
        send(prototypes.weights),
        send(prototypes.least_cosines),
        send(known),
        classifier,
        send(start_matrix(vectors, dim)),
    )


def start_matrix(old: Vectors, dim: int) -> Vectors:
    """Return the matrix `[old dim, dim]` that maps new embeddings to an old space.

    Those of more dimensions keep their first ones; fewer are laid along the principal directions
    of the old vectors `[n, old dim]`.
    """
    width = old.shape[1]
    if dim >= width:
        return np.eye(width, dim, dtype=np.float32)
    return np.ascontiguousarray(learn_rotation(old)[:dim].T)


# Terms.


def _term_of_dual_tuning(
    old: OldModel, recipe: CompatibleRecipe, batch: LearntBatch
) -> tuple[Tensor, dict[str, float]]:
    """Return 0.1 · prototypes + 0.2 · (new by the old classifier + old by the new classifier)."""
    mapped, own = map_vectors(batch.embeddings, old.matrix), _take(old, batch)
    each = {
        "prototypes": _PROTOTYPES
        * classifier_loss(mapped, old.prototypes, batch.targets, recipe.temperature, old.weights)
    }
    # The other way only the new proxies learn, where the loss has some.
    if any(weight.requires_grad for weight in batch.loss.parameters()):
        lifted = map_vectors(own, old.matrix.T)
        each["old_by_new"] = _MUTUAL * batch.loss(lifted, batch.targets)
    known = old.known[batch.targets]
    if bool(known.any()):
        numbers = torch.cumsum(old.known, 0)[batch.targets[known]] - 1
        each["new_by_old"] = _MUTUAL * classifier_loss(
            mapped[known], old.classifier[old.known], numbers, recipe.temperature
        )
    return _add(each, recipe)


def _term_of_bct(
    old: OldModel, recipe: CompatibleRecipe, batch: LearntBatch
) -> tuple[Tensor, dict[str, float]]:
    mapped = map_vectors(batch.embeddings, old.matrix)
    influence = classifier_loss(mapped, old.classifier, batch.targets, recipe.temperature)
    return _add({"influence": influence}, recipe)


def _term_of_lce(
    old: OldModel, recipe: CompatibleRecipe, batch: LearntBatch
) -> tuple[Tensor, dict[str, float]]:
    mapped, proxies = map_vectors(batch.embeddings, old.matrix), read_proxies(batch.loss)
    assert proxies is not None
    return _add(
        {
            "alignment": _ALIGNMENT
            * alignment_loss(map_vectors(proxies, old.matrix), old.prototypes),
            "boundary": boundary_loss(mapped, old.prototypes, old.least_cosines, batch.targets),
        },
        recipe,
    )


def _term_of_regression(
    old: OldModel, recipe: CompatibleRecipe, batch: LearntBatch
) -> tuple[Tensor, dict[str, float]]:
    mapped = map_vectors(batch.embeddings, old.matrix)
    return _add({"regression": regression_loss(mapped, _take(old, batch))}, recipe)


_TERMS: dict[str, Callable[..., tuple[Tensor, dict[str, float]]]] = {
    "dual-tuning": _term_of_dual_tuning,
    "bct": _term_of_bct,
    "lce": _term_of_lce,
    "regression": _term_of_regression,
}


def _take(old: OldModel, batch: LearntBatch) -> Tensor:
    """Return the old vectors of a batch's images."""
    return old.vectors[torch.from_numpy(np.searchsorted(old.positions, batch.positions))]


def _add(each: dict[str, Tensor], recipe: CompatibleRecipe) -> tuple[Tensor, dict[str, float]]:
    figures = {name: float(term.detach()) for name, term in each.items()}
    assert recipe.weight is not None
    return recipe.weight * torch.stack(list(each.values())).sum(), figures
