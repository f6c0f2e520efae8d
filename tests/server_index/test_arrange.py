import re
from pathlib import Path

import numpy as np
import pytest
from index_folders import ENCODER, SPACE, make_index, name_items, unit_vectors

from encoder.errors import PocketlensError
from encoder.evaluation.index_recall import measure_index_recall
from server_index.arrange import arrange, retune
from server_index.choose import (
    Targets,
    choose_fitting,
    estimate_bytes,
    list_candidates,
    read_bytes,
)
from server_index.faiss_index import Kind, SearchEffort
from server_index.index import Index
from server_index.writer import IndexWriter, create_index


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as writer:
        writer.add_segment(unit_vectors(3000), name_items([str(n) for n in range(3000)]), ENCODER)
    return tmp_path


def test_amounts_of_memory() -> None:
    assert read_bytes("4G") == 4 * 10**9 and read_bytes("1.5 gb") == 1.5e9
    assert read_bytes("500M") == 5e8 and read_bytes("12") == 12
    for text in ("", "G", "4 apples", "-1M"):
        with pytest.raises(PocketlensError, match="not an amount of memory"):
            read_bytes(text)


def test_few_vectors_are_compared_with_all_and_memory_decides_the_rest() -> None:
    assert choose_fitting(50_000, 512, Targets())[0].kind.spec == "Flat"
    many = list_candidates(1_000_000, 256)
    assert many[0].kind.spec == "IVF4096,SQfp16"
    sizes = [each.bytes_held for each in many]
    assert sizes == sorted(sizes, reverse=True)
    for most in (300e6, 150e6, 60e6):
        assert choose_fitting(1_000_000, 256, Targets(max_memory=int(most)))[0].bytes_held <= most
    with pytest.raises(PocketlensError, match=r"need at least .* \(BFlat\)"):
        choose_fitting(1_000_000, 256, Targets(max_memory=1_000_000))


@pytest.mark.parametrize(
    "spec", ["Flat", "SQfp16", "IVF16,SQ8", "IVF16,PQ8x4fs", "HNSW16", "BFlat"]
)
def test_what_is_held_is_estimated_well(filled: Path, spec: str) -> None:
    with IndexWriter(filled) as writer:
        writer.compact(Kind(spec))
    size = sum(file.stat().st_size for file in filled.glob("segments/*/index.faiss"))
    # Keys, and what tells which rows live, are held beside FAISS.
    estimate = estimate_bytes(Kind(spec), 3000, 16) - 9 * 3000
    assert 0.75 * size <= estimate <= 1.25 * size


@pytest.mark.parametrize("spec", ["Flat", "IVF16,SQ8", "IVF16,RaBitQ", "HNSW8", "BFlat"])
def test_the_effort_is_the_least_that_finds_enough(filled: Path, spec: str) -> None:
    with IndexWriter(filled) as writer:
        lines = list(arrange(writer, Targets(min_recall=0.9), Kind(spec)))
    assert spec in lines[0] and len(lines) == 1
    index = Index(filled)
    queries = unit_vectors(300, seed=7)
    recall = measure_index_recall(queries, unit_vectors(3000), index.find(queries, 10).keys)
    assert recall.mean() > 0.83
    effort = index.snapshot.effort
    if spec == "IVF16,SQ8":
        assert 1 < effort.probes < 16
    if spec == "BFlat":
        assert effort.rescore > 1


def test_targets_choose_the_first_kind_that_meets_them(filled: Path) -> None:
    held = estimate_bytes(Kind("SQfp16"), 3000, 16)
    with IndexWriter(filled) as writer:
        lines = list(arrange(writer, Targets(max_memory=held)))
        assert lines[0].startswith("SQfp16: compares with every vector")
        assert "finds 1.000" in lines[0] and "smaller, if memory is short" in lines[-1]
        named = set(re.findall(r"([^ ]+) \(", lines[-1].partition("): ")[2]))
        smaller = {spec for spec in named if estimate_bytes(Kind(spec), 3000, 16) < held}
        assert named == smaller and named
        assert writer.state.kind == Kind("SQfp16")
        # No kind is so fast: the one that finds most stays, and it is said.
        lines = list(arrange(writer, Targets(max_memory=held, max_ms=1e-6)))
        assert "none meets the targets" in lines[-1]
    (hits,) = Index(filled).search(unit_vectors(1), 1)
    assert hits[0].item.id == "0"
    for bad in ({"min_recall": 0}, {"min_recall": 1.1}, {"max_memory": 0}, {"max_ms": -1}):
        with pytest.raises(PocketlensError, match="--m"):
            Targets(**bad)  # type: ignore[arg-type]


def test_deleted_vectors_are_neither_asked_nor_wanted(filled: Path) -> None:
    with IndexWriter(filled) as writer:
        writer.delete([str(n) for n in range(0, 3000, 2)])
        (line,) = arrange(writer, Targets(), Kind("Flat"))
    assert "finds 1.000" in line and np.isclose(len(Index(filled)), 1500)


def test_an_index_is_tuned_as_the_kind_that_it_is(tmp_path: Path) -> None:
    vectors = unit_vectors(600)
    make_index(tmp_path, vectors).close()
    with IndexWriter(tmp_path) as writer:
        assert list(retune(writer, Targets())) == []
        writer.compact(Kind("IVF4,SQ8"), SearchEffort(probes=1))
        (line,) = retune(writer, Targets(min_recall=0.99))
        assert line.startswith("IVF4,SQ8: as it was") and writer.state.effort.probes == 4
