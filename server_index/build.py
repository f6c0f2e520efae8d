"""Build an index folder from a table of images."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from encoder.atomic import new_folder
from encoder.datasets.table import ImageTable
from encoder.embed import Quarantined
from encoder.errors import PocketlensError
from server_index.encode import DatabaseEncoder
from server_index.store import MANIFEST, IndexWriter, Item


@dataclasses.dataclass(frozen=True)
class Built:
    """Say what was indexed, and which images could not be read."""

    items: int
    quarantined: tuple[Quarantined, ...]


def build_index(
    encoder: DatabaseEncoder,
    table: ImageTable,
    output: Path,
    *,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Built:
    """Encode the table's images, queries apart, and write an index folder; ids are their paths.

    Raises:
        PocketlensError: when no image can be read, or the output must not be replaced.
    """
    table = table.select(i for i, row in enumerate(table.rows) if row.role != "query")
    files = table.sources()
    quarantined: list[Quarantined] = []
    items = 0
    with new_folder(output, marker=MANIFEST, overwrite=overwrite) as folder:
        writer = IndexWriter(folder, encoder.space, encoder.encoder)
        for batch in encoder.encode_files(files):
            rows = [table.rows[position] for position in batch.positions]
            if rows:
                named = [
                    Item(row.path, str((table.root / row.path).resolve()), row.label)
                    for row in rows
                ]
                writer.add(batch.vectors, named)
            items += len(rows)
            quarantined.extend(batch.quarantined)
            advance(len(rows) + len(batch.quarantined))
        if not items:
            raise PocketlensError(f"{table.root}: none of the {len(files)} images can be read")
        writer.close()
    return Built(items, tuple(quarantined))
