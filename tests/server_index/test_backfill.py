"""An index brought into a new space while it is searched: joined search, orders, kills, the end."""

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_folders import DIM, ENCODER, SPACE, make_index, name_items, rank, unit_vectors
from running_service import TOKEN, run_service
from two_spaces import (
    MATRIX,
    NEW,
    NEW_DIM,
    NEW_ENCODER,
    SCALE,
    NamedEncoder,
    draw_new,
    make_compatibility,
    map_new,
)

from encoder.compatibility import Compatibility, load_compatibility, save_compatibility
from encoder.errors import PocketlensError
from encoder.evaluation.score_scale import ScoreScale
from encoder.images import BoxedFile
from server_index import backfill as filling
from server_index import next_layer
from server_index.acceptance import keep_compatibility
from server_index.backfill import (
    Backfill,
    begin_backfill,
    check_backfill,
    finish_backfill,
    list_missing,
    plan,
    run_backfill,
)
from server_index.backfill_order import draw_ranks, put_in_order, read_counts
from server_index.client import SearchClient
from server_index.contract import SpaceError, VectorError
from server_index.faiss_index import Kind
from server_index.index import Index
from server_index.next_layer import accept_space, give_up_layer, refuse_space
from server_index.service import ServiceSettings
from server_index.source import Entry, open_path
from server_index.verify import verify
from server_index.writer import IndexWriter

COUNT = 60
NAMES = [f"{n:02d}" for n in range(COUNT)]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    make_index(folder, unit_vectors(COUNT), NAMES).close()
    return folder


@pytest.fixture
def compatible(tmp_path: Path) -> Path:
    return make_compatibility(tmp_path / "compatibility")


def make_encoder(leave_out: tuple[str, ...] = ()) -> NamedEncoder:
    vectors = dict(zip(NAMES, draw_new(COUNT), strict=True))
    return NamedEncoder({name: each for name, each in vectors.items() if name not in leave_out})


def begin(writer: IndexWriter, source: Path, **changes: object) -> Compatibility:
    """Check and begin as the command does."""
    found = check_backfill(writer, source, make_encoder(), Backfill(**changes))  # type: ignore[arg-type]
    begin_backfill(writer, source, found)
    return found


def rank_both(query: np.ndarray, done: set[str], alive: list[str], count: int) -> list[str]:
    """Rank by the definition: new score where there is a new vector, else the old one's worth."""
    new, old = draw_new(COUNT), unit_vectors(COUNT)
    mapped = map_new(query[None])[0]
    scored = []
    for name in alive:
        row = int(name)
        score = new[row] @ query if name in done else SCALE.slope * (old[row] @ mapped) + 0.1
        scored.append((-float(score), row, name))
    return [name for _, _, name in sorted(scored)[:count]]


def ask(index: Index, queries: np.ndarray, count: int, **named: str) -> list[list[str]]:
    return [[hit.item.id for hit in hits] for hits in index.search(queries, count, **named)]


def test_queries_of_a_space_are_answered_once_it_is_accepted(index: Path, compatible: Path) -> None:
    queries = draw_new(5, seed=9)
    with Index(index) as opened:
        with pytest.raises(SpaceError, match=NEW.id):
            opened.search(queries, 3, space=NEW.id)
        with IndexWriter(index) as writer:
            assert accept_space(writer, compatible, {"report": "some"}) == NEW.id
        assert opened.refresh() and opened.spaces == [SPACE.id, NEW.id]
        found = opened.search(queries, 4, space=NEW.id)
        mapped = map_new(queries)
        for query, hits in zip(mapped, found, strict=True):
            assert [hit.item.id for hit in hits] == rank(unit_vectors(COUNT), NAMES, query, 4)
            best = float((unit_vectors(COUNT) @ query).max())
            assert hits[0].score == pytest.approx(SCALE.slope * best + SCALE.offset, abs=1e-5)
        with pytest.raises(VectorError):
            opened.search(mapped, 3, space=NEW.id)
        with pytest.raises(SpaceError):
            opened.search(queries, 3, space="f" * 16)
        assert verify(index) == []
        with IndexWriter(index) as writer:
            refuse_space(writer, NEW.id)
            with pytest.raises(PocketlensError, match="does not accept"):
                refuse_space(writer, NEW.id)
        assert opened.refresh() and opened.spaces == [SPACE.id]


