"""The index folder on the command line: built, added to, looked at, checked, changed."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from program import refuse, run, succeed

from server_index.build import name_building
from server_index.index import Index
from server_index.verify import verify

CLI = Path(__file__).parents[2] / "cli.py"


@pytest.fixture(scope="module")
def built(saved: Path, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of a table with metadata."""
    folder = tmp_path_factory.mktemp("built")
    paths = sorted(path.relative_to(drawn).as_posix() for path in drawn.rglob("*.jpg"))
    lines = [f"{path},{path.split('/')[0]},{n / 4}" for n, path in enumerate(paths)]
    table = drawn / "table.csv"
    table.write_text("\n".join(["path,label,price", *lines]) + "\n")
    command = [sys.executable, str(CLI), "build-index", str(table), str(folder / "index")]
    subprocess.run([*command, "--encoder", str(saved / "teacher"), "--sha256"], check=True)
    table.unlink()
    return folder / "index"


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "index")
    return tmp_path / "index"


def test_info_says_what_an_index_holds(capsys: pytest.CaptureFixture[str], index: Path) -> None:
    out = succeed(capsys, "index", "info", index)
    assert "32 (0 recent, 0 set aside)" in out and "Flat" in out
    facts = json.loads(succeed(capsys, "index", "info", index, "--json"))
    assert facts["items"] == 32 and facts["kind"] == "Flat" and facts["segments"][0]["count"] == 32
    (item,) = Index(index).items([3]).values()
    assert set(item.metadata) == {"label", "price"} and len(item.sha256) == 64 and item.size


def test_a_search_is_filtered(
    capsys: pytest.CaptureFixture[str], index: Path, saved: Path, drawn: Path, tmp_path: Path
) -> None:
    succeed(capsys, "export", saved / "student", tmp_path / "query")
    picture = sorted(drawn.rglob("*.jpg"))[0]
    search = ("search", picture, "--index", index, "--encoder", tmp_path / "query", "-k", 50)
    assert len(succeed(capsys, *search).splitlines()) == 33
    assert len(succeed(capsys, *search, "--where", "price < 1").splitlines()) == 5
    none = run(capsys, *search, "--where", "price < 0")
    assert none[0] == 0 and len(none[1].splitlines()) == 1
    assert none[2] == "nothing passes the filter\n"
    _, _, told = run(capsys, *search, "--where", "prise < 1 and (label = 'x' or id = 'y')")
    assert told == "nothing passes the filter; no item has a field 'prise'\n"
    assert "filter: expected" in refuse(capsys, *search, "--where", "price <")


