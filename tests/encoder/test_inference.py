"""Tests of running a network: how it shares the cores."""

import contextlib
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.checkpoint import Checkpoint
from encoder.embed import Vectors, embed_all
from encoder.image_cache import open_images
from encoder.inference import prepare_inference
from encoder.memory import wait_quietly
from encoder.preprocess import Pixels
from encoder.view_cutter import ViewCutter


def test_threads_that_embed_use_one_core_and_the_caller_keeps_its_own(
    teacher: Checkpoint, drawn: Path
) -> None:
    files = sorted(drawn.rglob("*.jpg"))[:12]
    inference = prepare_inference(teacher)
    assert inference.embedder.use_one_core is not None
    seen: list[int] = []

    def embed(images: Pixels) -> Vectors:
        vectors = inference.embed_images(images)
        seen.append(torch.get_num_threads())
        return vectors

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        embedder = dataclasses.replace(inference.embedder, embed=embed)
        embedded = embed_all(files, teacher.preprocess, embedder, batch_size=3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(seen) >= 4 and set(seen) == {1}
    alone = embed_all(files, teacher.preprocess, dataclasses.replace(embedder, use_one_core=None))
    np.testing.assert_allclose(embedded.vectors, alone.vectors, atol=1e-5)


def test_each_core_looks_at_a_part_of_the_views(teacher: Checkpoint) -> None:
    guide = prepare_inference(teacher)
    pixels = torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8)
    images = open_images([], side=64)
    with contextlib.closing(ViewCutter(images, teacher.preprocess)) as cutter:
        for count in (1, 5):
            found = cutter.look(guide, pixels[:count])
            expected = guide.extract_features(pixels[:count])
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_the_user_may_say_how_idle_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    wait_quietly()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_quietly()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