def test_an_index_of_the_new_space_answers_old_queries(tmp_path: Path, compatible: Path) -> None:
    from server_index.writer import create_index

    folder = tmp_path / "new"
    create_index(folder, NEW)
    with IndexWriter(folder) as writer:
        writer.add(draw_new(COUNT), name_items(NAMES), NEW_ENCODER)
        assert accept_space(writer, compatible, {}) == SPACE.id
    queries = unit_vectors(6, seed=3)
    with Index(folder) as opened:
        lifted = queries @ MATRIX.astype(np.float32)
        for query, names in zip(lifted, ask(opened, queries, 5, space=SPACE.id), strict=True):
            assert names == rank(draw_new(COUNT), NAMES, query, 5)


def test_what_is_accepted_must_fit_and_stay_whole(
    tmp_path: Path, index: Path, compatible: Path
) -> None:
    forward = make_compatibility(tmp_path / "forward", "forward")
    stranger = tmp_path / "stranger"
    make_index(stranger, unit_vectors(4)).close()
    with IndexWriter(index) as writer:
        with pytest.raises(PocketlensError, match=r"maps the database.*backfill"):
            accept_space(writer, forward, {})
        with pytest.raises(PocketlensError, match="declares no compatibility"):
            accept_space(writer, tmp_path, {})
        accept_space(writer, compatible, {})
    (kept,) = (index / "accepts").iterdir()
    file = kept / "compatibility.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert any("compatibility.safetensors" in line for line in verify(index))
    with pytest.raises(PocketlensError, match=r"compatibility\.safetensors"):
        Index(index)
    file.unlink()
    assert any("compatibility.safetensors" in line for line in verify(index))


@pytest.mark.parametrize("order", ["doubt", "margin", "traffic", "random"])
def test_every_state_of_a_backfill_is_searched_as_defined(
    index: Path, compatible: Path, order: str
) -> None:
    encoder, queries = make_encoder(), draw_new(4, seed=11)
    counts = {name: float(n % 7) for n, name in enumerate(NAMES)}
    with Index(index) as opened:
        for turn in range(6):
            with IndexWriter(index) as writer:
                found = begin(writer, compatible)
                settings_ = Backfill(order, most=12, counts=counts)  # type: ignore[arg-type]
                done = run_backfill(writer, found, encoder, settings_).done
                missing = list_missing(writer, found, NEW_ENCODER)
                left = {writer.record.items([key])[key].id for key in missing.tolist()}
            assert done == min(COUNT, 12 * (turn + 1)) and len(left) == COUNT - done
            opened.refresh()
            there = set(NAMES) - left
            for query, names in zip(queries, ask(opened, queries, 9, space=NEW.id), strict=True):
                assert names == rank_both(query, there, NAMES, 9)
            # Old queries find what they found.
            old = unit_vectors(2, seed=4)
            for query, names in zip(old, ask(opened, old, 9), strict=True):
                assert names == rank(unit_vectors(COUNT), NAMES, query, 9)
            assert verify(index) == []
        assert len(encoder.asked) == COUNT == len(set(encoder.asked))
        with IndexWriter(index) as writer:
            finish_backfill(writer, found, NEW_ENCODER)
        opened.refresh()
        assert opened.space == NEW and opened.spaces == [NEW.id] and len(opened) == COUNT
        for query, names in zip(queries, ask(opened, queries, 9), strict=True):
            assert names == rank(draw_new(COUNT), NAMES, query, 9)
        with pytest.raises(SpaceError):
            opened.search(old, 3, space=SPACE.id)
        assert set(opened.encoders(list(range(COUNT))).values()) == {NEW_ENCODER}
    assert verify(index) == [] and len(list((index / "segments").iterdir())) == 5
    with IndexWriter(index) as writer, pytest.raises(PocketlensError, match="already"):
        begin(writer, compatible)


