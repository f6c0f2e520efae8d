"""Centre an embedding: its mean over the training images becomes zero.

Signs then divide the images in halves, component by component, which is what makes them good codes
(Zhai & Wu, 2019, §3.3, centre by a layer norm right before the sign; a projection behind the norm
moves the centre again). Cosines hardly change.
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

# Enough for a mean: its error is a hundredth of the spread of the images.
_ENOUGH = 10_000


def centre_projection(
    model: EmbeddingModel,
    architecture: Architecture,
    preprocess: Preprocess,
    files: Sequence[Source],
) -> Architecture:
    """Give the projection the bias that maps the images' mean features to zero.

    Of very many images an evenly spaced part is looked at. Unreadable ones do not count. Returns
    the architecture as it is now.
    """
    network = prepare_network(model, architecture, preprocess, precision="fp32")
    chosen = files[:: -(-len(files) // _ENOUGH)]
    with track("centring the embedding", len(chosen)) as advance:
        features = embed_all(chosen, preprocess, network.feature_extractor, advance=advance).vectors
    mean = torch.from_numpy(features.mean(axis=0, dtype=np.float64)).to(model.projection.weight)
    model.projection.bias = nn.Parameter(-model.projection.weight.detach() @ mean)
    return dataclasses.replace(architecture, bias=True)
