"""Write files and folders so that a kill at any moment leaves the old state or the new one."""

import contextlib
import ctypes
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from encoder.array_files import naming
from encoder.errors import PocketlensError
from encoder.json_files import read_json

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a scratch file that becomes `path`, flushed to disk, when the block ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    scratch = Path(name)
    try:
        with naming(path):
            yield scratch
        sync(scratch)
        scratch.chmod(0o644)
        scratch.replace(path)
        sync(path.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`: to a neighbour first, flushed to disk, then renamed over it."""
    with new_file(path) as scratch:
        scratch.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON ending in a newline."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def check_output(path: Path, *, marker: str, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Refuse an output folder that must not be written, before any work is done.

    With `overwrite` only an empty folder, or one that this program wrote (it holds the JSON file
    `marker` with a format number), may be replaced. None of the `inputs` may lie in the output.

    Raises:
        PocketlensError: when `path` must not be replaced or its parent cannot hold it.
    """
    here = path.resolve()
    for source in inputs:
        if source.resolve().is_relative_to(here):
            raise PocketlensError(f"{path}: holds the input {source}; name another output")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        present = path.exists() or path.is_symlink()
    except OSError as error:
        raise PocketlensError(f"{path}: cannot be made ({error.strerror})") from None
    if not present:
        return
    if not path.is_dir():
        raise PocketlensError(f"{path}: exists and is not a folder; name another output")
    if Path.cwd().is_relative_to(here) or path.is_mount():
        raise PocketlensError(f"{path}: cannot be replaced while in use; name a folder inside it")
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise PocketlensError(
            f"{path}: exists already; name another output or replace it with --overwrite"
        )
    if not _is_ours(path / marker):
        raise PocketlensError(
            f"{path}: has no {marker} of ours, so this program did not write it and will not "
            "replace it; name another output"
        )


def _is_ours(marker: Path) -> bool:
    try:
        return isinstance(read_json(marker).get("format"), int)
    except PocketlensError:
        return False


def check_output_file(path: Path | None, *, overwrite: bool = True) -> None:
    """Refuse a file that cannot be written, or must not be, before any work is done.

    Raises:
        PocketlensError: when it is a folder or in none, or is there and `overwrite` is not given.
    """
    if path is None:
        return
    if path.is_dir():
        raise PocketlensError(f"{path}: is a folder; name a file to write")
    if not path.absolute().parent.is_dir():
        raise PocketlensError(f"{path}: its folder does not exist; make it first")
    if path.exists() and not overwrite:
        raise PocketlensError(f"{path}: exists; name another file or give --overwrite")


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


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            sync(path)


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
        put_folder(scratch, path)
        sync(path.parent)
    except OSError as error:
        # A failed write names no file, or one in the scratch folder; the user knows the output.
        if not error.filename or str(error.filename).startswith(str(scratch)):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put_folder(scratch: Path, path: Path) -> None:
    """Rename a finished folder to its place; an old one there takes the scratch folder's name."""
    if not path.exists() or not any(path.iterdir()):
        scratch.rename(path)
    elif not _exchange(scratch, path):
        # Where the kernel cannot swap, a kill between the two renames leaves the old folder aside.
        old = scratch.with_suffix(".old")
        path.rename(old)
        scratch.rename(path)
        shutil.rmtree(old)
