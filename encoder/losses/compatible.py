"""What draws a new teacher towards an old one's space, so that it searches the old database.

All terms compare a new embedding, mapped to the old dimension and of unit length, with what the old
model left: its vectors of the images, their classes' prototypes, its classifier. Cosines are
divided by one temperature.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def map_vectors(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Map vectors `[n, from]` by a matrix `[to, from]`, to unit length."""
    return functional.normalize(vectors @ matrix.T, dim=1)


def classifier_loss(
    vectors: Tensor,
    classifier: Tensor,
    targets: Tensor,
    temperature: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the mean cross-entropy of unit vectors `[n, dim]` under a fixed classifier `[c, dim]`.

    With the old model's classifier this is the influence loss of BCT (Shen et al., 2020, eq. 4)
    and the new-to-old term of Dual-Tuning; with its class prototypes, Dual-Tuning's feature-level
    loss. `weights` `[c]` say how much a class counts, its images' mean being 1 or near it.
    """
    losses = functional.cross_entropy(
        vectors @ classifier.T / temperature, targets, reduction="none"
    )
    return (losses if weights is None else losses * weights[targets]).mean()


def alignment_loss(proxies: Tensor, prototypes: Tensor) -> Tensor:
    """Return the mean squared difference of unit proxies and unit prototypes, both `[c, dim]`.

    The class-centre alignment of LCE (Meng et al., 2021).
    """
    return functional.mse_loss(proxies, prototypes)


def boundary_loss(
    vectors: Tensor, prototypes: Tensor, least_cosines: Tensor, targets: Tensor
) -> Tensor:
    """Return by how much unit vectors lie outside their class in the old space, on average.

    `least_cosines` `[c]` are the cosines of each class's outermost old vector to its prototype. The
    boundary loss of LCE (Meng et al., 2021).
    """
    cosines = (vectors * prototypes[targets]).sum(dim=1)
    return (least_cosines[targets] - cosines).clamp(min=0).mean()


def regression_loss(vectors: Tensor, old: Tensor) -> Tensor:
    """Return the mean of one less the cosine to the old vector of the same image."""
    return (1 - (vectors * old).sum(dim=1)).mean()


def read_proxies(loss: nn.Module) -> Tensor | None:
    """Return a loss's proxies `[c, dim]` at unit length, with their gradient; None without."""
    for name, columns in (("W", True), ("proxies", False)):
        proxies = getattr(loss, name, None)
        if isinstance(proxies, nn.Parameter):
            return functional.normalize(proxies.T if columns else proxies, dim=1)
    return None


def fit_classifier(
    vectors: Tensor, targets: Tensor, start: Tensor, temperature: float, steps: int = 100
) -> Tensor:
    """Fit unit proxies `[c, dim]` to unit vectors `[n, dim]` by a normalised softmax, from a start.

    Stands in for the old model's classifier, which a checkpoint does not hold.
    """
    proxies = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([proxies], lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        unit = functional.normalize(proxies, dim=1)
        classifier_loss(vectors, unit, targets, temperature).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return functional.normalize(proxies.detach(), dim=1)
