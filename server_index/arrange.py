"""Arrange an index for its targets: choose a kind, build it, tune it, and tell about it."""

from collections.abc import Iterator

from server_index.choose import Candidate, Targets, choose_fitting, estimate_bytes, format_bytes
from server_index.faiss_index import Kind, Vectors
from server_index.index import Index
from server_index.tune import Tuned, tune
from server_index.writer import IndexWriter


def arrange(
    writer: IndexWriter,
    targets: Targets,
    kind: Kind | None = None,
    queries: Vectors | None = None,
) -> Iterator[str]:
    """Write all that lives as the first kind that meets the targets; yield what is being done.

    Where none does, the one that finds most is kept, and the last line says so. A `kind` that is
    given is taken, and tuned, on `queries` `[n, dim]` where there are some.

    Raises:
        PocketlensError: when no kind fits into the memory, or the kind cannot be made.
    """
    count, dim = len(writer), writer.state.dim
    if not count:
        writer.compact(kind)
        yield "no items: nothing to choose by"
        return
    candidates = (
        [Candidate(kind, estimate_bytes(kind, count, dim), "asked for")]
        if kind
        else choose_fitting(count, dim, targets)
    )
    best: tuple[Candidate, Tuned] | None = None
    for candidate in candidates:
        writer.compact(candidate.kind)
        tuned = _tune(writer, candidate.kind, targets, queries)
        yield _describe(candidate, tuned)
        if _meets(tuned, targets):
            writer.set_effort(tuned.effort)
            yield from _name_others(candidates, candidate)
            return
        if best is None or tuned.recall > best[1].recall:
            best = candidate, tuned
    assert best is not None
    candidate, tuned = best
    if writer.state.kind != candidate.kind:
        writer.compact(candidate.kind)
    writer.set_effort(tuned.effort)
    yield f"none meets the targets; {candidate.kind.spec} finds most and is kept"


def retune(writer: IndexWriter, targets: Targets) -> Iterator[str]:
    """Tune an index of the kind that it is, and say how hard it looks from now on."""
    kind = writer.state.kind
    if kind.exact or not len(writer):
        return
    tuned = _tune(writer, kind, targets, None)
    writer.set_effort(tuned.effort)
    held = estimate_bytes(kind, len(writer), writer.state.dim)
    yield _describe(Candidate(kind, held, "as it was"), tuned)


def _tune(writer: IndexWriter, kind: Kind, targets: Targets, queries: Vectors | None) -> Tuned:
    with Index(writer.folder) as index:
        return tune(index.snapshot, kind, targets.min_recall, queries)


def _meets(tuned: Tuned, targets: Targets) -> bool:
    fast = targets.max_ms is None or tuned.p95_ms <= targets.max_ms
    return tuned.recall >= targets.min_recall and fast


def _describe(candidate: Candidate, tuned: Tuned) -> str:
    effort = tuned.effort
    looks = [f"re-scores {effort.rescore}×"] if effort.rescore > 1 else []
    if candidate.kind.lists:
        looks.insert(0, f"looks into {effort.probes} of {candidate.kind.lists} lists")
    if candidate.kind.graph:
        looks.insert(0, f"keeps {effort.graph_candidates} candidates")
    how = f", {' and '.join(looks)}" if looks else ""
    return (
        f"{candidate.kind.spec}: {candidate.why}; {format_bytes(candidate.bytes_held)} in memory"
        f"{how}: finds {tuned.recall:.3f} of the 10 nearest, {tuned.p50_ms:.2f} ms "
        f"(p95 {tuned.p95_ms:.2f})"
    )


def _name_others(candidates: list[Candidate], chosen: Candidate) -> Iterator[str]:
    later = candidates[candidates.index(chosen) + 1 :]
    smaller = [each for each in later if each.bytes_held < chosen.bytes_held]
    if smaller:
        named = ", ".join(f"{each.kind.spec} ({format_bytes(each.bytes_held)})" for each in smaller)
        yield f"smaller, if memory is short (--max-memory or --kind): {named}"
