"""Read and write the table as Parquet: the columns of the CSV, typed."""

import io
from pathlib import Path
from typing import Any, cast

from encoder.atomic import write_bytes
from encoder.datasets.csv_table import COLUMNS, check_header
from encoder.datasets.table import Box, ImageTable, Role, Row, Split, check_table
from encoder.errors import PocketlensError, first_line, require_extra

_TEXT, _BOX = COLUMNS[:4], COLUMNS[4:]


def read_parquet(file: Path) -> ImageTable:
    """Read a Parquet file; only `path` is required, paths start from the file's folder.

    Raises:
        PocketlensError: naming the file and the first fault.
    """
    table = list_parquet(file)
    check_table(table, where=str(file))
    return table


def list_parquet(file: Path) -> ImageTable:
    """Read a Parquet file without the strict check of its rows."""
    require_extra("parquet", "reading Parquet")
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as data:
            found = data.read(use_threads=False)
    except FileNotFoundError:
        raise PocketlensError(f"{file}: no such file") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise PocketlensError(f"{file}: not readable as Parquet ({first_line(error)})") from None
    check_header(file, found.column_names)
    columns = {name: _read_column(file, name, found.column(name)) for name in found.column_names}
    rows = tuple(_read_row(file, number, columns) for number in range(found.num_rows))
    return ImageTable(file.parent, rows)


def write_parquet(table: ImageTable, file: Path) -> None:
    """Write the table next to its images, as `read_parquet` reads it."""
    require_extra("parquet", "writing Parquet")
    import pyarrow
    from pyarrow.parquet import write_table

    values: dict[str, Any] = {
        name: pyarrow.array([getattr(row, name) for row in table.rows], pyarrow.string())
        for name in _TEXT
    }
    for place, name in enumerate(_BOX):
        numbers = [row.box[place] if row.box else None for row in table.rows]
        values[name] = pyarrow.array(numbers, pyarrow.float64())
    data = io.BytesIO()
    write_table(pyarrow.table(values), data)
    write_bytes(file, data.getvalue())


def _read_column(file: Path, name: str, column: Any) -> list[Any]:
    from pyarrow import types

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    numeric = types.is_floating(kind) or types.is_integer(kind)
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not types.is_null(kind) and not (numeric if name in _BOX else text):
        wanted = "numbers" if name in _BOX else "text"
        raise PocketlensError(f"{file}: column {name} holds {column.type}; it must hold {wanted}")
    values: list[Any] = column.to_pylist()
    return values


def _read_row(file: Path, number: int, columns: dict[str, list[Any]]) -> Row:
    path, label, split, role = (
        columns[name][number] or "" if name in columns else "" for name in _TEXT
    )
    box = [columns[name][number] if name in columns else None for name in _BOX]
    return Row(path, label, cast(Split, split), cast(Role, role), _read_box(file, number, box))


def _read_box(file: Path, number: int, cells: list[float | None]) -> Box | None:
    if cells == [None] * len(cells):
        return None
    if None in cells:
        raise PocketlensError(f"{file}: row {number + 1}: x, y, w, h must be four numbers")
    x, y, w, h = (float(cast(float, cell)) for cell in cells)
    return x, y, w, h
