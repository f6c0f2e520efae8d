"""Fill an index folder with encoded images: a new one, or more of them into one that there is.

What has been encoded is committed as it comes. A build that was killed goes on where it was: its
folder is `NAME.building` until all is in it.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from encoder.atomic import check_output, put_folder
from encoder.embed import EmbeddedBatch
from encoder.errors import BadImageError, PocketlensError
from encoder.images import read_source_bytes
from encoder.space import require_same_space
from server_index.contract import fit_vectors
from server_index.encode import DatabaseEncoder
from server_index.items import Item, check_item
from server_index.lock import hold_lock
from server_index.manifest import MANIFEST
from server_index.record import is_index
from server_index.source import Entry
from server_index.writer import IndexWriter, create_index

# Entries looked up together in the record, and at least so often a commit.
_BLOCK = 2048
_COMMIT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Filled:
    """Say how many images were encoded, how many were there, and which could not be used."""

    items: int = 0
    encoded: int = 0
    present: int = 0
    changed: int = 0
    set_aside: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Filling:
    """Say how entries are added.

    `replace` encodes again files that have `changed`, or also other files of an id that is there
    (`any`). `with_sha256` records the digest of each file.
    """

    replace: Literal["", "changed", "any"] = ""
    with_sha256: bool = False


def name_building(output: Path) -> Path:
    """Return where an index lies while it is being built."""
    return output.with_name(output.name + ".building")


def build_index(
    encoder: DatabaseEncoder,
    entries: Iterable[Entry],
    output: Path,
    *,
    source: str = "",
    overwrite: bool = False,
    dim: int | None = None,
    with_sha256: bool = False,
    arrange: Callable[[IndexWriter], None] = IndexWriter.seal,
    advance: Callable[[int], None] = lambda count: None,
) -> Filled:
    """Write an index folder of the entries; `arrange` makes segments of what was encoded.

    `source` names where the entries come from: a build that was stopped goes on from the same.

    Raises:
        PocketlensError: when the output must not be replaced or is being written, another encoder
            or source began the build, or no image can be read.
    """
    check_output(output, marker=MANIFEST, overwrite=overwrite)
    building = _start_building(output, encoder, dim, source or "entries")
    with IndexWriter(building) as writer:
        # What has changed since a run that was stopped is encoded again.
        filled = fill_index(writer, encoder, entries, Filling("changed", with_sha256), advance)
        if filled.items:
            arrange(writer)
    if not filled.items:
        shutil.rmtree(building)
        read = len(filled.set_aside)
        raise PocketlensError(f"{output}: not made: none of the {read} images can be read")
    check_output(output, marker=MANIFEST, overwrite=overwrite)
    # A writer of what is replaced would write on into nothing.
    with hold_lock(output) if is_index(output) else contextlib.nullcontext():
        put_folder(building, output)
    with IndexWriter(output) as writer:
        writer.finish_building()
    # What it took the place of, where the kernel swaps folders.
    shutil.rmtree(building, ignore_errors=True)
    return filled


def _start_building(output: Path, encoder: DatabaseEncoder, dim: int | None, source: str) -> Path:
    """Return the folder to fill: a new one, or that of a build that was stopped."""
    building = name_building(output)
    if is_index(output):
        # Being written, it is refused before anything is encoded.
        with hold_lock(output):
            pass
        # Swapped out, it must not be taken for a build that was stopped. A damaged one never is.
        with contextlib.suppress(PocketlensError), IndexWriter(output) as writer:
            writer.finish_building()
    if is_index(building):
        with IndexWriter(building) as writer:
            state, begun = writer.state, writer.encoders()
        wanted = (encoder.space.id, dim or encoder.space.dim, source)
        there = (state.space.id, state.dim, state.building)
        if state.building and (there != wanted or begun not in ([], [encoder.encoder])):
            raise PocketlensError(
                f"{building}: holds the unfinished build of another encoder, dimension or source "
                f"({state.building}); finish it with that, or delete the folder"
            )
        if state.building:
            return building
    # What was swapped out by a build that was killed before it was removed, or holds nothing.
    shutil.rmtree(building, ignore_errors=True)
    create_index(building, encoder.space, dim=dim, building=source)
    return building


def fill_index(
    writer: IndexWriter,
    encoder: DatabaseEncoder,
    entries: Iterable[Entry],
    filling: Filling | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Filled:
    """Encode the entries that the index does not hold yet, and add them.

    An image that is there, of the same size and time, is passed over, however often it comes.

    Raises:
        PocketlensError: when the encoder writes into another space, or two files have one id.
    """
    filling = filling or Filling()
    require_same_space(encoder.space, writer.state.space, what="the encoder")
    total = Filled()
    for block in _blocks(entries):
        sound, unsound = _check(block)
        wanted, present, changed = _choose(writer, sound, filling)
        advance(len(block) - len(wanted))
        encoded, set_aside = _encode(writer, encoder, wanted, unsound, filling, advance)
        total = Filled(
            encoded=total.encoded + encoded,
            present=total.present + present,
            changed=total.changed + changed,
            set_aside=total.set_aside + set_aside,
        )
    return dataclasses.replace(total, items=len(writer))


def _blocks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    remaining = iter(entries)
    while block := list(itertools.islice(remaining, _BLOCK)):
        yield block


def _check(block: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Return the entries whose ids and metadata can be kept, and what is wrong with the others."""
    sound, reasons = [], []
    for entry in block:
        try:
            check_item(entry.item)
            sound.append(entry)
        except PocketlensError as error:
            reasons.append(f"{entry.item.path!a}: {error}")
    return sound, reasons


