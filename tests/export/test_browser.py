"""The browser's runtime in a real Chromium: golden vectors, times, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from chromium import find_program, skip_without_runtime
from program import refuse, succeed

import export.browser
import export.web_runtime
from encoder.checkpoint import Checkpoint
from encoder.errors import PocketlensError
from export.browser import encode_in_browser
from export.bundle import export_bundle
from export.card import Card
from export.latency_record import read_runs
from export.variants import plan_variants


@pytest.fixture(scope="module")
def bundle(student: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_runtime()
    find_program()
    output = tmp_path_factory.mktemp("browser") / "query"
    variants = plan_variants({"student": student}, precisions=("fp32", "fp16"), kinds=("photo",))
    export_bundle(variants, output)
    return output


def test_the_golden_vectors_are_reproduced(bundle: Path) -> None:
    card = Card.read(bundle)
    pictures = [bundle / each["file"] for each in card.value["golden"]["pictures"]]
    expected = card.value["golden"]["vectors"]
    assert len(expected) == 2 and len(pictures) == 15
    found = encode_in_browser([bundle / each["of"] for each in expected], pictures)
    for each, vectors in zip(expected, found, strict=True):
        cosine = (vectors * np.load(bundle / each["file"])).sum(axis=1)
        assert cosine.min() >= each["min_cosine"], dict(zip(pictures, cosine, strict=True))
        # Only JPEGs are decoded otherwise, and only large pictures reduced.
        exact = [file.suffix == ".png" and not file.stem.startswith("1999") for file in pictures]
        assert cosine[exact].min() > 0.9999
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_bench_writes_the_record_that_python_writes(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "latency.json"
    picture = bundle / "golden" / "turned.jpg"
    encoder = bundle / "s32.fp32.photo.onnx"
    told = succeed(
        capsys, "bench", encoder, "--browser", "--image", picture, "--rounds", 3,
        "--threads", 1, "--threads", 2, "--json", file,
    )  # fmt: skip
    assert "browser: s32.fp32.photo.onnx, wasm, 1 thread" in told
    one, two = read_runs(file)
    assert (one.platform, one.threads, two.threads, one.rounds) == ("browser", 1, 2, 3)
    assert set(one.ms) == {"decode", "network", "total"}
    assert set(one.cold_ms) == {"import", "load", "first"}
    assert one.ms["total"]["p50"] > 0 and one.runtime.startswith("onnxruntime-web ")
    assert one.encoder == Card.read(bundle).encoders[0]["encoder"]
    assert "--index" in refuse(capsys, "bench", encoder, "--browser", "--index", tmp_path)


def test_what_the_browser_cannot_open_is_told(bundle: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(
        (bundle / "s32.fp32.photo.onnx").read_bytes().replace(b"pocketlens", b"x" * 10)
    )
    picture = bundle / "golden" / "turned.jpg"
    with pytest.raises(PocketlensError, match="not an encoder exported by pocketlens"):
        encode_in_browser([foreign], [picture])
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(PocketlensError, match="not a picture that the browser can read"):
        encode_in_browser([bundle / "s32.fp32.photo.onnx"], [broken])


def test_what_is_missing_is_named(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(export.browser, "_PROGRAMS", ("no-such-browser",))
    assert "no-such-browser" in refuse(capsys, "bench", bundle, "--browser")
    monkeypatch.setattr(export.web_runtime, "FOLDER", tmp_path)
    with pytest.raises(PocketlensError, match="make web"):
        export.web_runtime.list_runtime_files()


def test_the_lock_file_names_no_host() -> None:
    lock = json.loads((export.web_runtime.FOLDER / "package-lock.json").read_text())
    wanted = json.loads((export.web_runtime.FOLDER / "package.json").read_text())["dependencies"]
    packages = lock["packages"]
    assert packages["node_modules/onnxruntime-web"]["version"] == wanted["onnxruntime-web"]
    fetched = [each for name, each in packages.items() if name]
    assert all("integrity" in each and "resolved" not in each for each in fetched)
