"""The JSON of an evaluation, read strictly: what a report shows."""

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from encoder.evaluation.bootstrap import Interval
from encoder.evaluation.details import Answer, ClassFailure, Curve, Example
from encoder.evaluation.document import FORMAT, EncoderFacts
from encoder.evaluation.json_fields import Field
from encoder.json_files import read_json

_RECALL = re.compile(r"r[1-9][0-9]{0,6}")
_OTHERS = ("r_precision", "map_at_r", "map")


@dataclasses.dataclass(frozen=True)
class Measured:
    """Hold figures in per cent, each with its 95 % interval."""

    figures: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """Hold one line of the table; `storage` and `dim` say how its vectors were stored."""

    name: str
    measured: Measured
    queries: int
    without_answer: int
    storage: str
    dim: int | None


@dataclasses.dataclass(frozen=True)
class Difference:
    """Hold `row` − `baseline`, paired by query."""

    row: str
    baseline: str
    measured: Measured


@dataclasses.dataclass(frozen=True)
class Corrupted:
    """Hold what a row finds where its queries are corrupted."""

    row: str
    corruption: str
    strength: float
    measured: Measured


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """Hold what the images are known by."""

    source: str
    images: int
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Report:
    """Hold all that a report shows.

    `curves`, `classes` and `examples` name their row; `clusters` is each row's NMI in per cent.
    """

    data: DataFacts
    rows: tuple[ReportRow, ...]
    command: str = ""
    date: str = ""
    seed: int | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    encoders: tuple[EncoderFacts, ...] = ()
    differences: tuple[Difference, ...] = ()
    curves: tuple[tuple[str, Curve], ...] = ()
    robustness: tuple[Corrupted, ...] = ()
    clusters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    classes: tuple[tuple[str, ClassFailure], ...] = ()
    examples: tuple[tuple[str, Example], ...] = ()
    quarantined: tuple[str, ...] = ()


def read_report(file: Path) -> Report:
    """Read what `cli evaluate --json` wrote.

    Raises:
        PocketlensError: naming the file and the first field that is not as it must be.
    """
    root = Field(read_json(file), str(file))
    if not root.has("format"):
        raise root.fault("has no format number, so it is not what cli evaluate --json writes")
    number = root.get("format").count()
    if number > FORMAT:
        raise root.fault(
            f"format {number} is newer than {FORMAT}, the newest known here; update pocketlens"
        )
    if number != FORMAT:
        raise root.fault(f"format {number} is not known; measure again with cli evaluate --json")
    data = root.get("data")
    root.get("rows")
    rows = tuple(map(_read_row, root.entries("rows")))
    if not rows:
        raise root.get("rows").fault("is empty; there is nothing to report")
    return Report(
        DataFacts(
            data.get("source").text(),
            data.get("images").count(),
            data.get("fingerprint").text(),
        ),
        rows,
        command=root.get("command").text() if root.has("command") else "",
        date=root.get("date").text() if root.has("date") else "",
        seed=root.get("seed").count() if root.has("seed") else None,
        versions=_read_versions(root),
        encoders=tuple(map(_read_encoder, root.entries("encoders"))),
        differences=tuple(map(_read_difference, root.entries("differences"))),
        curves=tuple(
            (entry.get("row").text(), _read_curve(entry)) for entry in root.entries("curves")
        ),
        robustness=tuple(map(_read_corrupted, root.entries("robustness"))),
        clusters={
            entry.get("row").text(): entry.get("nmi").number_between(0, 100)
            for entry in root.entries("clusters")
        },
        classes=tuple(
            (entry.get("row").text(), _read_class(entry)) for entry in root.entries("classes")
        ),
        examples=tuple(
            (entry.get("row").text(), _read_example(entry)) for entry in root.entries("examples")
        ),
        quarantined=tuple(entry.text() for entry in root.entries("quarantined")),
    )


def order_figures(names: Collection[str]) -> list[str]:
    """Return the names of figures as a table shows them: recall by rank, then the others."""
    recall = sorted({name for name in names if name not in _OTHERS}, key=lambda name: int(name[1:]))
    return [*recall, *(name for name in _OTHERS if name in names)]


def _read_versions(root: Field) -> dict[str, str]:
    if not root.has("versions"):
        return {}
    return {name: version.text() for name, version in root.get("versions").members()}


def _read_measured(field: Field, lowest: float = 0) -> Measured:
    figures, intervals = {}, {}
    given = field.get("intervals")
    for name, figure in field.get("figures").members():
        if name not in _OTHERS and not _RECALL.fullmatch(name):
            raise figure.fault("is not a figure that is known here")
        figures[name] = figure.number_between(lowest, 100)
        ends = [given.get(name).get(end).number_between(lowest, 100) for end in ("low", "high")]
        intervals[name] = Interval(*ends)
    if not figures:
        raise field.get("figures").fault("is empty")
    return Measured(figures, intervals)


def _read_row(field: Field) -> ReportRow:
    judging = field.get("judging") if field.has("judging") else None
    return ReportRow(
        field.get("name").text(),
        _read_measured(field),
        field.get("queries").count(),
        field.get("without_answer").count() if field.has("without_answer") else 0,
        judging.get("storage").text() if judging and judging.has("storage") else "float",
        judging.get("dim").count() if judging and judging.has("dim") else None,
    )


def _read_difference(field: Field) -> Difference:
    return Difference(
        field.get("row").text(), field.get("baseline").text(), _read_measured(field, -100)
    )


def _read_corrupted(field: Field) -> Corrupted:
    return Corrupted(
        field.get("row").text(),
        field.get("corruption").text(),
        field.get("strength").number(),
        _read_measured(field),
    )


def _read_encoder(field: Field) -> EncoderFacts:
    return EncoderFacts(
        field.get("name").text(),
        field.get("encoder").text(),
        field.get("space").text(),
        field.get("size").count(),
        field.get("precision").text(),
    )


def _read_curve(field: Field) -> Curve:
    ranks = tuple(rank.count() for rank in field.entries("ranks"))
    recall = tuple(value.number_between(0, 100) for value in field.entries("recall"))
    if not ranks or ranks[0] < 1 or list(ranks) != sorted(set(ranks)):
        raise field.get("ranks").fault("must be whole numbers from 1 that grow")
    if len(recall) != len(ranks):
        raise field.get("recall").fault(f"has {len(recall)} values for {len(ranks)} ranks")
    return Curve(ranks, recall)


def _read_class(field: Field) -> ClassFailure:
    return ClassFailure(
        field.get("label").text(),
        field.get("queries").count(),
        field.get("r1").number_between(0, 100),
        field.get("confused_with").text(),
    )


def _read_example(field: Field) -> Example:
    answers = tuple(
        Answer(
            answer.get("path").text(),
            answer.get("label").text(),
            answer.get("score").number(),
            answer.get("right").flag(),
        )
        for answer in field.entries("answers")
    )
    return Example(field.get("query").text(), field.get("label").text(), answers)
