"""A data source as a table, and a table as a file: folder, published layout, CSV or Parquet."""

import dataclasses
from pathlib import Path

from encoder.atomic import check_output_file
from encoder.datasets.csv_table import list_csv, read_csv, write_csv
from encoder.datasets.folder import list_folder, read_folder
from encoder.datasets.layouts import recognise_layout
from encoder.datasets.official import read_official
from encoder.datasets.parquet_table import list_parquet, read_parquet, write_parquet
from encoder.datasets.table import ImageTable
from encoder.errors import PocketlensError


def read_source(source: Path) -> ImageTable:
    """Read a folder tree, a published set in its own layout, a CSV file or a Parquet file.

    Raises:
        PocketlensError: naming the first fault.
    """
    if _is_file(source, ".csv"):
        return read_csv(source)
    if _is_file(source, ".parquet"):
        return read_parquet(source)
    official = recognise_layout(source)
    return read_official(official, source) if official else read_folder(source)


def list_source(source: Path) -> ImageTable:
    """Read a source without the strict check of its rows."""
    if _is_file(source, ".csv"):
        return list_csv(source)
    if _is_file(source, ".parquet"):
        return list_parquet(source)
    official = recognise_layout(source)
    return ImageTable(source, official.read_rows(source)) if official else list_folder(source)


def without_boxes(table: ImageTable) -> ImageTable:
    """Return the table of whole images."""
    return dataclasses.replace(
        table, rows=tuple(dataclasses.replace(row, box=None) for row in table.rows)
    )


def check_table_output(file: Path, *, overwrite: bool) -> None:
    """Refuse a table file that must not be written, before any work is done.

    Raises:
        PocketlensError: when its suffix is no table's, it exists, or its folder does not.
    """
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise PocketlensError(f"{file}: a table is written as .csv or .parquet")
    check_output_file(file, overwrite=overwrite)


def write_source(table: ImageTable, file: Path) -> None:
    """Write a table as CSV or Parquet, with paths that start from the file's folder.

    Raises:
        PocketlensError: when the images do not lie below that folder.
    """
    here, root = file.parent.resolve(), table.root.resolve()
    if not root.is_relative_to(here):
        raise PocketlensError(
            f"{file}: paths in a table start from its folder, and {table.root} is not in it; "
            "write it there or above"
        )
    rows = tuple(
        dataclasses.replace(row, path=(root.relative_to(here) / row.path).as_posix())
        for row in table.rows
    )
    moved = ImageTable(file.parent, rows)
    (write_csv if _has_suffix(file, ".csv") else write_parquet)(moved, file)


def _is_file(source: Path, suffix: str) -> bool:
    return _has_suffix(source, suffix) and not source.is_dir()


def _has_suffix(file: Path, suffix: str) -> bool:
    return file.suffix.lower() == suffix