def test_filters_deletes_and_additions_meanwhile(index: Path, compatible: Path) -> None:
    encoder = make_encoder()
    with IndexWriter(index) as writer:
        found = begin(writer, compatible)
        run_backfill(writer, found, encoder, Backfill("random", most=30))
        done = set(encoder.asked)
        gone = [sorted(done)[0], sorted(set(NAMES) - done)[0]]
        writer.delete(gone)
        # One that is encoded anew is replaced: its new vector is of a picture that is no more.
        changed = sorted(done)[1]
        row = int(changed)
        writer.add(unit_vectors(COUNT)[row : row + 1], name_items([changed]), ENCODER, replace=True)
        writer.compact()
    done -= {gone[0], changed}
    alive = [name for name in NAMES if name not in gone]
    queries = draw_new(3, seed=12)
    with Index(index) as opened:
        for query, names in zip(queries, ask(opened, queries, 58, space=NEW.id), strict=True):
            # The replaced one is the youngest, which only ties would tell.
            assert names == rank_both(query, done, alive, 58)
    assert verify(index) == []
    with IndexWriter(index) as writer:
        with pytest.raises(PocketlensError, match=r"\d+ items are not encoded anew yet"):
            finish_backfill(writer, found, NEW_ENCODER)
        run_backfill(writer, found, encoder, Backfill())
        finish_backfill(writer, found, NEW_ENCODER)
        writer.compact()
    with Index(index) as opened:
        assert len(opened) == 58
        for query, names in zip(queries, ask(opened, queries, 9), strict=True):
            kept = [int(name) for name in alive]
            assert names == rank(draw_new(COUNT)[kept], alive, query, 9)
    assert verify(index) == []


def test_filters_hold_in_both_layers(tmp_path: Path, compatible: Path) -> None:
    from server_index.items import Item
    from server_index.writer import create_index

    folder = tmp_path / "labelled"
    create_index(folder, SPACE)
    items = [Item(name, f"/images/{name}", {"odd": int(name) % 2}) for name in NAMES]
    with IndexWriter(folder) as writer:
        writer.add(unit_vectors(COUNT), items, ENCODER)
        found = begin(writer, compatible)
        encoder = make_encoder()
        run_backfill(writer, found, encoder, Backfill("random", most=25))
    odd = [name for name in NAMES if int(name) % 2]
    queries = draw_new(3, seed=12)
    with Index(folder) as opened:
        asked = ask(opened, queries, 10, space=NEW.id, where="odd = 1")
        for query, names in zip(queries, asked, strict=True):
            assert names == rank_both(query, set(encoder.asked), odd, 10)


def test_what_cannot_be_read_is_told_and_holds_up_the_end(index: Path, compatible: Path) -> None:
    encoder = make_encoder(leave_out=("07", "31"))
    with IndexWriter(index) as writer:
        found = begin(writer, compatible)
        progress = run_backfill(writer, found, encoder, Backfill())
        assert progress.done == COUNT - 2 and progress.share == pytest.approx(58 / 60)
        assert sorted(progress.set_aside) == [
            "/images/07: is no picture",
            "/images/31: is no picture",
        ]
        with pytest.raises(PocketlensError, match="2 items are not encoded anew yet"):
            finish_backfill(writer, found, NEW_ENCODER)
        writer.delete(["07", "31"])
        finish_backfill(writer, found, NEW_ENCODER)
    assert len(Index(index)) == COUNT - 2 and verify(index) == []


def test_a_backfill_is_given_up(index: Path, compatible: Path) -> None:
    with IndexWriter(index) as writer:
        found = begin(writer, compatible)
        run_backfill(writer, found, make_encoder(), Backfill(most=20))
        with pytest.raises(PocketlensError, match="is being brought into space"):
            refuse_space(writer, NEW.id)
        give_up_layer(writer)
        refuse_space(writer, NEW.id)
        with pytest.raises(PocketlensError, match="not being brought"):
            give_up_layer(writer)
    with Index(index) as opened:
        assert opened.spaces == [SPACE.id] and len(opened) == COUNT
    assert verify(index) == [] and not list((index / "accepts").iterdir())


