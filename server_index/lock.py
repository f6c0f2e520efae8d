"""One writer an index folder: a lock that names its owner and ends with its process."""

import contextlib
import datetime
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from encoder.errors import PocketlensError

LOCK = "writer.lock"


@contextlib.contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Hold the folder's writing lock.

    The kernel lets go of it when the process ends, however that ends.

    Raises:
        PocketlensError: naming the process that holds it, or when the folder cannot be written.
    """
    file = folder / LOCK
    try:
        stream = file.open("a+", encoding="utf-8")
    except OSError as error:
        raise PocketlensError(f"{folder}: cannot be written ({error.strerror})") from None
    with stream:
        if not _try_lock(stream):
            raise PocketlensError(f"{folder}: being written by {_read_owner(file)}; wait for it")
        stream.truncate(0)
        # On a full disk it is held all the same, by nobody who is named.
        with contextlib.suppress(OSError):
            os.write(stream.fileno(), _describe_self().encode())
        try:
            yield
        finally:
            # Emptied, not removed: another process may hold the file open, waiting.
            stream.truncate(0)


def _try_lock(stream: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _describe_self() -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": platform.node(), "since": now})


def _read_owner(file: Path) -> str:
    try:
        owner = json.loads(file.read_text("utf-8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
