"""The one training loop: steps, judgements, the best weights kept, and going on after a stop.

Every batch is a function of the seed and its number (`encoder.batches`), so that a training which
was stopped ends with the same weights as one that was not.
"""

import collections
import contextlib
import dataclasses
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from encoder.batches import seed_batch
from encoder.errors import PocketlensError
from encoder.metric_log import MetricLog
from encoder.optimisation import Optimisation, Optimisers, average_weights, build_optimisers
from encoder.progress import track
from encoder.tensorboard import open_tensorboard
from encoder.training_state import (
    Progress,
    StateFolder,
    gather_tensors,
    load_state,
    save_state,
    scatter_tensors,
)

# The figure of a judgement that says which weights are best.
JUDGED_BY = "val_map_at_r"
_SAVE_SECONDS = 300.0
_LOG_EVERY = 10


Shown = TypeVar("Shown")


@dataclasses.dataclass(frozen=True)
class BatchLoss:
    """Hold the loss of one batch, figures to show, and the images it was made of."""

    loss: Tensor
    figures: dict[str, float]
    images: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Training(Generic[Shown]):
    """Say what learns and how fast, what a batch costs it and how it is judged.

    `modules` are parts with how much faster than the rate each learns; the first is the trunk.
    `beside` is what learns and is not of the model, as a loss with proxies. `show` is given the
    number of a batch and its source of random numbers, starts to prepare what the batch shows and
    returns what waits for it; that is done for `ahead` batches beforehand. `compute_loss` is given
    the number and what is shown; `judge` the model in eval mode, after each pass of
    `steps_per_pass` steps, and `choose` says whether the weights it finds best are kept in place of
    the last ones. `tensorboard` is a folder to show the figures in.
    """

    title: str
    model: nn.Module
    modules: list[tuple[nn.Module, float]]
    steps: int
    steps_per_pass: int
    images_per_batch: int
    show: Callable[[int, np.random.Generator], Callable[[], Shown]]
    compute_loss: Callable[[int, Shown], BatchLoss]
    judge: Callable[[nn.Module], dict[str, float]] = lambda model: {}
    beside: nn.Module | None = None
    ahead: int = 0
    tensorboard: Path | None = None
    choose: bool = True


def check_seed(seed: int) -> None:
    """Refuse a seed that numpy does not take."""
    if not 0 <= seed < 2**32:
        raise PocketlensError(f"--seed {seed} is not between 0 and 4294967295")


