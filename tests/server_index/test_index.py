import threading
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from index_folders import DIM, ENCODER, SPACE, make_index, name_items, rank, unit_vectors

from encoder.errors import PocketlensError
from server_index import segment_making
from server_index import writer as writing
from server_index.faiss_index import Kind, SearchEffort
from server_index.index import Index
from server_index.items import Item
from server_index.snapshot import Part, Snapshot
from server_index.verify import verify
from server_index.writer import IndexWriter, create_index

KINDS = [
    "Flat",
    "SQfp16",
    "SQ8",
    "IVF1,PQ8",
    "RaBitQ",
    "IVF4,Flat",
    "IVF4,SQ8",
    "IVF4,PQ8x4fs",
    "IVF4,RaBitQ",
    "HNSW8",
    "HNSW8,SQfp16",
    "HNSW8,SQ8",
    "BFlat",
    "BHNSW8",
]
THOROUGH = SearchEffort(probes=4, graph_candidates=400, rescore=40)


def ids_of(index: Index, query: np.ndarray, count: int, **options: object) -> list[str]:
    return [hit.item.id for hit in index.search(query[None], count, **options)[0]]  # type: ignore[arg-type]


def test_answers_equal_a_plain_ranking(tmp_path: Path) -> None:
    vectors = unit_vectors(50)
    ids = [f"földer/näme {n}.jpg" for n in range(50)]
    index = make_index(tmp_path / "index", vectors, ids)
    assert len(index) == 50 and index.space == SPACE
    queries = unit_vectors(4, seed=1)
    for query, hits in zip(queries, index.search(queries, 10), strict=True):
        assert [hit.item.id for hit in hits] == rank(vectors, ids, query, 10)
        scores = np.sort(vectors @ query)[::-1][:10]
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-6)
        assert hits[0].item.path == f"/images/{hits[0].item.id}"
    assert verify(tmp_path / "index") == []


def test_scores_that_are_a_rounding_apart_are_found() -> None:
    """Tied by one way to compare floats, not by another."""
    for tenth in np.linspace(0.5, 0.99, 5000, dtype=np.float32):
        eleventh = tenth - np.float32(1e-6)
        if np.abs(eleventh - tenth) > 1e-6:
            break
    else:
        raise AssertionError("no such scores")
    scores = np.array([0.999] * 9 + [tenth, eleventh] + [0.1] * 9, np.float32)
    vectors = np.stack([scores, np.sqrt(1 - scores**2)], axis=1)
    part = Part(None, np.arange(20), vectors, [str(n) for n in range(20)])
    snapshot = Snapshot(1, 20, 2, SearchEffort(), (part,))
    found = snapshot.search(np.array([[1, 0]], np.float32), 10)
    assert found.keys.tolist() == [list(range(10))]


def test_of_sign_codes_those_that_fit_the_query_best_are_scored_again(tmp_path: Path) -> None:
    # Of a few large components each, which signs tell little of.
    vectors = unit_vectors(80, seed=4) ** 3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [str(n) for n in range(80)]
    make_index(tmp_path, vectors, ids).close()
    with IndexWriter(tmp_path) as writer:
        # Four times as many are found by their bits: all there are.
        writer.compact(Kind("BFlat"), SearchEffort(rescore=10))
        # What is deleted is no candidate.
        writer.delete(["0", "1"])
    index, differ = Index(tmp_path), 0
    for query in unit_vectors(40, seed=5):
        fits = np.where(vectors > 0, 1, -1) @ query
        fits[:2] = -np.inf
        best = np.argsort(-fits)[:20]
        wanted = best[np.argsort(-(vectors[best] @ query))[:2]]
        assert ids_of(index, query, 2) == [ids[row] for row in wanted]
        differ += ids_of(index, query, 2) != rank(vectors[2:], ids[2:], query, 2)
    # Not all that is near is among them.
    assert differ


