"""The compatibility matrix: who may ask which database, what is found, and whether that holds.

Every query encoder asks every database that its space may ask: its own space's, or one that a
declared compatibility names. Where one is declared, the database is also encoded anew share by
share, in several orders, and searched with one score scale.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

from encoder.compatibility import Compatibility
from encoder.errors import PocketlensError
from encoder.evaluation.backfill_curves import SHARES, Curve, draw_curves
from encoder.evaluation.bootstrap import Interval, intervals_to_json
from encoder.evaluation.protocol import (
    COMPARED,
    EncodedSet,
    EncoderVectors,
    EvaluationRow,
    Judging,
    compare_rows,
    evaluate_pair,
    keep_compared,
)

FORMAT = 1
Requirement = Literal["better", "higher", "not-worse"]


@dataclasses.dataclass(frozen=True)
class Cell:
    """Hold what a query encoder finds in a database; `how` says through what."""

    query: str
    database: str
    how: str
    row: EvaluationRow

    def to_json(self) -> dict[str, Any]:
        """Return the cell as plain JSON values."""
        named = {"query": self.query, "database": self.database, "how": self.how}
        return {**named, **self.row.to_json()}


@dataclasses.dataclass(frozen=True)
class Declared:
    """Say whether a declared compatibility holds: new queries find more in the old database.

    `query` and `database` are spaces, `compatibility` the digest of its weights, `names` the two
    encoders. `gain` is the difference to old queries there, in per cent; `update_gain` its share of
    what the new model alone would bring; `self_loss` what the new model loses against an
    independent one.
    """

    query: str
    database: str
    compatibility: str
    names: tuple[str, str]
    gain: dict[str, float]
    intervals: dict[str, Interval]
    update_gain: dict[str, float]
    self_loss: dict[str, float]
    self_intervals: dict[str, Interval]
    requirement: Requirement
    holds: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        plain = dataclasses.asdict(self)
        for name in ("intervals", "self_intervals"):
            plain[name] = intervals_to_json(getattr(self, name))
        return {**plain, "names": list(self.names)}


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Hold all cells, curves and verdicts."""

    queries: tuple[str, ...]
    databases: tuple[str, ...]
    cells: tuple[Cell, ...]
    declared: tuple[Declared, ...]
    curves: tuple[Curve, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "format": FORMAT,
            "queries": list(self.queries),
            "databases": list(self.databases),
            "cells": [cell.to_json() for cell in self.cells],
            "declared": [each.to_json() for each in self.declared],
            "curves": [curve.to_json() for curve in self.curves],
            "holds": self.holds,
        }

    @property
    def holds(self) -> bool:
        """Return whether every declared compatibility does."""
        return all(each.holds for each in self.declared)


def fill_matrix(
    queries: Sequence[EncoderVectors],
    databases: Sequence[EncoderVectors],
    compatibilities: Sequence[Compatibility],
    judgings: Sequence[Judging],
    *,
    independent: EncoderVectors | None = None,
    requirement: Requirement = "better",
    shares: Sequence[float] = SHARES,
    orders: Sequence[str] = ("random", "margin", "doubt"),
) -> Matrix:
    """Measure every pair that may meet, and judge what is declared.

    Raises:
        PocketlensError: when a declared compatibility has not both encoders among those given.
    """
    check_requirement(requirement)
    cells = [
        Cell(query.name, database.name, how, evaluate_pair(how, *sides, judging))
        for query in queries
        for database in databases
        for how, sides in _meet(query, database, compatibilities)
        for judging in judgings
        if _fits(judging, sides)
    ]
    first = judgings[0]
    declared, curves = [], []
    for found in compatibilities:
        new, old, anew = _find_sides(found, queries, databases)
        for query in (each for each in queries if each.space == found.query.id):
            before = _find_baseline(query, old, queries, first)
            alone = independent if query.role == "teacher" else None
            if before:
                declared.append(_judge(found, query, old, before, alone, first, requirement))
        if anew:
            drawn = draw_curves(found, new, old, anew, shares, orders, first)
            curves += list(drawn)
    return Matrix(
        tuple(each.name for each in queries),
        tuple(each.name for each in databases),
        tuple(cells),
        tuple(declared),
        tuple(curves),
    )