def test_items_are_added_deleted_and_verified(
    capsys: pytest.CaptureFixture[str],
    index: Path,
    saved: Path,
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for n, picture in enumerate(sorted(drawn.rglob("*.jpg"))[:3]):
        shutil.copy(picture, more / f"new{n}.jpg")
    (more / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    add = ("add", more, "--index", index, "--encoder", saved / "teacher")
    code, out, errors = run(capsys, *add)
    assert code == 0 and "3 added, 0 there already, 35 now" in out and "cut.jpg" in errors
    assert "0 added, 3 there already, 35 now" in succeed(capsys, *add)
    assert "cut.jpg" in succeed(capsys, "index", "info", index, "--set-aside")
    shutil.copy(more / "new1.jpg", more / "new0.jpg")
    assert "1 have changed" in succeed(capsys, *add)
    assert "1 added, 2 there already, 35 now" in succeed(capsys, *add, "--replace")
    out = succeed(capsys, "index", "delete", index, "new1.jpg", "nothing")
    assert "1 deleted, 1 not there, 34 left" in out
    monkeypatch.setattr(sys, "stdin", io.StringIO("new0.jpg\nnew2.jpg\n"))
    assert "2 deleted" in succeed(capsys, "index", "delete", index, "--from", "-")
    assert "name the ids" in refuse(capsys, "index", "delete", index)
    assert "sound" in succeed(capsys, "index", "verify", index)
    data = bytearray((index / "segments" / "0001" / "ids").read_bytes())
    data[40] ^= 1
    (index / "segments" / "0001" / "ids").write_bytes(bytes(data))
    code, out, _ = run(capsys, "index", "verify", index)
    assert code == 1 and "ids: damaged" in out


def test_an_index_is_compacted_into_a_kind_or_by_targets(
    capsys: pytest.CaptureFixture[str], index: Path, saved: Path, drawn: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "none.txt"
    listed.write_text("none.jpg\n")
    out = succeed(capsys, "index", "compact", index, "--kind", "HNSW8")
    assert "HNSW8: asked for" in out and "32 items, HNSW8" in out
    assert "32 items, HNSW8" in succeed(capsys, "index", "compact", index)
    out = succeed(capsys, "index", "compact", index, "--max-memory", "4k")
    assert "SQfp16: compares with every vector" in out and "32 items, SQfp16" in out
    compact = ("index", "compact", index)
    succeed(capsys, "export", saved / "student", tmp_path / "query")
    asked = ("--queries", drawn, "--query-encoder", tmp_path / "query")
    assert "HNSW4: asked for" in succeed(capsys, *compact, "--kind", "HNSW4", *asked)
    assert "belong together" in refuse(capsys, *compact, *asked[:2])
    assert "no query can be read" in refuse(capsys, *compact, "--queries", listed, *asked[2:])
    assert "need at least" in refuse(capsys, *compact, "--max-memory", "1")
    assert "not an amount" in refuse(capsys, *compact, "--max-memory", "much")
    assert "--min-recall" in refuse(capsys, *compact, "--min-recall", "2")
    assert "no index of kind" in refuse(capsys, *compact, "--kind", "Best")
    assert "needs 64 vectors" in refuse(capsys, *compact, "--kind", "IVF64,Flat")
    build = ("build-index", drawn, tmp_path / "early", "--encoder", saved / "teacher")
    code, _, errors = run(capsys, *build, "--kind", "IVF64,Flat")
    # Before anything is encoded.
    assert code == 2 and "needs 64 vectors" in errors and "encoding" not in errors
    assert verify(index) == []


def test_vectors_are_exported_imported_and_merged(
    capsys: pytest.CaptureFixture[str], index: Path, saved: Path, tmp_path: Path
) -> None:
    for name in ("out.parquet", "out.npy"):
        assert "32 vectors of 32" in succeed(capsys, "index", "export", index, tmp_path / name)
        assert "--overwrite" in refuse(capsys, "index", "export", index, tmp_path / name)
    assert ".parquet or .npy" in refuse(capsys, "index", "export", index, tmp_path / "out.csv")
    assert np.load(tmp_path / "out.npy").shape == (32, 32)
    out = succeed(capsys, "index", "import", tmp_path / "out.parquet", tmp_path / "again")
    assert "32 added, 32 now" in out
    assert "already" in refuse(capsys, "index", "merge", index, tmp_path / "again")
    assert "32 items" in succeed(capsys, "index", "merge", index, tmp_path / "again", "--replace")
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(
        pyarrow.table({"id": ["a"], "vector": [[1.0] + [0.0] * 31]}), tmp_path / "v.parquet"
    )
    plain = ("index", "import", tmp_path / "v.parquet", tmp_path / "plain")
    assert "--space-of" in refuse(capsys, *plain)
    assert "1 added, 1 now" in succeed(capsys, *plain, "--space-of", saved / "teacher")
    assert Index(tmp_path / "plain").space == Index(index).space


def test_a_build_that_is_killed_goes_on(saved: Path, drawn: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "many", tmp_path / "index"
    data.mkdir()
    pictures = sorted(drawn.rglob("*.jpg"))
    for n in range(1500):
        shutil.copy(pictures[n % len(pictures)], data / f"{n:04d}.jpg")
    command = [sys.executable, str(CLI), "build-index", str(data), str(output)]
    command += ["--encoder", str(saved / "teacher")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        building = name_building(output)
        if (building / "manifest.json").exists() and len(Index(building)) > 0:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(Index(building))
    assert 0 < there < 1500 and not output.exists() and verify(building) == []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{there} of them were encoded by a run that was stopped" in done.stdout
    assert "1,500 images" in done.stdout and not building.exists()
    assert verify(output) == [] and len(Index(output)) == 1500


def test_what_cannot_be_built_is_named(
    capsys: pytest.CaptureFixture[str], saved: Path, drawn: Path, tmp_path: Path
) -> None:
    def build(*arguments: object) -> str:
        return refuse(
            capsys, "build-index", *arguments, tmp_path / "i", "--encoder", saved / "teacher"
        )

    (tmp_path / "empty").mkdir()
    assert "no images found" in build(tmp_path / "empty")
    assert "no such folder or file" in build(tmp_path / "none")
    for option, message in (
        (("--average", "ten"), "none, flip, crops"),
        (("--dim", "64"), "the space has 32 dimensions"),
        (("--kind", "Best"), "no index of kind"),
        (("--max-memory", "x"), "not an amount of memory"),
    ):
        found = refuse(
            capsys, "build-index", drawn, tmp_path / "i", "--encoder", saved / "teacher", *option
        )
        assert message in found
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
