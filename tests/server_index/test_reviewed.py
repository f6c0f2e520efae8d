"""Faults that a review found once: each stays mended."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from index_folders import DIM, ENCODER, SPACE, make_index, name_items, unit_vectors
from shade_encoder import ShadeEncoder, Stopped, draw

from encoder.errors import PocketlensError
from server_index import build
from server_index.build import build_index, name_building
from server_index.faiss_index import Kind, SearchEffort
from server_index.filters import parse_filter
from server_index.index import Index
from server_index.items import Item
from server_index.portable import export_parquet, import_parquet, read_parquet_space
from server_index.source import read_entries
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index


def test_an_index_that_is_being_written_is_not_replaced(tmp_path: Path) -> None:
    draw(tmp_path / "images", 4)
    output = tmp_path / "index"
    build_index(ShadeEncoder(), read_entries(tmp_path / "images"), output)
    with IndexWriter(output), pytest.raises(PocketlensError, match="being written by"):
        build_index(ShadeEncoder(), read_entries(tmp_path / "images"), output, overwrite=True)
    # A damaged one is.
    (output / "index.sqlite").write_bytes(b"not a database at all, whatever")
    build_index(ShadeEncoder(), read_entries(tmp_path / "images"), output, overwrite=True)
    assert len(Index(output)) == 4


def test_a_reader_takes_up_a_folder_that_was_replaced(tmp_path: Path) -> None:
    """Filters of the old one are not asked of the new one's record, nor the other way round."""
    for name, private in (("old", 0), ("new", 1)):
        create_index(tmp_path / name, SPACE)
        items = [Item(f"{name}{n}", "", {"private": (n + private) % 2}) for n in range(8)]
        with IndexWriter(tmp_path / name) as writer:
            writer.add(unit_vectors(8, seed=private), items, ENCODER)
    index = Index(tmp_path / "old")
    shutil.move(tmp_path / "old", tmp_path / "gone")
    shutil.move(tmp_path / "new", tmp_path / "old")
    query = unit_vectors(1, seed=5)
    (hits,) = index.search(query, 8, where="private = 0")
    assert {hit.item.id for hit in hits} == {"old0", "old2", "old4", "old6"}
    assert index.refresh() and not index.refresh()
    (hits,) = index.search(query, 8, where="private = 0")
    assert {hit.item.id for hit in hits} == {"new1", "new3", "new5", "new7"}


def test_what_was_swapped_out_is_no_unfinished_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a", 5)
    draw(tmp_path / "b", 3, first=50)
    output = tmp_path / "index"

    def entries(name: str) -> dict[str, object]:
        return {"entries": read_entries(tmp_path / name), "source": name}

    build_index(ShadeEncoder(), output=output, **entries("a"))  # type: ignore[arg-type]

    class Killed(BaseException):
        pass

    def swap_and_die(scratch: Path, path: Path) -> None:
        put_folder(scratch, path)
        raise Killed

    put_folder = build.put_folder
    monkeypatch.setattr(build, "put_folder", swap_and_die)
    with pytest.raises(Killed):
        build_index(ShadeEncoder(), output=output, overwrite=True, **entries("a"))  # type: ignore[arg-type]
    monkeypatch.undo()
    assert name_building(output).exists() and len(Index(output)) == 5
    built = build_index(ShadeEncoder(), output=output, overwrite=True, **entries("b"))  # type: ignore[arg-type]
    assert built.items == len(Index(output)) == 3 and verify(output) == []


def test_a_build_goes_on_from_the_same_source_only(tmp_path: Path) -> None:
    draw(tmp_path / "images", 9)
    encoder = ShadeEncoder(stop_after=4)
    with pytest.raises(Stopped):
        build_index(encoder, read_entries(tmp_path / "images"), tmp_path / "i", source="a")
    with pytest.raises(PocketlensError, match=r"encoder, dimension or source \(a\)"):
        build_index(ShadeEncoder(), read_entries(tmp_path / "images"), tmp_path / "i", source="b")
    # A file that has changed since is encoded again.
    os.utime(tmp_path / "images" / "000.png", ns=(1, 1))
    built = build_index(
        ShadeEncoder(), read_entries(tmp_path / "images"), tmp_path / "i", source="a"
    )
    assert built.items == 9 and built.encoded >= 6


@pytest.mark.parametrize("spec", ["IVF64,SQfp16", "HNSW16,SQfp16", "IVF64,SQ8"])
def test_a_filter_of_what_lies_far_from_the_query_finds_it(
    tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server_index import snapshot

    monkeypatch.setattr(snapshot, "_SCORED_ALL", 50)
    generator = np.random.default_rng(0)
    centres = unit_vectors(40, seed=1)
    vectors = centres[np.arange(4000) % 40] + 0.15 * generator.normal(size=(4000, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    create_index(tmp_path, SPACE)
    items = [Item(str(n), "", {"group": n % 40}) for n in range(4000)]
    with IndexWriter(tmp_path) as writer:
        writer.add_segment(vectors, items, ENCODER)
        writer.compact(Kind(spec), SearchEffort(probes=2, graph_candidates=32))
    index = Index(tmp_path)
    for query in unit_vectors(20, seed=9):
        (hits,) = index.search(query[None], 10, where="group in (3, 7)")
        rows = np.flatnonzero(np.isin(np.arange(4000) % 40, (3, 7)))
        best = {str(row) for row in rows[np.argsort(-(vectors[rows] @ query))[:10]]}
        assert len(hits) == 10 and len(best & {hit.item.id for hit in hits}) >= 8


def test_a_new_kind_is_searched_thoroughly_until_it_is_tuned(tmp_path: Path) -> None:
    vectors = unit_vectors(2000)
    make_index(tmp_path, vectors).close()
    with IndexWriter(tmp_path) as writer:
        writer.compact(Kind("IVF32,SQ8"))
    index = Index(tmp_path)
    queries = unit_vectors(50, seed=4)
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = index.find(queries, 10).keys
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found, exact, strict=True)]) > 9.9


