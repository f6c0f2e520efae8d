"""Bring an index into a new space, item by item, while it is searched.

Where new queries are mapped (backward), new vectors are gathered in a layer beside the old ones and
both are searched together; the last step makes that layer the index. Where the old vectors are
mapped (forward), that is the first step, in one commit, and each item's is then replaced. Every
step is a commit: what was killed goes on where it was.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from encoder.compatibility import Compatibility, load_compatibility
from encoder.digests import digest_json
from encoder.errors import PocketlensError
from encoder.evaluation.backfill_curves import CROWD
from encoder.space import ID_LENGTH, require_same_space
from server_index.backfill_order import (
    Order,
    put_in_order,
    score_by_doubt,
    score_by_margin,
    score_by_traffic,
)
from server_index.contract import fit_vectors
from server_index.encode import DatabaseEncoder
from server_index.faiss_index import Kind, Rows, Vectors
from server_index.index import Index
from server_index.next_layer import (
    add_to_layer,
    arrange_layer,
    begin_layer,
    end_layer,
    find_missing,
    map_layer,
    require_encoder,
    require_no_other,
)
from server_index.source import Entry, open_path
from server_index.stored import living_keys, read_chunks
from server_index.writer import IndexWriter

# Items encoded between two commits.
STEP = 1024
# Times that a source is read through.
_PASSES = 20
_ORDERED_AT_ONCE = 1 << 12


@dataclasses.dataclass(frozen=True)
class Backfill:
    """Say how items are encoded anew.

    At most `most` items in this run, `rate` images a second (0 for as fast as it goes). `counts`
    are for the order by traffic.
    """

    order: Order = "margin"
    seed: int = 0
    most: int | None = None
    rate: float = 0.0
    counts: dict[str, float] | None = None


@dataclasses.dataclass(frozen=True)
class Progress:
    """Say how many items there are, how many are in the new space, and what could not be read."""

    items: int
    done: int
    set_aside: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Return the share that is done."""
        return self.done / max(self.items, 1)


def check_backfill(
    writer: IndexWriter, source: Path, encoder: DatabaseEncoder, backfill: Backfill
) -> Compatibility:
    """Return a compatibility when an index can be brought into its new space so.

    Raises:
        PocketlensError: when it or the encoder is of another space, the index keeps a prefix or is
            there already, or the order needs what is not given.
    """
    found, state = load_compatibility(source), writer.state
    there, old, new = state.space.id, found.database.id, found.query.id
    if there not in (old, new):
        raise PocketlensError(f"{source}: brings space {old} to {new}, and the index is in {there}")
    if found.direction == "backward" and there == new:
        raise PocketlensError(f"{writer.folder}: is in space {new} already")
    if state.dim != state.space.dim:
        raise PocketlensError(
            f"{writer.folder}: keeps {state.dim} of {state.space.dim} dimensions, and only whole "
            "vectors can be brought into another space; build it anew"
        )
    require_no_other(writer, new)
    require_same_space(encoder.space, found.query, what="the encoder")
    if state.next:
        require_encoder(writer, encoder.encoder)
    if backfill.order == "traffic" and backfill.counts is None:
        raise PocketlensError("--order traffic needs --traffic, a table of id and count")
    if backfill.order == "doubt" and found.doubt is None:
        raise PocketlensError("--order doubt: the compatibility cannot tell; take another")
    return found


def begin_backfill(writer: IndexWriter, source: Path, found: Compatibility) -> None:
    """Begin to bring an index into the new space of a compatibility that was checked, or go on."""
    if found.direction == "backward":
        begin_layer(writer, source)
    elif writer.state.space.id == found.database.id:
        map_layer(writer, found.query, found.map_database, name_mapped(writer, found))


def name_mapped(writer: IndexWriter, found: Compatibility) -> str:
    """Return the encoder digest of mapped vectors: what made them, and the map."""
    made = {"encoders": writer.encoders(), "map": found.query.id, "of": found.database.id}
    return digest_json(made)[:ID_LENGTH]


