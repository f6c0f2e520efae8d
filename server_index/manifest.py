"""The manifest of an index folder: the record's facts again, for people and other tools.

Nothing reads it to search. It also keeps the record's own digest, as of the last writer's end.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from encoder.atomic import write_json
from encoder.json_files import read_format
from server_index.record import RECORD, Record
from server_index.segment import SEGMENTS, check_digest, read_file_facts
from server_index.state import FORMAT

MANIFEST = "manifest.json"


def describe(record: Record) -> dict[str, Any]:
    """Return what a manifest says of an index."""
    state = record.state()
    return {
        **state.to_json(),
        "items": record.count_living(),
        "encoders": sorted(record.encoders().values()),
        "segments": [
            {"folder": f"{SEGMENTS}/{segment.number:04d}", **segment.to_json()}
            for segment in record.segments()
        ],
    }


def write_manifest(folder: Path, record: Record) -> None:
    """Write the manifest, with the digest of a record that nobody is writing."""
    facts = describe(record)
    whole = record.settle()
    digest = read_file_facts(folder / RECORD).sha256 if whole else ""
    write_json(folder / MANIFEST, {**facts, "record_sha256": digest})


def check_manifest(folder: Path, record: Record) -> Iterator[str]:
    """Say what is wrong with the manifest, or by it with the record."""
    file = folder / MANIFEST
    facts = read_format(file, FORMAT)
    digest = facts.pop("record_sha256", None)
    known = describe(record)
    # A writer that was killed, or is at work, is ahead of it.
    if facts.get("generation") != known["generation"]:
        return
    if facts != known:
        yield f"{file}: damaged (it does not say what the record says)"
        return
    log = folder / (RECORD + "-wal")
    if digest and not (log.exists() and log.stat().st_size):
        yield from check_digest(folder / RECORD, digest)
