"""The app's encoder gives the vectors of Python's: in a JVM, and as arm64."""

from pathlib import Path

import numpy as np
import pytest
from host import Host, HostError
from PIL import Image

from encoder.images import decode_image
from export.card import Card
from export.runtime import QueryEncoder, WrongProductsError

FP32, INT8 = "s32.fp32.photo.onnx", "s32.int8.photo.onnx"


def golden(bundle: Path, encoder: str) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Return golden pictures as decoded for an encoder, its vectors, and the least cosine."""
    card = Card.read(bundle)
    target = QueryEncoder(bundle / encoder, exact=True).contract.preprocess
    files = [bundle / each["file"] for each in card.value["golden"]["pictures"]]
    told = next(each for each in card.value["golden"]["vectors"] if each["of"] == encoder)
    pixels = [decode_image(file, target=target) for file in files]
    return pixels, np.load(bundle / told["file"]), told["min_cosine"]


def test_float_in_a_jvm(jvm: Host, query: Path) -> None:
    pixels, expected, _ = golden(query, FP32)
    found = jvm.encode(query / FP32, pixels)
    assert found.shape == expected.shape == (15, 32)
    assert (found * expected).sum(axis=1).min() >= 0.9999


def test_int8_in_a_jvm_is_right_or_refused(jvm: Host, query: Path) -> None:
    """As in Python on this machine: 8-bit products saturate on some x86 processors."""
    pixels, expected, least = golden(query, INT8)
    try:
        QueryEncoder(query / INT8)
    except WrongProductsError:
        with pytest.raises(HostError, match="computes its 8-bit products wrongly"):
            jvm.encode(query / INT8, pixels[:1])
        return
    assert (jvm.encode(query / INT8, pixels) * expected).sum(axis=1).min() >= least


def test_as_arm64(arm64: Host, query: Path) -> None:
    for encoder in (FP32, INT8):
        pixels, expected, least = golden(query, encoder)
        least = 0.9999 if encoder == FP32 else least
        found = arm64.encode(query / encoder, pixels)
        assert (found * expected).sum(axis=1).min() >= least, encoder


def test_what_other_decoders_do_stays_within_the_tolerance(query: Path) -> None:
    """What a phone may do otherwise: round, or spread colour out, in its own way."""
    card = Card.read(query)
    encoder = QueryEncoder(query / FP32)
    told = next(each for each in card.value["golden"]["vectors"] if each["of"] == FP32)
    random = np.random.default_rng(0)
    files = [query / each["file"] for each in card.value["golden"]["pictures"]]
    jpegs = [file for file in files if file.suffix == ".jpg"]
    assert len(jpegs) == 4
    for file in jpegs:
        expected = np.load(query / told["file"])[files.index(file)]
        whole = decode_image(file)
        noise = random.integers(-1, 2, whole.shape)
        rounded = np.clip(whole.astype(int) + noise, 0, 255).astype(np.uint8)
        assert float(encoder.encode(whole) @ expected) >= told["min_cosine"], file
        assert float(encoder.encode(rounded) @ expected) >= told["min_cosine"], file
        # The worst that a decoder may do in haste.
        assert float(encoder.encode(coarsen_colour(whole)) @ expected) >= 0.99, file


def coarsen_colour(pixels: np.ndarray) -> np.ndarray:
    """Return a picture whose colour has half the resolution, repeated instead of interpolated."""
    luma, *colours = Image.fromarray(pixels).convert("YCbCr").split()
    half = (-(-luma.width // 2), -(-luma.height // 2))
    coarse = [
        each.resize(half, Image.Resampling.BOX).resize(luma.size, Image.Resampling.NEAREST)
        for each in colours
    ]
    return np.asarray(Image.merge("YCbCr", [luma, *coarse]).convert("RGB"))
