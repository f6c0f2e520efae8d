import numpy as np
import torch
from torch.nn import functional

from encoder.losses.classification import normalised_softmax


def test_loss_equals_the_formula_of_zhai_and_wu() -> None:
    torch.manual_seed(0)
    loss = normalised_softmax(classes=5, dim=8, temperature=0.07)
    vectors = functional.normalize(torch.randn(6, 8), dim=1)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    proxies = loss.W.detach().numpy().T
    proxies = proxies / np.linalg.norm(proxies, axis=1, keepdims=True)
    total = 0.0
    for vector, label in zip(vectors.numpy(), labels.numpy(), strict=True):
        logits = proxies @ vector / 0.07
        total += np.log(np.exp(logits).sum()) - logits[label]
    np.testing.assert_allclose(float(loss(vectors, labels).detach()), total / 6, rtol=1e-4)


def test_proxies_start_at_unit_length() -> None:
    lengths = normalised_softmax(classes=7, dim=16, temperature=0.1).W.detach().norm(dim=0)
    torch.testing.assert_close(lengths, torch.ones(7))
