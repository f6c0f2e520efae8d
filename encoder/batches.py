"""Which images a batch holds: a function of the seed and the batch's number alone.

So a training that was stopped goes on exactly where it was, with no state of a generator kept.
"""

import contextlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pytorch_metric_learning.samplers import MPerClassSampler


def seed_batch(seed: int, number: int) -> tuple[np.random.Generator, int]:
    """Return numpy's source of random numbers for one batch of a training, and a seed for torch."""
    rng = np.random.default_rng([seed, number])
    torch_seed = int(rng.integers(2**62))
    return rng, torch_seed


class ClassBalancedBatches:
    """Draw batches of `per_class` images of each of some classes (P × K).

    A class with fewer images gives some twice. A pass draws as many images as there are.
    """

    def __init__(self, targets: NDArray[np.int64], batch: int, per_class: int, seed: int) -> None:
        self._targets, self._batch, self._per_class, self._seed = targets, batch, per_class, seed
        self.per_pass = max(1, len(targets) // batch)
        self._pass, self._order = -1, np.empty(0, np.int64)

    def draw(self, number: int) -> NDArray[np.int64]:
        """Return the positions of the images of a batch."""
        turn, at = divmod(number, self.per_pass)
        if turn != self._pass:
            self._pass, self._order = turn, self._draw_pass(turn)
        return self._order[at * self._batch : (at + 1) * self._batch]

    def _draw_pass(self, turn: int) -> NDArray[np.int64]:
        # The sampler shuffles in place and reads numpy's global state: a new one for each pass.
        with _numpy_seeded(self._seed, turn):
            sampler = MPerClassSampler(
                self._targets,
                self._per_class,
                batch_size=self._batch,
                length_before_new_iter=max(self._batch, len(self._targets)),
            )
            return np.fromiter(sampler, np.int64)


class ShuffledBatches:
    """Draw batches of images, every image once before any comes again."""

    def __init__(self, total: int, batch: int, seed: int) -> None:
        self._total, self._batch, self._seed = total, batch, seed
        self.per_pass = max(1, total // batch)
        self._orders: dict[int, NDArray[np.int64]] = {}

    def draw(self, number: int) -> NDArray[np.int64]:
        """Return the positions of the images of a batch."""
        places = np.arange(number * self._batch, (number + 1) * self._batch)
        turns, within = np.divmod(places, self._total)
        orders = {int(turn): self._orders.get(int(turn)) for turn in np.unique(turns)}
        self._orders = {
            turn: self._draw_pass(turn) if order is None else order
            for turn, order in orders.items()
        }
        drawn = [self._orders[int(turn)][at] for turn, at in zip(turns, within, strict=True)]
        return np.array(drawn, np.int64)

    def _draw_pass(self, turn: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, turn]).permutation(self._total)


@contextlib.contextmanager
def _numpy_seeded(*seeds: int) -> Iterator[None]:
    before = np.random.get_state()
    np.random.seed(seeds)
    try:
        yield
    finally:
        np.random.set_state(before)