@pytest.mark.parametrize("spec", KINDS)
def test_every_kind_answers_searches_deletes_and_compacts(tmp_path: Path, spec: str) -> None:
    vectors = unit_vectors(400)
    ids = [str(n) for n in range(400)]
    make_index(tmp_path, vectors, ids).close()
    with IndexWriter(tmp_path) as writer:
        writer.compact(Kind(spec), THOROUGH)
        # Below and above the number that is dropped without a selector.
        writer.delete(ids[:20])
        few = Index(tmp_path)
        writer.delete(ids[20:200])
    many = Index(tmp_path)
    rounding = 1e-6 if spec in ("Flat", "HNSW8") else 1e-3
    for index, first in ((few, 20), (many, 200)):
        for query in unit_vectors(5, seed=3):
            (hits,) = index.search(query[None], 10)
            assert all(int(hit.item.id) >= first for hit in hits)
            for hit in hits:
                assert hit.score == pytest.approx(vectors[int(hit.item.id)] @ query, abs=rounding)
            found = {hit.item.id for hit in hits}
            wanted = set(rank(vectors[first:], ids[first:], query, 10))
            assert len(found & wanted) >= 9
    with IndexWriter(tmp_path) as writer:
        writer.compact()
        writer.add(unit_vectors(60, seed=9), name_items([f"new{n}" for n in range(60)]), ENCODER)
        writer.seal()
    again = Index(tmp_path)
    assert len(again) == 260 and ids_of(again, unit_vectors(60, seed=9)[7], 1) == ["new7"]
    assert verify(tmp_path) == []


def test_a_segment_opens_with_plain_faiss(tmp_path: Path) -> None:
    vectors = unit_vectors(300)
    make_index(tmp_path, vectors)
    with IndexWriter(tmp_path) as writer:
        writer.compact(Kind("IVF4,Flat"))
    (file,) = tmp_path.glob("segments/*/index.faiss")
    plain = faiss.read_index(str(file))
    plain.nprobe = 4
    assert plain.search(vectors[:5], 1)[1].ravel().tolist() == [0, 1, 2, 3, 4]


def test_many_are_added_as_a_segment_of_their_own(tmp_path: Path) -> None:
    vectors = unit_vectors(40)
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as writer:
        writer.add_segment(vectors, name_items([str(n) for n in range(40)]), ENCODER)
        with pytest.raises(PocketlensError, match="'7' is in the index already"):
            writer.add_segment(vectors[:2], name_items(["new", "7"]), ENCODER)
        assert len(writer) == 40
    assert ids_of(Index(tmp_path), vectors[11], 1) == ["11"]
    assert verify(tmp_path) == []


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 12), k=st.integers(1, 30))
def test_more_answers_than_items_gives_all(
    tmp_path_factory: pytest.TempPathFactory, count: int, k: int
) -> None:
    index = make_index(tmp_path_factory.mktemp("i"), unit_vectors(count))
    (hits,) = index.search(unit_vectors(1, seed=2), k)
    assert len(hits) == min(count, k)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_an_empty_index_answers_nothing(tmp_path: Path) -> None:
    create_index(tmp_path, SPACE)
    index = Index(tmp_path)
    assert len(index) == 0 and index.search(unit_vectors(2), 5) == [[], []]
    with IndexWriter(tmp_path) as writer:
        writer.seal()
        writer.compact()
        assert writer.delete(["none"]) == 0
    assert verify(tmp_path) == []


@pytest.mark.parametrize("copies", [7, 700])
def test_equal_scores_are_ordered_by_age_wherever_they_lie(tmp_path: Path, copies: int) -> None:
    """Copies of one picture are common: the oldest come first, in every layout of the folder."""
    vectors = np.concatenate([np.repeat(unit_vectors(1), copies, axis=0), unit_vectors(50, seed=1)])
    ids = [f"copy{n:03d}" for n in range(copies)] + [f"other{n}" for n in range(50)]
    wanted = [f"copy{n:03d}" for n in range(3)]
    layouts = {"recent": [], "sealed": ["seal"], "parts": ["seal"], "compact": ["compact"]}
    for name, calls in layouts.items():
        create_index(tmp_path / name, SPACE)
        with IndexWriter(tmp_path / name) as writer:
            for start in range(0, len(ids), 37):
                some = slice(start, start + 37)
                writer.add(vectors[some], name_items(ids[some]), ENCODER)
                if name == "parts" and start < 100:
                    writer.seal()
            for call in calls:
                getattr(writer, call)()
        for batch in (1, 30):
            for hits in Index(tmp_path / name).search(vectors[:1].repeat(batch, axis=0), 3):
                assert [hit.item.id for hit in hits] == wanted, (name, batch)


