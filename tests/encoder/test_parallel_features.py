"""Parts of a batch on each core: the same features, the same gradients, in any order of work."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import pytest
import torch
from torch import Tensor

from encoder import core_workers
from encoder.core_workers import CoreWorkers
from encoder.inference import normalise_pixels
from encoder.model import Architecture, EmbeddingModel
from encoder.parallel_features import count_ahead, extract_features, works_in_parts
from encoder.preprocess import Preprocess
from encoder.teacher import start_model

CPU = torch.device("cpu")
PREPROCESS = Preprocess(64)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> CoreWorkers:
    monkeypatch.setattr(core_workers, "count_cores", lambda: 3)
    workers = CoreWorkers(CPU)
    yield workers
    workers.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def make_model(batch_norm: str = "folded") -> EmbeddingModel:
    torch.manual_seed(0)
    architecture = Architecture(dim=16, pooling="gem", batch_norm=batch_norm)  # type: ignore[arg-type]
    return start_model(architecture, "").train()


def learn(features: Tensor, model: EmbeddingModel) -> dict[str, Tensor]:
    """Return the gradients of a loss in which images of all parts meet, of weights that learn."""
    model.zero_grad()
    vectors = model.project(features)
    (vectors @ vectors.T).pow(3).sum().backward()  # type: ignore[no-untyped-call]
    named = model.named_parameters()
    return {name: weight.grad for name, weight in named if weight.grad is not None}


@pytest.mark.parametrize("count", [17, 26])
def test_parts_learn_as_the_whole_does(count: int, workers: CoreWorkers) -> None:
    model = make_model()
    pixels = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8)
    whole = model.extract_features(normalise_pixels(pixels, PREPROCESS))
    expected = {name: gradient.clone() for name, gradient in learn(whole, model).items()}
    parts = extract_features(model, pixels, PREPROCESS, workers)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-4)
    found = learn(parts, model)
    assert found.keys() == expected.keys()
    assert {name for name in found if name.startswith("pool")} == {"pool.exponent"}
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, atol=1e-3 * scale, rtol=1e-3)
    again = learn(extract_features(model, pixels, PREPROCESS, workers), model)
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_a_trunk_at_rest_has_no_gradient(workers: CoreWorkers) -> None:
    model = make_model()
    model.trunk.requires_grad_(False)
    assert model.pool is not None
    pixels = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8)
    found = learn(extract_features(model, pixels, PREPROCESS, workers), model)
    assert found.keys() == {"pool.exponent", "projection.weight"}
    model.pool.requires_grad_(False)
    assert not extract_features(model, pixels, PREPROCESS, workers).requires_grad


def test_a_batch_norm_sees_the_whole_batch(workers: CoreWorkers) -> None:
    model = make_model("trained")
    assert not works_in_parts(model, CPU) and count_ahead(model, CPU) == 0
    pixels = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8)
    whole = model.extract_features(normalise_pixels(pixels, PREPROCESS))
    torch.testing.assert_close(extract_features(model, pixels, PREPROCESS, workers), whole)


def test_a_task_that_would_wait_for_its_own_thread_is_refused(workers: CoreWorkers) -> None:
    with pytest.raises(RuntimeError, match="must not wait"):
        workers.run([lambda: workers.run([lambda: 1])])


def test_what_is_waited_for_goes_first_and_results_keep_their_order(workers: CoreWorkers) -> None:
    gate, done = threading.Event(), []
    held = workers.start([gate.wait] * workers.count)
    wait_until(lambda: all(future.running() for future in held))
    later = workers.start([lambda n=n: done.append(n) for n in range(5)])
    urgent: list[list[int]] = []
    asking = threading.Thread(
        target=lambda: urgent.append(
            workers.run([lambda n=n: done.append(10 + n) or n for n in range(4)])
        )
    )
    asking.start()
    wait_until(lambda: workers._tasks.qsize() == 9)
    gate.set()
    asking.join()
    assert urgent == [[0, 1, 2, 3]]
    assert all(future.result() is None for future in later) and all(f.result() for f in held)
    assert max(done.index(10 + n) for n in range(4)) < max(done.index(n) for n in range(5))
    assert sorted(done) == [0, 1, 2, 3, 4, 10, 11, 12, 13]


def test_each_worker_keeps_to_its_core(workers: CoreWorkers) -> None:
    before = torch.get_num_threads()
    assert set(workers.run([torch.get_num_threads] * 20)) == {1}
    assert torch.get_num_threads() == before


def test_an_error_reaches_who_waits_and_what_is_not_begun_is_forgotten() -> None:
    gate, begun = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        gate.wait()

    with CoreWorkers(CPU) as workers:
        with pytest.raises(ZeroDivisionError):
            workers.run([lambda: 1 // 0])
        workers.start([hold] * workers.count)
        forgotten: list[Future[float]] = workers.start([lambda: 1 / 0] * 50)
        assert begun.wait(10)
        threading.Timer(0.1, gate.set).start()
    assert any(future.cancelled() for future in forgotten)
    assert all(future.done() for future in forgotten)
