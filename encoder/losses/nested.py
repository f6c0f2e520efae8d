"""Nested embeddings: every listed prefix of a vector is a vector of its own (Matryoshka)."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class NestedLoss(nn.Module):
    """Mean of a loss over prefixes of the vectors, each of unit length again and with own proxies.

    After Kusupati et al., 2022, "Matryoshka representation learning", eq. 1, with equal weights.
    """

    def __init__(self, losses: dict[int, nn.Module]) -> None:
        """Take a loss for each length of prefix, the whole vector's among them."""
        super().__init__()
        self.dims = list(losses)
        self.losses = nn.ModuleList(losses.values())

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of unit vectors `[n, dim]` of these classes `[n]`."""
        values = [
            loss(functional.normalize(vectors[:, :dim], dim=1), targets)
            for dim, loss in zip(self.dims, self.losses, strict=True)
        ]
        return torch.stack(values).mean()
