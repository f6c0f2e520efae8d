"""Where database images come from: a folder, a list, a CSV or Parquet table, tar shards, stdin.

Entries are read one by one, so that memory does not grow with their number.
"""

import csv
import dataclasses
import datetime
import os
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from encoder.datasets.csv_table import COLUMNS, read_row
from encoder.datasets.folder import walk_folder
from encoder.datasets.layouts import recognise_layout
from encoder.datasets.splits import read_table
from encoder.datasets.table import Row
from encoder.errors import PocketlensError, first_line, require_extra
from encoder.images import SUFFIXES, BoxedFile, PackedFile, Source
from server_index.items import Item, Value

_LISTS = (".txt", ".lst", ".list")
_LONGEST_TEXT = 64 << 10
_PARQUET_ROWS = 4096
# What a path is followed by where a box of the picture is meant (W3C media fragments).
_BOX = "#xywh="
# Not a postal code that begins with a zero.
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17})(?P<rest>\.\d+(?:[eE][-+]?\d{1,2})?|[eE][-+]?\d{1,2})?")


@dataclasses.dataclass(frozen=True)
class Entry:
    """Hold one image to encode, and what is known of it without reading it."""

    item: Item
    source: Source


def read_entries(source: Path) -> Iterator[Entry]:
    """Yield the entries of a source, whose ids are their paths there, or its `id` column.

    A folder is walked; `.txt` lists a path a line, as standard input (`-`) does; the columns of a
    CSV or Parquet file that no table has are metadata; of a `.tar`, or a folder of nothing but
    these, each image has as metadata what the `.json`, `.cls` and `.txt` of its name say.

    Raises:
        PocketlensError: naming the file and the fault, when the entry is reached.
    """
    if str(source) == "-":
        return _read_list(sys.stdin, Path())
    suffix = source.suffix.lower()
    if source.is_dir():
        return _read_folder(source)
    if not source.exists():
        raise PocketlensError(f"{source}: no such folder or file")
    if suffix == ".csv":
        return _read_csv(source)
    if suffix == ".parquet":
        return _read_parquet(source)
    if suffix == ".tar":
        return _read_tars([source])
    if suffix in _LISTS:
        return _read_list_file(source)
    raise PocketlensError(
        f"{source}: images come from a folder, a .csv, .parquet or .tar file, a .txt list, or - "
        "for a list on standard input"
    )


def count_entries(source: Path) -> int:
    """Return how many entries there are, 0 where only reading them tells (standard input)."""
    if str(source) == "-":
        return 0
    if source.suffix.lower() == ".csv" and source.is_file():
        return sum(1 for _ in _read_cells(source))
    return sum(1 for _ in read_entries(source))


def _read_folder(folder: Path) -> Iterator[Entry]:
    shards = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".tar")
    if shards:
        return _read_tars(shards)
    rows: Iterable[Row]
    rows = read_table(folder).rows if recognise_layout(folder) else walk_folder(folder)
    return (_make_entry(row, folder) for row in rows if row.role != "query")


def _make_entry(
    row: Row, root: Path, name: str = "", metadata: Mapping[str, Value] | None = None
) -> Entry:
    file = root / row.path
    known: dict[str, Value] = {"label": row.label} if row.label else {}
    source = file if row.box is None else BoxedFile(file, row.box)
    # Not resolved: that looks at every folder above, for every image.
    path = os.path.abspath(file)  # noqa: PTH100
    if row.box is not None:
        # As a media fragment, so that what is read is known from the path.
        path += _BOX + ",".join(f"{side:g}" for side in row.box)
    return Entry(_stat(Item(name or row.path, path, {**known, **(metadata or {})}), file), source)


def open_path(path: str) -> Source:
    """Return what an item's recorded path names: a file, or a box of one."""
    file, found, sides = path.rpartition(_BOX)
    try:
        left, top, width, height = map(float, sides.split(","))
    except ValueError:
        return Path(path)
    return BoxedFile(Path(file), (left, top, width, height)) if found else Path(path)


