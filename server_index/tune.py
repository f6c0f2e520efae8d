"""Find how hard an index must look to find enough, on queries that it was not asked before."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable

import numpy as np

from server_index.choose import RESCORES
from server_index.faiss_index import Kind, SearchEffort, Vectors, on_one_thread
from server_index.snapshot import Snapshot

# Answers of which the share found is measured.
AT = 10
_QUERIES = 500
_TIMED = 300
# Of a drawn query to the vector that it comes from, and what is no direction any more.
_COSINE, _SHORTEST = 0.8, 1e-6
# Vectors compared with at a time.
_CHUNK = 1 << 16
# Two ways to sum one product differ by less, also in half precision.
_ROUNDING = 1e-5
# Added to the target: what is measured on some queries is not what others will see.
_MARGIN = 0.005


@dataclasses.dataclass(frozen=True)
class Tuned:
    """Hold an effort with the recall at 10 against exact search, and p50 and p95 on one thread."""

    effort: SearchEffort
    recall: float
    p50_ms: float
    p95_ms: float


def tune(
    snapshot: Snapshot, kind: Kind, min_recall: float, queries: Vectors | None = None
) -> Tuned:
    """Return the least effort that finds the share asked for, or the most there is.

    Without `queries` `[n, dim]`, those of `draw_queries` are asked.
    """
    asked = draw_queries(snapshot) if queries is None else queries
    recall = _Recall(snapshot, asked)
    for effort in _efforts(kind, recall, min(1.0, min_recall + _MARGIN)):
        found = recall(effort)
        if found >= min(1.0, min_recall + _MARGIN):
            break
    times = _time(dataclasses.replace(snapshot, effort=effort), asked[:_TIMED])
    return Tuned(effort, found, *(float(np.percentile(times, part)) for part in (50, 95)))


def _efforts(
    kind: Kind, recall: Callable[[SearchEffort], float], target: float
) -> Iterable[SearchEffort]:
    """Yield efforts to be tried, the first that suffices being the least of its kind."""
    rescores = (1,) if kind.scores_exactly else RESCORES
    if not (kind.lists or kind.graph):
        yield from (SearchEffort(rescore=rescore) for rescore in rescores)
        return
    most = min(kind.lists, max(64, kind.lists // 4)) if kind.lists else 1024
    name = "probes" if kind.lists else "graph_candidates"
    for rescore in rescores:
        effort = SearchEffort(rescore=rescore, **{name: most})
        if recall(effort) < target:
            # Looking harder will not mend what the codes lose.
            continue
        low, high = 1, most
        while low < high:
            middle = (low + high) // 2
            effort = SearchEffort(rescore=rescore, **{name: middle})
            low, high = (low, middle) if recall(effort) >= target else (middle + 1, high)
        yield SearchEffort(rescore=rescore, **{name: high})
    yield SearchEffort(rescore=rescores[-1], **{name: most})


class _Recall:
    """Measure the share of the nearest that an effort finds; each effort once."""

    def __init__(self, snapshot: Snapshot, queries: Vectors) -> None:
        self._snapshot, self._queries = snapshot, queries
        nearest = _find_exactly(snapshot, queries)
        self._sizes = np.isfinite(nearest).sum(axis=1)
        self._wanted = np.min(nearest, axis=1, where=np.isfinite(nearest), initial=np.inf)
        self._known: dict[SearchEffort, float] = {}

    def __call__(self, effort: SearchEffort) -> float:
        if effort not in self._known:
            looking = dataclasses.replace(self._snapshot, effort=effort)
            scores = looking.search(self._queries, AT).scores
            # What scores no worse than the last of the nearest is one of them: copies are alike.
            found = (scores >= self._wanted[:, None] - _ROUNDING).sum(axis=1)
            self._known[effort] = float(np.mean(found / self._sizes))
        return self._known[effort]


def draw_queries(snapshot: Snapshot) -> Vectors:
    """Return queries `[n, dim]` that the index does not hold, though they are like what it holds.

    Each is a vector of the index, moved along the difference of two others until its cosine to
    where it was is 0.8: about what a small student's has to its teacher's. A vector that is itself
    in a graph or a list is found too easily.
    """
    generator = np.random.default_rng(0)
    start, first, second = (_draw(snapshot, generator) for _ in range(3))
    way = generator.permutation(first) - generator.permutation(second)
    way -= np.einsum("nd,nd->n", way, start)[:, None] * start
    length = np.linalg.norm(way, axis=1, keepdims=True)
    way = np.divide(way, length, out=np.zeros_like(way), where=length > _SHORTEST)
    moved = _COSINE * start + math.sqrt(1 - _COSINE**2) * way
    queries: Vectors = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return queries


def _draw(snapshot: Snapshot, generator: np.random.Generator) -> Vectors:
    """Draw living vectors, of each part its share."""
    sizes = [len(part.keys) - part.dead for part in snapshot.parts]
    drawn = []
    for part, size in zip(snapshot.parts, sizes, strict=True):
        alive = part.living_rows()
        count = max(1, round(_QUERIES * size / sum(sizes))) if size else 0
        rows = np.sort(generator.choice(alive, count)) if count else alive[:0]
        drawn.append(part.vectors[rows].astype(np.float32))
    vectors: Vectors = np.concatenate(drawn)
    # Half precision left them off unit length by a hair.
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _find_exactly(snapshot: Snapshot, queries: Vectors) -> Vectors:
    """Return the scores `[n, 10]` of the nearest by comparing with every stored vector."""
    scores = np.full((len(queries), AT), -np.inf, np.float32)
    for part in snapshot.parts:
        for first in range(0, len(part.keys), _CHUNK):
            some = slice(first, first + _CHUNK)
            new = queries @ part.vectors[some].T.astype(np.float32, copy=False)
            if part.alive is not None:
                new[:, ~part.alive[some]] = -np.inf
            best = -np.partition(-new, min(AT, new.shape[1]) - 1, axis=1)[:, :AT]
            scores = -np.sort(-np.concatenate([scores, best], axis=1), axis=1)[:, :AT]
    return scores


def _time(snapshot: Snapshot, queries: Vectors) -> list[float]:
    """Return milliseconds a query, one at a time on one thread."""
    times = []
    with on_one_thread():
        for query in queries:
            started = time.perf_counter()
            snapshot.search(query[None], AT)
            times.append(1000 * (time.perf_counter() - started))
    return times
