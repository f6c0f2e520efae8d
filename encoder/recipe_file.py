"""A recipe: options of a command in a TOML file, which the command line overrides."""

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from encoder.errors import PocketlensError, first_line


def read_recipe(file: Path, command: str, options: Collection[str]) -> dict[str, Any]:
    """Return the options that a recipe gives a command, by their names in Python.

    The file has a table for each command, `[train-teacher]`, of options without their dashes.

    Raises:
        PocketlensError: naming the file when it is missing, no TOML, or holds anything else.
    """
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PocketlensError(f"{file}: not a readable recipe ({first_line(error)})") from None
    given = tables.get(command)
    if not isinstance(given, dict):
        raise PocketlensError(f"{file}: a recipe for {command} has a table [{command}]")
    unknown = sorted(set(given) - {name.replace("_", "-") for name in options})
    if unknown:
        raise PocketlensError(f"{file}: {unknown[0]!r} is no option of {command}")
    return {name.replace("-", "_"): value for name, value in given.items()}


def _apply(context: typer.Context, file: Path | None) -> Path | None:
    if file is not None:
        fixed = {"recipe", "overwrite", "resume", "help"}
        options = {
            parameter.name
            for parameter in context.command.params
            if parameter.param_type_name == "option" and parameter.name
        }
        given = read_recipe(file, context.info_name or "", options - fixed)
        for parameter in context.command.params:
            # Of a repeatable option a file may give one value as it is.
            name = parameter.name or ""
            if getattr(parameter, "multiple", False) and not isinstance(given.get(name, []), list):
                given[name] = [given[name]]
        context.default_map = {**(context.default_map or {}), **given}
    return file


# Read before the other options, whose defaults it sets.
Recipe = Annotated[
    Path | None,
    typer.Option(
        help="TOML file of options; those given here win.", is_eager=True, callback=_apply
    ),
]