def test_copies_in_segments_and_recent_additions_are_ordered_by_age(tmp_path: Path) -> None:
    vectors = unit_vectors(300)
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as writer:
        for copy in range(3):
            writer.add(vectors, name_items([f"{copy}-{n}" for n in range(300)]), ENCODER)
            if copy == 0:
                writer.compact(Kind("Flat"))
            if copy == 1:
                writer.seal()
    index = Index(tmp_path)
    for batch in (1, 100):
        for first in range(0, 300, batch):
            for n, hits in enumerate(index.search(vectors[first : first + batch], 3), first):
                assert [hit.item.id for hit in hits] == [f"{copy}-{n}" for copy in range(3)]


def test_long_lists_in_filters_are_one_look(tmp_path: Path) -> None:
    values = ",".join(str(n) for n in range(998))
    found = parse_filter(f"a in ({values})")
    assert found.condition.count("json_extract") == 1 and len(found.values) == 1000
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as writer:
        items = [Item(str(n), "", {"a": n * 100}) for n in range(50)]
        writer.add(unit_vectors(50), items, ENCODER)
    (hits,) = Index(tmp_path).search(unit_vectors(1), 50, where=f"a in ({values}, 'x', true)")
    assert sorted(int(hit.item.id) for hit in hits) == list(range(10))
    with pytest.raises(PocketlensError, match="filter: "):
        parse_filter("a = " + "1" * 5000)


def test_a_filter_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as writer:
        items = [Item(str(n), "", {"text": "x" * 50}) for n in range(9000)]
        writer.add_segment(unit_vectors(9000), items, ENCODER)
    index = Index(tmp_path, filter_seconds=0.0)
    with pytest.raises(PocketlensError, match="filter: took longer than 0 s"):
        index.search(unit_vectors(1), 1, where=" or ".join(f"text = '{n}'" for n in range(90)))
    assert len(index.search(unit_vectors(1), 1)[0]) == 1


def test_readers_never_miss_an_item_that_is_replaced(tmp_path: Path) -> None:
    vectors = unit_vectors(40)
    make_index(tmp_path, vectors).close()
    stop, missed, looked = threading.Event(), list[int](), [0]

    def read() -> None:
        with Index(tmp_path) as index:
            while not stop.is_set():
                index.refresh()
                looked[0] += 1
                if len(index) != 40:
                    missed.append(len(index))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with IndexWriter(tmp_path) as writer:
        for step in range(120):
            ids = [str(n) for n in range(step % 3, 40, 3)]
            writer.add(vectors[: len(ids)], name_items(ids), ENCODER, replace=True)
            if step % 4 == 0:
                writer.compact() if step % 8 else writer.seal()
    stop.set()
    for reader in readers:
        reader.join()
    assert not missed and looked[0] > 20


def test_columns_may_have_any_name_and_files_too(tmp_path: Path) -> None:
    draw(tmp_path / "images", 1)
    table = tmp_path / "images" / "table.csv"
    table.write_text("path,name,root,row,metadata\n000.png,a,b,c,d\n")
    (entry,) = read_entries(table)
    assert entry.item.metadata == {"name": "a", "root": "b", "row": "c", "metadata": "d"}
    table.unlink()
    shutil.copy(tmp_path / "images" / "000.png", os.fsencode(tmp_path / "images") + b"/\xff.png")
    built = build_index(ShadeEncoder(), read_entries(tmp_path / "images"), tmp_path / "index")
    assert built.items == 1 and "not valid text" in built.set_aside[0]
    listed = tmp_path / "list.txt"
    listed.write_text("images/000.png\nimages/\0.png\n")
    built = build_index(ShadeEncoder(), read_entries(listed), tmp_path / "listed")
    assert built.items == 1 and len(built.set_aside) == 1


def test_a_prefix_is_exported_and_imported_as_one(tmp_path: Path) -> None:
    create_index(tmp_path / "a", SPACE, dim=8)
    with IndexWriter(tmp_path / "a") as writer:
        writer.add(unit_vectors(3, dim=8), name_items(list("abc")), ENCODER)
    export_parquet(Index(tmp_path / "a"), tmp_path / "out.parquet", lambda count: None)
    space, dim = read_parquet_space(tmp_path / "out.parquet")
    assert space == SPACE and dim == 8
    create_index(tmp_path / "b", space, dim=dim)
    with IndexWriter(tmp_path / "b") as writer:
        file = tmp_path / "out.parquet"
        assert import_parquet(writer, file, replace=False, advance=lambda count: None) == 3


def test_a_segment_that_cannot_be_written_leaves_the_additions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from server_index import segment, writer

    monkeypatch.setattr(writer, "SEAL_AT", 4)
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as opened:

        def refuse(path: Path) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(segment, "read_file_facts", refuse)
        opened.add(unit_vectors(5), name_items(list("abcde")), ENCODER)
        assert len(Index(tmp_path)) == 5 and not list((tmp_path / "segments").iterdir())
        monkeypatch.undo()
        opened.seal()
    assert verify(tmp_path) == [] and len(Index(tmp_path)) == 5
