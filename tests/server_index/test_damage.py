"""Files that are cut short, removed or changed are named; what is whole can still be searched."""

import json
import multiprocessing
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from index_folders import ENCODER, SPACE, name_items, unit_vectors

from encoder.array_files import write_array
from encoder.errors import PocketlensError
from server_index import faiss_index
from server_index import segment as segments
from server_index.faiss_index import Kind
from server_index.index import Index
from server_index.lock import LOCK
from server_index.record import RECORD
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of two lossy segments, a trained quantiser and two recent additions."""
    folder = tmp_path_factory.mktemp("sound") / "index"
    create_index(folder, SPACE)
    with IndexWriter(folder) as writer:
        writer.add(unit_vectors(600), name_items([str(n) for n in range(600)]), ENCODER)
        writer.compact(Kind("IVF4,SQ8"))
        writer.add(unit_vectors(500, seed=1), name_items([f"b{n}" for n in range(500)]), ENCODER)
        writer.seal()
        writer.delete(["3", "b4"])
        writer.add(unit_vectors(2, seed=2), name_items(["x", "y"]), ENCODER)
    return folder


@pytest.fixture
def index(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "index")
    return tmp_path / "index"


def files_of(folder: Path) -> list[str]:
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and file.stat().st_size and file.suffix != ".sqlite-shm"
    )


def test_a_sound_index_is_sound(sound: Path) -> None:
    assert verify(sound) == []
    assert files_of(sound) == [
        "index.sqlite",
        "manifest.json",
        "quantisers/0001.faiss",
        *(f"segments/000{n}/{name}" for n in (1, 2)
          for name in ("ends.npy", "ids", "index.faiss", "keys.npy", "vectors.npy")),
    ]  # fmt: skip


def test_any_byte_that_changes_is_found(sound: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in files_of(sound):
        size = (sound / name).stat().st_size
        for at in {0, size - 1, size // 2, *generator.integers(0, size, 5).tolist()}:
            folder = tmp_path / "changed"
            shutil.copytree(sound, folder)
            data = bytearray((folder / name).read_bytes())
            data[at] ^= 1 << int(generator.integers(8))
            (folder / name).write_bytes(bytes(data))
            found = verify(folder)
            assert found and all("\n" not in line for line in found), (name, at)
            assert any(name.split("/")[-1] in line for line in found), (name, at, found)
            shutil.rmtree(folder)


def test_what_is_cut_short_or_removed_is_found_when_it_is_opened(index: Path) -> None:
    for name in files_of(index):
        if name.startswith("segments/") or name == RECORD:
            data = (index / name).read_bytes()
            (index / name).write_bytes(data[: len(data) // 2])
            with pytest.raises(PocketlensError, match=Path(name).name):
                Index(index)
            assert verify(index)
            (index / name).unlink()
            with pytest.raises(PocketlensError, match=Path(name).name):
                Index(index)
            (index / name).write_bytes(data)
    assert verify(index) == [] and len(Index(index)) == 1100


def test_a_changed_header_or_footer_is_found_when_it_is_opened(index: Path) -> None:
    for name in files_of(index):
        if name.startswith("segments/"):
            data = (index / name).read_bytes()
            for at in (1, len(data) - 1):
                changed = bytearray(data)
                changed[at] ^= 4
                (index / name).write_bytes(bytes(changed))
                with pytest.raises(PocketlensError, match=f"{Path(name).name}: damaged"):
                    Index(index)
            (index / name).write_bytes(data)


def test_what_is_whole_can_be_searched_without_what_is_not(index: Path) -> None:
    (index / "segments" / "0002" / "ids").unlink()
    with pytest.raises(PocketlensError, match=r"ids: missing"):
        Index(index)
    rest = Index(index, skip_damaged=True)
    assert len(rest) == 601 and len(rest.damage) == 1 and "0002/ids" in rest.damage[0]
    (hits,) = rest.search(unit_vectors(600)[7:8], 1)
    assert hits[0].item.id == "7"


def test_a_record_of_another_format_is_named(index: Path) -> None:
    record = sqlite3.connect(index / RECORD)
    state = json.loads(record.execute("SELECT value FROM facts").fetchone()[0])
    for change, message in (
        ({"format": 2}, "format 2"),
        ({"kind": "Nonsense"}, "no index of kind"),
        ({"space": {}}, "not an embedding space"),
        ({"next_key": None, "unknown": 1}, "damaged"),
    ):
        with record:
            record.execute("UPDATE facts SET value = ?", [json.dumps({**state, **change})])
        with pytest.raises(PocketlensError, match=message):
            Index(index)
    with record:
        record.execute("UPDATE facts SET value = 'no json'")
    with pytest.raises(PocketlensError, match="damaged"):
        IndexWriter(index)
    record.close()
    (index / RECORD).write_bytes(b"not a database at all, whatever")
    with pytest.raises(PocketlensError, match=RECORD):
        Index(index)
    with pytest.raises(PocketlensError, match="not an index folder"):
        Index(index.parent)
    with pytest.raises(PocketlensError, match="not an index folder"):
        IndexWriter(index.parent)
    assert not (index.parent / LOCK).exists()


def hold(folder: Path, ready: multiprocessing.Event, stop: multiprocessing.Event) -> None:  # type: ignore[valid-type]
    with IndexWriter(folder):
        ready.set()
        stop.wait(30)


def test_one_writer_at_a_time_and_the_other_is_named(index: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    other = context.Process(target=hold, args=(index, ready, stop))
    other.start()
    assert ready.wait(60)
    with pytest.raises(PocketlensError, match=rf"being written by process {other.pid} on .* since"):
        IndexWriter(index)
    # Readers are not in its way, nor it in theirs.
    assert len(Index(index)) == 1100
    other.kill()
    other.join()
    with IndexWriter(index) as writer:
        assert writer.delete(["x"]) == 1
        with pytest.raises(PocketlensError, match="being written by process"):
            IndexWriter(index)


def test_a_folder_that_cannot_be_written_is_searched_and_says_so(index: Path) -> None:
    # As root permissions do not bind: no log can be made beside a record in immutable storage.
    shutil.rmtree(index / "quantisers")
    for name in (f"{RECORD}-wal", f"{RECORD}-shm"):
        (index / name).unlink(missing_ok=True)
        (index / name).mkdir()
    assert len(Index(index)) == 1100
    with pytest.raises(PocketlensError, match=RECORD):
        IndexWriter(index)


def test_what_a_killed_writer_left_is_swept(index: Path) -> None:
    (index / "segments" / "0003.partial").mkdir()
    (index / "segments" / "0009").mkdir()
    (index / "quantisers" / "0007.faiss").write_bytes(b"half")
    assert len(Index(index)) == 1100
    with IndexWriter(index) as writer:
        writer.seal()
    assert sorted(file.name for file in (index / "segments").iterdir()) == ["0001", "0002", "0003"]
    assert [file.name for file in (index / "quantisers").iterdir()] == ["0001.faiss"]
    assert verify(index) == []


def test_a_full_disk_leaves_the_old_state(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with IndexWriter(index) as writer:
        pages = writer.record.select("PRAGMA page_count")[0][0]
        writer.record.run(f"PRAGMA max_page_count = {pages}")
        items = name_items([f"{n}" * 300 for n in range(90)])
        with pytest.raises(PocketlensError, match=r"index\.sqlite: cannot be used .*full"):
            for part in range(40):
                named = [type(item)(f"{part}{item.id}"[:900]) for item in items]
                writer.add(unit_vectors(90), named, ENCODER)
        kept = len(writer)

        def refuse(path: Path) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(segments, "sync", refuse)
        with pytest.raises(OSError, match="No space left"):
            writer.seal()
        monkeypatch.undo()
        assert len(writer) == len(Index(index)) == kept
        writer.record.run("PRAGMA max_page_count = 1000000")
        writer.add(unit_vectors(1, seed=8), name_items(["after"]), ENCODER)
    assert verify(index) == [] and len(Index(index)) == kept + 1


def test_a_disk_that_is_full_for_real(tmp_path: Path) -> None:
    """A disk of a few megabytes, in a mount of its own."""
    script = Path(__file__).parents[1] / "support" / "full_disk.py"
    own_mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=6m none {shlex.quote(str(tmp_path))}"
    try:
        subprocess.run([*own_mount, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no mount of one's own here ({error})")
    ran = shlex.join([sys.executable, str(script), str(tmp_path)])
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(script.parent)])
    done = subprocess.run(
        [*own_mount, f"{mount} && exec {ran}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    for name, counts in json.loads(done.stdout).items():
        assert counts["refused"] >= 3 and counts["done"] >= 3, (name, counts)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("spec", ["Flat", "BFlat"])
def test_an_index_file_that_finds_no_room_is_said(spec: str) -> None:
    # So small that nothing is written before it is closed.
    kind = Kind(spec)
    index = faiss_index.make_index(kind, 16)
    faiss_index.add(index, kind, unit_vectors(10))
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        faiss_index.write(index, kind, Path("/dev/full"))
    for count in (1, 1 << 20):
        with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
            write_array(Path("/dev/full"), np.zeros(count))


def test_writers_that_are_killed_lose_nothing_acknowledged() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "index_crashes.py"
    done = subprocess.run(
        [sys.executable, str(script), "--kills", "12", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["steps"] > 20
