"""A second layer in an index: the same items' vectors in another space, until all are there.

The items keep their keys, so what is deleted or replaced in the folder is so in both layers. Each
step is one commit; the last one makes the new layer the folder's own.
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder.compatibility import load_compatibility
from encoder.errors import PocketlensError
from encoder.space import EmbeddingSpace
from server_index.acceptance import ACCEPTS, digest_compatibility, keep_compatibility
from server_index.contract import check_vectors
from server_index.faiss_index import Kind, Rows, Vectors
from server_index.segment import SegmentFacts, rows_of
from server_index.segment_making import chunk, divide, train_layer, write_segment
from server_index.snapshot import Part
from server_index.state import Acceptance, Layer
from server_index.stored import draw_vectors, living_keys, open_layer, read_chunks
from server_index.writer import THOROUGH, IndexWriter

# Segments of so few vectors are merged once there are so many of them.
_SMALL, _MOST_SMALL = 1 << 16, 8


def accept_space(writer: IndexWriter, source: Path, evidence: Mapping[str, Any]) -> str:
    """Have the index answer queries of another space from now on; return its id.

    Raises:
        PocketlensError: when the compatibility is damaged, or of other spaces.
    """
    with writer.turn:
        made = keep_compatibility(writer.folder, source, writer.state.space.id, evidence)
        before = writer.state.accepts
        with writer.change():
            others = [each for each in before if each.space != made.space]
            writer.set_state(accepts=(*others, made))
        _remove(writer, before)
    return made.space


def refuse_space(writer: IndexWriter, space: str) -> None:
    """Have the index answer queries of another space no more.

    Raises:
        PocketlensError: when it does not, or its items are being encoded anew for it.
    """
    with writer.turn:
        state = writer.state
        if space not in [each.space for each in state.accepts]:
            raise PocketlensError(f"{writer.folder}: does not accept space {space}")
        if state.next and state.next.space.id == space:
            raise PocketlensError(f"{writer.folder}: is being brought into space {space}")
        with writer.change():
            writer.set_state(accepts=tuple(each for each in state.accepts if each.space != space))
        _remove(writer, state.accepts)


def _remove(writer: IndexWriter, before: Sequence[Acceptance]) -> None:
    """Remove the files of what is not accepted any more."""
    kept = {each.folder for each in writer.state.accepts}
    for gone in {each.folder for each in before} - kept:
        shutil.rmtree(writer.folder / ACCEPTS / gone, ignore_errors=True)


def begin_layer(writer: IndexWriter, source: Path, *, dim: int | None = None) -> None:
    """Begin a layer of the space that a compatibility's queries are of; the index accepts it.

    Raises:
        PocketlensError: when another one is begun, or the compatibility is not the index's.
    """
    found = load_compatibility(source)
    with writer.turn:
        require_no_other(writer, found.query.id)
        if writer.state.next:
            return
        # What was accepted with evidence keeps it.
        known = [each.files for each in writer.state.accepts if each.space == found.query.id]
        if known != [digest_compatibility(source)]:
            accept_space(writer, source, {})
        with writer.change():
            writer.set_state(next=Layer(found.query, dim or found.query.dim))


def require_no_other(writer: IndexWriter, space: str) -> None:
    """Refuse a folder that is being brought into another space than this.

    Raises:
        PocketlensError: naming it.
    """
    begun = writer.state.next
    if begun and begun.space.id != space:
        raise PocketlensError(
            f"{writer.folder}: is being brought into space {begun.space.id}; finish that first"
        )


def list_parts(writer: IndexWriter) -> list[Part]:
    """Return what the new layer holds, with what died marked."""
    layer = _require_layer(writer)
    return open_layer(writer.folder, writer.record, layer)


def find_missing(writer: IndexWriter) -> Rows:
    """Return the keys, ascending, of living items that the new layer does not hold."""
    with writer.turn:
        held = [part.keys for part in list_parts(writer)]
        return np.setdiff1d(
            writer.record.living_keys(), np.concatenate([np.empty(0, np.int64), *held])
        )


def add_to_layer(writer: IndexWriter, keys: Rows, vectors: Vectors, encoder: str) -> int:
    """Add vectors `[n, dim]` of items by their keys; return how many lived and were missing.

    Raises:
        PocketlensError: when a vector is not sound, no layer is begun, or another encoder wrote it.
    """
    with writer.turn:
        layer = _require_layer(writer)
        check_vectors(vectors, layer.dim)
        require_encoder(writer, encoder)
        order = np.unique(keys, return_index=True)[1]
        wanted = np.isin(keys[order], writer.record.living_of(keys.tolist()))
        for part in list_parts(writer):
            wanted &= ~rows_of(part.keys, keys[order])[1]
        order = order[wanted]
        if not len(order):
            return 0
        some = np.ascontiguousarray(vectors[order], np.float32)
        chosen = keys[order]
        items = writer.record.items(chosen.tolist())
        source = chunk(chosen, [items[key].id for key in chosen.tolist()], some)
        number = writer.state.next_segment
        made = write_segment(writer.folder, layer, number, source, len(chosen), [encoder])
        with writer.change():
            writer.record.put_segment(made)
            writer.set_state(next_segment=number + 1)
        _merge(writer)
        return len(chosen)


def require_encoder(writer: IndexWriter, encoder: str) -> None:
    """Refuse an encoder other than that which the new layer was begun with.

    Raises:
        PocketlensError: naming both.
    """
    begun = _list_encoders(writer)
    if begun and begun != [encoder]:
        raise PocketlensError(
            f"{writer.folder}: is being encoded anew by encoder {begun[0]}, not {encoder}; go on "
            "with that one, at the same precision"
        )


def arrange_layer(writer: IndexWriter, kind: Kind) -> None:
    """Write the new layer anew as another kind of index, trained on what it holds.

    Raises:
        PocketlensError: when that is too little to learn from.
    """
    with writer.turn:
        layer = dataclasses.replace(_require_layer(writer), kind=kind, effort=THOROUGH)

        def draw() -> Vectors:
            return draw_vectors(list_parts(writer), kind.count_training_vectors(), 0)

        layer = train_layer(writer.folder, layer, writer.state.next_segment, draw)
        _rewrite(writer, writer.record.segments_of(layer.space.id), layer)


def end_layer(writer: IndexWriter) -> None:
    """Make the new layer the folder's own, in one commit; the old vectors are gone then.

    Raises:
        PocketlensError: when an item is missing in it, naming one.
    """
    with writer.turn:
        layer, missing = _require_layer(writer), find_missing(writer)
        if len(missing):
            (item,) = writer.record.items(missing[:1].tolist()).values()
            raise PocketlensError(
                f"{writer.folder}: {len(missing)} items are not in the new space yet "
                f"({item.id!r} for one)"
            )
        old = writer.own_segments()
        encoders = _list_encoders(writer)
        with writer.change():
            _switch(writer, old, layer, encoders, writer.state.next_segment)
        writer.recent = 0
        writer.remove_folders(old)


def give_up_layer(writer: IndexWriter) -> None:
    """Drop the new layer; the folder is as it was, and accepts the space still."""
    with writer.turn:
        old = writer.record.segments_of(_require_layer(writer).space.id)
        with writer.change():
            writer.drop_segments(old)
            writer.set_state(next=None)
        writer.remove_folders(old)


def map_layer(
    writer: IndexWriter, space: EmbeddingSpace, apply: Callable[[Vectors], Vectors], encoder: str
) -> None:
    """Map every vector of the folder into another space, which is its own from then on.

    One commit; `encoder` is the digest of what the mapped vectors were made by.

    Raises:
        PocketlensError: when a second layer is begun, or the vectors are too few for the kind.
    """
    with writer.turn:
        if writer.state.next:
            raise PocketlensError(f"{writer.folder}: is being brought into another space")
        old = writer.own_segments()
        parts, number = writer.open_parts(old), writer.state.next_segment
        own = writer.state.own
        layer = Layer(space, space.dim, own.kind, THOROUGH if own.quantiser else own.effort)

        def draw() -> Vectors:
            return apply(draw_vectors(parts, layer.kind.count_training_vectors(), 0))

        layer, new = train_layer(writer.folder, layer, number, draw), []
        for some in divide(living_keys(parts), layer):
            chunks = read_chunks(parts, some, lambda count: None)
            source = ((keys, ids, apply(vectors)) for keys, ids, vectors in chunks)
            new.append(write_segment(writer.folder, layer, number, source, len(some), [encoder]))
            number += 1
        with writer.change():
            for segment in new:
                writer.record.put_segment(segment)
            _switch(writer, old, layer, [encoder], number)
        writer.recent = 0
        writer.remove_folders(old)


def _switch(
    writer: IndexWriter,
    old: Sequence[SegmentFacts],
    layer: Layer,
    encoders: Sequence[str],
    next_segment: int,
) -> None:
    """Make a layer the folder's own, within a change; what it accepted asked the old space."""
    for name in encoders:
        number = writer.record.number_encoder(name, layer.space.id)
        writer.record.run("UPDATE items SET encoder = ? WHERE died IS NULL", [number])
    writer.drop_segments(old)
    writer.record.run("DELETE FROM recent")
    writer.state = writer.state.with_own(layer)
    writer.set_state(next=None, accepts=(), next_segment=next_segment)