def test_the_encoder_must_be_of_the_new_space_and_stay_the_same(
    index: Path, compatible: Path
) -> None:
    with IndexWriter(index) as writer:
        found = begin(writer, compatible)
        other = make_encoder()
        other.space = SPACE
        with pytest.raises(PocketlensError, match="the encoder writes into space"):
            check_backfill(writer, compatible, other, Backfill())
        run_backfill(writer, found, make_encoder(), Backfill(most=5))
        other = make_encoder()
        other.encoder = "1" * 16
        with pytest.raises(PocketlensError, match="encoded anew by encoder"):
            check_backfill(writer, compatible, other, Backfill())


def test_old_vectors_are_mapped_first_and_then_replaced(tmp_path: Path, index: Path) -> None:
    forward = make_compatibility(tmp_path / "forward", "forward")
    encoder, queries = make_encoder(), draw_new(3, seed=13)
    mapped = unit_vectors(COUNT) @ MATRIX.astype(np.float32)
    with IndexWriter(index) as writer:
        writer.compact(Kind("SQfp16"))
        found = begin(writer, forward)
        assert writer.state.space == NEW and writer.state.kind == Kind("SQfp16")
    with Index(index) as opened:
        for query, names in zip(queries, ask(opened, queries, 5), strict=True):
            assert names == rank(mapped.astype(np.float16), NAMES, query, 5)
    with IndexWriter(index) as writer:
        assert begin(writer, forward).direction == "forward"
        run_backfill(writer, found, encoder, Backfill("doubt", most=20))
        # By the doubt of the mapped vector, whose logarithm is its first component.
        first = [NAMES[row] for row in np.argsort(-mapped[:, 0])[:20]]
        assert set(encoder.asked) == set(first)
        run_backfill(writer, found, encoder, Backfill())
        assert len(encoder.asked) == COUNT
        finish_backfill(writer, found, NEW_ENCODER, kind=Kind("Flat"))
    with Index(index) as opened:
        assert opened.state.kind == Kind("Flat")
        for query, names in zip(queries, ask(opened, queries, 5), strict=True):
            assert names == rank(draw_new(COUNT), NAMES, query, 5)
    assert verify(index) == []


def test_the_new_layer_becomes_the_kind_that_the_index_was(
    tmp_path: Path, compatible: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "STEP", 64)
    monkeypatch.setattr(next_layer, "_MOST_SMALL", 2)
    names = [f"{n:03d}" for n in range(400)]
    folder = tmp_path / "index"
    make_index(folder, unit_vectors(400), names).close()
    encoder = NamedEncoder(dict(zip(names, draw_new(400), strict=True)))
    with IndexWriter(folder) as writer:
        writer.compact(Kind("IVF4,SQ8"))
        found = begin(writer, compatible)
        run_backfill(writer, found, encoder, Backfill("random"))
        # Merged as they came.
        assert len(writer.record.segments_of(NEW.id)) <= 3
        finish_backfill(writer, found, NEW_ENCODER)
        assert writer.state.kind == Kind("IVF4,SQ8") and writer.state.quantiser
    queries = draw_new(5, seed=3)
    with Index(folder) as opened:
        for query, found_ in zip(queries, ask(opened, queries, 3), strict=True):
            assert found_ == rank(draw_new(400), names, query, 3)
    assert verify(folder) == []


def test_a_source_gives_what_the_recorded_paths_do_not(index: Path, compatible: Path) -> None:
    encoder = make_encoder()
    entries = [Entry(item, Path("/moved") / item.id) for item in name_items(NAMES)]
    with IndexWriter(index) as writer:
        found = begin(writer, compatible)
        run_backfill(writer, found, encoder, Backfill(), entries=lambda: iter(entries[:50]))
        missing = list_missing(writer, found, NEW_ENCODER)
        assert len(missing) == 10 and sorted(encoder.asked) == NAMES[:50]
        # One that comes twice counts once; those that do not come are named.
        twice = lambda: iter([*entries[45:55], *entries[45:55]])  # noqa: E731
        progress = run_backfill(writer, found, encoder, Backfill(), entries=twice)
        assert progress.done == 55
        assert progress.set_aside == tuple(f"'{n}': is not in the source" for n in range(55, 60))
    assert verify(index) == []


