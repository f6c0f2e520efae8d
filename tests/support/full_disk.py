"""Change an index on a disk with less and less room; run in a mount of its own.

    python full_disk.py FOLDER

Each change is tried with so many pages of the disk free. Where it fails, the old state must be
served, and once there is room, nothing may be damaged and the same change must go through.
Prints how often each change was refused and done, as JSON.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from index_folders import ENCODER, SPACE, name_items, unit_vectors

from encoder.errors import PocketlensError
from server_index.faiss_index import Kind
from server_index.index import Index
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index

_CHANGES = {
    "add": lambda writer: writer.add(
        unit_vectors(300, seed=5), name_items([f"new {n}" for n in range(300)]), ENCODER
    ),
    "delete": lambda writer: writer.delete([str(n) for n in range(0, 500, 2)]),
    "seal": lambda writer: writer.seal(),
    "compact": lambda writer: writer.compact(Kind("IVF4,SQ8")),
}


def fill_disk(folder: Path, pages: int) -> Path:
    """Leave so many pages free; return the file that takes the others."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        found = os.statvfs(folder)
        os.posix_fallocate(stream.fileno(), 0, (found.f_bavail - pages) * found.f_frsize)
    return ballast


def describe(index: Path) -> tuple[int, list[list[str]]]:
    """Return how many items are served, and what some queries find."""
    with Index(index) as opened:
        return len(opened), opened.find(unit_vectors(5, seed=9), 10).ids


def try_change(disk: Path, sound: Path, name: str, pages: int) -> bool:
    """Try a change with so much room; return whether it went through."""
    index = disk / "index"
    shutil.copytree(sound, index)
    before = describe(index)
    ballast = fill_disk(disk, pages)
    try:
        with IndexWriter(index) as writer:
            _CHANGES[name](writer)
        done = True
    except (PocketlensError, OSError) as error:
        # SQLite names its file; of the others each write does.
        assert str(index) in str(error), error
        assert any(word in str(error) for word in ("full", "space", "disk I/O")), error
        done = False
        # What is served does not wait for room.
        assert describe(index) == before
    ballast.unlink()
    assert verify(index) == [], (name, pages)
    with IndexWriter(index) as writer:
        if not done:
            assert describe(index) == before
            _CHANGES[name](writer)
        assert not list(index.rglob("*.partial"))
        living = len(writer)
    assert verify(index) == [] and describe(index)[0] == living
    shutil.rmtree(index)
    return done


def main() -> None:
    disk = Path(sys.argv[1])
    sound = disk / "sound"
    create_index(sound, SPACE)
    with IndexWriter(sound) as writer:
        writer.add(unit_vectors(600), name_items([str(n) for n in range(600)]), ENCODER)
        writer.compact()
        writer.add(unit_vectors(90, seed=2), name_items([f"b{n}" for n in range(90)]), ENCODER)
    counted = {name: {"refused": 0, "done": 0} for name in _CHANGES}
    for name, counts in counted.items():
        for pages in (*range(0, 40, 4), 60, 100, 160):
            done = try_change(disk, sound, name, pages)
            counts["done" if done else "refused"] += 1
    print(json.dumps(counted))


if __name__ == "__main__":
    main()
