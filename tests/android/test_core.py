"""The core beside the encoder: pictures, choice, search and records, as Python has them."""

import json
from pathlib import Path

import numpy as np
import pytest
from host import Host
from index_folders import ENCODER, name_picture
from PIL import Image
from running_service import run_service

from encoder.checkpoint import Checkpoint
from encoder.images import _TURNS, _choose_scale
from encoder.preprocess import Preprocess
from export.contract import make_probe
from export.latency_record import read_runs
from server_index.items import Item
from server_index.service import ServiceSettings
from server_index.writer import IndexWriter, create_index


def read(shown: str) -> np.ndarray:
    width, height, *values = map(int, shown.split())
    return np.array(values).reshape(height, width, 3)


def test_json(core: Host, tmp_path: Path) -> None:
    value = {"a": [1.5, -2e-7, True, False, None, {}, []], 'quo"te\\\n\t': "é \u2028 😀", "": "/"}
    file = tmp_path / "value.json"
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        file.write_text(text)
        assert json.loads(core.run("json", str(file))) == value
    for text in ("", "{", '{"a" 1}', "[1,]", "nul", '"\\x"', "1 2", "[" * 100 + "]" * 100, "--1"):
        file.write_text(text)
        assert core.run("json", str(file)).startswith("refused: the JSON "), text


def test_the_scale_of_decoding_is_pythons(core: Host) -> None:
    random = np.random.default_rng(0)
    asked = [
        (int(random.integers(16, 6000)), int(random.integers(16, 6000)), size, crop)
        for size in (32, 56, 112, 224)
        for crop in (1.0, 0.875)
        for _ in range(40)
    ]
    asked += [(4000, 3000, 112, 1.0), (4032, 3024, 56, 1.0), (1999, 1333, 32, 1.0)]
    found = core.run("scales", *(str(value) for each in asked for value in each)).split()
    expected = [
        _choose_scale((width, height), Preprocess(size, crop=crop), None)
        for width, height, size, crop in asked
    ]
    assert list(map(int, found)) == expected and {1, 2, 4, 8} == set(expected)


