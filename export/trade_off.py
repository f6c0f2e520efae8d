"""What recall a device buys with its time and memory, and which encoder fits a budget."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder.datasets.table import ImageTable
from encoder.errors import BadImageError, PocketlensError
from encoder.evaluation.bootstrap import intervals_to_json
from encoder.evaluation.protocol import EncodedSet, EvaluationRow, Judging, evaluate_pair
from encoder.preprocess import Pixels
from encoder.progress import track
from encoder.space import EmbeddingSpace, require_same_space
from export.cost import count_macs, time_side_by_side
from export.runtime import QueryEncoder


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Hold one exported encoder: what it finds, and what it costs.

    `ms` is the median from decoded pixels to the vector on one thread, `p95_ms` the 95th
    percentile; `on_front` says that no other one finds as much in less time.
    """

    name: str
    row: EvaluationRow
    ms: float
    p95_ms: float
    bytes: int
    macs: int
    on_front: bool = False

    @property
    def recall(self) -> float:
        """Return R@1 in per cent."""
        return self.row.figures["r1"]

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as plain JSON values."""
        return {
            "name": self.name,
            "figures": self.row.figures,
            "intervals": intervals_to_json(self.row.intervals),
            "queries": self.row.queries,
            "ms": self.ms,
            "p95_ms": self.p95_ms,
            "bytes": self.bytes,
            "macs": self.macs,
            "on_front": self.on_front,
        }


def select_asked(table: ImageTable, split: str, trained_on: Sequence[str]) -> ImageTable:
    """Return the labelled images of the validation or the test classes.

    Raises:
        PocketlensError: when the split is neither, has no image, or has classes trained on.
    """
    if split not in ("val", "test"):
        raise PocketlensError(f"--split {split!r} is not val or test")
    asked = table.select(i for i, row in enumerate(table.rows) if row.split == split and row.label)
    if not len(asked):
        raise PocketlensError(f"{table.root}: no labelled {split} images")
    seen = set(trained_on) & set(asked.class_names())
    if seen:
        raise PocketlensError(
            f"{table.root}: the teacher was trained on {len(seen)} of the {split} classes, "
            f"{min(seen)!r} among them"
        )
    return asked


def measure_candidates(
    files: Sequence[Path],
    table: ImageTable,
    database: EncodedSet,
    space: EmbeddingSpace,
    picture: Pixels,
    *,
    rounds: int = 50,
) -> tuple[Candidate, ...]:
    """Let every encoder file ask the database, time them side by side, and mark the best.

    `table` holds the images of the database's vectors.

    Raises:
        PocketlensError: when an encoder is of another space, or a picture is read by one only.
    """
    encoders = [QueryEncoder(file, threads=1) for file in files]
    for encoder in encoders:
        require_same_space(encoder.contract.space, space, what=str(encoder.file))
    rows = [ask_database(encoder, table, database) for encoder in encoders]
    times = time_side_by_side(encoders, picture, rounds=rounds)
    return mark_front(
        [
            Candidate(
                row.name,
                row,
                float(np.median(own)),
                float(np.quantile(own, 0.95)),
                encoder.file.stat().st_size,
                count_macs(encoder.file),
            )
            for encoder, row, own in zip(encoders, rows, times.T, strict=True)
        ]
    )


def ask_database(encoder: QueryEncoder, table: ImageTable, database: EncodedSet) -> EvaluationRow:
    """Return the row of an exported encoder whose queries ask the database's vectors."""
    name = name_encoder(encoder)
    sources = table.sources()
    wide = QueryEncoder(encoder.file)
    vectors = np.empty((len(database.positions), encoder.contract.space.dim), np.float32)
    with track(f"asking with {name}", len(vectors)) as advance:
        for place, position in enumerate(database.positions):
            try:
                vectors[place] = wide.encode(sources[position])
            except BadImageError as error:
                raise PocketlensError(f"the teacher read what {name} cannot: {error}") from None
            advance(1)
    queries = dataclasses.replace(database, vectors=vectors)
    return evaluate_pair(name, queries, database, Judging())


def name_encoder(encoder: QueryEncoder) -> str:
    """Return how a table calls an encoder: its bundle, or its file where it lies alone."""
    file = encoder.file
    return f"{file.parent.name}/{file.name}" if file.parent.name else file.name


def mark_front(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates from fast to slow, those marked that find more than all faster ones."""
    ordered = sorted(candidates, key=lambda each: (each.ms, -each.recall))
    best, marked = -1.0, []
    for each in ordered:
        marked.append(dataclasses.replace(each, on_front=each.recall > best))
        best = max(best, each.recall)
    return tuple(marked)


def pick_candidate(
    candidates: Sequence[Candidate], *, max_ms: float | None, max_mb: float | None
) -> Candidate | None:
    """Return the one that finds most within a budget, of several as good the fastest.

    None where none fits. A megabyte is a million bytes.
    """
    fitting = [
        each
        for each in candidates
        if (max_ms is None or each.ms <= max_ms) and (max_mb is None or each.bytes <= 1e6 * max_mb)
    ]
    return max(fitting, key=lambda each: (each.recall, -each.ms), default=None)


def format_candidates(candidates: Sequence[Candidate]) -> str:
    """Return a table with a line for each; a star marks the front."""
    width = max(len(each.name) for each in candidates)
    head = (
        f"  {'':<{width}}{'R@1':>8}{'':>6}{'MAP@R':>7}{'ms':>9}{'p95 ms':>9}{'MB':>8}{'M MACs':>9}"
    )
    lines = [head]
    for each in candidates:
        half = each.row.intervals["r1"].half
        lines.append(
            f"{'*' if each.on_front else ' '} {each.name:<{width}}{each.recall:8.1f} ±{half:4.1f}"
            f"{each.row.figures['map_at_r']:7.1f}{each.ms:9.2f}{each.p95_ms:9.2f}"
            f"{each.bytes / 1e6:8.1f}{each.macs / 1e6:9.0f}"
        )
    return "\n".join(lines)
