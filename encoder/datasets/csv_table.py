"""Read and write the table as CSV: path, label, split, role and an optional box."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from encoder.atomic import write_bytes
from encoder.datasets.table import Box, ImageTable, Role, Row, Split, check_table
from encoder.errors import PocketlensError, first_line

COLUMNS = ("path", "label", "split", "role", "x", "y", "w", "h")


def read_csv(file: Path) -> ImageTable:
    """Read a CSV with a header; only `path` is required, paths start from the file's folder.

    Raises:
        PocketlensError: naming the file and line of the first fault.
    """
    table = list_csv(file)
    check_table(table, where=str(file))
    return table


def list_csv(file: Path) -> ImageTable:
    """Read a CSV without the strict check of its rows."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            check_header(file, reader.fieldnames)
            rows = tuple(read_row(file, reader.line_num, cells) for cells in reader)
    except FileNotFoundError:
        raise PocketlensError(f"{file}: no such file") from None
    except OSError as error:
        raise PocketlensError(f"{file}: not readable ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PocketlensError(f"{file}: not a UTF-8 CSV file ({first_line(error)})") from None
    return ImageTable(file.parent, rows)


def write_csv(table: ImageTable, file: Path) -> None:
    """Write the table next to its images, as `read_csv` reads it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in table.rows:
        box = row.box if row.box else ("", "", "", "")
        writer.writerow([row.path, row.label, row.split, row.role, *box])
    write_bytes(file, text.getvalue().encode())


def check_header(file: Path, names: object) -> None:
    """Refuse the names of columns that are not a table's."""
    known = list(names) if isinstance(names, list) else []
    unknown = [name for name in known if name not in COLUMNS]
    if "path" not in known or unknown or len(set(known)) < len(known):
        raise PocketlensError(
            f"{file}: the header must name path and may name, once each, {', '.join(COLUMNS[1:])}; "
            f"found {', '.join(map(str, known)) or 'nothing'}"
        )


def read_row(file: Path, line: int, cells: Mapping[Any, str | None]) -> Row:
    """Return a line's cells as a row; what no table has is passed over.

    Raises:
        PocketlensError: naming the line, when the cells do not match the header or a box is none.
    """
    if None in cells or None in cells.values():
        raise PocketlensError(f"{file}: line {line}: its cells do not match the header")
    text = {str(name): str(value) for name, value in cells.items()}
    return Row(
        path=text["path"],
        label=text.get("label", ""),
        split=cast(Split, text.get("split", "")),
        role=cast(Role, text.get("role", "")),
        box=_read_box(file, line, [text.get(name, "") for name in ("x", "y", "w", "h")]),
    )


def _read_box(file: Path, line: int, cells: list[str]) -> Box | None:
    if not any(cells):
        return None
    try:
        x, y, w, h = map(float, cells)
    except ValueError:
        raise PocketlensError(f"{file}: line {line}: x, y, w, h must be four numbers") from None
    return x, y, w, h
