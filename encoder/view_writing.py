"""Write a view store: blocks appended to files, so that a kill costs no more than one of them.

They lie beside the output, in `NAME.state/`; `made.json` there lists the digests of the blocks that
are whole.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from encoder.atomic import new_folder, write_bytes, write_json
from encoder.errors import PocketlensError
from encoder.json_files import read_json
from encoder.progress import track
from encoder.training_state import StateFolder, mark_started
from encoder.view_store import (
    FEATURES,
    FORMAT,
    MANIFEST,
    POSITIONS,
    VIEWS,
    WHOLE,
    StoreLayout,
    digest_block,
    pack_positions,
)

_MADE = "made.json"
# Makes a block of this number: its parts by the name of their file.
MakeBlock = Callable[[int], dict[str, NDArray[Any]]]


def write_store(
    output: Path,
    layout: StoreLayout,
    positions: NDArray[np.int64],
    make: MakeBlock,
    state: StateFolder,
    *,
    overwrite: bool,
    **facts: Any,
) -> None:
    """Write the blocks that are not made yet, then the store; `facts` go into its manifest.

    Raises:
        PocketlensError: when the disk is too small, or what was begun is of other images.
    """
    packed = _keep_positions(state, positions)
    digests = _write_blocks(layout, make, state)
    with new_folder(output, marker=MANIFEST, overwrite=overwrite) as folder:
        for name in layout.sizes(0):
            _link(state.path / name, folder / name)
        (folder / POSITIONS).write_bytes(packed)
        described = {
            "format": FORMAT,
            "identity": state.identity,
            "layout": dataclasses.asdict(layout),
            "blocks": digests,
            "positions": hashlib.sha256(packed).hexdigest(),
            **facts,
        }
        write_json(folder / MANIFEST, described)


def _keep_positions(state: StateFolder, positions: NDArray[np.int64]) -> bytes:
    """Write which images views are made of, or compare it with what was begun."""
    file, packed = state.path / POSITIONS, pack_positions(positions)
    if not file.exists():
        write_bytes(file, packed)
    elif file.read_bytes() != packed:
        raise PocketlensError(
            f"{state.path}: begun when other images could be read; begin anew with --overwrite"
        )
    return packed


def _write_blocks(layout: StoreLayout, make: MakeBlock, state: StateFolder) -> list[str]:
    """Make the blocks that are not made yet; return the digests of all."""
    made = _read_made(state)
    missing = layout.images - layout.images_in(len(made))
    _check_disk(state.path, layout, missing)
    with (
        _open_files(state, layout, len(made)) as files,
        track("making views", missing * layout.views) as advance,
    ):
        for number in range(len(made), layout.blocks):
            parts = make(number)
            for name, file in files.items():
                file.write(np.ascontiguousarray(parts[name]).view(np.uint8).data)
                file.flush()
                os.fsync(file.fileno())
            made.append(digest_block(parts[VIEWS], parts[FEATURES], parts[WHOLE]))
            write_json(state.path / _MADE, {"blocks": made})
            if len(made) == 1:
                mark_started(state)
            advance(len(layout.span(number)) * layout.views)
    return made


def _read_made(state: StateFolder) -> list[str]:
    """Return the digests of the blocks made before a stop; none in a new state."""
    file = state.path / _MADE
    if not file.exists():
        return []
    blocks = read_json(file).get("blocks")
    if not isinstance(blocks, list):
        raise PocketlensError(f"{file}: names no blocks; begin anew with --overwrite")
    return [str(digest) for digest in blocks]


def _check_disk(folder: Path, layout: StoreLayout, missing: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    needed = sum(layout.sizes(missing).values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PocketlensError(
            f"{folder}: the views need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "give fewer --views or another output"
        )


@contextlib.contextmanager
def _open_files(
    state: StateFolder, layout: StoreLayout, made: int
) -> Iterator[dict[str, BinaryIO]]:
    """Open the files to append to, cut back to the blocks that are whole."""
    sizes = layout.sizes(layout.images_in(made))
    with contextlib.ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for name, size in sizes.items():
            path = state.path / name
            found = path.stat().st_size if path.exists() else 0
            if found < size:
                raise PocketlensError(
                    f"{path}: has {found} bytes, not {size}; begin anew with --overwrite"
                )
            file = stack.enter_context(path.open("ab"))
            file.truncate(size)
            files[name] = file
        yield files


def _link(source: Path, target: Path) -> None:
    """Give the file a second name, or copy it where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