def _stat(item: Item, file: Path) -> Item:
    """Add the file's size and time; of one that is missing, decoding will tell."""
    try:
        status = file.stat()
    except (OSError, ValueError):  # a zero byte in a name
        return item
    return dataclasses.replace(item, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _read_list_file(file: Path) -> Iterator[Entry]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield from _read_list(lines, file.parent)
    except (OSError, UnicodeDecodeError) as error:
        raise PocketlensError(
            f"{file}: not a readable list of paths ({first_line(error)})"
        ) from None


def _read_list(lines: Iterable[str], root: Path) -> Iterator[Entry]:
    for line in lines:
        path = line.rstrip("\r\n")
        if path:
            yield _make_entry(Row(path), root)


def _read_csv(file: Path) -> Iterator[Entry]:
    own = [name for name in _read_header(file) if name not in (*COLUMNS, "id")]
    kinds = _find_kinds(file, own)
    for line, cells in _read_cells(file):
        row = read_row(file, line, cells)
        if row.role != "query":
            values = {name: _read_value(cells[name], kinds[name]) for name in own}
            yield _make_entry(row, file.parent, cells.get("id", ""), values)


def _read_header(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            names = next(csv.reader(lines), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PocketlensError(f"{file}: not a UTF-8 CSV file ({first_line(error)})") from None
    if "path" not in names or len(set(names)) < len(names):
        raise PocketlensError(
            f"{file}: the header must name path, and each column once; "
            f"found {', '.join(names) or 'nothing'}"
        )
    return names


def _read_cells(file: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            for cells in reader:
                if None in cells or None in cells.values():
                    raise PocketlensError(
                        f"{file}: line {reader.line_num}: its cells do not match the header"
                    )
                yield reader.line_num, cells
    except OSError as error:
        raise PocketlensError(f"{file}: not readable ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PocketlensError(f"{file}: not a UTF-8 CSV file ({first_line(error)})") from None


def _find_kinds(file: Path, names: Sequence[str]) -> dict[str, type]:
    """Return what each column holds: whole numbers, numbers, truth values, or else text."""
    kinds: dict[str, list[type]] = {name: [int, float, bool, str] for name in names}
    if names:
        for _, cells in _read_cells(file):
            for name in names:
                while not _is_of(cells[name], kinds[name][0]):
                    kinds[name].pop(0)
    return {name: left[0] for name, left in kinds.items()}


def _is_of(cell: str, kind: type) -> bool:
    if not cell or kind is str:
        return True
    if kind is bool:
        return cell in ("true", "false")
    found = _NUMBER.fullmatch(cell)
    return bool(found) and (kind is float or not (found and found["rest"]))


def _read_value(cell: str, kind: type) -> Value:
    if not cell:
        return None
    if kind is bool:
        return cell == "true"
    value: Value = kind(cell)
    return value


def _read_parquet(file: Path) -> Iterator[Entry]:
    require_extra("parquet", "reading Parquet")
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as data:
            names = data.schema_arrow.names
            if "path" not in names:
                raise PocketlensError(f"{file}: has no column path")
            number = 0
            for batch in data.iter_batches(_PARQUET_ROWS, use_threads=False):
                for cells in batch.to_pylist():
                    number += 1
                    row = _read_parquet_row(file, number, cells)
                    if row.role != "query":
                        own = {
                            name: _plain(file, name, value)
                            for name, value in cells.items()
                            if name not in (*COLUMNS, "id")
                        }
                        yield _make_entry(row, file.parent, str(cells.get("id") or ""), own)
    except (OSError, pyarrow.ArrowException) as error:
        raise PocketlensError(f"{file}: not readable as Parquet ({first_line(error)})") from None


def _read_parquet_row(file: Path, number: int, cells: Mapping[str, Any]) -> Row:
    text = {name: "" if value is None else str(value) for name, value in cells.items()}
    return read_row(file, number, {name: text[name] for name in COLUMNS if name in text})


def _plain(file: Path, name: str, value: Any) -> Value:
    if isinstance(value, Value):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise PocketlensError(
        f"{file}: column {name} holds {type(value).__name__}; metadata is text, numbers, truth "
        "values, dates or nothing"
    )


def _read_tars(shards: Sequence[Path]) -> Iterator[Entry]:
    """Yield the images of shards; the members of one name belong together and are adjacent."""
    for shard in shards:
        try:
            # Uncompressed only: a member is read where it lies, by whatever core needs it.
            with tarfile.open(shard, "r:") as archive:
                yield from _read_tar(shard, archive)
        except (OSError, tarfile.TarError) as error:
            raise PocketlensError(
                f"{shard}: not readable as an uncompressed tar file ({first_line(error)})"
            ) from None


def _read_tar(shard: Path, archive: Any) -> Iterator[Entry]:
    name, image, metadata = "", None, dict[str, Value]()
    for member in archive:
        # The library keeps them all otherwise.
        archive.members = []
        if not member.isfile():
            continue
        folder, slash, file = member.name.rpartition("/")
        stem, _, kind = file.partition(".")
        if folder + slash + stem != name:
            if image:
                yield _pack(shard, image, metadata)
            name, image, metadata = folder + slash + stem, None, {}
        if Path(file).suffix.lower() in SUFFIXES:
            if image:
                yield _pack(shard, image, metadata)
            image = member
        elif kind in ("json", "cls", "txt"):
            metadata |= _read_beside(shard, archive, member, kind)
    if image:
        yield _pack(shard, image, metadata)


def _pack(shard: Path, member: tarfile.TarInfo, metadata: Mapping[str, Value]) -> Entry:
    source = PackedFile(shard, member.name, member.offset_data, member.size)
    time = int(member.mtime) * 10**9
    path = f"{shard.resolve()}/{member.name}"
    item = Item(f"{shard.name}/{member.name}", path, dict(metadata), member.size, time)
    return Entry(item, source)


def _read_beside(
    shard: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, kind: str
) -> dict[str, Value]:
    """Read what a shard says of an image beside it."""
    import json

    opened = archive.extractfile(member)
    if opened is None or member.size > _LONGEST_TEXT:
        raise PocketlensError(f"{shard}: {member.name} is longer than {_LONGEST_TEXT} bytes")
    try:
        text = opened.read().decode()
        if kind == "cls":
            return {"label": text.strip()}
        if kind == "txt":
            return {"text": text.strip()}
        value = json.loads(text)
    except (UnicodeDecodeError, ValueError) as error:
        raise PocketlensError(f"{shard}: {member.name} is damaged ({first_line(error)})") from None
    if not isinstance(value, dict):
        raise PocketlensError(f"{shard}: {member.name} is not a JSON object")
    return {key: _plain(shard, key, each) for key, each in value.items()}
