"""Rows of an evaluation as a table on the terminal."""

from collections.abc import Sequence

from encoder.evaluation.matrix import Matrix
from encoder.evaluation.metrics import figure_title
from encoder.evaluation.protocol import COMPARED, EvaluationRow, HarmedRow


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


def print_matrix(matrix: Matrix) -> None:
    """Print who asks which database, what is declared, and what an order of encoding brings."""
    names = [f"{cell.query} → {cell.database}, {cell.how}" for cell in matrix.cells]
    width = max(map(len, names), default=0)
    for name, cell in zip(names, matrix.cells, strict=True):
        judging = cell.row.judging
        stored = f"{judging.dim or 'all'} {judging.storage}"
        row = cell.row
        figures = (
            f"{figure_title(each)} {row.figures[each]:5.1f} ±{row.intervals[each].half:4.1f}"
            for each in COMPARED
        )
        print(f"{name:<{width}}  {stored:<16}{'  '.join(figures)}")
    for each in matrix.declared:
        gains = ", ".join(
            f"{figure_title(name)} {each.gain[name]:+.1f} "
            f"({each.intervals[name].low:+.1f} to {each.intervals[name].high:+.1f})"
            for name in COMPARED
        )
        verdict = "holds" if each.holds else f"is not {each.requirement}"
        print(f"declared: {each.names[0]} → {each.names[1]} {verdict}: {gains} over old queries")
    for curve in matrix.curves:
        areas = ", ".join(f"{figure_title(n)} {curve.area.figures[n]:.2f}" for n in COMPARED)
        print(f"encoding {curve.database} anew by {curve.order}: mean over the shares {areas}")
