"""Tests of the batch pipeline."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from encoder import embed as pipeline
from encoder.embed import Embedder, Vectors, embed_all, embed_files, prepare_file
from encoder.images import decode_image
from encoder.preprocess import Pixels, Preprocess, prepare

PREPROCESS = Preprocess(16)
COUNT = 11


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for number, file in enumerate(made):
        Image.new("RGB", (20 + number, 17), (20 * number, number, 255 - number)).save(file)
    return made


def mean_colour(images: Pixels) -> Vectors:
    assert images.dtype == np.uint8
    assert images.shape[1:] == (16, 16, 3)
    return images.mean(axis=(1, 2), dtype=np.float32)


# Alone, on an accelerator, and every core its own batches.
EMBEDDERS = [
    Embedder(mean_colour),
    Embedder(mean_colour, batches_ahead=2),
    Embedder(mean_colour, use_one_core=lambda: None),
]
each_way = pytest.mark.parametrize("embedder", EMBEDDERS, ids=["alone", "ahead", "each-core"])


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "count_cores", lambda: 2)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the files whose decoding has begun."""
    numbers: list[int] = []

    def record(file: Path, preprocess: Preprocess, alter: None) -> Pixels:
        numbers.append(int(file.stem))
        return prepare_file(file, preprocess)

    monkeypatch.setattr(pipeline, "prepare_file", record)
    return numbers


def expected(positions: list[int]) -> list[list[float]]:
    return [[20.0 * number, number, 255.0 - number] for number in positions]


@each_way
@pytest.mark.parametrize("batch_size", [1, 4, 11, 32])
def test_order_is_kept(files: list[Path], batch_size: int, embedder: Embedder) -> None:
    embedded = embed_all(files, PREPROCESS, embedder, batch_size=batch_size)
    assert embedded.positions.tolist() == list(range(COUNT))
    assert embedded.positions.dtype == np.int64
    assert embedded.vectors.tolist() == expected(list(range(COUNT)))
    assert embedded.quarantined == ()


@each_way
def test_order_is_kept_where_the_first_images_take_longest(
    files: list[Path], embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(file: Path, preprocess: Preprocess, alter: None) -> Pixels:
        time.sleep(0.003 * (COUNT - int(file.stem)))
        return prepare_file(file, preprocess)

    monkeypatch.setattr(pipeline, "prepare_file", slow)
    batches = list(embed_files(files, PREPROCESS, embedder, batch_size=3))
    assert [batch.positions.tolist() for batch in batches] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10],
    ]
    assert [row for batch in batches for row in batch.vectors.tolist()] == expected(
        list(range(COUNT))
    )


@each_way
def test_bad_images_are_set_aside_with_their_positions(
    files: list[Path], embedder: Embedder
) -> None:
    # The second batch of three holds nothing that can be read.
    for number in (0, 3, 4, 5, 10):
        files[number].write_bytes(b"no picture")
    files[7].unlink()
    embedded = embed_all(files, PREPROCESS, embedder, batch_size=3)
    good = [1, 2, 6, 8, 9]
    assert embedded.positions.tolist() == good
    assert embedded.vectors.tolist() == expected(good)
    assert embedded.vectors.dtype == np.float32
    bad = embedded.quarantined
    assert [entry.position for entry in bad] == [0, 3, 4, 5, 7, 10]
    assert [entry.path for entry in bad] == [str(files[entry.position]) for entry in bad]
    assert ["no such file" in entry.reason for entry in bad] == [False] * 4 + [True, False]


@pytest.mark.parametrize("embedder", EMBEDDERS[1:], ids=["ahead", "each-core"])
def test_every_way_gives_the_same(files: list[Path], embedder: Embedder) -> None:
    files[4].write_bytes(b"")
    alone, shared = (
        list(embed_files(files, PREPROCESS, way, batch_size=2)) for way in (EMBEDDERS[0], embedder)
    )
    assert len(alone) == len(shared) == 6
    for one, other in zip(alone, shared, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.vectors, other.vectors)
        assert one.quarantined == other.quarantined


@pytest.mark.parametrize("batches_ahead", [0, 1, 3])
def test_only_so_many_batches_are_prepared_ahead(
    files: list[Path], begun: list[int], batches_ahead: int
) -> None:
    embedder = Embedder(mean_colour, batches_ahead=batches_ahead)
    batches = embed_files(files, PREPROCESS, embedder, batch_size=2)
    next(batches)
    time.sleep(0.05)
    assert max(begun) < 2 * (1 + batches_ahead)
    batches.close()


