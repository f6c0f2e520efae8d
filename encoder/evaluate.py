"""Evaluate a teacher and its student on test classes: the rows a reader asks for.

The untrained row feeds the small image to the teacher's own weights: what distillation has to beat.
It always stands beside a student.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from encoder.checkpoint import Checkpoint
from encoder.datasets.table import ImageTable, Split
from encoder.embed import Quarantined, embed_all
from encoder.errors import PocketlensError
from encoder.evaluation.clusters import measure_nmi
from encoder.evaluation.details import Details, describe_pair
from encoder.evaluation.protocol import (
    EncodedSet,
    EvaluationRow,
    HarmedRow,
    Judging,
    evaluate_pair,
)
from encoder.evaluation.robustness import STRENGTHS, corrupt
from encoder.inference import prepare_inference
from encoder.preprocess import Pixels, Preprocess
from encoder.progress import track
from encoder.space import require_same_space


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Hold the rows, the details of those on float vectors if asked for, and images set aside."""

    rows: tuple[EvaluationRow, ...]
    details: dict[str, Details]
    harmed: tuple[HarmedRow, ...]
    clusters: dict[str, float]
    quarantined: tuple[Quarantined, ...]


def evaluate_checkpoints(
    teacher: Checkpoint,
    student: Checkpoint | None,
    table: ImageTable,
    *,
    precision: str = "fp32",
    judgings: tuple[Judging, ...] = (Judging(),),
    harm: bool = False,
    clusters: bool = False,
    describe: bool = False,
) -> Evaluation:
    """Measure on the test split: teacher, untrained, student on teacher, student alone.

    Each of `judgings` gives the rows once more. With `harm` the query encoder (the student, or
    the teacher where there is none) is measured on pictures that are harmed as phones harm them,
    against the unharmed database. `clusters` adds the mutual information of k-means clusters to the
    symmetric rows, `describe` the details that a report shows.

    Raises:
        PocketlensError: when there is no labelled test image, or the spaces differ.
    """
    test = labelled_test(table)
    for checkpoint in (teacher, student):
        if checkpoint is not None:
            refuse_trained(checkpoint, test)
    if student is not None:
        require_same_space(student.space, teacher.space, what="the student")
    refuse_changed(teacher, table)
    for judging in judgings:
        if judging.dim is not None and not 1 <= judging.dim <= teacher.space.dim:
            raise PocketlensError(f"--dim {judging.dim} is not in 1..{teacher.space.dim}")
    encode = functools.partial(encode_images, table=test, precision=precision)
    large, quarantined = encode(teacher, teacher.preprocess)
    size = teacher.preprocess.size
    pairs = {f"teacher {size}, symmetric": (large, large)}
    asked = f"teacher {size}, symmetric"
    if student is not None:
        own = student.preprocess.size
        untrained, _ = encode(teacher, teacher.preprocess.resized(own))
        small, _ = encode(student, student.preprocess)
        asked = f"student {own} → teacher {size}"
        pairs |= {
            f"untrained {own} → teacher {size}": (untrained, large),
            asked: (small, large),
            f"student {own}, symmetric": (small, small),
        }
    rows = [
        evaluate_pair(name + _suffix(judging), *sides, judging)
        for judging in judgings
        for name, sides in pairs.items()
    ]
    describe_sides = functools.partial(
        describe_pair,
        paths=[row.path for row in test.rows],
        names=test.class_names(),
        seed=judgings[0].seed,
    )
    details = {name: describe_sides(*sides) for name, sides in pairs.items() if describe}
    harmed: tuple[HarmedRow, ...] = ()
    if harm:
        measured = student or teacher
        harmed = tuple(
            HarmedRow(name, strength, evaluate_pair(asked, queries, large, judgings[0]))
            for name, strength, queries in _harm_all(measured, encode, judgings[0].seed)
        )
    information = {
        name: measure_nmi(query.vectors, query.labels, seed=judgings[0].seed)
        for name, (query, database) in pairs.items()
        if clusters and query is database
    }
    return Evaluation(tuple(rows), details, harmed, information, quarantined)