def test_kills_at_any_step_lose_nothing(
    tmp_path: Path, compatible: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is copied before every statement of a backfill, as a kill would leave it."""
    monkeypatch.setattr(filling, "STEP", 16)
    index, copies = tmp_path / "index", list[Path]()
    make_index(index, unit_vectors(COUNT), NAMES).close()
    from server_index.record import Record

    run = Record.run

    def copy_first(record: Record, statement: str, values: object = ()) -> object:
        if statement.split()[0] in ("COMMIT", "BEGIN", "INSERT", "UPDATE", "DELETE"):
            copies.append(tmp_path / f"copy-{len(copies)}")
            shutil.copytree(index, copies[-1])
        return run(record, statement, values)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, IndexWriter(index) as writer:
        patch.setattr(Record, "run", copy_first)
        found = begin(writer, compatible)
        run_backfill(writer, found, make_encoder(), Backfill("random"))
        finish_backfill(writer, found, NEW_ENCODER)
    assert len(copies) > 20
    query = draw_new(1, seed=20)
    for copy in copies:
        with Index(copy) as opened:
            assert len(opened) == COUNT
            switched = opened.space == NEW
        with IndexWriter(copy) as writer:
            if not switched:
                begin(writer, compatible)
                encoder = make_encoder()
                held = COUNT - len(list_missing(writer, found, NEW_ENCODER))
                run_backfill(writer, found, encoder, Backfill("random"))
                assert len(encoder.asked) == COUNT - held
                finish_backfill(writer, found, NEW_ENCODER)
        with Index(copy) as opened:
            assert ask(opened, query, 5)[0] == rank(draw_new(COUNT), NAMES, query[0], 5)
        assert verify(copy) == []
        shutil.rmtree(copy)


# Orders.


def test_orders_follow_their_definitions(
    index: Path, compatible: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = unit_vectors(COUNT)
    with IndexWriter(index) as writer:
        found = begin(writer, compatible)
        missing = list_missing(writer, found, NEW_ENCODER)
        by_doubt = plan(writer, found, missing, Backfill("doubt"))
        np.testing.assert_array_equal(by_doubt, np.argsort(-old[:, 0], kind="stable"))
        monkeypatch.setattr(filling, "CROWD", 5)
        cosines = np.sort(old @ old.T - 2 * np.eye(COUNT), axis=1)[:, -5:].mean(axis=1)
        by_margin = plan(writer, found, missing, Backfill("margin"))
        assert (np.diff(cosines[by_margin]) < 1e-6).all()
        counts = {"05": 3.0, "17": 9.0}
        by_traffic = plan(writer, found, missing, Backfill("traffic", counts=counts))
        assert by_traffic[:2].tolist() == [17, 5] and sorted(by_traffic) == list(range(COUNT))
        with pytest.raises(PocketlensError, match="--traffic"):
            check_backfill(writer, compatible, make_encoder(), Backfill("traffic"))
        at_random = [plan(writer, found, missing, Backfill("random", seed=n)) for n in (0, 0, 1)]
        np.testing.assert_array_equal(at_random[0], at_random[1])
        assert at_random[0].tolist() != at_random[2].tolist()


@given(st.lists(st.integers(0, 2**40), unique=True, min_size=2, max_size=50), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_random_order_does_not_depend_on_what_else_there_is(keys: list[int], seed: int) -> None:
    every = np.array(sorted(keys), np.int64)
    whole = put_in_order(every, np.zeros(len(every)), seed).tolist()
    half = every[::2]
    part = put_in_order(half, np.zeros(len(half)), seed).tolist()
    assert part == [key for key in whole if key in set(half.tolist())]
    assert sorted(whole) == every.tolist()


def test_random_ranks_are_even() -> None:
    ranks = draw_ranks(np.arange(20_000)).astype(np.float64) / 2**64
    assert abs(ranks.mean() - 0.5) < 0.01 and abs(ranks.std() - 12**-0.5) < 0.01
    assert abs(np.corrcoef(ranks[:-1], ranks[1:])[0, 1]) < 0.03


def test_counts_are_read_and_unsound_ones_named(tmp_path: Path) -> None:
    file = tmp_path / "counts.csv"
    file.write_text("id,count,more\na,3,x\nb,0.5,\na,1,\n", encoding="utf-8")
    assert read_counts(file) == {"a": 4.0, "b": 0.5}
    for text, expected in (
        ("name,count\n", "no columns id and count"),
        ("id,count\na,-1\n", "counts.csv:2"),
        ("id,count\na,\n", "counts.csv:2"),
        ("id,count\na,many\n", "not a readable table"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(PocketlensError, match=expected):
            read_counts(file)
    with pytest.raises(PocketlensError, match=r"missing\.csv"):
        read_counts(tmp_path / "missing.csv")


def test_a_prefix_of_an_index_is_asked_through_the_map(tmp_path: Path, compatible: Path) -> None:
    from server_index.writer import create_index

    folder = tmp_path / "prefix"
    create_index(folder, SPACE, dim=DIM // 2)
    old = unit_vectors(COUNT)[:, : DIM // 2]
    old = old / np.linalg.norm(old, axis=1, keepdims=True)
    with IndexWriter(folder) as writer:
        writer.add(old, name_items(NAMES), ENCODER)
        accept_space(writer, compatible, {})
        with pytest.raises(PocketlensError, match="keeps 8 of 16 dimensions"):
            check_backfill(writer, compatible, make_encoder(), Backfill())
    query = draw_new(1, seed=2)
    mapped = map_new(query)[0, : DIM // 2]
    with Index(folder) as opened:
        assert ask(opened, query, 5, space=NEW.id)[0] == rank(old, NAMES, mapped, 5)
    assert query.shape[1] == NEW_DIM


def test_a_service_answers_while_the_index_changes_its_space(
    tmp_path: Path, compatible: Path
) -> None:
    folder, queries = tmp_path / "index", draw_new(1, seed=8)
    make_index(folder, unit_vectors(COUNT), NAMES).close()
    settings_ = ServiceSettings(folder, reload_every=0.05, log=False)
    with run_service(settings_) as address, SearchClient(address) as client:
        with pytest.raises(PocketlensError, match=f"409: .*{SPACE.id}.*not of {NEW.id}"):
            client.search(queries[0], NEW.id, 5)
        with IndexWriter(folder) as writer:
            accept_space(writer, compatible, {})
        wait_for(lambda: client.describe()["accepts"] == [NEW.id])
        with pytest.raises(PocketlensError, match=r"422: vectors must be \[n, 20\]"):
            client.search(unit_vectors(1)[0], NEW.id, 5)
        stop, answers = threading.Event(), list[list[str]]()

        def ask_on() -> None:
            with SearchClient(address) as own:
                while not stop.is_set():
                    found = own.search(queries[0], NEW.id, 5)
                    answers.append([each["id"] for each in found])

        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask_on)
            encoder = make_encoder()
            with IndexWriter(folder) as writer:
                found = begin(writer, compatible)
                for _ in range(6):
                    run_backfill(writer, found, encoder, Backfill(most=10))
                finish_backfill(writer, found, NEW_ENCODER)
            wait_for(lambda: client.describe()["space"] == NEW.id)
            seen = len(answers)
            wait_for(lambda: len(answers) > seen)
            stop.set()
            asking.result()
        assert answers[0] == rank_both(queries[0], set(), NAMES, 5)
        assert answers[-1] == rank(draw_new(COUNT), NAMES, queries[0], 5)


def wait_for(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_token_adds_vectors_of_the_own_space_alone(tmp_path: Path, compatible: Path) -> None:
    folder = tmp_path / "index"
    make_index(folder, unit_vectors(COUNT), NAMES).close()
    with IndexWriter(folder) as writer:
        accept_space(writer, compatible, {})
    with run_service(ServiceSettings(folder, token=TOKEN, log=False)) as address:
        with SearchClient(address, token=TOKEN) as client:
            assert client.search(draw_new(1)[0], NEW.id, 1)
            with pytest.raises(PocketlensError, match=f"409: the index is in space {SPACE.id}"):
                client.add([{"id": "x"}], draw_new(1), NEW.id, NEW_ENCODER)
        with pytest.raises(PocketlensError, match="being written by process"):
            IndexWriter(folder)


def test_a_forward_backfill_keeps_what_is_known_of_items(tmp_path: Path) -> None:
    from server_index.items import Item
    from server_index.writer import create_index

    folder, forward = tmp_path / "index", make_compatibility(tmp_path / "forward", "forward")
    create_index(folder, SPACE)
    known = [Item(name, f"/old/{name}", {"colour": "red"}, sha256="1" * 64) for name in NAMES]
    moved = [Entry(Item(name, f"/new/{name}", size=7), Path("/new") / name) for name in NAMES]
    with IndexWriter(folder) as writer:
        writer.add(unit_vectors(COUNT), known, ENCODER)
        wrong = make_encoder()
        wrong.space = SPACE
        # What is refused changes nothing.
        for encoder, changes in ((wrong, {}), (make_encoder(), {"order": "traffic"})):
            with pytest.raises(PocketlensError):
                check_backfill(writer, forward, encoder, Backfill(**changes))  # type: ignore[arg-type]
            assert writer.state.space == SPACE
        found = begin(writer, forward)
        run_backfill(writer, found, make_encoder(), Backfill(), entries=lambda: iter(moved))
    with Index(folder) as opened:
        ((hit,),) = opened.search(draw_new(1), 1, where="colour = 'red'")
        assert (hit.item.path, hit.item.size) == (f"/new/{hit.item.id}", 7)
        assert hit.item.sha256 == "1" * 64


def test_runs_of_a_few_go_past_what_cannot_be_read(index: Path, compatible: Path) -> None:
    encoder = make_encoder(leave_out=tuple(NAMES[:55]))
    with IndexWriter(index) as writer:
        found = begin(writer, compatible)
        assert run_backfill(writer, found, encoder, Backfill("random", most=3)).done == 3
        assert run_backfill(writer, found, encoder, Backfill("random", most=3)).done == 5


def test_an_index_without_items_changes_its_space(index: Path, compatible: Path) -> None:
    with IndexWriter(index) as writer:
        writer.compact(Kind("IVF4,SQ8"))
        writer.delete(NAMES)
        found = begin(writer, compatible)
        assert run_backfill(writer, found, make_encoder(), Backfill()).share == 0
        finish_backfill(writer, found, NEW_ENCODER)
        assert writer.state.space == NEW
    assert verify(index) == [] and len(Index(index)) == 0


def test_another_map_takes_the_place_of_one_that_was_accepted(
    tmp_path: Path, index: Path, compatible: Path
) -> None:
    """A kill in between leaves the one before, as its files lie apart."""
    other = tmp_path / "other"
    found = load_compatibility(compatible)
    other.mkdir()
    save_compatibility(dataclasses.replace(found, scale=ScoreScale(0.5, 0.2)), other)
    with IndexWriter(index) as writer:
        accept_space(writer, compatible, {})
        (first,) = writer.state.accepts
        kept = keep_compatibility(index, other, SPACE.id, {})
        assert kept.folder != first.folder
    Index(index).close()
    with Index(index) as opened, IndexWriter(index) as writer:
        assert [each.name for each in (index / "accepts").iterdir()] == [first.folder]
        accept_space(writer, other, {})
        assert opened.refresh() and opened.search(draw_new(1), 1, space=NEW.id)
        assert len(list((index / "accepts").iterdir())) == 1


def test_boxes_are_known_from_recorded_paths() -> None:
    assert open_path("/a/b#c.jpg") == Path("/a/b#c.jpg")
    assert open_path("/a/b.jpg#xywh=1,2.5,30,40") == BoxedFile(Path("/a/b.jpg"), (1, 2.5, 30, 40))
    assert open_path("/a/b.jpg#xywh=1,2") == Path("/a/b.jpg#xywh=1,2")
