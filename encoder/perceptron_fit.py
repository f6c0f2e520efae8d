"""Fit a small network of two layers, judged on inputs held out."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from encoder.perceptron import Perceptron

Vectors = NDArray[np.float32]
# Of inputs and errors: [n, out], [n, any] → the loss of each `[n]`.
LossOf = Callable[[Tensor, Tensor], Tensor]
_BATCH = 256
_PATIENCE = 8


def fit_perceptron(
    seen: tuple[Vectors, Vectors],
    held_out: tuple[Vectors, Vectors],
    loss_of: LossOf,
    *,
    outputs: int,
    hidden: int,
    seed: int = 0,
    passes: int = 80,
    lr: float = 5e-4,
) -> Perceptron:
    """Fit to pairs of inputs `[n, in]` and targets; keep what was best on those held out.

    It starts at zero for every input. `loss_of` is given outputs and targets, and returns `[n]`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inputs, targets = (torch.from_numpy(part) for part in seen)
        shown, wanted = (torch.from_numpy(part) for part in held_out)
        first, second = nn.Linear(inputs.shape[1], hidden), nn.Linear(hidden, outputs)
        nn.init.zeros_(second.weight)
        nn.init.zeros_(second.bias)
        network = nn.Sequential(first, nn.ReLU(), second)
        optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=1e-2)
        best, kept, worse = np.inf, copy.deepcopy(network.state_dict()), 0
        for _ in range(passes):
            with torch.no_grad():
                judged = float(loss_of(network(shown), wanted).mean())
            worse = 0 if judged < best else worse + 1
            if not worse:
                best, kept = judged, copy.deepcopy(network.state_dict())
            if worse > _PATIENCE:
                break
            for rows in torch.split(torch.randperm(len(inputs)), _BATCH):
                optimiser.zero_grad()
                loss_of(network(inputs[rows]), targets[rows]).mean().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        network.load_state_dict(kept)
    weights = (first.weight, first.bias, second.weight, second.bias)
    return Perceptron(*(weight.detach().numpy() for weight in weights))
