"""An evaluation as JSON with its provenance (docs/evaluation.md, format 1)."""

import dataclasses
import datetime
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from encoder.evaluation.bootstrap import intervals_to_json
from encoder.evaluation.details import Details
from encoder.evaluation.protocol import EvaluationRow, HarmedRow, compare_rows

FORMAT = 1
_LIBRARIES = ("numpy", "torch", "timm", "pillow")


@dataclasses.dataclass(frozen=True)
class EncoderFacts:
    """Name an encoder that was measured: its role, digest, space, input side and precision."""

    name: str
    encoder: str
    space: str
    size: int
    precision: str


def to_document(
    rows: Sequence[EvaluationRow],
    details: dict[str, Details],
    *,
    data: dict[str, str | int],
    encoders: Sequence[EncoderFacts],
    command: str,
    robustness: Sequence[HarmedRow] = (),
    clusters: Mapping[str, float] | None = None,
    quarantined: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the evaluation as plain JSON values.

    Every later row is compared with the first one that was judged alike, query by query.
    """
    return {
        "format": FORMAT,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": rows[0].judging.seed,
        "versions": {"python": platform.python_version(), **_versions()},
        "data": data,
        "encoders": [dataclasses.asdict(facts) for facts in encoders],
        "rows": [row.to_json() for row in rows],
        "differences": _differences(rows),
        "curves": [
            {"row": name, "ranks": list(found.curve.ranks), "recall": list(found.curve.recall)}
            for name, found in details.items()
        ],
        "robustness": [
            {
                "corruption": harmed.corruption,
                "strength": harmed.strength,
                "row": harmed.row.name,
                "figures": harmed.row.figures,
                "intervals": intervals_to_json(harmed.row.intervals),
            }
            for harmed in robustness
        ],
        "clusters": [{"row": name, "nmi": value} for name, value in (clusters or {}).items()],
        "classes": [
            {"row": name, **dataclasses.asdict(entry)}
            for name, found in details.items()
            for entry in found.classes
        ],
        "examples": [
            {"row": name, **dataclasses.asdict(entry)}
            for name, found in details.items()
            for entry in found.examples
        ],
        "quarantined": list(quarantined),
    }


def _differences(rows: Sequence[EvaluationRow]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        baseline = next(other for other in rows if other.judging == row.judging)
        if baseline is row:
            continue
        intervals = compare_rows(row, baseline)
        found.append(
            {
                "row": row.name,
                "baseline": baseline.name,
                "figures": {name: row.figures[name] - baseline.figures[name] for name in intervals},
                "intervals": intervals_to_json(intervals),
            }
        )
    return found


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found
