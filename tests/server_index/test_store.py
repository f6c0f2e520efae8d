import sqlite3
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import PocketlensError
from encoder.space import mint_space
from server_index.store import Index, IndexWriter, Item

SPACE = mint_space("teacher", 8, "some tensors")


def unit_vectors(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(folder: Path, vectors: np.ndarray, ids: list[str]) -> Index:
    folder.mkdir(exist_ok=True)
    writer = IndexWriter(folder, SPACE, "0123456789abcdef")
    half = len(ids) // 2
    for part in (slice(0, half), slice(half, None)):
        writer.add(vectors[part], [Item(name, f"/images/{name}", "class") for name in ids[part]])
    writer.close()
    return Index.open(folder)


def test_answers_equal_a_plain_ranking(tmp_path: Path) -> None:
    vectors = unit_vectors(50)
    ids = [f"földer/näme {n}.jpg" for n in range(50)]
    index = write(tmp_path / "index", vectors, ids)
    assert len(index) == 50 and index.space == SPACE
    queries = unit_vectors(4, seed=1)
    for query, hits in zip(queries, index.search(queries, 10), strict=True):
        order = np.argsort(-(vectors @ query))[:10]
        assert [hit.item.id for hit in hits] == [ids[row] for row in order]
        assert [hit.score for hit in hits] == pytest.approx((vectors @ query)[order], abs=1e-6)
        assert hits[0].item.path == f"/images/{hits[0].item.id}"


def test_the_segment_opens_with_plain_faiss(tmp_path: Path) -> None:
    vectors = unit_vectors(5)
    write(tmp_path / "index", vectors, list("abcde"))
    plain = faiss.read_index(str(tmp_path / "index" / "segments" / "0001" / "index.faiss"))
    np.testing.assert_array_equal(plain.reconstruct_n(0, 5), vectors)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 12), k=st.integers(1, 30))
def test_more_answers_than_items_gives_all(
    tmp_path_factory: pytest.TempPathFactory, count: int, k: int
) -> None:
    index = write(tmp_path_factory.mktemp("i"), unit_vectors(count), [str(n) for n in range(count)])
    (hits,) = index.search(unit_vectors(1, seed=2), k)
    assert len(hits) == min(count, k)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, 8), np.float32),
        np.ones((1, 8), np.float32),
        np.full((1, 8), np.nan, np.float32),
    ],
)
def test_vectors_that_are_not_unit_are_refused(tmp_path: Path, bad: np.ndarray) -> None:
    index = write(tmp_path / "index", unit_vectors(3), list("abc"))
    with pytest.raises(PocketlensError, match="unit length"):
        index.search(bad, 1)
    with pytest.raises(PocketlensError, match=r"\[n, 8\]"):
        index.search(unit_vectors(1)[:, :4], 1)


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    writer = IndexWriter(tmp_path, SPACE, "0" * 16)
    with pytest.raises(PocketlensError, match="twice"):
        writer.add(unit_vectors(2), [Item("same", "a"), Item("same", "b")])


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(PocketlensError, match="not an index folder"):
        Index.open(tmp_path)
    folder = tmp_path / "index"
    write(folder, unit_vectors(3), list("abc"))
    segment = folder / "segments" / "0001" / "index.faiss"
    data = segment.read_bytes()
    segment.write_bytes(data[:-4])
    with pytest.raises(PocketlensError, match=r"index\.faiss: missing or cut short"):
        Index.open(folder)
    segment.write_bytes(b"JUNK" + data[4:])
    with pytest.raises(PocketlensError, match="FAISS cannot read"):
        Index.open(folder)
    segment.write_bytes(data)
    record = sqlite3.connect(folder / "index.sqlite")
    record.execute("""UPDATE meta SET value = '{"format": 2}'""")
    record.commit()
    record.close()
    with pytest.raises(PocketlensError, match="format 2"):
        Index.open(folder)
    (folder / "index.sqlite").write_bytes(b"not a database at all, whatever")
    with pytest.raises(PocketlensError, match="damaged"):
        Index.open(folder)
