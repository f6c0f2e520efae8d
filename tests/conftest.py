"""Fixtures shared by all rooms: a drawn data set and small checkpoints, made once a run."""

import dataclasses
from pathlib import Path

import pytest

from encoder.memory import set_library_defaults

set_library_defaults()

import torch

from encoder.checkpoint import Checkpoint, digest_model, save_checkpoint
from encoder.datasets.procedural import ProceduralSpec, write_images
from encoder.model import Architecture, EmbeddingModel
from encoder.preprocess import Preprocess
from encoder.space import mint_space
from encoder.teacher import start_model

SPEC = ProceduralSpec(classes=8, images_per_class=4, size=64)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "images"
    write_images(SPEC, folder)
    return folder


@pytest.fixture(scope="session")
def teacher() -> Checkpoint:
    """A teacher at 64 px with ImageNet weights and a seeded projection."""
    torch.manual_seed(0)
    architecture = Architecture(dim=32)
    model = start_model(architecture, "").eval()
    space = mint_space("teacher", 32, digest_model(model))
    return Checkpoint(model, architecture, Preprocess(64), space, "teacher")


@pytest.fixture(scope="session")
def student(teacher: Checkpoint) -> Checkpoint:
    """A student at 32 px in the teacher's space."""
    torch.manual_seed(1)
    model: EmbeddingModel = start_model(teacher.architecture, "").eval()
    small = teacher.preprocess.resized(32)
    return dataclasses.replace(teacher, model=model, preprocess=small, kind="student")


@pytest.fixture(scope="session")
def saved(
    teacher: Checkpoint, student: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with the checkpoints `teacher` and `student`."""
    folder = tmp_path_factory.mktemp("saved")
    for checkpoint in (teacher, student):
        (folder / checkpoint.kind).mkdir()
        save_checkpoint(checkpoint, folder / checkpoint.kind)
    return folder


@pytest.fixture(autouse=True)
def private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the user's cache out of the tests."""
    monkeypatch.setenv("POCKETLENS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
