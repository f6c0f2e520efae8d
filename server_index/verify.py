"""Check an index folder to the last byte."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from encoder.errors import PocketlensError
from server_index.acceptance import ACCEPTS
from server_index.contract import check_vectors
from server_index.faiss_index import Rows, Vectors
from server_index.manifest import check_manifest
from server_index.record import Record, require_index
from server_index.segment import Segment, check_digest, check_whole
from server_index.state import Layer, State

_CHUNK = 1 << 14


def verify(folder: Path) -> list[str]:
    """Return what is wrong with an index folder, a line each naming the file; nothing if sound.

    Raises:
        PocketlensError: when there is no index to check.
    """
    require_index(folder)
    try:
        # One committed state, whatever a writer does meanwhile.
        with Record(folder) as record, record.view():
            return list(_check(folder, record))
    except (PocketlensError, sqlite3.Error) as error:
        return [str(error)]


def _check(folder: Path, record: Record) -> Iterator[str]:
    for (finding,) in record.select("PRAGMA integrity_check"):
        if finding != "ok":
            yield f"{record.file}: damaged ({finding.splitlines()[0]})"
    state = record.state()
    yield from check_manifest(folder, record)
    for accepted in state.accepts:
        for name, digest in accepted.files.items():
            yield from check_digest(folder / ACCEPTS / accepted.folder / name, digest)
    for layer in state.layers:
        if layer.quantiser:
            yield from check_digest(folder / layer.quantiser, layer.quantiser_sha256)
        yield from _check_layer(folder, layer, state, record)
    known = {layer.space.id for layer in state.layers}
    for facts in record.segments():
        if facts.space not in known:
            yield f"{record.file}: segment {facts.number} is of another space ({facts.space})"


def _check_layer(folder: Path, layer: Layer, state: State, record: Record) -> Iterator[str]:
    own = layer.space.id == state.space.id
    whole, known = True, list[Rows]()
    for facts in record.segments_of(layer.space.id):
        broken = list(check_whole(folder, facts))
        yield from broken
        if broken:
            whole = False
        else:
            segment = Segment(folder, facts, layer.dim)
            known.append(segment.keys)
            yield from _check_segment(segment, layer.dim, state.next_key, record)
    keys = list[int]()
    if own:
        keys, _, vectors = record.recent(0, layer.dim)
        yield from _check_unit(vectors, layer.dim, f"{record.file}: recent additions")
    together = np.concatenate([np.array(keys, np.int64), *known])
    held = np.unique(together)
    if len(held) < len(together):
        yield f"{record.file}: {len(together) - len(held)} items lie in two places"
    if whole and own:
        living = record.living_keys()
        missing = np.setdiff1d(living, held)
        if len(missing):
            (item,) = record.items(missing[:1].tolist()).values()
            yield f"{record.file}: {len(missing)} items have no vector ({item.id!r})"


def _check_segment(segment: Segment, dim: int, end: int, record: Record) -> Iterator[str]:
    place, keys = segment.place, segment.keys
    if (np.diff(keys) <= 0).any() or (len(keys) and keys[-1] >= end):
        yield f"{place}: its keys are not in order"
    wrong = unknown = 0
    for start in range(0, len(keys), _CHUNK):
        some = segment.vectors[start : start + _CHUNK].astype(np.float32)
        yield from _check_unit(some, dim, f"{place}, from row {start}")
        named = record.items(keys[start : start + _CHUNK].tolist())
        unknown += len(some) - len(named)
        wrong += sum(
            named[key].id != segment.id_of(row)
            for row, key in enumerate(keys[start : start + _CHUNK].tolist(), start)
            if key in named
        )
    if wrong:
        yield f"{place}: {wrong} ids are not those of the record"
    if unknown:
        yield f"{place}: {unknown} rows are of items that are not recorded, not even as deleted"


def _check_unit(vectors: Vectors, dim: int, where: str) -> Iterator[str]:
    try:
        check_vectors(vectors, dim)
    except PocketlensError as error:
        yield f"{where}: {error}"
