"""A folder of format 1, as it was first written, is read by every later version.

`python tests/server_index/test_golden.py` wrote it; a change of format adds another beside it.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "format-1"
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from index_folders import ENCODER, SPACE, name_items, unit_vectors  # noqa: E402

from server_index.faiss_index import Kind, SearchEffort  # noqa: E402
from server_index.index import Index  # noqa: E402
from server_index.items import Item  # noqa: E402
from server_index.verify import verify  # noqa: E402
from server_index.writer import IndexWriter, create_index  # noqa: E402


def write_golden(folder: Path) -> None:
    """Write an index with all that a folder may hold, and what three queries find in it."""
    shutil.rmtree(folder, ignore_errors=True)
    create_index(folder / "index", SPACE)
    with IndexWriter(folder / "index") as writer:
        items = [Item(f"a{n}", f"/images/ä{n}.jpg", {"price": n / 2}, 9, 7) for n in range(80)]
        writer.add(unit_vectors(80), items, ENCODER)
        writer.compact(Kind("IVF2,SQ8"), SearchEffort(probes=2, rescore=4))
        writer.add(unit_vectors(9, seed=1), name_items([f"b{n}" for n in range(9)]), "f" * 16)
        writer.seal()
        writer.delete(["a3", "b1"])
        writer.set_aside(["/images/broken.jpg: empty file"])
        writer.add(unit_vectors(2, seed=2), name_items(["c0", "ç/1"]), ENCODER)
        writer.delete(["c0"])
    found = [
        [[hit.item.id, round(hit.score, 4)] for hit in hits]
        for hits in Index(folder / "index").search(unit_vectors(3, seed=3), 5)
    ]
    (folder / "answers.json").write_text(json.dumps(found, ensure_ascii=False) + "\n")


def test_an_index_of_format_1_is_read_and_changed(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(GOLDEN / "index", folder)
    assert verify(folder) == []
    index = Index(folder)
    assert len(index) == 88 and index.space == SPACE
    answers = json.loads((GOLDEN / "answers.json").read_text("utf-8"))
    for hits, wanted in zip(index.search(unit_vectors(3, seed=3), 5), answers, strict=True):
        assert [hit.item.id for hit in hits] == [name for name, _ in wanted]
        np.testing.assert_allclose([hit.score for hit in hits], [s for _, s in wanted], atol=2e-4)
    (hits,) = index.search(unit_vectors(80)[7:8], 1, where="price = 3.5")
    assert hits[0].item == Item("a7", "/images/ä7.jpg", {"price": 3.5}, 9, 7)
    with IndexWriter(folder) as writer:
        writer.add(unit_vectors(1, seed=5), name_items(["new"]), ENCODER)
        writer.seal()
        writer.compact()
    assert verify(folder) == [] and len(Index(folder)) == 89


if __name__ == "__main__":
    write_golden(GOLDEN)
