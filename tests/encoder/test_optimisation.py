"""Rates over the steps, groups of weights, the moving average."""

import numpy as np
import pytest
import torch

from encoder.errors import PocketlensError
from encoder.losses.sampled import SampledSoftmax
from encoder.optimisation import Optimisation, average_weights, build_optimisers


def list_rates(steps: int = 100, **settings: object) -> np.ndarray:
    layer = torch.nn.Linear(2, 2)
    given = {"epochs": 1, "lr": 1.0, "warm_up": 0.2, **settings}
    chosen = Optimisation(**given)  # type: ignore[arg-type]
    optimisers = build_optimisers([(layer, 1.0)], chosen, steps)
    rates = []
    for _ in range(steps):
        layer(torch.ones(1, 2)).sum().backward()
        rates.append(optimisers.rate)
        optimisers.step()
    return np.array(rates)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "step"])
def test_the_rate_rises_to_its_peak_over_the_warm_up(schedule: str) -> None:
    rates = list_rates(schedule=schedule)
    assert rates[0] == pytest.approx(0.04)
    assert rates.max() == pytest.approx(1, abs=1e-3) and 18 <= rates.argmax() <= 21
    assert (np.diff(rates[:19]) > 0).all()


def test_how_the_rate_falls() -> None:
    one_cycle, cosine = list_rates(schedule="one-cycle"), list_rates(schedule="cosine")
    assert one_cycle[-1] < 1e-3 and cosine[-1] < 1e-2
    assert cosine[60] == pytest.approx(0.5, abs=0.01)
    step = list_rates(schedule="step")
    np.testing.assert_allclose(step[[30, 49, 51, 99]], [1, 1, 0.1, 0.1])
    for schedule in ("cosine", "step"):
        assert list_rates(schedule=schedule, warm_up=0.0)[0] == 1


def test_sparse_and_dense_weights_have_their_own_optimisers() -> None:
    loss = SampledSoftmax(50, 4, 0.1, 0.1, learn_temperature=True)
    layer = torch.nn.Linear(3, 4)
    settings = Optimisation(epochs=1, lr=1e-3, weight_decay=0.5)
    dense, sparse = build_optimisers([(layer, 1.0), (loss, 10.0)], settings, 10).optimisers
    assert [len(group["params"]) for group in dense.param_groups] == [1, 1, 1]
    assert [group["weight_decay"] for group in dense.param_groups] == [0.5, 0.0, 0.0]
    (group,) = sparse.param_groups
    assert group["params"] == [loss.proxies] and group["max_lr"] == pytest.approx(1e-2)


def test_sgd_has_momentum() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    settings = Optimisation(
        epochs=1, lr=0.5, optimiser="sgd", schedule="step", warm_up=0.0, weight_decay=0.0
    )
    optimisers = build_optimisers([(layer, 1.0)], settings, 100)
    for expected in (-0.5, -0.5 - 0.95, -0.5 - 0.95 - 1.355):
        optimisers.clear()
        layer(torch.ones(1, 1)).sum().backward()
        optimisers.step()
        assert float(layer.weight.detach()) == pytest.approx(expected)


def test_the_moving_average_against_a_slow_loop() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    mean = average_weights(layer, 0.6)
    expected = None
    for count, value in enumerate([1.0, 3.0, -2.0, 5.0, 5.0, 0.0, 1.0, 8.0]):
        torch.nn.init.constant_(layer.weight, value)
        mean.update_parameters(layer)
        kept = min(0.6, (1 + count) / (10 + count))
        expected = value if expected is None else kept * expected + (1 - kept) * value
        assert float(mean.module.weight.detach()) == pytest.approx(expected)


def test_the_average_has_the_statistics_of_batch_norms() -> None:
    norm = torch.nn.BatchNorm1d(2)
    mean = average_weights(norm, 0.5)
    norm(torch.full((4, 2), 8.0) + torch.arange(4.0)[:, None])
    mean.update_parameters(norm)
    torch.testing.assert_close(mean.module.running_mean, norm.running_mean)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0}, {"lr": -1}, {"head_factor": 0}, {"schedule": "flat"}, {"head_passes": 2},
        {"optimiser": "lion"}, {"head_passes": -1}, {"accumulate": 0}, {"average": 1},
        {"patience": -1}, {"warm_up": 1},
        {"weight_decay": -1},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(settings: dict[str, float]) -> None:
    (name,) = settings
    with pytest.raises(PocketlensError, match=f"--{name.replace('_', '-')} "):
        Optimisation(**{"epochs": 2, "lr": 0.1, **settings})  # type: ignore[arg-type]
