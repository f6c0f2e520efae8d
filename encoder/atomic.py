"""Write files and folders so that a kill at any moment leaves the old state or the new one."""

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoder.errors import PocketlensError

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`: to a neighbour first, flushed to disk, then renamed over it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
        _sync(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON ending in a newline."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        PocketlensError: naming the file when it is missing, damaged or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PocketlensError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise PocketlensError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise PocketlensError(f"{path}: expected a JSON object")
    return value


def check_output(path: Path, *, marker: str, overwrite: bool) -> None:
    """Refuse an output folder that exists, before any work is done.

    With `overwrite` only an empty folder, or one that holds the file `marker` (so one that this
    program wrote), may be replaced.

    Raises:
        PocketlensError: when `path` must not be replaced or its parent cannot hold it.
    """
    if not path.exists() and not path.is_symlink():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PocketlensError(f"{path}: cannot be made ({error.strerror})") from None
        return
    if not path.is_dir():
        raise PocketlensError(f"{path}: exists and is not a folder; name another output")
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise PocketlensError(
            f"{path}: exists already; name another output or replace it with --overwrite"
        )
    if not (path / marker).is_file():
        raise PocketlensError(
            f"{path}: has no {marker}, so this program did not write it and will not replace it; "
            "name another output"
        )


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step where the kernel can (Linux renameat2)."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    done: int = rename(
        _AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE
    )
    return done == 0


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            _sync(path)


@contextlib.contextmanager
def new_folder(path: Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a scratch folder that becomes `path` when the block ends without an error.

    An error, or a kill, leaves `path` as it was. `marker` and `overwrite` as in `check_output`.
    """
    check_output(path, marker=marker, overwrite=overwrite)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
    try:
        scratch.chmod(0o755)
        yield scratch
        _sync_tree(scratch)
        # Again: another program may have made the folder meanwhile.
        check_output(path, marker=marker, overwrite=overwrite)
        if not path.exists():
            scratch.rename(path)
        elif not _exchange(scratch, path):
            old = scratch.with_suffix(".old")
            path.rename(old)
            scratch.rename(path)
            shutil.rmtree(old)
        _sync(path.parent)
    except OSError as error:
        # A failed write names no file, or one in the scratch folder; the user knows the output.
        if not error.filename or str(error.filename).startswith(str(scratch)):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