class AnyOrder(RuleBasedStateMachine):
    """Whatever is done in whatever order, a search answers as a plain list would."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, np.ndarray] = {}
        self.steps = 0
        self.place = self.folder / str(len(list(self.folder.iterdir())))
        create_index(self.place, SPACE)
        self.writer = IndexWriter(self.place)
        self.reader = Index(self.place)

    def teardown(self) -> None:
        self.writer.close()
        assert verify(self.place) == []

    @rule(ids=st.sets(st.sampled_from("abcdefghij"), min_size=1))
    def add_or_replace(self, ids: set[str]) -> None:
        self.steps += 1
        names = sorted(ids)
        vectors = unit_vectors(len(names), seed=self.steps)
        self.writer.add(vectors, name_items(names), ENCODER, replace=True)
        for name, vector in zip(names, vectors, strict=True):
            self.model.pop(name, None)
            self.model[name] = vector

    @rule(ids=st.sets(st.sampled_from("abcdefghijk")))
    def delete(self, ids: set[str]) -> None:
        assert self.writer.delete(sorted(ids)) == len(ids & set(self.model))
        for name in ids:
            self.model.pop(name, None)

    @rule()
    def seal(self) -> None:
        self.writer.seal()

    @rule(spec=st.sampled_from(["Flat", "HNSW8", "BFlat"]))
    def compact(self, spec: str) -> None:
        self.writer.compact(Kind(spec), THOROUGH)

    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self.writer = IndexWriter(self.place)

    @invariant()
    def answers_are_those_of_a_list(self) -> None:
        self.reader.refresh()
        assert len(self.reader) == len(self.model) == len(self.writer)
        (query,) = unit_vectors(1, seed=999)
        for index in (self.reader, Index(self.place)):
            found = index.search(query[None], 5)[0]
            vectors = np.array([*self.model.values()]).reshape(-1, DIM)
            assert [hit.item.id for hit in found] == rank(vectors, [*self.model], query, 5)
        index.close()


def test_any_order_of_changes(tmp_path: Path) -> None:
    AnyOrder.folder = tmp_path
    run_state_machine_as_test(
        AnyOrder, settings=settings(max_examples=25, stateful_step_count=20, deadline=None)
    )


def test_a_reader_stays_in_its_generation_until_it_is_told(tmp_path: Path) -> None:
    vectors = unit_vectors(6)
    index = make_index(tmp_path, vectors)
    assert not index.refresh()
    with IndexWriter(tmp_path) as writer:
        writer.delete(["0"])
        writer.compact(Kind("HNSW8"))
        writer.add(unit_vectors(1, seed=5), name_items(["new"]), ENCODER)
        assert ids_of(index, vectors[0], 1) == ["0"]
        assert index.refresh() and not index.refresh()
    assert ids_of(index, vectors[0], 1) != ["0"]
    assert ids_of(index, unit_vectors(1, seed=5)[0], 1) == ["new"]


def test_reading_while_another_writes_and_compacts(tmp_path: Path) -> None:
    vectors = unit_vectors(400)
    index = make_index(tmp_path, vectors[:1], ["0"])
    stop, failures, generations = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                index.refresh()
                snapshot = index.snapshot
                (hits,) = index.search(vectors[:1], 3)
                generations.add(snapshot.generation)
                if hits[0].item.id != "0":
                    failures.append(hits)
            except Exception as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    with IndexWriter(tmp_path) as writer:
        for step in range(1, 60):
            writer.add(vectors[step : step + 1], name_items([str(step)]), ENCODER)
            if step % 7 == 0:
                writer.delete([str(step - 3)])
            if step % 5 == 0:
                writer.compact()
    stop.set()
    for reader in readers:
        reader.join()
    assert not failures and len(generations) > 3


def test_small_segments_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SEAL_AT", 4)
    vectors = unit_vectors(60)
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as writer:
        for n in range(60):
            writer.add(vectors[n : n + 1], name_items([str(n)]), ENCODER)
    assert 1 <= len(list((tmp_path / "segments").iterdir())) <= 8
    assert all(ids_of(Index(tmp_path), vectors[n], 1) == [str(n)] for n in range(0, 60, 7))
    assert verify(tmp_path) == []


def test_what_died_is_forgotten_where_nothing_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items come and go for ever: what is recorded of them does not grow with that."""
    monkeypatch.setattr(writing, "SEAL_AT", 10)
    monkeypatch.setattr(writing, "_SMALL", 40)
    vectors = unit_vectors(500)
    create_index(tmp_path, SPACE)
    counts = []
    with IndexWriter(tmp_path) as writer:
        # In a segment too large to be merged in passing: there they stay recorded.
        writer.add_segment(vectors[:50], name_items([f"old {n}" for n in range(50)]), ENCODER)
        writer.delete([f"old {n}" for n in range(20)])
        reader = Index(tmp_path)
        for n in range(50, 500):
            writer.add(vectors[n : n + 1], name_items([str(n)]), ENCODER)
            writer.delete([str(n - 5)])
            if n % 37 == 0:
                reader.refresh()
                assert ids_of(reader, vectors[n - 5], 1) != [str(n - 5)]
                assert ids_of(reader, vectors[3], 1) != ["old 3"]
            counts.append(int(writer.record.select("SELECT count(*) FROM items")[0][0]))
        assert verify(tmp_path) == []
        # 20 dead of the large segment, 35 that live, and what died in the time of two merges.
        assert max(counts[200:]) < 20 + 35 + 2 * 9 * 10
        reader.refresh()
        assert len(reader) == len(writer) == 35
        reader.close()
        writer.compact()
        writer.compact()
        assert writer.record.select("SELECT count(*) FROM items") == [(35,)]