def test_only_so_many_batches_are_embedded_ahead(files: list[Path], begun: list[int]) -> None:
    batches = embed_files(files, PREPROCESS, EMBEDDERS[2], batch_size=1)
    next(batches)
    time.sleep(0.05)
    assert max(begun) < 1 + 2 * 2
    batches.close()


def test_every_core_is_prepared_and_few_files_are_shared_out(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "count_cores", lambda: 3)
    prepared: set[int] = set()
    sizes: list[int] = []
    gate = threading.Barrier(3, timeout=10)

    def embed(images: Pixels) -> Vectors:
        assert threading.get_ident() in prepared
        gate.wait()  # passes only where three threads are here at once
        sizes.append(len(images))
        return mean_colour(images)

    embedder = Embedder(embed, use_one_core=lambda: prepared.add(threading.get_ident()))
    embedded = embed_all(files, PREPROCESS, embedder)
    assert embedded.vectors.tolist() == expected(list(range(COUNT)))
    assert sorted(sizes) == [3, 4, 4]
    assert threading.get_ident() not in prepared


@pytest.mark.parametrize(
    ("count", "cores", "size"),
    [(0, 2, 1), (1, 64, 1), (48, 1, 24), (64, 2, 32), (66, 2, 17), (6400, 64, 25)],
)
def test_batches_are_as_many_for_every_core(count: int, cores: int, size: int) -> None:
    assert pipeline._share_out(count, cores, 32) == size


def test_work_that_is_no_longer_wanted_is_not_done(files: list[Path]) -> None:
    embedded: list[int] = []
    closed = threading.Event()

    def embed(images: Pixels) -> Vectors:
        if images.mean(axis=(1, 2))[0, 1]:  # all but the first
            closed.wait(10)
        embedded.append(len(images))
        return mean_colour(images)

    batches = embed_files(
        files, PREPROCESS, Embedder(embed, use_one_core=lambda: None), batch_size=1
    )
    next(batches)
    threading.Timer(0.1, closed.set).start()
    batches.close()
    assert len(embedded) <= 1 + 2  # the first, and what both cores had begun


def test_batches_ahead_are_for_embedding_alone() -> None:
    with pytest.raises(ValueError, match="alone"):
        Embedder(mean_colour, use_one_core=lambda: None, batches_ahead=1)


@each_way
def test_nothing_in_nothing_out(embedder: Embedder) -> None:
    embedded = embed_all([], PREPROCESS, embedder)
    assert embedded.positions.shape == (0,)
    assert embedded.positions.dtype == np.int64
    assert len(embedded.vectors) == 0
    assert embedded.quarantined == ()


@pytest.mark.parametrize("use_one_core", [None, lambda: None])
def test_nothing_but_bad_images(files: list[Path], use_one_core: Any) -> None:
    def refuse(images: Pixels) -> Vectors:
        raise AssertionError("the network was run on nothing")

    for file in files:
        file.write_bytes(b"")
    embedded = embed_all(files, PREPROCESS, Embedder(refuse, use_one_core), batch_size=4)
    assert len(embedded.positions) == len(embedded.vectors) == 0
    assert embedded.positions.dtype == np.int64
    assert [entry.position for entry in embedded.quarantined] == list(range(COUNT))


def test_the_bar_counts_good_and_bad(files: list[Path]) -> None:
    files[5].write_bytes(b"")
    advanced: list[int] = []
    embed_all(files, PREPROCESS, EMBEDDERS[0], batch_size=4, advance=advanced.append)
    assert advanced == [4, 4, 3]


@pytest.mark.parametrize("use_one_core", [None, lambda: None])
def test_an_error_of_the_network_is_not_swallowed(files: list[Path], use_one_core: Any) -> None:
    def fail(images: Pixels) -> Vectors:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        embed_all(files, PREPROCESS, Embedder(fail, use_one_core))


def test_a_file_is_decoded_for_its_target(tmp_path: Path) -> None:
    y, x = np.mgrid[0:300, 0:400]
    original = np.stack([x / 2, y / 2, 100 + x / 4], axis=2).astype(np.uint8)
    file = tmp_path / "large.jpg"
    Image.fromarray(original).save(file, quality=92)
    preprocess = Preprocess(32, fit="crop", crop=0.9)
    prepared = prepare_file(file, preprocess)
    assert np.array_equal(prepared, prepare(decode_image(file, target=preprocess), preprocess))
    full = prepare(decode_image(file), preprocess)
    assert np.abs(prepared.astype(int) - full).mean() < 1.5
