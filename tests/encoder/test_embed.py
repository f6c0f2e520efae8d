"""Tests of the batch pipeline."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder import embed as pipeline
from encoder.embed import Vectors, embed_all, embed_files, prepare_file
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


def expected(positions: list[int]) -> list[list[float]]:
    return [[20.0 * number, number, 255.0 - number] for number in positions]


@pytest.mark.parametrize("batches_ahead", [0, 2, 50])
@pytest.mark.parametrize("batch_size", [1, 4, 11, 32])
def test_order_is_kept(files: list[Path], batch_size: int, batches_ahead: int) -> None:
    embedded = embed_all(
        files, PREPROCESS, mean_colour, batch_size=batch_size, batches_ahead=batches_ahead
    )
    assert embedded.positions.tolist() == list(range(COUNT))
    assert embedded.positions.dtype == np.int64
    assert embedded.vectors.tolist() == expected(list(range(COUNT)))
    assert embedded.quarantined == ()


@pytest.mark.parametrize("batches_ahead", [0, 2])
def test_order_is_kept_where_the_first_images_take_longest(
    files: list[Path], batches_ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(file: Path, preprocess: Preprocess, alter: None) -> Pixels:
        time.sleep(0.003 * (COUNT - int(file.stem)))
        return prepare_file(file, preprocess)

    monkeypatch.setattr(pipeline, "prepare_file", slow)
    batches = list(
        embed_files(files, PREPROCESS, mean_colour, batch_size=3, batches_ahead=batches_ahead)
    )
    assert [batch.positions.tolist() for batch in batches] == [
        [0, 1, 2],
        [3, 4, 5],
        [6, 7, 8],
        [9, 10],
    ]
    assert [row for batch in batches for row in batch.vectors.tolist()] == expected(
        list(range(COUNT))
    )


@pytest.mark.parametrize("batches_ahead", [0, 2])
def test_bad_images_are_set_aside_with_their_positions(
    files: list[Path], batches_ahead: int
) -> None:
    # The second batch of three holds nothing that can be read.
    for number in (0, 3, 4, 5, 10):
        files[number].write_bytes(b"no picture")
    files[7].unlink()
    embedded = embed_all(files, PREPROCESS, mean_colour, batch_size=3, batches_ahead=batches_ahead)
    good = [1, 2, 6, 8, 9]
    assert embedded.positions.tolist() == good
    assert embedded.vectors.tolist() == expected(good)
    assert embedded.vectors.dtype == np.float32
    bad = embedded.quarantined
    assert [entry.position for entry in bad] == [0, 3, 4, 5, 7, 10]
    assert [entry.path for entry in bad] == [str(files[entry.position]) for entry in bad]
    assert ["no such file" in entry.reason for entry in bad] == [False] * 4 + [True, False]


def test_batches_ahead_change_nothing(files: list[Path]) -> None:
    files[4].write_bytes(b"")
    alone, ahead = (
        list(embed_files(files, PREPROCESS, mean_colour, batch_size=2, batches_ahead=count))
        for count in (0, 2)
    )
    assert len(alone) == len(ahead) == 6
    for one, other in zip(alone, ahead, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.vectors, other.vectors)
        assert one.quarantined == other.quarantined


@pytest.mark.parametrize("batches_ahead", [0, 1, 3])
def test_only_so_many_batches_are_prepared_ahead(
    files: list[Path], batches_ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    real = pipeline.prepare_file

    def record(file: Path, preprocess: Preprocess, alter: None) -> Pixels:
        begun.append(int(file.stem))
        return real(file, preprocess)

    monkeypatch.setattr(pipeline, "prepare_file", record)
    batches = embed_files(files, PREPROCESS, mean_colour, batch_size=2, batches_ahead=batches_ahead)
    next(batches)
    time.sleep(0.05)
    assert max(begun) < 2 * (1 + batches_ahead)
    batches.close()


@pytest.mark.parametrize("batches_ahead", [0, 2])
def test_nothing_in_nothing_out(batches_ahead: int) -> None:
    embedded = embed_all([], PREPROCESS, mean_colour, batches_ahead=batches_ahead)
    assert embedded.positions.shape == (0,)
    assert embedded.positions.dtype == np.int64
    assert len(embedded.vectors) == 0
    assert embedded.quarantined == ()


def test_nothing_but_bad_images(files: list[Path]) -> None:
    def refuse(images: Pixels) -> Vectors:
        raise AssertionError("the network was run on nothing")

    for file in files:
        file.write_bytes(b"")
    embedded = embed_all(files, PREPROCESS, refuse, batch_size=4)
    assert len(embedded.positions) == len(embedded.vectors) == 0
    assert embedded.positions.dtype == np.int64
    assert [entry.position for entry in embedded.quarantined] == list(range(COUNT))


def test_the_bar_counts_good_and_bad(files: list[Path]) -> None:
    files[5].write_bytes(b"")
    advanced: list[int] = []
    embed_all(files, PREPROCESS, mean_colour, batch_size=4, advance=advanced.append)
    assert advanced == [4, 4, 3]


def test_an_error_of_the_network_is_not_swallowed(files: list[Path]) -> None:
    def fail(images: Pixels) -> Vectors:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        embed_all(files, PREPROCESS, fail)


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