def labelled_test(table: ImageTable) -> ImageTable:
    """Return the labelled images of the test split; as `select_labelled`."""
    return select_labelled(table, "test")


def select_labelled(table: ImageTable, split: Split) -> ImageTable:
    """Return the labelled images of a split.

    Raises:
        PocketlensError: when there is none.
    """
    chosen = table.split(split)
    chosen = chosen.select(i for i, row in enumerate(chosen.rows) if row.label)
    if not len(chosen):
        raise PocketlensError(f"{table.root}: no labelled {split} images")
    return chosen


def _suffix(judging: Judging) -> str:
    dim = f", {judging.dim}-d" if judging.dim else ""
    return dim if judging.storage == "float" else f"{dim}, {judging.storage}"


def refuse_trained(checkpoint: Checkpoint, test: ImageTable) -> None:
    """Refuse test classes that an encoder was trained on, by name."""
    seen = set(checkpoint.provenance.get("trained_on", [])) & set(test.class_names())
    if seen:
        raise PocketlensError(
            f"{test.root}: the {checkpoint.kind} was trained on {len(seen)} of the test classes, "
            f"{min(seen)!r} among them; evaluate with the split it was trained under, or rename "
            "the classes of another data set"
        )


def refuse_changed(checkpoint: Checkpoint, table: ImageTable) -> None:
    """Refuse the data set that the encoder was trained on when it has changed since."""
    known = checkpoint.provenance.get("data", {})
    now = table.describe()
    if known.get("source") == now["source"] and known.get("fingerprint") != now["fingerprint"]:
        raise PocketlensError(
            f"{table.root}: its images or classes changed since the {checkpoint.kind} was trained "
            f"on it ({known.get('images')} images then, {now['images']} now); train again, or "
            "rename the folder if it is another data set"
        )


def _harm_all(
    checkpoint: Checkpoint,
    encode: Callable[..., tuple[EncodedSet, tuple[Quarantined, ...]]],
    seed: int,
) -> Iterator[tuple[str, float, EncodedSet]]:
    for name, strengths in STRENGTHS.items():
        for strength in strengths:
            alter = functools.partial(_harm, name=name, strength=strength, seed=seed)
            queries, _ = encode(checkpoint, checkpoint.preprocess, alter=alter)
            yield name, strength, queries


def _harm(image: Pixels, *, name: str, strength: float, seed: int) -> Pixels:
    # The noise of a picture follows from its pixels, so that threads may come in any order.
    own = zlib.crc32(np.ascontiguousarray(image[::8, ::8]).data)
    return corrupt(image, name, strength, seed=seed + own)


def encode_with_each(
    checkpoints: Sequence[Checkpoint], *, table: ImageTable, precision: str
) -> tuple[list[EncodedSet], tuple[Quarantined, ...]]:
    """Encode a table's images with each checkpoint; return also what could not be read."""
    both = [
        encode_images(used, used.preprocess, table=table, precision=precision)
        for used in checkpoints
    ]
    return [encoded for encoded, _ in both], both[0][1]


def encode_images(
    checkpoint: Checkpoint,
    preprocess: Preprocess,
    *,
    table: ImageTable,
    precision: str,
    alter: Callable[[Pixels], Pixels] | None = None,
) -> tuple[EncodedSet, tuple[Quarantined, ...]]:
    """Encode a table's images under a preprocessing; return also what could not be read."""
    files = table.sources()
    with track(f"encoding {len(files)} images at {preprocess.size}", len(files)) as advance:
        resized = dataclasses.replace(checkpoint, preprocess=preprocess)
        embedder = prepare_inference(resized, precision=precision).embedder
        embedded = embed_all(files, preprocess, embedder, advance=advance, alter=alter)
    roles = np.array([table.rows[position].role for position in embedded.positions])
    encoded = EncodedSet(
        embedded.vectors,
        table.labels()[embedded.positions],
        embedded.positions,
        is_query=roles != "database",
        is_database=roles != "query",
    )
    return encoded, embedded.quarantined
