"""Guidance by a frozen master: the images of a batch are as near as the master has them.

Our reconstruction of the regularisation of Guided DML (Gonzalez-Zapata et al., 2022), whose loss is
not published: the form is the similarity distillation of S2SD (Roth et al., 2021, eq. 2), which
asks nothing of the master's dimension.
"""

import torch
from torch import Tensor
from torch.nn import functional


def guidance_loss(vectors: Tensor, master: Tensor, temperature: float) -> Tensor:
    """Return the mean divergence of each image's neighbours from those that the master sees.

    `vectors` `[n, dim]` and `master` `[n, any]` are unit vectors of the same images. Each row of
    cosines to the other images becomes a distribution by a softmax at the temperature; the loss is
    the Kullback-Leibler divergence from the master's to ours, times the temperature squared, so
    that its gradient keeps its size.
    """
    count = len(vectors)
    others = ~torch.eye(count, dtype=torch.bool, device=vectors.device)

    def spread(sides: Tensor) -> Tensor:
        cosines = (sides @ sides.T)[others].reshape(count, count - 1)
        return functional.log_softmax(cosines / temperature, dim=1)

    aim = spread(master)
    divergence = functional.kl_div(spread(vectors), aim, reduction="batchmean", log_target=True)
    return divergence * temperature**2
