"""How weights are changed: AdamW, its schedule, and the moving average of what it makes."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)
from torch.optim.swa_utils import AveragedModel

from encoder.errors import PocketlensError

Schedule = Literal["one-cycle", "cosine", "step"]
Kind = Literal["adamw", "sgd"]
Precision = Literal["auto", "fp32", "bf16"]
# Where the schedule `step` falls to a tenth, as a share of all steps (Zhai & Wu: 15 of 30 passes).
_FALLS = 0.5
_MOMENTUM = 0.9
# A rising rate starts at this share of its peak.
_RISES_FROM = 1 / 25


def check_positive(name: str, value: float) -> None:
    """Refuse an option's value that is not a positive number."""
    if not 0 < value < math.inf:
        raise PocketlensError(f"--{name.replace('_', '-')} {value} must be a positive number")


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Set the optimiser and its schedule.

    AdamW, or SGD with momentum; the projection learns `head_factor` times faster than `lr`. The
    rate rises over the `warm_up` share of the steps, then falls to nothing by a half cosine
    (one-cycle and cosine; the first turns the momentum the other way too), or to a tenth after half
    of the steps (step). For `head_passes` passes at the start the trunk rests. The gradients of
    `accumulate` batches make one step. `average` is the decay of a moving average of the weights,
    which is then what is judged and kept; 0 for none. With `patience` the training stops after so
    many judgements without a better one; 0 for never. `precision` is the trunk's; the weights, the
    head and the loss are fp32 always.
    """

    epochs: float
    lr: float
    head_factor: float = 3.0
    weight_decay: float = 1e-4
    warm_up: float = 0.2
    schedule: Schedule = "one-cycle"
    optimiser: Kind = "adamw"
    head_passes: float = 0.0
    accumulate: int = 1
    average: float = 0.0
    patience: int = 0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "head_factor"):
            check_positive(name, getattr(self, name))
        known_names = (("schedule", Schedule), ("optimiser", Kind), ("precision", Precision))
        for name, kind in known_names:
            if getattr(self, name) not in get_args(kind):
                known = ", ".join(get_args(kind))
                raise PocketlensError(f"--{name} {getattr(self, name)!r} is not one of {known}")
        for name in ("warm_up", "average"):
            if not 0 <= getattr(self, name) < 1:
                flag = f"--{name.replace('_', '-')}"
                raise PocketlensError(f"{flag} {getattr(self, name)} is not at least 0 and below 1")
        if not 0 <= self.weight_decay < math.inf:
            raise PocketlensError(f"--weight-decay {self.weight_decay} must not be negative")
        if not 0 <= self.head_passes < self.epochs:
            raise PocketlensError(
                f"--head-passes {self.head_passes} is not at least 0 and below --epochs"
            )
        if not 1 <= self.accumulate <= 1024:
            raise PocketlensError(f"--accumulate {self.accumulate} is not in 1..1024")
        if self.patience < 0:
            raise PocketlensError(f"--patience {self.patience} must not be negative")


def resolve_precision(settings: Optimisation, device: torch.device) -> Optimisation:
    """Return the settings with their precision said: bfloat16 by itself only on an accelerator.

    Not on processors that multiply it fast: with AMX, EfficientNet-Lite0 learns 2.5 times slower in
    it (measured, two cores), for want of fast gradients of depthwise convolutions.
    """
    if settings.precision != "auto":
        return settings
    return dataclasses.replace(settings, precision="fp32" if device.type == "cpu" else "bf16")


def parameter_groups(
    modules: list[tuple[nn.Module, float]], settings: Optimisation
) -> list[dict[str, Any]]:
    """Return optimiser groups for modules and how much faster than `lr` each learns.

    Vectors and scalars (biases, exponents) are not decayed, nor are weights with sparse gradients,
    which a module names in `sparse_parameters()`.
    """
    groups = []
    for module, factor in modules:
        parameters = [p for p in module.parameters() if p.requires_grad]
        sparse = {id(p) for part in module.modules() for p in _sparse_parameters(part)}
        for chosen, kind in (
            ([p for p in parameters if id(p) in sparse], {"sparse": True}),
            (
                [p for p in parameters if p.ndim > 1 and id(p) not in sparse],
                {"weight_decay": settings.weight_decay},
            ),
            ([p for p in parameters if p.ndim <= 1], {"weight_decay": 0.0}),
        ):
            if chosen:
                groups.append({"params": chosen, "lr": settings.lr * factor, **kind})
    return groups


def _sparse_parameters(module: nn.Module) -> list[nn.Parameter]:
    name: Callable[[], list[nn.Parameter]] | None = getattr(module, "sparse_parameters", None)
    return name() if name else []


@dataclasses.dataclass(frozen=True)
class Optimisers:
    """Hold what changes weights with dense gradients, and Adam for sparse ones; their schedules."""

    optimisers: list[torch.optim.Optimizer]
    schedules: list[LRScheduler]

    def clear(self) -> None:
        """Forget the gradients."""
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Change the weights, then the rates."""
        for optimiser in self.optimisers:
            optimiser.step()
        self.advance()

    def advance(self) -> None:
        """Change the rates alone."""
        for schedule in self.schedules:
            schedule.step()

    @property
    def rate(self) -> float:
        """Return the first group's rate as it is now."""
        return float(self.schedules[0].get_last_lr()[0])


def build_optimisers(
    modules: list[tuple[nn.Module, float]], settings: Optimisation, steps: int
) -> Optimisers:
    """Return what optimises the modules, each so much faster than `lr`, for so many steps."""
    groups = parameter_groups(modules, settings)
    made = Optimisers([], [])
    for sparse in (False, True):
        chosen = [
            {key: value for key, value in group.items() if key != "sparse"}
            for group in groups
            if group.get("sparse", False) == sparse
        ]
        if chosen:
            optimiser: torch.optim.Optimizer
            if sparse:
                optimiser = torch.optim.SparseAdam(chosen)
            elif settings.optimiser == "sgd":
                optimiser = torch.optim.SGD(chosen, momentum=_MOMENTUM)
            else:
                optimiser = torch.optim.AdamW(chosen, fused=True)
            made.optimisers.append(optimiser)
            made.schedules.append(_build_schedule(optimiser, settings, max(steps, 2)))
    return made


def _build_schedule(
    optimiser: torch.optim.Optimizer, settings: Optimisation, steps: int
) -> LRScheduler:
    if settings.schedule == "one-cycle":
        return OneCycleLR(
            optimiser,
            max_lr=[group["lr"] for group in optimiser.param_groups],
            total_steps=steps,
            # A warm-up of exactly one step divides by zero in torch.
            pct_start=max(settings.warm_up, 1.5 / steps),
        )
    rising = round(settings.warm_up * steps)
    falling: LRScheduler
    if settings.schedule == "cosine":
        falling = CosineAnnealingLR(optimiser, max(1, steps - rising))
    else:
        falling = MultiStepLR(optimiser, [max(1, round(_FALLS * steps) - rising)])
    if not rising:
        return falling
    rise = LinearLR(optimiser, start_factor=_RISES_FROM, total_iters=rising)
    return SequentialLR(optimiser, [rise, falling], milestones=[rising])


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """Return a moving average of a model, which starts as the model is when first updated.

    While few steps are averaged the decay is smaller, so that a short training forgets its start.
    """

    def average(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
        kept = min(decay, (1 + int(count)) / (10 + int(count)))
        return now + (mean - now) * kept

    return AveragedModel(model, avg_fn=average, use_buffers=True)
