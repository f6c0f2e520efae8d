import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from index_folders import SPACE
from shade_encoder import ShadeEncoder, Stopped, draw

from encoder.errors import PocketlensError
from encoder.space import mint_space
from server_index.averaging import average, count_looks, look, read_averaging
from server_index.build import Filling, build_index, fill_index, name_building
from server_index.encode import open_encoder
from server_index.index import Index
from server_index.source import Entry, read_entries
from server_index.verify import verify
from server_index.writer import IndexWriter


def test_a_build_that_is_stopped_goes_on_without_encoding_anything_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server_index.build._COMMIT_SECONDS", 0.0)
    data, output = tmp_path / "images", tmp_path / "index"
    draw(data, 30)
    first = ShadeEncoder(stop_after=18)
    with pytest.raises(Stopped):
        build_index(first, read_entries(data), output)
    assert not output.exists() and verify(name_building(output)) == []
    stranger = ShadeEncoder(encoder="f" * 16)
    with pytest.raises(PocketlensError, match="unfinished build of another encoder"):
        build_index(stranger, read_entries(data), output)
    second = ShadeEncoder()
    built = build_index(second, read_entries(data), output)
    assert (built.items, built.present) == (30, 16) and first.asked + second.asked == 30
    assert not name_building(output).exists() and verify(output) == []
    assert len(Index(output)) == 30
    with pytest.raises(PocketlensError, match="exists already"):
        build_index(second, read_entries(data), output)
    build_index(second, read_entries(data), output, overwrite=True)
    assert [path.name for path in tmp_path.iterdir() if "index" in path.name] == ["index"]


def test_bad_images_are_set_aside_and_recorded(tmp_path: Path) -> None:
    data = tmp_path / "images"
    draw(data, 5)
    (data / "cut.png").write_bytes((data / "001.png").read_bytes()[:40])
    built = build_index(ShadeEncoder(), read_entries(data), tmp_path / "index")
    assert built.items == 5 and len(built.set_aside) == 1 and "cut.png" in built.set_aside[0]
    with pytest.raises(PocketlensError, match="none of the 1 images"):
        entries = (entry for entry in read_entries(data) if "cut" in entry.item.id)
        build_index(ShadeEncoder(), entries, tmp_path / "none")
    assert not list(tmp_path.glob("none*"))


def test_adding_again_encodes_only_what_is_new_or_changed(tmp_path: Path) -> None:
    data, output = tmp_path / "images", tmp_path / "index"
    draw(data, 6)
    build_index(ShadeEncoder(), read_entries(data), output)
    draw(data, 2, first=6)
    changed = data / "003.png"
    changed.write_bytes((data / "005.png").read_bytes())
    os.utime(changed, ns=(1, 1))
    with IndexWriter(output) as writer:
        kept = fill_index(writer, ShadeEncoder(), read_entries(data))
        assert (kept.encoded, kept.present, kept.changed) == (2, 5, 1)
        filling = Filling(replace=True, with_sha256=True)
        again = fill_index(writer, ShadeEncoder(), read_entries(data), filling)
        assert (again.encoded, again.present, again.items) == (1, 7, 8)
        assert len(writer.living(["003.png"])["003.png"].sha256) == 64
        stranger = ShadeEncoder(space=mint_space("teacher", SPACE.dim, "else"))
        with pytest.raises(PocketlensError, match="the encoder writes into space"):
            fill_index(writer, stranger, read_entries(data))


def test_two_files_of_one_id_are_named_and_a_file_that_comes_twice_is_one(tmp_path: Path) -> None:
    data = tmp_path / "images"
    draw(data, 3)
    entries = list(read_entries(data))
    assert build_index(ShadeEncoder(), entries * 2, tmp_path / "twice").items == 3
    other = Entry(dataclasses.replace(entries[1].item, id=entries[0].item.id), entries[1].source)
    with pytest.raises(PocketlensError, match=r"names both .*000\.png and .*001\.png"):
        build_index(ShadeEncoder(), [*entries, other], tmp_path / "index")


def test_looks_are_averaged_and_make_another_encoder(saved: Path, drawn: Path) -> None:
    pictures = sorted(drawn.rglob("*.jpg"))[:6]
    plain = open_encoder(saved / "teacher", precision="fp32")
    single = np.concatenate([batch.vectors for batch in plain.encode_files(pictures)])
    digests = {plain.encoder}
    for name in ("flip", "crops"):
        encoder = open_encoder(saved / "teacher", precision="fp32", averaging=read_averaging(name))
        digests.add(encoder.encoder)
        vectors = np.concatenate([batch.vectors for batch in encoder.encode_files(pictures)])
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        cosine = np.einsum("nd,nd->n", vectors, single)
        assert (cosine > 0.6).all() and (cosine < 0.99999).all()
    assert len(digests) == 3
    with pytest.raises(PocketlensError, match="none, flip, crops"):
        read_averaging("ten")


def test_looks_are_the_picture_its_mirror_image_and_parts() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    for name in ("none", "flip", "crops"):
        looks = look(picture, read_averaging(name))
        assert len(looks) == count_looks(read_averaging(name))
        np.testing.assert_array_equal(looks[0], picture)
    np.testing.assert_array_equal(looks[1], picture[:, ::-1])
    np.testing.assert_array_equal(looks[5], picture[3:, 6:])
    opposite = np.array([[[1, 0], [-1, 0]], [[1, 0], [0, 1]]], np.float32)
    np.testing.assert_allclose(average(opposite), [[1, 0], [2**-0.5, 2**-0.5]], atol=1e-6)
