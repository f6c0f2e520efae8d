"""Normalised softmax over some of very many classes (Zhai & Wu, 2019, §3.4)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# A learnt temperature stays within these: colder, one class decides alone; warmer, none does.
_COLDEST, _WARMEST = 0.01, 1.0


class SampledSoftmax(nn.Module):
    """Compare each vector with the proxies of the batch's classes and of some others.

    The others are drawn anew at each call: a share of the classes that the batch does not hold,
    each as likely. Below a share of 1 only the proxies touched have a gradient, which is sparse, so
    that a step costs what the drawn classes cost. `corrected` counts each other class as the 1/q
    classes of which it was drawn (q the share that really was drawn): the sum of the softmax is
    then unbiased, though not its logarithm. At a share of 1 it is the plain normalised softmax.
    With `learn_temperature` the temperature is a weight, and `temperature` where it starts.
    """

    def __init__(
        self,
        classes: int,
        dim: int,
        temperature: float,
        share: float,
        *,
        corrected: bool = False,
        learn_temperature: bool = False,
    ) -> None:
        super().__init__()
        self.proxies = nn.Parameter(functional.normalize(torch.randn(classes, dim), dim=1))
        logarithm = torch.tensor(math.log(temperature))
        self.log_temperature = nn.Parameter(logarithm, requires_grad=learn_temperature)
        self.share, self.corrected = share, corrected

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of unit vectors `[n, dim]` of these classes `[n]`."""
        with torch.no_grad():
            # In place: clamped on the way it would have no gradient out there, and stay there.
            self.log_temperature.clamp_(math.log(_COLDEST), math.log(_WARMEST))
        own, local = torch.unique(targets, return_inverse=True)
        rest = len(self.proxies) - len(own)
        # Torch is what a training seeds batch by batch; numpy draws without touching every class.
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        others = draw_others(own.cpu().numpy(), rest, math.ceil(self.share * rest), rng)
        rows = torch.cat([own, torch.from_numpy(others).to(own.device)])
        proxies = functional.embedding(rows, self.proxies, sparse=self.share < 1)
        logits = vectors @ functional.normalize(proxies, dim=1).T / self.temperature()
        if self.corrected and len(others):
            stands_for = torch.full((len(rows),), rest / len(others), device=logits.device)
            stands_for[: len(own)] = 1
            logits = logits + stands_for.log()
        return functional.cross_entropy(logits, local)

    def sparse_parameters(self) -> list[nn.Parameter]:
        """Return the weights whose gradients are sparse."""
        return [self.proxies] if self.share < 1 else []

    def temperature(self) -> Tensor:
        """Return the temperature as it is now."""
        return self.log_temperature.exp()


def draw_others(
    own: NDArray[np.int64], rest: int, count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `count` of the `rest` numbers from 0 on that are not in `own`, which rises."""
    drawn = rng.choice(rest, count, replace=False, shuffle=False).astype(np.int64)
    # The n-th number that is not in `own` is n and as many more as members of `own` come before it.
    before = own - np.arange(len(own))
    return drawn + np.searchsorted(before, drawn, side="right")
