"""One scale for the scores of a query in two spaces, so that both kinds of items rank together.

A new query is nearer to a new vector of an image than to its old one. While a database holds both,
an old score is read as the new score that such a pair has on average.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from encoder.evaluation.neighbours import find_neighbours

Vectors = NDArray[np.float32]
# Of each query; the ranking is decided among the nearest.
_NEAREST = 50


@dataclasses.dataclass(frozen=True)
class ScoreScale:
    """Read a score in the old space as slope · score + offset in the new one."""

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        # A falling scale would turn the ranking around.
        if not (np.isfinite([self.slope, self.offset]).all() and self.slope > 0):
            raise ValueError(f"a scale of slope {self.slope} and offset {self.offset}")

    def apply(self, scores: Vectors) -> Vectors:
        """Return the scores in the new space."""
        return np.asarray(self.slope * scores + self.offset, np.float32)


def fit_scale(new: Vectors, mapped: Vectors, old: Vectors) -> ScoreScale:
    """Fit the scale by least squares on pairs of the same images, by all three kinds of vectors.

    `new` `[n, any]` are the query encoder's vectors, `mapped` `[n, dim]` what is asked of `old`
    `[n, dim]`. The pairs are each image and its nearest others, by either score. No labels.
    """
    own = np.arange(len(new))
    count = min(_NEAREST, len(new) - 1)
    if count < 1:
        return ScoreScale()
    before, after = list[Vectors](), list[Vectors]()
    for asking, asked in ((new, new), (mapped, old)):
        for found in find_neighbours(asking, asked, count, own=own):
            rows, others = found.rows, found.indices
            before.append(np.einsum("nd,nkd->nk", mapped[rows], old[others]).ravel())
            after.append(np.einsum("nd,nkd->nk", new[rows], new[others]).ravel())
    slope, offset = np.polyfit(np.concatenate(before).astype(float), np.concatenate(after), 1)
    return ScoreScale(float(slope), float(offset)) if slope > 0 else ScoreScale()
