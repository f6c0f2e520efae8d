"""Prototypical episodes: classify each image by the mean of the others of its class."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PrototypicalLoss(nn.Module):
    """Compare each vector with the prototypes of a batch's classes (Snell et al., 2017, eq. 2).

    A batch of N classes with K images each is N episodes of one query a class at once: each image
    asks in turn, the others of its class are its support, and all images of the other classes are
    theirs. Logits are negative squared Euclidean distances over the temperature; prototypes are
    means, not unit vectors. Nothing is learnt beside the network.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of unit vectors `[n, dim]` of these classes `[n]`.

        Images alone of their class in the batch do not ask.
        """
        classes, own = torch.unique(targets, return_inverse=True)
        belongs = functional.one_hot(own, len(classes)).to(vectors.dtype)
        sums, counts = belongs.T @ vectors, belongs.sum(0)
        prototypes = sums / counts[:, None]
        distances = torch.cdist(vectors, prototypes).square()
        others = (sums[own] - vectors) / (counts[own] - 1).clamp(min=1)[:, None]
        without = (vectors - others).square().sum(1)
        logits = torch.where(belongs.bool(), without[:, None], distances) / -self.temperature
        asks = counts[own] > 1
        if not bool(asks.any()):
            return vectors.sum() * 0
        return functional.cross_entropy(logits[asks], own[asks])
