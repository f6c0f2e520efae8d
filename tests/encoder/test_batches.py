"""What a batch holds follows from the seed and its number alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from encoder.batches import ClassBalancedBatches, ShuffledBatches, seed_batch

# Three classes of nine, two and one image.
TARGETS = np.array([0] * 9 + [1] * 2 + [2])


def test_a_batch_has_so_many_images_of_each_of_its_classes() -> None:
    batches = ClassBalancedBatches(TARGETS, 6, 3, seed=0)
    assert batches.per_pass == 2
    seen = set()
    for number in range(20):
        drawn = TARGETS[batches.draw(number)]
        classes, counts = np.unique(drawn, return_counts=True)
        assert len(classes) == 2 and counts.tolist() == [3, 3]
        seen |= set(classes.tolist())
    assert seen == {0, 1, 2}
    # An image comes twice in a batch only where its class has too few.
    large = [batch[TARGETS[batch] == 0] for batch in map(batches.draw, range(20))]
    assert all(len(set(part.tolist())) == len(part) for part in large)


@pytest.mark.parametrize("kind", ["balanced", "shuffled"])
def test_a_batch_follows_from_seed_and_number(kind: str) -> None:
    def make(seed: int) -> ClassBalancedBatches | ShuffledBatches:
        if kind == "balanced":
            return ClassBalancedBatches(TARGETS, 6, 3, seed)
        return ShuffledBatches(12, 5, seed)

    state = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    forward = make(3)
    in_order = [forward.draw(number).tolist() for number in range(9)]
    assert [make(3).draw(number).tolist() for number in reversed(range(9))][::-1] == in_order
    assert [make(4).draw(number).tolist() for number in range(9)] != in_order
    assert len({str(batch) for batch in in_order}) > 6
    assert np.random.get_state()[1].tolist() == state  # type: ignore[union-attr]


@given(total=st.integers(1, 30), batch=st.integers(1, 12), seed=st.integers(0, 9))
def test_every_image_comes_once_before_any_comes_again(total: int, batch: int, seed: int) -> None:
    batch = min(batch, total)
    batches = ShuffledBatches(total, batch, seed)
    drawn = np.concatenate([batches.draw(number) for number in range(3 * total)])
    for turn in range(len(drawn) // total):
        assert sorted(drawn[turn * total : (turn + 1) * total]) == list(range(total))


def test_the_random_numbers_of_a_batch() -> None:
    """A function of seed and number alone; torch's own state is not touched."""
    state = torch.get_rng_state()
    (first, torch_seed), (again, same_seed) = seed_batch(1, 2), seed_batch(1, 2)
    assert torch.equal(torch.get_rng_state(), state)
    number = first.random()
    assert again.random() == number and same_seed == torch_seed
    for other in (seed_batch(1, 3), seed_batch(2, 2)):
        assert other[0].random() != number and other[1] != torch_seed
