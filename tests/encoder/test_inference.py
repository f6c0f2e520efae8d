"""Tests of running a network: how it shares the cores."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.checkpoint import Checkpoint
from encoder.embed import Vectors, embed_all
from encoder.inference import prepare_inference
from encoder.memory import set_library_defaults
from encoder.preprocess import Pixels


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


def test_the_user_may_say_how_idle_threads_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    set_library_defaults()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE" and "MKL_CBWR" in os.environ
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    set_library_defaults()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
