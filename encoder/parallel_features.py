"""Learn from a batch in parts, one on each core: the same gradients, fewer waits.

Layers that run on all cores at once wait at each layer for the slowest core, parts of a batch once
a step; and while one part is waited for, the other cores prepare what comes next.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from encoder.core_workers import CoreWorkers
from encoder.inference import normalise_pixels
from encoder.model import EmbeddingModel
from encoder.preprocess import Preprocess

# Parts of four images of 112 px take a fifth longer an image than parts of eight to 64.
_FEWEST_IMAGES = 8


def works_in_parts(model: EmbeddingModel, device: torch.device) -> bool:
    """Return whether a batch is divided: on a CPU, where no batch norm looks at the whole of it."""
    norms = nn.modules.batchnorm._BatchNorm
    return device.type == "cpu" and not any(isinstance(part, norms) for part in model.modules())


def count_ahead(model: EmbeddingModel, device: torch.device) -> int:
    """Return how many batches to prepare during a step: none where its network needs all cores."""
    return 2 if device.type != "cpu" or works_in_parts(model, device) else 0


def extract_features(
    model: EmbeddingModel,
    pixels: Tensor,
    preprocess: Preprocess,
    workers: CoreWorkers,
    *,
    bfloat16: bool = False,
) -> Tensor:
    """Return the features `[n, width]` of uint8 `[n, h, w, 3]` before projection, to learn from."""

    def extract(part: Tensor) -> Tensor:
        return model.extract_features(normalise_pixels(part, preprocess), bfloat16=bfloat16)

    count = min(workers.count, len(pixels) // _FEWEST_IMAGES)
    if count < 2 or not works_in_parts(model, pixels.device):
        return extract(pixels)
    learning = [*model.trunk.parameters(), *(model.pool.parameters() if model.pool else [])]
    weights = [weight for weight in learning if weight.requires_grad]
    parts = pixels.tensor_split(count)
    features: Tensor = _InParts.apply(extract, workers, parts, *weights)
    return features


class _InParts(torch.autograd.Function):
    """Apply a function to parts, each on a core, and sum the gradients of its weights in order."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[[Tensor], Tensor],
        workers: CoreWorkers,
        parts: tuple[Tensor, ...],
        *weights: Tensor,
    ) -> Tensor:
        def run(part: Tensor) -> Tensor:
            with torch.set_grad_enabled(bool(weights)):
                return function(part)

        ctx.outputs = workers.run([functools.partial(run, part) for part in parts])
        ctx.workers, ctx.weights = workers, weights
        return torch.cat([output.detach() for output in ctx.outputs])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        def run(output: Tensor, arrived: Tensor) -> tuple[Tensor | None, ...]:
            found: tuple[Tensor | None, ...] = torch.autograd.grad(
                output, ctx.weights, arrived, allow_unused=True
            )
            return found

        arrived = torch.split(gradient, [len(output) for output in ctx.outputs])
        pairs = zip(ctx.outputs, arrived, strict=True)
        each = ctx.workers.run([functools.partial(run, *pair) for pair in pairs])
        del ctx.outputs
        return (None, None, None, *map(_add, zip(*each, strict=True)))


def _add(gradients: tuple[Tensor | None, ...]) -> Tensor | None:
    first, *others = gradients
    if first is not None:
        for other in others:
            # What has no gradient of one part has none of any.
            first += other  # type: ignore[arg-type]
    return first
