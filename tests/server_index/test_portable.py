import json
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from index_folders import DIM, ENCODER, SPACE, unit_vectors
from pyarrow.parquet import read_table, write_table

from encoder.errors import PocketlensError
from encoder.space import mint_space
from server_index.index import Index
from server_index.items import Item
from server_index.portable import export_numpy, export_parquet, import_parquet, merge_index
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index


def ignore(count: int) -> None:
    pass


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Ten items of two encoders in a segment and the record, two of which were deleted."""
    folder = tmp_path / "index"
    create_index(folder, SPACE)
    items = [Item(f"ä/{n}", f"/p/{n}", {"price": n, "name": "ö"}) for n in range(10)]
    with IndexWriter(folder) as writer:
        writer.add(unit_vectors(10)[:6], items[:6], ENCODER)
        writer.seal()
        writer.add(unit_vectors(10)[6:], items[6:], "f" * 16)
        writer.delete(["ä/1", "ä/8"])
    return Index(folder)


LEFT = [0, 2, 3, 4, 5, 6, 7, 9]


def test_parquet_holds_vectors_ids_metadata_and_the_space(index: Index, tmp_path: Path) -> None:
    export_parquet(index, tmp_path / "out.parquet", ignore)
    table = read_table(tmp_path / "out.parquet")
    assert table["id"].to_pylist() == [f"ä/{n}" for n in LEFT]
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist()), unit_vectors(10)[LEFT])
    assert json.loads(table["metadata"][1].as_py()) == {"price": 2, "name": "ö"}
    assert set(table["encoder"].to_pylist()) == {ENCODER, "f" * 16}
    assert json.loads(table.schema.metadata[b"pocketlens.space"]) == SPACE.to_json()


def test_numpy_files_hold_the_same(index: Index, tmp_path: Path) -> None:
    export_numpy(index, tmp_path / "out.npy", ignore)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), unit_vectors(10)[LEFT])
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == [f"ä/{n}" for n in LEFT]
    assert lines[5] == {"id": "ä/6", "path": "/p/6", "encoder": "f" * 16,
                        "metadata": {"price": 6, "name": "ö"}}  # fmt: skip


def test_what_was_exported_or_merged_is_the_same_index(index: Index, tmp_path: Path) -> None:
    export_parquet(index, tmp_path / "out.parquet", ignore)
    for name in ("imported", "merged"):
        create_index(tmp_path / name, SPACE)
        with IndexWriter(tmp_path / name) as writer:
            if name == "merged":
                assert merge_index(writer, index, replace=False, advance=ignore) == 8
            else:
                file = tmp_path / "out.parquet"
                assert import_parquet(writer, file, replace=False, advance=ignore) == 8
            with pytest.raises(PocketlensError, match="is in the index already"):
                merge_index(writer, index, replace=False, advance=ignore)
            merge_index(writer, index, replace=True, advance=ignore)
        assert verify(tmp_path / name) == []
        again = Index(tmp_path / name)
        queries = unit_vectors(4, seed=4)
        for hits, wanted in zip(again.search(queries, 8), index.search(queries, 8), strict=True):
            assert [hit.item for hit in hits] == [hit.item for hit in wanted]
            assert [hit.score for hit in hits] == pytest.approx(
                [hit.score for hit in wanted], abs=1e-6
            )
        assert set(again.encoders([0, 7]).values()) <= {ENCODER, "f" * 16}


def test_what_is_not_of_the_space_or_no_vectors_is_named(index: Index, tmp_path: Path) -> None:
    create_index(tmp_path / "other", mint_space("teacher", DIM, "else"))
    create_index(tmp_path / "short", SPACE, dim=8)
    export_parquet(index, tmp_path / "out.parquet", ignore)
    with IndexWriter(tmp_path / "other") as writer:
        with pytest.raises(PocketlensError, match="but the database is in space"):
            merge_index(writer, index, replace=False, advance=ignore)
        with pytest.raises(PocketlensError, match="but the database is in space"):
            import_parquet(writer, tmp_path / "out.parquet", replace=False, advance=ignore)
        cases = [
            ({"vector": [[1.0]]}, "has no column id"),
            ({"id": ["a"]}, "has no column vector"),
            ({"id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, "equally many numbers"),
            ({"id": ["a"], "vector": ["x"]}, "equally many numbers"),
            ({"id": ["a"], "vector": [[1.0] * DIM]}, "unit length"),
            ({"id": ["a"], "vector": [[1.0] * 3]}, r"\[n, 16\]"),
            ({"id": ["a"], "vector": [[1.0]], "metadata": ["["]}, "must hold JSON objects"),
            ({"id": ["a"] * 2, "vector": unit_vectors(2).tolist()}, "comes twice"),
        ]
        for number, (columns, message) in enumerate(cases):
            file = tmp_path / f"{number}.parquet"
            write_table(pyarrow.table(columns), file)
            with pytest.raises(PocketlensError, match=message):
                import_parquet(writer, file, replace=False, advance=ignore)
        with pytest.raises(PocketlensError, match="not readable as Parquet"):
            import_parquet(writer, index.folder / "index.sqlite", replace=False, advance=ignore)
    with (
        IndexWriter(tmp_path / "short") as writer,
        pytest.raises(PocketlensError, match="keeps 16 dimensions, not 8"),
    ):
        merge_index(writer, index, replace=False, advance=ignore)