def _choose(
    writer: IndexWriter, block: Sequence[Entry], filling: Filling
) -> tuple[list[Entry], int, int]:
    """Return what is to be encoded, and how many are there as they are, or otherwise."""
    known = writer.living([entry.item.id for entry in block])
    wanted, seen, present, changed = [], dict[str, str](), 0, 0
    for entry in block:
        item = entry.item
        there = known.get(item.id)
        if seen.get(item.id) == item.path:
            present += 1
            continue
        if seen.setdefault(item.id, item.path) != item.path or (
            there and there.path != item.path and filling.replace != "any"
        ):
            other = there.path if there else seen[item.id]
            raise PocketlensError(f"id {item.id!r} names both {other} and {item.path}")
        if there is None:
            wanted.append(entry)
        elif (there.size, there.mtime_ns, there.path) == (item.size, item.mtime_ns, item.path):
            present += 1
        elif filling.replace:
            wanted.append(entry)
        else:
            changed += 1
    return wanted, present, changed


def _encode(
    writer: IndexWriter,
    encoder: DatabaseEncoder,
    entries: Sequence[Entry],
    reasons: list[str],
    filling: Filling,
    advance: Callable[[int], None],
) -> tuple[int, tuple[str, ...]]:
    """Encode and add entries; return how many, and the reasons given with those found."""
    encoded, told = 0, 0
    for batches in _for_a_while(encoder.encode_files([entry.source for entry in entries])):
        positions = np.concatenate([batch.positions for batch in batches])
        items, kept = _describe([entries[at] for at in positions], filling, reasons)
        if items:
            vectors = np.concatenate([batch.vectors for batch in batches if len(batch.positions)])
            fitted = fit_vectors(vectors, writer.state.space, writer.state.dim)
            writer.add(fitted[kept], items, encoder.encoder, replace=bool(filling.replace))
        bad = [each for batch in batches for each in batch.quarantined]
        reasons.extend(each.reason for each in bad)
        if len(reasons) > told:
            writer.set_aside(reasons[told:])
            told = len(reasons)
        encoded += len(items)
        advance(len(positions) + len(bad))
    if len(reasons) > told:
        writer.set_aside(reasons[told:])
    return encoded, tuple(reasons)


def _for_a_while(batches: Iterable[EmbeddedBatch]) -> Iterator[list[EmbeddedBatch]]:
    """Gather what comes within a second: each commit waits for the disk."""
    some, started = [], time.monotonic()
    for batch in batches:
        some.append(batch)
        if time.monotonic() - started >= _COMMIT_SECONDS:
            yield some
            some, started = [], time.monotonic()
    if some:
        yield some


def _describe(
    entries: Sequence[Entry], filling: Filling, reasons: list[str]
) -> tuple[list[Item], list[int]]:
    """Return what is recorded of encoded entries, and which they are: a file may have gone."""
    if not filling.with_sha256:
        return [entry.item for entry in entries], list(range(len(entries)))
    items, kept = [], []
    for at, entry in enumerate(entries):
        try:
            digest = hashlib.sha256(read_source_bytes(entry.source)).hexdigest()
        except OSError as error:
            reasons.append(str(BadImageError(f"{entry.source}: {error.strerror}")))
            continue
        items.append(dataclasses.replace(entry.item, sha256=digest))
        kept.append(at)
    return items, kept
