"""One search of two layers, while a database is encoded anew for another space.

What is in the new layer already is scored there; of the rest the old vectors are asked with the
mapped query, and their scores are read on the new layer's scale.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from encoder.evaluation.score_scale import ScoreScale
from server_index.faiss_index import Vectors
from server_index.snapshot import PLACE, Allowed, Answers, Snapshot, keep_best


@dataclasses.dataclass(frozen=True)
class Joined:
    """Hold the items that were encoded anew, and the others as they were."""

    anew: Snapshot
    rest: Snapshot
    scale: ScoreScale

    def search(
        self,
        queries: Vectors,
        mapped: Vectors,
        count: int,
        allowed: tuple[Sequence[Allowed], Sequence[Allowed]] | None = None,
    ) -> Answers:
        """Return each query's best items of both, the older first among equals.

        `queries` ask the new layer, `mapped` the old one.
        """
        sides = [
            self.anew.search(queries, count, allowed[0] if allowed else None),
            self.rest.search(mapped, count, allowed[1] if allowed else None),
        ]
        moved = len(self.anew.parts) * PLACE
        scores = np.hstack([sides[0].scores, self.scale.apply(sides[1].scores)])
        keys = np.hstack([side.keys for side in sides])
        places = np.hstack(
            [
                sides[0].places,
                np.where(sides[1].places < 0, sides[1].places, sides[1].places + moved),
            ]
        )
        best = keep_best(scores, keys, places, count)
        return Answers(*best, (*self.anew.parts, *self.rest.parts))