def _require_layer(writer: IndexWriter) -> Layer:
    if writer.state.next is None:
        raise PocketlensError(f"{writer.folder}: is not being brought into another space")
    return writer.state.next


def _list_encoders(writer: IndexWriter) -> list[str]:
    segments = writer.record.segments_of(_require_layer(writer).space.id)
    return sorted({name for each in segments for name in each.encoders})


def _merge(writer: IndexWriter) -> None:
    layer = _require_layer(writer)
    small = [each for each in writer.record.segments_of(layer.space.id) if each.count <= _SMALL]
    if len(small) > _MOST_SMALL:
        _rewrite(writer, small, layer)


def _rewrite(writer: IndexWriter, old: Sequence[SegmentFacts], layer: Layer) -> None:
    """Write what lives of some of the layer's segments as new ones."""
    numbers = {each.number for each in old}
    parts = [
        part for part in list_parts(writer) if part.segment and part.segment.facts.number in numbers
    ]
    number, new = writer.state.next_segment, []
    encoders = _list_encoders(writer)
    for some in divide(living_keys(parts), layer) if parts else []:
        source = read_chunks(parts, some, lambda count: None)
        new.append(write_segment(writer.folder, layer, number, source, len(some), encoders))
        number += 1
    with writer.change():
        for segment in new:
            writer.record.put_segment(segment)
        writer.drop_segments(old)
        writer.set_state(next=layer, next_segment=number)
    writer.remove_folders(old)
