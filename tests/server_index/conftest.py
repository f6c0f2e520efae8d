"""A bundle, and an index whose items have pictures, good and bad, for what serves them."""

import os
from pathlib import Path

import numpy as np
import pytest
from chromium import skip_without_runtime
from index_folders import ENCODER, name_picture
from PIL import Image

from encoder.checkpoint import Checkpoint
from export.bundle import export_bundle
from export.variants import plan_variants
from server_index.writer import IndexWriter, create_index


@pytest.fixture(scope="session")
def query(student: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without_runtime()
    output = tmp_path_factory.mktemp("page-files") / "query"
    export_bundle(plan_variants({"student": student}, kinds=("photo",)), output)
    return output


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    wide = np.full((300, 900, 3), (200, 40, 40), np.uint8)
    wide[:, 450:] = (40, 40, 200)
    Image.fromarray(wide).save(folder / "wide.png")
    (folder / "words.jpg").write_text("no picture")
    os.mkfifo(folder / "pipe.jpg")
    return folder


@pytest.fixture(scope="session")
def index_of_pictures(
    student: Checkpoint, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("page-files") / "index"
    create_index(folder, student.space)
    paths = {
        "a/wide é": f"{pictures}/wide.png",
        "half": f"{pictures}/wide.png#xywh=450,0,450,300",
        "words": f"{pictures}/words.jpg",
        "pipe": f"{pictures}/pipe.jpg",
        "folder": f"{pictures}",
        "gone": f"{pictures}/gone.jpg",
        "nowhere": "",
    }
    vectors = np.eye(student.space.dim, dtype=np.float32)[: len(paths)]
    with IndexWriter(folder) as writer:
        writer.add(vectors, [name_picture(*each) for each in paths.items()], ENCODER)
    return folder