def seed_everything(seed: int) -> np.random.Generator:
    """Seed torch; return our own source of random numbers."""
    check_seed(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def count_steps(images: int, batch: int, settings: Optimisation) -> tuple[int, int]:
    """Return the steps of a training and of one pass over so many images."""
    each = batch * settings.accumulate
    return max(1, round(settings.epochs * images / each)), max(1, images // each)


def mix_in_weights(model: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Replace each weight by (1 - share) · weight + share · starting weight.

    A network tuned on a few classes errs on others; some of what it was before makes up for that
    (WiSE-FT: Wortsman et al., 2022, "Robust fine-tuning of zero-shot models", eq. 1).
    """
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            weight.lerp_(start[name].to(weight), share)


def diverged(what: str, step: int, steps: int, images: Sequence[str] = ()) -> PocketlensError:
    """Return the error of a training whose figures are no longer numbers."""
    shown = f" (images {', '.join(images[:3])}, …)" if images else ""
    return PocketlensError(
        f"{what} is not a number at step {step} of {steps}{shown}; lower --lr and train again, "
        "with --overwrite where a state of this training was kept"
    )


def run_training(
    training: Training[Shown], settings: Optimisation, seed: int, folder: StateFolder
) -> None:
    """Train, from the start or from where the state in `folder` was left.

    The model ends with the weights of the best judgement, where that may choose, or else with the
    last, or their moving average.

    Raises:
        PocketlensError: when the loss is no longer a number, naming step and images.
    """
    run = _Run(training, settings, seed, folder)
    with contextlib.closing(run.log):
        run.go_on()
        run.end()


class _Run(Generic[Shown]):
    """Hold what changes while a training runs."""

    def __init__(
        self, training: Training[Shown], settings: Optimisation, seed: int, folder: StateFolder
    ) -> None:
        self.training, self.settings, self.seed, self.folder = training, settings, seed, folder
        self.optimisers: Optimisers = build_optimisers(training.modules, settings, training.steps)
        self.average: AveragedModel | None = None
        if settings.average:
            self.average = average_weights(training.model, settings.average)
        self.best: dict[str, Tensor] = {}
        self.progress = Progress()
        self._restore()
        progress = self.progress
        self._begun = progress.step * settings.accumulate
        self._upcoming: collections.deque[tuple[int, Callable[[], Shown]]] = collections.deque()
        watched = training.tensorboard
        self.log = MetricLog(
            folder.log,
            length=progress.log_bytes,
            seconds=progress.seconds,
            watcher=open_tensorboard(watched, step=progress.step) if watched else None,
        )

    def go_on(self) -> None:
        """Run the steps that are left."""
        trunk = self.training.modules[0][0]
        self.training.model.train()
        try:
            self._run_steps(trunk)
        finally:
            trunk.requires_grad_(True)

    def _run_steps(self, trunk: nn.Module) -> None:
        training, settings, progress = self.training, self.settings, self.progress
        resting = min(
            round(settings.head_passes / settings.epochs * training.steps), training.steps - 1
        )
        images = training.images_per_batch * settings.accumulate
        saved = time.monotonic()
        with track(training.title, (training.steps - progress.step) * images) as advance:
            while progress.step < training.steps and not self._is_enough():
                progress.step += 1
                step = progress.step
                trunk.requires_grad_(step > resting)
                figures = self._take_step(step)
                advance(images, **figures)
                if step % _LOG_EVERY == 0 or step == training.steps:
                    rate = self.optimisers.rate
                    self.log.write(step, steps=training.steps, lr=rate, **figures)
                judged = step % training.steps_per_pass == 0 or step == training.steps
                if judged:
                    self._judge(step)
                if judged or time.monotonic() - saved > _SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()

    def _take_step(self, step: int) -> dict[str, float]:
        training, count = self.training, self.settings.accumulate
        self.optimisers.clear()
        figures: dict[str, float] = {}
        for number in range((step - 1) * count, step * count):
            batch = training.compute_loss(number, self._show(number))
            if not bool(torch.isfinite(batch.loss)):
                raise diverged("the loss", step, training.steps, batch.images)
            (batch.loss / count).backward()  # type: ignore[no-untyped-call]
            for name, value in batch.figures.items():
                figures[name] = figures.get(name, 0.0) + value / count
        self.optimisers.step()
        if self.average is not None:
            self.average.update_parameters(training.model)
        return figures

    def _show(self, number: int) -> Shown:
        """Return what a batch shows, when some batches after it are begun; seed torch for it."""
        training = self.training
        last = training.steps * self.settings.accumulate
        while self._begun < min(number + 1 + training.ahead, last):
            rng, torch_seed = seed_batch(self.seed, self._begun)
            self._upcoming.append((torch_seed, training.show(self._begun, rng)))
            self._begun += 1
        torch_seed, wait = self._upcoming.popleft()
        shown = wait()
        torch.manual_seed(torch_seed)
        return shown

    def _current(self) -> nn.Module:
        """Return the model to judge and to keep."""
        return self.training.model if self.average is None else self.average.module

    def _judge(self, step: int) -> None:
        model = self._current().eval()
        figures = self.training.judge(model)
        model.train()
        if not all(map(math.isfinite, figures.values())):
            raise diverged("the embedding of a validation image", step, self.training.steps)
        if not figures:
            return
        self.log.write(step, **figures)
        better = figures[JUDGED_BY] > self.progress.best
        self.progress.worse = 0 if better else self.progress.worse + 1
        # Of weights that are judged alike, those that have learnt longer.
        if self.training.choose and figures[JUDGED_BY] >= self.progress.best:
            self.best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        self.progress.best = max(self.progress.best, figures[JUDGED_BY])

    def _is_enough(self) -> bool:
        return 0 < self.settings.patience <= self.progress.worse

    def _parts(self) -> dict[str, nn.Module]:
        """Return every part that changes, by name."""
        parts = {"model": self.training.model, "beside": self.training.beside, "mean": self.average}
        return {name: part for name, part in parts.items() if part is not None}

    def _save(self) -> None:
        self._check_weights()
        self.log.sync()
        self.progress.log_bytes, self.progress.seconds = self.log.length, self.log.seconds
        tensors = gather_tensors(self._parts(), self.optimisers)
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        save_state(self.folder, self.progress, tensors)

    def _restore(self) -> None:
        found = load_state(self.folder)
        if found is None:
            return
        self.progress, tensors = found
        with warnings.catch_warnings():
            # Schedules run ahead of their optimisers here, on purpose.
            warnings.filterwarnings("ignore", message=r".*optimizer\.step\(\)")
            scatter_tensors(tensors, self._parts(), self.optimisers, self.progress.step)
        self.best = {
            name.removeprefix("best/"): value
            for name, value in tensors.items()
            if name.startswith("best/")
        }

    def _check_weights(self) -> None:
        for module, _ in self.training.modules:
            if not all(bool(torch.isfinite(weight).all()) for weight in module.parameters()):
                raise diverged("a weight", self.progress.step, self.training.steps)

    def end(self) -> None:
        """Leave the weights to keep in the model."""
        self._check_weights()
        self.training.model.load_state_dict(self.best or self._current().state_dict())