def test_a_reader_that_slept_through_it_does_not_answer_the_forgotten(tmp_path: Path) -> None:
    """Its segments are those of before, and what died in between is recorded nowhere."""
    vectors = unit_vectors(8)
    make_index(tmp_path, vectors)
    with Index(tmp_path) as reader, IndexWriter(tmp_path) as writer:
        assert len(reader) == 8
        writer.delete([str(n) for n in range(8)])
        writer.compact()
        writer.compact()
        assert writer.record.select("SELECT count(*) FROM items") == [(0,)]
        reader.refresh()
        assert len(reader) == 0 and ids_of(reader, vectors[0], 3) == []


def test_a_damaged_segment_keeps_what_died_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SMALL", 19)
    monkeypatch.setattr(writing, "_MOST_SMALL", 0)
    vectors = unit_vectors(40)
    create_index(tmp_path, SPACE)
    with IndexWriter(tmp_path) as writer:
        writer.add_segment(vectors[:20], name_items([str(n) for n in range(20)]), ENCODER)
        (tmp_path / "segments" / "0001" / "keys.npy").write_bytes(b"")
        writer.delete(["3", "5"])
        for n in range(20, 40):
            writer.add(vectors[n : n + 1], name_items([str(n)]), ENCODER)
            writer.delete([str(n)])
            writer.seal()
        assert writer.record.select("SELECT count(*) FROM items") == [(40,)]


def test_flat_segments_are_of_a_size_that_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_making, "_SEGMENT_BYTES", 10 * 4 * DIM)
    vectors = unit_vectors(25)
    make_index(tmp_path, vectors)
    with IndexWriter(tmp_path) as writer:
        writer.compact()
    assert len(list((tmp_path / "segments").iterdir())) == 3
    assert ids_of(Index(tmp_path), vectors[24], 1) == ["24"]


