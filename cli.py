"""The command line: parses, calls, prints. Heavy libraries are imported inside the commands."""

import errno
import sys

import typer

from encoder.commands import app as encoder_app
from encoder.errors import PocketlensError
from encoder.memory import keep_memory
from export.commands import app as export_app
from server_index.commands import app as index_app

app = typer.Typer(
    name="pocketlens",
    help="Train a teacher, distil a small-picture student into its space, export it, search.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for room in (encoder_app, export_app, index_app):
    app.add_typer(room)


def main() -> None:
    """Run the command line; mistakes end in one line on standard error and exit code 2."""
    keep_memory()
    try:
        app()
    except PocketlensError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _fail(f"{error.filename or 'the output'}: the disk is full; nothing was changed")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOTDIR):
            _fail(f"{error.filename or 'the output'}: {error.strerror}")
        raise
    except KeyboardInterrupt:
        print("stopped; nothing was changed", file=sys.stderr)
        sys.exit(130)


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
