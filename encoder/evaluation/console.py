"""Rows of an evaluation as a table on the terminal."""

from collections.abc import Sequence

from encoder.evaluation.metrics import figure_title
from encoder.evaluation.protocol import EvaluationRow, HarmedRow


def print_harmed(harmed: Sequence[HarmedRow]) -> None:
    """Print recall against the strength of each harm."""
    if harmed:
        print(f"\n{harmed[0].row.name}: R@1 and MAP@R with harmed queries")
    for entry in harmed:
        row = entry.row
        half = row.intervals["r1"].half
        shown = f"{row.figures['r1']:6.1f} ±{half:4.1f} {row.figures['map_at_r']:6.1f}"
        print(f"  {entry.corruption:<15}{entry.strength:>8g}{shown}")


def print_rows(rows: Sequence[EvaluationRow]) -> None:
    """Print figures with their intervals, a row below the other."""
    names = list(rows[0].figures)
    width = max(len(row.name) for row in rows)
    print(" " * width + "".join(f"{figure_title(name):>8}" for name in names))
    for row in rows:
        print(row.name.ljust(width) + "".join(f"{row.figures[name]:8.1f}" for name in names))
        half = [row.intervals[n].half for n in names]
        print(" " * width + "".join(f"   ±{value:4.1f}" for value in half))
    shown = rows[0]
    note = f"{shown.queries} queries; ± is half of the 95 % bootstrap interval"
    if shown.without_answer:
        note += f"; {shown.without_answer} queries without an answer left out"
    print(note)
