"""Encode test images with every encoder, and fill the compatibility matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from encoder.checkpoint import Checkpoint
from encoder.compatibility import load_compatibility
from encoder.datasets.splits import SplitRule, known_split, read_table, split_classes
from encoder.embed import Quarantined
from encoder.errors import PocketlensError
from encoder.evaluate import (
    encode_with_each,
    labelled_test,
    refuse_changed,
    refuse_trained,
)
from encoder.evaluation.matrix import Matrix, Requirement, check_requirement, fill_matrix
from encoder.evaluation.protocol import EncoderVectors, Judging


def measure_matrix(
    data: Path,
    queries: dict[str, Checkpoint],
    databases: dict[str, Checkpoint],
    compatibilities: Sequence[Path],
    *,
    independent: Checkpoint | None = None,
    split: SplitRule | None = None,
    judgings: Sequence[Judging] = (Judging(),),
    requirement: Requirement = "better",
    precision: str = "fp32",
    orders: Sequence[str] = ("random", "margin", "doubt"),
) -> tuple[Matrix, dict[str, Any], tuple[Quarantined, ...]]:
    """Measure all pairs on the test classes, which none of the encoders may have learnt.

    The classes are divided as the last query encoder's were, or by `split`. Returns the matrix,
    the data's description, and the images that could not be read.

    Raises:
        PocketlensError: when an encoder learnt a test class, or a compatibility is damaged.
    """
    check_requirement(requirement)
    found = [load_compatibility(folder) for folder in compatibilities]
    table = read_table(data)
    newest = list(queries.values())[-1]
    table = split_classes(table, split or known_split(newest.provenance))
    test = labelled_test(table)
    used = {f"query {name}": each for name, each in queries.items()}
    used |= {f"database {name}": each for name, each in databases.items()}
    used |= {"independent": independent} if independent else {}
    for each in used.values():
        refuse_trained(each, test)
        refuse_changed(each, table)
    # What is given twice, as query and database, is encoded once.
    distinct = {each.encoder: each for each in used.values()}
    encoded, quarantined = encode_with_each(
        list(distinct.values()), table=test, precision=precision
    )
    vectors = dict(zip(distinct, encoded, strict=True))

    def take(name: str, each: Checkpoint) -> EncoderVectors:
        role: Literal["teacher", "student"] = "student" if each.kind == "student" else "teacher"
        return EncoderVectors(name, each.space.id, each.encoder, vectors[each.encoder], role)

    positions = {tuple(each.positions.tolist()) for each in vectors.values()}
    if len(positions) > 1:
        raise PocketlensError(f"{data}: some images can be read by some of the encoders only")
    matrix = fill_matrix(
        [take(name, each) for name, each in queries.items()],
        [take(name, each) for name, each in databases.items()],
        found,
        judgings,
        independent=take("independent", independent) if independent else None,
        requirement=requirement,
        orders=orders,
    )
    return matrix, test.describe(), quarantined


def name_each(folders: Sequence[Path]) -> dict[str, Path]:
    """Return folders by their names, or by as much of their paths as tells them apart.

    Raises:
        PocketlensError: when one is given twice.
    """
    whole = [folder.resolve() for folder in folders]
    for length in range(1, max(len(folder.parts) for folder in whole) + 1):
        names = ["/".join(folder.parts[-length:]) for folder in whole]
        if len(set(names)) == len(names):
            return dict(zip(names, folders, strict=True))
    raise PocketlensError(f"{folders[0]}: an encoder is given twice")
