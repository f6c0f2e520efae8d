"""Which items to encode anew first: those whose old vectors serve a new query worst.

- `margin`: where items crowd, a wrong one is answered in place of the right one, so those with the
  highest mean cosine to the others nearest to them come first;
- `doubt`: by what the compatibility learnt of vectors that err (`encoder.doubt`), the most first;
- `traffic`: by how often queries met an item, from a file of counts;
- `random`: any, the same for a seed whatever is added meanwhile.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from encoder.errors import PocketlensError, first_line
from encoder.perceptron import Perceptron
from server_index.faiss_index import Rows, Vectors

Order = Literal["margin", "doubt", "traffic", "random"]
ORDERS: tuple[Order, ...] = get_args(Order)
Scores = NDArray[np.float64]


def check_order(name: str) -> Order:
    """Return the order of this name.

    Raises:
        PocketlensError: when there is none.
    """
    if name not in ORDERS:
        raise PocketlensError(f"--order {name!r} is not one of {', '.join(ORDERS)}")
    return name


def put_in_order(keys: Rows, first: Scores, seed: int = 0) -> Rows:
    """Return keys by falling scores, those of equal ones at random."""
    return keys[np.lexsort((draw_ranks(keys, seed), -first))]


def draw_ranks(keys: Rows, seed: int = 0) -> NDArray[np.uint64]:
    """Return a random number for each key, which depends on it and the seed alone (SplitMix64)."""
    mixed = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15 * (seed + 1) % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    found: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return found


def score_by_doubt(chunks: Iterator[Vectors], doubt: Perceptron) -> Scores:
    """Return how far vectors, as they are asked, may be from where their queries ask."""
    return _join([doubt.apply(vectors)[:, 0] for vectors in chunks])


def score_by_margin(chunks: Iterator[Vectors], nearest: Callable[[Vectors], Vectors]) -> Scores:
    """Return each vector's mean cosine to the others nearest to it; `nearest` gives the scores."""
    found = []
    for vectors in chunks:
        # The best is the item itself; codes may find fewer than were asked for.
        scores = np.maximum(nearest(vectors)[:, 1:], -1)
        found.append(scores.sum(axis=1) / max(1, scores.shape[1]))
    return _join(found)


def score_by_traffic(names: Sequence[str], counts: dict[str, float]) -> Scores:
    """Return how often each item was met; those that are not named, never."""
    return np.array([counts.get(name, 0.0) for name in names])


def read_counts(file: Path) -> dict[str, float]:
    """Read how often items were met, from a CSV file with columns `id` and `count`.

    Raises:
        PocketlensError: naming the file, and the line that is not sound.
    """
    counts: dict[str, float] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if not {"id", "count"} <= set(rows.fieldnames or ()):
                raise PocketlensError(f"{file}: has no columns id and count")
            for number, row in enumerate(rows, 2):
                count = float(row["count"] or "nan")
                if not 0 <= count < np.inf:
                    raise PocketlensError(f"{file}:{number}: count {row['count']!r} is no count")
                counts[row["id"]] = counts.get(row["id"], 0.0) + count
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise PocketlensError(
            f"{file}: not a readable table of counts ({first_line(error)})"
        ) from None
    return counts


def _join(parts: list[NDArray[np.float32]]) -> Scores:
    return np.concatenate([np.empty(0), *parts]).astype(np.float64)