def test_pictures(core: Host, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    file = tmp_path / "picture.ppm"
    Image.fromarray(pixels).save(file)
    for orientation, turn in _TURNS.items():
        expected = np.asarray(Image.fromarray(pixels).transpose(turn))
        assert np.array_equal(read(core.run("upright", str(file), str(orientation))), expected)
    assert np.array_equal(read(core.run("upright", str(file), "9")), pixels)
    halved = read(core.run("reduce", str(file), "2"))
    assert halved.shape == (3, 3, 3)
    assert np.abs(halved[0, 0] - pixels[:2, :2].mean(axis=(0, 1))).max() <= 0.5
    # At the edge the mean of what there is.
    assert np.abs(halved[2, 2] - pixels[4:, 4:].mean(axis=(0, 1))).max() <= 0.5
    assert np.array_equal(read(core.run("preview", str(file), "3")), pixels[::2, ::2][:, :2])
    for side, scale in ((1201, 8), (1203, 8), (1204, 8), (1206, 8), (7, 2), (1, 8)):
        assert int(core.run("kept", str(side), str(scale))) == max(1, round(side / scale))
    # Transparent, half transparent and opaque, on white.
    assert read(core.run("white")).tolist() == [[[255] * 3, [255, 127, 127], [1, 2, 3]]]
    assert np.array_equal(read(core.run("probe")), make_probe())


def test_the_best_encoder_within_the_budget(core: Host, tmp_path: Path) -> None:
    """The same cases as of the browser's rule."""

    def entry(size: int, precision: str, bytes_: int, cosine: float, **rest: object) -> object:
        return {
            "file": "f", "encoder": f"{precision}@{size}", "input": "photo", "form": "float",
            "dim": 8, "size": size, "precision": precision, "bytes": bytes_,
            "alignment": {"mean_cosine": cosine}, **rest,
        }  # fmt: skip

    card = {
        "space": {"id": "s", "dim": 8},
        "encoders": [
            entry(56, "int8", 4, 0.7), entry(56, "fp32", 14, 0.7), entry(112, "fp32", 14, 0.9),
            entry(112, "int8", 5, 0.9), entry(224, "fp32", 14, 1, input="pixels"),
            entry(224, "int8", 3, 1, form="int8"), entry(225, "fp32", 3, 1, dim=4),
        ],
    }  # fmt: skip
    file = tmp_path / "card.json"
    file.write_text(json.dumps(card))

    def choose(budget: float, **measured: float) -> list[str]:
        known = [
            part
            for name, ms in measured.items()
            for part in (name.replace("_", "@"), "NaN" if ms != ms else str(ms))
        ]
        return core.run("choose", str(file), str(budget), *known).split()

    nan = float("nan")
    assert choose(50) == ["none", "int8@56"]
    assert choose(50, int8_56=nan) == ["none", "int8@112"]
    assert choose(50, int8_56=10) == ["int8@56", "fp32@112"]
    assert choose(30, int8_56=10) == ["int8@56", "fp32@56"]
    both = {"int8_56": 10.0, "fp32_56": 11.0, "fp32_112": 60.0, "int8_112": 55.0}
    assert choose(50, **both) == ["fp32@56", "none"]
    assert choose(61, int8_56=10, fp32_112=60) == ["fp32@112", "none"]
    assert choose(50, int8_56=10, fp32_112=nan) == ["int8@56", "int8@112"]
    assert choose(1, int8_56=10, fp32_112=60) == ["int8@56", "none"]
    file.write_text(json.dumps({**card, "encoders": []}))
    assert "holds no encoder" in core.run("choose", str(file), "50")
    file.write_text('{"space": 1}')
    assert "card is damaged" in core.run("choose", str(file), "50")


def test_it_goes_on_to_the_encoder_that_works(core: Host, query: Path) -> None:
    """The smallest first; where this processor computes int8 wrongly, it is left out."""
    before, now, same, known = core.run("improve", str(query), "100000").splitlines()
    assert now == "s32.fp32.photo.onnx" and before.startswith("s32.")
    measured = json.loads(known)
    card = json.loads((query / "card.json").read_text())
    assert set(measured) == {each["encoder"] for each in card["encoders"]}
    assert (before == now) == (None in measured.values()) == (same == "true")


def test_search_against_a_real_service(
    core: Host, query: Path, student: Checkpoint, tmp_path: Path
) -> None:
    from chromium import skip_without_runtime

    skip_without_runtime()
    folder, dim = tmp_path / "index", student.space.dim
    create_index(folder, student.space)
    picture = tmp_path / "red.png"
    Image.new("RGB", (300, 200), "red").save(picture)
    items = [name_picture("first é", str(picture), price=3, new=True), Item("second", "")]
    with IndexWriter(folder) as writer:
        writer.add(np.eye(dim, dtype=np.float32)[:2], items, ENCODER)
    with run_service(ServiceSettings(folder, bundle=query, log=False)) as address:
        told = core.run("search", f"{address}/", student.space.id, str(dim), "2").splitlines()
        assert told[0].startswith("first é 1.0 ") and told[1] == "true"
        assert json.loads(told[0].partition(" 1.0 ")[2]) == {"price": 3, "new": True}
        assert told[2].startswith("second 0.0 ") and told[3] == "none"
        body = json.dumps({"vector": "x" * 172, "space": student.space.id, "k": 2})
        assert int(told[4]) == len(body)
        refused = core.run("search", address, "0" * 16, str(dim), "2")
        assert "does not understand this app's encoder" in refused and student.space.id in refused
        assert "refuses (422)" in core.run("search", address, student.space.id, "3", "2")
    assert "does not answer" in core.run("search", address, student.space.id, str(dim), "2")
    for wrong in ("", "localhost:8000", "ftp://a.b"):
        assert "not an address" in core.run("search", wrong, student.space.id, str(dim), "2")


def test_its_records_are_read_with_pythons(core: Host, query: Path, tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    file.write_text(core.run("record", str(query)))
    (run,) = read_runs(file)
    assert (run.platform, run.device, run.rounds, run.threads) == ("android", 'a "phone"', 100, 4)
    assert run.ms["total"]["p50"] == pytest.approx(np.quantile(3 * np.arange(1, 101), 0.5))
    assert run.ms["network"]["p95"] == pytest.approx(np.quantile(2 * np.arange(1, 101), 0.95))
    assert run.cold_ms == {"load": 12.5} and run.runtime.startswith("onnxruntime ")
