"""The loss of a teacher, by name: normalised softmax, or one of pytorch-metric-learning's."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn
from torch.nn import functional

from encoder.errors import PocketlensError
from encoder.losses.nested import NestedLoss
from encoder.losses.prototypical import PrototypicalLoss
from encoder.losses.sampled import SampledSoftmax

LossName = Literal[
    "softmax",
    "arcface",
    "cosface",
    "subcenter-arcface",
    "soft-triple",
    "proxy-anchor",
    "multi-similarity",
    "triplet",
    "prototypical",
]


@dataclasses.dataclass(frozen=True)
class LossRecipe:
    """Choose a loss; None leaves a setting as `DEFAULTS` has it.

    `temperature` divides cosines (1 / the scale of the papers with margins). `class_share` below 1
    compares with the batch's classes and that share of the others, drawn anew each step, with
    `corrected` counting each as all that it was drawn from; these and `learn_temperature` are the
    softmax's. `nested` are prefixes of the vectors that are taught to stand alone.
    """

    name: LossName = "softmax"
    temperature: float | None = None
    margin: float | None = None
    learn_temperature: bool = False
    class_share: float = 1.0
    corrected: bool = False
    nested: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in get_args(LossName):
            known = ", ".join(get_args(LossName))
            raise PocketlensError(f"--loss {self.name!r} is not one of {known}")
        for flag in ("temperature", "margin"):
            value = getattr(self, flag)
            if value is not None and getattr(DEFAULTS[self.name], flag) is None:
                raise PocketlensError(f"--{flag} {value} has no meaning for --loss {self.name}")
        if self.temperature is not None and not 0.01 <= self.temperature <= 1:
            raise PocketlensError(f"--temperature {self.temperature} is not between 0.01 and 1")
        if self.margin is not None and not 0 <= self.margin < math.inf:
            raise PocketlensError(f"--margin {self.margin} must not be negative")
        if not 0 < self.class_share <= 1:
            raise PocketlensError(f"--class-share {self.class_share} is not above 0 and at most 1")
        if any(dim < 2 for dim in self.nested) or len(set(self.nested)) < len(self.nested):
            raise PocketlensError(f"--nested {list(self.nested)} must differ and be at least 2")
        if self.name != "softmax" and (
            self.class_share < 1 or self.corrected or self.learn_temperature
        ):
            raise PocketlensError(
                "--class-share, --corrected and --learn-temperature are for --loss softmax, "
                f"not {self.name}"
            )

    def resolved(self) -> "LossRecipe":
        """Return the recipe with its defaults filled in."""
        default = DEFAULTS[self.name]
        return dataclasses.replace(
            self,
            temperature=default.temperature if self.temperature is None else self.temperature,
            margin=default.margin if self.margin is None else self.margin,
        )


@dataclasses.dataclass(frozen=True)
class LossDefaults:
    """Give a loss's settings where none are given; None where the loss has no such setting."""

    temperature: float | None = None
    margin: float | None = None


# Margins are those of the papers: degrees for the two of ArcFace, cosines for the others.
DEFAULTS: dict[str, LossDefaults] = {
    "softmax": LossDefaults(temperature=0.07),
    "arcface": LossDefaults(temperature=1 / 64, margin=28.6),
    "cosface": LossDefaults(temperature=1 / 64, margin=0.35),
    "subcenter-arcface": LossDefaults(temperature=1 / 64, margin=28.6),
    "soft-triple": LossDefaults(temperature=1 / 20, margin=0.01),
    "proxy-anchor": LossDefaults(temperature=1 / 32, margin=0.1),
    "multi-similarity": LossDefaults(),
    "triplet": LossDefaults(margin=0.1),
    "prototypical": LossDefaults(temperature=0.1),
}


def build_loss(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
    """Return a module of the mean loss of unit vectors `[n, dim]` and class numbers `[n]`.

    Proxies, where it has them, start at unit length, so that a learning rate means the same for
    every loss and number of classes.
    """
    if recipe.nested:
        plain = dataclasses.replace(recipe, nested=())
        lengths = (*sorted(recipe.nested), dim)
        return NestedLoss({length: build_loss(plain, classes, length) for length in lengths})
    chosen = recipe.resolved()
    if chosen.name == "softmax" and (chosen.class_share < 1 or chosen.learn_temperature):
        return SampledSoftmax(
            classes,
            dim,
            chosen.temperature or 0,
            chosen.class_share,
            corrected=chosen.corrected,
            learn_temperature=chosen.learn_temperature,
        )
    loss = _BUILDERS[chosen.name](chosen, classes, dim)
    with torch.no_grad():
        for name, axis in (("W", 0), ("fc", 0), ("proxies", 1)):
            proxies = getattr(loss, name, None)
            if isinstance(proxies, nn.Parameter):
                proxies.copy_(functional.normalize(proxies, dim=axis))
    return loss


class MinedLoss(nn.Module):
    """Give a loss the pairs or triplets of the batch that a miner finds worth learning from."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of what was mined in the batch."""
        value: Tensor = self.loss(vectors, targets, self.miner(vectors, targets))
        return value


def _build_softmax(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
    loss: nn.Module = losses.NormalizedSoftmaxLoss(classes, dim, temperature=recipe.temperature)
    return loss


def _build_with_margin(kind: Any) -> Callable[[LossRecipe, int, int], nn.Module]:
    def build(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
        sizes = {"num_classes": classes, "embedding_size": dim}
        loss: nn.Module = kind(**sizes, margin=recipe.margin, scale=_scale(recipe))
        return loss

    return build


def _build_soft_triple(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
    settings = {"la": _scale(recipe), "margin": recipe.margin}
    loss: nn.Module = losses.SoftTripleLoss(classes, dim, **settings)
    return loss


def _build_proxy_anchor(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
    settings = {"alpha": _scale(recipe), "margin": recipe.margin}
    loss: nn.Module = losses.ProxyAnchorLoss(classes, dim, **settings)
    return loss


def _build_multi_similarity(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
    return MinedLoss(losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner())


def _build_triplet(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
    miner = miners.TripletMarginMiner(margin=recipe.margin, type_of_triplets="semihard")
    return MinedLoss(losses.TripletMarginLoss(margin=recipe.margin), miner)


def _build_prototypical(recipe: LossRecipe, classes: int, dim: int) -> nn.Module:
    return PrototypicalLoss(recipe.temperature or 1)


def _scale(recipe: LossRecipe) -> float:
    return 1 / (recipe.temperature or 1)


_BUILDERS: dict[str, Callable[[LossRecipe, int, int], nn.Module]] = {
    "softmax": _build_softmax,
    "arcface": _build_with_margin(losses.ArcFaceLoss),
    "cosface": _build_with_margin(losses.CosFaceLoss),
    "subcenter-arcface": _build_with_margin(losses.SubCenterArcFaceLoss),
    "soft-triple": _build_soft_triple,
    "proxy-anchor": _build_proxy_anchor,
    "multi-similarity": _build_multi_similarity,
    "triplet": _build_triplet,
    "prototypical": _build_prototypical,
}
