import io
import json
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from encoder.errors import PocketlensError
from encoder.images import decode_image
from server_index.source import count_entries, read_entries


def draw(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (20, 20), (shade, 0, 0)).save(data, "PNG")
    return data.getvalue()


def put(file: Path, data: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def pack(file: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 7
            archive.addfile(info, io.BytesIO(data))
    return file


def test_a_folder_gives_paths_labels_sizes_and_times(tmp_path: Path) -> None:
    for name in ("b/two.png", "a/one.png", "a/.hidden.png", "note.txt", "top.png"):
        put(tmp_path / name, draw(1))
    entries = list(read_entries(tmp_path))
    assert [entry.item.id for entry in entries] == ["top.png", "a/one.png", "b/two.png"]
    assert [entry.item.metadata for entry in entries] == [{}, {"label": "a"}, {"label": "b"}]
    status = (tmp_path / "top.png").stat()
    assert (entries[0].item.size, entries[0].item.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert count_entries(tmp_path) == 3


def test_columns_of_a_csv_are_typed_metadata(tmp_path: Path) -> None:
    for name in ("one.png", "two.png", "query.png"):
        put(tmp_path / name, draw(1))
    table = put(
        tmp_path / "table.csv",
        b"path,label,role,id,price,count,zip,sold,note\n"
        b"one.png,shoe,database,A1,9.5,3,01234,true,\n"
        b"query.png,shoe,query,Q,1,1,1,true,x\n"
        b"two.png,,,,4,,99999,false,12a\n",
    )
    first, second = read_entries(table)
    assert first.item.id == "A1" and second.item.id == "two.png"
    assert first.item.metadata == {
        "label": "shoe", "price": 9.5, "count": 3, "zip": "01234", "sold": True, "note": None,
    }  # fmt: skip
    assert second.item.metadata == {
        "price": 4.0, "count": None, "zip": "99999", "sold": False, "note": "12a",
    }  # fmt: skip
    assert count_entries(table) == 3


def test_a_parquet_table_keeps_its_types(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    put(tmp_path / "one.png", draw(1))
    columns = {"path": ["one.png"], "price": [3], "sold": [False], "x": [1.0], "y": [2.0],
               "w": [5.0], "h": [6.0]}  # fmt: skip
    write_table(pyarrow.table(columns), tmp_path / "table.parquet")
    (entry,) = read_entries(tmp_path / "table.parquet")
    assert entry.item.metadata == {"price": 3, "sold": False}
    assert decode_image(entry.source).shape == (6, 5, 3)
    write_table(pyarrow.table({"path": ["one.png"], "tags": [["a"]]}), tmp_path / "bad.parquet")
    with pytest.raises(PocketlensError, match="column tags holds list"):
        list(read_entries(tmp_path / "bad.parquet"))


def test_shards_give_images_with_what_lies_beside_them(tmp_path: Path) -> None:
    pack(
        tmp_path / "b.tar",
        {"x/0001.png": draw(9), "x/0001.json": b'{"price": 3, "name": "\xc3\xa4"}',
         "x/0002.cls": b"shoe\n", "x/0002.png": draw(200), "x/readme.md": b"no"},
    )  # fmt: skip
    pack(tmp_path / "a.tar", {"0001.png": draw(3), "0001.txt": b"a red thing"})
    entries = list(read_entries(tmp_path))
    assert [entry.item.id for entry in entries] == [
        "a.tar/0001.png", "b.tar/x/0001.png", "b.tar/x/0002.png",
    ]  # fmt: skip
    assert [entry.item.metadata for entry in entries] == [
        {"text": "a red thing"}, {"price": 3, "name": "ä"}, {"label": "shoe"},
    ]  # fmt: skip
    shades = [int(decode_image(entry.source)[0, 0, 0]) for entry in entries]
    assert shades == [3, 9, 200] and entries[0].item.mtime_ns == 7 * 10**9
    assert entries[1].item.path == f"{tmp_path}/b.tar/x/0001.png"


def test_a_list_names_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "in" / "one.png", draw(1))
    listed = put(tmp_path / "list.txt", b"in/one.png\r\n\nin/none.png\n")
    assert [entry.item.id for entry in read_entries(listed)] == ["in/one.png", "in/none.png"]
    assert count_entries(listed) == 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("in/one.png\n"))
    (entry,) = read_entries(Path("-"))
    assert entry.item.path == str(tmp_path / "in" / "one.png") and count_entries(Path("-")) == 0


def test_a_source_that_is_none_is_named(tmp_path: Path) -> None:
    packed = pack(tmp_path / "packed.tar", {"a.png": draw(1)}, "w:gz")
    cases = [
        (tmp_path / "none", "no such folder or file"),
        (put(tmp_path / "a.xyz", b""), "images come from a folder"),
        (packed, "not readable as an uncompressed tar file"),
        (put(tmp_path / "cut.tar", pack(tmp_path / "w.tar", {"a": b"x" * 999}).read_bytes()[:300]),
         "not readable as an uncompressed tar file"),
        (put(tmp_path / "no.csv", b"name\nx\n"), "the header must name path"),
        (put(tmp_path / "short.csv", b"path,price\nx\n"), "line 2: its cells do not match"),
        (put(tmp_path / "bytes.csv", b"path\n\xff\xfe\n"), "not a UTF-8 CSV file"),
        (put(tmp_path / "bytes.txt", b"\xff\xfe\n"), "not a readable list"),
        (put(tmp_path / "no.parquet", b"PAR1"), "not readable as Parquet"),
        (pack(tmp_path / "json.tar", {"a.png": draw(1), "a.json": b"[1]"}), "not a JSON object"),
        (pack(tmp_path / "deep.tar", {"a.png": draw(1), "a.json": json.dumps({"x": {}}).encode()}),
         "column x holds dict"),
    ]  # fmt: skip
    for source, message in cases:
        with pytest.raises(PocketlensError, match=message):
            list(read_entries(source))


def test_memory_does_not_grow_with_a_shard(tmp_path: Path) -> None:
    """The library would keep every member that it has read."""
    members = {f"{n:05d}.png": b"" for n in range(2000)}
    pack(tmp_path / "many.tar", members)
    entries = read_entries(tmp_path / "many.tar")
    next(entries)
    archive = entries.gi_frame.f_locals["archive"]  # type: ignore[attr-defined]
    for _ in range(1500):
        next(entries)
    assert len(archive.members) <= 1
