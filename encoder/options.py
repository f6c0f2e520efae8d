"""Command-line options that several commands share, each with its one help text."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]
TestShare = Annotated[
    float | None, typer.Option(help="Share of the classes, last by name, kept for the test.")
]
Data = Annotated[
    Path, typer.Argument(help="Folder with one sub-folder a class, or a CSV or Parquet table.")
]
Storages = Annotated[
    list[str] | None,
    typer.Option(help="Also judge stored vectors: int8, binary, float-binary. Repeatable."),
]
Prefixes = Annotated[
    list[int] | None, typer.Option(help="Also judge this prefix of the vectors. Repeatable.")
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]


def with_options_of(
    build: Callable[..., Any], *, into: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that build a value, in place of its parameter of that name.

    It is passed `build` with the options filled in, to be called when it is time. An option of the
    same name that the command has itself stays the command's.
    """
    built = inspect.signature(build).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        taken = {name: value for name, value in built.items() if name not in own}
        merged = dict[str, inspect.Parameter]()
        for name, parameter in own.items():
            merged |= taken if name == into else {name: parameter}
        keyword = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.Signature([each.replace(kind=keyword) for each in merged.values()])

        @functools.wraps(command)
        def run(*given: Any, **options: Any) -> None:
            named = dict(zip(merged, given, strict=False)) | options
            values = signature.bind(**named)
            values.apply_defaults()
            picked = {name: values.arguments.pop(name) for name in taken}
            command(**values.arguments, **{into: functools.partial(build, **picked)})

        # Typer reads the names and kinds of options from these.
        del run.__wrapped__
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {name: each.annotation for name, each in merged.items()}
        return run

    return decorate