def check_requirement(requirement: str) -> None:
    """Refuse a requirement that is not known."""
    if requirement not in get_args(Requirement):
        known = ", ".join(get_args(Requirement))
        raise PocketlensError(f"--require {requirement!r} is not one of {known}")


def _meet(
    query: EncoderVectors, database: EncoderVectors, compatibilities: Sequence[Compatibility]
) -> Iterator[tuple[str, tuple[EncodedSet, EncodedSet]]]:
    """Yield in which ways a query asks a database, and the vectors that do."""
    asks, asked = query.vectors, database.vectors
    if query.space == database.space:
        yield "same space", (asks, asked)
    for found in compatibilities:
        if (query.space, database.space) == (found.query.id, found.database.id):
            yield (
                found.direction,
                (
                    dataclasses.replace(asks, vectors=found.map_queries(asks.vectors)),
                    dataclasses.replace(asked, vectors=found.map_database(asked.vectors)),
                ),
            )
        if (database.space, query.space) == (found.query.id, found.database.id):
            # An old query in the new database, by the same map turned around.
            yield (
                "reverse",
                (
                    dataclasses.replace(asks, vectors=found.turn_back().apply(asks.vectors)),
                    asked,
                ),
            )


def _fits(judging: Judging, sides: tuple[EncodedSet, EncodedSet]) -> bool:
    """Return whether a prefix is one of both sides' vectors, which have as many dimensions."""
    return judging.dim is None or judging.dim <= sides[0].vectors.shape[1]


def _find_sides(
    found: Compatibility, queries: Sequence[EncoderVectors], databases: Sequence[EncoderVectors]
) -> tuple[EncoderVectors, EncoderVectors, EncoderVectors | None]:
    """Return the new query encoder, the old database and the new one, where it is given."""
    new = next((each for each in queries if each.space == found.query.id), None)
    old = next((each for each in databases if each.space == found.database.id), None)
    if new is None or old is None:
        side, space = ("--query", found.query) if new is None else ("--database", found.database)
        raise PocketlensError(f"{side}: none is of space {space.id}, which is declared compatible")
    return new, old, next((each for each in databases if each.space == found.query.id), None)


def _find_baseline(
    query: EncoderVectors, old: EncoderVectors, queries: Sequence[EncoderVectors], judging: Judging
) -> EvaluationRow | None:
    """Return the best row of the old query encoders of a role; None where no student was old."""
    same = [each for each in queries if (each.space, each.role) == (old.space, query.role)]
    if not same and query.role == "teacher":
        same = [old]
    rows = [evaluate_pair("old → old", each.vectors, old.vectors, judging) for each in same]
    return max(rows, key=lambda row: row.figures["map_at_r"], default=None)


def _judge(
    found: Compatibility,
    new: EncoderVectors,
    old: EncoderVectors,
    baseline: EvaluationRow,
    independent: EncoderVectors | None,
    judging: Judging,
    requirement: Requirement,
) -> Declared:
    """Compare new queries with old ones in the old database."""
    ((_, sides),) = _meet(new, old, [found])
    crossed = evaluate_pair("new → old", *sides, judging)
    gain = {name: crossed.figures[name] - baseline.figures[name] for name in COMPARED}
    intervals = keep_compared(compare_rows(crossed, baseline))
    own = evaluate_pair("new → new", new.vectors, new.vectors, judging)
    alone = own
    if independent:
        alone = evaluate_pair("independent", independent.vectors, independent.vectors, judging)
    whole = {name: alone.figures[name] - baseline.figures[name] for name in COMPARED}
    return Declared(
        found.query.id,
        found.database.id,
        found.digest(),
        (new.name, old.name),
        gain,
        intervals,
        {name: gain[name] / whole[name] for name in COMPARED if whole[name] > 0},
        {name: alone.figures[name] - own.figures[name] for name in COMPARED} if independent else {},
        keep_compared(compare_rows(alone, own)) if independent else {},
        requirement,
        all(_holds(gain[name], intervals[name], requirement) for name in COMPARED),
    )


def _holds(gain: float, interval: Interval, requirement: Requirement) -> bool:
    if requirement == "better":
        return interval.low > 0
    return gain > 0 if requirement == "higher" else interval.high >= 0
