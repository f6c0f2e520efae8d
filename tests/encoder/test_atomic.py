"""Tests of files and folders that appear whole or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from encoder import atomic
from encoder.atomic import check_output, new_folder, write_bytes, write_json
from encoder.errors import PocketlensError
from encoder.json_files import read_json

MARKER = "config.json"
OLD = '{"format": 1, "of": "the old state"}'


def listing(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else "/"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / MARKER).write_text(OLD)
    (folder / "deep").mkdir()
    (folder / "deep" / "weights").write_text("old weights")
    return folder


def test_new_folder_appears_with_its_content(tmp_path: Path) -> None:
    output = tmp_path / "not" / "there" / "out"
    with new_folder(output, marker=MARKER) as scratch:
        (scratch / "a").mkdir()
        (scratch / "a" / "b.txt").write_text("hello")
        (scratch / MARKER).write_text("new")
        assert not output.exists()
        assert scratch.parent == output.parent
    assert listing(tmp_path) == {
        "not": "/",
        "not/there": "/",
        "not/there/out": "/",
        "not/there/out/a": "/",
        "not/there/out/a/b.txt": "hello",
        f"not/there/out/{MARKER}": "new",
    }
    assert output.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_folder(old: Path, error: type[BaseException]) -> None:
    before = listing(old.parent)
    with pytest.raises(error), new_folder(old, marker=MARKER, overwrite=True) as scratch:
        (scratch / MARKER).write_text("half")
        raise error
    assert listing(old.parent) == before


def test_an_error_leaves_nothing_where_there_was_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), new_folder(tmp_path / "out", marker=MARKER) as scratch:
        (scratch / MARKER).write_text("half")
        raise ValueError
    assert listing(tmp_path) == {}


def test_a_full_disk_names_the_output(old: Path) -> None:
    before = listing(old.parent)
    with (
        pytest.raises(OSError, match="No space left") as caught,
        new_folder(old, marker=MARKER, overwrite=True),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(old)
    assert listing(old.parent) == before


@pytest.mark.parametrize("can_exchange", [True, False])
def test_overwrite_replaces_a_folder_with_the_marker(
    old: Path, can_exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    with new_folder(old, marker=MARKER, overwrite=True) as scratch:
        (scratch / MARKER).write_text("new")
        assert (old / MARKER).read_text() == OLD
    assert listing(old.parent) == {"out": "/", f"out/{MARKER}": "new"}


def test_without_overwrite_a_full_folder_is_refused_before_any_work(old: Path) -> None:
    before = listing(old.parent)
    with (
        pytest.raises(PocketlensError, match=r"out: exists already.*--overwrite"),
        new_folder(old, marker=MARKER),
    ):
        pytest.fail("the block was entered")
    assert listing(old.parent) == before


def test_overwrite_refuses_a_folder_without_the_marker(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_text("precious")
    before = listing(tmp_path)
    with (
        pytest.raises(PocketlensError, match=rf"photos: has no {MARKER}"),
        new_folder(tmp_path / "photos", marker=MARKER, overwrite=True),
    ):
        pytest.fail("the block was entered")
    assert listing(tmp_path) == before


def test_a_folder_named_like_the_marker_is_no_marker(tmp_path: Path) -> None:
    (tmp_path / "out" / MARKER).mkdir(parents=True)
    with pytest.raises(PocketlensError, match="has no"):
        check_output(tmp_path / "out", marker=MARKER, overwrite=True)


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    with new_folder(output, marker=MARKER) as scratch:
        (scratch / MARKER).write_text("new")
    assert listing(tmp_path) == {"out": "/", f"out/{MARKER}": "new"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_file_and_a_dangling_link_are_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(PocketlensError, match=f"{name}: exists and is not a folder"):
            check_output(tmp_path / name, marker=MARKER, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(PocketlensError, match="file"):
            check_output(output, marker=MARKER, overwrite=False)


def test_a_folder_that_another_program_made_meanwhile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with pytest.raises(PocketlensError), new_folder(output, marker=MARKER) as scratch:
        (scratch / MARKER).write_text("ours")
        output.mkdir()
        (output / "theirs").write_text("precious")
    assert listing(tmp_path) == {"out": "/", "out/theirs": "precious"}


def test_a_kill_in_the_block_leaves_the_old_folder(old: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from encoder.atomic import new_folder\n"
        f"with new_folder(pathlib.Path(sys.argv[1]), marker={MARKER!r}, overwrite=True) as new:\n"
        f"    (new / {MARKER!r}).write_text('half')\n"
        "    print(new, flush=True)\n"
        "    time.sleep(60)\n"
    )
    before = listing(old)
    root = Path(atomic.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(old)], cwd=root, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        scratch = Path(child.stdout.readline().strip())
        assert (scratch / MARKER).read_text() == "half"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert listing(old) == before
    # What the killed process left behind does not stand in the way of the next one.
    with new_folder(old, marker=MARKER, overwrite=True) as again:
        (again / MARKER).write_text("new")
    assert listing(old) == {MARKER: "new"}


def test_write_bytes_replaces_and_leaves_no_neighbour(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    write_bytes(file, b"one")
    write_bytes(file, b"\x00two")
    assert file.read_bytes() == b"\x00two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left on device")

    file = tmp_path / "a.bin"
    write_bytes(file, b"old")
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_write_bytes_never_opens_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    write_bytes(file, b"old")
    with file.open("rb") as reader:
        write_bytes(file, b"newer")
        assert reader.read() == b"old"


def test_json_goes_round(tmp_path: Path) -> None:
    value = {"ß": [1, 2.5, None, True], "a": {"b": "c"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.index('"a"') < text.index('"ß"')


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": object()}])
def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(file, value)
    assert json.loads(file.read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not readable as JSON"),
        (b'{"a": ', "not readable as JSON"),
        (b'{"a": "\xff"}', "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b"[1, 2]", "expected a JSON object"),
        (b"null", "expected a JSON object"),
    ],
    ids=["empty", "cut", "not UTF-8", "too deep", "list", "null"],
)
def test_damaged_json_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(PocketlensError, match=rf"a\.json: {reason}"):
        read_json(file)


def test_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match=r"gone\.json: no such file"):
        read_json(tmp_path / "gone.json")
    with pytest.raises(PocketlensError, match="not readable"):
        read_json(tmp_path)
