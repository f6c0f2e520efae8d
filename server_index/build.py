"""Fill an index folder with encoded images: a new one, or more of them into one that there is.

What has been encoded is committed as it comes. A build that was killed goes on where it was: its
folder is `NAME.building` until all is in it.
"""

import dataclasses
import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from encoder.atomic import check_output, put_folder
from encoder.embed import EmbeddedBatch
from encoder.errors import BadImageError, PocketlensError
from encoder.images import read_source_bytes
from encoder.space import require_same_space
from server_index.contract import fit_vectors
from server_index.encode import DatabaseEncoder
from server_index.items import Item, check_item
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
    """Say how entries are added: changed files encoded anew, or their digests kept too."""

    replace: bool = False
    with_sha256: bool = False


def name_building(output: Path) -> Path:
    """Return where an index lies while it is being built."""
    return output.with_name(output.name + ".building")


def build_index(
    encoder: DatabaseEncoder,
    entries: Iterable[Entry],
    output: Path,
    *,
    overwrite: bool = False,
    dim: int | None = None,
    filling: Filling | None = None,
    arrange: Callable[[IndexWriter], None] = IndexWriter.seal,
    advance: Callable[[int], None] = lambda count: None,
) -> Filled:
    """Write an index folder of the entries; `arrange` makes segments of what was encoded.

    Raises:
        PocketlensError: when the output must not be replaced, another encoder began the build, or
            no image can be read.
    """
    check_output(output, marker=MANIFEST, overwrite=overwrite)
    building = _start_building(output, encoder, dim)
    with IndexWriter(building) as writer:
        filled = fill_index(writer, encoder, entries, filling, advance)
        items = len(writer)
        if items:
            arrange(writer)
    if not items:
        shutil.rmtree(building)
        read = len(filled.set_aside)
        raise PocketlensError(f"{output}: not made: none of the {read} images can be read")
    check_output(output, marker=MANIFEST, overwrite=overwrite)
    put_folder(building, output)
    # What it took the place of, where the kernel swaps folders.
    shutil.rmtree(building, ignore_errors=True)
    return dataclasses.replace(filled, items=items)


def _start_building(output: Path, encoder: DatabaseEncoder, dim: int | None) -> Path:
    """Return the folder to fill: a new one, or that of a build that was stopped."""
    building = name_building(output)
    if not is_index(building):
        # Killed before anything was in it.
        shutil.rmtree(building, ignore_errors=True)
        create_index(building, encoder.space, dim=dim)
        return building
    with IndexWriter(building) as writer:
        begun = writer.encoders()
        wanted = (encoder.space.id, dim or encoder.space.dim)
        there = (writer.state.space.id, writer.state.dim)
    if there != wanted or (begun and begun != [encoder.encoder]):
        raise PocketlensError(
            f"{building}: holds the unfinished build of another encoder or dimension; finish it "
            "with that, or delete the folder"
        )
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
    total = Filled(items=len(writer))
    for block in _blocks(entries):
        wanted, present, changed = _choose(writer, block, filling)
        advance(present + changed)
        encoded, set_aside = _encode(writer, encoder, wanted, filling, advance)
        total = Filled(
            len(writer),
            total.encoded + encoded,
            total.present + present,
            total.changed + changed,
            total.set_aside + set_aside,
        )
    return total


def _blocks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    remaining = iter(entries)
    while block := list(itertools.islice(remaining, _BLOCK)):
        yield block


def _choose(
    writer: IndexWriter, block: Sequence[Entry], filling: Filling
) -> tuple[list[Entry], int, int]:
    """Return what is to be encoded, and how many are there as they are, or otherwise."""
    known = writer.living([entry.item.id for entry in block])
    wanted, seen, present, changed = [], dict[str, str](), 0, 0
    for entry in block:
        item = entry.item
        check_item(item)
        there = known.get(item.id)
        if seen.get(item.id) == item.path:
            present += 1
            continue
        if seen.setdefault(item.id, item.path) != item.path or (
            there and there.path != item.path and not filling.replace
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
    filling: Filling,
    advance: Callable[[int], None],
) -> tuple[int, tuple[str, ...]]:
    encoded, told, reasons = 0, 0, list[str]()
    for batches in _for_a_while(encoder.encode_files([entry.source for entry in entries])):
        positions = np.concatenate([batch.positions for batch in batches])
        items, kept = _describe([entries[at] for at in positions], filling, reasons)
        if items:
            vectors = np.concatenate([batch.vectors for batch in batches if len(batch.positions)])
            fitted = fit_vectors(vectors, writer.state.space, writer.state.dim)
            writer.add(fitted[kept], items, encoder.encoder, replace=filling.replace)
        bad = [each for batch in batches for each in batch.quarantined]
        reasons.extend(each.reason for each in bad)
        if len(reasons) > told:
            writer.set_aside(reasons[told:])
            told = len(reasons)
        encoded += len(items)
        advance(len(positions) + len(bad))
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
