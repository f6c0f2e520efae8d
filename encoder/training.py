"""The one training loop: batches of views, schedule, metric log, and a stop at the first NaN."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder.errors import PocketlensError
from encoder.image_cache import DecodedImages
from encoder.memory import count_cores
from encoder.preprocess import Pixels
from encoder.progress import Advance
from encoder.views import Views, needs_partner, render_view


def check_positive(name: str, value: float) -> None:
    """Refuse an option's value that is not a positive number."""
    if not 0 < value < math.inf:
        raise PocketlensError(f"--{name.replace('_', '-')} {value} must be a positive number")


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Set AdamW and its one-cycle schedule; the projection learns `head_factor` times faster."""

    epochs: float
    lr: float
    head_factor: float = 3.0
    weight_decay: float = 1e-4
    warm_up: float = 0.2

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "head_factor"):
            check_positive(name, getattr(self, name))


def seed_everything(seed: int) -> np.random.Generator:
    """Seed torch and the global numpy state (which the PK sampler reads); return our own source."""
    if not 0 <= seed < 2**32:
        raise PocketlensError(f"--seed {seed} is not between 0 and 4294967295")
    torch.manual_seed(seed)
    np.random.seed(seed)
    return np.random.default_rng(seed)


class ViewCutter:
    """Cut batches of views from decoded images on all cores.

    On a CPU the network uses the same cores, so cutting and training alternate.
    """

    def __init__(self, images: DecodedImages) -> None:
        self.images = images
        self._pool = ThreadPoolExecutor(count_cores())

    def cut(
        self, positions: NDArray[np.int64], views: Views, size: int, device: torch.device
    ) -> Tensor:
        """Return the views of the images at these positions: uint8 `[n, size, size, 3]`.

        A view's partner is a position among the images' readable ones.
        """
        cuts = self._pool.map(self.cut_one, positions, views, [size] * len(views))
        return torch.from_numpy(np.stack(list(cuts))).to(device, non_blocking=True)

    def cut_one(self, position: int, view: np.void, size: int) -> Pixels:
        """Return one view: uint8 `[size, size, 3]`."""
        mixed = needs_partner(view)
        partner = self.images[int(self.images.positions[view["partner"]])] if mixed else None
        return render_view(self.images[position], partner, view, size)

    def close(self) -> None:
        """Stop the worker threads."""
        self._pool.shutdown()


class MetricLog:
    """Append one JSON object a line, flushed, so that a killed run leaves what it measured."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", encoding="utf-8")
        self._started = time.monotonic()

    def write(self, **values: Any) -> None:
        """Write the values with the seconds since the start."""
        line = {"seconds": round(time.monotonic() - self._started, 2), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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


def build_optimisers(
    groups: list[dict[str, Any]], settings: Optimisation, steps: int
) -> list[tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]]:
    """Return AdamW for the dense groups and Adam for the sparse ones, each with its schedule."""
    total = max(steps, 2)
    made = []
    for sparse, kind in ((False, torch.optim.AdamW), (True, torch.optim.SparseAdam)):
        chosen = [
            {key: value for key, value in group.items() if key != "sparse"}
            for group in groups
            if group.get("sparse", False) == sparse
        ]
        if not chosen:
            continue
        optimiser: torch.optim.Optimizer = kind(chosen)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser,
            max_lr=[group["lr"] for group in chosen],
            total_steps=total,
            # A warm-up of exactly one step divides by zero in torch.
            pct_start=max(settings.warm_up, 1.5 / total),
        )
        made.append((optimiser, schedule))
    return made


def mix_in_weights(model: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Replace each weight by (1 - share) · weight + share · starting weight.

    A network tuned on a few classes errs on others; some of what it was before makes up for that
    (WiSE-FT: Wortsman et al., 2022, "Robust fine-tuning of zero-shot models", eq. 1).
    """
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            weight.lerp_(start[name].to(weight), share)


def diverged(what: str, step: int, steps: int) -> PocketlensError:
    """Return the error of a training whose figures are no longer numbers."""
    return PocketlensError(
        f"{what} is not a number at step {step} of {steps}; lower --lr and train again"
    )


def run_training(
    steps: int,
    batches: Iterator[Any],
    compute_loss: Callable[[Any], tuple[Tensor, dict[str, float], int]],
    groups: list[dict[str, Any]],
    settings: Optimisation,
    log: MetricLog,
    advance: Advance,
    *,
    log_every: int = 10,
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Optimise for `steps` steps.

    `compute_loss` returns the loss, the figures to log, and how many images the batch held.

    Raises:
        PocketlensError: when the loss is no longer a number, naming the step.
    """
    optimisers = build_optimisers(groups, settings, steps)
    for step in range(1, steps + 1):
        loss, figures, images = compute_loss(next(batches))
        if not bool(torch.isfinite(loss)):
            raise diverged("the loss", step, steps)
        for optimiser, _ in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        for optimiser, schedule in optimisers:
            optimiser.step()
            schedule.step()
        advance(images, **figures)
        if step % log_every == 0 or step == steps:
            log.write(step=step, steps=steps, lr=optimisers[0][1].get_last_lr()[0], **figures)
        after_step(step)
    parameters = (parameter for group in groups for parameter in group["params"])
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise diverged("a weight", steps, steps)
