"""Classification as proxy-based metric learning (Zhai & Wu, 2019, §3)."""

import torch
from pytorch_metric_learning.losses import NormalizedSoftmaxLoss
from torch import nn
from torch.nn import functional


def normalised_softmax(classes: int, dim: int, temperature: float) -> nn.Module:
    """Return −log softmax(x·p_y / temperature) over one learnt proxy p a class.

    Called with unit vectors `[n, dim]` and class numbers `[n]`; the mean over the batch. Proxies
    start at unit length, so that a learning rate means the same whatever their number.
    """
    loss: nn.Module = NormalizedSoftmaxLoss(classes, dim, temperature=temperature)
    with torch.no_grad():
        loss.W.copy_(functional.normalize(loss.W, dim=0))  # type: ignore[operator, arg-type]
    return loss
