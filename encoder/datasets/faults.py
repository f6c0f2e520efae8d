"""Every fault of a data source, row by row, where reading stops at the first."""

import dataclasses
from pathlib import Path

from encoder.datasets.layouts import recognise_layout
from encoder.datasets.official import compare_counts
from encoder.datasets.table import ImageTable, Row, table_rules
from encoder.errors import BadImageError
from encoder.images import decode_image
from encoder.progress import track


@dataclasses.dataclass(frozen=True)
class Fault:
    """Say what is wrong with one row of a table."""

    number: int
    row: Row
    reason: str

    def __str__(self) -> str:
        where = f"row {self.number}: {self.row.path!r}"
        return f"{where} (label {self.row.label!r}, split {self.row.split!r}): {self.reason}"


def find_faults(table: ImageTable) -> list[Fault]:
    """Return what the strict check would refuse: every row, for every rule it breaks."""
    return sorted(
        (
            Fault(number, row, rule)
            for rule, is_broken in table_rules(table)
            for number, row in enumerate(table.rows, 1)
            if is_broken(row)
        ),
        key=lambda fault: fault.number,
    )


def find_undecodable(table: ImageTable) -> list[Fault]:
    """Decode every image and return those that a job would set aside, with the reason."""
    faults = []
    with track("decoding images", len(table)) as advance:
        for number, (row, source) in enumerate(zip(table.rows, table.sources(), strict=True), 1):
            try:
                decode_image(source)
            except BadImageError as error:
                faults.append(Fault(number, row, str(error).removeprefix(f"{source}: ")))
            advance(1)
    return faults


def find_missing_counts(table: ImageTable, source: Path) -> str:
    """Return how a published set differs from its published counts, or nothing."""
    official = recognise_layout(source)
    return compare_counts(table, official.published) if official else ""
