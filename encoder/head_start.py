"""Where a teacher's head starts: at what the pretrained trunk can tell apart already.

A projection of random directions, and random proxies, pull the trunk wherever they happen to point
until they have learnt. Started at the principal directions of the training images' features,
whitened in part, and at the classes' mean vectors, they ask less of it, and it forgets less.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from encoder.embed import embed_all
from encoder.images import Source
from encoder.inference import prepare_network
from encoder.losses.nested import NestedLoss
from encoder.model import Architecture, EmbeddingModel
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.whitening import SHRINKAGE, gather_moments, whiten

HeadStart = Literal["features", "random"]
_WHITENING = 0.5


def start_projection(
    model: EmbeddingModel,
    architecture: Architecture,
    preprocess: Preprocess,
    files: Sequence[Source],
    targets: NDArray[np.int64],
    aim: NDArray[np.float32] | None = None,
) -> Tensor | None:
    """Set the projection to the files' principal directions; return their classes' mean vectors.

    `targets` are class numbers from 0. With an `aim`, vectors `[n, up to dim]` of the files, the
    directions are turned so that what they give is nearest to these. The mean vectors
    `[classes, dim]` are of unit length. The projection keeps the size of its weights, so that a
    learning rate means what it did. None, and nothing changed but a bias of zero, where the images
    are no more than the dimensions or a class has no readable one.
    """
    weight, bias = model.projection.weight, model.projection.bias
    with torch.no_grad():
        bias.zero_()
    dim, width = weight.shape
    if not dim < len(files) or dim > width:
        return None
    network = prepare_network(model, architecture, preprocess, precision="fp32")
    with track("starting the projection", len(files)) as advance:
        found = embed_all(files, preprocess, network.feature_extractor, advance=advance)
    present = targets[found.positions]
    if len(found.vectors) <= dim or len(np.unique(present)) <= targets.max():
        return None
    directions, offset = whiten(gather_moments([found.vectors], width), dim, _WHITENING, SHRINKAGE)
    if aim is not None:
        turn = find_turn(found.vectors @ directions.T + offset, aim[found.positions])
        directions, offset = turn @ directions, turn @ offset
    scale = float(weight.detach().std()) / float(directions.std())
    with torch.no_grad():
        weight.copy_(torch.from_numpy(scale * directions))
        bias.copy_(torch.from_numpy(scale * offset))
        vectors = model.project(torch.from_numpy(found.vectors).to(weight))
        sums = torch.zeros(int(targets.max()) + 1, dim).to(vectors)
        sums.index_add_(0, torch.from_numpy(present).to(vectors.device), vectors)
    return functional.normalize(sums, dim=1)


def find_turn(vectors: NDArray[np.float32], aim: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rotation `[dim, dim]` that brings vectors `[n, dim]` nearest to an aim.

    Orthogonal Procrustes (Schönemann, 1966) on unit vectors. An aim `[n, fewer]` is of the first
    components.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    wanted = np.zeros_like(unit)
    wanted[:, : aim.shape[1]] = aim
    left, _, right = np.linalg.svd(wanted.T.astype(np.float64) @ unit)
    turn: NDArray[np.float32] = (left @ right).astype(np.float32)
    return turn


def start_proxies(loss: nn.Module, means: Tensor) -> None:
    """Set a loss's proxies to the classes' mean vectors; those with several a class stay."""
    if isinstance(loss, NestedLoss):
        for dim, part in zip(loss.dims, loss.losses, strict=True):
            start_proxies(part, functional.normalize(means[:, :dim], dim=1))
        return
    # Some hold a proxy in each column, others in each row.
    for name, value in (("W", means.T), ("proxies", means)):
        proxies = getattr(loss, name, None)
        if isinstance(proxies, nn.Parameter) and proxies.shape == value.shape:
            with torch.no_grad():
                proxies.copy_(value)