def run_backfill(
    writer: IndexWriter,
    found: Compatibility,
    encoder: DatabaseEncoder,
    backfill: Backfill,
    *,
    entries: Callable[[], Iterable[Entry]] | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Progress:
    """Encode items anew, in the order asked for, from their files or from where `entries` come.

    What was begun was checked. Items that cannot be read, or are not where `entries` come from, do
    not count to the `most`, so that the next run meets others.
    """
    missing = list_missing(writer, found, encoder.encoder)
    planned, most = plan(writer, found, missing, backfill), backfill.most or len(missing)
    # Where the source is read through to find some of its entries, it is not for each few.
    block = min(len(planned), most) // _PASSES + STEP if entries else STEP
    started, added, tried, reasons = time.monotonic(), 0, 0, list[str]()
    for at in range(0, len(planned), block):
        chosen = _choose(writer, planned[at : at + block], entries, reasons)
        while chosen and added < most:
            some, chosen = chosen[: min(STEP, most - added)], chosen[min(STEP, most - added) :]
            added += _encode(writer, found, encoder, some, reasons)
            tried += len(some)
            advance(len(some))
            if backfill.rate:
                time.sleep(max(0.0, tried / backfill.rate - (time.monotonic() - started)))
        if added >= most:
            break
    done = len(writer) - len(missing) + added
    return Progress(len(writer), done, tuple(reasons))


def count_missing(writer: IndexWriter, found: Compatibility, encoder: str) -> tuple[int, int]:
    """Return how many items are not encoded anew yet, of how many; nothing needs to be begun."""
    if found.direction == "backward" and writer.state.next is None:
        return len(writer), len(writer)
    return len(list_missing(writer, found, encoder)), len(writer)


def list_missing(writer: IndexWriter, found: Compatibility, encoder: str) -> Rows:
    """Return the keys of living items that are not encoded anew yet."""
    if found.direction == "backward":
        return find_missing(writer)
    return writer.record.scan_keys(
        "SELECT key FROM items JOIN encoders ON encoder = number"
        " WHERE died IS NULL AND digest != ? ORDER BY key",
        [encoder],
    )


def plan(writer: IndexWriter, found: Compatibility, missing: Rows, backfill: Backfill) -> Rows:
    """Return the keys of the items to encode anew, the first ones first."""
    if backfill.order == "random" or not len(missing):
        return put_in_order(missing, np.zeros(len(missing)), backfill.seed)
    if backfill.order == "traffic":
        first = score_by_traffic(_name(writer, missing), backfill.counts or {})
        return put_in_order(missing, first, backfill.seed)
    chunks = _read_old(writer, missing)
    if backfill.order == "doubt":
        assert found.doubt
        first = score_by_doubt(chunks, found.doubt)
    else:
        with Index(writer.folder) as index:
            count = min(CROWD + 1, len(index))
            first = score_by_margin(chunks, lambda vectors: index.find(vectors, count).scores)
    return put_in_order(missing, first, backfill.seed)


def finish_backfill(
    writer: IndexWriter, found: Compatibility, encoder: str, *, kind: Kind | None = None
) -> None:
    """Make the new vectors the index's own, as the kind it was or another, in one commit.

    Raises:
        PocketlensError: when items are missing, naming one.
    """
    missing = list_missing(writer, found, encoder)
    if len(missing):
        name = _name(writer, missing[:1])[0]
        raise PocketlensError(
            f"{writer.folder}: {len(missing)} items are not encoded anew yet ({name!r} for one); "
            "go on, or delete those that cannot be read"
        )
    wanted = kind or writer.state.kind
    if found.direction == "backward":
        assert writer.state.next
        if writer.state.next.kind != wanted and len(writer):
            arrange_layer(writer, wanted)
        end_layer(writer)
    elif writer.state.kind != wanted:
        writer.compact(wanted)


def _choose(
    writer: IndexWriter,
    block: Rows,
    entries: Callable[[], Iterable[Entry]] | None,
    reasons: list[str],
) -> list[tuple[int, Entry]]:
    """Return keys and entries of some items, in the order of the block or of where they come.

    What is known of an item stays so; of the entry only where it lies is taken.
    """
    named = writer.record.items(block.tolist())
    if entries is None:
        return [(key, Entry(named[key], open_path(named[key].path))) for key in block.tolist()]
    keys, chosen = {item.id: key for key, item in named.items()}, list[tuple[int, Entry]]()
    for entry in entries():
        key = keys.pop(entry.item.id, None)
        if key is not None:
            lies = {name: getattr(entry.item, name) for name in ("path", "size", "mtime_ns")}
            chosen.append((key, Entry(dataclasses.replace(named[key], **lies), entry.source)))
    reasons.extend(f"{name!a}: is not in the source" for name in keys)
    return chosen


def _encode(
    writer: IndexWriter,
    found: Compatibility,
    encoder: DatabaseEncoder,
    chosen: Sequence[tuple[int, Entry]],
    reasons: list[str],
) -> int:
    """Encode and add some items in one commit; return how many."""
    batches = list(encoder.encode_files([entry.source for _, entry in chosen]))
    told = [bad.reason for batch in batches for bad in batch.quarantined]
    if told:
        writer.set_aside(told)
        reasons.extend(told)
    batches = [batch for batch in batches if len(batch.positions)]
    if not batches:
        return 0
    layer = writer.state.next if found.direction == "backward" else writer.state.own
    assert layer
    vectors = np.concatenate([batch.vectors for batch in batches])
    fitted = fit_vectors(vectors, layer.space, layer.dim)
    there = [chosen[at] for batch in batches for at in batch.positions]
    if found.direction == "backward":
        keys = np.array([key for key, _ in there], np.int64)
        return add_to_layer(writer, keys, fitted, encoder.encoder)
    # What was deleted meanwhile stays so: this process is the only writer.
    writer.add(fitted, [entry.item for _, entry in there], encoder.encoder, replace=True)
    return len(there)


def _read_old(writer: IndexWriter, keys: Rows) -> Iterator[Vectors]:
    """Yield the vectors of the index's own layer, some keys at a time."""
    parts = writer.open_parts(writer.own_segments())
    assert len(np.setdiff1d(keys, living_keys(parts))) == 0
    return (vectors for _, _, vectors in read_chunks(parts, keys, lambda count: None))


def _name(writer: IndexWriter, keys: Rows) -> list[str]:
    names: list[str] = []
    for at in range(0, len(keys), _ORDERED_AT_ONCE):
        some = keys[at : at + _ORDERED_AT_ONCE].tolist()
        items = writer.record.items(some)
        names += [items[key].id for key in some]
    return names
