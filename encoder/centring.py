"""Centre an embedding and whiten it in part: its mean over the training images becomes zero.

Signs then divide the images in halves, component by component, which is what makes them good codes
(Zhai & Wu, 2019, §3.3, centre by a layer norm right before the sign; a projection behind the norm
moves the centre again). Cosines hardly change.

A trained embedding holds half of its variance in a handful of directions, those that tell the
training classes apart. Whitened in part, the others count for more, and classes not trained on are
told apart better (for retrieval features: Jégou & Chum, 2012, "Negative evidences and
co-occurrences in image retrieval"). The whitening is symmetric: each component stays where it was.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from encoder.embed import embed_all
from encoder.images import Source
from encoder.inference import prepare_network
from encoder.model import Architecture, EmbeddingModel
from encoder.preprocess import Preprocess
from encoder.progress import track
from encoder.whitening import whiten_symmetrically

# Enough for a mean: its error is a hundredth of the spread of the images.
_ENOUGH = 10_000


def centre_projection(
    model: EmbeddingModel,
    architecture: Architecture,
    preprocess: Preprocess,
    files: Sequence[Source],
    *,
    whitening: float = 0.0,
) -> Architecture:
    """Give the projection the bias that maps the images' mean to zero, and whiten what it makes.

    A direction of variance v is scaled by v^(−whitening / 2): 0 leaves all as they are, 1 makes all
    alike. With no more images than dimensions nothing is whitened. Of very many images an evenly
    spaced part is looked at. Unreadable ones do not count. Returns the architecture as it is now.
    """
    network = prepare_network(model, architecture, preprocess, precision="fp32")
    chosen = files[:: -(-len(files) // _ENOUGH)]
    with track("centring the embedding", len(chosen)) as advance:
        features = embed_all(chosen, preprocess, network.feature_extractor, advance=advance).vectors
    weight = model.projection.weight.detach().cpu().numpy().astype(np.float64)
    mean = features.mean(axis=0, dtype=np.float64)
    if whitening and len(features) > len(weight):
        projected = (features - mean) @ weight.T
        weight = whiten_symmetrically(projected, whitening) @ weight
    with torch.no_grad():
        model.projection.weight.copy_(torch.from_numpy(weight))
    bias = torch.from_numpy(-weight @ mean).to(model.projection.weight)
    model.projection.bias = nn.Parameter(bias)
    return dataclasses.replace(architecture, bias=True)
