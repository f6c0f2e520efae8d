"""Take vectors, ids and metadata out of an index, into Parquet or numpy files, and into another."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.array_files import write_header
from encoder.atomic import check_output_file, new_file
from encoder.errors import PocketlensError, first_line, require_extra
from encoder.space import EmbeddingSpace, require_same_space
from server_index.faiss_index import Vectors
from server_index.index import Index
from server_index.items import Item
from server_index.writer import SEAL_AT, IndexWriter, check_items

_CHUNK = 1 << 14
_SPACE, _DIM = b"pocketlens.space", b"pocketlens.dim"
_Advance = Callable[[int], None]
_Rows = tuple[Vectors, list[Item], list[str]]


def read_rows(index: Index) -> Iterator[_Rows]:
    """Yield vectors `[n, dim]`, items and encoder digests of all that lives, the oldest first."""
    for part in index.snapshot.parts:
        alive = part.living_rows()
        for first in range(0, len(alive), _CHUNK):
            rows = alive[first : first + _CHUNK]
            keys = part.keys[rows].tolist()
            known, encoders = index.items(keys), index.encoders(keys)
            # What was deleted two compactions ago is no longer recorded.
            kept = [at for at, key in enumerate(keys) if key in known]
            vectors = part.vectors[rows[kept]].astype(np.float32)
            named = [keys[at] for at in kept]
            yield vectors, [known[key] for key in named], [encoders[key] for key in named]


def check_export(file: Path, *, overwrite: bool) -> Callable[[Index, Path, _Advance], None]:
    """Return what writes such a file, before any work is done.

    Raises:
        PocketlensError: when its suffix is neither's, or a file that is written must not be.
    """
    written = {".parquet": export_parquet, ".npy": export_numpy}.get(file.suffix.lower())
    if written is None:
        raise PocketlensError(f"{file}: vectors are written as .parquet or .npy")
    check_output_file(file, overwrite=overwrite)
    if written is export_numpy:
        check_output_file(_name_items(file), overwrite=overwrite)
    return written


def _name_items(file: Path) -> Path:
    """Return the file of the items that lies beside one of vectors."""
    return file.with_suffix(".jsonl")


def export_parquet(index: Index, file: Path, advance: _Advance) -> None:
    """Write columns id, path, metadata (JSON), encoder and vector; the space is in the schema."""
    require_extra("parquet", "writing Parquet")
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    vector = pyarrow.list_(pyarrow.float32(), index.state.dim)
    names = [(name, pyarrow.string()) for name in ("id", "path", "metadata", "encoder")]
    told = {_SPACE: json.dumps(index.space.to_json()), _DIM: str(index.state.dim)}
    schema = pyarrow.schema([*names, ("vector", vector)], metadata=told)
    with new_file(file) as scratch, ParquetWriter(scratch, schema) as writer:
        for vectors, items, encoders in read_rows(index):
            columns = [
                pyarrow.array([item.id for item in items]),
                pyarrow.array([item.path for item in items]),
                pyarrow.array([_write_metadata(item) for item in items]),
                pyarrow.array(encoders),
                pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), index.state.dim),
            ]
            writer.write_batch(pyarrow.record_batch(columns, schema=schema))
            advance(len(items))


def export_numpy(index: Index, file: Path, advance: _Advance) -> None:
    """Write vectors float32 `[n, dim]` to `.npy`, and a line of JSON an item to `.jsonl`."""
    with (
        new_file(file) as scratch,
        new_file(_name_items(file)) as lines,
        lines.open("w", encoding="utf-8") as stream,
        scratch.open("wb") as rows,
    ):
        write_header(rows, np.float32, (len(index), index.state.dim))
        for vectors, items, encoders in read_rows(index):
            rows.write(vectors.tobytes())
            for item, encoder in zip(items, encoders, strict=True):
                facts = {"id": item.id, "path": item.path, "encoder": encoder}
                line = {**facts, "metadata": dict(item.metadata)}
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            advance(len(items))


def merge_index(writer: IndexWriter, source: Index, *, replace: bool, advance: _Advance) -> int:
    """Add all that lives in another index of the same space and dimension; return how many.

    Raises:
        PocketlensError: when the spaces or dimensions differ, or an id is in both and `replace` is
            not given.
    """
    require_same_space(source.space, writer.state.space, what=str(source.folder))
    if source.state.dim != writer.state.dim:
        raise PocketlensError(
            f"{source.folder}: keeps {source.state.dim} dimensions, not {writer.state.dim}"
        )
    return _add_rows(writer, read_rows(source), replace=replace, advance=advance)


def import_parquet(writer: IndexWriter, file: Path, *, replace: bool, advance: _Advance) -> int:
    """Add what `export_parquet` wrote, or a file of such columns; return how many items.

    Raises:
        PocketlensError: when the file cannot be read, is of another space, or an item is not sound.
    """
    space, _ = read_parquet_space(file)
    if space:
        require_same_space(space, writer.state.space, what=str(file))
    return _add_rows(writer, _read_parquet(file), replace=replace, advance=advance)


def read_parquet_space(file: Path) -> tuple[EmbeddingSpace | None, int | None]:
    """Return the space and dimensions that a Parquet file of vectors says it has, if it does."""
    with _open_parquet(file) as data:
        told = data.schema_arrow.metadata or {}
    try:
        space, dim = told.get(_SPACE), told.get(_DIM)
        known = EmbeddingSpace.from_json(json.loads(space), str(file)) if space else None
        return known, int(dim) if dim else None
    except ValueError as error:
        raise PocketlensError(f"{file}: not an embedding space ({first_line(error)})") from None


def count_parquet(file: Path) -> int:
    """Return how many rows a Parquet file has."""
    with _open_parquet(file) as data:
        return int(data.metadata.num_rows)


def _add_rows(
    writer: IndexWriter, rows: Iterator[_Rows], *, replace: bool, advance: _Advance
) -> int:
    added = 0
    for vectors, items, encoders in rows:
        check_items(items, len(vectors))
        for encoder in sorted(set(encoders)):
            mine = [at for at, each in enumerate(encoders) if each == encoder]
            some = vectors[mine], [items[at] for at in mine], encoder
            if len(mine) < SEAL_AT or replace:
                writer.add(*some, replace=replace)
            else:
                writer.add_segment(*some)
        added += len(items)
        advance(len(items))
    return added


@contextlib.contextmanager
def _open_parquet(file: Path) -> Iterator[Any]:
    require_extra("parquet", "reading Parquet")
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as data:
            yield data
    except FileNotFoundError:
        raise PocketlensError(f"{file}: no such file") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise PocketlensError(f"{file}: not readable as Parquet ({first_line(error)})") from None


def _read_parquet(file: Path) -> Iterator[_Rows]:
    with _open_parquet(file) as data:
        names = set(data.schema_arrow.names)
        missing = {"id", "vector"} - names
        if missing:
            raise PocketlensError(f"{file}: has no column {min(missing)}")
        for batch in data.iter_batches(_CHUNK, use_threads=False):
            columns = {name: batch.column(name) for name in names}
            vectors = _read_vectors(file, columns["vector"])
            texts = {
                name: columns[name].to_pylist() if name in columns else [None] * len(vectors)
                for name in ("id", "path", "metadata", "encoder")
            }
            items = [
                Item(str(name), str(path or ""), _read_metadata(file, metadata))
                for name, path, metadata in zip(
                    texts["id"], texts["path"], texts["metadata"], strict=True
                )
            ]
            yield vectors, items, [str(each or "imported") for each in texts["encoder"]]


def _read_vectors(file: Path, column: Any) -> NDArray[np.float32]:
    try:
        flat = np.asarray(column.flatten(), np.float32)
        return flat.reshape(len(column), -1)
    except (AttributeError, TypeError, ValueError):
        raise PocketlensError(f"{file}: column vector must hold equally many numbers") from None


def _write_metadata(item: Item) -> str:
    return json.dumps(dict(item.metadata), ensure_ascii=False)


def _read_metadata(file: Path, text: object) -> dict[str, Any]:
    try:
        return dict(json.loads(str(text))) if text else {}
    except (TypeError, ValueError):
        raise PocketlensError(f"{file}: column metadata must hold JSON objects") from None