def test_a_prefix_of_the_space_is_an_index_of_fewer_dimensions(tmp_path: Path) -> None:
    vectors = unit_vectors(30)
    prefix = vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1, keepdims=True)
    create_index(tmp_path, SPACE, dim=8)
    with IndexWriter(tmp_path) as writer:
        writer.add(prefix, name_items([str(n) for n in range(30)]), ENCODER)
    index = Index(tmp_path)
    assert ids_of(index, vectors[4], 5) == ids_of(index, prefix[4], 5)
    with pytest.raises(PocketlensError, match=r"\[n, 8\]"):
        index.search(vectors[:, :4], 1)
    with pytest.raises(PocketlensError, match="unit length"):
        index.search(2 * vectors, 1)
    with pytest.raises(PocketlensError, match="16 dimensions"):
        create_index(tmp_path / "b", SPACE, dim=17)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, DIM), np.float32),
        np.ones((1, DIM), np.float32),
        np.full((1, DIM), np.nan, np.float32),
        np.full((1, DIM), np.inf, np.float32),
    ],
)
def test_vectors_that_are_not_unit_are_refused(tmp_path: Path, bad: np.ndarray) -> None:
    index = make_index(tmp_path, unit_vectors(3))
    with pytest.raises(PocketlensError, match="unit length"):
        index.search(bad, 1)
    with pytest.raises(PocketlensError, match=r"\[n, 16\]"):
        index.search(unit_vectors(1)[:, :4], 1)
    with IndexWriter(tmp_path) as writer:
        with pytest.raises(PocketlensError, match="vector 1 has length"):
            writer.add(np.concatenate([unit_vectors(1), bad]), name_items(["x", "y"]), ENCODER)
        assert len(writer) == 3 and writer.state.generation == index.snapshot.generation


def test_bad_items_are_named_and_nothing_is_added(tmp_path: Path) -> None:
    make_index(tmp_path, unit_vectors(3), list("abc"))
    cases = [
        (name_items(["x", "x"]), "'x' comes twice"),
        (name_items(["x", "b"]), "'b' is in the index already"),
        (name_items(["", "x"]), "1 to 1000 characters"),
        (name_items(["x", "y" * 1001]), "1 to 1000 characters"),
        (name_items(["x", "\ud800"]), "not valid text"),
        (name_items(["x"]), "2 vectors came with 1 items"),
        ([Item("x", "", {"price": float("nan")}), Item("y")], "'price' is not finite"),
        ([Item("x", "", {"tags": ["a"]}), Item("y")], "'tags' must be text"),  # type: ignore[dict-item]
        ([Item("x", "", {"n": 2**63}), Item("y")], "64 bits"),
        ([Item("x", "", {"text": "a" * 70_000}), Item("y")], "at most 65536"),
    ]
    with IndexWriter(tmp_path) as writer:
        for items, message in cases:
            with pytest.raises(PocketlensError, match=message):
                writer.add(unit_vectors(2), items, ENCODER)
        assert len(writer) == 3
    assert verify(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["ä/ö/ü", "a\\b", "日本語", "x" * 1000, "../../etc", "'; DROP", " "]
)
def test_any_text_is_an_id(tmp_path: Path, name: str) -> None:
    index = make_index(tmp_path, unit_vectors(2), ["first", name])
    assert ids_of(index, unit_vectors(2)[1], 1) == [name]
    with IndexWriter(tmp_path) as writer:
        writer.compact()
        assert writer.delete([name]) == 1


def test_kinds_that_are_not_offered_are_named(tmp_path: Path) -> None:
    for spec in ("", "flat", "IVF4", "PQ32", "BIVF4", "HNSW1", "BHNSW8,SQ8", "Flat;"):
        with pytest.raises(PocketlensError, match="no index of kind"):
            Kind(spec)
    with pytest.raises(PocketlensError, match="must learn from vectors"):
        create_index(tmp_path, SPACE, kind=Kind("IVF4,Flat"))
    make_index(tmp_path, unit_vectors(10)).close()
    with IndexWriter(tmp_path) as writer:
        with pytest.raises(PocketlensError, match="needs 64 vectors to learn from"):
            writer.compact(Kind("IVF64,Flat"))
        with pytest.raises(PocketlensError, match="kind 'IVF1,PQ5'"):
            writer.compact(Kind("IVF1,PQ5"))
    assert verify(tmp_path) == [] and len(Index(tmp_path)) == 10


def test_all_items_of_a_part_are_asked_for_and_some_of_them_tie(tmp_path: Path) -> None:
    vectors = np.repeat(unit_vectors(6), 3, axis=0)
    make_index(tmp_path, vectors).close()
    with IndexWriter(tmp_path) as writer:
        writer.compact()
    for gone in ([], [4]):
        with IndexWriter(tmp_path) as writer:
            writer.delete([str(n) for n in gone])
        kept = [n for n in range(18) if n not in gone]
        with Index(tmp_path) as index:
            for count in (16, 17, 18, 19, 40):
                names = ids_of(index, vectors[0], count)
                assert names == rank(vectors[kept], [str(n) for n in kept], vectors[0], count)
