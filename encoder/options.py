"""Command-line options that several commands share, each with its one help text."""

from pathlib import Path
from typing import Annotated

import typer

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
TestShare = Annotated[
    float | None, typer.Option(help="Share of the classes, last by name, kept for the test.")
]
Data = Annotated[
    Path, typer.Argument(help="Folder with one sub-folder a class, or a CSV or Parquet table.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
