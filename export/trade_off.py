"""What recall a device buys with its time and memory, and which encoder fits a budget."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable
from encoder.errors import BadImageError, PocketlensError
from encoder.evaluate import select_labelled
from encoder.evaluation.bootstrap import intervals_to_json
from encoder.evaluation.protocol import EncodedSet, EvaluationRow, Judging, evaluate_pair
from encoder.evaluation.storage import Storage, take_prefix
from encoder.json_files import read_json
from encoder.preprocess import Pixels
from encoder.progress import track
from encoder.space import EmbeddingSpace, require_same_space
from export.card import CARD, list_encoders
from export.cost import count_macs, time_side_by_side
from export.runtime import QueryEncoder, WrongProductsError


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Hold one exported encoder: what it finds, and what it costs.

    `ms` is the median from decoded pixels to the vector on one thread, `p95_ms` the 95th
    percentile; `on_front` says that no other one finds as much in less time.
    """

    name: str
    digest: str
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
            "encoder": self.digest,
            "figures": self.row.figures,
            "intervals": intervals_to_json(self.row.intervals),
            "queries": self.row.queries,
            "ms": self.ms,
            "p95_ms": self.p95_ms,
            "bytes": self.bytes,
            "macs": self.macs,
            "on_front": self.on_front,
        }


@dataclasses.dataclass(frozen=True)
class Entry:
    """Hold an encoder file that takes part, opened, with what follows from the file alone."""

    name: str
    encoder: QueryEncoder
    pixels: Pixels
    macs: int

    @property
    def bytes(self) -> int:
        """Return the size of the file."""
        return self.encoder.file.stat().st_size


def open_entries(
    places: Sequence[Path], space: EmbeddingSpace, photo: Path | bytes
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Open every encoder, to be timed on one thread with what it decodes of the photo.

    Of a bundle's folder all encoders take part that this CPU computes rightly; also returns why the
    others do not.

    Raises:
        PocketlensError: when one is not an encoder, is of another space, or is named twice.
    """
    encoders, left_out = list[QueryEncoder](), list[str]()
    for place in places:
        for file in list_encoders(place):
            try:
                encoders.append(QueryEncoder(file, threads=1))
            except WrongProductsError as error:
                if not place.is_dir():
                    raise
                left_out.append(str(error))
    if not encoders:
        raise PocketlensError("; ".join(left_out) or "no encoder to compare")
    names = name_encoders([encoder.file for encoder in encoders])
    for encoder in encoders:
        require_same_space(encoder.contract.space, space, what=str(encoder.file))
    entries = tuple(
        Entry(name, encoder, encoder.decode(photo), count_macs(encoder.file))
        for name, encoder in zip(names, encoders, strict=True)
    )
    return entries, tuple(left_out)


def name_encoders(files: Sequence[Path]) -> list[str]:
    """Return how a table calls files: by as much of the ends of their paths as tells them apart.

    Raises:
        PocketlensError: when one is given twice.
    """
    paths = [file.resolve().parts for file in files]
    for path, file in zip(paths, files, strict=True):
        if paths.count(path) > 1:
            raise PocketlensError(f"{file}: given twice")
    count = 2
    while len({path[-count:] for path in paths}) < len(paths):
        count += 1
    return ["/".join(path[-count:]) for path in paths]


def select_asked(table: ImageTable, split: str) -> ImageTable:
    """Return the labelled images of the validation or the test classes.

    Raises:
        PocketlensError: when the split is neither, or has no image.
    """
    if split not in ("val", "test"):
        raise PocketlensError(f"--split {split!r} is not val or test")
    return select_labelled(table, split)  # type: ignore[arg-type]


def refuse_seen(bundle: Path, asked: ImageTable) -> None:
    """Refuse a bundle whose encoder saw one of the classes in training, by its card.

    A file without a card does not say.

    Raises:
        PocketlensError: naming the bundle and a class.
    """
    card = (bundle if bundle.is_dir() else bundle.parent) / CARD
    if not card.is_file():
        return
    listed = read_json(card).get("trained_on")
    seen = set(listed if isinstance(listed, list) else ()) & set(asked.class_names())
    if seen:
        raise PocketlensError(
            f"{bundle}: its encoder was trained on {len(seen)} of the classes that ask, "
            f"{min(seen)!r} among them; distil without --with-validation to choose by them, or "
            "ask with --split test"
        )


def measure_candidates(
    entries: Sequence[Entry], table: ImageTable, database: EncodedSet, *, rounds: int = 50
) -> tuple[Candidate, ...]:
    """Let every encoder ask the database, time them side by side, and mark the best.

    `table` holds the images of the database's vectors.

    Raises:
        PocketlensError: when a picture that the teacher read cannot be read.
    """
    rows = [ask_database(entry, table, database) for entry in entries]
    encoders, pictures = [e.encoder for e in entries], [e.pixels for e in entries]
    times = time_side_by_side(encoders, pictures, rounds=rounds)
    return mark_front(
        [
            Candidate(
                entry.name,
                entry.encoder.contract.encoder,
                row,
                float(np.median(own)),
                float(np.quantile(own, 0.95)),
                entry.bytes,
                entry.macs,
            )
            for entry, row, own in zip(entries, rows, times.T, strict=True)
        ]
    )


def ask_database(entry: Entry, table: ImageTable, database: EncodedSet) -> EvaluationRow:
    """Return the row of an exported encoder whose queries ask the database's vectors.

    Of the vectors they ask the prefix that the encoder gives; binary codes ask signs.
    """
    sources = table.sources()
    wide = QueryEncoder(entry.encoder.file)
    contract = wide.contract
    database = dataclasses.replace(database, vectors=take_prefix(database.vectors, contract.dim))
    vectors = database.vectors.copy()
    asking = np.flatnonzero(database.is_query)
    with track(f"asking with {entry.name}", len(asking)) as advance:
        for place in asking:
            try:
                vectors[place] = wide.read(wide.encode(sources[database.positions[place]]))
            except BadImageError as error:
                raise PocketlensError(
                    f"the teacher read what {entry.name} cannot: {error}"
                ) from None
            advance(1)
    queries = dataclasses.replace(database, vectors=vectors)
    storage: Storage = "binary" if contract.form == "binary" else "float"
    return evaluate_pair(entry.name, queries, database, Judging(storage))


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


def describe_candidates(
    candidates: Sequence[Candidate],
    *,
    split: str,
    teacher: Checkpoint,
    data: Mapping[str, Any],
    rounds: int,
) -> dict[str, Any]:
    """Return the comparison as plain JSON values (`docs/formats.md`)."""
    return {
        "format": 1,
        "split": split,
        "rounds": rounds,
        "space": teacher.space.id,
        "teacher": {"encoder": teacher.encoder, "size": teacher.preprocess.size},
        "data": dict(data),
        "candidates": [each.to_json() for each in candidates],
    }
