"""The command line: parses, calls, prints. Heavy libraries are imported inside the commands."""

import errno
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from encoder.commands import app as encoder_app
from encoder.commands import demo_data, evaluate
from encoder.errors import PocketlensError, require_extra
from encoder.memory import keep_memory, set_library_defaults
from encoder.student_commands import distill
from encoder.teacher_commands import train_teacher
from export.commands import app as export_app
from export.commands import export
from server_index.commands import app as index_app
from server_index.commands import build_index, search

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The parent of Typer's errors of usage, which has no public name.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="pocketlens",
    help="Encode queries on the device, in the space of a database encoded once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    # Plain help: the formatted one imports a Markdown renderer and doubles the start-up.
    rich_markup_mode=None,
)
for room in (encoder_app, export_app, index_app):
    app.add_typer(room)


@app.command()
def bench(
    encoders: Annotated[
        list[Path] | None, typer.Argument(help="Exported query encoders or bundles to compare.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Picture to time; a camera-sized one is made if none.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Index folder, to time the search too.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Numbers of threads; one and all if none is given.")
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(help="Provider of ONNX Runtime; all present if none is given. Repeatable."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Warm pictures of each, in turns.")] = 50,
    browser: Annotated[
        bool, typer.Option("--browser", help="Time in an installed Chromium instead of Python.")
    ] = False,
    merge: Annotated[
        list[Path] | None,
        typer.Option(help="Record of another platform or time, to be shown along. Repeatable."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write it here.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw it into this SVG file.")] = None,
) -> None:
    """Time queries stage by stage, cold and warm, several encoders side by side."""
    from encoder.atomic import check_output_file, write_bytes, write_json
    from export.latency_chart import draw_latency
    from export.latency_record import format_runs, read_runs, to_json

    if rounds < 1 or min(threads or [1]) < 1:
        raise PocketlensError("--rounds and --threads must be at least 1")
    if not encoders and not merge:
        raise PocketlensError("give an encoder to time, or a record to show with --merge")
    check_output_file(json_file)
    check_output_file(plot)
    runs = [run for file in merge or () for run in read_runs(file)]
    if browser and (index or provider):
        raise PocketlensError(
            "--browser times encoding only, on the CPU: no --index, no --provider"
        )
    if encoders:
        from export.browser import measure_in_browser
        from export.golden import make_camera_photo
        from export.latency import Bench, measure_latency

        picked = Bench(
            picture=_read_picture(image) if image else make_camera_photo(),
            picture_name=image.name if image else "camera 4000x3000",
            rounds=rounds,
            threads=tuple(threads or ()),
            providers=tuple(provider or ()),
            search=_open_search(index, encoders) if index else None,
        )
        measure = measure_in_browser if browser else measure_latency
        runs = [*measure(encoders, picked), *runs]
    print(format_runs(runs))
    if json_file:
        write_json(json_file, to_json(runs))
    if plot:
        write_bytes(plot, draw_latency(runs).encode())


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Your own folder, one sub-folder a class; else drawn.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "demo-run"
    ),
    epochs: Annotated[float, typer.Option(help="Passes of teacher and student each.")] = 4,
) -> None:
    """Run the whole job, from images to answers."""
    for extra in ("train", "server"):
        require_extra(extra, "demo")
    from encoder.atomic import check_output, write_json

    if data is not None and not data.exists():
        raise PocketlensError(f"{data}: no such folder or table of images")
    check_output(output, marker="demo.json", overwrite=True)
    output.mkdir(exist_ok=True)
    write_json(output / "demo.json", {"format": 1})
    started = time.monotonic()
    drawn = data is None
    if data is None:
        data = output / "images"
        if not data.exists():
            _announce("1/8 draw the embedded data set")
            demo_data(data)
    teacher, student = output / "teacher", output / "student"
    query, database, index = output / "query", output / "database", output / "index"
    _announce("2/8 train the teacher at 224 px")
    # Few steps, and drawn pictures are unlike ImageNet's: faster than photos ask for.
    lr = 5e-4 if drawn else 1e-4
    train_teacher(data, teacher, epochs=epochs, lr=lr, small_size=112, overwrite=True)
    _announce("3/8 distil the student at 112 px")
    distill(teacher, data, student, epochs=epochs, overwrite=True)
    _announce("4/8 export both to ONNX, pixels in, unit vector out")
    export([student], query, overwrite=True)
    export([teacher], database, overwrite=True)
    _announce("5/8 encode the database at 224 px and index it")
    build_index(data, index, encoder=teacher, overwrite=True)
    _announce("6/8 search with a 112 px query")
    picture = _last_picture(data)
    print(f"query: {picture} (also in the database, encoded at 224 px)")
    search(picture, index=index, encoder=query)
    _announce("7/8 time a camera photo from bytes to answer")
    bench([query], index=index, rounds=20, json_file=output / "latency.json")
    _announce("8/8 measure recall on classes nobody was trained on")
    evaluate(data, teacher=teacher, student=student, json_file=output / "evaluation.json")
    print(f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes. Where everything lies:")
    for place, what in (
        (data, "images"),
        (teacher, "teacher checkpoint (database encoder)"),
        (student, "student checkpoint (query encoder)"),
        (query, "query bundle for the device, with its card"),
        (database, "database encoder as ONNX"),
        (index, "FAISS index folder"),
        (output / "evaluation.json", "recall"),
        (output / "latency.json", "latency"),
    ):
        print(f"  {place!s:<28} {what}")


def _open_search(index: Path, encoders: list[Path]) -> "Callable[[NDArray[np.float32]], object]":
    """Join what must meet: a search of the index for vectors of these encoders."""
    require_extra("server", "--index")
    from server_index.index import Index
    from server_index.search import open_query

    opened = Index(index)
    for encoder in encoders:
        open_query(opened, encoder)
    return lambda vectors: opened.search(vectors, 10)


def _announce(step: str) -> None:
    print(f"\n== {step}", flush=True)


def _last_picture(data: Path) -> Path:
    """Return the last picture of the last class."""
    from encoder.datasets.splits import read_table

    return read_table(data).files()[-1]


def _read_picture(file: Path) -> bytes:
    """Read a picture's bytes, once it is known to decode."""
    from encoder.images import decode_image

    decode_image(file)
    return file.read_bytes()


def main() -> None:
    """Run the command line; mistakes end in one line on standard error and exit code 2."""
    keep_memory()
    set_library_defaults()
    # Pillow's remarks on damaged EXIF: what cannot be read is reported, the rest is no matter.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    try:
        code = app(standalone_mode=False)
    except PocketlensError as error:
        _fail(str(error))
    except _UsageError as error:
        _refuse_usage(error)
    except typer.Abort:
        _fail("what was read ended early")
    except OSError as error:
        name = error.filename or "output"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(f"{name}: the disk is full; nothing was changed")
        _fail(f"{name}: {error.strerror or error}")
    # What a command exits with, or nothing.
    sys.exit(code)


def _refuse_usage(error: Any) -> NoReturn:
    """Tell in one line what a command line lacks or has too much of."""
    if error.__class__.__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    told = error.format_message().rstrip(".")
    hint = ""
    if error.__class__.__name__ == "MissingParameter":
        # Which of several is missing is a guess of the parser's.
        hint = "; usage: " + " ".join(error.ctx.get_usage().split()[1:])
    elif error.ctx:
        hint = f"; see `{error.ctx.command_path} --help`"
    _fail(f"{told[:1].lower()}{told[1:]}{hint}")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
